# shellcheck shell=bash
# What the tests need and the machine lacks, by apt-get. Sourced; the script brings `say` and `fail`.

# install_missing WHAT PROGRAM=PACKAGE...: the packages of those programs, or files, that are not there.
install_missing() {
    local what=$1 pair missing=() log policy=/usr/sbin/policy-rc.d made=
    shift
    for pair; do
        [ -e "${pair%%=*}" ] || PATH=$PATH:/usr/sbin command -v "${pair%%=*}" > /dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local how="install ${missing[*]} (on Debian: apt-get install ${missing[*]})"
    command -v apt-get > /dev/null || fail "$what is missing: $how"
    [ "$(id -u)" = 0 ] || fail "$what is missing and only root can install it: $how"
    say "installing ${missing[*]}"
    log=$(mktemp)
    # Packages of servers would start a service, which nobody needs here: a policy of "no" for the time of the installation, unless
    # the machine has one of its own.
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" && made=yes; }
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"; } \
        > "$log" 2>&1 || { cat "$log" >&2; rm -f "$log" ${made:+"$policy"}; fail "$what could not be installed: $how"; }
    rm -f "$log" ${made:+"$policy"}
}
