# shellcheck shell=bash
# schemathesis, which calls a node as its OpenAPI document says, and otherwise. Sourced; the script brings `say` and `fail`, and has
# sourced pypi.sh.

SCHEMATHESIS=4.32.5
# What makes up the calls, and what compares the answers: other versions would make other calls.
SCHEMATHESIS_WITH=(hypothesis==6.170.17 jsonschema_rs==0.60.3)

# Exports the folder of the program as PENSTOCK_TEST_SCHEMATHESIS. Where that is set already, what it names is used.
private_schemathesis() {
    [ -z "${PENSTOCK_TEST_SCHEMATHESIS:-}" ] || return 0
    from_pypi schemathesis "$SCHEMATHESIS" "${SCHEMATHESIS_WITH[@]}"
    export PENSTOCK_TEST_SCHEMATHESIS=$pypi_folder
}
