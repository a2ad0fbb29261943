#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Records a second, and the most memory, of what reads the audit log: bench_records.py MAKE-RECORDS OPENERCTL [COUNT]

Reads a day of COUNT records (1,000,000), plain and compressed, with `policy replay`, `audit verify` and `audit report`.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

RECORDS_A_SECOND = 1_000_000  # `policy replay` must read so many


def run(command, status, output=subprocess.DEVNULL):
    """Seconds, and KiB of the largest process."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=output)
    _, status_word, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    got = status_word >> 8
    if got != status:
        sys.exit(f"{command}: status {got}, not {status}")
    return seconds, usage.ru_maxrss


def row(what, count, seconds, memory, target=""):
    print(f"{what:34} {count / seconds / 1e6:6.2f} M records/s {seconds:7.2f} s {memory / 1024:7.1f} MiB  {target}")


def main(make_records, openerctl, count=1_000_000):
    count = int(count)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = pathlib.Path(name)
        log = directory / "audit.jsonl"
        for policy in ("policy", "stricter-policy"):
            with open(directory / f"{policy}.yaml", "wb") as file:
                subprocess.run([make_records, f"--{policy}"], stdout=file, check=True)
        with open(log, "wb") as file:
            subprocess.run([make_records, str(count)], stdout=file, check=True)
        print(f"a day of {count:,} records, {log.stat().st_size / 1e6:,.0f} MB")
        logs = {"plain": log}
        for compress, ending in ((["gzip", "-k", "-6"], ".gz"), (["zstd", "-q", "-k", "-T1"], ".zst")):
            if shutil.which(compress[0]):
                subprocess.run([*compress, log], check=True)
                logs[compress[0]] = pathlib.Path(str(log) + ending)
        for form, path in logs.items():
            target = f"at least {RECORDS_A_SECOND / 1e6:.0f} M/s"
            replay = [openerctl, "policy", "replay", path, directory / "policy.yaml"]
            row(f"policy replay, {form}", count, *run(replay, 0), target)
        replay = [openerctl, "policy", "replay", log, directory / "stricter-policy.yaml"]
        row("policy replay, with flips", count, *run(replay, 1))
        row("audit verify", count, *run([openerctl, "audit", "verify", log], 0))
        row("audit report", count, *run([openerctl, "audit", "report", log], 0))


if __name__ == "__main__":
    main(*sys.argv[1:])
