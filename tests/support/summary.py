#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Adds up a run of `meson test`: summary.py TESTLOG...

A doctest program counts by test cases, which the last line tells ("test cases: N passed, N failed,
N skipped"); every other test counts as one. A program that failed without a failed test case (a
crash, a timeout, a leak found at exit) is one failure more. Prints what was skipped and why, and last a line
"N passed, N failed, N skipped". Exit status: 0; 1: something failed, or nothing was run.
"""

import json
import re
import sys

COUNTS = re.compile(r"^test cases: (\d+) passed, (\d+) failed, (\d+) skipped$", re.MULTILINE)
SKIPPED = re.compile(r"^skipped: .*$", re.MULTILINE)
GOOD = {"OK", "EXPECTEDFAIL"}


def counts_of(test):
    """passed, failed, skipped of one entry of the log."""
    found = COUNTS.findall(test.get("stdout") or "")
    passed, failed, skipped = (sum(int(counts[i]) for counts in found) for i in range(3))
    result = test["result"]
    if result in GOOD:
        if not found:
            passed = 1
    elif result == "SKIP":
        if not found:
            skipped = 1
    elif failed == 0:
        failed = 1
    return passed, failed, skipped


def reasons_of(test):
    """A line for each thing skipped."""
    reasons = SKIPPED.findall(test.get("stdout") or "")
    if test["result"] == "SKIP" and not reasons:
        reasons = [f"skipped: {test['name']}"]
    return reasons


def main(paths):
    tests = []
    for path in paths:
        with open(path, encoding="utf-8") as log:
            tests += [json.loads(line) for line in log if line.strip()]
    passed, failed, skipped = (sum(column) for column in zip(*map(counts_of, tests))) if tests else (0, 0, 0)
    for reason in sorted({reason for test in tests for reason in reasons_of(test)}):
        print(reason)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
