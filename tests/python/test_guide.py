# SPDX-License-Identifier: MIT
"""The guides of docs/, word for word, as a new user would type it: in a mount namespace with a /run and a /srv of its own.

A block after "Save as `NAME`:" becomes that file; all blocks of shell run one after the other in one shell; a block
of text is what the shell block before it has printed.
"""

import os
import pathlib
import re
import shutil
import subprocess
import unittest

GUIDES = pathlib.Path(os.environ["FDBROKER_GUIDES"])
BLOCK = re.compile(r"^(?:Save as `([\w.]+)`:\n\n)?```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "---- the next block ----"


def script_and_expectations(guide):
    """One shell script for a whole guide, and what each of its shell blocks is to print (None: anything)."""
    script, expected = ["set -e", "shopt -s expand_aliases"], []
    for name, kind, text in BLOCK.findall((GUIDES / guide).read_text(encoding="utf-8")):
        if name:
            script.append(f"cat > {name} <<'END OF FILE'\n{text}END OF FILE")
        elif kind == "sh":
            script.append(f"echo '{MARK}'\n{text}")
            expected.append(None)
        elif kind == "text":
            expected[-1] = text
    return "\n".join(script) + "\n", expected


def lines_of(text):
    """What is compared: record numbers depend on the moment, and so does which of the two streams comes first."""
    return sorted(re.sub(r"record \d+", "record N", text).splitlines())


def can_mount():
    return subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], stderr=subprocess.DEVNULL).returncode == 0


def can_make_user_namespace():
    return subprocess.run(["unshare", "--user", "true"], stderr=subprocess.DEVNULL).returncode == 0


@unittest.skipUnless(os.getuid() == 0 and can_mount(), "needs root and a mount namespace")
@unittest.skipUnless(all(map(shutil.which, ("cc", "pkg-config", "strace", "setpriv"))), "needs a compiler and strace")
@unittest.skipIf(os.environ["FDBROKER_SANITIZER"] != "none", "the programs of the guide are built without a sanitizer")
class Guide(unittest.TestCase):
    def test_a_service_of_ones_own(self):
        self.try_guide("guide-worker.md")

    @unittest.skipUnless(can_make_user_namespace(), "needs user namespaces")
    def test_a_program(self):
        self.try_guide("guide-run.md")

    def try_guide(self, guide):
        script, expected = script_and_expectations(guide)
        environment = dict(os.environ, PATH=os.environ["FDBROKER_PROGRAMS"] + ":" + os.environ["PATH"])
        prelude = "mount -t tmpfs -o mode=0755 none /srv\nmount -t tmpfs -o mode=0755 none /run\n"
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", prelude + script], env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200)
        self.assertEqual(done.returncode, 0, done.stdout)
        printed = done.stdout.split(MARK + "\n")[1:]
        self.assertEqual(len(printed), len(expected), done.stdout)
        for text, wanted in zip(printed, expected):
            if wanted is not None:
                self.assertEqual(lines_of(text), lines_of(wanted))


if __name__ == "__main__":
    unittest.main()
