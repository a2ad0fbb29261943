#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The shell blocks of README and guides do what the page says.

    blocks.py check FILE...                       each shell block is marked: by `<!-- run -->`, or with a reason why not
    blocks.py run [--path DIR]... [--prefix PREFIX] [--sandbox] FILE...

A block is ```sh (commands that succeed) or ```console (`$ command`, then what it prints). The line before it is
`<!-- run -->` or `<!-- not run: REASON -->`. A yaml block after `<!-- file: /absolute/name -->` becomes that file.

`run` feeds the blocks of a file, top to bottom, to one bash as root. In printed lines `…` stands for any text, and a line
of `…` alone for any lines. --path puts a directory in front of PATH. --prefix: the programs are installed as PREFIXopener
and so on (-Dprogram_prefix). --sandbox runs in mount and process namespaces of
their own, with a throw-away copy over /etc, /run, /srv, /var and /home: nothing outside changes, and whatever a block has left
running ends.
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
MARK = re.compile(r"^<!--\s*(run|not run:\s*\S.*|file:\s*/\S+)\s*-->\s*$")
COVERED = ("/etc", "/run", "/srv", "/var", "/home")
END = "fdbroker-end-of-command"


class Block:
    def __init__(self, file, line, language, mark, text):
        self.file, self.line, self.language, self.mark, self.text = file, line, language, mark, text

    def __str__(self):
        return f"{self.file}:{self.line}"

    @property
    def runs(self):
        return self.mark == "run"

    def steps(self):
        """Pairs of a command and the lines that it prints; None: any."""
        if self.language == "sh":
            return [("set -e\n" + "\n".join(self.text) + "\nset +e", None)]
        steps = []
        for line in self.text:
            if line.startswith("$ "):
                steps.append([line[2:], []])
            elif line.startswith("> ") and steps and not steps[-1][1]:
                steps[-1][0] += "\n" + line[2:]
            elif steps:
                steps[-1][1].append(line)
        return [tuple(step) for step in steps]


def blocks_of(file):
    lines = pathlib.Path(file).read_text(encoding="utf-8").splitlines()
    blocks, fence, mark = [], None, None
    for number, line in enumerate(lines, 1):
        found = FENCE.match(line.strip())
        if fence is None and found:
            indent = len(line) - len(line.lstrip())
            fence, start, language, text = found.group(1), number, found.group(2), []
        elif fence is not None and line.strip() == fence:
            blocks.append(Block(file, start, language, mark, text))
            fence = mark = None
        elif fence is not None:
            text.append(line[indent:])
        elif line.strip():
            marked = MARK.match(line.strip())
            mark = marked.group(1) if marked else None
    return blocks


def check(files):
    failed = False
    for file in files:
        for block in blocks_of(file):
            if block.language in SHELL and not (block.runs or (block.mark or "").startswith("not run:")):
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


class Shell:
    def __init__(self, path):
        environment = dict(os.environ, PATH=":".join([*path, os.environ["PATH"]]), LC_ALL="C.UTF-8", NO_COLOR="1")
        self.process = subprocess.Popen(["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=environment, encoding="utf-8", bufsize=1)

    def run(self, command):
        """What it prints, and its status; status None: the shell has ended."""
        self.process.stdin.write(f"{command}\nprintf '\\n%s %s\\n' {END} $?\n")
        self.process.stdin.flush()
        printed = ""
        for line in self.process.stdout:
            if line.startswith(END):
                printed = printed[:-1]  # the line feed before the end
                return printed if printed.endswith("\n") or not printed else printed + "\n", int(line.split()[1])
            printed += line
        return printed, None


def run_block(shell, block):
    for command, expected in block.steps():
        printed, status = shell.run(command)
        if expected is None and status != 0:
            print(f"{block}: failed ({status}):\n{command}\n{printed}")
            return False
        if expected is not None and not pattern_of(expected).fullmatch(printed):
            print(f"{block}: $ {command}\nprints:\n{printed}instead of:\n" + "\n".join(expected))
            return False
    print(f"{block}: ok")
    return True


def run(files, path):
    failed = False
    for file in files:
        shell = Shell(path)
        for block in blocks_of(file):
            if (block.mark or "").startswith("file:"):
                place = pathlib.Path(block.mark.split(None, 1)[1].strip())
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text("\n".join(block.text) + "\n", encoding="utf-8")
            if block.runs and not run_block(shell, block):
                failed = True
                break
        shell.process.stdin.close()
        shell.process.kill()
    return 1 if failed else 0


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


def unprefixed(prefix):
    """A directory in which the programs have the names that the pages call them."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="fdb-names.", dir="/tmp"))
    place.chmod(0o755)
    for name in PROGRAMS:
        installed = shutil.which(prefix + name)
        if installed:
            (place / name).symlink_to(installed)
    return str(place)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["check", "run", "run-covered"])
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("--prefix", default="")
    parser.add_argument("--sandbox", action="store_true")
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
    return run(options.files, [unprefixed(options.prefix), *path] if options.prefix else path)


if __name__ == "__main__":
    sys.exit(main())
