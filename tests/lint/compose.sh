#!/bin/sh
# SPDX-License-Identifier: MIT
# The compose example is one that docker-compose takes, and its opener has the capabilities without which it does not
# start: compose.sh COMPOSE-FILE
set -eu
command -v docker-compose >/dev/null || { echo "skipped: compose: docker-compose is missing"; exit 77; }
shown=$(docker-compose -f "$1" config)
for capability in SETUID SETGID SETPCAP KILL DAC_READ_SEARCH; do
    echo "$shown" | grep -q -x -e " *- $capability" || { echo "$1: the opener lacks $capability"; exit 1; }
done
# The worker has no capability, no network and nothing to write to.
for line in 'read_only: true' 'network_mode: none' 'cap_drop:'; do
    echo "$shown" | sed -n '/^  worker:/,/^volumes/p' | grep -q "$line" || { echo "$1: the worker has no $line"; exit 1; }
done
