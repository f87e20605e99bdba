"""Programs that are more than the port that they hold, as one table: what evidence cannot tell.

Each row says what is lost, how a program is known, which command takes one port off it, and where
that is documented. A new one is a row here and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from resolver.model import CollateralKind
from resolver.programs import names_of

if TYPE_CHECKING:
    from resolver.model import Process

_SHORT_NAME = 15  # TASK_COMM_LEN without its last byte


class Known(Struct, frozen=True):
    """A row. `names` are names of the program, separated by spaces; each may end in `*`.

    `words` has to be found in the command line (a regular expression), and `unless` must not be.
    `command` has `{port}`, `{transport}` and `{host}` (an address, empty for every one) where these
    go. `terminal`: only where its standard
    input is one, so that somebody may type into it. `clients`: refused only
    where it has any; `others`: only where it serves other ports, too. `named` finds what else
    `command` needs, by named groups, in the command line or the path of an open file; what is not
    found stands there in capitals, and the comment says where to look.
    """

    kind: CollateralKind
    names: str
    text: str
    source: str
    command: tuple[str, ...] = ()
    comment: str = ""
    words: str = ""
    unless: str = r"(?!)"
    terminal: bool = False
    clients: bool = False
    others: bool = False
    named: str = ""

    def is_(self, process: Process) -> bool:
        """Whether a process is this program."""
        return (
            is_named(process, self.names)
            and (process.on_terminal or not self.terminal)
            and re.search(self.words, process.command_line) is not None
            and re.search(self.unless, process.command_line) is None
        )


def is_named(process: Process, names: str) -> bool:
    """Whether a process is known by one of some names, separated by spaces; they may end in `*`."""
    return any(_matches(name, each) for name in names_of(process) for each in names.split())


def _matches(name: str, pattern: str) -> bool:
    """Whether the name is the pattern's, which may end in `*`; the kernel cuts it after 15."""
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern or (len(name) == _SHORT_NAME and pattern.startswith(name))


_MACHINE, _DESKTOP = CollateralKind.MACHINE, CollateralKind.DESKTOP
_STATE, _REGISTRANTS = CollateralKind.STATE, CollateralKind.REGISTRANTS
_NETWORK, _SESSION = CollateralKind.NETWORK, CollateralKind.SESSION
_ACCESS = CollateralKind.ACCESS

KNOWN: tuple[Known, ...] = (
    Known(
        _MACHINE,
        "qemu-system-* qemu-kvm kvm",
        "a virtual machine, as a power cut would",
        "https://www.qemu.org/docs/master/system/monitor.html",
        ("hostfwd_remove", "{transport}:{host}:{port}"),
        "in the machine's monitor: takes this forward away alone",
    ),
    Known(
        _MACHINE,
        "VBoxHeadless VirtualBoxVM VirtualBox VBoxNetNAT VBoxSVC",
        "a virtual machine, as a power cut would",
        "https://www.virtualbox.org/manual/topics/vboxmanage.html",
        ("VBoxManage", "controlvm", "{machine}", "natpf1", "delete", "RULE"),
        "takes this forward away alone; VBoxManage showvminfo lists the machine's rules",
        named=r" --startvm (?P<machine>[\w][\w.-]*)",
    ),
    Known(
        _MACHINE,
        "vmware-vmx vmnet-natd",
        "a virtual machine, as a power cut would",
        "https://docs.vmware.com/en/VMware-Workstation-Pro/",
        ("vmrun", "deletePortForwarding", "vmnet8", "{transport}", "{port}"),
        "takes this forward away alone",
    ),
    Known(
        _MACHINE,
        "firecracker cloud-hypervisor crosvm kvmtool lkvm bhyve xhyve hyperkit vfkit krunkit"
        " multipassd passt passt.avx2",
        "a virtual machine, or its network, as a power cut would",
        "https://github.com/firecracker-microvm/firecracker/blob/main/docs/api_requests/actions.md",
    ),
    Known(
        _DESKTOP,
        "Xvnc Xtigervnc Xtightvnc Xvnc4 Xkasmvnc x11vnc x0vncserver x0tigervncserver wayvnc"
        " weston websockify Xpra xpra",
        "somebody's desktop, or the way to it",
        "https://tigervnc.org/doc/vncserver.html",
    ),
    Known(
        _DESKTOP,
        "chrome chromium chromium-browser google-chrome brave firefox firefox-esr msedge opera"
        " vivaldi slack Discord spotify steam",
        "somebody's application with its windows",
        "https://developer.chrome.com/docs/devtools/remote-debugging/local-server",
        unless=r"--headless|--test-type|--enable-automation|-headless|--type=",
    ),
    Known(
        _STATE,
        "marimo rsession",
        "a notebook or session that may be open in it, with its variables",
        "https://docs.marimo.io/cli/",
        words=r"\b(?:edit|new|tutorial)\b|rsession",
    ),
    Known(
        _STATE,
        "python python3* pypy* ipython*",
        "an interpreter that somebody types into",
        "https://docs.python.org/3/using/cmdline.html#cmdoption-i",
        words=r"^\S+ (-\S+ )*?-[A-Za-z]*i( |$)|\b(ipython3?|bpython|ptpython|xonsh)\b"
        r"|-m (pdb|ipdb|pudb|code)\b| shell(_plus)?( |$)| console( |$)",
        terminal=True,
    ),
    Known(
        _STATE,
        "ruby irb pry rails bundle",
        "a console that somebody types into",
        "https://guides.rubyonrails.org/command_line.html#bin-rails-console",
        words=r"\b(irb|pry)\b| console( |$)| c( |$)",
        terminal=True,
    ),
    Known(
        _STATE,
        "beam.smp erl iex",
        "a console that somebody types into",
        "https://hexdocs.pm/iex/IEx.html",
        words=r"\+iex|start_iex|IEx|-progname erl\b",
        unless=r" -(?:noshell|noinput|detached)\b",
        terminal=True,
    ),
    Known(
        _STATE,
        "spark-shell jshell scala java sbt lein clojure clj",
        "a console that somebody types into",
        "https://docs.scala-lang.org/overviews/repl/overview.html",
        words=r"jshell|repl\.Main|MainGenericRunner|spark-shell|nrepl|clojure\.main( -r|$)",
        terminal=True,
    ),
    Known(  # what is typed into jshell runs in a machine of its own, which has no terminal
        _STATE,
        "java",
        "a console that somebody types into",
        "https://docs.oracle.com/en/java/javase/21/jshell/",
        words=r" jdk\.jshell\.execution\.",
    ),
    Known(
        _STATE,
        "emacs emacs-* nvim vim gvim",
        "an editor with somebody's buffers",
        "https://www.gnu.org/software/emacs/manual/html_node/emacs/Emacs-Server.html",
        unless=r"--batch|-batch|-es( |$)",
    ),
    Known(
        _STATE,
        "gdb gdbserver lldb lldb-server dlv rr",
        "a program under a debugger",
        "https://sourceware.org/gdb/current/onlinedocs/gdb.html/Server.html",
    ),
    Known(
        _REGISTRANTS,
        "adb",
        "the bridge to every device, for all that use one",
        "https://developer.android.com/tools/adb#forwardports",
        ("adb", "forward", "--remove", "tcp:{port}"),
        "takes this forward away alone; adb forward --list shows them",
    ),
    Known(
        _REGISTRANTS,
        "iproxy usbmuxd",
        "the way to a device, for all that use it",
        "https://github.com/libimobiledevice/libusbmuxd",
    ),
    Known(
        _REGISTRANTS,
        "dnsmasq aardvark-dns",
        "DNS and addresses of the network that it serves",
        "https://libvirt.org/formatnetwork.html",
        ("ip", "-brief", "address"),
        "its network is there: serve this port on another address",
    ),
    Known(
        _REGISTRANTS,
        "named unbound pdns_server pdns_recursor coredns CoreDNS knotd kresd stubby dnscrypt-proxy"
        " avahi-daemon",
        "name resolution for whoever uses it",
        "https://bind9.readthedocs.io/en/latest/manpages.html",
    ),
    Known(
        _REGISTRANTS,
        "epmd",
        "the register of every Erlang node on this machine",
        "https://www.erlang.org/doc/apps/erts/epmd_cmd.html",
        clients=True,
        command=("epmd", "-names"),
        comment="shows who is registered",
    ),
    Known(
        _REGISTRANTS,
        "rmiregistry omniNames tnameserv orbd roscore rosmaster roslaunch slpd portmap rpcbind"
        " gatekeeper",
        "the names that others have registered with it",
        "https://wiki.ros.org/roscore",
    ),
    Known(
        _REGISTRANTS,
        "java",
        "the names that others have registered with it",
        "https://docs.oracle.com/en/java/javase/21/docs/specs/man/rmiregistry.html",
        words=r"sun\.rmi\.registry\.RegistryImpl|tnameserv",
    ),
    Known(
        _REGISTRANTS,
        "consul raylet gcs_server",
        "those who are connected to it",
        "https://developer.hashicorp.com/consul/docs/architecture",
        clients=True,
    ),
    Known(
        _REGISTRANTS,
        "dask dask-scheduler dask_scheduler",
        "those who are connected to it",
        "https://distributed.dask.org/en/stable/resilience.html#scheduler-failure",
        clients=True,
        words=r"\bdask[ _-]scheduler\b",
    ),
    Known(
        _REGISTRANTS,
        "gpg-agent ssh-agent pulseaudio pipewire pipewire-pulse wireplumber cupsd mpd bluetoothd",
        "a daemon that others on this machine share",
        "https://www.freedesktop.org/wiki/Software/PulseAudio/",
    ),
    Known(
        _NETWORK,
        "tailscaled zerotier-one openvpn wireguard-go netbird nebula charon openconnect vpnc"
        " innernet twingate warp-svc ocserv strongswan",
        "the network that it connects this machine to",
        "https://tailscale.com/kb/1242/tailscale-serve",
    ),
    Known(
        _NETWORK,
        "NetworkManager dhcpcd dhclient wpa_supplicant iwd connmand",
        "the network of this machine",
        "https://networkmanager.dev/docs/api/latest/NetworkManager.html",
    ),
    Known(
        _NETWORK,
        "cloudflared ngrok frpc frps bore rathole chisel tunnelto localtunnel lt inlets tor",
        "every tunnel that goes through it",
        "https://developers.cloudflare.com/cloudflare-one/connections/connect-networks/",
    ),
    Known(
        _ACCESS,
        "mosh-server ttyd gotty wetty shellinaboxd tmate sshx telnetd in.telnetd et etserver"
        " teleport tsh guacd dtach abduco zellij wezterm-mux-server kitty eternalterminal",
        "somebody's terminal session",
        "https://mosh.org/",
    ),
    Known(
        _ACCESS,
        "xrdp xrdp-sesman gnome-remote-desktop-daemon vino-server krfb sunshine rustdesk anydesk"
        " teamviewerd nxserver nxd cockpit-ws cockpit-tls amazon-ssm-agent ssm-agent-worker",
        "the way into this machine for whoever works through it",
        "https://github.com/neutrinolabs/xrdp/blob/devel/README.md",
    ),
    Known(
        _STATE,
        "torchrun deepspeed horovodrun",
        "the computation of all the processes that it coordinates",
        "https://docs.pytorch.org/docs/stable/elastic/run.html",
    ),
    Known(
        _STATE,
        "mpirun mpiexec mpiexec.hydra orterun orted prterun prte prted",
        "the computation of all the processes that it coordinates",
        "https://docs.open-mpi.org/en/main/man-openmpi/man1/mpirun.1.html",
    ),
    Known(
        _STATE,
        "python python3*",
        "the computation of all the processes that it coordinates",
        "https://docs.pytorch.org/docs/stable/elastic/run.html",
        words=r" -m (?:torch\.distributed\.(?:run|launch)|accelerate\.commands\.launch)\b",
    ),
    Known(
        _REGISTRANTS,
        "ganesha.nfsd smbd ksmbd.mountd nbd-server qemu-nbd tgtd",
        "what others have mounted from it",
        "https://github.com/nfs-ganesha/nfs-ganesha/wiki",
        clients=True,
    ),
    Known(
        _REGISTRANTS,
        "vsftpd proftpd pure-ftpd sftpgo",
        "what others are copying",
        "https://security.appspot.com/vsftpd.html",
        clients=True,
    ),
    Known(
        _REGISTRANTS,
        "rsync",
        "what others are copying",
        "https://download.samba.org/pub/rsync/rsync.1",
        clients=True,
        words=r" --daemon\b",
    ),
    Known(
        _NETWORK,
        "lxd incusd",
        "the way into an instance, which comes back with that instance only",
        "https://linuxcontainers.org/incus/docs/main/reference/devices_proxy/",
        ("incus", "config", "device", "remove", "{instance}", "{device}"),
        "takes this proxy away; it prints into a file that is called after both",
        words=r"\bforkproxy\b",
        named=r"/(?P<instance>[\w][\w-]*)/proxy\.(?P<device>[\w][\w.-]*)\.log\b",
    ),
    Known(
        _NETWORK,
        "mutagen",
        "every forward and synchronisation of the daemon",
        "https://mutagen.io/documentation/forwarding",
        ("mutagen", "forward", "list"),
        "then: mutagen forward terminate SESSION",
        words=r" daemon run\b",
    ),
    Known(
        _SESSION,
        "ssh",
        "the session on another machine that somebody works in",
        "https://man.openbsd.org/ssh#ESCAPE_CHARACTERS",
        ("~C", "-KL", "{port}"),
        "typed into that session: takes this forward away alone (EnableEscapeCommandline)",
        unless=r" -[46AaCfGgKkMNnqsTtVvXxYy]*N",
        terminal=True,
    ),
    Known(
        _REGISTRANTS,
        "inetd inetutils-inetd xinetd",
        "every other service that it listens for",
        "https://manpages.debian.org/inetd.8",
        ("editor", "/etc/inetd.conf"),
        "take this service out; then kill -HUP it",
        others=True,
    ),
    Known(
        _STATE,
        "vault bao",
        "the key that unseals its secrets, which somebody has to give again",
        "https://developer.hashicorp.com/vault/docs/concepts/seal",
        unless=r" -dev\b| (?:agent|proxy)\b",
    ),
    Known(
        _ACCESS,
        "code code-server code-tunnel codium cursor windsurf zed zed-editor zed-remote-server idea"
        " remote-dev-server openvscode-server server-main.js",
        "an editor's session, and every port that it forwards",
        "https://code.visualstudio.com/docs/remote/ssh#_forwarding-a-port-creating-ssh-tunnel",
        ("code",),
        "in its Ports view: Stop Forwarding Port",
    ),
    Known(
        _ACCESS,
        "node",
        "an editor's session, and every port that it forwards",
        "https://code.visualstudio.com/docs/remote/vscode-server",
        words=r"/\.(vscode|cursor|windsurf|vscodium)-(server|remote)[-/]|/openvscode-server",
    ),
    Known(
        _ACCESS,
        "java",
        "an editor's session, and every port that it forwards",
        "https://www.jetbrains.com/help/idea/remote-development-overview.html",
        words=r" com\.intellij\.idea\.Main\b",
    ),
)
"""In no particular order: every row that fits counts, one for each kind."""
