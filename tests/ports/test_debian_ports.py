# SPDX-License-Identifier: MIT
"""mini_httpd and jhead from Debian's source packages, and the same with their files from the broker: the same behaviour."""

import hashlib
import os
import stat
import subprocess
import unittest

import debian_programs
from debian_source import Unavailable
from port_support import ServerAtPort, WithOpener, is_confined


class OfDebian(WithOpener):
    def build(self, make):
        try:
            return make()
        except Unavailable as error:
            self.skipTest(str(error))


class MiniHttpd(OfDebian):
    FILES = {
        "site/index.html": "<p>index", "site/page.html": "<p>page", "site/large.bin": "0123456789" * 100000, "site/empty": "",
        "site/sub/a b.txt": "ä", "site/sub/page.tar.gz": "x", "site/sub/protected.html": "x", "site/private/.htpasswd":
        "joe:$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1\n", "site/private/page.html": "<p>private", "site/protected/page.html": "<p>x",
    }

    def setUp(self):
        super().setUp()
        self.programs = self.build(debian_programs.mini_httpd)
        self.make(self.FILES)
        for name in ("sub/protected.html", "protected"):
            (self.data / "site" / name).chmod(0)
        self.original, self.ported = (self.serve(self.programs[kind]) for kind in ("original", "ported"))

    def serve(self, program):
        # Without a log: mini_httpd would give its log to the user, /dev/null included.
        server = ServerAtPort(self.environment, program, "-D", "-h", "127.0.0.1", "-p", "PORT", "-u", "nobody", "-d",
                              self.data / "site")
        self.addCleanup(server.close)
        return server

    def check_same(self, *question, **more):
        with self.subTest(question=question, **more):
            told = self.ported.get(*question, **more)
            self.assertEqual(told, self.original.get(*question, **more))
            return told

    def test_status_codes_headers_listings_and_content_are_the_same(self):
        statuses = set()
        for path in ("/", "/page.html", "/large.bin", "/empty", "/sub", "/sub/", "/sub/a%20b.txt", "/sub/page.tar.gz",
                     "/sub/protected.html", "/protected", "/protected/", "/private/page.html", "/private/",
                     "/private/.htpasswd", "/absent", "/absent/", "/page.html/", "/page.html/more", "/../../../etc/passwd",
                     "/%2e%2e/%2e%2e/etc/passwd", "/sub/../page.html", "/sub/..", "/page.html?query", "//page.html", "/./page.html",
                     "/" + "n" * 300, "/sub//a%20b.txt"):
            for method in ("GET", "HEAD", "POST", "PUT"):
                statuses.add(self.check_same(path, method)[0])
        self.assertEqual(statuses, {200, 302, 400, 401, 403, 404, 501})
        self.assertTrue(is_confined(self.ported.process))
        self.assertFalse(is_confined(self.original.process))

    def test_conditions_and_passwords_are_judged_the_same(self):
        modified = dict(self.original.get("/page.html")[2])["Last-Modified"]
        self.assertEqual(self.check_same("/page.html", headers={"If-Modified-Since": modified})[0], 304)
        self.assertEqual(self.check_same("/page.html", headers={"If-Modified-Since": "Thu, 01 Jan 1970 00:00:01 GMT"})[0], 200)
        for credentials, status in (("am9lOnNlY3JldA==", 200), ("am9lOndyb25n", 401), ("am9l", 401)):  # joe:secret, joe:wrong
            told = self.check_same("/private/page.html", headers={"Authorization": "Basic " + credentials})
            self.assertEqual(told[0], status)

    def test_files_that_come_and_go_do_so_for_both(self):
        page = self.data / "site/new.html"
        self.assertEqual(self.check_same("/new.html")[0], 404)
        page.write_text("new")
        self.assertEqual(self.check_same("/new.html")[0], 200)
        page.unlink()
        self.assertEqual(self.check_same("/new.html")[0], 404)


MADE = 1_704_000_000  # the photographs' Exif is of that month


def segment(marker, content):
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def photograph(number):
    """A JPEG with Exif as small as jhead reads it: maker, model and time."""
    texts = {0x010F: b"Maker\0", 0x0110: b"Model %d\0" % number, 0x0132: b"2024:01:%02d 10:%02d:00\0" % (number % 28 + 1, number % 60)}
    entries, values = b"", b""
    start = 8 + 2 + 12 * len(texts) + 4
    for tag, text in texts.items():
        entries += tag.to_bytes(2, "little") + b"\2\0" + len(text).to_bytes(4, "little")
        entries += (start + len(values)).to_bytes(4, "little")
        values += text
    exif = b"Exif\0\0II*\0\x08\0\0\0" + len(texts).to_bytes(2, "little") + entries + b"\0" * 4 + values
    frame = bytes([8, 0, 64, 0, 64, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    scan = bytes([3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0])
    return (b"\xFF\xD8" + segment(0xE1, exif) + segment(0xDB, bytes(65)) + segment(0xFE, b"comment %d" % number) +
            segment(0xC0, frame) + segment(0xDA, scan) + bytes(range(200)) * 200 + b"\xFF\xD9")


def make_photographs(directory, count):
    directory.mkdir()
    for number in range(count):
        (directory / f"p{number:03}.jpg").write_bytes(photograph(number))
        os.utime(directory / f"p{number:03}.jpg", (MADE + number, MADE + number))


def state_of(path):
    """A file's state as far as both runs leave the same; a time that was not set is "now"."""
    status = path.stat()
    changed = status.st_mtime if status.st_mtime < MADE + 100_000 else "now"
    return stat.filemode(status.st_mode), changed, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


class Jhead(OfDebian):
    def setUp(self):
        super().setUp()
        self.programs = self.build(debian_programs.jhead)
        for kind in ("original", "ported"):
            make_photographs(self.data / kind, 300)
            self.make({f"{kind}/text.jpg": "no JPEG", f"{kind}/empty.jpg": "", f"{kind}/folder.jpg/": "",
                       f"{kind}/protected.jpg": photograph(1)})

    def run_both(self, *arguments):
        told, files = [], []
        for kind in ("original", "ported"):
            done = subprocess.run([self.programs[kind], *arguments], cwd=self.data / kind, env=self.environment,
                                  stdin=subprocess.DEVNULL, capture_output=True)
            told.append((done.returncode, done.stdout, done.stderr))
            files.append({path.name: state_of(path) for path in (self.data / kind).iterdir()})
        self.assertEqual(told[1], told[0])
        self.assertEqual(set(files[1].items()) - set(files[0].items()), set())
        self.assertEqual(set(files[1]), set(files[0]))
        return told[1]

    def test_what_it_tells_of_300_files_is_the_same(self):
        names = sorted(path.name for path in (self.data / "original").glob("p???.jpg"))
        status, out, _ = self.run_both(*names)
        self.assertEqual(status, 0)
        self.assertEqual(out.count(b"Camera model : Model"), 300)
        self.run_both("-c", *names)
        self.run_both("-v", "p001.jpg", "./p002.jpg", str(self.data / "original/p003.jpg"))

    def test_what_is_no_photograph_or_not_there_fails_the_same(self):
        # No directory: the kernel opens one for reading, and the broker delivers none.
        for name in ("text.jpg", "empty.jpg", "absent.jpg", "absent/p.jpg", "p001.jpg/x", ""):
            with self.subTest(name):
                self.run_both("p001.jpg", name)

    def test_what_it_changes_is_changed_the_same(self):
        self.run_both("-ft", "p001.jpg", "p002.jpg")
        self.run_both("-de", "p003.jpg")
        self.run_both("-dc", "-dt", "p004.jpg")
        self.run_both("-ta+1:00", "p005.jpg")
        self.run_both("-purejpg", "p006.jpg", "p007.jpg")
        self.run_both("-nrenamed-%d", "p008.jpg")
        self.run_both("-te", "p009.jpg", "p003.jpg")
        self.run_both("-cl", "another comment", "p010.jpg")

    def test_what_the_policy_refuses_cannot_be_read(self):
        done = subprocess.run([self.programs["ported"], "protected.jpg"], cwd=self.data / "ported", env=self.environment,
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
