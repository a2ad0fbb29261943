#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""follow.py PATH [SECONDS]: prints what is appended to a log that this process could not open itself, across rotations.

The broker tells at once when something has changed. The path is asked for now and then as well: a writer may go on with
a file that has lost the name. Another file behind it is a rotation: the old one is read to its end, the new one from
its beginning. A file that has become shorter was truncated in place.
"""

import errno
import os
import sys
import time

import fdbroker


def open_log(broker, path):
    """None while there is none: between two steps of a rotation."""
    try:
        return broker.open(path, "rb")
    except FileNotFoundError:
        return None


def is_same(one, other):
    return os.path.samestat(os.fstat(one.fileno()), os.fstat(other.fileno()))


def read_rest(log, write):
    write(log.read())
    if os.fstat(log.fileno()).st_size < log.tell():
        log.seek(0)
        write(log.read())


def changes(broker, path, seconds):
    """Yields at first, after each change, and each time that nothing was told for `seconds`."""
    while True:
        try:
            with broker.watch(path, fdbroker.WATCH_CONTENT | fdbroker.WATCH_REPLACED) as watch:
                yield
                while watch.read(seconds) != 0:
                    yield
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOENT, errno.EOPNOTSUPP):
                raise
            yield
        time.sleep(seconds)


def follow(broker, path, seconds, write):
    log = None
    for _ in changes(broker, path, seconds):
        newest = open_log(broker, path)
        if log is not None:
            read_rest(log, write)
        if newest is not None:
            if log is None or not is_same(log, newest):
                log, newest = newest, log
                read_rest(log, write)
            if newest is not None:
                newest.close()


def write_out(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def main():
    path, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    broker = fdbroker.Broker()
    fdbroker.confine(fdbroker.CONFINE_LIMITS | fdbroker.CONFINE_BEST_EFFORT)
    follow(broker, path, seconds, write_out)


if __name__ == "__main__":
    main()
