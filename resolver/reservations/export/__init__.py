"""What depends on a port is told of it: variables, an environment file, a compose override."""
