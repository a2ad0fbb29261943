#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of summary.py. Its counts decide whether a run was good."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import summary


def entry(result, stdout="", name="suite / test"):
    return {"name": name, "result": result, "stdout": stdout}


class Summary(unittest.TestCase):
    def run_on(self, *tests):
        with tempfile.TemporaryDirectory() as directory:
            log = pathlib.Path(directory, "testlog.json")
            log.write_text("".join(json.dumps(test) + "\n" for test in tests), encoding="utf-8")
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                status = summary.main([str(log)])
        return status, output.getvalue().splitlines()

    def test_doctest_programs_count_by_their_cases(self):
        self.assertEqual(
            self.run_on(
                entry("OK", "x\ntest cases: 5 passed, 0 failed, 0 skipped\n"),
                entry("OK", "test cases: 2 passed, 0 failed, 1 skipped\nskipped: a: b\n"),
            ),
            (0, ["skipped: a: b", "7 passed, 0 failed, 1 skipped"]),
        )

    def test_other_tests_count_as_one(self):
        self.assertEqual(
            self.run_on(entry("OK"), entry("OK"), entry("SKIP", name="lint / mandoc")),
            (0, ["skipped: lint / mandoc", "2 passed, 0 failed, 1 skipped"]),
        )

    def test_failed_cases_fail_the_run(self):
        self.assertEqual(
            self.run_on(entry("OK"), entry("FAIL", "test cases: 5 passed, 2 failed, 0 skipped\n")),
            (1, ["6 passed, 2 failed, 0 skipped"]),
        )

    def test_a_program_that_fails_outside_its_cases_is_a_failure(self):
        cases = "test cases: 5 passed, 0 failed, 0 skipped\n"
        for result in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS"):
            with self.subTest(result):
                self.assertEqual(self.run_on(entry(result, cases)), (1, ["5 passed, 1 failed, 0 skipped"]))
                self.assertEqual(self.run_on(entry(result)), (1, ["0 passed, 1 failed, 0 skipped"]))

    def test_a_run_of_nothing_is_not_good(self):
        self.assertEqual(self.run_on(), (1, ["0 passed, 0 failed, 0 skipped"]))
        self.assertEqual(self.run_on(entry("SKIP", "skipped: a: b"))[0], 1)


if __name__ == "__main__":
    unittest.main()
