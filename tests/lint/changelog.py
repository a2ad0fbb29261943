#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""CHANGELOG.md in its form: changelog.py SOURCE-ROOT

A section for the project's version, themes in it, and below them entries of at most 25 words that name their subject.
The Python module and the CHANGELOG have the version that meson.build names.
"""

import pathlib
import re
import sys

import comments

MAX_WORDS = 25


def entries(text):
    """(line number, heading of the theme or None, text) of each entry; a further line of an entry is indented."""
    theme, entry = None, None
    for number, line in enumerate(text.splitlines(), 1):
        if entry is not None and line.startswith("  "):
            entry[2] += " " + line.strip()
            continue
        if entry is not None:
            yield tuple(entry)
            entry = None
        if line.startswith("## "):
            theme = None
        elif line.startswith("### "):
            theme = line[4:]
        elif line.startswith("- "):
            entry = [number, theme, line[2:].strip()]
    if entry is not None:
        yield tuple(entry)


def form(text):
    """Complaints about the text of a CHANGELOG."""
    seen = {}
    for number, theme, entry in entries(text):
        words = entry.split()
        if len(words) > MAX_WORDS:
            yield f"CHANGELOG.md:{number}: {len(words)} words, of which {MAX_WORDS} may be"
        for fault in comments.faults(entry):
            yield f"CHANGELOG.md:{number}: {fault}"
        if theme is None:
            yield f"CHANGELOG.md:{number}: no theme (###) stands above the entry"
        if entry in seen:
            yield f"CHANGELOG.md:{number}: as line {seen[entry]}"
        seen.setdefault(entry, number)


def found(pattern, text):
    match = re.search(pattern, text, re.MULTILINE)
    return match.group(1) if match else None


def violations(root):
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    yield from form(text)
    version = found(r"^  version: '(.*)',$", (root / "meson.build").read_text(encoding="utf-8"))
    newest = found(r"^## \[(.*?)\]", text)
    if newest != version:
        yield f"CHANGELOG.md: the newest section is {newest}, the version in meson.build {version}"
    python = found(r'^__version__ = "(.*)"$', (root / "worker/python/fdbroker/version.py").read_text(encoding="utf-8"))
    if python != version:
        yield f"worker/python/fdbroker/version.py: {python}, the version in meson.build is {version}"


def main(root):
    complaints = list(violations(pathlib.Path(root)))
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
