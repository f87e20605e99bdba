"""The crowds of the benchmark: programs that make processes, descriptors and sockets, and wait."""
