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
                              group=USER, extra_groups=[], capture_output=True, text=True,
                              env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))

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


if __name__ == "__main__":
    unittest.main()
