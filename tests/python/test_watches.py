# SPDX-License-Identifier: MIT
"""Watches, by a real opener and by one that does as it is told."""

import asyncio
import errno
import gc
import os
import unittest

import fdbroker
from fdbroker import WATCH_ALL, WATCH_ATTRIBUTES, WATCH_CONTENT, WATCH_REPLACED, protocol
from fdbroker.protocol import Reply
from support import RealOpener, ScriptedBroker, open_descriptors

RULES = """
  - {name: data, allow: [stat], paths: ["DIR/**"]}
"""


def append(path):
    with open(path, "a") as file:
        file.write("more")


class Watches(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.opener = RealOpener(RULES)

    @classmethod
    def tearDownClass(cls):
        cls.opener.close()

    def setUp(self):
        self.before = open_descriptors()

    def tearDown(self):
        gc.collect()
        self.assertEqual(open_descriptors(), self.before)

    def test_changes_are_read_and_iterated_over_until_the_connection_ends(self):
        path = self.opener.write("file", "content")
        broker = fdbroker.Broker(self.opener.address, timeout=60)
        with broker.watch(path) as watch:
            self.assertIsNone(watch.read(0))
            append(path)
            self.assertEqual(watch.read(), WATCH_CONTENT)
            os.chmod(path, 0o600)
            for changes in watch:
                self.assertEqual(changes, WATCH_ATTRIBUTES)
                broker.close()
            self.assertEqual(watch.read(), 0)

    def test_only_what_was_asked_for_is_told(self):
        path = self.opener.write("file", "content")
        with fdbroker.Broker(self.opener.address, timeout=60) as broker, broker.watch(path, WATCH_REPLACED) as watch:
            append(path)
            os.unlink(path)
            self.assertEqual(watch.read(), WATCH_REPLACED)

    def test_asyncio_waits_for_changes_beside_other_calls(self):
        path = self.opener.write("file", "content")

        async def main():
            async with fdbroker.AsyncBroker(self.opener.address) as broker, await broker.watch(path) as watch:
                reading = asyncio.ensure_future(watch.read())
                size = (await broker.stat(path)).st_size
                append(path)
                self.assertEqual(await reading, WATCH_CONTENT)
                self.assertGreater((await broker.stat(path)).st_size, size)
                os.chmod(path, 0o600)
                async for changes in watch:
                    self.assertEqual(changes, WATCH_ATTRIBUTES)
                    broker.close()

        asyncio.run(main())

    def test_what_is_refused_is_an_error(self):
        with fdbroker.Broker(self.opener.address, timeout=60) as broker:
            for path, mask, number in (("/etc/shadow", WATCH_ALL, errno.EACCES),
                                       (str(self.opener.data / "absent/file"), WATCH_ALL, errno.ENOENT),
                                       (str(self.opener.data / "file"), 0, errno.EINVAL),
                                       (str(self.opener.data / "file"), 8, errno.EINVAL)):
                with self.assertRaises(OSError) as caught:
                    broker.watch(path, mask)
                self.assertEqual(caught.exception.errno, number)

    def test_the_request_is_that_of_the_protocol(self):
        def script(peer):
            request = peer.request()
            asked.append((request.call, request.path, request.flags, request.mode, request.payload))
            reading, writing = os.pipe()
            os.write(writing, b"\x05")
            peer.reply(Reply(request.id, descriptor=True), descriptors=[reading])
            os.close(reading)
            os.close(writing)

        asked = []
        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker, broker.watch("/a", WATCH_CONTENT | WATCH_REPLACED) as watch:
            self.assertEqual(list(watch), [WATCH_CONTENT | WATCH_REPLACED])
        peer.join()
        self.assertEqual(asked, [(protocol.WATCH, b"/a", 5, 0, b"")])


if __name__ == "__main__":
    unittest.main()
