# shellcheck shell=bash
# The release before the last change of the schema, built from the history of this repository: instances of both versions run side by
# side in a test. Built once, which takes some minutes, and kept in target/earlier.

# The newest commit whose schema is older than this one's (V53 on PostgreSQL). A migration moves it to the commit before its own.
earlier_commit=b87bf08

private_earlier() {
    local folder="$PWD/target/earlier/$earlier_commit"
    export PENSTOCK_TEST_EARLIER="$folder/build/debug/penstock"
    [ ! -x "$PENSTOCK_TEST_EARLIER" ] || return 0
    git cat-file -e "$earlier_commit^{commit}" 2> /dev/null ||
        fail "the earlier version, $earlier_commit, is not in the history of this clone: git fetch --unshallow"
    say "building the earlier version, $earlier_commit, in $folder"
    mkdir -p "$folder/source"
    git archive "$earlier_commit" | tar -x -C "$folder/source"
    CARGO_TARGET_DIR="$folder/build" cargo build --locked --manifest-path "$folder/source/Cargo.toml" -p penstock --bin penstock ||
        fail "the earlier version was not built"
}
