# SPDX-License-Identifier: MIT
"""SQLite, Python's http.server and a server in C++ with their files from the broker, against the same with open(2): the same
behaviour."""

import os
import shutil
import subprocess
import sys
import unittest

from port_support import HERE, Server, WithOpener, is_confined

SQLITE = os.environ.get("FDBROKER_PORT_SQLITE", "")
FILE_SERVER = os.environ.get("FDBROKER_FILE_SERVER", "")
FILES = {"page.html": "<p>page", "large.bin": "0123456789" * 100000, "sub/a b.txt": "ä", "site/index.html": "<p>index",
         "empty/.x": ""}
PATHS = ("/", "/page.html", "/large.bin", "/sub", "/sub/", "/sub/a%20b.txt", "/site/", "/site", "/absent", "/page.html/",
         "/../../etc/passwd", "/%2e%2e/etc/passwd", "/sub/../page.html", "/empty/", "/page.html?query", "/" + "n" * 300,
         "//page.html")


def run_sqlite(environment, kind, database, rows):
    done = subprocess.run([SQLITE, kind, str(database), str(rows)], env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


class Sqlite(WithOpener):
    def setUp(self):
        super().setUp()
        if not SQLITE:
            self.skipTest("libsqlite3-dev is not installed")

    def test_a_database_in_wal_mode_is_the_same_and_whole(self):
        originals, ported = self.data / "original.db", self.data / "ported.db"
        status, expected, errors = run_sqlite(self.environment, "original", originals, 2000)
        self.assertEqual(status, 0, errors)
        status, told, errors = run_sqlite(self.environment, "ported", ported, 2000)
        self.assertEqual((status, told), (0, expected), errors)
        self.assertIn("\nok\n", told)
        self.assertEqual(sorted(path.name for path in self.data.iterdir()), ["original.db", "ported.db"])
        # The original reads what the port has written.
        if shutil.which("sqlite3"):
            read = subprocess.run(["sqlite3", str(ported), "PRAGMA integrity_check; SELECT count(*) FROM t"],
                                  capture_output=True, text=True)
            self.assertEqual(read.stdout.split()[0], "ok")

    def test_what_the_policy_refuses_is_a_database_that_cannot_be_opened(self):
        status, _, errors = run_sqlite(self.environment, "ported", self.data / "x.key", 1)
        self.assertEqual(status, 1)
        self.assertIn("unable to open database file", errors)
        self.assertFalse((self.data / "x.key").exists())


class OfServers(WithOpener):
    """A server on the data; the same questions to the original and to the port."""

    def start(self, *command):
        server = Server(self.environment, *command)
        self.addCleanup(server.close)
        return server

    def check_same(self, original, ported):
        self.assertTrue(is_confined(ported.process))
        for path in PATHS:
            for method in ("GET", "HEAD"):
                with self.subTest(path=path, method=method):
                    self.assertEqual(ported.get(path, method), original.get(path, method))


class HttpServer(OfServers):
    def serve(self, kind):
        return self.start(sys.executable, HERE / "http_server.py", kind, self.data)

    def test_status_codes_headers_listings_and_content_are_the_same(self):
        self.make(FILES)
        self.check_same(self.serve("original"), self.serve("ported"))

    def test_what_the_policy_refuses_is_not_found_though_it_is_there(self):
        self.make({"x.key": "secret"})
        self.assertEqual(self.serve("ported").get("/x.key")[0], 404)


class FileServer(OfServers):
    def serve(self, kind):
        return self.start(FILE_SERVER, kind, self.data)

    def test_a_server_by_fdbroker_hpp_alone_answers_as_with_open(self):
        self.make(FILES)
        original, ported = self.serve("original"), self.serve("ported")
        self.check_same(original, ported)
        self.assertEqual(ported.get("/sub/a%20b.txt")[3].decode(), "ä")
        self.assertEqual(ported.get("/")[3].decode().split(), sorted(path.split("/")[0] for path in FILES))
        self.assertEqual(ported.get("/page.html", "POST"), original.get("/page.html", "POST"))

    def test_what_the_policy_refuses_is_forbidden(self):
        self.make({"x.key": "secret", "protected.html": "x", "y": ""})
        ported = self.serve("ported")
        self.assertEqual(ported.get("/x.key")[0], 403)
        self.assertEqual(ported.get("/protected.html")[0], 403)
        self.assertEqual(ported.get("/")[3].decode().split(), ["protected.html", "x.key", "y"])


if __name__ == "__main__":
    unittest.main()
