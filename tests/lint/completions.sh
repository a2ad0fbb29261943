#!/bin/sh
# SPDX-License-Identifier: MIT
# The completions of each shell offer what openerctl --help lists: completions.sh BASH ZSH FISH OPENERCTL
#
# Each file is that of openerctl. A shell that is missing is left out, and said so.
set -eu
bash_file=$1 zsh_file=$2 fish_file=$3
PATH=$(dirname "$4"):$PATH
export PATH
failed=0

# expect SHELL LINE WANTED OFFERED: each word of WANTED is among the words of OFFERED.
expect() {
    for word in $3; do
        case " $(echo "$4" | tr '\n' ' ')" in
        *" $word "*) ;;
        *)
            echo "$1: \"$2\" does not offer $word, but: $(echo "$4" | tr '\n' ' ')"
            failed=1
            ;;
        esac
    done
}

# The last word of a line is what is being completed; it may be empty.
with_bash() {
    bash -c '. "$1"; IFS=" " read -r -a COMP_WORDS <<<"$2"; [[ $2 != *" " ]] || COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _fdbroker_openerctl; printf "%s\n" "${COMPREPLY[@]}"' bash "$bash_file" "$1"
}
with_fish() {
    # shellcheck disable=SC2016 # fish's own
    fish --no-config -c 'source $argv[1]; complete -C $argv[2]' "$fish_file" "$1" | cut -f 1
}

try() {
    case "$1" in
    bash) offered=$(with_bash "$2") ;;
    fish) offered=$(with_fish "$2") ;;
    esac
    expect "$1" "$2" "$3" "$offered"
}

# The real program, but for the metrics of an opener.
fake=$(mktemp -d /var/tmp/fdb-completions.XXXXXX)
trap 'rm -rf "$fake"' EXIT
cat >"$fake/openerctl" <<EOF
#!/bin/sh
[ "\$*" != metrics ] || { cat "$fake/metrics"; exit; }
exec "$4" "\$@"
EOF
chmod +x "$fake/openerctl"
cat >"$fake/metrics" <<'EOF'
# TYPE fdbroker_rule_requests_total counter
fdbroker_rule_requests_total{rule="site",decision="allow"} 3
fdbroker_rule_requests_total{rule="private-keys",decision="deny"} 1
fdbroker_rule_requests_total{rule="",decision=""} 9
EOF
PATH=$fake:$PATH

for shell in bash fish; do
    if ! command -v "$shell" >/dev/null; then
        echo "left out: $shell is missing"
        continue
    fi
    try "$shell" 'openerctl st' status
    try "$shell" 'openerctl policy ' 'check explain test'
    try "$shell" 'openerctl policy explain --' '--as --policy --control --json'
    try "$shell" 'openerctl policy explain --as roo' root
    try "$shell" 'openerctl policy explain --as root rea' 'read readlink'
    try "$shell" 'openerctl --control /run/x.sock rel' reload
    try "$shell" 'openerctl log --rule ' 'site private-keys'
    try "$shell" 'openerctl log --rule pri' private-keys
done
if command -v zsh >/dev/null; then
    zsh -n "$zsh_file" || failed=1
else
    echo "left out: zsh is missing"
fi
exit "$failed"
