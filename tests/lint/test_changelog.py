#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of changelog.py: long entries, entries without a subject or a theme, and versions that differ are found."""

import pathlib
import tempfile
import unittest

import changelog

HEAD = "# Changelog\n\n## [1.2.0]\n\n### Policies\n\n"


def lines(text):
    return sorted({complaint.split(": ")[0] for complaint in changelog.form(text)})


class Form(unittest.TestCase):
    def test_entries_have_at_most_25_words_over_all_their_lines(self):
        self.assertEqual(lines(HEAD + "- " + "word " * 25 + "\n"), [])
        self.assertEqual(lines(HEAD + "- " + "word " * 13 + "\n  " + "word " * 13 + "\n- Short.\n"), ["CHANGELOG.md:7"])

    def test_entries_name_their_subject(self):
        self.assertEqual(lines(HEAD + "- It is quicker.\n- Loads are quicker.\n- To load is quick.\n"),
                         ["CHANGELOG.md:7", "CHANGELOG.md:9"])

    def test_each_entry_has_a_theme(self):
        self.assertEqual(lines("## [1.2.0]\n\n- Loads are quicker.\n"), ["CHANGELOG.md:3"])
        self.assertEqual(lines(HEAD + "- A\n\n## [1.1.0]\n\n- B\n"), ["CHANGELOG.md:11"])

    def test_no_entry_stands_twice(self):
        self.assertEqual(lines(HEAD + "- Loads are quicker.\n\n### Serving\n\n- Loads are\n  quicker.\n"), ["CHANGELOG.md:11"])


class Versions(unittest.TestCase):
    def complaints(self, meson, python, newest):
        with tempfile.TemporaryDirectory(prefix="fdb-changelog.", dir="/var/tmp") as directory:
            root = pathlib.Path(directory)
            (root / "worker/python/fdbroker").mkdir(parents=True)
            (root / "meson.build").write_text(f"project(\n  'fdbroker',\n  version: '{meson}',\n)\n")
            (root / "worker/python/fdbroker/version.py").write_text(f'__version__ = "{python}"\n')
            (root / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{newest}] - 2026-12-01\n\n## [1.1.0]\n")
            return [complaint.split(":")[0] for complaint in changelog.violations(root)]

    def test_the_project_the_module_and_the_newest_section_have_one_version(self):
        self.assertEqual(self.complaints("1.2.0", "1.2.0", "1.2.0"), [])
        self.assertEqual(self.complaints("1.3.0", "1.2.0", "1.3.0"), ["worker/python/fdbroker/version.py"])
        self.assertEqual(self.complaints("1.2.0", "1.2.0", "Unreleased"), ["CHANGELOG.md"])


if __name__ == "__main__":
    unittest.main()
