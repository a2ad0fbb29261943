# SPDX-License-Identifier: MIT
"""The calls, once for programs that wait and for those with asyncio."""

from __future__ import annotations

import builtins
import codecs
import errno
import os
import stat as stat_module
import struct
from typing import Any, Callable, Optional

from .connection import Answer, Ask, Channel, failure
from .paths import canonical, refused
from .payload import StrPath, attribute_name, path_payload, read_page, read_status, times_payload
from .protocol import (AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, COMMIT, DISCARD, LIST, LIST_WITH_STATUS, MKDIR, NUMBER, OPEN, PUT,
                       READLINK, REMOVE, RENAME, SETATTR, SETATTR_LINK, SETATTR_MODE, SETATTR_TIMES, STAT, SYMLINK,
                       WATCH, XATTR_LIST, XATTR_READ, XATTR_REMOVE, XATTR_WRITE, ProtocolError)


class Calls:
    """The request of each call; _ask() of the classes below sends it, and applies `then` to the answer."""

    _channel: Channel

    def _ask(self, ask: Ask, then: Any) -> Any:
        raise NotImplementedError

    def _directory(self) -> Optional[bytes]:
        return self._channel.directory

    def set_directory(self, base: Optional[StrPath]) -> None:
        """Relative paths begin there from now on, as after os.chdir(). It is not looked for. None: there is none."""
        self._channel.directory = None if base is None else canonical(base, self._channel.directory)[0]

    def open_fd(self, path: StrPath, flags: int, mode: int = 0o666) -> Any:
        """open(2): a descriptor, close-on-exec, which is the caller's."""
        return self._ask(Ask(OPEN, path, flags, mode), Answer.take)

    def watch_fd(self, path: StrPath, mask: int) -> Any:
        """A descriptor, which is the caller's: each byte read from it holds changes, WATCH_* together."""
        return self._ask(Ask(WATCH, path, mask), Answer.take)

    def stat(self, path: StrPath, *, follow_symlinks: bool = True) -> Any:
        def status(answer: Answer) -> os.stat_result:
            told = read_status(answer.reply.payload)
            if canonical(path, b"/")[1] and not stat_module.S_ISDIR(told.st_mode):
                raise refused(errno.ENOTDIR, path, "it is no directory")
            return told

        return self._ask(Ask(STAT, path, 0 if follow_symlinks else AT_SYMLINK_NOFOLLOW), status)

    def lstat(self, path: StrPath) -> Any:
        return self.stat(path, follow_symlinks=False)

    def readlink(self, path: StrPath) -> Any:
        return self._ask(Ask(READLINK, path), lambda answer: os.fsdecode(answer.reply.payload))

    def mkdir(self, path: StrPath, mode: int = 0o777) -> Any:
        return self._ask(Ask(MKDIR, path, 0, mode), nothing)

    def unlink(self, path: StrPath) -> Any:
        return self._ask(Ask(REMOVE, path), nothing)

    def rmdir(self, path: StrPath) -> Any:
        return self._ask(Ask(REMOVE, path, AT_REMOVEDIR), nothing)

    def rename(self, path: StrPath, new_path: StrPath, *, replace: bool = True) -> Any:
        target, _ = canonical(new_path, self._directory())
        return self._ask(Ask(RENAME, path, 0 if replace else 1, 0, path_payload(target)), nothing)

    def replace(self, path: StrPath, new_path: StrPath) -> Any:
        return self.rename(path, new_path)

    def symlink(self, target: StrPath, path: StrPath) -> Any:
        return self._ask(Ask(SYMLINK, path, 0, 0, path_payload(target)), nothing)

    def chmod(self, path: StrPath, mode: int) -> Any:
        return self._ask(Ask(SETATTR, path, SETATTR_MODE, mode), nothing)

    def utime(
        self, path: StrPath, *, ns: Optional[tuple[int, int]] = None, follow_symlinks: bool = True
    ) -> Any:
        """Access and modification in nanoseconds; None: now."""
        flags = SETATTR_TIMES | (0 if follow_symlinks else SETATTR_LINK)
        return self._ask(Ask(SETATTR, path, flags, 0, times_payload(ns)), nothing)

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

    def _page(self, path: StrPath, cursor: int, status: bool = False) -> Any:
        return self._ask(Ask(LIST, path, LIST_WITH_STATUS if status else 0, 0, NUMBER.pack(cursor)),
                         lambda answer: read_page(answer.reply.payload, cursor, status))

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
    """The result that an answer stands for. A malformed answer ends the connection: `fail` does."""
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
    """The flags that builtins.open() gives open(2), which only it knows. Wrong arguments raise as there."""
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
