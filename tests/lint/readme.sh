#!/bin/sh
# SPDX-License-Identifier: MIT
# The policy that README.md explains is one that the opener takes: readme.sh README OPENER
set -eu
readme=$1 opener=$2
directory=$(mktemp -d /var/tmp/fdb-readme.XXXXXX)
trap 'rm -rf "$directory"' EXIT

awk '/^```/ { inside = $0 == "```yaml"; next } inside' "$readme" >"$directory/policy.yaml"
[ -s "$directory/policy.yaml" ] || { echo "$readme holds no policy"; exit 1; }
chmod 0600 "$directory/policy.yaml"
if [ "$(id -u)" -ne 0 ]; then
    echo "skipped: README.md: its policy is checked as root"
    exit 77
fi
"$opener" --policy "$directory/policy.yaml" --check
