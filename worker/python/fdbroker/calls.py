# SPDX-License-Identifier: MIT
"""The calls, once for programs that wait and for those with asyncio."""

from __future__ import annotations

import builtins
import codecs
import errno
import os
import struct
from typing import Any, Callable, Optional

from .connection import Answer, Ask, failure
from .payload import Status, StrPath, attribute_name, path_payload, read_page, times_payload
from .protocol import (COMMIT, DISCARD, LIST, MKDIR, NUMBER, OPEN, PUT, READLINK, REMOVE, RENAME, SETATTR, STAT, SYMLINK,
                       XATTR_LIST, XATTR_READ, XATTR_REMOVE, XATTR_WRITE, ProtocolError)


class Calls:
    """What to ask for each call; _ask() of the classes below asks, and applies `then` to the answer."""

    def _ask(self, ask: Ask, then: Any) -> Any:
        raise NotImplementedError

    def open_fd(self, path: StrPath, flags: int, mode: int = 0o666) -> Any:
        """open(2): a descriptor, close-on-exec, which is the caller's."""
        return self._ask(Ask(OPEN, path, flags, mode), Answer.take)

    def stat(self, path: StrPath, *, follow_symlinks: bool = True) -> Any:
        flags = 0 if follow_symlinks else 0x100  # AT_SYMLINK_NOFOLLOW
        return self._ask(Ask(STAT, path, flags), lambda answer: Status.read(answer.reply.payload))

    def lstat(self, path: StrPath) -> Any:
        return self.stat(path, follow_symlinks=False)

    def readlink(self, path: StrPath) -> Any:
        return self._ask(Ask(READLINK, path), lambda answer: os.fsdecode(answer.reply.payload))

    def mkdir(self, path: StrPath, mode: int = 0o777) -> Any:
        return self._ask(Ask(MKDIR, path, 0, mode), nothing)

    def unlink(self, path: StrPath) -> Any:
        return self._ask(Ask(REMOVE, path), nothing)

    def rmdir(self, path: StrPath) -> Any:
        return self._ask(Ask(REMOVE, path, 0x200), nothing)  # AT_REMOVEDIR

    def rename(self, path: StrPath, new_path: StrPath, *, replace: bool = True) -> Any:
        return self._ask(Ask(RENAME, path, 0 if replace else 1, 0, path_payload(new_path)), nothing)

    def symlink(self, target: StrPath, path: StrPath) -> Any:
        return self._ask(Ask(SYMLINK, path, 0, 0, path_payload(target)), nothing)

    def chmod(self, path: StrPath, mode: int) -> Any:
        return self._ask(Ask(SETATTR, path, 1, mode), nothing)

    def utime(self, path: StrPath, *, ns: Optional[tuple[int, int]] = None) -> Any:
        """Access and modification in nanoseconds; None: now."""
        return self._ask(Ask(SETATTR, path, 2, 0, times_payload(ns)), nothing)

    def getxattr(self, path: StrPath, name: str) -> Any:
        return self._ask(Ask(XATTR_READ, path, 0, 0, attribute_name(name)), lambda answer: answer.reply.payload)

    def listxattr(self, path: StrPath) -> Any:
        def names(answer: Answer) -> list[str]:
            return [os.fsdecode(name) for name in answer.reply.payload.split(b"\0")[:-1]]

        return self._ask(Ask(XATTR_LIST, path), names)

    def setxattr(self, path: StrPath, name: str, value: bytes, flags: int = 0) -> Any:
        return self._ask(Ask(XATTR_WRITE, path, flags, 0, attribute_name(name) + value), nothing)

    def removexattr(self, path: StrPath, name: str) -> Any:
        return self._ask(Ask(XATTR_REMOVE, path, 0, 0, attribute_name(name)), nothing)

    def _page(self, path: StrPath, cursor: int) -> Any:
        return self._ask(Ask(LIST, path, 0, 0, NUMBER.pack(cursor)), lambda answer: read_page(answer.reply.payload, cursor))

    def _put(self, path: StrPath, mode: int) -> Any:
        def number_and_file(answer: Answer) -> tuple[int, int]:
            return int(NUMBER.unpack(answer.reply.payload)[0]), answer.take()

        return self._ask(Ask(PUT, path, 0, mode), number_and_file)

    def _commit(self, path: StrPath, number: int, flags: int) -> Any:
        return self._ask(Ask(COMMIT, path, flags, 0, NUMBER.pack(number)), nothing)

    def _discard(self, path: StrPath, number: int) -> Any:
        return self._ask(Ask(DISCARD, path, 0, 0, NUMBER.pack(number)), nothing)


def nothing(_: Answer) -> None:
    return None


def apply(ask: Ask, answer: Answer, then: Any, fail: Callable[[OSError], None]) -> Any:
    """What the answer comes to. One that is none ends the connection: `fail` does."""
    try:
        return then(answer.result(ask))
    except (ProtocolError, struct.error) as error:
        broken = failure(errno.EPROTO, str(error))
        fail(broken)
        raise broken from None
    finally:
        answer.close()


def flags_of(path: StrPath, mode: str, buffering: int, encoding: Optional[str], errors: Optional[str],
             newline: Optional[str]) -> int:
    """What builtins.open() would ask open(2) for; that is known to it alone. What it raises for wrong arguments."""
    wanted: list[int] = []

    def note_flags(_: Any, flags: int) -> int:
        wanted.append(flags)
        return -1

    try:
        builtins.open(os.fspath(path), mode, buffering, encoding, errors, newline, opener=note_flags)
    except (OSError, ValueError):
        if not wanted:
            raise
    return wanted[0]


def check_put(path: StrPath, mode: str, encoding: Optional[str], errors: Optional[str], newline: Optional[str]) -> None:
    """Before the broker makes anything, and before there is a descriptor to lose."""
    if mode not in ("w", "wt", "wb"):
        raise ValueError(f"a put is written from its beginning: {mode!r}")
    if encoding is not None:
        codecs.lookup(encoding)
    if errors is not None:
        codecs.lookup_error(errors)
    flags_of(path, mode, -1, encoding, errors, newline)
    if newline not in (None, "", "\n", "\r", "\r\n"):
        raise ValueError(f"illegal newline value: {newline!r}")
