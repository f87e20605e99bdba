#!/bin/sh
# Frees the API's port by `ultra-ports resolve`, and returns its exit status.
#
#   scripts/kill_api_ports.sh [OPTIONS] [PORT...]     default: ${API_PORT:-8085}
#
# Without API_PORT, what the project's .env and project file say of the service api goes before 8085.

# shellcheck source=scripts/clear_port.sh
. "$(dirname -- "$(readlink -f -- "$0" 2>/dev/null || echo "$0")")/clear_port.sh"
kill_api_ports "$@"
