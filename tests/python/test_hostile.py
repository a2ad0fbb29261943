# SPDX-License-Identifier: MIT
"""The Python module against a broker that is broken or means ill, and against programs that use it otherwise than they should."""

import asyncio
import errno
import gc
import os
import resource
import select
import signal
import socket
import threading
import tracemalloc
import unittest

import fdbroker
from fdbroker import protocol
from fdbroker.protocol import Reply
from support import ScriptedBroker, open_descriptors


def stale(descriptors=False):
    return protocol.write_replies([Reply(1, descriptor=descriptors)])


class KeepsDescriptors(unittest.TestCase):
    def setUp(self):
        self.before = open_descriptors()

    def tearDown(self):
        gc.collect()
        self.assertEqual(open_descriptors(), self.before)

    def fails_with(self, number, call):
        with self.assertRaises(OSError) as caught:
            call()
        self.assertEqual(caught.exception.errno, number)
        return caught.exception


class HostileBroker(KeepsDescriptors):
    def test_answers_to_nobody_without_end_do_not_hold_a_call_up(self):
        peer = ScriptedBroker(lambda peer: peer.request())
        with fdbroker.Broker(peer.address, timeout=0.05) as broker:
            broker._channel.receive_now = lambda: (stale(), [], False)
            with self.assertRaises(TimeoutError):
                broker.stat("/a")
        peer.join()

    def test_a_broker_that_refuses_and_closes_says_why_whoever_is_faster(self):
        for hello_first in (True, False):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

            def refuse():
                if hello_first:
                    select.select([ours], [], [])
                ours.send(protocol.write_end(errno.EMFILE, "too many connections"))
                ours.close()

            thread = threading.Thread(target=refuse)
            thread.start()
            if not hello_first:
                thread.join()
            error = self.fails_with(errno.EMFILE, lambda: fdbroker.Broker(f"fd:{theirs.detach()}"))
            self.assertEqual(error.reason, "client: too many connections")
            thread.join()

    def test_a_request_that_the_broker_does_not_take_any_more_gets_its_reason(self):
        peer = ScriptedBroker(lambda peer: peer.socket.send(protocol.write_end(errno.ETIMEDOUT, "silent for too long")))
        with fdbroker.Broker(peer.address) as broker:
            peer.join()
            error = self.fails_with(errno.ECONNRESET, lambda: broker.stat("/a"))
            self.assertIn("silent for too long", error.reason)

    def test_what_an_inherited_socket_still_holds_is_not_taken_for_an_answer(self):
        ids = set()
        for _ in range(4):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, open("/dev/null") as file:
                socket.send_fds(ours, [stale(descriptors=True)], [file.fileno()])
                ours.send(protocol.write_hello_reply(protocol.HelloReply(1, 1, 253, 65536, 1)))
                with fdbroker.Broker(f"fd:{theirs.detach()}") as broker:
                    ids.add(broker._channel.next_id())
        self.assertEqual(len(ids), 4)

    def test_ids_take_no_memory(self):
        peer = ScriptedBroker(lambda peer: None)
        with fdbroker.Broker(peer.address) as broker:
            tracemalloc.start()
            for _ in range(20000):
                broker._channel.next_id()
            self.assertLess(tracemalloc.get_traced_memory()[0], 100000)
            tracemalloc.stop()
        peer.join()

    def test_an_answer_that_is_none_ends_the_connection(self):
        def script(peer):
            request = peer.request()
            with open("/dev/null") as file:
                peer.reply(Reply(request.id, descriptor=True), descriptors=[file.fileno()])
            peer.socket.recv(1)

        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            self.fails_with(errno.EPROTO, lambda: broker.mkdir("/d"))
            self.fails_with(errno.ECONNRESET, lambda: broker.mkdir("/d"))
        peer.join()

    def test_among_many_as_well(self):
        def script(peer):
            first, second = peer.requests()
            with open("/dev/null") as file:
                peer.reply(Reply(first.id, descriptor=True), Reply(second.id), descriptors=[file.fileno()])

        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            self.fails_with(errno.EPROTO, lambda: broker.open_many(["/a", "/b"]))
        peer.join()

    def test_a_page_of_a_directory_that_leads_to_itself_ends_the_connection(self):
        def script(peer):
            for _ in range(2):
                peer.reply(Reply(peer.request().id, payload=protocol.NUMBER.pack(5)))

        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            self.fails_with(errno.EPROTO, lambda: broker.listdir("/d"))
        peer.join()

    def test_what_finds_no_room_in_the_table_is_told_and_the_connection_goes_on(self):
        opened = threading.Event()

        def script(peer):
            with open("/dev/null") as file:
                opened.set()
                first, second = peer.requests()
                peer.reply(Reply(first.id, descriptor=True), Reply(second.id, descriptor=True),
                           descriptors=[file.fileno()] * 2)
                peer.reply(Reply(peer.request().id, payload=b"target"))

        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            opened.wait()
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            next_one = os.dup(0)
            os.close(next_one)
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + 1, hard))
            try:
                first, second = broker.open_many(["/a", "/b"])
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            self.assertEqual(first, next_one)
            os.close(first)
            self.assertEqual(second.errno, errno.EMFILE)
            self.assertEqual(broker.readlink("/l"), "target")
        peer.join()


class Asynchronous(KeepsDescriptors):
    def test_an_answer_that_came_when_its_task_was_cancelled_does_not_stay_open(self):
        answered = threading.Event()

        def script(peer):
            request = peer.request()
            with open("/dev/null") as file:
                peer.reply(Reply(request.id, descriptor=True), descriptors=[file.fileno()])
            answered.set()
            peer.socket.recv(1)

        async def main():
            async with fdbroker.AsyncBroker(peer.address, timeout=60) as broker:
                task = asyncio.ensure_future(broker.open_fd("/a", 0))
                await asyncio.sleep(0)
                answered.wait()
                broker._take_what_came()
                task.cancel()
                try:
                    os.close(await task)
                except asyncio.CancelledError:
                    pass

        peer = ScriptedBroker(script)
        asyncio.run(main())
        peer.join()

    def test_a_broker_that_is_gone_is_told_to_everyone_who_waits(self):
        async def main():
            async with fdbroker.AsyncBroker(peer.address) as broker:
                waiting = asyncio.ensure_future(broker.readlink("/a"))
                await asyncio.sleep(0)
                peer.thread.join()  # found by the next who sends, before the loop looks
                results = await asyncio.wait_for(
                    asyncio.gather(waiting, broker.readlink("/b"), return_exceptions=True), 60)
                self.assertEqual([result.errno for result in results], [errno.ECONNRESET] * 2)
                # The number belongs to another file now, which the loop watches.
                one, other = socket.socketpair()
                with one, other:
                    asyncio.get_running_loop().add_reader(one, print)
                    asyncio.get_running_loop().remove_reader(one)

        peer = ScriptedBroker(lambda peer: peer.request())
        asyncio.run(main())
        peer.join()

    def test_an_answer_that_is_none_is_told_to_everyone_who_waits(self):
        def script(peer):
            first = peer.request()
            peer.request()
            peer.reply(Reply(first.id, payload=b"no status"))
            peer.socket.recv(1)

        async def main():
            async with fdbroker.AsyncBroker(peer.address) as broker:
                results = await asyncio.wait_for(
                    asyncio.gather(broker.stat("/a"), broker.readlink("/b"), return_exceptions=True), 60)
                self.assertEqual([result.errno for result in results], [errno.EPROTO] * 2)

        peer = ScriptedBroker(script)
        asyncio.run(main())
        peer.join()

    def test_what_fits_no_message_is_not_sent(self):
        async def main():
            async with fdbroker.AsyncBroker(peer.address) as broker:
                with self.assertRaises(OSError) as caught:
                    await broker.setxattr("/a", "user.k", bytes(70000))
                self.assertEqual(caught.exception.errno, errno.E2BIG)
                self.assertEqual(await broker.readlink("/l"), "t")

        peer = ScriptedBroker(lambda peer: peer.reply(Reply(peer.request().id, payload=b"t")))
        asyncio.run(main())
        peer.join()

    def test_wrong_arguments_of_open_are_told_as_python_does(self):
        async def main():
            async with fdbroker.AsyncBroker(peer.address) as broker:
                for mode, encoding in (("q", None), ("rb", "utf-8")):
                    with self.assertRaises(ValueError) as caught:
                        await broker.open("/a", mode, encoding=encoding)
                    with self.assertRaises(ValueError) as python:
                        open("/dev/null", mode, encoding=encoding)
                    self.assertEqual(str(caught.exception), str(python.exception))

        peer = ScriptedBroker(lambda peer: None)
        asyncio.run(main())
        peer.join()


class Misuse(KeepsDescriptors):
    def test_what_the_wire_has_no_room_for_is_refused_and_the_connection_goes_on(self):
        peer = ScriptedBroker(lambda peer: peer.reply(Reply(peer.request().id, payload=b"t")))
        long = "/" + "p" * 4095
        with fdbroker.Broker(peer.address) as broker:
            for call in (lambda: broker.getxattr("/a", "user.\0"), lambda: broker.setxattr("/a", "user.a\0b", b"c"),
                         lambda: broker.rename("/a", "/b\0"), lambda: broker.symlink("\0", "/b")):
                with self.assertRaises(ValueError):
                    call()
            self.fails_with(errno.ERANGE, lambda: broker.removexattr("/a", ""))
            self.fails_with(errno.ERANGE, lambda: broker.getxattr("/a", "n" * 256))
            self.fails_with(errno.ENAMETOOLONG, lambda: broker.rename("/a", long))
            self.fails_with(errno.ENAMETOOLONG, lambda: broker.symlink(long, "/a"))
            self.fails_with(errno.ENAMETOOLONG, lambda: broker.readlink(long))
            self.fails_with(errno.E2BIG, lambda: broker.setxattr("/a", "user.k", bytes(70000)))
            self.assertEqual(broker.readlink("/l"), "t")
        peer.join()

    def test_a_put_with_wrong_arguments_asks_for_nothing(self):
        peer = ScriptedBroker(lambda peer: None)
        with fdbroker.Broker(peer.address) as broker:
            for options in ({"mode": "r"}, {"mode": "wb", "encoding": "utf-8"}, {"mode": "w", "newline": "x"}):
                with self.assertRaises(ValueError):
                    broker.put("/a", **options).__enter__()
            with self.assertRaises(LookupError):
                broker.put("/a", "w", encoding="no-such-encoding").__enter__()
            with self.assertRaises(LookupError):
                broker.put("/a", "w", errors="no-such-handler").__enter__()
        peer.join()

    def test_what_a_put_raised_is_told_even_when_it_cannot_be_discarded(self):
        def script(peer):
            request = peer.request()
            with open("/dev/null", "w") as file:
                peer.reply(Reply(request.id, descriptor=True, payload=protocol.NUMBER.pack(7)),
                           descriptors=[file.fileno()])

        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker, self.assertRaises(KeyError):
            with broker.put("/a"):
                raise KeyError
        peer.join()

    def test_a_descriptor_is_no_path(self):
        peer = ScriptedBroker(lambda peer: None)
        with fdbroker.Broker(peer.address) as broker, self.assertRaises(TypeError):
            broker.open(0)
        peer.join()

    def test_an_inherited_descriptor_that_is_no_such_socket_stays_open(self):
        stream, other = socket.socketpair()
        with stream, other:
            self.fails_with(errno.EPROTOTYPE, lambda: fdbroker.Broker(f"fd:{stream.fileno()}"))
            stream.send(b"x")

    def test_an_inherited_socket_belongs_to_one_connection(self):
        peer = ScriptedBroker(lambda peer: peer.reply(Reply(peer.request().id, payload=b"t")))
        with fdbroker.Broker(peer.address) as broker:
            self.fails_with(errno.EBUSY, lambda: fdbroker.Broker(peer.address))
            self.assertEqual(broker.readlink("/l"), "t")
        peer.join()

    def test_a_child_is_not_held_up_by_a_thread_that_it_does_not_have(self):
        peer = ScriptedBroker(lambda peer: peer.socket.recv(1))
        with fdbroker.Broker(peer.address) as broker:
            with broker._channel.lock:
                child = os.fork()
                if child == 0:
                    signal.alarm(60)
                    try:
                        broker.stat("/a")
                    except OSError as error:
                        os._exit(0 if error.errno == errno.EBADF else 1)
                    os._exit(2)
                self.assertEqual(os.waitpid(child, 0)[1], 0)
        peer.join()


if __name__ == "__main__":
    unittest.main()
