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
from .payload import Entry, Status
from .sandbox import (CONFINE_BEST_EFFORT, CONFINE_DESCRIPTORS, CONFINE_LIMITS, CONFINE_NAMESPACES, CONFINE_NO_SIGSYS,
                      confine)
from .version import __version__

__all__ = [
    "AsyncBroker", "Broker", "BrokeredPath", "Entry", "Status", "confine", "connect", "default_broker", "open",
    "__version__",
    "CONFINE_BEST_EFFORT", "CONFINE_DESCRIPTORS", "CONFINE_LIMITS", "CONFINE_NAMESPACES", "CONFINE_NO_SIGSYS",
]
