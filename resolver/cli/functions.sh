# clear_port and kill_api_ports for your shell: bash, zsh, dash, any POSIX shell. They hand their
# arguments to `ultra-ports resolve` and return its exit status. Each runs in a subshell, so that
# options, traps, variables and the directory of your shell stay as they are.
\unalias clear_port kill_api_ports 2>/dev/null || :

clear_port() (
    case ${1-} in
        "" | -h | --help)
            \echo "usage: clear_port [OPTIONS] PORT...   (the options: ultra-ports resolve -h)" >&2
            if [ "${1-}" ]; then \exit 0; else \exit 2; fi
            ;;
    esac
    \command -v ultra-ports >/dev/null 2>&1 || {
        \echo "ultra-ports is not installed: in its checkout, run pipx install . or pip install ." >&2
        \exit 127
    }
    \exec ultra-ports resolve "$@"
)

# Without a PORT: API_PORT, or what the project says of its service api, or 8085.
kill_api_ports() (
    for _ultra_ports_word do
        case $_ultra_ports_word in
            -h | --help)
                \echo "usage: kill_api_ports [OPTIONS] [PORT...]   (default: \${API_PORT:-8085})" >&2
                \exit 0
                ;;
        esac
    done
    case ${API_PORT-} in
        "" | *[!0-9]*) clear_port --standard api "$@" ;;
        *) clear_port --standard "$API_PORT" "$@" ;;
    esac
)
