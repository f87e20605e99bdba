# What the scripts that start servers share; they source it. It changes nothing by itself.
#
#   API_PORT      the API's port (default: the project's service api, which is 8085)
#   API_HOST      the address that it listens on (127.0.0.1)
#   API_APP       what uvicorn serves (backend.app:app)
#   API_COMMAND   another server: a command line for sh, which finds API_HOST and API_PORT in its
#                 environment, and gets the script's arguments
#   PYTHON        the interpreter (python, else python3)
#   CLEAR_PORT_OPTIONS   for ultra-ports resolve, such as "--stop-services --grace 10"
# shellcheck shell=sh

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

usage() { # prints the comment at the top of the script, and what it shares with the others
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    sed -n '/^#   API_PORT/,/^#   CLEAR/s/^# //p' "$1"
}

need_tools() {
    command -v ultra-ports >/dev/null 2>&1 || {
        say "ultra-ports is not installed: in its checkout, run pipx install . or pip install ."
        exit 127
    }
    if [ -n "${PYTHON-}" ]; then set -- "$PYTHON"; else set -- python python3; fi
    for python do
        if command -v "$python" >/dev/null 2>&1; then return 0; fi
    done
    say "$python is not installed (PYTHON names the interpreter)"
    exit 127
}

port_of() { # NAME VALUE: the port of a service, VALUE where that is one
    case $2 in
        "" | *[!0-9]*) ultra-ports env "$1" ;;
        *) echo "$2" ;;
    esac
}

clear_ports() { # PORT...: frees them, or returns why not; stdout stays the server's
    # shellcheck disable=SC2086 # options are words
    ultra-ports resolve ${CLEAR_PORT_OPTIONS-} "$@" >&2
}

serve() { # exec|apart ARGUMENTS...: becomes the server, in a process group of its own or not
    serve_how=$1
    shift
    export API_HOST API_PORT
    if [ -n "${API_COMMAND-}" ]; then
        set -- sh -c "$API_COMMAND \"\$@\"" sh "$@"
    else
        set -- "$python" -m uvicorn "${API_APP:-backend.app:app}" \
            --host "$API_HOST" --port "$API_PORT" "$@"
    fi
    if [ "$serve_how" = apart ]; then apart "$@"; fi
    exec "$@"
}

apart() { # COMMAND...: becomes it, in a process group of its own, which stop_process can end
    exec "$python" -I -c '
import os, signal, sys
os.setpgid(0, 0)
for each in signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE:
    signal.signal(each, signal.SIG_DFL)
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error.strerror}")
' "$@"
}

reachable() { # HOST: where a client finds what listens on it
    case $1 in
        "" | 0.0.0.0) echo 127.0.0.1 ;;
        ::) echo ::1 ;;
        *) echo "$1" ;;
    esac
}

answer() { # HOST PORT PATH: the HTTP status of a GET; fails where nothing answers within 2 s
    "$python" -I -c '
import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=2)
try:
    connection.request("GET", sys.argv[3])
    print(connection.getresponse().status)
except (OSError, ValueError, http.client.HTTPException):
    sys.exit(1)
' "$@"
}

await() { # PID HOST PORT PATH SECONDS: waits for an answer below 500; PID may be empty
    # Not for $(...): only the shell that started PID learns of its end, and obeys signals meanwhile.
    await_until=$(($(date +%s) + $5))
    while :; do
        await_status=$(answer "$2" "$3" "$4") || await_status=
        if [ -n "$await_status" ] && [ "$await_status" -lt 500 ]; then
            return 0
        fi
        if [ -n "$1" ] && ! kill -0 "$1" 2>/dev/null; then
            say "what was to serve port $3 has ended"
            return 1
        fi
        if [ "$(date +%s)" -ge "$await_until" ]; then
            say "no answer from $2 port $3 within $5 s (GET $4: ${await_status:-nothing})"
            return 1
        fi
        sleep 0.2
    done
}

belongs() { # PORT PID: whether PID or a child of its holds the port; a container's is not known
    belongs_pids=$(ultra-ports who --json "$1" 2>/dev/null | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p')
    [ -n "$belongs_pids" ] || return 0
    for belongs_pid in $belongs_pids; do
        while [ "${belongs_pid:-0}" -gt 1 ]; do
            if [ "$belongs_pid" -eq "$2" ]; then return 0; fi
            belongs_pid=$(ps -o ppid= -p "$belongs_pid" 2>/dev/null | tr -d ' ')
        done
    done
    return 1
}

stop_process() { # PID: ends what we started, and then what is left of the group that it led
    if [ -z "$1" ]; then return 0; fi
    end_by_signals "$1"
    wait "$1" 2>/dev/null || :
    end_by_signals "-$1"
}

end_by_signals() { # PID or -GROUP: SIGTERM, 10 s, SIGKILL
    kill -s TERM -- "$1" 2>/dev/null || return 0
    end_until=$(($(date +%s) + 10))
    while kill -s 0 -- "$1" 2>/dev/null; do
        if [ "$(date +%s)" -ge "$end_until" ]; then
            kill -s KILL -- "$1" 2>/dev/null || :
            return 0
        fi
        sleep 0.1
    done
}
