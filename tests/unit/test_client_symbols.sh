#!/bin/sh
# SPDX-License-Identifier: MIT
# test_client_symbols.sh LIBRARY LIST: the library exports exactly the symbols of the list, with those versions.
set -eu
nm --dynamic --defined-only "$1" | awk '$2 != "A" { print $3 }' | LC_ALL=C sort | diff -u "$2" -
