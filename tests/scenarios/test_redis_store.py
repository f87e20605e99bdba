"""Leases of several machines in a real Redis, and every way in which it can let them down."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from resolver.errors import ReservedError, StoreError
from resolver.leases.model import Claim, Owner
from resolver.leases.owner import here, myself
from resolver.leases.stores.redis_store import RedisStore
from resolver.model import Pid, PortNumber, Transport
from tests.lab.cli import ultra
from tests.lab.lossy import Lossy
from tests.lab.ports import free_port
from tests.lab.processes import unavailable, wait_until
from tests.lab.redis import Server, join

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.processes import Lab

SCOPE = "host:one"
SECRET = "s3cr#t"  # noqa: S105 - of a server that lives for a second
QUOTED = "s3cr%23t"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


def opened(url: str) -> closing[RedisStore]:
    return closing(RedisStore(url, here({})))


@pytest.fixture
def store(server: Server) -> Iterator[RedisStore]:
    with opened(server.url) as store:
        yield store


def claim(port: int = 8085, **changes: Any) -> Claim:  # noqa: ANN401 - any field of a claim
    fields: dict[str, Any] = {
        "scope": SCOPE,
        "port": PortNumber(port),
        "transport": Transport.TCP,
        "address": None,
        "service": "api",
        "project": "shop",
        "owner": myself(here({})),
    }
    return Claim(**(fields | changes))


def refused(store: RedisStore) -> str:
    """Why no lease can be had; fails the test where one is granted, or where it takes too long."""
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        store.acquire([claim()])
    assert time.monotonic() - began < 30  # a deadline that is not kept is no deadline at all
    assert SECRET not in str(caught.value)
    assert QUOTED not in str(caught.value)
    return str(caught.value)


def test_each_host_has_its_own_ports(server: Server, tmp_path: Path) -> None:
    port = free_port()
    fleet = {"ULTRA_PORTS_STORE": server.url, "ULTRA_PORTS_STATE": str(tmp_path)}
    one, two = fleet | {"ULTRA_PORTS_HOST": "one"}, fleet | {"ULTRA_PORTS_HOST": "two"}

    first = ultra("reserve", "api", str(port), "--project", "a", env=one)
    other = ultra("reserve", "api", str(port), "--project", "b", env=two)
    again = ultra("reserve", "api", str(port), "--project", "b", env=one)

    assert (first.status, first.stdout.strip()) == (0, str(port))
    assert (other.status, other.stdout.strip()) == (0, str(port))
    assert (again.status, again.stdout) == (1, "")
    assert "reserved for api of project a" in again.stderr
    with opened(server.url) as store:
        assert [lease.scope for lease in store.leases()] == ["host:one", "host:two"]
        assert [lease.expires_at is not None for lease in store.leases()] == [True, True]


def test_every_key_has_an_end(server: Server, store: RedisStore) -> None:
    [held, owned] = store.acquire([claim(8085, held=True), claim(8086)])
    assert held.expires_at is not None
    assert owned.expires_at is not None
    assert 60 < held.expires_at - held.created_at < 300  # somebody renews it
    assert owned.expires_at - owned.created_at > 3600  # perhaps nobody does
    store.remember(SCOPE, "shop", "", {"api": 8085})
    keys = [key for key in server.cli("keys", "*").splitlines() if not key.endswith("scopes")]
    assert len(keys) == 5
    assert all(int(server.cli("pttl", key)) > 0 for key in keys)
    store.release([held, owned])
    assert all("tcp/" not in key for key in server.cli("keys", "*").splitlines())


def test_a_frozen_redis_is_an_error_within_its_deadline(server: Server, store: RedisStore) -> None:
    [lease] = store.acquire([claim(8086)])
    server.freeze()
    assert f"redis://127.0.0.1:{server.port}/0 does not answer within 2 s" in refused(store)
    with pytest.raises(StoreError, match="does not answer"):
        store.renew(lease, 60)
    server.thaw()
    assert store.acquire([claim(8085)])


def test_a_redis_that_wakes_up_late_grants_nothing(server: Server) -> None:
    class Frozen(RedisStore):
        """Redis freezes after it has told its time."""

        def _grant(self, *arguments: Any) -> Any:  # noqa: ANN401 - of the store
            answer = super()._grant(*arguments)
            server.freeze()
            return answer

    with closing(Frozen(server.url, here({}))) as frozen, opened(server.url) as store:
        with pytest.raises(StoreError, match="the same command again is safe"):
            frozen.acquire([claim()])
        server.thaw()
        wait_until(lambda: server.cli("ping") == "PONG", "it answers again")
        assert store.leases() == ()


@pytest.mark.parametrize("cuts", [True, False], ids=["connection lost", "answer lost"])
def test_an_answer_that_is_lost_is_not_known_and_the_retry_is_safe(
    server: Server, *, cuts: bool
) -> None:
    with Lossy(server.port) as line, opened(server.url) as direct:

        class Losing(RedisStore):
            """The answer to the grant itself is lost half-way."""

            def _grant(self, *arguments: Any) -> Any:  # noqa: ANN401 - of the store
                answer = super()._grant(*arguments)
                line.limit, line.cuts = 20, cuts
                return answer

        unknown = pytest.raises(StoreError, match="whether the ports are reserved now is not")
        with closing(Losing(f"redis://127.0.0.1:{line.port}/0", here({}))) as losing, unknown:
            losing.acquire([claim()])
        [granted] = direct.leases()
        [again] = direct.acquire([claim()])
        assert again.token > granted.token
        assert direct.leases() == (again,)
        with pytest.raises(ReservedError):
            direct.acquire([claim(project="another")])


def test_a_redis_that_was_killed(server: Server, store: RedisStore) -> None:
    [lease] = store.acquire([claim()])
    server.kill()
    assert f"127.0.0.1:{server.port}" in refused(store)
    server.start()  # empty: what it knew is gone
    with pytest.raises(ReservedError, match="was lost"):
        store.renew(lease, 60)
    assert store.release([lease]) == ()
    [other] = store.acquire([claim(project="another")])
    assert other.token > lease.token


def test_killed_in_the_middle_of_work(server: Server) -> None:
    outcomes: list[str] = []
    stop = threading.Event()

    def work(number: int) -> None:
        with opened(server.url) as store:
            while not stop.is_set():
                try:
                    store.release(store.acquire([claim(8000 + number)]))
                except StoreError:
                    outcomes.append("lost")
                else:
                    outcomes.append("done")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: outcomes.count("done") > 20, "there is work")
    server.kill()
    wait_until(lambda: outcomes.count("lost") >= 4, "everybody was told")
    server.start()
    done = outcomes.count("done")
    wait_until(lambda: outcomes.count("done") > done + 20, "there is work again")
    stop.set()
    for thread in threads:
        thread.join()


def test_a_wrong_password(tmp_path: Path) -> None:
    with Server("--requirepass", SECRET) as server:
        address = f"127.0.0.1:{server.port}/0"
        for user in ("", ":wrong@", "nobody:wrong@"):
            with opened(f"redis://{user}{address}") as store:
                why = refused(store)
                assert "username-password" in why or "Authentication required" in why
        with opened(f"redis://:{QUOTED}@{address}") as store:
            assert store.where == f"redis://{address}"
            assert store.acquire([claim()])
        fleet = {"ULTRA_PORTS_STATE": str(tmp_path)}
        url = f"redis://:{SECRET[:3]}@{address}"
        run = ultra("reserve", "api", "8085", env=fleet | {"ULTRA_PORTS_STORE": url})
        assert run.status == 1
        assert address in run.stderr
        assert SECRET[:3] not in run.stderr.replace(address, "")


def test_a_replica(server: Server) -> None:
    with Server("--replicaof", "127.0.0.1", str(server.port)) as replica:
        with opened(replica.url) as store:
            assert "is a replica" in refused(store)
            with pytest.raises(StoreError, match="replica"):
                store.leases()
        # one that was a primary when it was examined
        with opened(server.url) as store:
            [lease] = store.acquire([claim()])
            server.cli("replicaof", "127.0.0.1", str(replica.port))
            assert "replica" in refused(store)
            with pytest.raises(StoreError, match="replica"):
                store.release([lease])


def test_out_of_memory(server: Server, store: RedisStore) -> None:
    [lease] = store.acquire([claim(8086)])
    server.cli("config", "set", "maxmemory", "1")
    assert refused(store).endswith("not allowed when used memory > 'maxmemory'")
    with pytest.raises(StoreError, match="maxmemory"):
        store.acquire([claim(8087), claim(8088)])
    server.cli("config", "set", "maxmemory", "0")
    assert store.leases() == (lease,)


def test_a_redis_that_forgets_is_refused() -> None:
    with Server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        with opened(server.url) as store:
            assert "maxmemory-policy allkeys-lru" in refused(store)
        server.cli("config", "set", "maxmemory-policy", "noeviction")
        with opened(server.url) as store:
            assert store.acquire([claim()])


@pytest.mark.parametrize("kind", ["tcp/8085", "ports", "token"])
def test_keys_of_another_program(server: Server, store: RedisStore, kind: str) -> None:
    key = f"ultra-ports:1:{{@host%3Aone}}:{kind}"
    server.cli("rpush", key, "a list")
    assert "WRONGTYPE" in refused(store)
    assert server.cli("keys", "ultra-ports:1:{*").splitlines() == [key]


@pytest.mark.parametrize("value", ["nonsense", "99999999999999 1 nonsense", "99999999999999 1 {}"])
def test_a_lease_that_is_none(server: Server, store: RedisStore, value: str) -> None:
    store.acquire([claim(8086)])
    server.cli("hset", "ultra-ports:1:{@host%3Aone}:tcp/8085", "1", value)
    server.cli("zadd", "ultra-ports:1:{@host%3Aone}:ports", "99999999999999", "tcp/8085")
    assert "8085" in refused(store) or "is none" in refused(store)
    with pytest.raises(StoreError, match="is none"):
        store.leases()


def test_the_leases_of_the_version_before_are_read(server: Server, store: RedisStore) -> None:
    """As that version kept them: machines of one fleet need not be brought up to date at once."""
    home, end = "ultra-ports:1:{@host%3Aone}:", "4102444800000"
    text = (
        '{"scope":"host:one","port":8085,"transport":"tcp","address":null,"service":"api",'
        '"project":"shop","place":"/srv/\\udcff","owner":["a boot","pid:[1]",4711,12345],'
        '"held":true}'
    )
    server.cli("hset", f"{home}tcp/8085", "1795747000000001", f"{end} 1795747000500 {text}")
    server.cli("zadd", f"{home}ports", end, "tcp/8085")
    [lease] = store.leases()
    assert (lease.token, str(lease.request), lease.scope) == (1795747000000001, "8085/tcp", SCOPE)
    assert (lease.service, lease.project, lease.place) == ("api", "shop", "/srv/\udcff")
    assert lease.owner == Owner("a boot", "pid:[1]", Pid(4711), 12345)
    assert (lease.created_at, lease.expires_at, lease.held) == (1795747000.5, 4102444800.0, True)
    with pytest.raises(ReservedError, match="8085/tcp is reserved for api of project shop"):
        store.acquire([claim(project="another")])
    assert store.renew(lease, 60).token == lease.token
    assert len(store.release([lease])) == 1


def test_a_user_with_few_rights(server: Server) -> None:
    server.cli("acl", "setuser", "ci", "on", f">{SECRET}", "~ultra-ports:*", "+@all", "-info")
    url = f"redis://ci:{QUOTED}@127.0.0.1:{server.port}/0"
    with opened(url) as store:
        [lease] = store.acquire([claim()])
        assert store.leases() == (lease,)
        server.cli("acl", "setuser", "ci", "-hset")
        server.cli("flushall")
        assert "can't run this command" in refused(store)
        server.cli("acl", "setuser", "ci", "+hset")
        assert store.leases() == ()


def test_what_is_no_redis_at_all(lab: Lab) -> None:
    port = free_port()
    with opened(f"redis://127.0.0.1:{port}/0") as store:
        assert f"redis://127.0.0.1:{port}/0" in refused(store)
    lab.start("answering", port)
    with opened(f"redis://127.0.0.1:{port}/0") as store:
        assert f"127.0.0.1:{port}" in refused(store)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host:port/0",
        "redis://:s3cret@host:99999/0",
        "redis://:s3cret@[::1/0",
        "unix://",
        "redis://h/0?socket_timeout=s3cret",
    ],
)
def test_what_is_no_address(url: str, tmp_path: Path) -> None:
    env = {"ULTRA_PORTS_STORE": url, "ULTRA_PORTS_STATE": str(tmp_path)}
    run = ultra("reserve", "api", "8085", env=env)
    assert (run.status, run.stdout) == (2, "")
    assert len(run.stderr.splitlines()) == 1
    assert "ULTRA_PORTS_STORE" in run.stderr
    assert "s3cret@" not in run.stderr


def test_without_the_extra(tmp_path: Path) -> None:
    script = "import sys; sys.modules['redis'] = None; from resolver.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "reserve", "api", "8085"],
        env={
            **os.environ,
            "ULTRA_PORTS_STORE": "redis://127.0.0.1:1/0",
            "ULTRA_PORTS_STATE": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'ultra-ports[redis]'" in done.stderr


def test_a_unix_socket(server: Server) -> None:
    with opened(f"unix://{server.socket}?db=3") as store:
        assert store.where == f"unix://{server.socket}"
        [lease] = store.acquire([claim()])
        assert store.leases() == (lease,)
    with opened(server.url) as store:
        assert store.leases() == ()  # another database


def test_tls(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        unavailable("openssl(1) is missing")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    argv = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    argv += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(argv, check=True, capture_output=True)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    with Server(*options, "--tls-ca-cert-file", str(certificate)):
        url = f"rediss://127.0.0.1:{port}/0"
        with opened(f"{url}?ssl_ca_certs={certificate}") as store:
            assert store.where == url
            assert store.acquire([claim()])
        with opened(url) as store:
            assert "certificate" in refused(store).lower()
        with opened(f"redis://127.0.0.1:{port}/0") as store:
            assert refused(store)


@pytest.mark.slow
def test_a_cluster_keeps_each_host_on_one_node() -> None:
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with Server(*options) as one, Server(*options) as two:
        join(one, two)
        with opened(one.url) as store, opened(two.url) as same:
            granted = [
                store.acquire(
                    [claim(8085, scope=f"host:{number}"), claim(8086, scope=f"host:{number}")]
                )
                for number in range(8)
            ]
            assert store.leases() == same.leases()
            assert len(store.leases()) == 16
            counts = [
                sum("tcp/" in key for key in node.cli("keys", "*").splitlines())
                for node in (one, two)
            ]
            assert sum(counts) == 16
            assert all(counts)
            with pytest.raises(ReservedError):
                same.acquire([claim(8085, scope="host:3", project="another")])
            assert same.renew(granted[3][0], 60).token == granted[3][0].token
            assert len(same.release([lease for pair in granted for lease in pair])) == 16
            with pytest.raises(StoreError):  # one step over two nodes is more than a cluster does
                store.acquire([claim(8085, scope=f"host:{number}") for number in range(8)])
            assert store.leases() == ()
