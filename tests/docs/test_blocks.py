#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
import pathlib
import subprocess
import sys
import tempfile
import unittest

BLOCKS = pathlib.Path(__file__).with_name("blocks.py")


def outcome(mode, text):
    with tempfile.TemporaryDirectory(prefix="fdb-blocks.", dir="/var/tmp") as place:
        page = pathlib.Path(place) / "page.md"
        page.write_text(text.replace("PLACE", place), encoding="utf-8")
        done = subprocess.run([sys.executable, BLOCKS, mode, page], capture_output=True, encoding="utf-8", check=False)
        return done.returncode, done.stdout


class Check(unittest.TestCase):
    def test_a_shell_block_is_marked(self):
        for mark, status in (("<!-- run -->", 0), ("<!-- not run: needs systemd -->", 0), ("", 1), ("text", 1),
                             ("<!-- not run: -->", 1)):
            with self.subTest(mark):
                self.assertEqual(outcome("check", f"{mark}\n```sh\ntrue\n```\n")[0], status)

    def test_other_blocks_need_no_mark(self):
        self.assertEqual(outcome("check", "```yaml\na: 1\n```\n\n```c\nint a;\n```\n"), (0, ""))

    def test_a_console_block_that_runs_has_a_command(self):
        self.assertEqual(outcome("check", "<!-- run -->\n```console\nprinted\n```\n")[0], 1)


@unittest.skipUnless(__import__("os").geteuid() == 0, "needs root")
class Run(unittest.TestCase):
    def test_commands_print_what_the_page_says(self):
        page = "<!-- run -->\n```console\n$ echo one; echo two\n{}\n$ cd /; pwd\n/\n```\n"
        for printed, status in (("one\ntwo", 0), ("…\ntwo", 0), ("o…e\n…", 0), ("…", 0), ("one", 1), ("one\ntwo\nthree", 1),
                                ("on\ntwo", 1)):
            with self.subTest(printed):
                self.assertEqual(outcome("run", page.format(printed))[0], status)

    def test_commands_of_a_sh_block_succeed(self):
        self.assertEqual(outcome("run", "<!-- run -->\n```sh\ntrue\ntrue\n```\n")[0], 0)
        self.assertEqual(outcome("run", "<!-- run -->\n```sh\nfalse\ntrue\n```\n")[0], 1)

    def test_blocks_share_a_shell_and_what_is_not_marked_does_not_run(self):
        text = ("<!-- run -->\n```sh\na=7\n```\n<!-- not run: no -->\n```sh\na=8\n```\n"
                "<!-- run -->\n```console\n$ echo $a\n7\n```\n")
        self.assertEqual(outcome("run", text)[0], 0)

    def test_a_block_becomes_a_file(self):
        text = "<!-- file: PLACE/d/x -->\n```yaml\na: 1\n```\n<!-- run -->\n```console\n$ cat PLACE/d/x\na: 1\n```\n"
        self.assertEqual(outcome("run", text)[0], 0)


if __name__ == "__main__":
    unittest.main()
