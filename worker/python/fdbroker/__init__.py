# SPDX-License-Identifier: MIT
"""Files opened by fdbroker's privileged broker on behalf of a process that may not open them itself.

    import fdbroker

    with fdbroker.open("/srv/www/index.html") as file:
        print(file.read())

`open()` and `Broker.open()` return Python's ordinary file objects. What fails is an OSError of the usual kind
(PermissionError, FileNotFoundError, ...), whose `reason`, `step` and `record` tell why. This module needs nothing but
Python's own modules; it speaks the wire protocol itself (proto/PROTOCOL.md). Only confine() uses the C library.
"""

from .aio import AsyncBroker
from .broker import Broker, connect, default_broker, open
from .path import BrokeredPath
from .paths import normalize
from .payload import Entry, Status
from .sandbox import (ALLOW_LISTEN, ALLOW_OWN_ATTRIBUTES, ALLOW_SCHEDULING, ALLOW_SOCKETPAIR, ALLOW_TCP_OPTIONS, ALLOW_UDP,
                      CONFINE_BEST_EFFORT, CONFINE_DESCRIPTORS, CONFINE_LIMITS, CONFINE_LOG, CONFINE_NAMESPACES,
                      CONFINE_NO_SIGSYS, confine, prepare)
from .version import __version__
from .watch import WATCH_ALL, WATCH_ATTRIBUTES, WATCH_CONTENT, WATCH_REPLACED, AsyncWatch, Watch

__all__ = [
    "AsyncBroker", "AsyncWatch", "Broker", "BrokeredPath", "Entry", "Status", "Watch", "confine", "connect", "default_broker",
    "normalize", "open", "prepare", "__version__",
    "ALLOW_LISTEN", "ALLOW_OWN_ATTRIBUTES", "ALLOW_SCHEDULING", "ALLOW_SOCKETPAIR", "ALLOW_TCP_OPTIONS", "ALLOW_UDP",
    "CONFINE_BEST_EFFORT", "CONFINE_DESCRIPTORS", "CONFINE_LIMITS", "CONFINE_LOG", "CONFINE_NAMESPACES", "CONFINE_NO_SIGSYS",
    "WATCH_ALL", "WATCH_ATTRIBUTES", "WATCH_CONTENT", "WATCH_REPLACED",
]
