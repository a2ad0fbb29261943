# SPDX-License-Identifier: MIT
"""A connection: requests, answers, and the socket between."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import socket
import struct
import threading
import time
import weakref
from dataclasses import dataclass
from typing import Optional, Union

from .paths import canonical, refused
from .payload import StrPath
from .protocol import (AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, COMMIT, DISCARD, END, HEADER_SIZE, MAX_MESSAGE, MAX_REQUESTS,
                       NUMBER, OPEN, PUT, READLINK, REMOVE, REPLIES, SETATTR, SETATTR_LINK, STAT, STEPS, SYMLINK,
                       VERSION, WATCH, HelloReply, ProtocolError, Reply, Request, read_end, read_hello_reply, read_replies,
                       write_hello, write_request, write_requests)

# The puts of which a late answer is remembered; a user has fewer.
MAX_GIVEN_UP = 64

DEFAULT_SOCKET = "/run/fdbroker/opener.sock"


confined = False  # confine() has been called


@dataclass
class Ask:
    """A request that has no id yet."""

    call: int
    path: StrPath
    flags: int = 0
    mode: int = 0
    payload: bytes = b""

    def request(self, number: int, base: Optional[bytes] = None) -> Request:
        path, of_directory = canonical(self.path, base)
        flags = self.flags & 0xFFFFFFFF
        if of_directory:
            flags = self._flags_of_directory(flags)
        return Request(number, self.call, path, flags, self.mode & 0xFFFFFFFF, self.payload)

    def _flags_of_directory(self, flags: int) -> int:
        """The error for a path that ends as only a directory's may."""
        error = {PUT: errno.EISDIR, COMMIT: errno.EISDIR, READLINK: errno.EINVAL, SYMLINK: errno.ENOENT}.get(self.call)
        if self.call == OPEN and flags & os.O_CREAT:
            error = errno.EISDIR
        if self.call == REMOVE and not flags & AT_REMOVEDIR:
            error = errno.ENOTDIR
        if error is not None:
            raise refused(error, self.path, "the path ends as only that of a directory may")
        if self.call == OPEN:
            return flags | os.O_DIRECTORY
        return flags & ~{STAT: AT_SYMLINK_NOFOLLOW, SETATTR: SETATTR_LINK}.get(self.call, 0)

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


def failure(number: int, reason: str) -> OSError:
    return _explained(OSError(number, f"{os.strerror(number)}: {reason}"), f"client: {reason}")


def too_late() -> OSError:
    return failure(errno.ETIMEDOUT, "the broker did not answer in time")


def is_over(error: OSError) -> bool:
    """Does this error of a channel's end the connection?"""
    return error.errno in (errno.ECONNRESET, errno.EPROTO, errno.EPROTONOSUPPORT)


class Answer:
    """A reply and its descriptor, which is closed unless it is taken; -1: it has none, or that found no room."""

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

    def result(self, ask: Ask) -> Answer:
        """Itself, or the error that it is. ProtocolError: it is no answer to that."""
        if self.reply.status:
            raise ask.error(self.reply)
        if self.reply.descriptor != (ask.call in (OPEN, PUT, WATCH)):
            raise ProtocolError("a file was promised and not sent, or nobody asked for it")
        if self.reply.descriptor and self._descriptor < 0:
            raise failure(errno.EMFILE, "the descriptor table of this process is full")
        return self


def _address(address: Optional[str]) -> Union[str, int]:
    """The address to connect to: a path or abstract name, or an inherited descriptor."""
    if address is None:
        address = os.environ.get("FDBROKER_SOCKET")
    if address is None and "FDBROKER_FD" in os.environ:
        address = "fd:" + os.environ["FDBROKER_FD"]
    if address is None:
        address = DEFAULT_SOCKET
    if address.startswith("fd:"):
        if not address[3:].isdecimal():
            raise ValueError(f"not a descriptor: {address}")
        return int(address[3:])
    if not address:
        raise ValueError("an empty address")
    return "\0" + address[1:] if address.startswith("@") else address


def _not_roots(owner: int) -> str:
    """Why a listener of this uid is not taken."""
    with contextlib.suppress(OSError, ValueError), open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
        if int(file.read()) == owner:
            return ("the listener is not root's, or root shows as the overflow uid in this user namespace: any_owner=True "
                    "takes it all the same")
    return "the listener is not root's"


def _inherited(number: int) -> socket.socket:
    if any(channel.socket.fileno() == number for channel in _channels):
        raise OSError(errno.EBUSY, "the descriptor is a connection's already")
    inherited = socket.socket(fileno=number)
    if inherited.family != socket.AF_UNIX or inherited.type != socket.SOCK_SEQPACKET:
        inherited.detach()
        raise OSError(errno.EPROTOTYPE, os.strerror(errno.EPROTOTYPE))
    inherited.set_inheritable(False)
    return inherited


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def open_sockets() -> list[int]:
    """The descriptors of all connections that are not over."""
    return [channel.socket.fileno() for channel in list(_channels) if channel.socket.fileno() >= 0]


def _close_in_child() -> None:
    for channel in list(_channels):
        channel.abandon()


os.register_at_fork(after_in_child=_close_in_child)


class Channel:
    """The socket: whole messages out, whole messages with descriptors in."""

    def __init__(self, address: Optional[str], any_owner: bool, timeout: Optional[float]) -> None:
        target = _address(address)
        if confined and isinstance(target, str):
            raise failure(errno.EPERM, "this process is confined and can connect no more: connect before confine()")
        if isinstance(target, int):
            self.socket = _inherited(target)
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lock = threading.Lock()  # held while asking and waiting for the answer
        self.abandoned = False
        self.directory: Optional[bytes] = None  # where relative paths begin
        self.limits = HelloReply(VERSION, VERSION, MAX_REQUESTS, MAX_MESSAGE, 1)
        # Ids begin anywhere: an inherited socket may bring the answer to another process's request.
        self._last_id = random.SystemRandom().randrange(2**32)
        self._given_up: dict[int, Ask] = {}  # puts whose answer may still come
        self.discards: list[bytes] = []  # of puts that nobody has got, still to be sent
        try:
            if isinstance(target, str):
                self.socket.connect(target)
                if not any_owner and (owner := self._listener()) != 0:
                    raise PermissionError(errno.EPERM, _not_roots(owner), address)
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
        try:
            self._say_hello(deadline)
        except OSError as error:
            # A broker that refuses the connection says with which error, as connect(2) would.
            told, reason = getattr(error, "told", (0, ""))
            raise failure(told, reason) if told else error from None

    def _say_hello(self, deadline: Optional[float]) -> None:
        self.send(write_hello(), deadline)
        while True:
            message, descriptors, _ = self.receive(deadline)
            for descriptor in descriptors:
                os.close(descriptor)
            self.end_if_told(message)
            # Whoever had an inherited socket before may have left it without waiting for the answers.
            if message[1] != REPLIES:
                break
        try:
            self.limits = read_hello_reply(message)
        except ProtocolError as error:
            raise failure(errno.EPROTO, f"the answer to hello is none: {error}") from None

    def next_id(self) -> int:
        self._last_id = (self._last_id + 1) % 2**32
        return self._last_id

    def request(self, ask: Ask) -> Request:
        """With an id, and such that a message can hold it."""
        request = ask.request(self.next_id(), self.directory)
        if HEADER_SIZE + len(write_request(request)) > self.limits.max_message:
            raise failure(errno.E2BIG, "the request does not fit a message")
        return request

    def check(self, ask: Ask) -> None:
        if self.abandoned:
            raise failure(errno.EBADF, "the connection is the parent process's")
        if self.socket.fileno() < 0:
            raise failure(errno.ECONNRESET, "the connection is over")
        if not self.limits.calls >> ask.call & 1:
            raise failure(errno.EOPNOTSUPP, "the broker does not serve that")

    def give_up(self, number: int, ask: Ask) -> None:
        """Nobody waits for the answer any more. A put that it tells of is discarded when it comes."""
        if ask.call == PUT:
            self._given_up[number] = ask
            if len(self._given_up) > MAX_GIVEN_UP:
                del self._given_up[next(iter(self._given_up))]

    def drop(self, ask: Ask, answer: Answer) -> None:
        """Nobody takes the answer. send_discards() sends what follows from that."""
        answer.close()
        told = answer.reply
        if ask.call == PUT and told.status == 0 and len(told.payload) == NUMBER.size and self.socket.fileno() >= 0:
            discard = Ask(DISCARD, ask.path, 0, 0, told.payload)
            self.discards.append(write_requests([discard.request(self.next_id(), self.directory)]))

    def drop_late(self, answer: Answer) -> None:
        """The same for an answer to a request that was given up, or to none."""
        ask = self._given_up.pop(answer.reply.id, None)
        if ask is None:
            answer.close()
        else:
            self.drop(ask, answer)

    def send_discards(self) -> None:
        """As many as there is room for. Nobody waits for their answers."""
        while self.discards and self.socket.fileno() >= 0 and self.send_now(self.discards[0]):
            self.discards.pop(0)

    def abandon(self) -> None:
        self.abandoned = True
        self.lock = threading.Lock()  # another thread may have had it, which is not in the child
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
        except ConnectionError:
            raise self._last_words() from None

    def _last_words(self) -> OSError:
        """Why the broker has ended the connection: it says so before it closes its end."""
        try:
            while (received := self.receive_now()) is not None:
                message, descriptors, _ = received
                for descriptor in descriptors:
                    os.close(descriptor)
                self.end_if_told(message)
        except OSError as error:
            return error
        return failure(errno.ECONNRESET, "the broker is gone")

    def receive(self, deadline: Optional[float]) -> tuple[bytes, list[int], bool]:
        while True:
            received = self.receive_now()
            if received is not None:
                return received
            self.wait(select.POLLIN, deadline)

    def receive_now(self) -> Optional[tuple[bytes, list[int], bool]]:
        """A message, its descriptors, and whether further ones found no room in our table. None: there is nothing yet."""
        room = socket.CMSG_SPACE((MAX_REQUESTS + 1) * 4)
        try:
            message, control, flags = self._receive_message(room)
        except BlockingIOError:
            return None
        descriptors: list[int] = []
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors += struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4])
        if message and not flags & socket.MSG_TRUNC:
            return message, descriptors, bool(flags & socket.MSG_CTRUNC)
        for descriptor in descriptors:
            os.close(descriptor)
        if not message:
            raise failure(errno.ECONNRESET, "the broker is gone")
        raise failure(errno.EPROTO, "a message that was cut short")

    def _receive_message(self, room: int) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
        # unix(7): that the broker closed with a message of ours unread is told once, before the messages it had sent.
        for _ in range(2):
            with contextlib.suppress(ConnectionError):
                return self.socket.recvmsg(MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)[:3]
        return b"", [], 0

    def wait(self, events: int, deadline: Optional[float]) -> None:
        poll = select.poll()
        poll.register(self.socket, events)
        left = None if deadline is None else min(max(0, int((deadline - time.monotonic()) * 1000 + 0.999)), 2**31 - 1)
        if not poll.poll(left):
            raise too_late()

    def end_if_told(self, message: bytes) -> None:
        if message[:1] == bytes([VERSION]) and message[1:2] != bytes([END]):
            return
        if message[:1] != bytes([VERSION]):
            raise failure(errno.EPROTONOSUPPORT, "the broker speaks another version of the protocol")
        try:
            told = read_end(message)
        except ProtocolError as error:
            raise failure(errno.EPROTO, str(error)) from None
        ended = failure(errno.ECONNRESET, f"the broker ended the connection: {told[1]}")
        ended.told = told  # type: ignore[attr-defined]
        raise ended

    def answers(self, message: bytes, descriptors: list[int], cut_short: bool) -> list[Answer]:
        """Takes over the descriptors: they are in the order of the replies, so those that are missing are the last."""
        try:
            self.end_if_told(message)
            replies = read_replies(message)
            promised = sum(reply.descriptor for reply in replies)
            if len(descriptors) > promised or (len(descriptors) < promised and not cut_short):
                raise ProtocolError("the descriptors are not those that the replies tell of")
        except (ProtocolError, OSError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(error, OSError):
                raise
            raise failure(errno.EPROTO, str(error)) from None
        files = iter(descriptors)
        return [Answer(reply, next(files, -1) if reply.descriptor else -1) for reply in replies]
