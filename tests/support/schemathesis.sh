# shellcheck shell=bash
# schemathesis, which calls a node as its OpenAPI document says, and otherwise. Sourced; the script brings `say` and `fail`, and has
# sourced pypi.sh.

# Exports the folder of the program as PENSTOCK_TEST_SCHEMATHESIS. Where that is set already, what it names is used.
private_schemathesis() {
    [ -z "${PENSTOCK_TEST_SCHEMATHESIS:-}" ] || return 0
    from_pypi schemathesis
    export PENSTOCK_TEST_SCHEMATHESIS=$pypi_folder
}
