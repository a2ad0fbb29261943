#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of comments.py: texts without a subject are found in each kind of file, other texts are not."""

import pathlib
import tempfile
import unittest

import comments

LONG = "word " * (comments.WORDS + 1)


class Comments(unittest.TestCase):
    def found(self, name, text):
        with tempfile.TemporaryDirectory(prefix="fdb-comments.", dir="/var/tmp") as directory:
            path = pathlib.Path(directory) / name
            path.parent.mkdir(parents=True)
            path.write_text(text)
            return sorted({int(line.split(":")[1]) for line in comments.violations(pathlib.Path(directory))})

    def test_each_kind_of_comment_is_read(self):
        self.assertEqual(self.found("opener/a.cpp", "int a;  // of a file\n// What it is.\n/* One. */\n"), [1, 2, 3])
        self.assertEqual(self.found("worker/a.py", '"""What it is."""\na = 1  # of a file\n'), [1, 2])
        self.assertEqual(self.found("tests/meson.build", "# What it is.\na = 1\n\n# To be.\n"), [1, 4])
        self.assertEqual(self.found("opener/a.cpp", 'char* a = "// What it is.";\n// A name.\n'), [])

    def test_titles_of_tests_are_read_behind_the_name_of_the_module(self):
        self.assertEqual(self.found("tests/a.cpp", 'TEST_CASE("loader: what is wrong") {}\nSUBCASE("it ends") {}\n'), [1, 2])
        self.assertEqual(self.found("tests/a.cpp", 'TEST_CASE("loader: a fault is found") {}\n'), [])

    def test_the_beginning_of_each_paragraph_counts(self):
        self.assertEqual(self.found("proto/a.hpp", "// A name.\n// One more sentence.\n//\n// Of another.\n"), [4])
        self.assertEqual(self.found("proto/a.hpp", "// A list:\n// - a name\n// - it ends\n"), [3])
        self.assertEqual(self.found("proto/a.hpp", "// `one` is a name.\n"), [])

    def test_phrases_and_long_sentences_are_found_over_line_ends(self):
        self.assertEqual(self.found("proto/a.hpp", "// A socket of\n// its own.\n"), [1])
        self.assertEqual(self.found("proto/a.hpp", f"// {LONG}\n"), [1])
        self.assertEqual(self.found("proto/a.hpp", "// " + LONG[:40] + "\n// " + LONG[40:] + "\n"), [1])
        self.assertEqual(self.found("proto/a.hpp", "// " + LONG[:40] + "stop.\n// " + LONG[40:] + "\n"), [])

    def test_drawings_are_no_sentences(self):
        self.assertEqual(self.found("proto/a.hpp", "//     what   it is\n// ├── it is\n"), [])

    def test_lines_of_comments_end_in_time(self):
        self.assertEqual(self.found("proto/a.hpp", "// " + "a" * comments.COLUMNS + "\n"), [1])
        self.assertEqual(self.found("proto/a.hpp", "int a = " + "a" * comments.COLUMNS + ";\n"), [])


if __name__ == "__main__":
    unittest.main()
