# shellcheck shell=bash
# tus-js-client, the official JavaScript client of the protocol for resumable uploads. Sourced; the script has sourced npm.sh.

TUS_JS_CLIENT=4.3.1

# Exports the folder of packages as PENSTOCK_TEST_TUS. Where that is set already, what it names is used.
private_tus() {
    [ -z "${PENSTOCK_TEST_TUS:-}" ] || return 0
    from_npm tus-js-client "$TUS_JS_CLIENT"
    export PENSTOCK_TEST_TUS=$npm_folder/node_modules
}
