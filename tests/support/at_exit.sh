# shellcheck shell=bash
# What a script has to clean up when it ends, however it ends: `at_exit COMMAND`, the latest first. Sourced.

exit_commands=()

at_exit() { exit_commands=("$1" "${exit_commands[@]}"); }

run_exit_commands() {
    local command
    for command in "${exit_commands[@]}"; do eval "$command" || true; done
}

trap run_exit_commands EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
