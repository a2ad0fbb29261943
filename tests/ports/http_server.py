# SPDX-License-Identifier: MIT
"""http_server.py original|ported DIRECTORY: Python's http.server, and the same with its files from the broker, confined.
Prints its port."""

import functools
import http.server
import os
import posixpath
import sys

import fdbroker

# ---- the port: the few names of `os` and `open` that http.server uses lead to the broker ----


class BrokeredOs:
    """`os` as http.server sees it."""

    def __init__(self, broker):
        self._broker = broker
        self.path = BrokeredPath(broker)

    def __getattr__(self, name):
        return getattr(os, name)

    def listdir(self, path):
        return self._broker.listdir(path)


class BrokeredPath:
    """`os.path` as http.server sees it."""

    def __init__(self, broker):
        self._path = broker.path

    def __getattr__(self, name):
        return getattr(posixpath, name)

    def _asked(self, question, path):
        try:
            return getattr(self._path(path), question)()
        except OSError:
            return False

    def isdir(self, path):
        return self._asked("is_dir", path)

    def isfile(self, path):
        return self._asked("is_file", path)

    def exists(self, path):
        return self._asked("exists", path)

    def islink(self, path):
        return self._asked("is_symlink", path)


def lead_to_the_broker():
    broker = fdbroker.default_broker()
    http.server.os = BrokeredOs(broker)
    http.server.open = broker.open
    fdbroker.prepare()


# ---- what both do ----


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


def main(kind, directory):
    handler = functools.partial(Quiet, directory=directory)
    if kind == "ported":
        lead_to_the_broker()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Quiet.guess_type(Quiet, "a.html")  # reads the lists of types
        if kind == "ported":
            fdbroker.confine(fdbroker.CONFINE_BEST_EFFORT, allow=fdbroker.ALLOW_TCP_OPTIONS)
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
