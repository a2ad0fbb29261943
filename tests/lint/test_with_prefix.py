#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of docs/with_prefix.py: a program's name gets its prefix, and nothing else does."""

import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))
sys.dont_write_bytecode = True

from with_prefix import with_prefix  # noqa: E402


class WithPrefix(unittest.TestCase):
    def test_names_and_commands_are_renamed(self):
        for line, wanted in (
            (".Dt OPENER 8", ".Dt FDB-OPENER 8"),
            (".Nm worker", ".Nm fdb-worker"),
            (".Xr openerctl 1 ,", ".Xr fdb-openerctl 1 ,"),
            (".Ic openerctl status", ".Ic fdb-openerctl status"),
            (".Dl opener --check", ".Dl fdb-opener --check"),
            (".Dl sudo opener --check && openerctl status", ".Dl sudo fdb-opener --check && fdb-openerctl status"),
            (".Bd -literal\nworker cat x\n.Ed", ".Bd -literal\nfdb-worker cat x\n.Ed"),
        ):
            with self.subTest(line):
                self.assertEqual(with_prefix("fdb-", line + "\n"), wanted + "\n")

    def test_prose_paths_and_other_names_stay(self):
        for line in ("the opener starts a worker", ".Nm", ".Nm , opener", ".Pa /run/fdbroker/opener.sock",
                     ".Xr fdbroker 3", ".It Cm workers", ".Dl ls /run/fdbroker/opener.sock"):
            with self.subTest(line):
                self.assertEqual(with_prefix("fdb-", line + "\n"), line + "\n")

    def test_every_page_of_a_program_is_renamed(self):
        for name in ("opener.8", "openerctl.1", "worker.1"):
            page = with_prefix("fdb-", (ROOT / "docs" / name).read_text(encoding="utf-8"))
            program = name.split(".")[0]
            self.assertIn(f".Dt FDB-{program.upper()} ", page)
            self.assertNotIn(f"\n.Nm {program}\n", page)


if __name__ == "__main__":
    unittest.main()
