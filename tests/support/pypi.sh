# shellcheck shell=bash
# Packages of PyPI, each in a folder of its own that is kept for the next time. Sourced; the script brings `say` and `fail`.

# from_pypi PACKAGE VERSION [OPTION OF PIP..]: sets `pypi_folder` to where the package is, after it was installed if need be.
from_pypi() {
    local package=$1 version=$2 folder python
    local how="install Python 3.9 or newer with pip (on Debian: apt-get install python3-pip)"
    shift 2
    if ! python3 -m pip --version > /dev/null 2>&1; then
        command -v apt-get > /dev/null || fail "$package is missing, and pip, which would install it: $how"
        say 'installing pip'
        apt-get install -qy --no-install-recommends python3-pip > /dev/null || fail "pip could not be installed: $how"
    fi
    # Parts of packages are compiled for one version of Python.
    python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    pypi_folder=${XDG_CACHE_HOME:-$HOME/.cache}/penstock/$package-$version-$python
    [ ! -d "$pypi_folder" ] || return 0
    say "installing $package $version"
    mkdir -p "$(dirname "$pypi_folder")"
    folder=$(mktemp -d "$pypi_folder.XXXXXX")
    # In one step at the end, because another script may be doing the same.
    python3 -m pip install --quiet --target "$folder" "$@" "$package==$version" > "$folder.log" 2>&1 ||
        { cat "$folder.log" >&2; rm -rf "$folder" "$folder.log"; fail "$package could not be installed: $how"; }
    mv -T "$folder" "$pypi_folder" 2> /dev/null || rm -rf "$folder"
    rm -f "$folder.log"
}
