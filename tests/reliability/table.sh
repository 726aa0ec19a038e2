#!/usr/bin/env bash
# Runs every fault one after the other and makes the table of docs/reliability.md of it. The text above the table stays.
#
#   tests/reliability/table.sh             takes about 15 minutes
#   tests/reliability/table.sh --release   arguments are those of ./test
set -euo pipefail
cd "$(dirname "$0")/../.."

page=docs/reliability.md
rows=$PWD/target/reliability
rm -rf "$rows"
mkdir -p "$rows"

PENSTOCK_TEST_RELIABILITY_ROWS=$rows ./test --all -p penstock --test reliability -j 1 -E 'not test(the_table_in_the_documents)' "$@"

{
    sed '/^<!-- made by/,$d' "$page"
    echo "<!-- made by tests/reliability/table.sh: change nothing below -->"
    echo
    echo "Made on $(date -u +%F) by \`$(echo "tests/reliability/table.sh $*" | sed 's/ *$//')\`, on a machine with $(nproc) cores."
    echo
    echo '| part | fault | lasted | served meanwhile | failed | failing for | longest answer | recovered after | received | charged | lost | acknowledged, all kept | test |'
    echo '|---|---|---|---|---|---|---|---|---|---|---|---|---|'
    # In the order of the files, and of the tests in them.
    for file in services instances pairs limits; do
        grep -A1 'scenario!($' "tests/reliability/$file.rs" | sed -n 's/^ *\([a-z0-9_]*\),$/\1/p' | while read -r test; do
            cat "$rows/$test"
        done
    done
} > "$rows/page"
cp "$rows/page" "$page"
