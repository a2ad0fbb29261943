# SPDX-License-Identifier: MIT
"""Paths as open(2) reads them, and what os, os.path and glob have beside open(): the same as theirs, by a real opener."""

import asyncio
import errno
import gc
import glob
import os
import stat
import subprocess
import sys
import unittest

import fdbroker
from support import RealOpener, open_descriptors

RULES = """
  - {name: all, allow: [read, append, stat, list, readlink, modify, mkdir, remove, rename, symlink, setattr, xattr],
     paths: ["DIR/**"], rename: {directories: true}}
  - {name: secret, deny: all, paths: ["DIR/**/*.key"]}
"""

WAYS = ["f", "./f", "e/../f", ".//f", "f/", "f/.", "e", "e/", "e/.", "e/..", ".", "..", "absent", "absent/", "f/x", "e/g",
        "n" * 255, "n" * 256, ""]


def outcome(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return error.errno


@unittest.skipUnless(os.getuid() == 0, "needs root for a real opener")
class WithRealOpener(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.opener = RealOpener(RULES)
        cls.data = str(cls.opener.data)
        for name in ("f", "e/g", "e/h.txt", "e/i/j.txt", "e/.hidden/k.txt", "e/l.key"):
            path = cls.opener.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            path.chmod(0o644)
        (cls.opener.data / "link").symlink_to("e")

    @classmethod
    def tearDownClass(cls):
        cls.opener.close()

    def setUp(self):
        self.before = open_descriptors()
        self.broker = fdbroker.Broker(self.opener.address, timeout=60)

    def tearDown(self):
        self.broker.close()
        gc.collect()
        self.assertEqual(open_descriptors(), self.before)

    def test_paths_are_read_as_the_kernel_reads_them(self):
        self.broker.set_directory(self.data)
        for way in WAYS:
            if way == "..":  # which the policy says nothing of
                continue
            whole = os.path.join(self.data, way) if way else ""
            with self.subTest(way=way):
                told = outcome(self.broker.stat, way)
                self.assertEqual(told, outcome(os.stat, whole))
                if way:
                    self.assertEqual(outcome(self.broker.stat, whole), told)

    def test_endings_name_directories(self):
        self.broker.set_directory(self.data)
        for expected, call, arguments in [
            (errno.ENOTDIR, self.broker.unlink, ("f/",)), (errno.EINVAL, self.broker.readlink, ("e/",)),
            (errno.EISDIR, self.broker.open, ("new/", "w")), (errno.ENOENT, self.broker.symlink, ("f", "new/")),
        ]:
            self.assertEqual(outcome(call, *arguments), expected)
        self.broker.mkdir("e/i/made/")
        self.broker.rename("e/i/made/", "e/./i/renamed/")
        self.broker.rmdir("e/i/renamed/")

    def test_relative_paths_need_a_directory(self):
        with self.assertRaises(FileNotFoundError) as caught:
            self.broker.open("f")
        self.assertEqual(caught.exception.step, "client")
        self.broker.set_directory(self.data)
        self.broker.set_directory("e")
        with self.broker.open("g") as file:
            self.assertEqual(file.read(), "e/g")
        self.broker.replace(self.broker.path("h.txt"), "../moved")
        self.broker.replace("../moved", "h.txt")
        self.broker.set_directory(None)
        self.assertEqual(outcome(self.broker.open, "g"), errno.ENOENT)
        self.assertEqual(fdbroker.normalize("/a/b", "../c//./d/"), "/a/c/d")
        with self.assertRaises(FileNotFoundError):
            fdbroker.normalize(None, "a")

    def test_a_status_is_that_of_os(self):
        for name in ("f", "e", "link"):
            path = os.path.join(self.data, name)
            told = self.broker.lstat(path)
            self.assertIsInstance(told, os.stat_result)
            expected = os.lstat(path)
            self.assertEqual(told, expected)
            for field in ("st_mtime_ns", "st_ctime_ns", "st_atime_ns", "st_mtime", "st_blksize", "st_blocks", "st_rdev"):
                self.assertEqual(getattr(told, field), getattr(expected, field), field)

    def test_entries_come_with_their_status(self):
        entries = {entry.name: entry for entry in self.broker.scandir(os.path.join(self.data, "e"), status=True)}
        self.assertEqual(set(entries), set(os.listdir(os.path.join(self.data, "e"))))
        for name, entry in entries.items():
            path = os.path.join(self.data, "e", name)
            self.assertEqual(entry.status, None if name == "l.key" else os.lstat(path))
        (link,) = [entry for entry in self.broker.scandir(self.data, status=True) if entry.name == "link"]
        self.assertEqual(link.status, os.lstat(os.path.join(self.data, "link")))
        self.assertIsNone(next(self.broker.scandir(self.data)).status)

    def test_access_is_what_open_would_do(self):
        path = os.path.join(self.data, "f")
        self.assertTrue(self.broker.access(path, os.F_OK))
        self.assertTrue(self.broker.access(path, os.R_OK | os.W_OK))
        self.assertFalse(self.broker.access(path, os.X_OK))
        self.assertTrue(self.broker.access(self.data, os.R_OK | os.X_OK))
        self.assertFalse(self.broker.access(self.data, os.W_OK))
        self.assertFalse(self.broker.access(os.path.join(self.data, "e/l.key"), os.R_OK))
        self.assertFalse(self.broker.access("/etc/shadow", os.F_OK))
        self.assertFalse(self.broker.access(path + "/", os.F_OK))
        with self.assertRaises(OSError):
            self.broker.access(path, 8)
        self.assertEqual((self.opener.data / "f").read_text(), "f")

    def test_real_paths_have_no_links(self):
        for name in ("f", "link", "link/g", "e/../link/.", "."):
            path = os.path.join(self.data, name)
            self.assertEqual(outcome(self.broker.realpath, path), os.path.realpath(path), name)
        self.assertEqual(outcome(self.broker.realpath, os.path.join(self.data, "x")), errno.ENOENT)
        self.assertEqual(outcome(self.broker.realpath, os.path.join(self.data, "f/")), errno.ENOTDIR)
        self.assertEqual(str((self.broker.path(self.data) / "link" / "g").resolve()), os.path.join(self.data, "e/g"))

    def test_walk_is_that_of_os(self):
        def told(walk, *arguments, **options):
            return [(top, sorted(names), sorted(files)) for top, names, files in walk(*arguments, **options)]

        for options in ({}, {"topdown": False}):
            ours = told(self.broker.walk, self.data, **options)
            theirs = told(os.walk, self.data, **options)
            # Whether a link leads to a directory the policy tells only where it follows links.
            for _, names, files in theirs:
                if "link" in names:
                    names.remove("link")
                    files.append("link")
                    files.sort()
            self.assertEqual(sorted(ours), sorted(theirs))
        seen = []
        for top, names, _ in self.broker.walk(self.data):
            seen.append(top)
            names[:] = [name for name in names if name != "e"]
        self.assertEqual(seen, [self.data])
        errors = []
        self.assertEqual(list(self.broker.walk("/etc", onerror=errors.append)), [])
        self.assertIsInstance(errors[0], PermissionError)
        paths = [path for path, _, _ in self.broker.path(self.data).walk()]
        self.assertIn(self.broker.path(self.data) / "e" / "i", paths)

    def test_glob_is_that_of_the_module(self):
        for pattern in ("*", "e/*", "e/*.txt", "*/*.txt", "**/*.txt", "e/**", "**", "f", "absent", "e/[gh]*", "e/.*", "*/",
                        "e/?", "f/*"):
            whole = os.path.join(self.data, pattern)
            for recursive in (False, True):
                with self.subTest(pattern=pattern, recursive=recursive):
                    expected = {path for path in glob.glob(whole, recursive=recursive)
                                if "link/" not in path}  # which the policy does not follow
                    ours = {path for path in self.broker.glob(whole, recursive=recursive)}
                    self.assertEqual(ours, expected)
        self.broker.set_directory(self.data)
        self.assertEqual(sorted(self.broker.glob("e/*.txt")), ["e/h.txt"])
        self.assertEqual([path.name for path in self.broker.path(self.data).rglob("j.txt")], ["j.txt"])

    def test_asyncio_has_the_same(self):
        async def main():
            async with fdbroker.AsyncBroker(self.opener.address) as broker:
                broker.set_directory(self.data)
                self.assertTrue(await broker.access("f", os.R_OK))
                self.assertFalse(await broker.access("/etc/shadow", os.R_OK))
                self.assertEqual(await broker.realpath("link/g"), os.path.join(self.data, "e/g"))
                self.assertEqual((await broker.stat("./f")), os.stat(os.path.join(self.data, "f")))

        asyncio.run(main())

    @unittest.skipIf(os.environ.get("FDBROKER_SANITIZER", "none") != "none", "a sanitizer does not load into python3")
    def test_a_confined_process_without_a_connection_says_so(self):
        code = """
import fdbroker
fdbroker.confine(fdbroker.CONFINE_BEST_EFFORT)
try:
    fdbroker.open("/etc/passwd")
except PermissionError as error:
    assert "connect before confine()" in str(error), error
else:
    raise SystemExit("opened")
"""
        done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    @unittest.skipIf(os.environ.get("FDBROKER_SANITIZER", "none") != "none", "a sanitizer does not load into python3")
    def test_connections_and_named_descriptors_stay_when_all_others_are_closed(self):
        code = f"""
import os, socket, tempfile
import fdbroker
broker = fdbroker.Broker({self.opener.address!r})
kept, lost = os.pipe()
fdbroker.confine(fdbroker.CONFINE_BEST_EFFORT, allow=fdbroker.ALLOW_SOCKETPAIR, keep=[kept])
os.get_blocking(kept)
try:
    os.get_blocking(lost)
    raise SystemExit("open")
except OSError as error:
    assert error.errno == 9, error
socket.socketpair()
with broker.open({os.path.join(self.data, "f")!r}) as file:
    assert file.read() == "f"
"""
        done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    @unittest.skipIf(os.environ.get("FDBROKER_SANITIZER", "none") != "none", "a sanitizer does not load into python3")
    def test_a_prepared_process_has_codecs_and_tracebacks(self):
        program = self.opener.write("program.py", """
import fdbroker
fdbroker.prepare()
fdbroker.confine(fdbroker.CONFINE_BEST_EFFORT)
"ä".encode("idna")
def fails():
    raise KeyError("told")
fails()
""")
        done = subprocess.run([sys.executable, program], env=dict(os.environ), capture_output=True, text=True)
        self.assertIn('raise KeyError("told")', done.stderr)

    @unittest.skipIf(os.environ.get("FDBROKER_SANITIZER", "none") != "none", "a sanitizer does not load into python3")
    def test_modules_and_files_are_refused_afterwards_unless_the_program_has_them_or_a_connection(self):
        code = f"""
import os, sys
import fdbroker, json
broker = fdbroker.default_broker()
fdbroker.confine(fdbroker.CONFINE_BEST_EFFORT)
def refused(call):
    try:
        call()
    except PermissionError:
        return True
    return False
assert "wave" not in sys.modules
assert refused(lambda: __import__("wave"))
import json
path = {os.path.join(self.data, "f")!r}
assert refused(lambda: open(path))
assert refused(lambda: os.stat(path))
with fdbroker.open(path) as file:
    assert file.read() == "f"
"""
        done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ, FDBROKER_SOCKET=self.opener.address),
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


@unittest.skipUnless(os.getuid() == 0, "needs root for a real opener")
class Ancestors(unittest.TestCase):
    def test_directories_that_lead_to_paths_say_that_they_are_directories_and_nothing_else(self):
        opener = RealOpener("""
  - {name: all, allow: [read, stat], paths: ["DIR/d/*"], ancestors: stat}
""")
        self.addCleanup(opener.close)
        (opener.data / "d").mkdir()
        path = opener.write("d/f", "content")
        with fdbroker.Broker(opener.address, timeout=60) as broker:
            directory = str(opener.data / "d")
            while True:
                told = broker.lstat(directory)
                self.assertEqual(told, os.stat_result((stat.S_IFDIR, *(0,) * 9)), directory)
                if directory == "/":
                    break
                directory = os.path.dirname(directory)
            self.assertEqual(broker.realpath(path), path)
            self.assertEqual(broker.stat(path), os.stat(path))
            for refused in ("/etc", "/usr", str(opener.data / "other")):
                with self.assertRaises(PermissionError):
                    broker.stat(refused)
            with self.assertRaises(PermissionError):
                broker.listdir(str(opener.data / "d"))


if __name__ == "__main__":
    unittest.main()
