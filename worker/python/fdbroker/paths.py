# SPDX-License-Identifier: MIT
"""Paths as open(2) takes them, made into those that the broker takes. By their text alone; nothing is looked up."""

from __future__ import annotations

import errno
import os
from typing import Optional

from .payload import StrPath
from .protocol import MAX_ENTRY_NAME, MAX_PATH


def _error(number: int, path: StrPath, reason: str) -> OSError:
    error = OSError(number, f"{os.strerror(number)}: {reason}", path)
    error.reason, error.step, error.record = f"client: {reason}", "client", 0  # type: ignore[attr-defined]
    return error


def canonical(path: StrPath, base: Optional[bytes] = None) -> tuple[bytes, bool]:
    """The path without ".", "..", empty names and a trailing slash, from `base` on; and whether it is written as only that
    of a directory may be. A ".." takes away the name before it: where that is a symbolic link, open(2) leads elsewhere."""
    text = os.fsencode(path)
    if b"\0" in text:
        raise ValueError("embedded null byte")
    if not text:
        raise _error(errno.ENOENT, path, "the path is empty")
    names = text.split(b"/")
    if len(text) > MAX_PATH or max(map(len, names)) > MAX_ENTRY_NAME:
        raise _error(errno.ENAMETOOLONG, path, "the path or a name in it is too long")
    if names[0] == b"" and len(names) > 1 and not {b"", b".", b".."}.intersection(names[1:]):
        return text, False
    if names[0] != b"" and base is None:
        raise _error(errno.ENOENT, path, "the path is relative, and the connection has no directory")
    made = [] if names[0] == b"" or base is None else [name for name in base.split(b"/") if name]
    for name in names:
        if name == b"..":
            del made[-1:]
        elif name not in (b"", b"."):
            made.append(name)
    whole = b"/" + b"/".join(made)
    if len(whole) > MAX_PATH:
        raise _error(errno.ENAMETOOLONG, path, "the path is too long")
    return whole, names[-1] in (b"", b".", b"..") and text != b"/"


def normalize(base: Optional[StrPath], path: StrPath) -> str:
    """The path as the broker is asked for it; a relative one begins in `base`, an absolute path."""
    start = None if base is None else canonical(base)[0]
    return os.fsdecode(canonical(path, start)[0])


def not_a_directory(path: StrPath) -> OSError:
    return _error(errno.ENOTDIR, path, "it is no directory")


def refused(number: int, path: StrPath, reason: str) -> OSError:
    return _error(number, path, reason)
