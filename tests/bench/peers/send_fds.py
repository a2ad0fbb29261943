#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A broker in Python, as programs write it with socket.send_fds: send_fds.py FD RULES

Answers paths on the SEQPACKET socket FD with descriptors. RULES patterns of fnmatch are tried in turn; 0: no policy.
"""

import fnmatch
import os
import socket
import sys

# The last pattern matches every path of the benchmark; the others look like it.
DIRECTORY = "/data-{}/*"


def allowed(patterns, path):
    return not patterns or any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def main(descriptor, rules):
    patterns = [DIRECTORY.format(number) for number in range(rules - 1)] + ["/*"] * (rules > 0)
    peer = socket.socket(fileno=descriptor)
    while message := peer.recv(4096):
        path = message.rstrip(b"\0").decode()
        if not allowed(patterns, path):
            sys.exit("refused")
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(peer, [b"\0"], [file])
        os.close(file)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
