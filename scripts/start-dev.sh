#!/bin/sh
# Frees the API's port, then becomes the server: python -m uvicorn backend.app:app --port 8085
#
#   scripts/start-dev.sh [ARGUMENTS OF THE SERVER, such as --reload]
#
# A port that cannot be freed: nothing is started, and the exit status is that of ultra-ports.

if [ -n "${ZSH_VERSION-}" ]; then emulate sh; fi
set -eu
here=$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || echo "$0")")
# shellcheck source=scripts/serving.sh
. "$here/serving.sh"
case ${1-} in -h | --help) usage "$here/serving.sh" && exit ;; esac

need_tools
API_PORT=$(port_of api "${API_PORT-}") || exit
API_HOST=${API_HOST:-127.0.0.1}
clear_ports "$API_PORT" || exit
serve exec "$@"
