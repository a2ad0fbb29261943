# SPDX-License-Identifier: MIT
"""The programs of worker/examples, each with real files through a real opener."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import unittest

from support import RealOpener

RULES = """
  - {name: all, allow: [read], paths: ["DIR/**"]}
  - {name: secret, deny: all, paths: ["DIR/**/*.key"]}
"""


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


@unittest.skipUnless(os.getuid() == 0, "needs root for a real opener")
class Examples(unittest.TestCase):
    def setUp(self):
        self.opener = RealOpener(RULES)
        self.addCleanup(self.opener.close)
        self.environment = dict(os.environ, FDBROKER_SOCKET=self.opener.address)

    def start(self, *arguments):
        process = subprocess.Popen(arguments, env=self.environment, stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_hash_hashes_what_it_may_and_tells_why_it_may_not(self):
        path = self.opener.write("a", "content" * 20000)
        key = self.opener.write("a.key", "secret")
        done = subprocess.run([os.environ["FDBROKER_EXAMPLE_HASH"], path, key, "/etc/shadow"], env=self.environment,
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, f"{fnv1a(b'content' * 20000)}  {path}\n")
        self.assertIn(f"{key}: Permission denied: decide: ", done.stderr)
        self.assertIn("/etc/shadow: Permission denied: decide: no rule", done.stderr)

    def ask(self, address, path):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(client.close)
        client.connect(address)
        client.sendall(os.fsencode(path) + b"\n")
        return client

    def test_server_serves_many_clients_at_once(self):
        large = self.opener.write("large", "0123456789" * 500000)
        small = self.opener.write("small", "small")
        address = str(self.opener.directory / "server.sock")
        server = self.start(os.environ["FDBROKER_EXAMPLE_SERVER"], address)
        self.assertEqual(server.stdout.readline(), f"serving {address}\n".encode())
        slow = self.ask(address, large)  # reads nothing for now
        half = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        half.connect(address)
        half.sendall(b"/half")  # says only half of it
        clients = [self.ask(address, small) for _ in range(50)]
        for client in clients:
            self.assertEqual(client.makefile("rb").read(), b"small")
        half.close()
        self.assertEqual(self.ask(address, "/etc/shadow").makefile("rb").read(), b"")
        self.assertEqual(slow.makefile("rb").read(), b"0123456789" * 500000)

    def children_of(self, process):
        """Once there are three."""
        while True:
            found = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if len(found) == 3:
                return [int(child) for child in found]

    def test_prefork_serves_by_children_that_share_connections_and_replaces_one_that_ends(self):
        paths = [self.opener.write(f"prefork{number}", str(number)) for number in range(60)]
        address = str(self.opener.directory / "prefork.sock")
        process = subprocess.Popen([os.environ["FDBROKER_EXAMPLE_PREFORK"], address, "3"], env=self.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(os.killpg, process.pid, signal.SIGKILL)
        self.assertEqual(process.stdout.readline(), f"serving {address}\n".encode())
        for _ in range(3):
            for number, path in enumerate(paths):
                self.assertEqual(self.ask(address, path).makefile("rb").read(), str(number).encode())
            self.assertEqual(self.ask(address, "/etc/shadow").makefile("rb").read(), b"")
            child = self.children_of(process)[0]
            os.kill(child, signal.SIGKILL)
            # Until then it may still accept a client.
            while child in self.children_of(process):
                pass

    @unittest.skipIf(os.environ.get("FDBROKER_SANITIZER", "none") != "none", "a sanitizer does not load into python3")
    def test_follow_prints_every_line_across_rotations_and_truncations(self):
        path = pathlib.Path(self.opener.write("log", "one\n"))
        process = self.start(sys.executable, os.environ["FDBROKER_EXAMPLE_FOLLOW"], str(path), "0.01")
        lines = process.stdout
        self.assertEqual(lines.readline(), b"one\n")
        with path.open("a") as log:
            print("two", file=log, flush=True)
            self.assertEqual(lines.readline(), b"two\n")
            path.rename(path.with_name("log.1"))
            print("three", file=log, flush=True)  # the writer has not noticed yet
            self.assertEqual(lines.readline(), b"three\n")
        path.write_text("four\n")
        self.assertEqual(lines.readline(), b"four\n")
        with path.open("r+") as log:
            log.truncate(0)
            print("5", file=log, flush=True)
            self.assertEqual(lines.readline(), b"5\n")
        self.assertIsNone(process.poll())


if __name__ == "__main__":
    unittest.main()
