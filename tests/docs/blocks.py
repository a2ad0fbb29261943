#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The shell blocks of README and guides do what the page says.

    blocks.py check FILE...     each shell block is marked: `<!-- run -->`, or with a reason why not
    blocks.py run [--path DIR]... [--prefix PREFIX] [--service] [--sandbox] [--all] FILE...

A block is ```sh (commands that succeed) or ```console (`$ command`, then what it prints). The line before it is
`<!-- run -->`, `<!-- run: service -->` or `<!-- not run: REASON -->`. A ```text block is what the sh block before it has
printed. A block of any language becomes a file after `<!-- file: NAME -->` or a line "Save as `NAME`:". A page that says
`<!-- all run; needs: PROGRAM... -->` has no other marks, and is skipped where such a program is missing.

`run` feeds the blocks of a page, top to bottom, to one bash as root. In printed lines `…` stands for any text, and a line
of `…` alone for any lines; numbers of records are any. Lines of a text block without `…` may come in any order, since
programs write to two streams.

--path puts a directory in front of PATH. --prefix: the programs are installed as PREFIXopener and so on
(-Dprogram_prefix). --service: the machine is there for this, and systemd runs; installs, starts and stops what the page
says. --sandbox runs in mount and process namespaces with a throw-away copy over /etc, /run, /srv, /var and /home: nothing
outside changes, and whatever a block has left running ends. --all fails where a page is skipped.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
SHELL = {"sh", "console"}
PROGRAMS = ("opener", "openerctl", "worker")
FENCE = re.compile(r"^(```+)\s*(\S*)\s*$")
MARK = re.compile(r"^<!--\s*(run|run: service|not run:\s*\S.*|file:\s*\S+)\s*-->\s*$")
SAVED = re.compile(r"^Save as `([\w./-]+)`:$")
ALL_RUN = re.compile(r"^<!--\s*all run(?:; needs: ([\w. -]+?))?\s*-->\s*$", re.MULTILINE)
RECORD = re.compile(r"record [\dN]+")
COVERED = ("/etc", "/run", "/srv", "/var", "/home")
END = "fdbroker-end-of-command"


class Block:
    def __init__(self, page, line, language, mark, text):
        self.page, self.line, self.language, self.mark, self.text = page, line, language, mark, text
        self.printed = None  # the text block after a sh block

    def __str__(self):
        return f"{self.page}:{self.line}"

    @property
    def runs(self):
        return self.mark in ("run", "run: service")

    @property
    def file(self):
        return self.mark.removeprefix("file:").strip() if (self.mark or "").startswith("file:") else None

    def steps(self):
        """(command, lines that it prints or None: any) of each."""
        if self.file:
            text = "\n".join(self.text)
            return [(f"mkdir -p \"$(dirname {self.file})\"; cat > {self.file} <<'{END}'\n{text}\n{END}", [])]
        if self.language == "sh":
            return [("set -e\n" + "\n".join(self.text) + "\nset +e", self.printed)]
        steps = []
        for line in self.text:
            if line.startswith("$ "):
                steps.append([line[2:], []])
            elif line.startswith("> ") and steps and not steps[-1][1]:
                steps[-1][0] += "\n" + line[2:]
            elif steps:
                steps[-1][1].append(line)
        return [tuple(step) for step in steps]


def mark_of(line):
    marked, saved = MARK.match(line), SAVED.match(line)
    return marked.group(1) if marked else f"file: {saved.group(1)}" if saved else None


def blocks_of(page):
    content = pathlib.Path(page).read_text(encoding="utf-8")
    unmarked = "run" if ALL_RUN.search(content) else None
    blocks, fence, mark = [], None, None
    for number, line in enumerate(content.splitlines(), 1):
        found = FENCE.match(line.strip())
        if fence is None and found:
            indent = len(line) - len(line.lstrip())
            fence, start, language, text = found.group(1), number, found.group(2), []
        elif fence is not None and line.strip() == fence:
            if language in SHELL:
                mark = mark or unmarked
            elif language == "text" and blocks and blocks[-1].language == "sh":
                blocks[-1].printed = text
            blocks.append(Block(page, start, language, mark, text))
            fence = mark = None
        elif fence is not None:
            text.append(line[indent:])
        elif line.strip():
            mark = mark_of(line.strip())
    return blocks


def lacking(page):
    """Programs that the page needs and that are not here."""
    found = ALL_RUN.search(pathlib.Path(page).read_text(encoding="utf-8"))
    return [name for name in (found.group(1) or "").split() if not shutil.which(name)] if found else []


def check(files):
    failed = False
    for file in files:
        for block in blocks_of(file):
            if block.language in SHELL and not (block.runs or block.file or (block.mark or "").startswith("not run:")):
                print(f"{block}: a shell block needs <!-- run --> or <!-- not run: REASON --> in the line before")
                failed = True
            if block.runs and block.language not in SHELL:
                print(f"{block}: only sh and console blocks run")
                failed = True
            if block.runs and block.language == "console" and not block.steps():
                print(f"{block}: no line begins with '$ '")
                failed = True
    return 1 if failed else 0


def pattern_of(lines):
    text = ""
    for line in lines:
        text += "(?:.*\n)*?" if line.strip() == "…" else ".*?".join(map(re.escape, line.split("…"))) + "\n"
    return re.compile(text)


def matches(printed, expected, prefix, in_order):
    if prefix:
        printed = re.sub(rf"\b{re.escape(prefix)}({'|'.join(PROGRAMS)})\b", r"\1", printed)
    printed = RECORD.sub("record N", printed)
    expected = [RECORD.sub("record N", line) for line in expected]
    if pattern_of(expected).fullmatch(printed):
        return True
    return not in_order and "…" not in "".join(expected) and sorted(printed.splitlines()) == sorted(expected)


class Shell:
    def __init__(self, path):
        environment = dict(os.environ, PATH=":".join([*path, os.environ["PATH"]]), LC_ALL="C.UTF-8", NO_COLOR="1")
        self.process = subprocess.Popen(["bash", "--norc", "-O", "expand_aliases"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, encoding="utf-8", bufsize=1)

    def run(self, command):
        """The output and the status of a command; status None: the shell has ended."""
        self.process.stdin.write(f"{command}\nprintf '\\n%s %s\\n' {END} $?\n")
        self.process.stdin.flush()
        printed = ""
        for line in self.process.stdout:
            if line.startswith(END):
                printed = printed[:-1]  # the line feed before the end
                return printed if printed.endswith("\n") or not printed else printed + "\n", int(line.split()[1])
            printed += line
        return printed, None


def run_block(shell, block, prefix):
    for command, expected in block.steps():
        printed, status = shell.run(command)
        if status is None or (status != 0 and block.language == "sh") or (status != 0 and expected is None):
            print(f"{block}: failed ({status}):\n{command}\n{printed}")
            return False
        if expected is not None and not matches(printed, expected, prefix, block.language != "sh"):
            print(f"{block}: $ {command}\nprints:\n{printed}instead of:\n" + "\n".join(expected))
            return False
    print(f"{block}: ok", flush=True)
    return True


def run_page(page, options, path):
    shell = Shell(path)
    done = True
    for block in blocks_of(page):
        if not (block.runs or block.file) or (block.mark == "run: service" and not options.service):
            continue
        if not run_block(shell, block, options.prefix):
            done = False
            break
    shell.process.stdin.close()
    shell.process.kill()
    return done


def run(options, path):
    failed = skipped = 0
    for page in options.files:
        missing = lacking(page)
        if missing:
            print(f"skipped: {page}: needs {' '.join(missing)}")
            skipped += 1
        elif not run_page(page, options, path):
            failed += 1
    if failed or (skipped and options.all):
        return 1
    return SKIPPED if skipped == len(options.files) else 0


def cover():
    """In a mount namespace of our own: what is written goes to memory."""
    place = tempfile.mkdtemp(prefix="fdb-docs.", dir="/tmp")
    mount = ["mount", "-t"]
    subprocess.run([*mount, "tmpfs", "tmpfs", place], check=True)
    for directory in COVERED:
        upper, work = (f"{place}{directory}/{name}" for name in ("upper", "work"))
        os.makedirs(upper)
        os.makedirs(work)
        # /run may hold mounts that an overlay's lower layer cannot; an empty one serves as well.
        if directory == "/run":
            subprocess.run([*mount, "tmpfs", "-o", "mode=0755", "tmpfs", directory], check=True)
            continue
        options = f"lowerdir={directory},upperdir={upper},workdir={work}"
        subprocess.run([*mount, "overlay", "-o", options, "overlay", directory], check=True)


def add_unprefixed(prefix, place):
    """Scripts with the names that the pages use; a block may install the programs only later."""
    for name in PROGRAMS:
        script = pathlib.Path(place) / name
        script.write_text(f'#!/bin/sh\nexec {prefix}{name} "$@"\n')
        script.chmod(0o755)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["check", "run", "run-covered"])
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("--prefix", default="")
    parser.add_argument("--service", action="store_true")
    parser.add_argument("--sandbox", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    if options.mode == "check":
        return check(options.files)
    if os.geteuid() != 0:
        print("skipped: docs: the blocks need root")
        return SKIPPED
    if options.sandbox:
        paths = [word for directory in options.path for word in ("--path", os.path.abspath(directory))]
        files = [os.path.abspath(file) for file in options.files]
        paths += ["--prefix", options.prefix]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return subprocess.run([*unshare, sys.executable, __file__, "run-covered", *paths, *files], check=False).returncode
    if options.mode == "run-covered":
        try:
            cover()
        except subprocess.CalledProcessError:
            print("skipped: docs: no overlay can be mounted here")
            return SKIPPED
    path = [os.path.abspath(directory) for directory in options.path]
    # sudo(8) looks for programs in other directories (secure_path).
    if options.prefix and options.service:
        add_unprefixed(options.prefix, "/usr/local/bin")
    elif options.prefix:
        path.insert(0, tempfile.mkdtemp(prefix="fdb-names.", dir="/tmp"))
        os.chmod(path[0], 0o755)
        add_unprefixed(options.prefix, path[0])
    return run(options, path)


if __name__ == "__main__":
    sys.exit(main())
