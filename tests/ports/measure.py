# SPDX-License-Identifier: MIT
"""measure.py [sqlite|pool|jhead|servers]...: speed of ported programs as ratios to the originals, medians of rounds in which both
take turns. Printed, never asserted."""

import os
import statistics
import subprocess
import sys
import time

import debian_programs
from debian_source import Unavailable
from port_support import HERE, RULES, RealOpener, Server, ServerAtPort
from test_debian_ports import make_photographs
from test_ports import FILE_SERVER, run_sqlite

KINDS = ("original", "ported")
ROUNDS = 15


def run(environment, *command):
    return subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True, check=True).stdout


def told(name, ratios, what):
    middle = statistics.quantiles(ratios, n=4)
    print(f"{name}: {middle[1]:.3f} {what} (half of the rounds: {middle[0]:.3f} to {middle[2]:.3f})", flush=True)


def sqlite(opener, environment):
    ratios = []
    for number in range(ROUNDS):
        times = {kind: int(run_sqlite(environment, kind, opener.data / f"{kind}{number}.db", 20000)[2]) for kind in KINDS}
        ratios.append(times["ported"] / times["original"])
    told("SQLite, inserts", ratios, "times the original's time")


def pool(opener, environment):
    page = opener.write("opened.html", "x" * 1000)
    for mode in ("threads", "mutex", "children", "fork", "connect"):
        print(f"{mode}, 8: {int(run(environment, os.environ['FDBROKER_POOL_RATE'], mode, page, 8)):,} opens a second", flush=True)


def jhead(opener, environment):
    programs = debian_programs.jhead()
    make_photographs(opener.data / "photographs", 300)
    names = sorted(str(path) for path in (opener.data / "photographs").iterdir())
    for count in (300, 1):
        ratios, seconds = [], []
        for _ in range(ROUNDS):
            times = {}
            for kind in KINDS:
                begin = time.monotonic()
                run(environment, programs[kind], *names[:count])
                times[kind] = time.monotonic() - begin
            ratios.append(times["ported"] / times["original"])
            seconds.append(times["original"])
        told(f"jhead, files: {count}", ratios, "times the original's time")
        print(f"    the original: {statistics.median(seconds) * 1000:.1f} ms")


def rates(environment, name, servers, mode, requests):
    try:
        ratios, originals = [], []
        for _ in range(ROUNDS):
            now = {kind: int(run(environment, os.environ["FDBROKER_HTTP_RATE"], mode, server.port, "/page.html", requests))
                   for kind, server in servers.items()}
            ratios.append(now["ported"] / now["original"])
            originals.append(now["original"])
        told(f"{name}, connections: {mode}", ratios, "of the original's throughput")
        print(f"    the original: {statistics.median(originals):,.0f} requests a second")
    finally:
        for server in servers.values():
            server.close()


def servers(opener, environment):
    opener.write("page.html", "x" * 1000)
    rates(environment, "http.server", {kind: Server(environment, sys.executable, HERE / "http_server.py", kind, opener.data)
                                       for kind in KINDS}, "once", 500)
    for mode in ("once", "kept"):
        rates(environment, "C++ server", {kind: Server(environment, FILE_SERVER, kind, opener.data) for kind in KINDS}, mode, 4000)
    programs = debian_programs.mini_httpd()
    rates(environment, "mini_httpd", {kind: ServerAtPort(environment, programs[kind], "-D", "-h", "127.0.0.1", "-p", "PORT", "-u",
                                                         "nobody", "-d", opener.data) for kind in KINDS},
          "once", 2000)


def main(names):
    opener = RealOpener(RULES)
    environment = dict(os.environ, FDBROKER_SOCKET=opener.address)
    try:
        for measured in (sqlite, pool, jhead, servers):
            if not names or measured.__name__ in names:
                try:
                    measured(opener, environment)
                except Unavailable as error:
                    print(f"{measured.__name__}: skipped: {error}")
    finally:
        opener.close()


if __name__ == "__main__":
    main(sys.argv[1:])
