"""A connection for asyncio."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import errno
from typing import IO, Any, AsyncIterator, Optional

from .calls import Calls, apply
from .connection import Answer, Ask, Channel, failure
from .payload import Entry, StrPath
from .protocol import write_requests


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

    async def __aenter__(self) -> AsyncBroker:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """What is awaited fails with ECONNRESET."""
        self._fail(failure(errno.ECONNRESET, "the connection was closed"))

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

    async def _ask(self, ask: Ask, then: Any) -> Any:
        self._channel.check(ask)
        number = self._channel.next_id()
        message = write_requests([ask.request(number)])
        self._attach()
        assert self._loop is not None
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[number] = future
        try:
            if self._unsent or not self._channel.send_now(message):
                self._unsent.append(message)
                self._loop.add_writer(self._channel.socket, self._send_unsent)
            answer = await asyncio.wait_for(future, self.timeout)
        except asyncio.TimeoutError:
            raise failure(errno.ETIMEDOUT, "the broker did not answer in time") from None
        finally:
            self._waiting.pop(number, None)
            # An answer that came in the moment in which its task was cancelled.
            if future.done() and not future.cancelled() and future.exception() is None:
                answer = future.result()
        return apply(self._channel, ask, answer, then)

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
