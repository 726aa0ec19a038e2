# shellcheck shell=bash
# What docs/examples/sign.py signs with, for the test that runs it. Sourced; the script brings `say` and `fail`, and has sourced
# pypi.sh.

# Has python3 find it.
private_coincurve() {
    from_pypi coincurve
    export PYTHONPATH="$pypi_folder${PYTHONPATH:+:$PYTHONPATH}"
}
