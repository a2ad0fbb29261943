# SPDX-License-Identifier: MIT
"""What requests and answers carry besides their fixed fields."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import Optional, Union

from .protocol import ENTRY, MAX_ATTRIBUTE_NAME, MAX_PATH, NUMBER, STATUS, TIME, UTIME_NOW, ProtocolError

StrPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


@dataclass(frozen=True)
class Status:
    """What stat(2) tells, by the names of os.stat_result; times in nanoseconds too."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_size: int
    st_blksize: int
    st_blocks: int
    st_rdev: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int
    st_birthtime_ns: Optional[int]

    st_atime = property(lambda self: self.st_atime_ns / 1e9)
    st_mtime = property(lambda self: self.st_mtime_ns / 1e9)
    st_ctime = property(lambda self: self.st_ctime_ns / 1e9)

    @staticmethod
    def read(payload: bytes) -> Status:
        if len(payload) != STATUS.size:
            raise ProtocolError("the status of a file")
        (mask, block_size, _attributes, links, uid, gid, mode, _reserved, inode, size, blocks, _known, access, birth,
         change, modification, rdev_major, rdev_minor, dev_major, dev_minor) = STATUS.unpack(payload)

        def nanoseconds(raw: bytes) -> int:
            seconds, rest, _ = TIME.unpack(raw)
            return int(seconds) * 10**9 + int(rest)

        has_birth = mask & 0x800  # STATX_BTIME
        return Status(mode, inode, os.makedev(dev_major, dev_minor), links, uid, gid, size, block_size, blocks,
                      os.makedev(rdev_major, rdev_minor), nanoseconds(access), nanoseconds(modification),
                      nanoseconds(change), nanoseconds(birth) if has_birth else None)


@dataclass(frozen=True)
class Entry:
    """A name in a directory. `type` is DT_* of readdir(3): 4 a directory, 8 a regular file, 10 a symbolic link."""

    name: str
    inode: int
    type: int

    def is_dir(self) -> bool:
        return self.type == 4

    def is_file(self) -> bool:
        return self.type == 8

    def is_symlink(self) -> bool:
        return self.type == 10


def read_page(payload: bytes, asked: int) -> tuple[int, list[Entry]]:
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
            entries.append(Entry(os.fsdecode(name), inode, kind))
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
