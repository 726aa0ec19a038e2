# shellcheck shell=bash
# nginx with njs, for the tests that start one for themselves. Sourced; the script brings `say` and `fail`.

install_nginx() {
    local missing=() log policy=/usr/sbin/policy-rc.d made=
    command -v nginx > /dev/null || missing+=(nginx-light)
    [ -e /usr/lib/nginx/modules/ngx_http_js_module.so ] || missing+=(libnginx-mod-http-js)
    [ ${#missing[@]} -gt 0 ] || return 0
    local how="install ${missing[*]} (on Debian: apt-get install ${missing[*]})"
    command -v apt-get > /dev/null || fail "nginx is missing: $how"
    [ "$(id -u)" = 0 ] || fail "nginx is missing and only root can install it: $how"
    say "installing ${missing[*]}"
    log=$(mktemp)
    # The package would start a service, which nobody needs here: a policy of "no" for the time of the installation, unless the
    # machine has one of its own.
    [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy" && made=yes; }
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"; } \
        > "$log" 2>&1 || { cat "$log" >&2; rm -f "$log" ${made:+"$policy"}; fail "nginx could not be installed: $how"; }
    rm -f "$log" ${made:+"$policy"}
}
