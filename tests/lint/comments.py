#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Comments and titles of tests name their subject: comments.py SOURCE-ROOT

Lines of comments end within COLUMNS. Texts neither begin with a word of BEGINNINGS nor hold a phrase of PHRASES.
Sentences have at most WORDS words. CONTRIBUTING.md, "House style", has the rule in words.
"""

import ast
import io
import pathlib
import re
import sys
import tokenize

COLUMNS = 128
WORDS = 25
BEGINNINGS = {"what", "who", "whom", "whose", "one", "it", "its", "of", "to"}
PHRASES = ("of its", "the same goes for")
FOLDERS = ("opener", "worker", "proto", "policy", "tests", "docs", "packaging", ".ci")
CPP = {".cpp", ".hpp", ".h", ".c"}
SHELL = {".sh", ".map", ".build"}

# Strings and characters come first, so that a "//" within one is no comment.
CPP_TOKEN = re.compile(r'R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//[^\n]*|/\*.*?\*/', re.DOTALL)
TITLE = re.compile(r'\b(?:TEST_CASE|SUBCASE|TEST_CASE_FIXTURE|TEST_CASE_TEMPLATE)\((?:\w+, )?"((?:[^"\\]|\\.)*)"')
# A diagram, a table, a list of columns or code is no prose.
DRAWN = re.compile(r"\s{3}\S|[│─►◄└├]|^\s*[|+]|[{}]\s*$|^\s*-{3,}")
BULLET = re.compile(r"\s*[-*] ")
# The dot of an abbreviation or of a name ends no sentence, nor does one before a small letter.
SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!etc)(?<! cf)[.?!:][)\"'”]*\s+(?=\S)")


def cpp_comments(text):
    """Pairs of line number and comment; successive `//` lines in one column are one comment."""
    block, start, last, column = [], 0, -1, -1
    for match in CPP_TOKEN.finditer(text):
        token = match.group()
        if not token.startswith(("//", "/*")):
            continue
        line = text.count("\n", 0, match.start()) + 1
        here = match.start() - text.rfind("\n", 0, match.start())
        if token.startswith("//"):
            alone = not text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip()
            if block and line == last + 1 and here == column and alone:
                block.append(token[2:])
            else:
                if block:
                    yield start, block
                block, start, column = [token[2:]], line, here
            last = line
        else:
            yield line, [re.sub(r"^\s*\*(?!/) ?", "", part) for part in token[2:-2].split("\n")]
    if block:
        yield start, block


def hash_comments(lines):
    """The same of lines that begin with `#`."""
    block, start = [], 0
    for number, line in enumerate(lines, 1):
        match = re.match(r"\s*#(?!!)(.*)", line)
        if match and "SPDX-License-Identifier" not in line:
            start = start if block else number
            block.append(match.group(1))
        elif block:
            yield start, block
            block = []
    if block:
        yield start, block


def python_texts(text):
    block, start, last = [], 0, -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or token.string.startswith("#!") or "SPDX-License-Identifier" in token.string:
            continue
        if block and token.start[0] == last + 1:
            block.append(token.string[1:])
        else:
            if block:
                yield start, block
            block, start = [token.string[1:]], token.start[0]
        last = token.start[0]
    if block:
        yield start, block
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.body and isinstance(node.body[0], ast.Expr) and ast.get_docstring(node):
                yield node.body[0].lineno, ast.get_docstring(node).split("\n")


def paragraphs(lines):
    """Pairs of offset and text; drawings are left out, and a bullet begins a paragraph."""
    text, start = [], 0
    for offset, line in enumerate([*lines, ""]):
        plain = line.strip()
        ends = not plain or DRAWN.search(line.rstrip()) or BULLET.match(line)
        if ends and text:
            yield start, " ".join(text)
            text = []
        if plain and not DRAWN.search(line.rstrip()):
            start = start if text else offset
            text.append(BULLET.sub("", line).strip())


def faults(text):
    """The faults of a piece of prose."""
    words = re.findall(r"[\w'’-]+", text)
    if not words or "clang-format" in text or "NOLINT" in text or "SPDX-License-Identifier" in text:
        return
    if words[0].lower() in BEGINNINGS and not text.startswith(("`", '"')):
        yield f'begins with "{words[0]}": name the subject'
    for phrase in PHRASES:
        if re.search(rf"\b{phrase}\b", text):
            yield f'"{phrase}": say of what'
    for sentence in SENTENCE_END.split(text):
        count = len(re.findall(r"\S*\w\S*", sentence))
        if count > WORDS:
            yield f"{count} words in a sentence, {WORDS} at most: {sentence[:60]}"


def texts(path, text):
    if path.suffix in CPP:
        yield from cpp_comments(text)
        for match in TITLE.finditer(text):
            title = match.group(1)
            yield text.count("\n", 0, match.start()) + 1, [title.split(": ", 1)[-1]]
    elif path.suffix == ".py":
        yield from python_texts(text)
    else:
        yield from hash_comments(text.split("\n"))


def violations(root):
    files = [root / "bootstrap", root / "meson.build", root / "meson_options.txt"]
    for folder in FOLDERS:
        files += sorted(path for path in (root / folder).rglob("*") if path.suffix in CPP | SHELL | {".py"})
    for path in files:
        if not path.is_file() or "tests/data" in path.as_posix():
            continue
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(root)
        for number, lines in texts(path, text):
            for offset, paragraph in paragraphs(lines):
                for fault in faults(paragraph):
                    yield f"{name}:{number + offset}: {fault}"
        if path.suffix in CPP | SHELL | {".py"}:
            for number, line in enumerate(text.split("\n"), 1):
                if len(line) > COLUMNS and re.match(r"\s*(//|/\*|\*|#)", line):
                    yield f"{name}:{number}: {len(line)} columns, {COLUMNS} at most"


def main(root):
    found = list(violations(pathlib.Path(root)))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
