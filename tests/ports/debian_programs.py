# SPDX-License-Identifier: MIT
"""Programs from Debian's source packages, built twice: as they are ("original"), and with the code of this directory ("ported").
Built once in a process, in a directory that goes with it."""

import atexit
import functools
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile

from debian_source import fetch

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = pathlib.Path(os.environ.get("FDBROKER_PORT_SOURCES", "/var/tmp/fdbroker-port-sources"))
LIBRARY = os.environ.get("FDBROKER_LIBRARY", ".")
CC = shlex.split(os.environ.get("FDBROKER_CC", "cc"))
ASKING = [f"-I{HERE}", f"-I{HERE.parents[1] / 'worker/client'}"]
LINKED = [f"-L{LIBRARY}", "-lfdbroker"]


def copies(package):
    """The source for each kind. Where the programs run as another user, too."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="fdbroker-port.", dir="/var/tmp"))
    atexit.register(shutil.rmtree, place)
    place.chmod(0o755)
    source = fetch(package, SOURCES)
    return {kind: pathlib.Path(shutil.copytree(source, place / kind)) for kind in ("original", "ported")}


def run(*command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{command}: {done.stdout}{done.stderr}")


def compile_in(source, program, *arguments):
    run(*CC, "-O2", "-w", "-o", program, *arguments, cwd=source)
    return source / program


@functools.cache
def mini_httpd():
    """Without TLS and CGI programs, of which the test has none."""
    source = copies("mini-httpd")
    files = ["mini_httpd.c", "match.c", "tdate_parse.c"]
    for place in source.values():
        run("make", "mime_types.h", "mime_encodings.h", cwd=place)
    run("patch", "-p1", "-i", HERE / "mini_httpd.patch", cwd=source["ported"])
    return {"original": compile_in(source["original"], "mini_httpd", *files, "-lcrypt"),
            "ported": compile_in(source["ported"], "mini_httpd", *ASKING, *files, *LINKED, "-lcrypt")}


@functools.cache
def jhead():
    """No line of jhead's changes: its main() is called by the port's."""
    source = copies("jhead")
    files = [f"{name}.c" for name in ("jhead", "jpgfile", "jpgqguess", "paths", "exif", "iptc", "gpsinfo", "makernote")]
    names = ["-DFDBROKER_POSIX_NAMES", "-include", "fdbroker_posix.h"]
    for name in files:
        run(*CC, "-O2", "-w", "-c", *ASKING, *names, "-Dmain=jhead_main", name, cwd=source["ported"])
    objects = [name.replace(".c", ".o") for name in files]
    return {"original": compile_in(source["original"], "jhead", *files, "-lm"),
            "ported": compile_in(source["ported"], "jhead", *ASKING, HERE / "jhead_port.c", *objects, *LINKED, "-lm")}
