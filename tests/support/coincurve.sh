# shellcheck shell=bash
# What docs/examples/sign.py signs with, for the test that runs it. Sourced; the script brings `say` and `fail`.

# It comes from PyPI, and is kept for the next time.
COINCURVE=21.0.0
coincurve=${XDG_CACHE_HOME:-$HOME/.cache}/penstock/coincurve-$COINCURVE

# Has python3 find it.
private_coincurve() {
    local how="install it with pip, for the python3 that runs" folder
    if [ ! -d "$coincurve" ]; then
        command -v python3 > /dev/null || fail "coincurve $COINCURVE is missing, and python3, which would install it: $how"
        say 'installing coincurve'
        mkdir -p "$(dirname "$coincurve")"
        folder=$(mktemp -d "$coincurve.XXXXXX")
        # In one step at the end, because another script may be doing the same.
        { python3 -m pip --version || apt-get install -qy --no-install-recommends python3-pip; } > "$folder.log" 2>&1 &&
            python3 -m pip install --quiet --target "$folder" "coincurve==$COINCURVE" >> "$folder.log" 2>&1 ||
            { cat "$folder.log" >&2; rm -rf "$folder" "$folder.log"; fail "coincurve could not be installed: $how"; }
        mv -T "$folder" "$coincurve" 2> /dev/null || rm -rf "$folder"
        rm -f "$folder.log"
    fi
    export PYTHONPATH="$coincurve${PYTHONPATH:+:$PYTHONPATH}"
}
