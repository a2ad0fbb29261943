# SPDX-License-Identifier: MIT
"""fdbroker_confine() for Python."""

from __future__ import annotations

import ctypes
import os

CONFINE_BEST_EFFORT = 1
CONFINE_DESCRIPTORS = 2
CONFINE_NAMESPACES = 4
CONFINE_LIMITS = 8
CONFINE_NO_SIGSYS = 16


def confine(flags: int = 0) -> None:
    """fdbroker_confine() of libfdbroker (fdbroker(3)): from now on this process has nothing but what is open. Import what
    you need before, since Python opens modules as files. CONFINE_DESCRIPTORS would close connections of this module,
    which the library does not know: not with this function."""
    if flags & CONFINE_DESCRIPTORS:
        raise ValueError("CONFINE_DESCRIPTORS would close the connection")
    library = ctypes.CDLL("libfdbroker.so.0", use_errno=False)
    result = library.fdbroker_confine(ctypes.c_uint(flags))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
