#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A manual page for programs whose names have a prefix: with_prefix.py PREFIX PAGE; to standard output.

A program's name is replaced where it is one (.Nm, .Dt, .Xr, .Ic) and where a command of an example begins. The words
"opener" and "worker" of the prose stay, and so do paths.
"""

import pathlib
import re
import sys

PROGRAMS = r"(openerctl|opener|worker)"
# A command's first word: at the start of a line, behind sudo, or behind what joins commands.
COMMAND = re.compile(rf"(^\s*|\bsudo |[|&;] |\$ |-- ){PROGRAMS}(?= )")
MACRO = re.compile(rf"^(\.(?:Nm|Xr|Ic|It Ic) ){PROGRAMS}(?=\s|$)")
TITLE = re.compile(rf"^(\.Dt ){PROGRAMS}(?= )", re.IGNORECASE)


def with_prefix(prefix, text):
    lines, in_display = [], False
    for line in text.splitlines():
        if line.startswith(".Bd"):
            in_display = True
        elif line.startswith(".Ed"):
            in_display = False
        line = MACRO.sub(rf"\g<1>{prefix}\2", line)
        line = TITLE.sub(lambda title: f"{title[1]}{prefix.upper()}{title[2]}", line)
        if line.startswith(".Dl "):
            line = ".Dl " + COMMAND.sub(rf"\g<1>{prefix}\2", line[len(".Dl ") :])
        elif in_display:
            line = COMMAND.sub(rf"\g<1>{prefix}\2", line)
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(with_prefix(sys.argv[1], pathlib.Path(sys.argv[2]).read_text(encoding="utf-8")))
