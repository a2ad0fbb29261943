#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The manual page, the version script and Debian's symbols file name the functions of the header:
functions.py HEADER PAGE MAP SYMBOLS
"""

import pathlib
import re
import sys


def of_header(text):
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return set(re.findall(r"\b(fdbroker_\w+)\(", code))


def of_page(text):
    synopsis = text[text.index(".Sh SYNOPSIS") : text.index(".Sh DESCRIPTION")]
    description = text[text.index(".Sh DESCRIPTION") :]
    declared = set(re.findall(r"^\.F[no] (fdbroker_\w+)", synopsis, re.MULTILINE))
    described = set(re.findall(r"^\.Fn (fdbroker_\w+)", description, re.MULTILINE))
    return declared, described


def of_map(text):
    return set(re.findall(r"^ +(fdbroker_\w+);", text, re.MULTILINE))


def of_symbols(text):
    return set(re.findall(r"^ (fdbroker_\w+)@", text, re.MULTILINE))


def main(header, page, version_script, symbols):
    read = lambda name: pathlib.Path(name).read_text(encoding="utf-8")
    functions = of_header(read(header))
    declared, described = of_page(read(page))
    wrong = [f"{name}: not everywhere: {', '.join(sorted(functions ^ there))}"
             for name, there in (("SYNOPSIS", declared), ("DESCRIPTION", described), (version_script, of_map(read(version_script))), (symbols, of_symbols(read(symbols))))
             if functions ^ there]
    print("\n".join(wrong))
    return 1 if wrong or not functions else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
