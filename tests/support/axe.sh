# shellcheck shell=bash
# axe, which finds faults of accessibility in a page. Sourced; the script has sourced npm.sh.

AXE=4.14.1

# Exports the script as PENSTOCK_TEST_AXE. Where that is set already, what it names is used.
private_axe() {
    [ -z "${PENSTOCK_TEST_AXE:-}" ] || return 0
    from_npm axe-core "$AXE"
    export PENSTOCK_TEST_AXE=$npm_folder/node_modules/axe-core/axe.min.js
}
