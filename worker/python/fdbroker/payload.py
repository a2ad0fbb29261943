# SPDX-License-Identifier: MIT
"""The payloads of requests and answers, which follow the fixed fields."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import Optional, Union

from .protocol import ENTRY, ERROR, MAX_ATTRIBUTE_NAME, MAX_PATH, NUMBER, STATUS, TIME, UTIME_NOW, ProtocolError

StrPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


Status = os.stat_result


def read_status(payload: bytes) -> os.stat_result:
    """The result of stat(2), as os.stat() returns it."""
    if len(payload) != STATUS.size:
        raise ProtocolError("the status of a file")
    (_mask, block_size, _attributes, links, uid, gid, mode, _reserved, inode, size, blocks, _known, access, _birth,
     change, modification, rdev_major, rdev_minor, dev_major, dev_minor) = STATUS.unpack(payload)
    times = []
    for raw in (access, modification, change):
        seconds, rest, _ = TIME.unpack(raw)
        times.append(int(seconds) * 10**9 + int(rest))
    more = {"st_blksize": block_size, "st_blocks": blocks, "st_rdev": os.makedev(rdev_major, rdev_minor)}
    for name, nanoseconds in zip(("st_atime", "st_mtime", "st_ctime"), times):
        more[name] = nanoseconds / 10**9
        more[name + "_ns"] = nanoseconds
    whole = [nanoseconds // 10**9 for nanoseconds in times]
    return os.stat_result((mode, inode, os.makedev(dev_major, dev_minor), links, uid, gid, size, *whole), more)


@dataclass(frozen=True)
class Entry:
    """A name in a directory. `type` is DT_* of readdir(3): 4 a directory, 8 a regular file, 10 a symbolic link."""

    name: str
    inode: int
    type: int
    status: Optional[os.stat_result] = None  # as lstat(); None: it was not asked for, or is not told

    def is_dir(self) -> bool:
        return self.type == 4

    def is_file(self) -> bool:
        return self.type == 8

    def is_symlink(self) -> bool:
        return self.type == 10


def read_page(payload: bytes, asked: int, with_status: bool = False) -> tuple[int, list[Entry]]:
    """The cursor of the next page (0: there is none) and the entries of this one, whose cursor was `asked`."""
    try:
        (cursor,) = NUMBER.unpack_from(payload)
        entries, at = [], NUMBER.size
        while at < len(payload):
            inode, kind, size = ENTRY.unpack_from(payload, at)
            name = payload[at + ENTRY.size : at + ENTRY.size + size]
            at += (ENTRY.size + size + 1 + 3) & ~3
            if len(name) != size or not name or b"/" in name or b"\0" in name or at > len(payload):
                raise ProtocolError("an entry of a directory")
            status = None
            if with_status:
                (error,) = ERROR.unpack_from(payload, at)
                at += ERROR.size
                if not error:
                    status = read_status(payload[at : at + STATUS.size])
                    at += STATUS.size
            entries.append(Entry(os.fsdecode(name), inode, kind, status))
    except struct.error:
        raise ProtocolError("a page of a directory") from None
    if cursor and cursor == asked:
        raise ProtocolError("a page of a directory that leads to itself")
    return cursor, entries


def _text(value: StrPath) -> bytes:
    text = os.fsencode(value)
    if b"\0" in text:
        raise ValueError("embedded null byte")
    return text


def path_payload(path: StrPath) -> bytes:
    """A second path, or what a link is to hold."""
    text = _text(path)
    if len(text) > MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    return text + b"\0"


def attribute_name(name: StrPath) -> bytes:
    text = _text(name)
    if not 1 <= len(text) <= MAX_ATTRIBUTE_NAME:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE), name)
    return text + b"\0"


def times_payload(ns: Optional[tuple[int, int]]) -> bytes:
    if ns is None:
        return TIME.pack(0, UTIME_NOW, 0) * 2
    return b"".join(TIME.pack(*divmod(one, 10**9), 0) for one in ns)
