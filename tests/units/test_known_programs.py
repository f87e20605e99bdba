"""The tables of programs: a developer's own server is none of them, whatever it has at hand."""

from __future__ import annotations

import pytest

from resolver.collateral.databases import database
from resolver.collateral.family import unix_sockets
from resolver.collateral.known import KNOWN
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
]
THEIRS = {
    "java -Xmx1g com.intellij.idea.Main": "session",
    "node /root/.vscode-server/bin/1/out/server-main.js --port 0": "session",
    "python3 -i app.py": "state",
    "chrome --remote-debugging-port=9222": "desktop",
    "java -cp x org.elasticsearch.bootstrap.Elasticsearch": "data",
    "beam.smp -- -s rabbit boot -noshell": "data",
    "java sun.rmi.registry.RegistryImpl 1099": "registrants",
    "qemu-system-aarch64 -name guest": "machine",
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


def test_the_list_of_unix_sockets_may_have_any_names() -> None:
    """Whoever binds a socket chooses its path, line breaks included (unix(7))."""
    header = "Num RefCount Protocol Flags Type St Inode Path\n"
    line = "0: 00000002 00000000 00010000 0001 01 {} /tmp/.X11-unix/X1\n"
    text = header + line.format(7) + "a b c d e f g h\n0: 1 2 zz 4 5 6 @x\n" + line.format(8)
    assert [(each.inode, each.listening) for each in unix_sockets(text)] == [(7, True), (8, True)]
