"""Databases: data that have their own way down, and who is in the middle of something.

The signal and the patience are from each one's documentation. A database is asked once and not
killed after it (`KillStep.lenient`); what would be rolled back is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.collateral.clients import names_of_clients
from resolver.collateral.known import is_named
from resolver.model import Collateral, CollateralKind, Command, Degree
from resolver.programs import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolver.collateral.family import Family
    from resolver.model import Process


class Database(Struct, frozen=True):
    """A row: the names of its server, how it is shut down, and where that is documented.

    `names` are as in `known.py`. `command` has `{data}` and `{port}` where its data directory and
    the port go, and is told the node by `-n` where the variable `node` names it. `words` has to be
    found in its command line, for programs that run many things. `saves` is found in the path of a
    file that it has open where it writes everything down, and `forgets` in the command line of one
    that saves nothing; None where such a program always saves.
    """

    name: str
    names: str
    source: str
    shutdown: str = "SIGTERM"
    patience_seconds: float = 60.0
    command: tuple[str, ...] = ()
    words: str = ""
    saves: str = r"(?!)"
    forgets: str | None = None
    node: str = ""


DATABASES: tuple[Database, ...] = (
    Database(
        "PostgreSQL",
        "postgres postmaster",
        "https://www.postgresql.org/docs/current/server-shutdown.html",
        "SIGINT",  # Fast Shutdown: SIGTERM would wait for every client to go
        command=("pg_ctl", "-D", "{data}", "-m", "fast", "stop"),
    ),
    Database(
        "PgBouncer",
        "pgbouncer",
        "https://www.pgbouncer.org/usage.html#signals",
        "SIGINT",  # it waits for the transactions that go through it; SIGTERM cuts them off
    ),
    Database(
        "MariaDB or MySQL",
        "mariadbd mysqld",
        "https://dev.mysql.com/doc/refman/8.4/en/unix-signal-response.html",
        command=("mariadb-admin", "--protocol=tcp", "--port={port}", "shutdown"),
    ),
    Database(
        "MongoDB",
        "mongod mongos",
        "https://www.mongodb.com/docs/manual/tutorial/manage-mongodb-processes/",
        command=("mongosh", "--port", "{port}", "admin", "--eval", "db.shutdownServer()"),
    ),
    Database(
        "Redis",
        "redis-server valkey-server keydb-server dragonfly",
        "https://redis.io/docs/latest/operate/oss_and_stack/reference/signals/",
        command=("redis-cli", "-p", "{port}", "shutdown"),
        saves=r"\.aof$",
        forgets=r" --save(?:  | ?$)",
    ),
    Database("memcached", "memcached", "https://docs.memcached.org/", forgets=""),
    Database(
        "RabbitMQ",
        "beam.smp rabbitmq-server",
        "https://www.rabbitmq.com/docs/man/rabbitmqctl.8",
        command=("rabbitmqctl", "shutdown"),
        words=r"rabbitmq[_-]server|\brabbit boot\b",
        forgets=r"(?!)",  # queues that are not durable, messages that are not persistent
        node="RABBITMQ_NODENAME",
    ),
    Database(
        "Elasticsearch or OpenSearch",
        "java",
        "https://www.elastic.co/guide/en/elasticsearch/reference/current/stopping-elasticsearch.html",
        words=r" org\.(elasticsearch|opensearch)\.\S+",  # the main class, and no jar of a client
    ),
    Database(
        "a Java database or broker",
        "java",
        "https://kafka.apache.org/documentation/#basic_ops_restarting",
        words=r" \S*(CassandraDaemon|kafka\.Kafka|QuorumPeerMain)\b| org\.neo4j\.\S+"
        r"| org\.h2\.tools\.\S+|/activemq\.jar|-Dsolr\.",
    ),
    Database(
        "a database",
        "clickhouse clickhouse-server influxd etcd cockroach sqlservr couchdb arangod rethinkdb"
        " tikv-server tidb-server surreal qdrant milvus meilisearch minio prometheus questdb"
        " ns_server scylla firebird ora_pmon db2sysc slapd victoria-metrics rqlited nats-server"
        " mosquitto typesense-server weaviate",
        "https://clickhouse.com/docs/operations/system-tables/server_settings",
    ),
)

# Files that only a storage engine has open: by what they are called, in its data directory
_STORE_FILES = (
    r"/(?:postmaster\.pid|ibdata1|mongod\.lock|MANIFEST-\d+|write\.lock|aria_log_control)$"
)
# What a browser, or an application that is one, keeps in such files of its profile
_PROFILE = r"/(?:Local Storage|Session Storage|IndexedDB|shared_proto_db|Service Worker|GPUCache)/"
# A backend's title ends with its command, or with what it waits for (PostgreSQL's
# "Standard Unix Tools": `postgres: user database host activity`)
_IN_TRANSACTION = (
    r"^postgres: .* (?:idle in transaction(?: \(aborted\))?|(?:INSERT|UPDATE|DELETE|MERGE|COPY"
    r"|COMMIT|PREPARE TRANSACTION|CREATE|ALTER|DROP|VACUUM|REINDEX|CLUSTER|TRUNCATE)\b.*)$"
)
_LONGEST_TITLE = 512  # characters of a command line that are looked at: a process writes its own
_MOST = 5  # processes that are named


def lost(family: Family) -> Iterator[Collateral]:
    """The database that the holder is, with its clients."""
    row = _row(family)
    server = next(filter(database, family.holder.processes), family.holder.master)
    if server is None or row is None:
        return
    own = family.holder.binding.port
    clients = names_of_clients(e for e in family.group.clients if e.binding.port == own)
    everybody = (*family.members, *family.group.below)
    busy = [
        each for each in everybody if re.match(_IN_TRANSACTION, each.command_line[:_LONGEST_TITLE])
    ]
    text = f"{row.name} with {clients}" if clients else row.name
    if busy:
        text += f", in the middle of a transaction ({', '.join(str(e.pid) for e in busy[:_MOST])})"
    yield Collateral(
        CollateralKind.DATA,
        Degree.REFUSED if busy else Degree.MENTIONED,
        text,
        f"{row.shutdown} shuts it down, and it may take {row.patience_seconds:g} s",
        _commands(row, server, family),
        row.shutdown,
        row.patience_seconds,
    )
    yield from _in_memory(row, server, family)


def _in_memory(row: Database, server: Process, family: Family) -> Iterator[Collateral]:
    """What no file has. Nobody is asked; and of Redis, the title mostly hides what it was told."""
    if row.forgets is None or any(re.search(row.saves, path) for path in family.group.files):
        return
    if re.search(row.forgets, server.command_line):
        text, evidence = "all its data, which is in memory alone", "it saves nothing"
    else:
        text, evidence = "what it keeps in memory alone", "whether it saves is not known from here"
    yield Collateral(CollateralKind.DATA, Degree.MENTIONED, text, evidence)


def database(process: Process) -> Database | None:
    """Which database a process is the server of, by its name and its command line."""
    named = (row for row in DATABASES if is_named(process, row.names))
    return next((row for row in named if re.search(row.words, process.command_line)), None)


def _row(family: Family) -> Database | None:
    """The kind of database: by name, or by files that storage engines keep open."""
    named = next(filter(None, map(database, family.holder.processes)), None)
    paths = family.group.files
    browses = any(re.search(_PROFILE, path) for path in paths)
    if named is None and not browses and any(re.search(_STORE_FILES, path) for path in paths):
        return Database("a database", "", "proc_pid_fd(5)")
    return named


def _commands(row: Database, process: Process, family: Family) -> tuple[Command, ...]:
    data = _data_directory(process)
    if not row.command or ("{data}" in row.command and data is None):
        return ()
    port = family.holder.binding.port
    program, *words = (word.format(data=data, port=port) for word in row.command)
    node = process.variable(row.node)
    return (Command((program, *(("-n", node) if node else ()), *words), "its own way down"),)


def _data_directory(process: Process) -> str | None:
    """What `-D` or PGDATA names; else where it works (postgres changes into its directory)."""
    given = next(options(process.command, "-D"), "")
    return given or process.variable("PGDATA") or process.cwd
