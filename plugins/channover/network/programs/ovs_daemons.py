"""The daemons of Open vSwitch on one host: a database server and a switch daemon of its own, in the foreground.

All their files are in the host's folder. Sources: ``ovs-vswitchd(8)``, ``ovsdb-server(1)``.

The switch daemon sends by one packet socket whatever the member, and drops what that socket's buffer has no room for
(``af_packet_sock`` in ``lib/netdev-linux.c``). With the default of 212992 bytes a full member takes the other one's room:
16 flows over two links then reach 160 to 185 Mbit/s instead of 188. No option sets it, so the buffer is widened from outside
(``pidfd_getfd(2)``, ``SO_SNDBUFFORCE``).
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field

from channover.errors import TestbedError
from channover.hosts.host import Host, Process

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
START_TIMEOUT = 15.0
"""How long (seconds) a daemon may take to answer: on an idle core it takes 0.05 s."""
BUFFER = 4 << 20
"""Send and receive buffer (bytes) of the daemon's packet sockets: above what two full cables' queues hold."""
_WIDEN = """
import ctypes, os, socket, sys, time
pid, (size, wanted) = int(open(sys.argv[1]).read()), map(int, sys.argv[2:])
daemon = os.pidfd_open(pid)
library = ctypes.CDLL(None, use_errno=True)
seen = {}
deadline = time.monotonic() + 2
while len(seen) < wanted and time.monotonic() < deadline:
    for number in set(range(3, 1024)) - set(seen):
        copy = library.syscall(438, daemon, number, 0)  # pidfd_getfd
        if copy < 0:
            continue
        try:
            found = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            continue
        with found:
            if found.family != socket.AF_PACKET:
                continue
            for forced, plain in ((32, socket.SO_SNDBUF), (33, socket.SO_RCVBUF)):
                try:
                    found.setsockopt(socket.SOL_SOCKET, forced, size)
                except PermissionError:
                    found.setsockopt(socket.SOL_SOCKET, plain, size)
            seen[number] = found.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    time.sleep(0.005)
print(min(seen.values(), default=0))
"""
_START = (
    'rm -rf "$1" && mkdir -p "$1" && ovsdb-tool create "$1/conf.db" "$2" && '
    'exec ovsdb-server "$1/conf.db" "--remote=punix:$1/db.sock" "--unixctl=$1/db.ctl" '
    '-vsyslog:off -vfile:off -vconsole:warn --run="$3"'
)


@dataclass
class Switch:
    """Both daemons of one host. The database server runs the switch daemon, and ends when that ends."""

    host: Host
    process: Process | None = None
    bridges: list[str] = field(default_factory=list)
    """The bridges that stand, one a LAG."""
    ports: int = 0
    """How many devices the daemon was given."""
    buffer: int = 0
    """Send buffer (bytes, as the kernel counts) of the daemon's packet sockets; 0: it could not be widened."""

    @property
    def folder(self) -> str:
        """Where its sockets and its database are."""
        return f"{self.host.folder}/ovs"

    def start(self) -> None:
        """Start the daemons and wait until they have found each other. Raises TestbedError."""
        folder = self.folder
        daemon = (
            f"exec ovs-vswitchd unix:{folder}/db.sock --disable-system --unixctl={folder}/switch.ctl "
            f"--pidfile={folder}/switch.pid -vsyslog:off -vfile:off -vconsole:info"
        )
        environment = dict.fromkeys(("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"), folder)
        self.process = self.host.spawn("sh", "-c", _START, "ovs", folder, SCHEMA, daemon, environment=environment)
        self.process.wait_for(r"db\.sock: connected", START_TIMEOUT)

    def alive(self) -> None:
        """Raise TestbedError with its last words if it has ended."""
        if self.process is None or (code := self.process.poll()) is None:
            return
        told = [line for line in self.process.stderr.strip().splitlines() if "|INFO|" not in line]
        words = " | ".join(line[-200:] for line in told[-3:])
        raise TestbedError(f"{self.host.name}: Open vSwitch ended with code {code}; its last words: {words}")

    def configure(self, *words: str) -> None:
        """Change the configuration in one step and wait until the switch daemon has taken it over. Raises TestbedError."""
        self._ask("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", f"--timeout={START_TIMEOUT:.0f}", *words)

    def config(self, port: str) -> dict[str, str]:
        """Return a port's ``other_config`` as the database has it, its LACP, and the LACP key of each of its interfaces.

        Raises TestbedError.
        """
        words = ["--format=json", "--columns=lacp,other_config,interfaces", "list", "Port", port]
        words += ["--", "--columns=_uuid,name,other_config", "list", "Interface"]
        said = self._ask(
            "ovs-vsctl", f"--db=unix:{self.folder}/db.sock", f"--timeout={START_TIMEOUT:.0f}", *words, quiet=True
        )
        ports, interfaces = map(json.loads, said.splitlines())
        lacp, (_, pairs), (kind, members) = ports["data"][0]
        found = {str(key): str(value) for key, value in pairs} | ({"LACP": lacp} if isinstance(lacp, str) else {})
        ours = members if kind == "set" else [[kind, members]]
        for uuid, name, (_, more) in interfaces["data"]:
            if uuid in ours:
                found[f"LACP key of {name}"] = str(dict(more).get("lacp-aggregation-key", "not set"))
        return found

    def widen(self, ports: int) -> None:
        """Widen the buffers of the daemon's packet sockets: one of each port, and the one it sends by.

        Where that is refused (a kernel before 5.6, no ``python3``, no root) the LAG works, but many flows do not fill it.
        """
        argv = ("python3", "-I", "-c", _WIDEN, f"{self.folder}/switch.pid", str(BUFFER), str(ports + 1))
        with contextlib.suppress(TestbedError, ValueError):
            self.buffer = int(self.host.run(*argv, quiet=True, check=False).stdout)

    def show(self, *words: str, quiet: bool = True) -> str:
        """Return the switch daemon's answer to an ``ovs-appctl`` command. Raises TestbedError."""
        return self._ask("ovs-appctl", "-t", f"{self.folder}/switch.ctl", *words, quiet=quiet)

    def _ask(self, *argv: str, quiet: bool = False) -> str:
        self.alive()
        try:
            return self.host.run(*argv, quiet=quiet).stdout
        except TestbedError:
            self.alive()
            raise

    def stop(self) -> None:
        """End both daemons; what they made goes with them."""
        if self.process is None or self.process.poll() is not None:
            return
        self.host.run("ovs-appctl", "-t", f"{self.folder}/switch.ctl", "exit", "--cleanup", check=False)
        try:
            self.process.wait(5.0)
        except TestbedError:
            self.process.stop()
