#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A test case fits a screen: cases.py SOURCE-ROOT names those of more than MAX_LINES lines."""

import pathlib
import sys

MAX_LINES = 60


def cases(lines):
    """Yields the line (from 1) at which each test case begins, and how many it has."""
    begin = None
    for number, line in enumerate(lines, 1):
        if line.startswith("TEST_CASE"):
            begin = number
        elif line == "}" and begin is not None:
            yield begin, number - begin + 1
            begin = None


def violations(root):
    for path in sorted((root / "tests").rglob("*.[ch]pp")):
        for begin, length in cases(path.read_text(encoding="utf-8").splitlines()):
            if length > MAX_LINES:
                yield f"{path.relative_to(root)}:{begin}: a test case of {length} lines; at most {MAX_LINES}"


def main(root):
    found = list(violations(pathlib.Path(root)))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
