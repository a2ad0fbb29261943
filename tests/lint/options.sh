#!/bin/sh
# SPDX-License-Identifier: MIT
# A manual page and its program's --help name the same long options, and the page names each command: options.sh PAGE
# PROGRAM
#
# The options of every command that --help lists, and of those below it, count as the program's.
set -eu
page=$1 program=$2
directory=$(mktemp -d /var/tmp/fdb-options.XXXXXX)
trap 'rm -rf "$directory"' EXIT

# visit [WORD...]: appends the help of that command and of all below it; those with none below go to `commands`.
visit() {
    help=$("$program" "$@" --help)
    echo "$help" >>"$directory/help"
    below=$(echo "$help" | sed -n '/^Subcommands:$/,/^$/s/^  \([a-z][a-z-]*\).*/\1/p')
    [ -n "$below" ] || echo "$*" >>"$directory/commands"
    for word in $below; do (visit "$@" "$word"); done
}
visit

# An option stands at the start of a line, alone or after a short one.
sed -n 's/^ *\(-[a-z], *\)\{0,1\}\(--[a-z][a-z-]*\).*/\2/p' "$directory/help" | sort -u >"$directory/from-help"
# In mdoc(7): ".It Fl Fl policy Ar file", ".It Fl h , Fl Fl help".
sed -n 's/^\.It .*Fl Fl \([a-z][a-z-]*\).*/--\1/p' "$page" | sort -u >"$directory/from-page"
[ -s "$directory/from-help" ] || { echo "$program --help names no option"; exit 1; }

failed=0
if ! diff "$directory/from-help" "$directory/from-page" >"$directory/difference"; then
    echo "only $program --help (<) or only $page (>) names:"
    grep '^[<>]' "$directory/difference"
    failed=1
fi
# ".It Cm policy check Ar file"
while read -r command; do
    [ -n "$command" ] || continue
    if ! grep -q "^\.It Cm $command\( \|\$\)" "$page"; then
        echo "$page does not tell of the command: $command"
        failed=1
    fi
done <"$directory/commands"
exit "$failed"
