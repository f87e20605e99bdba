"""pytest: the API under test is this checkout's, or no test begins."""

import subprocess

import pytest


@pytest.fixture(scope="session")
def api():
    wait = ["ultra-ports", "wait", "api", "--until", "mine", "--timeout", "5"]
    done = subprocess.run(wait, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        pytest.exit(done.stderr.strip(), 1)
    url = subprocess.run(
        ["ultra-ports", "env", "API_URL"], stdout=subprocess.PIPE, text=True, check=True
    )
    return url.stdout.strip()
