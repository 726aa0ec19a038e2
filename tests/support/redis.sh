# shellcheck shell=bash
# A Redis server of one's own, for the scripts that need one: on a free loopback port, keeping nothing on disk, gone when the
# script ends. Sourced; the script brings `say` and `fail`, and has sourced at_exit.sh.

install_redis() {
    local how='install Redis 6 or newer (on Debian: apt-get install redis-server) or set PENSTOCK_TEST_REDIS' log
    command -v apt-get > /dev/null || fail "Redis is missing: $how"
    [ "$(id -u)" = 0 ] || fail "Redis is missing and only root can install it: $how"
    say 'installing Redis'
    log=$(mktemp)
    # The package would start a service, which nobody needs here: a policy of "no" for the time of the installation, unless the
    # machine has one of its own.
    local policy=/usr/sbin/policy-rc.d made=
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" && made=yes; }
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends redis-server; } \
        > "$log" 2>&1 || { cat "$log" >&2; rm -f "$log" ${made:+"$policy"}; fail "Redis could not be installed: $how"; }
    rm -f "$log" ${made:+"$policy"}
}

# Starts a server and exports its URL as PENSTOCK_TEST_REDIS. Where that is set already, its server is used and left alone.
# Tests that kill, pause or flush a server, or want a cluster, start processes of their own.
private_redis() {
    if ! { command -v redis-server && command -v redis-cli; } > /dev/null; then install_redis; fi
    [ -z "${PENSTOCK_TEST_REDIS:-}" ] || return 0
    local port pid
    # Somebody may take a port between finding it free and using it, so a free one is found by using it.
    for _ in 1 2 3 4 5 6 7 8; do
        port=$((20000 + RANDOM % 30000))
        redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --daemonize no --loglevel warning \
            > /dev/null 2>&1 &
        pid=$!
        for _ in $(seq 100); do
            if redis-cli -p "$port" ping 2> /dev/null | grep -q PONG && kill -0 "$pid" 2> /dev/null; then
                at_exit "kill $pid"
                export PENSTOCK_TEST_REDIS="redis://127.0.0.1:$port"
                return 0
            fi
            kill -0 "$pid" 2> /dev/null || break
            sleep 0.05
        done
        kill "$pid" 2> /dev/null || true
    done
    fail 'Redis did not start'
}
