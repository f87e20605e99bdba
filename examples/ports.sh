# For .envrc and mise.toml: the variables of this checkout, the same every time.
eval "$(ultra-ports assign --quiet --format shell)"
