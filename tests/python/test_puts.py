# SPDX-License-Identifier: MIT
"""Puts that fail: whatever happens to one, the broker does not keep it."""

import asyncio
import contextlib
import errno
import gc
import os
import pathlib
import resource
import threading
import unittest

import fdbroker
from fdbroker import protocol
from fdbroker.protocol import Reply
from support import RealOpener, ScriptedBroker, open_descriptors

NUMBER = protocol.NUMBER.pack(7)
DELIVER = protocol.STEPS.index("deliver")


def answer_put(peer, request):
    with open("/dev/null", "w") as file:
        peer.reply(Reply(request.id, descriptor=True, payload=NUMBER), descriptors=[file.fileno()])


class FailingPuts(unittest.TestCase):
    def setUp(self):
        self.before = open_descriptors()

    def tearDown(self):
        gc.collect()
        self.assertEqual(open_descriptors(), self.before)

    def test_a_put_whose_commit_fails_is_discarded(self):
        def script(peer):
            answer_put(peer, peer.request())
            for status in (errno.EBUSY, 0):
                request = peer.request()
                asked.append((request.call, request.payload))
                peer.reply(Reply(request.id, status=status, step=DELIVER if status else 0))

        def put(address):
            with fdbroker.Broker(address) as broker, broker.put("/a"):
                pass

        async def put_async(address):
            async with fdbroker.AsyncBroker(address) as broker, broker.put("/a"):
                pass

        for attempt in (put, lambda address: asyncio.run(put_async(address))):
            asked = []
            peer = ScriptedBroker(script)
            with self.assertRaises(OSError) as caught:
                attempt(peer.address)
            self.assertEqual(caught.exception.errno, errno.EBUSY)
            peer.join()
            self.assertEqual(asked, [(protocol.COMMIT, NUMBER), (protocol.DISCARD, NUMBER)])

    def test_a_put_that_was_given_up_is_discarded_when_its_answer_comes(self):
        def script(peer):
            late, other = peer.request(), peer.request()
            answer_put(peer, late)
            discard = peer.request()
            asked.append((discard.call, discard.path, discard.payload))
            peer.reply(Reply(discard.id))
            peer.reply(Reply(other.id, payload=b"target"))

        def put(address):
            with fdbroker.Broker(address, timeout=0.05) as broker:
                with self.assertRaises(TimeoutError):
                    broker.put("/a").__enter__()
                broker.timeout = 60
                self.assertEqual(broker.readlink("/l"), "target")

        async def put_async(address):
            async with fdbroker.AsyncBroker(address, timeout=0.05) as broker:
                with self.assertRaises(TimeoutError):
                    await broker.put("/a").__aenter__()
                broker.timeout = 60
                self.assertEqual(await broker.readlink("/l"), "target")

        for attempt in (put, lambda address: asyncio.run(put_async(address))):
            asked = []
            peer = ScriptedBroker(script)
            attempt(peer.address)
            peer.join()
            self.assertEqual(asked, [(protocol.DISCARD, b"/a", NUMBER)])

    def test_a_put_is_discarded_when_its_task_is_cancelled(self):
        def script(peer):
            answer_put(peer, peer.request())
            discard = peer.request()
            asked.append((discard.call, discard.payload))
            peer.reply(Reply(discard.id))

        async def put():
            async with fdbroker.AsyncBroker(peer.address, timeout=60) as broker:
                begun = asyncio.Event()

                async def hold():
                    async with broker.put("/a"):
                        begun.set()
                        await asyncio.Event().wait()

                task = asyncio.ensure_future(hold())
                await begun.wait()
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task

        asked = []
        peer = ScriptedBroker(script)
        asyncio.run(put())
        peer.join()
        self.assertEqual(asked, [(protocol.DISCARD, NUMBER)])

    def test_a_put_whose_descriptor_found_no_room_is_discarded(self):
        def script(peer):
            first = peer.request()
            # Before it is asked for, since both ends share the table that is full then.
            late = Reply((first.id + 1) % 2**32, descriptor=True, payload=NUMBER)
            with open("/dev/null", "w") as file:
                peer.reply(Reply(first.id))
                peer.reply(late, descriptors=[file.fileno()])
            answered.set()
            peer.request()
            request = peer.request()
            asked.append((request.call, request.path, request.payload))

        answered, asked = threading.Event(), []
        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address, timeout=60) as broker:
            broker.unlink("/first")
            answered.wait()
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            used = [int(name) for name in os.listdir("/proc/self/fd")]
            fillers = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(used) + 1, limit[1]))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        fillers.append(os.dup(0))
                with self.assertRaises(OSError) as caught:
                    broker.put("/a").__enter__()
                self.assertEqual(caught.exception.errno, errno.EMFILE)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limit)
                for filler in fillers:
                    os.close(filler)
            peer.join()
        self.assertEqual(asked, [(protocol.DISCARD, b"/a", NUMBER)])

    @unittest.skipUnless(os.getuid() == 0, "needs root for a real opener")
    def test_puts_whose_commit_fails_take_no_share_of_the_user(self):
        opener = RealOpener("""
  - {name: all, allow: [read, modify], paths: ["DIR/**"]}
""")
        try:
            path = opener.write("there", "old")
            with fdbroker.Broker(opener.address, timeout=60) as broker:
                for _ in range(20):
                    with self.assertRaises(FileExistsError), broker.put(path, replace=False):
                        pass
                with broker.put(path) as file:
                    file.write(b"new")
            self.assertEqual(pathlib.Path(path).read_text(), "new")
        finally:
            opener.close()


if __name__ == "__main__":
    unittest.main()
