# SPDX-License-Identifier: MIT
"""The module's version, which is the project's."""

__version__ = "0.2.0"
