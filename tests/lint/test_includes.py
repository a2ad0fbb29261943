#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests of includes.py: each rule catches its breach."""

import pathlib
import unittest

import includes


def violations(module, text, name="file.cpp"):
    return list(includes.violations_of(module, pathlib.Path(module, name), text))


class Includes(unittest.TestCase):
    def test_what_is_allowed_passes(self):
        for module, text in (
            ("policy", '#include "policy/matching/policy.hpp"\n#include <string>\n'),
            ("opener", '#include "proto/message.hpp"\n#include "policy/matching/policy.hpp"\n'),
            ("worker", '#include "proto/message.hpp"\n#include "worker/client/fdbroker.h"\n'),
            ("tests", '#include "tests/support/files.hpp"\n#include <fdbroker.h>\n'),
        ):
            with self.subTest(module):
                self.assertEqual(violations(module, text), [])

    def test_the_wrong_direction_is_found(self):
        for module, target in (
            ("policy", "proto"),
            ("policy", "opener"),
            ("proto", "policy"),
            ("proto", "worker"),
            ("worker", "policy"),
            ("worker", "opener"),
            ("opener", "worker"),
            ("opener", "tests"),
        ):
            with self.subTest(f"{module} -> {target}"):
                self.assertEqual(
                    violations(module, f' # include "{target}/x.hpp"'),
                    [f'{module}/file.cpp: "{target}/x.hpp": {module} does not know {target}'],
                )

    def test_a_room_knows_only_the_rooms_below_it(self):
        for module, room, include, found in (
            ("opener", "broker", "opener/audit/audit_log.hpp", 0),
            ("opener", "broker", "opener/broker/session.hpp", 0),
            ("opener", "audit", "opener/broker/session.hpp", 1),
            ("opener", "base", "opener/config/options.hpp", 1),
            ("opener", "attic", "opener/base/log_stderr.hpp", 1),
            ("opener", "broker", "opener/attic/file.hpp", 1),
            ("opener", "broker", "opener/file.hpp", 1),
            ("policy", "lint", "policy/matching/policy.hpp", 0),
            ("policy", "matching", "policy/language/loader.hpp", 1),
        ):
            with self.subTest(f"{module}/{room} -> {include}"):
                text = f'#include "{include}"'
                self.assertEqual(len(violations(module, text, f"{room}/file.cpp")), found)

    def test_an_include_without_its_module_is_found(self):
        self.assertEqual(len(violations("proto", '#include "message.hpp"')), 1)
        self.assertEqual(len(violations("proto", "#include <proto/message.hpp>")), 1)

    def test_yaml_cpp_stays_in_its_file(self):
        text = "#include <yaml-cpp/yaml.h>"
        self.assertEqual(violations("policy", text, "language/document.cpp"), [])
        self.assertEqual(len(violations("policy", text, "policy.cpp")), 1)
        self.assertEqual(len(violations("opener", text)), 1)


if __name__ == "__main__":
    unittest.main()
