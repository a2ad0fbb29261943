# SPDX-License-Identifier: MIT
"""Shared by the tests of the Python module: a real opener, and a peer that answers as it is told."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading

from fdbroker import protocol

OPENER = os.environ.get("FDBROKER_OPENER", "opener")


def open_descriptors():
    return sorted(os.listdir("/proc/self/fd"))


class RealOpener:
    """An opener that serves `rules` (YAML text, with DIR for a private directory) on a socket of this process's."""

    def __init__(self, rules):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="fdbroker-py.", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.data = self.directory / "data"
        self.data.mkdir()
        policy = self.directory / "policy.yaml"
        policy.write_text("version: 1\nrules:\n" + rules.replace("DIR", str(self.data)))
        policy.chmod(0o644)
        self.address = str(self.directory / "opener.sock")
        self.log = self.directory / "stderr"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, self.log.open("w") as log:
            listener.bind(self.address)
            os.chmod(self.address, 0o666)
            listener.listen(64)  # connections wait in the backlog until the opener is ready
            self.process = subprocess.Popen(
                [OPENER, "--policy", str(policy), "--listen", f"fd:{listener.fileno()}", "--audit",
                 str(self.directory / "audit.jsonl")],
                pass_fds=[listener.fileno()], stderr=log, stdin=subprocess.DEVNULL)

    def write(self, name, content):
        path = self.data / name
        path.write_text(content)
        return str(path)

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.directory)


class ScriptedBroker:
    """The broker's end of a connection: `script(peer)` runs in a thread. The client's end is `address`."""

    def __init__(self, script, calls=(1 << 17) - 1):
        ours, self.client_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.address = f"fd:{self.client_end.detach()}"
        self.socket = ours
        self.trouble = None
        self.thread = threading.Thread(target=self._run, args=(script, calls))
        self.thread.start()

    def _run(self, script, calls):
        try:
            protocol.read_hello(self.socket.recv(65536))
            self.socket.send(protocol.write_hello_reply(protocol.HelloReply(1, 1, 253, 65536, calls)))
            script(self)
        except Exception as error:  # shown by join()
            self.trouble = error
        finally:
            self.socket.close()

    def join(self):
        self.thread.join()
        if self.trouble is not None:
            raise self.trouble

    def requests(self):
        return protocol.read_requests(self.socket.recv(65536))[0]

    def request(self):
        (request,) = self.requests()
        return request

    def reply(self, *replies, descriptors=()):
        message = protocol.write_replies(replies)
        if descriptors:
            socket.send_fds(self.socket, [message], list(descriptors))
        else:
            self.socket.send(message)
