# SPDX-License-Identifier: MIT
"""The Python module against a real opener, with real files; and against a scripted one for what that must see and say."""

import asyncio
import errno
import gc
import os
import pathlib
import subprocess
import sys
import unittest

import fdbroker
from fdbroker import protocol
from fdbroker.protocol import Reply
from support import RealOpener, ScriptedBroker, open_descriptors

RULES = """
  - {name: all, allow: [read, append, stat, list, readlink, modify, mkdir, remove, rename, symlink, setattr, xattr],
     paths: ["DIR/**"]}
  - {name: secret, deny: all, paths: ["DIR/**/*.key"]}
"""


@unittest.skipUnless(os.getuid() == 0, "needs root for a real opener")
class WithRealOpener(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.opener = RealOpener(RULES)

    @classmethod
    def tearDownClass(cls):
        cls.opener.close()

    def setUp(self):
        self.before = open_descriptors()
        self.broker = fdbroker.Broker(self.opener.address, timeout=60)
        self.data = self.opener.data

    def tearDown(self):
        self.broker.close()
        gc.collect()
        self.assertEqual(open_descriptors(), self.before)

    def test_text_files_are_ordinary_file_objects(self):
        path = self.opener.write("text", "grüße\nzwei\n")
        with self.broker.open(path, encoding="utf-8") as file:
            self.assertEqual(file.name, path)
            self.assertEqual(file.mode, "r")
            self.assertFalse(os.get_inheritable(file.fileno()))
            self.assertEqual(list(file), ["grüße\n", "zwei\n"])
        self.assertTrue(file.closed)

    def test_binary_files_buffered_and_not(self):
        path = self.opener.write("binary", "0123456789")
        with self.broker.open(path, "rb") as file:
            self.assertEqual(file.read(4), b"0123")
            self.assertEqual(file.seek(8), 8)
            self.assertEqual(file.read(), b"89")
        with self.broker.open(path, "rb", buffering=0) as raw:
            self.assertEqual(raw.readall(), b"0123456789")

    def test_a_refusal_is_a_permission_error_that_tells_why(self):
        with self.assertRaises(PermissionError) as caught:
            self.broker.open("/etc/shadow")
        error = caught.exception
        self.assertEqual((error.errno, error.filename, error.step), (errno.EACCES, "/etc/shadow", "decide"))
        self.assertIn("no rule", error.reason)
        self.assertGreater(error.record, 0)
        with self.assertRaises(PermissionError) as caught:
            self.broker.open(self.opener.write("x.key", ""))
        with self.assertRaises(FileNotFoundError) as caught:
            self.broker.open(self.data / "absent")
        self.assertEqual(caught.exception.step, "resolve")
        with self.assertRaises(OSError) as caught:
            self.broker.open("relative")
        self.assertEqual(caught.exception.errno, errno.ENOENT)

    def test_many_at_once(self):
        paths = [self.opener.write(f"many{index}", str(index)) for index in range(300)]
        results = self.broker.open_many([*paths, "/etc/shadow"])
        self.assertIsInstance(results.pop(), PermissionError)
        for index, descriptor in enumerate(results):
            with os.fdopen(descriptor) as file:
                self.assertEqual(file.read(), str(index))

    def test_pathlib_reads(self):
        path = self.broker.path(self.data) / "pathlib"
        self.opener.write("pathlib", "content")
        self.assertEqual(path.read_text(), "content")
        self.assertEqual(path.read_bytes(), b"content")
        self.assertEqual(path.parent.joinpath("pathlib").with_name("pathlib").read_text(), "content")
        for derived in (path.parent, path.parents[0], path.parent / "x", path.with_suffix(".y"), path.with_stem("z"),
                        path.relative_to(self.data), "/x" / path):
            self.assertIsInstance(derived, fdbroker.BrokeredPath)
            self.assertIs(derived.broker, self.broker)

    def test_relative_paths_are_pathlibs(self):
        # The running Python decides whether walk_up is known, and its meaning.
        def outcome(kind, *arguments, **options):
            try:
                return str(kind("/a/b/c").relative_to(*arguments, **options))
            except (TypeError, ValueError) as error:
                return type(error)

        for arguments, options in ((("/a",), {}), (("/x",), {}), (("/a/x",), {"walk_up": True}), ((), {})):
            with self.subTest(arguments=arguments, options=options):
                self.assertEqual(outcome(self.broker.path, *arguments, **options),
                                 outcome(pathlib.PurePosixPath, *arguments, **options))

    def test_asyncio_asks_for_hundreds_at_once(self):
        paths = [self.opener.write(f"async{index}", str(index)) for index in range(300)]

        async def read(broker, path):
            with await broker.open(path) as file:
                return file.read()

        async def main():
            async with fdbroker.AsyncBroker(self.opener.address) as broker:
                texts = await asyncio.gather(*(read(broker, path) for path in paths))
                with self.assertRaises(PermissionError):
                    await broker.open("/etc/shadow")
                return texts

        self.assertEqual(asyncio.run(main()), [str(index) for index in range(300)])

    def test_a_forked_child_finds_the_connection_closed(self):
        path = self.opener.write("fork", "x")
        child = os.fork()
        if child == 0:
            try:
                self.broker.open(path)
            except OSError as error:
                os._exit(0 if error.errno == errno.EBADF else 2)
            os._exit(1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.broker.open(path).close()

    @unittest.skipIf(os.environ.get("FDBROKER_SANITIZER", "none") != "none", "a sanitizer does not load into python3")
    def test_a_confined_process_reads_on(self):
        path = self.opener.write("confined", "content")
        code = f"""
import fdbroker
broker = fdbroker.Broker({self.opener.address!r})
fdbroker.confine(fdbroker.CONFINE_BEST_EFFORT)
try:
    open({path!r})
    raise SystemExit("not confined")
except PermissionError:
    pass
with broker.open({path!r}, encoding="utf-8") as file:
    assert file.read() == "content"
"""
        done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_environment_names_the_broker(self):
        path = self.opener.write("environment", "x")
        code = f"import fdbroker\nassert fdbroker.open({path!r}).read() == 'x'"
        environment = dict(os.environ, FDBROKER_SOCKET=self.opener.address)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)

    def test_files_are_written_and_appended_to(self):
        path = self.data / "written"
        with self.broker.open(path, "x") as file:
            file.write("one")
        with self.broker.open(path, "a") as file:
            file.write(" two")
        self.assertEqual(path.read_text(), "one two")
        with self.assertRaises(FileExistsError):
            self.broker.open(path, "x")
        with self.broker.open(path, "r+") as file:
            file.write("ONE")
            file.seek(0)
            self.assertEqual(file.read(), "ONE two")

    def test_what_pathlib_does(self):
        directory = self.broker.path(self.data) / "directory"
        directory.mkdir()
        self.assertTrue(directory.is_dir())
        file = directory / "file"
        self.assertFalse(file.exists())
        with file.open("w") as stream:
            stream.write("12345")
        self.assertEqual(file.stat().st_size, 5)
        file.chmod(0o600)
        self.assertEqual((self.data / "directory" / "file").stat().st_mode & 0o7777, 0o600)
        self.broker.utime(file, ns=(10**9, 2 * 10**9 + 5))
        self.assertEqual((self.data / "directory" / "file").stat().st_mtime_ns, 2 * 10**9 + 5)
        (directory / "link").symlink_to("file")
        self.assertEqual(str((directory / "link").readlink()), "file")
        self.broker.utime(directory / "link", ns=(10**9, 3 * 10**9), follow_symlinks=False)
        self.assertEqual((self.data / "directory" / "link").lstat().st_mtime_ns, 3 * 10**9)
        self.assertEqual((self.data / "directory" / "file").stat().st_mtime_ns, 2 * 10**9 + 5)
        self.assertEqual(sorted(path.name for path in directory.iterdir()), ["file", "link"])
        (directory / "link").unlink()
        file.rename(directory / "renamed").unlink()
        directory.rmdir()
        self.assertFalse((self.data / "directory").exists())

    def test_pathlib_makes_parents_and_touches(self):
        directory = self.broker.path(self.data) / "p"
        deep = directory / "q" / "r"
        with self.assertRaises(FileNotFoundError):
            deep.mkdir()
        deep.mkdir(parents=True)
        deep.mkdir(0o777, True, True)
        with self.assertRaises(FileExistsError):
            deep.mkdir()
        file = deep / "file"
        file.touch()
        with self.assertRaises(FileExistsError):
            file.mkdir(exist_ok=True)
        with self.assertRaises(FileExistsError):
            file.touch(exist_ok=False)
        self.broker.utime(file, ns=(10**9, 10**9))
        file.touch()
        self.assertGreater(file.stat().st_mtime_ns, 10**9)
        with file.open("w", newline="\r\n") as stream:
            stream.write("a\n")
        self.assertEqual(file.read_text(newline=""), "a\r\n")
        (deep / "link").symlink_to("file", False)
        self.assertFalse((deep / "link").exists())  # which the policy does not follow
        self.assertTrue((deep / "link").is_symlink())

    def test_a_put_replaces_a_file_whole(self):
        path = pathlib.Path(self.opener.write("put", "old"))
        with self.assertRaises(KeyError):
            with self.broker.put(path) as file:
                file.write(b"half")
                raise KeyError
        self.assertEqual(path.read_text(), "old")
        self.broker.path(path).write_text("new")
        self.assertEqual(path.read_text(), "new")


def status(**fields):
    order = ("mask block attributes links uid gid mode reserved inode size blocks known access birth change modification "
             "rdev_major rdev_minor dev_major dev_minor").split()
    values = {name: bytes(16) if name in ("access", "birth", "change", "modification") else 0 for name in order}
    return protocol.STATUS.pack(*(values | fields).values())


class WithScriptedBroker(unittest.TestCase):
    def once(self, call, answer=b"", descriptor=None, **connection):
        """The request of a call, and the result made from the answer."""
        seen = []

        def script(peer):
            request = peer.request()
            seen.append(request)
            reply = Reply(request.id, payload=answer, descriptor=descriptor is not None)
            peer.reply(reply, descriptors=() if descriptor is None else (descriptor,))

        before = open_descriptors()
        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address, **connection) as broker:
            try:
                result = call(broker)
            finally:
                peer.join()
        self.assertEqual(open_descriptors(), before)
        return (seen[0].call, seen[0].path, seen[0].flags, seen[0].mode, seen[0].payload), result

    def test_each_call_asks_for_what_it_was_told(self):
        times = protocol.TIME.pack(1, 5, 0) + protocol.TIME.pack(-1, 999999999, 0)
        for expected, call in [
            ((protocol.MKDIR, b"/d", 0, 0o700, b""), lambda broker: broker.mkdir("/d", 0o700)),
            ((protocol.REMOVE, b"/a", 0, 0, b""), lambda broker: broker.unlink("/a")),
            ((protocol.REMOVE, b"/d", 0x200, 0, b""), lambda broker: broker.rmdir(pathlib.Path("/d"))),
            ((protocol.RENAME, b"/a", 1, 0, b"/b\0"), lambda broker: broker.rename("/a", "/b", replace=False)),
            ((protocol.SYMLINK, b"/l", 0, 0, b"t\0"), lambda broker: broker.symlink("t", "/l")),
            ((protocol.SETATTR, b"/a", 1, 0o600, b""), lambda broker: broker.chmod("/a", 0o600)),
            ((protocol.SETATTR, b"/a", 2, 0, times), lambda broker: broker.utime("/a", ns=(1000000005, -1))),
            ((protocol.SETATTR, b"/a", 6, 0, times),
             lambda broker: broker.utime("/a", ns=(1000000005, -1), follow_symlinks=False)),
            ((protocol.XATTR_WRITE, b"/a", 1, 0, b"user.k\0v\0w"),
             lambda broker: broker.setxattr("/a", "user.k", b"v\0w", os.XATTR_CREATE)),
            ((protocol.XATTR_REMOVE, b"/a", 0, 0, b"user.k\0"), lambda broker: broker.removexattr("/a", "user.k")),
        ]:
            self.assertEqual(self.once(call), (expected, None))

    def test_answers_are_what_python_has_for_them(self):
        asked, told = self.once(lambda broker: broker.lstat("/a"),
                                status(mode=0o100640, size=4711, modification=protocol.TIME.pack(-1, 5, 0)))
        self.assertEqual(asked[2], 0x100)
        self.assertEqual((told.st_mode, told.st_size, told.st_mtime_ns), (0o100640, 4711, -999999995))
        self.assertEqual(self.once(lambda broker: broker.readlink("/l"), b"target")[1], "target")
        self.assertEqual(self.once(lambda broker: broker.getxattr("/a", "user.k"), b"v\0")[1], b"v\0")
        self.assertEqual(self.once(lambda broker: broker.listxattr("/a"), b"user.k\0user.l\0")[1],
                         ["user.k", "user.l"])

    def test_answers_that_are_none_end_the_connection(self):
        for call, answer in [(lambda broker: broker.stat("/a"), b"short"),
                             (lambda broker: broker.listdir("/a"), b"short"),
                             (lambda broker: broker.open_fd("/a", 0), b"")]:
            with self.assertRaises(OSError) as caught:
                self.once(call, answer)
            self.assertEqual(caught.exception.errno, errno.EPROTO)
        with open("/dev/null") as file, self.assertRaises(OSError) as caught:
            self.once(lambda broker: broker.mkdir("/a"), descriptor=file.fileno())
        self.assertEqual(caught.exception.errno, errno.EPROTO)

    def test_a_directory_is_listed_page_by_page(self):
        def page(cursor, *names):
            entries = [protocol.pad(protocol.ENTRY.pack(5, 8, len(name)) + name + b"\0") for name in names]
            return protocol.NUMBER.pack(cursor) + b"".join(entries)

        cursors = []

        def script(peer):
            for answer in (page(7, b"a", b"bb"), page(9), page(0, b"\xff")):
                request = peer.request()
                cursors.append(protocol.NUMBER.unpack(request.payload)[0])
                peer.reply(Reply(request.id, payload=answer))

        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            self.assertEqual(broker.listdir("/d"), ["a", "bb", "\udcff"])
        peer.join()
        self.assertEqual(cursors, [0, 7, 9])

    def test_a_put_is_committed_at_the_end_of_its_block_and_discarded_when_that_raises(self):
        for fails in (False, True):
            last = []

            def script(peer):
                number = protocol.NUMBER.pack(7)
                with open("/dev/null", "w") as file:
                    request = peer.request()
                    peer.reply(Reply(request.id, descriptor=True, payload=number), descriptors=[file.fileno()])
                request = peer.request()
                last.append((request.call, request.payload == number, request.flags))
                peer.reply(Reply(request.id))

            before = open_descriptors()
            peer = ScriptedBroker(script)
            with fdbroker.Broker(peer.address) as broker:
                try:
                    with broker.put("/a", "w", replace=False) as file:
                        file.write("content")
                        if fails:
                            raise KeyError
                except KeyError:
                    pass
            peer.join()
            self.assertEqual(last, [(protocol.DISCARD if fails else protocol.COMMIT, True, 0 if fails else 1)])
            self.assertEqual(open_descriptors(), before)

    def test_all_or_nothing_is_said_in_the_header(self):
        def script(peer):
            requests, whole, _ = protocol.read_requests(peer.socket.recv(65536))
            self.assertTrue(whole)
            peer.reply(Reply(requests[0].id, errno.ECANCELED, step=5), Reply(requests[1].id, errno.EACCES, step=2))

        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            errors = broker.open_many(["/a", "/b"], all_or_nothing=True)
        peer.join()
        self.assertEqual([error.errno for error in errors], [errno.ECANCELED, errno.EACCES])

    def test_a_call_gives_up_at_its_timeout_and_its_late_answer_is_thrown_away(self):
        def script(peer):
            late, request = peer.request(), peer.request()
            with open("/dev/null") as file:
                peer.reply(Reply(late.id, descriptor=True), descriptors=[file.fileno()])
                peer.reply(Reply(request.id, descriptor=True), descriptors=[file.fileno()])

        before = open_descriptors()
        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            broker.timeout = 0.001
            with self.assertRaises(TimeoutError):
                broker.open("/late")
            broker.timeout = 60
            broker.open("/a", "rb").close()
        peer.join()
        self.assertEqual(open_descriptors(), before)

    def test_the_end_of_the_connection_tells_why(self):
        def script(peer):
            peer.request()
            peer.socket.send(protocol.write_end(errno.ESHUTDOWN, "the opener stops"))

        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            with self.assertRaises(ConnectionResetError) as caught:
                broker.open("/a")
            self.assertIn("the opener stops", caught.exception.reason)
            with self.assertRaises(ConnectionResetError):
                broker.open("/a")
        peer.join()

    def test_bytes_that_are_no_replies_end_the_connection_and_no_file_stays_open(self):
        def script(peer):
            request = peer.request()
            with open("/dev/null") as file:
                peer.reply(Reply(request.id), descriptors=[file.fileno(), file.fileno()])

        before = open_descriptors()
        peer = ScriptedBroker(script)
        with fdbroker.Broker(peer.address) as broker:
            with self.assertRaises(OSError) as caught:
                broker.open("/a")
            self.assertEqual(caught.exception.errno, errno.EPROTO)
        peer.join()
        self.assertEqual(open_descriptors(), before)

    def test_a_call_that_is_not_served_is_not_sent(self):
        peer = ScriptedBroker(lambda peer: None, calls=1)
        with fdbroker.Broker(peer.address) as broker:
            with self.assertRaises(OSError) as caught:
                broker.mkdir("/d")
            self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        peer.join()

    def test_asyncio_answers_come_in_any_order_and_the_end_reaches_everyone(self):
        def script(peer):
            requests = [peer.request() for _ in range(4)]
            for request in reversed(requests[:2]):
                peer.reply(Reply(request.id, payload=request.path[1:]))

        async def main():
            broker = fdbroker.AsyncBroker(peer.address)
            answers = await asyncio.gather(*(broker.readlink(path) for path in ("/a", "/b", "/c", "/d")),
                                           return_exceptions=True)
            broker.close()
            return answers

        before = open_descriptors()
        peer = ScriptedBroker(script)
        answers = asyncio.run(main())
        peer.join()
        self.assertEqual(answers[:2], ["a", "b"])
        for error in answers[2:]:
            self.assertIsInstance(error, ConnectionResetError)
        gc.collect()
        self.assertEqual(open_descriptors(), before)

    def test_asyncio_gives_up_at_its_timeout_and_on_cancellation(self):
        def script(peer):
            late = [peer.request(), peer.request()]
            last = peer.request()
            with open("/dev/null") as file:
                for request in [*late, last]:
                    peer.reply(Reply(request.id, descriptor=True), descriptors=[file.fileno()])

        async def main():
            async with fdbroker.AsyncBroker(peer.address, timeout=0.5) as broker:
                with self.assertRaises(TimeoutError):
                    await broker.open_fd("/late", 0)
                broker.timeout = None
                task = asyncio.ensure_future(broker.open_fd("/cancelled", 0))
                await asyncio.sleep(0)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                os.close(await broker.open_fd("/a", 0))

        before = open_descriptors()
        peer = ScriptedBroker(script)
        asyncio.run(main())
        peer.join()
        gc.collect()
        self.assertEqual(open_descriptors(), before)


class Addresses(unittest.TestCase):
    def test_what_is_no_address_is_refused(self):
        for address in ("", "fd:", "fd:x", "fd:-1"):
            with self.assertRaises(ValueError):
                fdbroker.Broker(address)
        with self.assertRaises(FileNotFoundError):
            fdbroker.Broker("/nonexistent/socket")


if __name__ == "__main__":
    unittest.main()
