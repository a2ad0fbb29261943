#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each source file names its license in its first lines: spdx.py SOURCE-ROOT

A source file is one that EXEMPT does not name and TEXTS does not end. Build directories and hidden ones are left out,
but for .ci.
"""

import pathlib
import sys

LINE = "SPDX-License-Identifier: MIT"
# A script has its interpreter before it, a Python file its coding.
WITHIN_LINES = 3
# Prose, data, and what tools generate or read back without comments.
TEXTS = {".md", ".txt", ".json", ".png", ".svg", ".yaml", ".yml", ".toml", ".symbols", ".pyc"}
EXEMPT = ("LICENSE", "py.typed", "policy.d-README.in")
# Every file below these is data: bytes for tests, and the forms that Debian prescribes.
DATA = ("tests/data", "packaging/debian")


def generated(path):
    """Whether Python or setuptools left the file in the tree."""
    return any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)


def is_source(path):
    """`path` is relative to the source root."""
    if any(part.startswith(".") and part != ".ci" for part in path.parts) or path.parts[0].startswith("build"):
        return False
    if path.as_posix() == "meson_options.txt":
        return True
    below_data = any(path.is_relative_to(data) for data in DATA)
    return path.name not in EXEMPT and path.suffix not in TEXTS and not below_data and not generated(path)


def names_license(path):
    with path.open(encoding="utf-8", errors="replace") as file:
        return any(LINE in line for _, line in zip(range(WITHIN_LINES), file))


def violations(root):
    for path in sorted(root.rglob("*")):
        if path.is_file() and is_source(path.relative_to(root)) and not names_license(path):
            yield f"{path.relative_to(root)}: the first {WITHIN_LINES} lines do not say {LINE}"


def main(root):
    found = list(violations(pathlib.Path(root)))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
