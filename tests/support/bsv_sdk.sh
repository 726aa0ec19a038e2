# shellcheck shell=bash
# @bsv/sdk, the official JavaScript library of the network. Sourced; the script has sourced npm.sh.

BSV_SDK=2.1.0

# Exports the folder of packages as PENSTOCK_TEST_BSV_SDK. Where that is set already, what it names is used.
private_bsv_sdk() {
    [ -z "${PENSTOCK_TEST_BSV_SDK:-}" ] || return 0
    from_npm @bsv/sdk "$BSV_SDK"
    export PENSTOCK_TEST_BSV_SDK=$npm_folder/node_modules
}
