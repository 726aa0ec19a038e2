# shellcheck shell=bash
# A PostgreSQL server of one's own, for the scripts that need one: on a free loopback port, in a folder of its own, gone when
# the script ends. Sourced; the script brings `say` and `fail`, and has sourced at_exit.sh.

# The folder that holds PostgreSQL's server programs, if there is one.
find_postgres() {
    local folder
    if folder=$(command -v initdb) && [ -x "$(dirname "$folder")/postgres" ]; then
        dirname "$folder"
        return
    fi
    # The newest version of those that Debian keeps side by side.
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then
            echo "$folder"
            return
        fi
    done
}

install_postgres() {
    local how='install PostgreSQL 14 or newer (on Debian: apt-get install postgresql)' log
    command -v apt-get > /dev/null || fail "PostgreSQL is missing: $how"
    [ "$(id -u)" = 0 ] || fail "PostgreSQL is missing and only root can install it: $how"
    say 'installing PostgreSQL'
    # The package would make and start a cluster of its own, which nobody needs here.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
    log=$(mktemp)
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postgresql; } \
        > "$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; fail "PostgreSQL could not be installed: $how"; }
    rm -f "$log"
}

# The server's programs in `bin`, and in `owner` a user who may run them. Tests that kill, pause or copy a server start their own.
have_postgres() {
    bin=$(find_postgres)
    if [ -z "$bin" ]; then
        install_postgres
        bin=$(find_postgres)
        [ -n "$bin" ] || fail 'PostgreSQL was installed but its server programs cannot be found'
    fi
    choose_owner
}

# Runs a command as the server's owner: PostgreSQL refuses to run as root.
as_owner() {
    if [ "$owner" = "$(id -un)" ]; then "$@"; else runuser -u "$owner" -- "$@"; fi
}

choose_owner() {
    owner=$(id -un)
    [ "$(id -u)" = 0 ] || return 0
    owner=postgres
    id -u "$owner" > /dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin "$owner"
}

start_postgres() {
    as_owner "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C -N > "$folder/initdb.log" 2>&1 ||
        { cat "$folder/initdb.log" >&2; fail 'initdb failed'; }
    local options="-c listen_addresses=127.0.0.1 -c unix_socket_directories= $1"
    # Somebody may take a port between finding it free and using it, so a free one is found by using it.
    for _ in 1 2 3 4 5 6 7 8; do
        port=$((20000 + RANDOM % 30000))
        if as_owner "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" -o "$options -p $port" -w start > /dev/null 2>&1; then
            return
        fi
    done
    cat "$folder/log" >&2
    fail 'PostgreSQL did not start'
}

stop_postgres() {
    if [ -e "$folder/data/postmaster.pid" ]; then
        as_owner "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop > /dev/null 2>&1 || say 'PostgreSQL did not stop'
    fi
    rm -rf "$folder"
}

# Starts a server with these options beside the defaults, and exports its superuser's URL as PENSTOCK_TEST_POSTGRES. Where
# that is set already, its server is used and left alone.
private_postgres() {
    [ -z "${PENSTOCK_TEST_POSTGRES:-}" ] || return 0
    have_postgres
    # Not below TMPDIR, which may be a folder that only root can enter.
    folder=$(mktemp -d /tmp/penstock-postgres.XXXXXX)
    at_exit stop_postgres
    [ "$owner" = "$(id -un)" ] || chown "$owner" "$folder"
    start_postgres "$1"
    export PENSTOCK_TEST_POSTGRES="postgres://postgres@127.0.0.1:$port/postgres"
}
