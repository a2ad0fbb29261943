#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of cases.py: a long test case is found, whatever stands around it."""

import pathlib
import tempfile
import unittest

import cases


def case(lines):
    return 'TEST_CASE("x") {\n' + "    y();\n" * (lines - 2) + "}\n"


class Cases(unittest.TestCase):
    def found(self, text):
        with tempfile.TemporaryDirectory(prefix="fdb-cases.", dir="/var/tmp") as directory:
            root = pathlib.Path(directory)
            (root / "tests/unit").mkdir(parents=True)
            (root / "tests/unit/a.cpp").write_text(text)
            return list(cases.violations(root))

    def test_a_case_of_as_many_lines_as_may_be_passes(self):
        self.assertEqual(self.found(case(cases.MAX_LINES)), [])

    def test_a_longer_one_is_named_with_its_place(self):
        text = "void helper() {\n}\n" + case(5) + case(cases.MAX_LINES + 1)
        self.assertEqual(self.found(text), ["tests/unit/a.cpp:8: a test case of 61 lines; at most 60"])

    def test_a_long_function_is_none(self):
        self.assertEqual(self.found(case(100).replace("TEST_CASE", "void f")), [])


if __name__ == "__main__":
    unittest.main()
