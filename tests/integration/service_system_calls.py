#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The service's SystemCallFilter= allows every system call that an opener makes from its start to its end:
service_system_calls.py SERVICE OPENER WORKER
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

POLICY = "version: 1\nrules:\n  - {name: any, allow: [read], paths: [/usr/lib/os-release]}\n"
NOBODY = 65534
SKIP = 77


def calls_of_set(name):
    """The system calls of a set that systemd knows, with those of the sets it holds."""
    listing = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True)
    calls = set()
    for word in re.findall(r"^ +([@a-z0-9_-]+)", listing.stdout, re.MULTILINE):
        calls |= calls_of_set(word) if word.startswith("@") else {word}
    return calls


def allowed_calls(service):
    calls = set()
    for value in re.findall(r"^SystemCallFilter=(.*)$", pathlib.Path(service).read_text(encoding="utf-8"), re.MULTILINE):
        for word in value.split():
            calls |= calls_of_set(word) if word.startswith("@") else {word}
    return calls


def wait_for(stream, beginning):
    for line in stream:
        if line.startswith(beginning):
            return line
    raise RuntimeError(f"the opener ended without saying {beginning!r}")


def calls_made(opener, worker, directory):
    """Starts an opener under strace, reads a file through it, has it reopen its audit file, stops it."""
    policy, socket, trace = directory / "policy.yaml", directory / "socket", directory / "trace"
    policy.write_text(POLICY, encoding="utf-8")
    policy.chmod(0o600)
    # The shell tells the pid that the opener then has.
    command = ["strace", "-f", "-qq", "-o", trace, "sh", "-c", 'echo "pid $$" >&2; exec "$@"', "sh", opener]
    command += ["--policy", policy, "--listen", socket, "--listen-mode", "0666"]
    command += ["--control", directory / "control.sock", "--audit", directory / "audit.jsonl"]
    environment = os.environ | {"NOTIFY_SOCKET": str(directory / "notify")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        pid = int(wait_for(process.stderr, "pid").split()[1])
        wait_for(process.stderr, "opener: serving")
        shutil.copy(worker, directory / "worker")
        read = [directory / "worker", "--socket", socket, "cat", "/usr/lib/os-release"]
        subprocess.run(read, check=True, capture_output=True, user=NOBODY, group=NOBODY, extra_groups=[])
        os.kill(pid, signal.SIGUSR1)
        os.kill(pid, signal.SIGTERM)
        process.stderr.read()
    if process.returncode != 0:
        raise RuntimeError(f"the opener ended with {process.returncode}")
    # The shell's own calls, up to the opener's execve, are a subset of any program's.
    return set(re.findall(r"^\d+ +([a-z0-9_]+)\(", trace.read_text(encoding="utf-8", errors="replace"), re.MULTILINE))


def main(service, opener, worker):
    if os.geteuid() != 0 or not shutil.which("strace") or not shutil.which("systemd-analyze"):
        print("skipped: service: its system calls are traced as root, with strace and systemd-analyze")
        return SKIP
    with tempfile.TemporaryDirectory(prefix="fdb-", dir="/run") as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        made = calls_made(opener, worker, directory)
    missing = made - allowed_calls(service)
    print("made and not allowed:", ", ".join(sorted(missing)) or "none")
    return 1 if missing or "openat2" not in made else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
