"""The labels by which Docker Compose finds its containers again (pkg/api/labels.go of compose)."""

from __future__ import annotations

PREFIX = "com.docker.compose."
PROJECT = f"{PREFIX}project"
SERVICE = f"{PREFIX}service"
WORKING_DIR = f"{PREFIX}project.working_dir"
ONE_OFF = f"{PREFIX}oneoff"
