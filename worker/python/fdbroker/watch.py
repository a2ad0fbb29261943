# SPDX-License-Identifier: MIT
"""Watches: what the broker tells of changes to a file."""

from __future__ import annotations

import asyncio
import os
import select
from typing import AsyncIterator, Iterator, Optional

WATCH_CONTENT = 1  # size or modification time
WATCH_ATTRIBUTES = 2  # mode, owner, group, links, or the change time alone
WATCH_REPLACED = 4  # another object, or none; the others come with it
WATCH_ALL = WATCH_CONTENT | WATCH_ATTRIBUTES | WATCH_REPLACED


class _Descriptor:
    """Owns the descriptor of a watch, which ends when that is closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        self.close()

    def fileno(self) -> int:
        """For select and event loops: readable when something has changed, and when the watch is over."""
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take(self) -> int:
        told = os.read(self._descriptor, 1)
        return told[0] if told else 0


class Watch(_Descriptor):
    """Iterate over it, or read(), to wait for changes: WATCH_* together, each time.

    The watch is over when the connection or the broker ends, the policy is loaded anew, the directory is gone, or others
    need the place. Watch again then, and look what has changed meanwhile.
    """

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[int]:
        while changes := self._take():
            yield changes

    def read(self, timeout: Optional[float] = None) -> Optional[int]:
        """The changes since the last time; 0: the watch is over. Waits `timeout` seconds at most; None: none came."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return self._take() if poll.poll(None if timeout is None else timeout * 1000) else None


class AsyncWatch(_Descriptor):
    """The same for asyncio: `async for`, or await read()."""

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def __aiter__(self) -> AsyncIterator[int]:
        while changes := await self.read():
            yield changes

    async def read(self) -> int:
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        descriptor = self._descriptor
        loop.add_reader(descriptor, lambda: readable.done() or readable.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        return self._take()
