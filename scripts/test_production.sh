#!/bin/sh
# Starts the server as in production, waits until it answers, and probes it. Whatever happens, it
# ends what it started and frees the port again: after a failure, Ctrl-C and SIGTERM too.
#
#   scripts/test_production.sh [ARGUMENTS OF THE SERVER, such as --workers 2]
#
# Exit status: 0 the probe was answered with 200 to 399, by the server that was started; 1 it was
# not, or the server did not come up; that of ultra-ports where the port cannot be freed.
#
#   API_HEALTH_PATH   what is asked (/health)
#   API_WAIT          how many seconds the server may take to answer (30)

if [ -n "${ZSH_VERSION-}" ]; then emulate sh; fi
set -eu
here=$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || echo "$0")")
# shellcheck source=scripts/serving.sh
. "$here/serving.sh"
case ${1-} in -h | --help) usage "$here/serving.sh" && exit ;; esac

need_tools
API_PORT=$(port_of api "${API_PORT-}") || exit
API_HOST=${API_HOST:-127.0.0.1}
API_HEALTH_PATH=${API_HEALTH_PATH:-/health}
host=$(reachable "$API_HOST")
server=

# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    result=$?
    trap '' INT TERM HUP QUIT # what has begun is brought to its end
    stop_process "$server"
    clear_ports --quiet "$API_PORT" || {
        cleared=$?
        if [ "$result" -eq 0 ]; then result=$cleared; fi
    }
    exit "$result"
}

clear_ports "$API_PORT" || exit
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 131' QUIT
trap 'exit 143' TERM
(
    trap - HUP INT QUIT TERM EXIT
    serve apart "$@"
) &
server=$!
await "$server" "$host" "$API_PORT" "$API_HEALTH_PATH" "${API_WAIT:-30}" || exit 1
answered=$await_status
if [ "$answered" -lt 200 ] || [ "$answered" -ge 400 ]; then
    say "failed: GET $API_HEALTH_PATH was answered with $answered"
    exit 1
fi
if ! belongs "$API_PORT" "$server"; then
    say "failed: somebody else answers on port $API_PORT"
    exit 1
fi
say "passed: GET $API_HEALTH_PATH was answered with $answered"
