#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The modules know each other in one direction only: includes.py SOURCE-ROOT

policy and proto know nobody, nor each other; opener knows both; worker knows proto; tests know all. Inside policy and
opener, a room knows only the rooms before it in ROOMS. A quoted include names its module ("proto/message.hpp"), so that
this can be checked by reading.
"""

import pathlib
import re
import sys

ALLOWED = {
    "policy": {"policy"},
    "proto": {"proto"},
    "opener": {"opener", "policy", "proto"},
    "worker": {"worker", "proto"},
    "tests": {"opener", "policy", "proto", "tests", "worker"},
}
# The rooms of a module, bottom up: a file includes only its own room and those before it.
ROOMS = {
    "opener": (
        "base config quota audit identity policy_source link confinement resolve metrics request operations helpers"
        " control broker supervisor records ctl"
    ).split(),
    "policy": "matching explain language lint diff advice".split(),
}
# The one file that sees yaml-cpp; its exceptions stop there.
YAML_READER = pathlib.Path("policy/language/document.cpp")
# The header that is installed, as its users include it.
INSTALLED = {"fdbroker.h", "fdbroker.hpp", "fdbroker_posix.h", "fdbroker_types.hpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]*)"', re.MULTILINE)
SYSTEM_INCLUDE = re.compile(r"^\s*#\s*include\s*<([^>]*)>", re.MULTILINE)
ENDINGS = {".c", ".cpp", ".h", ".hpp"}


def violations_of(module, path, text):
    for include in INCLUDE.findall(text):
        target = include.split("/")[0]
        if include in INSTALLED or target in ALLOWED[module]:
            yield from arrows_back(module, path, include)
            continue
        why = f"{module} does not know {target}" if target in ALLOWED else "an include names its module"
        yield f'{path}: "{include}": {why}'
    for include in SYSTEM_INCLUDE.findall(text):
        if include.split("/")[0] in ALLOWED:
            yield f"{path}: <{include}>: our own headers are included with quotes"
        if include.startswith("yaml-cpp/") and path != YAML_READER:
            yield f"{path}: <{include}>: only {YAML_READER} sees yaml-cpp"


def arrows_back(module, path, include):
    """An include of a room that stands above the including one: the direction of DESIGN and CONTRIBUTING."""
    parts = include.split("/")
    rooms = ROOMS.get(module)
    if rooms is None or parts[0] != module or len(path.parts) < 3:
        return
    room = path.parts[1]
    if room not in rooms or len(parts) < 3 or parts[1] not in rooms:
        yield f'{path}: "{include}": a file of {module} lies in one of the rooms {", ".join(rooms)}'
    elif rooms.index(parts[1]) > rooms.index(room):
        yield f'{path}: "{include}": {module}/{room} does not know {module}/{parts[1]}, which stands on it'


def violations(root):
    for module in ALLOWED:
        for path in sorted((root / module).rglob("*")):
            if path.suffix in ENDINGS:
                yield from violations_of(module, path.relative_to(root), path.read_text(encoding="utf-8"))


def main(root):
    found = list(violations(pathlib.Path(root)))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
