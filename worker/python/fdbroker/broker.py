# SPDX-License-Identifier: MIT
"""A connection whose calls wait for their answer, and the one that a process has by default."""

from __future__ import annotations

import builtins
import contextlib
import errno
import os
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Callable, Iterable, Iterator, Optional, Union

from . import tree
from .calls import Calls, apply, check_put
from .connection import Answer, Ask, Channel, failure, is_over, too_late
from .payload import Entry, StrPath
from .protocol import HEADER_SIZE, OPEN, ProtocolError, Request, write_request, write_requests
from .watch import WATCH_ALL, Watch

if TYPE_CHECKING:
    from .path import BrokeredPath


class Broker(Calls):
    """A connection whose calls wait for their answer. Threads may share it; they take turns. A forked child finds it
    closed (EBADF) and connects anew.

    `address`: a path, @NAME, or fd:N for an inherited socket; None: FDBROKER_SOCKET, else FDBROKER_FD, else
    /run/fdbroker/opener.sock. The listener must be root's unless `any_owner`. `timeout`: seconds that a call waits
    for the broker at most; what was asked for may be done nevertheless.
    """

    def __init__(self, address: Optional[str] = None, *, any_owner: bool = False,
                 timeout: Optional[float] = None) -> None:
        self.timeout = timeout
        self._channel = Channel(address, any_owner, timeout)

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
        return builtins.open(os.fspath(path), mode, buffering, encoding, errors, newline,
                             opener=lambda name, flags: self.open_fd(name, flags, permissions))

    def open_many(self, paths: Iterable[StrPath], flags: int = os.O_RDONLY, mode: int = 0o666, *,
                  all_or_nothing: bool = False) -> list[Union[int, OSError]]:
        """Many at once: for each path a descriptor, which is the caller's, or the error."""
        asks = [Ask(OPEN, path, flags, mode) for path in paths]
        with self._channel.lock:
            answers = self._exchange(asks, all_or_nothing)
        results: list[Union[int, OSError]] = []
        try:
            for ask, answer in zip(asks, answers):
                try:
                    answer.result(ask)
                    results.append(0)
                except OSError as error:
                    results.append(error)
        except ProtocolError as error:
            for answer in answers:
                answer.close()
            self.close()
            raise failure(errno.EPROTO, str(error)) from None
        return [answer.take() if result == 0 else result for answer, result in zip(answers, results)]

    def scandir(self, path: StrPath, *, status: bool = False) -> Iterator[Entry]:
        """With `status` each entry has what lstat() tells of it, where the policy does."""
        cursor = 0
        while True:
            cursor, entries = self._page(path, cursor, status)
            yield from entries
            if not cursor:
                return

    def listdir(self, path: StrPath) -> list[str]:
        return [entry.name for entry in self.scandir(path)]

    def access(self, path: StrPath, mode: int) -> bool:
        """os.access(), by trying: os.F_OK, or os.R_OK, os.W_OK and os.X_OK together. W_OK of a directory is False: what may
        be made in it is decided name by name."""
        try:
            tree.run(self, tree.access(path, mode))
            return True
        except OSError as error:
            if error.errno in tree.SAYS_NO:
                return False
            raise

    def realpath(self, path: StrPath) -> str:
        """os.path.realpath(strict=True). Needs `stat`, and `readlink` for links."""
        return str(tree.run(self, tree.realpath(path, self._directory())))

    def walk(self, top: StrPath, topdown: bool = True, onerror: Optional[Callable[[OSError], None]] = None,
             followlinks: bool = False) -> Iterator[tuple[str, list[str], list[str]]]:
        """os.walk()."""
        return tree.walk(self, top, topdown, onerror, followlinks)

    def iglob(self, pattern: StrPath, *, recursive: bool = False) -> Iterator[str]:
        """glob.iglob()."""
        return tree.glob(self, os.fsdecode(pattern), recursive)

    def glob(self, pattern: StrPath, *, recursive: bool = False) -> list[str]:
        """glob.glob()."""
        return list(self.iglob(pattern, recursive=recursive))

    @contextlib.contextmanager
    def put(self, path: StrPath, mode: str = "wb", *, permissions: int = 0o666, replace: bool = True,
            encoding: Optional[str] = None, errors: Optional[str] = None,
            newline: Optional[str] = None) -> Iterator[IO[Any]]:
        """Replaces a file whole: it gets its name when the block ends, and not at all when that raises."""
        check_put(path, mode, encoding, errors, newline)
        number, descriptor = self._put(path, permissions)
        try:
            with builtins.open(descriptor, mode, encoding=encoding, errors=errors, newline=newline) as file:
                yield file
            self._commit(path, number, 0 if replace else 1)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error tells more
                self._discard(path, number)
            raise

    def watch(self, path: StrPath, mask: int = WATCH_ALL) -> Watch:
        """Tells when what stat() says of the path has changed. The file may be missing, its directory may not."""
        return Watch(self.watch_fd(path, mask))

    def path(self, *segments: StrPath) -> BrokeredPath:
        from .path import BrokeredPath  # which needs this module

        return BrokeredPath(*segments, broker=self)

    def _ask(self, ask: Ask, then: Any) -> Any:
        with self._channel.lock:
            (answer,) = self._exchange([ask])
        try:
            return apply(ask, answer, then, lambda _: self.close())
        except OSError:
            with self._channel.lock, contextlib.suppress(OSError):
                self._channel.drop(ask, answer)
                self._channel.send_discards()
            raise

    def _exchange(self, asks: list[Ask], all_or_nothing: bool = False) -> list[Answer]:
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        answers: dict[int, Answer] = {}
        ids: list[int] = []
        try:
            self._channel.send_discards()
            for message, numbers in self._messages(asks, all_or_nothing):
                ids += numbers
                self._channel.send(message, deadline)
                self._await_answers(set(numbers), answers, deadline)
        except BaseException as error:
            for number, ask in zip(ids, asks):
                if number in answers:
                    self._channel.drop(ask, answers[number])
                else:
                    self._channel.give_up(number, ask)
            if isinstance(error, OSError) and is_over(error):
                self.close()
            raise
        return [answers[number] for number in ids]

    def _await_answers(self, waiting: set[int], answers: dict[int, Answer], deadline: Optional[float]) -> None:
        while waiting:
            for answer in self._channel.answers(*self._channel.receive(deadline)):
                if answer.reply.id in waiting:
                    waiting.remove(answer.reply.id)
                    answers[answer.reply.id] = answer
                else:  # answers a request that was given up, or came twice around a crash
                    self._channel.drop_late(answer)
                    self._channel.send_discards()
            # Answers that nobody waits for may come without end.
            if waiting and deadline is not None and time.monotonic() >= deadline:
                raise too_late()

    def _messages(self, asks: list[Ask], all_or_nothing: bool) -> Iterator[tuple[bytes, list[int]]]:
        """As few as the broker's limits allow."""
        limits = self._channel.limits
        batch: list[Request] = []
        size = HEADER_SIZE
        for ask in asks:
            self._channel.check(ask)
            request = self._channel.request(ask)
            more = len(write_request(request))
            full = len(batch) == limits.max_requests or size + more > limits.max_message
            if batch and (full or request.id < batch[-1].id):
                if all_or_nothing:
                    raise failure(errno.E2BIG, "the requests do not fit one message")
                yield write_requests(batch), [one.id for one in batch]
                batch, size = [], HEADER_SIZE
            batch.append(request)
            size += more
        if batch:
            yield write_requests(batch, all_or_nothing), [one.id for one in batch]


_default: Optional[Broker] = None
_default_lock = threading.Lock()


def _unlock_in_child() -> None:
    """Another thread may have had it, which is not in the child."""
    global _default_lock
    _default_lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock_in_child)


def connect(address: Optional[str] = None, *, any_owner: bool = False, timeout: Optional[float] = None) -> Broker:
    return Broker(address, any_owner=any_owner, timeout=timeout)


def default_broker() -> Broker:
    """The connection of open() and BrokeredPath: made when it is needed first. A program that confines itself calls
    this before; afterwards it is PermissionError, whose reason says so."""
    global _default
    with _default_lock:
        if _default is None or _default.fileno() < 0:
            _default = Broker()
        return _default


def open(path: StrPath, mode: str = "r", buffering: int = -1, encoding: Optional[str] = None,
         errors: Optional[str] = None, newline: Optional[str] = None, *, permissions: int = 0o666) -> IO[Any]:
    """builtins.open() by the default broker."""
    return default_broker().open(path, mode, buffering, encoding, errors, newline, permissions=permissions)
