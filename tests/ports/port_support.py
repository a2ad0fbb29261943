# SPDX-License-Identifier: MIT
"""Shared by the tests of ports and their measurements: an opener, servers in processes of their own, and questions to them."""

import http.client
import os
import pathlib
import random
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
from support import RealOpener  # noqa: E402

RULES = """
  - {name: all, allow: [read, stat, list, readlink, modify, mkdir, remove, rename, setattr], paths: ["DIR/**"],
     create: {mode: "0644"}}
  - {name: secret, deny: all, paths: ["DIR/**/*.key"]}
  - {name: protected, deny: [read, list], paths: ["DIR/**/protected*"]}
"""
HERE = pathlib.Path(__file__).resolve().parent


class WithOpener(unittest.TestCase):
    def setUp(self):
        if os.getuid() != 0:
            self.skipTest("needs root for a real opener")
        if os.environ.get("FDBROKER_SANITIZER", "none") != "none":
            self.skipTest("a sanitizer does not load into programs that are not built with it")
        self.opener = RealOpener(RULES)
        self.addCleanup(self.opener.close)
        self.data = self.opener.data
        self.environment = dict(os.environ, FDBROKER_SOCKET=self.opener.address)

    def make(self, files):
        """Files with their contents; a name that ends in a slash: an empty directory."""
        for name, content in files.items():
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir()
            elif isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content)


def listening_port(process):
    """The port on which the process listens; None: on none yet."""
    sockets = {os.readlink(f"/proc/{process.pid}/fd/{name}") for name in os.listdir(f"/proc/{process.pid}/fd")}
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, = fields = line.split()
        if state == "0A" and f"socket:[{fields[9]}]" in sockets:
            return int(local.split(":")[1], 16)
    return None


def is_confined(process):
    return "\nSeccomp:\t2\n" in pathlib.Path(f"/proc/{process.pid}/status").read_text()


class Server:
    """A server in a separate process, which prints the port."""

    def __init__(self, environment, *command):
        self.process = subprocess.Popen([str(part) for part in command], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE)
        self.port = self._find_port()

    def _find_port(self):
        return int(self.process.stdout.readline())

    def get(self, path, method="GET", headers=()):
        """Status, reason, headers but the date, and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        told = answer.status, answer.reason, [header for header in answer.getheaders() if header[0] != "Date"], answer.read()
        connection.close()
        return told

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class ServerAtPort(Server):
    """A server that is told its port, as the word PORT."""

    def __init__(self, environment, *command):
        self.command = command
        # Below the ports that are given out for 0. Another process may have any of them.
        for _ in range(100):
            self.asked = random.randrange(20000, 32000)
            super().__init__(environment, *(part.replace("PORT", str(self.asked)) for part in map(str, command)))
            if self.port is not None:
                return
            self.close()
        raise AssertionError(f"{command[0]} does not listen")

    def _find_port(self):
        while self.process.poll() is None:
            if listening_port(self.process) == self.asked:
                return self.asked
            time.sleep(0.005)
        return None
