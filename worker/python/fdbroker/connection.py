"""One connection: what is asked, what is answered, and the socket between."""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
import struct
import time
import weakref
from dataclasses import dataclass
from typing import Optional, Union

from .payload import StrPath
from .protocol import (END, MAX_MESSAGE, MAX_PATH, MAX_REQUESTS, OPEN, PUT, STEPS, VERSION, HelloReply, ProtocolError, Reply,
                       Request, read_end, read_hello_reply, read_replies, write_hello)

DEFAULT_SOCKET = "/run/fdbroker/opener.sock"


@dataclass
class Ask:
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


def failure(number: int, reason: str) -> OSError:
    return _explained(OSError(number, f"{os.strerror(number)}: {reason}"), f"client: {reason}")


class Answer:
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

    def result(self, ask: Ask) -> Answer:
        """Itself, or the error that it is."""
        if self.reply.status:
            raise ask.error(self.reply)
        if self.reply.descriptor != (ask.call in (OPEN, PUT)):
            self.close()
            raise failure(errno.EPROTO, "a file was promised and not sent, or nobody asked for it")
        return self


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


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _close_in_child() -> None:
    for channel in list(_channels):
        channel.abandon()


os.register_at_fork(after_in_child=_close_in_child)


class Channel:
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
            raise failure(errno.EPROTO, f"the answer to hello is none: {error}") from None

    def next_id(self) -> int:
        return next(self._ids)

    def check(self, ask: Ask) -> None:
        if self.abandoned:
            raise failure(errno.EBADF, "the connection is the parent process's")
        if self.socket.fileno() < 0:
            raise failure(errno.ECONNRESET, "the connection is over")
        if not self.limits.calls >> ask.call & 1:
            raise failure(errno.EOPNOTSUPP, "the broker does not serve that")

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
            raise failure(errno.ECONNRESET, "the broker is gone") from None

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
            raise failure(errno.ECONNRESET, "the broker is gone")
        if flags & socket.MSG_CTRUNC:
            raise failure(errno.EMFILE, "the descriptor table of this process is full")
        raise failure(errno.EPROTO, "a message that was cut short")

    def wait(self, events: int, deadline: Optional[float]) -> None:
        poll = select.poll()
        poll.register(self.socket, events)
        left = None if deadline is None else max(0, int((deadline - time.monotonic()) * 1000 + 0.999))
        if not poll.poll(left):
            raise failure(errno.ETIMEDOUT, "the broker did not answer in time")

    def end_if_told(self, message: bytes) -> None:
        if message[:1] == bytes([VERSION]) and message[1:2] != bytes([END]):
            return
        self.close()
        if message[:1] != bytes([VERSION]):
            raise failure(errno.EPROTONOSUPPORT, "the broker speaks another version of the protocol")
        try:
            _, reason = read_end(message)
        except ProtocolError as error:
            raise failure(errno.EPROTO, str(error)) from None
        raise failure(errno.ECONNRESET, f"the broker ended the connection: {reason}")

    def answers(self, message: bytes, descriptors: list[int]) -> list[Answer]:
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
            raise failure(errno.EPROTO, str(error)) from None
        files = iter(descriptors)
        return [Answer(reply, next(files) if reply.descriptor else -1) for reply in replies]
