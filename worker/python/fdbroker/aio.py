# SPDX-License-Identifier: MIT
"""A connection for asyncio."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import errno
import os
from typing import IO, Any, AsyncIterator, Optional

from . import tree
from .calls import Calls, apply, check_put, flags_of
from .connection import Answer, Ask, Channel, failure, too_late
from .payload import Entry, StrPath
from .protocol import write_requests
from .watch import WATCH_ALL, AsyncWatch


class AsyncBroker(Calls):
    """A connection for asyncio: every call is awaited, hundreds may be at once.

    async with AsyncBroker() as broker: status = await broker.stat("/srv/www")
    """

    def __init__(self, address: Optional[str] = None, *, any_owner: bool = False,
                 timeout: Optional[float] = None) -> None:
        self.timeout = timeout
        self._channel = Channel(address, any_owner, timeout)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._unsent: list[bytes] = []
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._watched = -1  # the socket's number, by which the loop knows it

    async def __aenter__(self) -> AsyncBroker:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Awaited calls fail with ECONNRESET."""
        self._fail(failure(errno.ECONNRESET, "the connection was closed"))

    async def open(self, path: StrPath, mode: str = "r", buffering: int = -1, encoding: Optional[str] = None,
                   errors: Optional[str] = None, newline: Optional[str] = None, *,
                   permissions: int = 0o666) -> IO[Any]:
        """As builtins.open(); reading and writing the file are as blocking as ever."""
        flags = flags_of(path, mode, buffering, encoding, errors, newline)
        descriptor = await self.open_fd(path, flags, permissions)
        return builtins.open(os.fspath(path), mode, buffering, encoding, errors, newline, opener=lambda *_: int(descriptor))

    async def scandir(self, path: StrPath, *, status: bool = False) -> AsyncIterator[Entry]:
        """As Broker.scandir()."""
        cursor = 0
        while True:
            cursor, entries = await self._page(path, cursor, status)
            for entry in entries:
                yield entry
            if not cursor:
                return

    async def listdir(self, path: StrPath) -> list[str]:
        return [entry.name async for entry in self.scandir(path)]

    async def access(self, path: StrPath, mode: int) -> bool:
        """As Broker.access()."""
        try:
            await tree.run_async(self, tree.access(path, mode))
            return True
        except OSError as error:
            if error.errno in tree.SAYS_NO:
                return False
            raise

    async def realpath(self, path: StrPath) -> str:
        """As Broker.realpath()."""
        return str(await tree.run_async(self, tree.realpath(path, self._directory())))

    @contextlib.asynccontextmanager
    async def put(self, path: StrPath, mode: str = "wb", *, permissions: int = 0o666, replace: bool = True,
                  encoding: Optional[str] = None, errors: Optional[str] = None,
                  newline: Optional[str] = None) -> AsyncIterator[IO[Any]]:
        """As Broker.put()."""
        check_put(path, mode, encoding, errors, newline)
        number, descriptor = await self._put(path, permissions)
        try:
            with builtins.open(descriptor, mode, encoding=encoding, errors=errors, newline=newline) as file:
                yield file
            await self._commit(path, number, 0 if replace else 1)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error tells more
                await self._discard(path, number)
            raise

    async def watch(self, path: StrPath, mask: int = WATCH_ALL) -> AsyncWatch:
        """As Broker.watch()."""
        return AsyncWatch(await self.watch_fd(path, mask))

    async def _ask(self, ask: Ask, then: Any) -> Any:
        self._channel.check(ask)
        request = self._channel.request(ask)
        loop = self._attach()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting[request.id] = future
        try:
            self._send(write_requests([request]), loop)
            answer = await asyncio.wait_for(future, self.timeout)
        except BaseException as error:
            # An answer may have come in the moment in which nobody waited for it any more.
            if future.done() and not future.cancelled() and future.exception() is None:
                self._channel.drop(ask, future.result())
                self._send_discards(loop)
            else:
                self._channel.give_up(request.id, ask)
            if isinstance(error, asyncio.TimeoutError):
                raise too_late() from None
            raise
        finally:
            self._waiting.pop(request.id, None)
        try:
            return apply(ask, answer, then, self._fail)
        except OSError:
            self._channel.drop(ask, answer)
            self._send_discards(loop)
            raise

    def _send_discards(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._loop is not None and self._channel.discards:
            self._send(self._channel.discards.pop(0), loop)

    def _send(self, message: bytes, loop: asyncio.AbstractEventLoop) -> None:
        try:
            if not self._unsent and self._channel.send_now(message):
                return
        except OSError as error:
            self._fail(error)
            return
        self._unsent.append(message)
        loop.add_writer(self._watched, self._send_unsent)

    def _attach(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return loop
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("the connection belongs to another event loop")
        self._loop = loop
        self._watched = self._channel.socket.fileno()
        loop.add_reader(self._watched, self._take_what_came)
        return loop

    def _detach(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._watched)
            self._loop.remove_writer(self._watched)
        self._loop = None

    def _fail(self, error: OSError) -> None:
        self._detach()  # before the number is another file's
        self._channel.close()
        self._unsent.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    def _send_unsent(self) -> None:
        try:
            while self._unsent and self._channel.send_now(self._unsent[0]):
                self._unsent.pop(0)
        except OSError as error:
            self._fail(error)
            return
        if not self._unsent and self._loop is not None:
            self._loop.remove_writer(self._watched)

    def _take_what_came(self) -> None:
        try:
            received = self._channel.receive_now()
            for answer in [] if received is None else self._channel.answers(*received):
                future = self._waiting.get(answer.reply.id)
                if future is not None and not future.done():
                    future.set_result(answer)
                    continue
                if future is None:
                    self._channel.drop_late(answer)
                else:
                    answer.close()
            if self._loop is not None:
                self._send_discards(self._loop)
        except OSError as error:
            self._fail(error)
