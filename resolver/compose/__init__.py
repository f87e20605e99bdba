"""What a compose project publishes, and whether it can: before `docker compose up`."""
