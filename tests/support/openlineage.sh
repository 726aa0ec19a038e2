# shellcheck shell=bash
# The official OpenLineage client for Python. Sourced; the script brings `say` and `fail`, and has sourced pypi.sh.

# Exports the folder of the client as PENSTOCK_TEST_OPENLINEAGE. Where that is set already, what it names is used.
private_openlineage() {
    [ -z "${PENSTOCK_TEST_OPENLINEAGE:-}" ] || return 0
    from_pypi openlineage-python
    export PENSTOCK_TEST_OPENLINEAGE=$pypi_folder
}
