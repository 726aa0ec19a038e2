# shellcheck shell=bash
# Packages of npm, each in a folder of its own that is kept for the next time. Sourced; the script brings `say`, `fail` and
# `install_missing`.

# from_npm PACKAGE VERSION: sets `npm_folder` to where `node_modules` is, after the package was installed if need be.
from_npm() {
    local package=$1 version=$2 folder
    install_missing "what runs and installs $package" node=nodejs npm=npm
    npm_folder=${XDG_CACHE_HOME:-$HOME/.cache}/penstock/npm-$package-$version
    [ ! -d "$npm_folder" ] || return 0
    say "installing $package $version"
    mkdir -p "$(dirname "$npm_folder")"
    folder=$(mktemp -d "$npm_folder.XXXXXX")
    # In one step at the end, because another script may be doing the same.
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder" "$package@$version" > "$folder.log" 2>&1 ||
        { cat "$folder.log" >&2; rm -rf "$folder" "$folder.log"; fail "$package could not be installed from the npm registry"; }
    mv -T "$folder" "$npm_folder" 2> /dev/null || rm -rf "$folder"
    rm -f "$folder.log"
}
