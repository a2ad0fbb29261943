# SPDX-License-Identifier: MIT
"""The commands of `worker` through a real opener, as an unprivileged user."""

import os
import stat
import subprocess
import unittest

from support import RealOpener

USER = 30001
RULES = """
  - {name: all, allow: [read, stat, list, readlink], paths: ["DIR/**"]}
  - {name: secret, deny: all, paths: ["DIR/**/*.key"], reveal: ENOENT}
"""


@unittest.skipUnless(os.getuid() == 0, "needs root for a real opener")
class Worker(unittest.TestCase):
    def setUp(self):
        self.opener = RealOpener(RULES)
        self.addCleanup(self.opener.close)

    def run_worker(self, *arguments):
        return subprocess.run([os.environ["FDBROKER_WORKER"], "--socket", self.opener.address, *arguments], user=USER,
                              group=USER, extra_groups=[], capture_output=True, text=True)

    def test_stat_and_list_tell_what_is_there_and_hide_what_is_denied(self):
        path = self.opener.write("file", "12345")
        os.utime(path, (0, 1700000000))
        self.opener.write("a.key", "secret")
        self.opener.data.joinpath("link").symlink_to("file")
        done = self.run_worker("list", str(self.opener.data))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "file\nlink\n", ""))
        done = self.run_worker("stat", path)
        mode = stat.filemode(os.stat(path).st_mode)
        self.assertEqual((done.stdout, done.stderr), (f"{mode} 1 0 0 5 2023-11-14T22:13:20Z {path}\n", ""))
        link = str(self.opener.data / "link")
        done = self.run_worker("stat", "--no-follow", link, str(self.opener.data / "a.key"))
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stdout.startswith("lrwxrwxrwx "), done.stdout)
        self.assertIn("a.key: No such file or directory", done.stderr)
        self.assertEqual(self.run_worker("cat", path).stdout, "12345")

    def test_control_characters_of_names_reach_no_terminal(self):
        name = "a\x1b[31m\nb\u00e9"
        path = self.opener.write(name, "x")
        shown = "a\\x1b[31m\\x0ab\u00e9"
        self.assertEqual(self.run_worker("list", str(self.opener.data)).stdout, name + "\n")
        self.assertTrue(self.run_worker("stat", path).stdout.endswith(f"/{name}\n"))
        self.assertEqual(self.on_terminal("list", str(self.opener.data)), shown + "\r\n")
        self.assertTrue(self.on_terminal("stat", path).endswith(f"/{shown}\r\n"))
        for done in (self.run_worker("cat", path + ".key"), self.run_worker("cat", "no path\x1b")):
            self.assertEqual(done.returncode, 1)
            self.assertNotIn("\x1b", done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)
            self.assertIn("\\x1b", done.stderr)

    def on_terminal(self, *arguments):
        master, slave = os.openpty()
        try:
            done = subprocess.run([os.environ["FDBROKER_WORKER"], "--socket", self.opener.address, *arguments], user=USER,
                                  group=USER, extra_groups=[], stdout=slave, stderr=slave)
            self.assertEqual(done.returncode, 0)
            return os.read(master, 65536).decode()
        finally:
            os.close(master)
            os.close(slave)

    def test_no_reader_and_no_standard_output_are_failures_that_are_told(self):
        path = self.opener.write("file", "12345")
        command = f'{os.environ["FDBROKER_WORKER"]} --socket {self.opener.address}'
        for words in (f"list {self.opener.data}", f"stat {path}", f"cat {path}"):
            for redirection, why in ((">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")):
                done = subprocess.run(["/bin/sh", "-c", f"{command} {words} {redirection}"], user=USER, group=USER,
                                      extra_groups=[], capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stderr), (1, f"worker: standard output: {why}\n"), words)

    def test_the_environment_names_the_opener_and_an_option_comes_first(self):
        path = self.opener.write("file", "12345")
        environment = dict(os.environ, FDBROKER_SOCKET="/nonexistent/socket")
        command = [os.environ["FDBROKER_WORKER"]]
        done = subprocess.run([*command, "cat", path], user=USER, group=USER, extra_groups=[], capture_output=True,
                              text=True, env=environment)
        self.assertEqual((done.returncode, done.stdout), (4, ""))
        self.assertIn("/nonexistent/socket: no opener listens there", done.stderr)
        done = subprocess.run([*command, "--socket", self.opener.address, "cat", path], user=USER, group=USER,
                              extra_groups=[], capture_output=True, text=True, env=environment)
        self.assertEqual((done.returncode, done.stdout), (0, "12345"))
        environment["FDBROKER_SOCKET"] = self.opener.address
        environment["FDBROKER_FD"] = "17"
        done = subprocess.run([*command, "cat", path], user=USER, group=USER, extra_groups=[], capture_output=True,
                              text=True, env=environment)
        self.assertEqual((done.returncode, done.stdout), (0, "12345"))
        del environment["FDBROKER_SOCKET"]
        done = subprocess.run([*command, "cat", path], user=USER, group=USER, extra_groups=[], capture_output=True,
                              text=True, env=environment)
        self.assertEqual(done.returncode, 4)
        self.assertIn("fd:17", done.stderr)


if __name__ == "__main__":
    unittest.main()
