"""The tables of programs: a developer's own server is none of them, whatever it has at hand."""

from __future__ import annotations

import os
import socket

import pytest

from resolver.collateral.databases import database
from resolver.collateral.known import KNOWN
from resolver.host.unix_sockets import unix_sockets
from resolver.model import Pid, Process, ProcessIdentity

JARS = "/m2/org.elasticsearch.client/x.jar:/m2/org.neo4j.driver/y.jar:/m2/derby.jar"
OWN = [
    f"java -javaagent:/opt/JetBrains/lib/idea_rt.jar=1 -cp {JARS} shop.Main",
    "beam.smp -- -pa /app/rabbit_common/ebin -s shop",
    "node /home/me/ideas/.vscode/server.js --inspect",
    "python3 app.py -i eth0",
    "python3 -m flask run --debug",
    "chrome --headless --remote-debugging-port=9222",
    "gunicorn -c conf.py web:application",
    "ssh -fNL 8080:db:5432 host",
    "vault server -dev",
    "python3 train.py --port 29500",
    "mutagen sync list",
    "rsync -a /home backup:",
    "beam.smp -progname erl -noshell -s shop",
    "python3 /venv/bin/marimo run app.py",
    "python3 /venv/bin/dask worker tcp://127.0.0.1:8786",
    "python3 /venv/bin/dask spec --spec x",
]
THEIRS = {
    "java -Xmx1g com.intellij.idea.Main": "access",
    "node /root/.vscode-server/bin/1/out/server-main.js --port 0": "access",
    "python3 -i app.py": "state",
    "chrome --remote-debugging-port=9222": "desktop",
    "java -cp x org.elasticsearch.bootstrap.Elasticsearch": "data",
    "beam.smp -- -s rabbit boot -noshell": "data",
    "java sun.rmi.registry.RegistryImpl 1099": "registrants",
    "qemu-system-aarch64 -name guest": "machine",
    "ssh -L 8080:db:5432 host": "session",
    "vault server -config=/etc/vault.hcl": "state",
    "inetd /etc/inetd.conf": "registrants",
    "python3 -m torch.distributed.run --nproc-per-node 4 train.py": "state",
    "mpirun -n 4 ./solver": "state",
    "orted -mca ess env": "state",
    "python3 /venv/bin/marimo -y new --port 2718": "state",
    "python3 -m marimo tutorial intro": "state",
    "python3 /venv/bin/dask scheduler --port 8786": "registrants",
    "python3 -m distributed.cli.dask_scheduler": "registrants",
    "dask-scheduler": "registrants",
    "mutagen daemon run": "network",
    "incusd forkproxy -- 1 2 tcp:0.0.0.0:80 3 4 tcp:127.0.0.1:80": "network",
    "tor -f torrc": "network",
    "rsync --daemon --no-detach": "registrants",
    "beam.smp -root /usr/lib/erlang -progname erl -home /root": "state",
}


def process(line: str) -> Process:
    words = tuple(line.split())
    return Process(ProcessIdentity(Pid(7), 1), words[0], words, on_terminal=True)


def kinds(line: str) -> set[str]:
    found = {str(row.kind) for row in KNOWN if row.is_(process(line))}
    return found | ({"data"} if database(process(line)) else set())


@pytest.mark.parametrize("line", OWN)
def test_a_developers_own_server_is_none_of_them(line: str) -> None:
    assert kinds(line) == set()


@pytest.mark.parametrize("line", THEIRS)
def test_what_is_somebody_elses_is_known(line: str) -> None:
    assert kinds(line) == {THEIRS[line]}


def test_every_row_has_a_source() -> None:
    assert all(row.source.startswith("https://") for row in KNOWN)


def test_a_name_with_line_breaks_is_one_socket() -> None:
    """Whoever binds a socket chooses its name, and must not speak of other people's (unix(7))."""
    name = f"\0x{os.getpid()}\n0: 00000002 00000000 00010000 0001 01 7 /tmp/.X11-unix/X0\n"
    with socket.socket(socket.AF_UNIX) as mine:
        mine.bind(name)
        mine.listen()
        inode = os.fstat(mine.fileno()).st_ino
        found = unix_sockets()
    assert [each.path for each in found if each.inode == inode] == ["@" + name[1:]]
    assert [each.listening for each in found if each.inode == inode] == [True]
    assert not [each for each in found if each.inode == 7]
