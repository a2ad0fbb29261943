#!/bin/sh
# SPDX-License-Identifier: MIT
# The policy that is installed loads, refuses everything, and does so with its examples in force, too, which pass their own
# tests: first_policy.sh POLICY OPENERCTL
set -eu
policy=$1 openerctl=$2
if [ "$(id -u)" -ne 0 ]; then
    echo "skipped: the first policy: it is checked as root"
    exit 77
fi
directory=$(mktemp -d /var/tmp/fdb-first.XXXXXX)
trap 'rm -rf "$directory"' EXIT
chmod 0755 "$directory"
mkdir "$directory/policy.d"

# check FILE RULES TESTS
check() {
    told=$("$openerctl" policy check "$1")
    [ "$told" = "$1: valid, $2, $3" ] || { echo "$told"; exit 1; }
}
cp "$policy" "$directory/policy.yaml"
check "$directory/policy.yaml" '0 rules' '0 tests passed'

# A comment that begins with a key opens an example, which goes on to the next empty line.
awk '/^# (roles|rules|tests):/ { open = 1 } !/^#/ { open = 0 } open { sub(/^# ?/, "") } 1' \
    "$policy" >"$directory/examples.yaml"
check "$directory/examples.yaml" '3 rules' '2 tests passed'
