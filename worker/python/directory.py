# SPDX-License-Identifier: MIT
"""Where this Python looks for modules below a prefix: directory.py PREFIX. Nothing: it looks nowhere there.

Meson's own answer is site-packages, which Debian's Python does not read.
"""

import os
import site
import sys

prefix = os.path.join(sys.argv[1], "")
local = os.path.join(prefix, "local", "")
for directory in site.getsitepackages():
    if directory.startswith(prefix) and not directory.startswith(local):
        print(directory)
        break
