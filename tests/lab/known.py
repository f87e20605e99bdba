"""Every program of the table of known ones, on a port of its own: the real one, or a stand-in.

A stand-in is a Python with the program's name and command line: for what neither Debian nor PyPI
has, or what would be too much for a test. Which of them are is said by `STAND_INS`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.lab.ports import free_port
from tests.lab.processes import Lab, unavailable
from tests.lab.pypi import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Answers each line with itself
ECHO = """\
import socketserver, sys
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(('127.0.0.1', int(sys.argv[1])), Echo).serve_forever()
"""
# A server that has a shell on a pty, as a web terminal does
WEB_TERMINAL = """\
import os, pty, socket, sys
pid, master = pty.fork()
if not pid:
    os.execv('/bin/sh', ['sh'])
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
    listener.accept()[0].close()
"""
# Runs a command on a terminal that nobody ever types into
TERMINAL = (sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])")


class Program(NamedTuple):
    """What runs: its command line; the client that it needs to be more than its port."""

    command: tuple[str, ...]
    transport: str = "tcp"
    client: Callable[[socket.socket], None] | None = None
    env: tuple[tuple[str, str], ...] = ()


# --- real ones ------------------------------------------------------------------------------------


def qemu(port: int, folder: Path) -> Program:
    """A machine without any hardware, and with one forward."""
    forward = f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:80"
    monitor = f"unix:{folder}/monitor,server=on,wait=off"
    words = ("-machine", "none", "-display", "none", "-nodefaults", "-monitor", monitor)
    return Program((real("qemu-system-x86_64"), *words, "-netdev", forward))


def tigervnc(port: int, folder: Path) -> Program:
    number = 1000 + os.getpid() % 30_000
    options = ("-SecurityTypes", "None", "-localhost", "-rfbport", str(port))
    return Program((real("Xtigervnc"), f":{number}", *options, "-desktop", folder.name))


def python(port: int, folder: Path) -> Program:
    (folder / "served.py").write_text(
        f"import socket; s = socket.create_server(('127.0.0.1', {port}))"
    )
    return Program((*TERMINAL, sys.executable, "-i", str(folder / "served.py")))


def irb(port: int, folder: Path) -> Program:
    (folder / "served.rb").write_text(f"require 'socket'; $s = TCPServer.new('127.0.0.1', {port})")
    return Program((*TERMINAL, real("irb"), "-r", str(folder / "served.rb")))


def erlang(port: int, _: Path) -> Program:
    listens = f"gen_tcp:listen({port}, [{{ip, {{127,0,0,1}}}}])"
    code = f"spawn(fun() -> {listens}, timer:sleep(infinity) end)."
    return Program((*TERMINAL, real("erl"), "-eval", code))


def jshell(port: int, folder: Path) -> Program:
    (folder / "served.jsh").write_text(f"var s = new java.net.ServerSocket({port});\n")
    return Program((*TERMINAL, real("jshell"), "--feedback", "silent", str(folder / "served.jsh")))


def neovim(port: int, _: Path) -> Program:
    return Program((real("nvim"), "--clean", "--headless", "--listen", f"127.0.0.1:{port}"))


def gdbserver(port: int, _: Path) -> Program:
    return Program((real("gdbserver"), f"127.0.0.1:{port}", "/bin/sleep", "600"))


def adb(port: int, folder: Path) -> Program:
    return Program(
        (real("adb"), "-P", str(port), "nodaemon", "server"), env=(("HOME", str(folder)),)
    )


def iproxy(port: int, _: Path) -> Program:
    return Program((real("iproxy"), f"{port}:22"))


def dnsmasq(port: int, _: Path) -> Program:
    listens = (f"--port={port}", "--listen-address=127.0.0.1", "--bind-interfaces")
    alone = ("--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=", "--user=root")
    return Program((real("dnsmasq"), "--keep-in-foreground", *listens, *alone))


def unbound(port: int, folder: Path) -> Program:
    file = folder / "unbound.conf"
    file.write_text(
        f"server:\n interface: 127.0.0.1@{port}\n do-daemonize: no\n username: ''\n chroot: ''\n"
        f" directory: '{folder}'\n pidfile: ''\n use-syslog: no\n module-config: 'iterator'\n"
        "remote-control:\n control-enable: no\n"
    )
    return Program((real("unbound"), "-d", "-c", str(file)))


def epmd(port: int, _: Path) -> Program:
    return Program((real("epmd"), "-address", "127.0.0.1", "-port", str(port)), client=_registers)


def _registers(connection: socket.socket) -> None:
    """ALIVE2_REQ of a node (the Erlang distribution protocol); it stays as long as that does."""
    name = b"lab"
    request = struct.pack(f">BHBBHHH{len(name)}sH", 120, 4369, 77, 0, 6, 5, len(name), name, 0)
    connection.sendall(struct.pack(">H", len(request)) + request)
    assert connection.recv(64)


def rmiregistry(port: int, _: Path) -> Program:
    return Program((real("rmiregistry"), str(port)))


def registry(port: int, _: Path) -> Program:
    return Program((real("java"), "-m", "java.rmi/sun.rmi.registry.RegistryImpl", str(port)))


def cups(port: int, folder: Path) -> Program:
    (folder / "cupsd.conf").write_text(f"Listen 127.0.0.1:{port}\n")
    places = ("ServerRoot", "StateDir", "CacheDir", "RequestRoot", "TempDir")
    lines = [f"{place} {folder}\n" for place in places]
    logs = [f"{kind}Log {folder}/{kind}\n" for kind in ("Access", "Error", "Page")]
    (folder / "files.conf").write_text("".join((*lines, *logs)))
    words = ("-c", str(folder / "cupsd.conf"), "-s", str(folder / "files.conf"))
    return Program((real("cupsd"), "-f", *words))


def openvpn(port: int, folder: Path) -> Program:
    """A server without an interface: what evidence has no hold of."""
    pair = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lab")
    subprocess.run([real("openssl"), *request, *pair], check=True, capture_output=True)
    tls = ("--tls-server", "--dh", "none", "--ca", f"{folder}/cert.pem")
    keys = ("--cert", f"{folder}/cert.pem", "--key", f"{folder}/key.pem")
    where = ("--proto", "tcp-server", "--local", "127.0.0.1", "--lport", str(port))
    return Program((real("openvpn"), "--dev", "null", *where, *tls, *keys))


def tor(port: int, folder: Path) -> Program:
    (folder / "torrc").touch()
    own = f"{folder}/torrc"
    files = ("-f", own, "--defaults-torrc", own, "--DataDirectory", f"{folder}/data")
    return Program((real("tor"), *files, "--SocksPort", f"127.0.0.1:{port}"))


def mosh(port: int, _: Path) -> Program:
    server = f"{real('mosh-server')} new -i 127.0.0.1 -p {port} -- sleep 600"
    return Program(("sh", "-c", f"{server}; sleep 600"), "udp", env=(("LC_ALL", "C.UTF-8"),))


def samba(port: int, folder: Path) -> Program:
    """A share, with somebody who has asked for it."""
    file = folder / "smb.conf"
    kinds = ("private dir", "lock directory", "state directory", "cache directory", "pid directory")
    places = "".join(f" {kind} = {folder}\n" for kind in (*kinds, "ncalrpc dir"))
    where = f" smb ports = {port}\n interfaces = 127.0.0.1\n bind interfaces only = yes\n"
    file.write_text(f"[global]\n{where}{places} disable netbios = yes\n")
    words = ("--foreground", "--no-process-group", f"--configfile={file}", "--debug-stdout")
    return Program((real("smbd"), *words), client=_negotiates)


def _negotiates(connection: socket.socket) -> None:
    """SMB_COM_NEGOTIATE, in which every conversation begins ([MS-CIFS] 2.2.4.52)."""
    dialects = b"\x02NT LM 0.12\0\x02SMB 2.002\0"
    header = b"\xffSMB\x72" + bytes(4) + b"\x18\x01\x28" + bytes(20)
    message = header + b"\0" + struct.pack("<H", len(dialects)) + dialects
    connection.sendall(struct.pack(">I", len(message)) + message)
    assert connection.recv(1024)


def vsftpd(port: int, folder: Path) -> Program:
    (folder / "empty").mkdir()
    file = folder / "vsftpd.conf"
    file.write_text(
        f"listen=YES\nlisten_ipv6=NO\nlisten_address=127.0.0.1\nlisten_port={port}\n"
        f"background=NO\nanonymous_enable=YES\nsecure_chroot_dir={folder}/empty\n"
        "isolate=NO\nisolate_network=NO\nseccomp_sandbox=NO\n"
    )
    return Program((real("vsftpd"), str(file)), client=_greets)


def _greets(connection: socket.socket) -> None:
    assert connection.recv(1024).startswith(b"220")
    connection.sendall(b"NOOP\r\n")
    assert connection.recv(1024)


def rsync(port: int, folder: Path) -> Program:
    (folder / "rsyncd.conf").write_text(f"use chroot = no\n[lab]\n path = {folder}\n")
    words = ("--daemon", "--no-detach", "--address=127.0.0.1", f"--port={port}")
    return Program((real("rsync"), *words, f"--config={folder}/rsyncd.conf"), client=_synchronises)


def _synchronises(connection: socket.socket) -> None:
    assert connection.recv(1024).startswith(b"@RSYNCD:")
    connection.sendall(b"@RSYNCD: 31.0\n")  # what it wants, it will say


def mariadb(port: int, folder: Path) -> Program:
    """Without tables of its own, and so without users."""
    (folder / "data").mkdir()
    files = (f"--datadir={folder}/data", f"--socket={folder}/socket", "--user=root")
    where = (f"--port={port}", "--bind-address=127.0.0.1", "--skip-grant-tables")
    return Program((real("mariadbd"), "--no-defaults", *files, *where))


def redis_with(*options: str) -> Callable[[int, Path], Program]:
    """A Redis with these options."""

    def start(port: int, folder: Path) -> Program:
        words = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder))
        return Program((real("redis-server"), *words, *options))

    return start


def memcached(port: int, folder: Path) -> Program:
    del folder
    return Program((real("memcached"), "-u", "root", "-l", "127.0.0.1", "-p", str(port)))


def prometheus(port: int, folder: Path) -> Program:
    files = (f"--config.file={os.devnull}", f"--storage.tsdb.path={folder}/data")
    return Program((real("prometheus"), *files, f"--web.listen-address=127.0.0.1:{port}"))


def rabbitmq(port: int, folder: Path) -> Program:
    """A node with its data, its cookie and its register of nodes in a place of its own."""
    own = {
        "HOME": folder,
        "RABBITMQ_NODENAME": f"lab{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": free_port(),
        "RABBITMQ_MNESIA_BASE": folder / "data",
        "RABBITMQ_LOG_BASE": folder / "log",
        "RABBITMQ_PID_FILE": folder / "pid",
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": folder / "none",
        "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": free_port(),
    }
    server = real("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on the path changes its user
    return Program((server,), env=tuple((name, str(value)) for name, value in own.items()))


def mpirun(port: int, folder: Path) -> Program:
    return Program((*MPIRUN, *listening_on(port), "sleep", "600"), env=(("TMPDIR", str(folder)),))


MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe")


def listening_on(port: int) -> tuple[str, ...]:
    """What makes it listen there for the daemons of other machines."""
    return ("--mca", "oob_tcp_static_ipv4_ports", str(port), "--mca", "oob_tcp_if_include", "lo")


def dask_scheduler(port: int, folder: Path) -> Program:
    where = ("--host", "127.0.0.1", "--port", str(port))
    pages = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")  # else there is one on 8787
    dask = str(install("distributed", "dask"))
    own = tuple(dask_places(folder).items())
    return Program((dask, "scheduler", *where, *pages), client=_shakes_hands, env=own)


def dask_places(folder: Path) -> dict[str, str]:
    """Where it writes, which is in /tmp otherwise."""
    return {"DASK_TEMPORARY_DIRECTORY": str(folder)}


def _shakes_hands(connection: socket.socket) -> None:
    """Each end of a connection offers what it can compress (`distributed/comm/core.py`)."""
    with connection.makefile("rb") as stream:
        size = stream.read(8)
        offer = size + stream.read(int.from_bytes(size, sys.byteorder))
    assert b"compression" in offer, offer
    connection.sendall(offer)


def marimo(port: int, folder: Path) -> Program:
    """An editor in whose notebook nobody has looked yet."""
    where = ("--host", "127.0.0.1", "--port", str(port), "--no-token")
    quiet = ("--headless", "--skip-update-check")
    notebook = folder / "notebook.py"
    notebook.touch()
    command = (str(install("marimo")), "edit", str(notebook), *where, *quiet)
    return Program(command, env=(("HOME", str(folder)),))


def passt(port: int, folder: Path) -> Program:
    """The network of a machine that has not come yet."""
    words = ("--foreground", "--runas", "0", "--socket", f"{folder}/socket")
    return Program((real("passt"), *words, "--tcp-ports", f"127.0.0.1/{port}:22"))


def xrdp(port: int, folder: Path) -> Program:
    pair = ("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lab")
    subprocess.run([real("openssl"), *request, *pair], check=True, capture_output=True)
    file = folder / "xrdp.ini"
    keys = f"certificate={folder}/cert.pem\nkey_file={folder}/key.pem\n"
    file.write_text(
        f"[Globals]\nini_version=1\nfork=true\nport=tcp://.:{port}\n{keys}"
        f"[Logging]\nLogFile={folder}/log\n[Xvnc]\nname=Xvnc\nlib=libvnc.so\n"
    )
    return Program((real("xrdp"), "--nodaemon", "--config", str(file)))


def chromium(port: int, folder: Path) -> Program:
    """With windows, which nobody sees: without `--headless` it takes them for real ones."""
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update")
    words = (*quiet, "--disable-gpu", "--disable-sync", "--ozone-platform=headless")
    own = (f"--user-data-dir={folder}/profile", f"--remote-debugging-port={port}")
    return Program((real("chromium"), "--no-sandbox", *words, *own, "about:blank"))


# --- real interpreters, which run a stand-in ------------------------------------------------------


def torch(port: int, folder: Path) -> Program:
    package = folder / "torch" / "distributed"
    package.mkdir(parents=True)
    (package / "run.py").write_text(ECHO)
    words = ("-m", "torch.distributed.run", str(port))
    return Program((sys.executable, *words), env=(("PYTHONPATH", str(folder)),))


def vscode_server(port: int, folder: Path) -> Program:
    script = folder / ".vscode-server" / "bin" / "server.js"
    script.parent.mkdir(parents=True)
    script.write_text(f"require('net').createServer().listen({port}, '127.0.0.1')")
    return Program((real("node"), str(script)))


def _java(name: str) -> Callable[[int, Path], Program]:
    """A Java whose main class is called so."""

    def start(port: int, folder: Path) -> Program:
        package, _, plain = name.rpartition(".")
        source = folder.joinpath(*package.split("."), f"{plain}.java")
        source.parent.mkdir(parents=True)
        source.write_text(
            f"package {package};\npublic class {plain} {{\n"
            "  public static void main(String[] a) throws Exception {\n"
            f"    new java.net.ServerSocket({port}).accept();\n  }}\n}}\n"
        )
        subprocess.run([real("javac"), str(source)], check=True)
        return Program((real("java"), "-cp", str(folder), name))

    return start


# --- stand-ins ------------------------------------------------------------------------------------


def _standing_in(
    name: str, *words: str, on: tuple[str, ...] = ()
) -> Callable[[int, Path], Program]:
    """A Python that is called so, with these words in its command line; `on` a terminal or not."""

    def start(port: int, folder: Path) -> Program:
        (folder / name).symlink_to(os.path.realpath(sys.executable))
        (folder / "echo.py").write_text(ECHO)
        command = (*on, str(folder / name), f"{folder}/echo.py", str(port), *words)
        return Program(command, client=_talks)

    return start


def incus_proxy(port: int, folder: Path) -> Program:
    """It prints into a file that is called after its instance and device."""
    (folder / "web1").mkdir()
    started = _standing_in("incusd", "forkproxy", "--", "1")(port, folder)
    words = ("sh", "-c", f'exec "$@" >{folder}/web1/proxy.http.log', "sh", *started.command)
    return Program(words, client=_talks)


def _talks(connection: socket.socket) -> None:
    connection.sendall(b"hello\n")
    assert connection.recv(64)


REAL: dict[str, Callable[[int, Path], Program]] = {
    "qemu-system-*": qemu,
    "Xvnc": tigervnc,
    "python -i": python,
    "ruby": irb,
    "beam.smp": erlang,
    "java jshell": jshell,
    "emacs": neovim,
    "gdb": gdbserver,
    "adb": adb,
    "iproxy": iproxy,
    "dnsmasq": dnsmasq,
    "named": unbound,
    "epmd": epmd,
    "rmiregistry": rmiregistry,
    "java RegistryImpl": registry,
    "gpg-agent": cups,
    "tailscaled": openvpn,
    "cloudflared": tor,
    "mosh-server": mosh,
    "ganesha.nfsd": samba,
    "vsftpd": vsftpd,
    "rsync": rsync,
    "mpirun": mpirun,
    "dask": dask_scheduler,
    "marimo": marimo,
    "firecracker": passt,
    "xrdp": xrdp,
    "chrome": chromium,
}
STAND_INS: dict[str, Callable[[int, Path], Program]] = {
    "VBoxHeadless": _standing_in("VBoxHeadless", "--comment", "it", "--startvm", "guest"),
    "vmware-vmx": _standing_in("vmware-vmx", "guest.vmx"),
    "spark-shell": _standing_in("spark-shell", "spark-shell", on=TERMINAL),
    "NetworkManager": _standing_in("NetworkManager"),
    "consul": _standing_in("consul", "agent"),
    # PyTorch is a download of over 500 MB, and of several GB with what it brings
    "torchrun": _standing_in("torchrun", "train.py"),
    "python torch": torch,
    "lxd": incus_proxy,
    "mutagen": _standing_in("mutagen", "daemon", "run"),
    "vault": _standing_in("vault", "server"),
    "code": _standing_in("code-server"),
    "node": vscode_server,
    "java idea": _java("com.intellij.idea.Main"),
}
# Databases, by their names in that table
DATABASES: dict[str, Callable[[int, Path], Program]] = {
    "MariaDB or MySQL": mariadb,
    "Redis": redis_with(),
    "memcached": memcached,
    "a database": prometheus,
    # stand-ins
    "MongoDB": _standing_in("mongod"),
    "Elasticsearch or OpenSearch": _java("org.elasticsearch.bootstrap.Elasticsearch"),
    "a Java database or broker": _java("kafka.Kafka"),
}
# Rows whose real program has a scenario of its own
ELSEWHERE = {
    "PostgreSQL": "test_postgresql_is_shut_down_its_own_way",
    "PgBouncer": "test_a_pooler_waits_for_the_transactions_that_go_through_it",
    "RabbitMQ": "test_a_broker_goes_down_with_its_consumers",
    "ssh": "test_a_session_that_also_forwards",
    "inetd": "test_a_server_of_many_services",
}


def real(name: str) -> str:
    """The path of a program that Debian has."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return shutil.which(name, path=path) or unavailable(f"{name} is missing")


@contextlib.contextmanager
def connected(program: Program, port: int) -> Iterator[None]:
    """Its client is there and has spoken with it, where it needs one."""
    if program.client is None:
        yield
        return
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        program.client(connection)
        yield


def run(lab: Lab, program: Program) -> subprocess.Popen[bytes]:
    """Starts it."""
    return lab.command(*program.command, env=dict(program.env))
