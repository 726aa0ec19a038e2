# shellcheck shell=bash
# The schemas of Kubernetes, by which a test checks the manifests in deploy/kubernetes. Sourced; the script brings `say` and `fail`,
# and has sourced pypi.sh.

# Exports the folder of the package as PENSTOCK_TEST_KUBERNETES. Where that is set already, what it names is used.
private_kubernetes() {
    [ -z "${PENSTOCK_TEST_KUBERNETES:-}" ] || return 0
    from_pypi kubernetes-validate
    export PENSTOCK_TEST_KUBERNETES=$pypi_folder
}
