"""Where leases are kept: an SQLite file, memory, or a Redis that machines share."""
