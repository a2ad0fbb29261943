"""Files opened by fdbroker's privileged broker on behalf of a process that may not open them itself.

    import fdbroker

    with fdbroker.open("/srv/www/index.html") as file:
        print(file.read())

`open()` and `Broker.open()` return Python's ordinary file objects. What fails is an OSError of the usual kind
(PermissionError, FileNotFoundError, ...), whose `reason`, `step` and `record` tell why. This module needs nothing but
Python's own modules; it speaks the wire protocol itself (proto/PROTOCOL.md). Only confine() uses the C library.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import ctypes
import errno
import itertools
import os
import pathlib
import select
import socket
import stat as stat_module
import struct
import threading
import time
import weakref
from dataclasses import dataclass
from typing import IO, Any, AsyncIterator, Iterable, Iterator, Optional, Union

__all__ = [
    "AsyncBroker", "Broker", "BrokeredPath", "Entry", "Status", "confine", "connect", "open", "CONFINE_BEST_EFFORT",
    "CONFINE_DESCRIPTORS", "CONFINE_LIMITS", "CONFINE_NAMESPACES", "CONFINE_NO_SIGSYS",
]

DEFAULT_SOCKET = "/run/fdbroker/opener.sock"
StrPath = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

# ---- the wire protocol, version 1 ------------------------------------------------------------------------

VERSION = 1
MAX_MESSAGE = 65536
MAX_REQUESTS = 253  # SCM_MAX_FD
MAX_PATH = 4095
MAX_REASON = 200
MAX_ERRNO = 4095
UNKNOWN_CPU = 0xFFFF

HELLO, HELLO_REPLY, REQUESTS, REPLIES, END = range(1, 6)
(OPEN, STAT, LIST, READLINK, MKDIR, REMOVE, RENAME, SYMLINK, SETATTR, XATTR_READ, XATTR_LIST, XATTR_WRITE,
 XATTR_REMOVE, PUT, COMMIT, DISCARD) = range(16)
STEPS = ("none", "parse", "decide", "resolve", "inspect", "deliver", "record")

_HEADER = struct.Struct("<BBHHH")
_HELLO_REPLY = struct.Struct("<BBHIQ")
_REQUEST = struct.Struct("<IHHIII")
_REPLY = struct.Struct("<IiBBHIQ")
_END = struct.Struct("<iHH")
_NUMBER = struct.Struct("<Q")
_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
_TIME = struct.Struct("<qII")
_ENTRY = struct.Struct("<QBB")
_STATUS = struct.Struct("<IIQIIIHHQQQQ16s16s16s16sIIII")


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


def _pad(data: bytes) -> bytes:
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
    return fixed + _pad(request.path + b"\0") + _pad(request.payload)


def write_requests(requests: Iterable[Request], all_or_nothing: bool = False, cpu: int = UNKNOWN_CPU) -> bytes:
    entries = [write_request(request) for request in requests]
    return _header(REQUESTS, len(entries), int(all_or_nothing), cpu) + b"".join(entries)


def write_replies(replies: Iterable[Reply]) -> bytes:
    entries = []
    for reply in replies:
        reason = reply.reason.encode()
        fixed = _REPLY.pack(reply.id, reply.status, int(reply.descriptor), reply.step, len(reason),
                            len(reply.payload), reply.record)
        entries.append(fixed + _pad(reason) + _pad(reply.payload))
    return _header(REPLIES, len(entries)) + b"".join(entries)


def write_end(number: int, reason: str) -> bytes:
    text = reason.encode()
    return _header(END) + _END.pack(number, len(text), 0) + _pad(text)


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
        return layout.unpack(self.bytes(layout.size))

    def bytes(self, size: int) -> bytes:
        self.require(self.at + size <= len(self.message), "the message is too short")
        self.at += size
        return self.message[self.at - size : self.at]

    def padded(self, size: int, nul: bool = False) -> bytes:
        data = self.bytes(size)
        end = size + int(nul)
        self.require(not self.bytes(int(nul) + -end % 4).strip(b"\0"), "padding that is not zero")
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
        return len(payload) == _NUMBER.size
    if call in (RENAME, SYMLINK):
        return is_text and len(payload) <= MAX_PATH + 1
    if call in (XATTR_READ, XATTR_REMOVE):
        return is_text and 2 <= len(payload) <= 256 and payload.count(b"\0") == 1
    if call == XATTR_WRITE:
        return 1 <= payload.find(b"\0") <= 255
    if call == SETATTR:
        return not payload or (len(payload) == 2 * _TIME.size and all(map(_is_time, _TIME.iter_unpack(payload))))
    return not payload


def _is_time(fields: tuple[int, ...]) -> bool:
    _, nanoseconds, reserved = fields
    return reserved == 0 and (nanoseconds < 10**9 or nanoseconds in (_UTIME_NOW, _UTIME_OMIT))


def read_requests(message: bytes) -> tuple[list[Request], bool, int]:
    """The requests, whether all must succeed, and the CPU that sent them."""
    reader = _Reader(message, REQUESTS)
    requests: list[Request] = []
    for _ in range(reader.count):
        number, call, path_size, flags, mode, payload_size = reader.take(_REQUEST)
        reader.require(call <= DISCARD and path_size <= MAX_PATH, "a field outside its range")
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


# ---- what calls bring ------------------------------------------------------------------------------------


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
        if len(payload) != _STATUS.size:
            raise ProtocolError("the status of a file")
        (mask, block_size, _attributes, links, uid, gid, mode, _reserved, inode, size, blocks, _known, access, birth,
         change, modification, rdev_major, rdev_minor, dev_major, dev_minor) = _STATUS.unpack(payload)

        def nanoseconds(raw: bytes) -> int:
            seconds, rest, _ = _TIME.unpack(raw)
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


def read_page(payload: bytes) -> tuple[int, list[Entry]]:
    """The cursor of the next page (0: there is none) and the entries of this one."""
    try:
        (cursor,) = _NUMBER.unpack_from(payload)
        entries, at = [], _NUMBER.size
        while at < len(payload):
            inode, kind, size = _ENTRY.unpack_from(payload, at)
            name = payload[at + _ENTRY.size : at + _ENTRY.size + size]
            at += (_ENTRY.size + size + 1 + 3) & ~3
            if len(name) != size or not name or b"/" in name or b"\0" in name or at > len(payload):
                raise ProtocolError("an entry of a directory")
            entries.append(Entry(os.fsdecode(name), inode, kind))
    except struct.error:
        raise ProtocolError("a page of a directory") from None
    return cursor, entries


def _text(value: StrPath) -> bytes:
    return os.fsencode(value) + b"\0"


def _times(ns: Optional[tuple[int, int]]) -> bytes:
    if ns is None:
        return _TIME.pack(0, _UTIME_NOW, 0) * 2
    return b"".join(_TIME.pack(*divmod(one, 10**9), 0) for one in ns)


@dataclass
class _Ask:
    """A request that has no id yet."""

    call: int
    path: StrPath
    flags: int = 0
    mode: int = 0
    payload: bytes = b""

    def request(self, number: int) -> Request:
        path = os.fsencode(self.path)
        if len(path) > MAX_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), self.path)
        return Request(number, self.call, path, self.flags & 0xFFFFFFFF, self.mode, self.payload)

    def error(self, reply: Reply) -> OSError:
        step = STEPS[reply.step]
        reason = f"{step}: {reply.reason or os.strerror(reply.status)}"
        if reply.record:
            reason += f" (record {reply.record})"
        error = OSError(reply.status, f"{os.strerror(reply.status)}: {reason}", self.path)
        return _explained(error, reason, step, reply.record)


def _explained(error: OSError, reason: str, step: str = "client", record: int = 0) -> OSError:
    error.reason, error.step, error.record = reason, step, record  # type: ignore[attr-defined]
    return error


def _failure(number: int, reason: str) -> OSError:
    return _explained(OSError(number, f"{os.strerror(number)}: {reason}"), f"client: {reason}")


class _Answer:
    """A reply and its descriptor, which is closed unless it is taken."""

    def __init__(self, reply: Reply, descriptor: int) -> None:
        self.reply = reply
        self._descriptor = descriptor

    def take(self) -> int:
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        descriptor = self.take()
        if descriptor >= 0:
            os.close(descriptor)

    def result(self, ask: _Ask) -> _Answer:
        """Itself, or the error that it is."""
        if self.reply.status:
            raise ask.error(self.reply)
        if self.reply.descriptor != (ask.call in (OPEN, PUT)):
            self.close()
            raise _failure(errno.EPROTO, "a file was promised and not sent, or nobody asked for it")
        return self


# ---- the connection --------------------------------------------------------------------------------------


def _address(address: Optional[str]) -> tuple[Union[str, bytes, int], bool]:
    """What to connect to: a path or abstract name, or an inherited descriptor (and then True)."""
    if address is None:
        address = os.environ.get("FDBROKER_SOCKET")
    if address is None and "FDBROKER_FD" in os.environ:
        address = "fd:" + os.environ["FDBROKER_FD"]
    if address is None:
        address = DEFAULT_SOCKET
    if address.startswith("fd:"):
        if not address[3:].isdecimal():
            raise ValueError(f"not a descriptor: {address}")
        return int(address[3:]), True
    if not address:
        raise ValueError("an empty address")
    return "\0" + address[1:] if address.startswith("@") else address, False


_channels: weakref.WeakSet[_Channel] = weakref.WeakSet()


def _close_in_child() -> None:
    for channel in list(_channels):
        channel.abandon()


os.register_at_fork(after_in_child=_close_in_child)


class _Channel:
    """The socket: whole messages out, whole messages with descriptors in."""

    def __init__(self, address: Optional[str], any_owner: bool, timeout: Optional[float]) -> None:
        target, inherited = _address(address)
        if inherited:
            self.socket = socket.socket(fileno=int(target))
            self.socket.set_inheritable(False)
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.abandoned = False
        self.limits = HelloReply(VERSION, VERSION, MAX_REQUESTS, MAX_MESSAGE, 1)
        self._ids = itertools.cycle(range(1, 2**32 - 2 * MAX_REQUESTS))
        try:
            if not inherited:
                self.socket.connect(target)
                if not any_owner and self._listener() != 0:
                    raise PermissionError(errno.EPERM, "the listener is not root's", address)
            self.socket.setblocking(False)
            self._greet(timeout)
        except BaseException:
            self.socket.close()
            raise
        _channels.add(self)

    def _listener(self) -> int:
        credentials = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("iII", credentials)[1])

    def _greet(self, timeout: Optional[float]) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        self.send(write_hello(), deadline)
        message, descriptors = self.receive(deadline)
        for descriptor in descriptors:
            os.close(descriptor)
        self.end_if_told(message)
        try:
            self.limits = read_hello_reply(message)
        except ProtocolError as error:
            raise _failure(errno.EPROTO, f"the answer to hello is none: {error}") from None

    def next_id(self) -> int:
        return next(self._ids)

    def check(self, ask: _Ask) -> None:
        if self.abandoned:
            raise _failure(errno.EBADF, "the connection is the parent process's")
        if self.socket.fileno() < 0:
            raise _failure(errno.ECONNRESET, "the connection is over")
        if not self.limits.calls >> ask.call & 1:
            raise _failure(errno.EOPNOTSUPP, "the broker does not serve that")

    def abandon(self) -> None:
        self.abandoned = True
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, message: bytes, deadline: Optional[float]) -> None:
        while not self.send_now(message):
            self.wait(select.POLLOUT, deadline)

    def send_now(self, message: bytes) -> bool:
        try:
            self.socket.send(message, socket.MSG_NOSIGNAL)
            return True
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionError):
            self.close()
            raise _failure(errno.ECONNRESET, "the broker is gone") from None

    def receive(self, deadline: Optional[float]) -> tuple[bytes, list[int]]:
        while True:
            received = self.receive_now()
            if received is not None:
                return received
            self.wait(select.POLLIN, deadline)

    def receive_now(self) -> Optional[tuple[bytes, list[int]]]:
        """None: there is nothing yet."""
        room = socket.CMSG_SPACE((MAX_REQUESTS + 1) * 4)
        try:
            message, control, flags, _ = self.socket.recvmsg(MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except ConnectionError:
            message, control, flags = b"", [], 0
        descriptors: list[int] = []
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        if message and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            return message, descriptors
        for descriptor in descriptors:
            os.close(descriptor)
        self.close()
        if not message:
            raise _failure(errno.ECONNRESET, "the broker is gone")
        if flags & socket.MSG_CTRUNC:
            raise _failure(errno.EMFILE, "the descriptor table of this process is full")
        raise _failure(errno.EPROTO, "a message that was cut short")

    def wait(self, events: int, deadline: Optional[float]) -> None:
        poll = select.poll()
        poll.register(self.socket, events)
        left = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000 + 0.999))
        if not poll.poll(left):
            raise _failure(errno.ETIMEDOUT, "the broker did not answer in time")

    def end_if_told(self, message: bytes) -> None:
        if message[:1] == bytes([VERSION]) and message[1:2] != bytes([END]):
            return
        self.close()
        if message[:1] != bytes([VERSION]):
            raise _failure(errno.EPROTONOSUPPORT, "the broker speaks another version of the protocol")
        try:
            _, reason = read_end(message)
        except ProtocolError as error:
            raise _failure(errno.EPROTO, str(error)) from None
        raise _failure(errno.ECONNRESET, f"the broker ended the connection: {reason}")

    def answers(self, message: bytes, descriptors: list[int]) -> list[_Answer]:
        """Takes over the descriptors."""
        try:
            self.end_if_told(message)
            replies = read_replies(message)
            if sum(reply.descriptor for reply in replies) != len(descriptors):
                raise ProtocolError("the descriptors are not those that the replies tell of")
        except (ProtocolError, OSError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self.close()
            if isinstance(error, OSError):
                raise
            raise _failure(errno.EPROTO, str(error)) from None
        files = iter(descriptors)
        return [_Answer(reply, next(files) if reply.descriptor else -1) for reply in replies]


# ---- the calls, once for programs that wait and once for asyncio -------------------------------------------


class _Calls:
    """What to ask for each call; _ask() of the classes below asks, and applies `then` to the answer."""

    def _ask(self, ask: _Ask, then: Any) -> Any:
        raise NotImplementedError

    def open_fd(self, path: StrPath, flags: int, mode: int = 0o666) -> Any:
        """open(2): a descriptor, close-on-exec, which is the caller's."""
        return self._ask(_Ask(OPEN, path, flags, mode), _Answer.take)

    def stat(self, path: StrPath, *, follow_symlinks: bool = True) -> Any:
        flags = 0 if follow_symlinks else 0x100  # AT_SYMLINK_NOFOLLOW
        return self._ask(_Ask(STAT, path, flags), lambda answer: Status.read(answer.reply.payload))

    def lstat(self, path: StrPath) -> Any:
        return self.stat(path, follow_symlinks=False)

    def readlink(self, path: StrPath) -> Any:
        return self._ask(_Ask(READLINK, path), lambda answer: os.fsdecode(answer.reply.payload))

    def mkdir(self, path: StrPath, mode: int = 0o777) -> Any:
        return self._ask(_Ask(MKDIR, path, 0, mode), _nothing)

    def unlink(self, path: StrPath) -> Any:
        return self._ask(_Ask(REMOVE, path), _nothing)

    def rmdir(self, path: StrPath) -> Any:
        return self._ask(_Ask(REMOVE, path, 0x200), _nothing)  # AT_REMOVEDIR

    def rename(self, path: StrPath, new_path: StrPath, *, replace: bool = True) -> Any:
        return self._ask(_Ask(RENAME, path, 0 if replace else 1, 0, _text(new_path)), _nothing)

    def symlink(self, target: StrPath, path: StrPath) -> Any:
        return self._ask(_Ask(SYMLINK, path, 0, 0, _text(target)), _nothing)

    def chmod(self, path: StrPath, mode: int) -> Any:
        return self._ask(_Ask(SETATTR, path, 1, mode), _nothing)

    def utime(self, path: StrPath, *, ns: Optional[tuple[int, int]] = None) -> Any:
        """Access and modification in nanoseconds; None: now."""
        return self._ask(_Ask(SETATTR, path, 2, 0, _times(ns)), _nothing)

    def getxattr(self, path: StrPath, name: str) -> Any:
        return self._ask(_Ask(XATTR_READ, path, 0, 0, _text(name)), lambda answer: answer.reply.payload)

    def listxattr(self, path: StrPath) -> Any:
        def names(answer: _Answer) -> list[str]:
            return [os.fsdecode(name) for name in answer.reply.payload.split(b"\0")[:-1]]

        return self._ask(_Ask(XATTR_LIST, path), names)

    def setxattr(self, path: StrPath, name: str, value: bytes, flags: int = 0) -> Any:
        return self._ask(_Ask(XATTR_WRITE, path, flags, 0, _text(name) + value), _nothing)

    def removexattr(self, path: StrPath, name: str) -> Any:
        return self._ask(_Ask(XATTR_REMOVE, path, 0, 0, _text(name)), _nothing)

    def _page(self, path: StrPath, cursor: int) -> Any:
        return self._ask(_Ask(LIST, path, 0, 0, _NUMBER.pack(cursor)), lambda answer: read_page(answer.reply.payload))

    def _put(self, path: StrPath, mode: int) -> Any:
        def number_and_file(answer: _Answer) -> tuple[int, int]:
            return int(_NUMBER.unpack(answer.reply.payload)[0]), answer.take()

        return self._ask(_Ask(PUT, path, 0, mode), number_and_file)

    def _commit(self, path: StrPath, number: int, flags: int) -> Any:
        return self._ask(_Ask(COMMIT, path, flags, 0, _NUMBER.pack(number)), _nothing)

    def _discard(self, path: StrPath, number: int) -> Any:
        return self._ask(_Ask(DISCARD, path, 0, 0, _NUMBER.pack(number)), _nothing)


def _nothing(_: _Answer) -> None:
    return None


def _apply(channel: _Channel, ask: _Ask, answer: _Answer, then: Any) -> Any:
    try:
        return then(answer.result(ask))
    except (ProtocolError, struct.error) as error:
        channel.close()
        raise _failure(errno.EPROTO, str(error)) from None
    finally:
        answer.close()


class Broker(_Calls):
    """A connection whose calls wait for their answer. Threads may share it; they take turns. A forked child finds it
    closed (EBADF) and connects anew.

    `address`: a path, @NAME, or fd:N for an inherited socket; None: FDBROKER_SOCKET, else FDBROKER_FD, else
    /run/fdbroker/opener.sock. The listener must be root's unless `any_owner`. `timeout`: seconds that a call waits
    for the broker at most; what was asked for may be done nevertheless.
    """

    def __init__(self, address: Optional[str] = None, *, any_owner: bool = False,
                 timeout: Optional[float] = None) -> None:
        self._lock = threading.Lock()
        self.timeout = timeout
        self._channel = _Channel(address, any_owner, timeout)

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Files that were opened stay open."""
        self._channel.close()

    def fileno(self) -> int:
        return self._channel.socket.fileno()

    def open(self, path: StrPath, mode: str = "r", buffering: int = -1, encoding: Optional[str] = None,
             errors: Optional[str] = None, newline: Optional[str] = None, *, permissions: int = 0o666) -> IO[Any]:
        """As builtins.open()."""
        return builtins.open(path, mode, buffering, encoding, errors, newline,
                             opener=lambda name, flags: self.open_fd(name, flags, permissions))

    def open_many(self, paths: Iterable[StrPath], flags: int = os.O_RDONLY, mode: int = 0o666, *,
                  all_or_nothing: bool = False) -> list[Union[int, OSError]]:
        """Many at once: for each path a descriptor, which is the caller's, or the error."""
        asks = [_Ask(OPEN, path, flags, mode) for path in paths]
        with self._lock:
            answers = self._exchange(asks, all_or_nothing)
        results: list[Union[int, OSError]] = []
        for ask, answer in zip(asks, answers):
            try:
                results.append(answer.result(ask).take())
            except OSError as error:
                results.append(error)
        return results

    def scandir(self, path: StrPath) -> Iterator[Entry]:
        cursor = 0
        while True:
            cursor, entries = self._page(path, cursor)
            yield from entries
            if not cursor:
                return

    def listdir(self, path: StrPath) -> list[str]:
        return [entry.name for entry in self.scandir(path)]

    @contextlib.contextmanager
    def put(self, path: StrPath, mode: str = "wb", *, permissions: int = 0o666, replace: bool = True,
            encoding: Optional[str] = None) -> Iterator[IO[Any]]:
        """Replaces a file whole: it gets its name when the block ends, and not at all when that raises."""
        if mode not in ("w", "wt", "wb"):
            raise ValueError(f"a put is written from its beginning: {mode!r}")
        number, descriptor = self._put(path, permissions)
        try:
            with builtins.open(descriptor, mode, encoding=encoding) as file:
                yield file
        except BaseException:
            self._discard(path, number)
            raise
        self._commit(path, number, 0 if replace else 1)

    def path(self, *segments: StrPath) -> BrokeredPath:
        return BrokeredPath(*segments, broker=self)

    def _ask(self, ask: _Ask, then: Any) -> Any:
        with self._lock:
            (answer,) = self._exchange([ask])
        return _apply(self._channel, ask, answer, then)

    def _exchange(self, asks: list[_Ask], all_or_nothing: bool = False) -> list[_Answer]:
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        answers: dict[int, _Answer] = {}
        ids: list[int] = []
        try:
            for message, numbers in self._messages(asks, all_or_nothing):
                self._channel.send(message, deadline)
                ids += numbers
                waiting = set(numbers)
                while waiting:
                    for answer in self._channel.answers(*self._channel.receive(deadline)):
                        if answer.reply.id in waiting:
                            waiting.remove(answer.reply.id)
                            answers[answer.reply.id] = answer
                        else:  # to a request that was given up, or twice around a crash
                            answer.close()
        except BaseException:
            for answer in answers.values():
                answer.close()
            raise
        return [answers[number] for number in ids]

    def _messages(self, asks: list[_Ask], all_or_nothing: bool) -> Iterator[tuple[bytes, list[int]]]:
        """As few as the broker's limits allow."""
        limits = self._channel.limits
        batch: list[Request] = []
        size = _HEADER.size
        for ask in asks:
            self._channel.check(ask)
            request = ask.request(self._channel.next_id())
            more = len(write_request(request))
            full = len(batch) == limits.max_requests or size + more > limits.max_message
            if batch and (full or request.id < batch[-1].id):
                if all_or_nothing:
                    raise _failure(errno.E2BIG, "the requests do not fit one message")
                yield write_requests(batch), [one.id for one in batch]
                batch, size = [], _HEADER.size
            batch.append(request)
            size += more
        if size > limits.max_message:
            raise _failure(errno.E2BIG, "the request does not fit a message")
        if batch:
            yield write_requests(batch, all_or_nothing), [one.id for one in batch]


class AsyncBroker(_Calls):
    """A connection for asyncio: every call is awaited, hundreds may be at once.

    async with AsyncBroker() as broker: status = await broker.stat("/srv/www")
    """

    def __init__(self, address: Optional[str] = None, *, any_owner: bool = False,
                 timeout: Optional[float] = None) -> None:
        self.timeout = timeout
        self._channel = _Channel(address, any_owner, timeout)
        self._waiting: dict[int, asyncio.Future[_Answer]] = {}
        self._unsent: list[bytes] = []
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    async def __aenter__(self) -> AsyncBroker:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What is awaited fails with ECONNRESET."""
        self._fail(_failure(errno.ECONNRESET, "the connection was closed"))

    async def open(self, path: StrPath, mode: str = "r", buffering: int = -1, encoding: Optional[str] = None,
                   errors: Optional[str] = None, newline: Optional[str] = None, *,
                   permissions: int = 0o666) -> IO[Any]:
        """As builtins.open(); reading and writing the file are as blocking as ever."""
        wanted: list[int] = []

        def note_flags(_: Any, flags: int) -> int:
            wanted.append(flags)
            return -1

        # What builtins.open() would ask for is known to it alone.
        with contextlib.suppress(OSError, ValueError):
            builtins.open(path, mode, buffering, encoding, errors, newline, opener=note_flags)
        if not wanted:
            raise ValueError(f"invalid mode: {mode!r}")
        descriptor = await self.open_fd(path, wanted[0], permissions)
        return builtins.open(path, mode, buffering, encoding, errors, newline, opener=lambda *_: descriptor)

    async def scandir(self, path: StrPath) -> AsyncIterator[Entry]:
        cursor = 0
        while True:
            cursor, entries = await self._page(path, cursor)
            for entry in entries:
                yield entry
            if not cursor:
                return

    async def listdir(self, path: StrPath) -> list[str]:
        return [entry.name async for entry in self.scandir(path)]

    @contextlib.asynccontextmanager
    async def put(self, path: StrPath, mode: str = "wb", *, permissions: int = 0o666, replace: bool = True,
                  encoding: Optional[str] = None) -> AsyncIterator[IO[Any]]:
        """As Broker.put()."""
        if mode not in ("w", "wt", "wb"):
            raise ValueError(f"a put is written from its beginning: {mode!r}")
        number, descriptor = await self._put(path, permissions)
        try:
            with builtins.open(descriptor, mode, encoding=encoding) as file:
                yield file
        except BaseException:
            await self._discard(path, number)
            raise
        await self._commit(path, number, 0 if replace else 1)

    async def _ask(self, ask: _Ask, then: Any) -> Any:
        self._channel.check(ask)
        number = self._channel.next_id()
        message = write_requests([ask.request(number)])
        self._attach()
        assert self._loop is not None
        future: asyncio.Future[_Answer] = self._loop.create_future()
        self._waiting[number] = future
        try:
            if self._unsent or not self._channel.send_now(message):
                self._unsent.append(message)
                self._loop.add_writer(self._channel.socket, self._send_unsent)
            answer = await asyncio.wait_for(future, self.timeout)
        except asyncio.TimeoutError:
            raise _failure(errno.ETIMEDOUT, "the broker did not answer in time") from None
        finally:
            self._waiting.pop(number, None)
            # An answer that came in the moment in which its task was cancelled.
            if future.done() and not future.cancelled() and future.exception() is None:
                answer = future.result()
        return _apply(self._channel, ask, answer, then)

    def _attach(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("the connection belongs to another event loop")
        self._loop = loop
        loop.add_reader(self._channel.socket, self._take_what_came)

    def _detach(self) -> None:
        if self._loop is not None and not self._loop.is_closed() and self._channel.socket.fileno() >= 0:
            self._loop.remove_reader(self._channel.socket)
            self._loop.remove_writer(self._channel.socket)
        self._loop = None

    def _fail(self, error: OSError) -> None:
        self._detach()
        self._channel.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def _send_unsent(self) -> None:
        assert self._loop is not None
        try:
            while self._unsent and self._channel.send_now(self._unsent[0]):
                self._unsent.pop(0)
        except OSError as error:
            self._fail(error)
            return
        if not self._unsent:
            self._loop.remove_writer(self._channel.socket)

    def _take_what_came(self) -> None:
        descriptor = self._channel.socket.fileno()
        try:
            while (received := self._channel.receive_now()) is not None:
                for answer in self._channel.answers(*received):
                    future = self._waiting.get(answer.reply.id)
                    if future is None or future.done():
                        answer.close()
                    else:
                        future.set_result(answer)
        except OSError as error:
            # The socket is closed by now; the loop still has its number.
            if self._loop is not None:
                self._loop.remove_reader(descriptor)
                self._loop.remove_writer(descriptor)
                self._loop = None
            self._fail(error)


# ---- what one connection for the whole process serves ------------------------------------------------------

_default: Optional[Broker] = None
_default_lock = threading.Lock()


def connect(address: Optional[str] = None, *, any_owner: bool = False, timeout: Optional[float] = None) -> Broker:
    return Broker(address, any_owner=any_owner, timeout=timeout)


def default_broker() -> Broker:
    """The connection of open() and BrokeredPath: made when it is needed first. A program that confines itself calls
    this before."""
    global _default
    with _default_lock:
        if _default is None or _default.fileno() < 0:
            _default = Broker()
        return _default


def open(path: StrPath, mode: str = "r", buffering: int = -1, encoding: Optional[str] = None,
         errors: Optional[str] = None, newline: Optional[str] = None, *, permissions: int = 0o666) -> IO[Any]:
    """builtins.open() by the default broker."""
    return default_broker().open(path, mode, buffering, encoding, errors, newline, permissions=permissions)


class BrokeredPath(pathlib.PurePosixPath):
    """pathlib.Path, done by a broker: that of `broker`, or the default one. Paths derived from it have the same."""

    _broker: Optional[Broker] = None

    def __new__(cls, *segments: Any, broker: Optional[Broker] = None) -> BrokeredPath:
        self = super().__new__(cls, *segments)
        self._broker = broker
        return self

    def __init__(self, *segments: Any, broker: Optional[Broker] = None) -> None:
        # Python 3.12 reads the segments here, older ones in __new__.
        if pathlib.PurePath.__init__ is not object.__init__:
            super().__init__(*segments)
        self._broker = broker

    def _with(self, path: pathlib.PurePath) -> BrokeredPath:
        return BrokeredPath(path, broker=self._broker)

    def with_segments(self, *segments: Any) -> BrokeredPath:
        """What Python 3.12 and later make every derived path with; the methods below do it for older ones."""
        return BrokeredPath(*segments, broker=self._broker)

    def __truediv__(self, other: Any) -> BrokeredPath:
        return self._with(super().__truediv__(other))

    def joinpath(self, *others: Any) -> BrokeredPath:
        return self._with(super().joinpath(*others))

    def with_name(self, name: str) -> BrokeredPath:
        return self._with(super().with_name(name))

    def with_suffix(self, suffix: str) -> BrokeredPath:
        return self._with(super().with_suffix(suffix))

    @property
    def parent(self) -> BrokeredPath:  # type: ignore[override]
        return self._with(super().parent)

    @property
    def parents(self) -> list[BrokeredPath]:  # type: ignore[override]
        return [self._with(path) for path in super().parents]

    @property
    def broker(self) -> Broker:
        return self._broker if self._broker is not None else default_broker()

    def open(self, mode: str = "r", buffering: int = -1, encoding: Optional[str] = None, errors: Optional[str] = None,
             newline: Optional[str] = None) -> IO[Any]:
        return self.broker.open(self, mode, buffering, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return bytes(file.read())

    def read_text(self, encoding: Optional[str] = None, errors: Optional[str] = None) -> str:
        with self.open("r", encoding=encoding, errors=errors) as file:
            return str(file.read())

    def write_bytes(self, data: bytes) -> int:
        """Whole or not at all."""
        with self.broker.put(self) as file:
            return int(file.write(data))

    def write_text(self, data: str, encoding: Optional[str] = None) -> int:
        """Whole or not at all."""
        with self.broker.put(self, "w", encoding=encoding) as file:
            return int(file.write(data))

    def stat(self, *, follow_symlinks: bool = True) -> Status:
        return self.broker.stat(self, follow_symlinks=follow_symlinks)

    def lstat(self) -> Status:
        return self.stat(follow_symlinks=False)

    def _has_type(self, kind: Any, follow_symlinks: bool = True) -> bool:
        try:
            return bool(kind(self.stat(follow_symlinks=follow_symlinks).st_mode))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def exists(self) -> bool:
        """What the policy refuses raises PermissionError: nobody knows."""
        return self._has_type(lambda _: True)

    def is_file(self) -> bool:
        return self._has_type(stat_module.S_ISREG)

    def is_dir(self) -> bool:
        return self._has_type(stat_module.S_ISDIR)

    def is_symlink(self) -> bool:
        return self._has_type(stat_module.S_ISLNK, follow_symlinks=False)

    def iterdir(self) -> Iterator[BrokeredPath]:
        for entry in self.broker.scandir(self):
            yield self / entry.name

    def mkdir(self, mode: int = 0o777, exist_ok: bool = False) -> None:
        try:
            self.broker.mkdir(self, mode)
        except FileExistsError:
            if not exist_ok:
                raise

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.broker.unlink(self)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        self.broker.rmdir(self)

    def rename(self, target: StrPath) -> BrokeredPath:
        self.broker.rename(self, target)
        return BrokeredPath(os.fsdecode(target), broker=self._broker)

    replace = rename

    def symlink_to(self, target: StrPath) -> None:
        self.broker.symlink(target, self)

    def readlink(self) -> BrokeredPath:
        return BrokeredPath(self.broker.readlink(self), broker=self._broker)

    def chmod(self, mode: int) -> None:
        self.broker.chmod(self, mode)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        flags = os.O_CREAT | os.O_WRONLY | (0 if exist_ok else os.O_EXCL)
        os.close(self.broker.open_fd(self, flags, mode))


# ---- the sandbox -------------------------------------------------------------------------------------------

CONFINE_BEST_EFFORT = 1
CONFINE_DESCRIPTORS = 2
CONFINE_NAMESPACES = 4
CONFINE_LIMITS = 8
CONFINE_NO_SIGSYS = 16


def confine(flags: int = 0) -> None:
    """fdbroker_confine() of libfdbroker (fdbroker(3)): from now on this process has nothing but what is open. Import what
    you need before, since Python opens modules as files. CONFINE_DESCRIPTORS would close connections of this module,
    which the library does not know: not with this function."""
    if flags & CONFINE_DESCRIPTORS:
        raise ValueError("CONFINE_DESCRIPTORS would close the connection")
    library = ctypes.CDLL("libfdbroker.so.0", use_errno=False)
    result = library.fdbroker_confine(ctypes.c_uint(flags))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
