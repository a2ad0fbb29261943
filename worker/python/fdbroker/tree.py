# SPDX-License-Identifier: MIT
"""Calls of several requests: access, realpath, walk, glob. Each is a generator of single calls, which a connection
that waits and one of asyncio carry out alike."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat as stat_module
from typing import Any, Callable, Generator, Iterator, Optional

from .paths import canonical, refused
from .payload import Entry, StrPath

# (method, arguments) out, result in
Steps = Generator[tuple[str, tuple[Any, ...]], Any, Any]

MAX_LINKS = 40  # path_resolution(7)

# The errors for which access() is False.
SAYS_NO = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EROFS, errno.ENAMETOOLONG, errno.ETXTBSY)


def run(target: Any, steps: Steps) -> Any:
    """The steps, one after the other, by a connection whose calls wait."""
    try:
        name, arguments = next(steps)
        while True:
            try:
                result = getattr(target, name)(*arguments)
            except OSError as error:
                name, arguments = steps.throw(error)
            else:
                name, arguments = steps.send(result)
    except StopIteration as done:
        return done.value


async def run_async(target: Any, steps: Steps) -> Any:
    try:
        name, arguments = next(steps)
        while True:
            try:
                result = await getattr(target, name)(*arguments)
            except OSError as error:
                name, arguments = steps.throw(error)
            else:
                name, arguments = steps.send(result)
    except StopIteration as done:
        return done.value


def access(path: StrPath, mode: int) -> Steps:
    """Whether the broker would open it: tried, and nothing is changed by that."""
    if mode & ~(os.R_OK | os.W_OK | os.X_OK):
        raise refused(errno.EINVAL, path, "a mode that is none")
    bits = None
    try:
        bits = (yield "stat", (path,)).st_mode
    except PermissionError:
        if not mode or mode & os.X_OK:  # else a rule may let read what it lets nobody look at
            raise
    if bits is not None and stat_module.S_ISDIR(bits):
        if mode & os.W_OK:
            raise refused(errno.EACCES, path, "what may be made in a directory is decided name by name")
        if mode & os.R_OK:
            yield "_page", (path, 0)
        return
    if mode & os.X_OK and not (bits or 0) & 0o111:
        raise refused(errno.EACCES, path, "the file is not executable")
    flags = {os.R_OK: os.O_RDONLY, os.W_OK: os.O_WRONLY, os.R_OK | os.W_OK: os.O_RDWR}.get(mode & (os.R_OK | os.W_OK))
    if flags is not None:
        os.close((yield "open_fd", (path, flags | os.O_NONBLOCK | os.O_NOCTTY)))


def realpath(path: StrPath, base: Optional[bytes]) -> Steps:
    """Without symbolic links, of something that is there. A directory on the way that may not be looked at is taken for
    one: the broker follows links there only where a rule says so."""
    text, of_directory = canonical(path, base)
    done, rest, links = b"", [name for name in text.split(b"/") if name], 0
    if not rest:
        yield "stat", (b"/",)
    while rest:
        name = done + b"/" + rest.pop(0)
        try:
            mode = (yield "lstat", (name,)).st_mode
        except PermissionError:
            if not rest:
                raise
            done = name
            continue
        if stat_module.S_ISLNK(mode):
            links += 1
            if links > MAX_LINKS:
                raise refused(errno.ELOOP, path, "too many symbolic links")
            target = os.fsencode((yield "readlink", (name,)))
            text, _ = canonical(b"/".join([target, *rest]), done or b"/")
            done, rest = b"", [part for part in text.split(b"/") if part]
            continue
        if (rest or of_directory) and not stat_module.S_ISDIR(mode):
            raise refused(errno.ENOTDIR, path, "a name that leads on is no directory's")
        done = name
    return os.fsdecode(done or b"/")


def leads_to_directory(broker: Any, directory: str, entry: Entry) -> bool:
    """As os.DirEntry.is_dir(), which follows links."""
    if entry.type not in (0, 10):  # DT_UNKNOWN, DT_LNK
        return entry.is_dir()
    try:
        return stat_module.S_ISDIR(broker.stat(os.path.join(directory, entry.name)).st_mode)
    except OSError:
        return False


def is_link(broker: Any, path: str, entry: Entry) -> bool:
    return entry.is_symlink() or (entry.type == 0 and stat_module.S_ISLNK(broker.lstat(path).st_mode))


def walk(broker: Any, top: StrPath, topdown: bool, onerror: Optional[Callable[[OSError], None]],
         followlinks: bool) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk()."""
    directory = os.fsdecode(top)
    try:
        entries = list(broker.scandir(directory))
    except OSError as error:
        if onerror is not None:
            onerror(error)
        return
    inner = {entry.name: entry for entry in entries if leads_to_directory(broker, directory, entry)}
    names = list(inner)
    files = [entry.name for entry in entries if entry.name not in inner]
    if topdown:
        yield directory, names, files
    for name in names:  # the caller may have changed them
        path = os.path.join(directory, name)
        entry = inner.get(name)
        if followlinks or entry is None or not is_link(broker, path, entry):
            yield from walk(broker, path, topdown, onerror, followlinks)
    if not topdown:
        yield directory, names, files


def _has_magic(name: str) -> bool:
    return re.search(r"[*?[]", name) is not None


def _matching(broker: Any, directory: str, pattern: str, only_directories: bool) -> Iterator[str]:
    """The names in a directory that match. Directories that cannot be listed have none."""
    try:
        entries = list(broker.scandir(directory or "."))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") and not pattern.startswith("."):
            continue
        if fnmatch.fnmatchcase(entry.name, pattern) and (
                not only_directories or leads_to_directory(broker, directory or ".", entry)):
            yield entry.name


def _below(broker: Any, directory: str) -> Iterator[str]:
    """The directory and all below it, links not followed, names with a dot at their beginning left out."""
    yield directory
    for name in _matching(broker, directory, "*", True):
        path = os.path.join(directory, name)
        try:
            if not stat_module.S_ISLNK(broker.lstat(path).st_mode):
                yield from _below(broker, path)
        except OSError:
            continue


def glob(broker: Any, pattern: str, recursive: bool) -> Iterator[str]:
    """glob.iglob(). A part without wildcards is not listed for: its directory need not be readable."""
    parts = pattern.split("/")
    found = [""] if parts[0] else ["/"]
    parts = [part for part in parts[:-1] if part] + parts[-1:]
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        further: list[str] = []
        for directory in found:
            if recursive and part == "**":
                for below in _below(broker, directory):
                    # As the module has it: the directory itself, which no name matches, ends in a slash.
                    further.append(os.path.join(below, "") if is_last and below == directory else below)
                    if is_last:
                        further += (os.path.join(below, entry.name) for entry in _files(broker, below))
            elif _has_magic(part):
                further += (os.path.join(directory, name)
                            for name in _matching(broker, directory, part, not is_last))
            else:
                further.append(os.path.join(directory, part))
        found = further
    plain = not _has_magic(parts[-1])
    for path in dict.fromkeys(found):
        if path and (not plain or _is_there(broker, path)):
            yield path


def _files(broker: Any, directory: str) -> list[Entry]:
    try:
        return [entry for entry in broker.scandir(directory or ".")
                if not entry.name.startswith(".") and not (entry.is_dir())]
    except OSError:
        return []


def _is_there(broker: Any, path: str) -> bool:
    try:
        broker.lstat(path)
        return True
    except OSError:
        return False
