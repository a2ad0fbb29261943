#!/bin/sh
# SPDX-License-Identifier: MIT
# The systemd units are understood, and the services expose at most 3.0 and 1.5 of 10: units.sh SERVICE METRICS SOCKET...
set -eu
service=$1 metrics=$2
shift 2

if ! command -v systemd-analyze >/dev/null; then
    echo "skipped: units: systemd-analyze is missing"
    exit 77
fi
directory=$(mktemp -d /var/tmp/fdb-units.XXXXXX)
trap 'rm -rf "$directory"' EXIT
# `verify` looks for the program, which need not be installed, and for the units that they name where they lie.
sed "s|^ExecStart=[^ ]*|ExecStart=/bin/true|" "$service" >"$directory/fdbroker.service"
sed "s|^ExecStart=[^ ]*|ExecStart=/bin/true|" "$metrics" >"$directory/fdbroker-metrics.service"
cp "$@" "$directory"

# Started before its sockets, the opener would bind its own, and systemd's would fail.
grep -q '^Requires=fdbroker.socket fdbroker-control.socket$' "$service" || { echo "$service does not require its sockets"; exit 1; }

status=0
output=$(systemd-analyze verify --man=no "$directory"/* 2>&1) || status=$?
if [ "$status" -ne 0 ] || [ -n "$output" ]; then
    echo "$output"
    exit 1
fi
systemd-analyze security --offline=true --threshold=30 "$directory/fdbroker.service"
systemd-analyze security --offline=true --threshold=15 "$directory/fdbroker-metrics.service"
