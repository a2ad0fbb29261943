#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of spdx.py: a file without its license is found, whatever kind of source it is."""

import pathlib
import tempfile
import unittest

import spdx


class Spdx(unittest.TestCase):
    def found(self, files):
        with tempfile.TemporaryDirectory(prefix="fdb-spdx.", dir="/var/tmp") as directory:
            root = pathlib.Path(directory)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return [line.split(":")[0] for line in spdx.violations(root)]

    def test_each_kind_of_source_needs_the_line(self):
        names = ["opener/a.cpp", "worker/b.h", "docs/c.8", ".ci/run", "bootstrap", "meson.build", "meson_options.txt",
                 "worker/d.map", "packaging/e.service.in", "packaging/completions/f.fish", "tests/unit/g.py"]
        self.assertEqual(self.found({name: "text\n" for name in names}), sorted(names))
        self.assertEqual(self.found({name: f"# {spdx.LINE}\n" for name in names}), [])

    def test_the_line_stands_at_the_beginning(self):
        self.assertEqual(self.found({"a.py": f"#!/usr/bin/python3\n# {spdx.LINE}\n"}), [])
        self.assertEqual(self.found({"a.py": "\n\n\n" + f"# {spdx.LINE}\n"}), ["a.py"])

    def test_data_prose_and_builds_need_none(self):
        names = ["LICENSE", "README.md", "tests/data/x", "packaging/debian/rules", "build/a.cpp", "build-asan/a.cpp",
                 ".git/config", "docs/policies/a.yaml", "worker/python/fdbroker/py.typed"]
        self.assertEqual(self.found({name: "text\n" for name in names}), [])


if __name__ == "__main__":
    unittest.main()
