#!/bin/sh
# Frees the ports of the API and of the model runner, starts the model runner, waits until it
# answers, and then serves the API. The model runner ends with the server.
#
#   scripts/start-ultra-with-modelrunner.sh [ARGUMENTS OF THE SERVER]
#
# A port that cannot be freed: nothing is started, and the exit status is that of ultra-ports.
# Without MODELRUNNER_COMMAND nothing here could start the model runner again, so one that answers
# is left running, and used; anything else on its port is cleared.
#
#   MODELRUNNER_COMMAND       a command line for sh, which finds MODELRUNNER_PORT in its environment
#   MODELRUNNER_PORT          its port (default: the project's service modelrunner, which is 12434)
#   MODELRUNNER_HOST          where it is asked (127.0.0.1)
#   MODELRUNNER_HEALTH_PATH   what it is asked (/)
#   MODELRUNNER_WAIT          how many seconds it may take to answer (60)

if [ -n "${ZSH_VERSION-}" ]; then emulate sh; fi
set -eu
here=$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || echo "$0")")
# shellcheck source=scripts/serving.sh
. "$here/serving.sh"
case ${1-} in -h | --help) usage "$here/serving.sh" && exit ;; esac

need_tools
API_PORT=$(port_of api "${API_PORT-}") || exit
API_HOST=${API_HOST:-127.0.0.1}
MODELRUNNER_PORT=$(port_of modelrunner "${MODELRUNNER_PORT-}") || exit
MODELRUNNER_HOST=${MODELRUNNER_HOST:-127.0.0.1}
MODELRUNNER_HEALTH_PATH=${MODELRUNNER_HEALTH_PATH:-/}
export MODELRUNNER_HOST MODELRUNNER_PORT
runner=
server=

# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    result=$?
    trap '' INT TERM HUP QUIT # what has begun is brought to its end
    stop_process "$server"
    if [ -n "$runner" ]; then
        stop_process "$runner"
        clear_ports --quiet "$MODELRUNNER_PORT" || :
    fi
    exit "$result"
}

if [ -z "${MODELRUNNER_COMMAND-}" ] &&
    answer "$MODELRUNNER_HOST" "$MODELRUNNER_PORT" "$MODELRUNNER_HEALTH_PATH" >/dev/null; then
    say "the model runner on port $MODELRUNNER_PORT answers: it is left running"
    clear_ports "$API_PORT" || exit
    serve exec "$@"
fi

clear_ports "$API_PORT" "$MODELRUNNER_PORT" || exit
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 131' QUIT
trap 'exit 143' TERM
exec 3<&0 # a shell gives what it starts in the background no stdin: the server keeps ours
if [ -n "${MODELRUNNER_COMMAND-}" ]; then
    (
        trap - HUP INT QUIT TERM EXIT
        apart sh -c "$MODELRUNNER_COMMAND"
    ) 3<&- &
    runner=$!
fi
await "$runner" "$MODELRUNNER_HOST" "$MODELRUNNER_PORT" "$MODELRUNNER_HEALTH_PATH" \
    "${MODELRUNNER_WAIT:-60}" || exit 1
(
    trap - HUP INT QUIT TERM EXIT
    serve exec "$@"
) <&3 3<&- &
server=$!
exec 3<&-
wait "$server" && result=0 || result=$?
server=
exit "$result"
