#!/bin/sh
# A manual page and its program's --help name the same long options: options.sh PAGE PROGRAM [SUBCOMMAND...]
#
# The options of every subcommand given count as the program's. One of several words ("policy check") is one argument.
set -eu
page=$1 program=$2
shift 2
directory=$(mktemp -d /var/tmp/fdb-options.XXXXXX)
trap 'rm -rf "$directory"' EXIT

{
    "$program" --help
    for subcommand in "$@"; do "$program" $subcommand --help; done
} >"$directory/help"
# An option stands at the start of its line, alone or after a short one.
sed -n 's/^ *\(-[a-z], *\)\{0,1\}\(--[a-z][a-z-]*\).*/\2/p' "$directory/help" | sort -u >"$directory/from-help"
# In mdoc(7): ".It Fl Fl policy Ar file", ".It Fl h , Fl Fl help".
sed -n 's/^\.It .*Fl Fl \([a-z][a-z-]*\).*/--\1/p' "$page" | sort -u >"$directory/from-page"
[ -s "$directory/from-help" ] || { echo "$program --help names no option"; exit 1; }

if ! diff "$directory/from-help" "$directory/from-page" >"$directory/difference"; then
    echo "only $program --help (<) or only $page (>) names:"
    grep '^[<>]' "$directory/difference"
    exit 1
fi
