# shellcheck shell=bash
# The official OpenLineage client for Python, from PyPI, kept for the next time. Sourced; the script brings `say` and `fail`.

# A version that is known to speak what the tests expect.
OPENLINEAGE_PYTHON=1.54.0

install_openlineage() {
    local target=$1 folder how='install Python 3.9 or newer with pip (on Debian: apt-get install python3-pip)'
    command -v python3 > /dev/null || fail "Python is missing: $how"
    say "installing openlineage-python $OPENLINEAGE_PYTHON"
    mkdir -p "$(dirname "$target")"
    folder=$(mktemp -d "$target.XXXXXX")
    # In one step at the end, because another script may be doing the same.
    { python3 -m pip --version || apt-get install -qy --no-install-recommends python3-pip; } > "$folder.log" 2>&1 &&
        python3 -m pip install --quiet --target "$folder" "openlineage-python==$OPENLINEAGE_PYTHON" >> "$folder.log" 2>&1 ||
        { cat "$folder.log" >&2; rm -rf "$folder" "$folder.log"; fail "openlineage-python could not be installed: $how"; }
    mv -T "$folder" "$target" 2> /dev/null || rm -rf "$folder"
    rm -f "$folder.log"
}

# Exports the folder of the client as PENSTOCK_TEST_OPENLINEAGE. Where that is set already, what it names is used.
private_openlineage() {
    [ -z "${PENSTOCK_TEST_OPENLINEAGE:-}" ] || return 0
    # Parts of it are compiled for one version of Python.
    local python target
    python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null || echo none)
    target=${XDG_CACHE_HOME:-$HOME/.cache}/penstock/openlineage-python-$OPENLINEAGE_PYTHON-$python
    [ -d "$target" ] || install_openlineage "$target"
    export PENSTOCK_TEST_OPENLINEAGE=$target
}
