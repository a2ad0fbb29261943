# SPDX-License-Identifier: MIT
"""The messages of the wire protocol, version 1, and their codec: pure. proto/PROTOCOL.md draws the bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Iterable

VERSION = 1
MAX_MESSAGE = 65536
MAX_REQUESTS = 253  # SCM_MAX_FD
MAX_PATH = 4095
MAX_ATTRIBUTE_NAME = 255
MAX_ENTRY_NAME = 255  # NAME_MAX
MAX_REASON = 200
MAX_ERRNO = 4095
UNKNOWN_CPU = 0xFFFF

HELLO, HELLO_REPLY, REQUESTS, REPLIES, END = range(1, 6)
(OPEN, STAT, LIST, READLINK, MKDIR, REMOVE, RENAME, SYMLINK, SETATTR, XATTR_READ, XATTR_LIST, XATTR_WRITE,
 XATTR_REMOVE, PUT, COMMIT, DISCARD, WATCH) = range(17)
STEPS = ("none", "parse", "decide", "resolve", "inspect", "deliver", "record")

_HEADER = struct.Struct("<BBHHH")
_HELLO_REPLY = struct.Struct("<BBHIQ")
_REQUEST = struct.Struct("<IHHIII")
_REPLY = struct.Struct("<IiBBHIQ")
_END = struct.Struct("<iHH")
NUMBER = struct.Struct("<Q")
UTIME_NOW, UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
TIME = struct.Struct("<qII")
ENTRY = struct.Struct("<QBB")
ERROR = struct.Struct("<I")
LIST_WITH_STATUS = 1
SETATTR_MODE, SETATTR_TIMES, SETATTR_LINK = 1, 2, 4
STATUS = struct.Struct("<IIQIIIHHQQQQ16s16s16s16sIIII")

HEADER_SIZE = _HEADER.size
AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR = 0x100, 0x200


class ProtocolError(ValueError):
    """Bytes that are no message of the protocol."""


@dataclass(frozen=True)
class Request:
    id: int
    call: int
    path: bytes
    flags: int = 0
    mode: int = 0
    payload: bytes = b""


@dataclass(frozen=True)
class Reply:
    id: int
    status: int = 0
    descriptor: bool = False
    step: int = 0
    record: int = 0
    reason: str = ""
    payload: bytes = b""


@dataclass(frozen=True)
class HelloReply:
    oldest_version: int
    newest_version: int
    max_requests: int
    max_message: int
    calls: int


def pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _header(kind: int, count: int = 0, flags: int = 0, cpu: int = UNKNOWN_CPU) -> bytes:
    return _HEADER.pack(VERSION, kind, count, flags, cpu)


def write_hello() -> bytes:
    return _header(HELLO)


def write_hello_reply(reply: HelloReply) -> bytes:
    return _header(HELLO_REPLY) + _HELLO_REPLY.pack(
        reply.oldest_version, reply.newest_version, reply.max_requests, reply.max_message, reply.calls)


def write_request(request: Request) -> bytes:
    fixed = _REQUEST.pack(request.id, request.call, len(request.path), request.flags, request.mode,
                          len(request.payload))
    return fixed + pad(request.path + b"\0") + pad(request.payload)


def write_requests(requests: Iterable[Request], all_or_nothing: bool = False, cpu: int = UNKNOWN_CPU) -> bytes:
    entries = [write_request(request) for request in requests]
    return _header(REQUESTS, len(entries), int(all_or_nothing), cpu) + b"".join(entries)


def write_replies(replies: Iterable[Reply]) -> bytes:
    entries = []
    for reply in replies:
        reason = reply.reason.encode()
        fixed = _REPLY.pack(reply.id, reply.status, int(reply.descriptor), reply.step, len(reason),
                            len(reply.payload), reply.record)
        entries.append(fixed + pad(reason) + pad(reply.payload))
    return _header(REPLIES, len(entries)) + b"".join(entries)


def write_end(number: int, reason: str) -> bytes:
    text = reason.encode()
    return _header(END) + _END.pack(number, len(text), 0) + pad(text)


class _Reader:
    """Takes a message apart, piece by piece; whatever is not as described is a ProtocolError."""

    def __init__(self, message: bytes, kind: int) -> None:
        if not _HEADER.size <= len(message) <= MAX_MESSAGE:
            raise ProtocolError("the size of the message")
        self.message = message
        self.at = _HEADER.size
        version, got, self.count, self.flags, self.cpu = _HEADER.unpack_from(message)
        has_entries = kind in (REQUESTS, REPLIES)
        self.require(version == VERSION, "another protocol version")
        self.require(got == kind, "the type of the message")
        self.require(1 <= self.count <= MAX_REQUESTS if has_entries else self.count == 0, "the number of entries")
        self.require(self.flags & ~int(kind == REQUESTS) == 0, "the flags")
        self.require(kind == REQUESTS or self.cpu == UNKNOWN_CPU, "the CPU")

    @staticmethod
    def require(condition: bool, what: str) -> None:
        if not condition:
            raise ProtocolError(what)

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.piece(layout.size))

    def piece(self, size: int) -> bytes:
        self.require(self.at + size <= len(self.message), "the message is too short")
        self.at += size
        return self.message[self.at - size : self.at]

    def padded(self, size: int, nul: bool = False) -> bytes:
        data = self.piece(size)
        end = size + int(nul)
        self.require(not self.piece(int(nul) + -end % 4).strip(b"\0"), "padding that is not zero")
        return data

    def reason(self, size: int) -> str:
        self.require(size <= MAX_REASON, "the length of the reason")
        text = self.padded(size)
        self.require(all(byte >= 0x20 and byte != 0x7F for byte in text), "the characters of the reason")
        return text.decode(errors="replace")

    def end(self) -> None:
        self.require(self.at == len(self.message), "the message is too long")


def read_hello(message: bytes) -> None:
    _Reader(message, HELLO).end()


def read_hello_reply(message: bytes) -> HelloReply:
    reader = _Reader(message, HELLO_REPLY)
    reply = HelloReply(*reader.take(_HELLO_REPLY))
    reader.end()
    reader.require(1 <= reply.oldest_version <= VERSION <= reply.newest_version, "the versions")
    reader.require(1 <= reply.max_requests <= MAX_REQUESTS, "the most requests")
    reader.require(_HEADER.size + _REQUEST.size + MAX_PATH + 1 <= reply.max_message <= MAX_MESSAGE, "the longest message")
    return reply


def _fits_call(call: int, payload: bytes) -> bool:
    """Is this a payload for a request of this call?"""
    is_text = payload[-1:] == b"\0"
    if call in (LIST, COMMIT, DISCARD):
        return len(payload) == NUMBER.size
    if call in (RENAME, SYMLINK):
        return is_text and len(payload) <= MAX_PATH + 1
    if call in (XATTR_READ, XATTR_REMOVE):
        return is_text and 2 <= len(payload) <= 256 and payload.count(b"\0") == 1
    if call == XATTR_WRITE:
        return 1 <= payload.find(b"\0") <= 255
    if call == SETATTR:
        return not payload or (len(payload) == 2 * TIME.size and all(map(_is_time, TIME.iter_unpack(payload))))
    return not payload


def _is_time(fields: tuple[int, ...]) -> bool:
    _, nanoseconds, reserved = fields
    return reserved == 0 and (nanoseconds < 10**9 or nanoseconds in (UTIME_NOW, UTIME_OMIT))


def read_requests(message: bytes) -> tuple[list[Request], bool, int]:
    """The requests, whether all must succeed, and the CPU that sent them."""
    reader = _Reader(message, REQUESTS)
    requests: list[Request] = []
    for _ in range(reader.count):
        number, call, path_size, flags, mode, payload_size = reader.take(_REQUEST)
        reader.require(call <= WATCH and path_size <= MAX_PATH, "a field outside its range")
        path = reader.padded(path_size, nul=True)
        payload = reader.padded(payload_size)
        reader.require(_fits_call(call, payload), "a payload that is not the call's")
        reader.require(not requests or number > requests[-1].id, "ids that do not increase")
        requests.append(Request(number, call, path, flags, mode, payload))
    reader.end()
    return requests, bool(reader.flags), reader.cpu


def read_replies(message: bytes) -> list[Reply]:
    reader = _Reader(message, REPLIES)
    replies = []
    for _ in range(reader.count):
        number, status, flags, step, reason_size, payload_size, record = reader.take(_REPLY)
        refused = status != 0
        reader.require(0 <= status <= MAX_ERRNO and flags <= 1 and step < len(STEPS), "a field outside its range")
        reader.require(bool(step) == refused, "the step")
        reader.require(not (refused and (flags or payload_size)), "a refusal that brings something")
        reader.require(refused or not reason_size, "a reason without a refusal")
        reason = reader.reason(reason_size)
        replies.append(Reply(number, status, bool(flags), step, record, reason, reader.padded(payload_size)))
    reader.end()
    return replies


def read_end(message: bytes) -> tuple[int, str]:
    reader = _Reader(message, END)
    number, size, reserved = reader.take(_END)
    reader.require(1 <= number <= MAX_ERRNO and reserved == 0, "a field outside its range")
    reason = reader.reason(size)
    reader.end()
    return number, reason
