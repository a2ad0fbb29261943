# SPDX-License-Identifier: MIT
"""fdbroker_confine_with() and fdbroker_prepare() for Python."""

from __future__ import annotations

import ctypes
import importlib
import linecache
import os
import sys
import traceback
from typing import Iterable

from . import connection

CONFINE_BEST_EFFORT = 1
CONFINE_DESCRIPTORS = 2
CONFINE_NAMESPACES = 4
CONFINE_LIMITS = 8
CONFINE_NO_SIGSYS = 16
CONFINE_LOG = 32

ALLOW_TCP_OPTIONS = 1
ALLOW_SOCKETPAIR = 2
ALLOW_LISTEN = 4
ALLOW_OWN_ATTRIBUTES = 8
ALLOW_SCHEDULING = 16
ALLOW_UDP = 32


class _Options(ctypes.Structure):
    """struct fdbroker_confine_options."""

    _fields_ = [("size", ctypes.c_size_t), ("flags", ctypes.c_uint), ("allow", ctypes.c_uint),
                ("keep", ctypes.POINTER(ctypes.c_int)), ("keep_count", ctypes.c_size_t)]


def _library() -> ctypes.CDLL:
    return ctypes.CDLL("libfdbroker.so.0", use_errno=False)


def confine(flags: int = 0, *, allow: int = 0, keep: Iterable[int] = ()) -> None:
    """fdbroker_confine_with() of libfdbroker (fdbroker(3)): from now on this process has nothing but what is open. Import
    what you need before, since Python opens modules as files; prepare() does what it can. `allow`: ALLOW_*. `keep`:
    descriptors that stay open when all others are closed, which naming one or CONFINE_DESCRIPTORS asks for; those of the
    connections stay in any case."""
    kept = list(keep)
    if kept or flags & CONFINE_DESCRIPTORS:
        kept += connection.open_sockets()
    numbers = (ctypes.c_int * len(kept))(*kept)
    options = _Options(ctypes.sizeof(_Options), flags, allow, numbers, len(kept))
    result = _library().fdbroker_confine_with(ctypes.byref(options))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    connection.confined = True


def prepare() -> None:
    """Reads before confinement what Python and the C library would open files for later: the time zone, modules that are
    imported when they are first needed (codecs, tracebacks), the program's own source, for its tracebacks. Where the
    program has no sys.excepthook, it becomes one that reads that source from memory."""
    _library().fdbroker_prepare()
    for name in ("encodings.ascii", "encodings.latin_1", "encodings.idna", "encodings.punycode", "encodings.utf_8", "locale",
                 "stringprep", "tokenize"):
        importlib.import_module(name)
    own = os.path.dirname(os.__file__)
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.endswith(".py") and not path.startswith(own):
            lines = linecache.getlines(path)
            # Without a time the module never looks whether the file has changed.
            linecache.cache[path] = (sum(map(len, lines)), None, lines, path)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = traceback.print_exception
