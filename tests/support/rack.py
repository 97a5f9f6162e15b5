"""A rack: hosts behind SSH that face switches which channover does not make and cannot log in to.

A switch is a namespace with an Open vSwitch of its own, userspace datapath, which speaks LACP and rapid spanning tree. Hosts
are labs of one namespace each. Cables lie in a patch panel, shaped outside both ends, as those of the target netns do.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from channover.hosts.host import Journal
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.ssh.connection import SshLink
from channover.measure.cpu_lock import cpu_lock
from channover.model.link import Link
from channover.model.topology import Node, Topology
from channover.targets.inventory.schema import HostEntry, load
from channover.targets.netns import NetnsTarget
from channover.targets.physical.lease_pool import LeasePool
from channover.targets.physical.target import PhysicalTarget
from tests.support.sshd import Server

ROOT = Path(__file__).parents[2]
QUIET = ("tso", "off", "gso", "off", "gro", "off", "tx", "off")
ACCESS = "50mbit"
RATE = "25mbit"
"""Of every cable: a switch is a program, and several share this machine with what sends (at 10 MPTCP settles late)."""
QUEUE = "50ms"
"""How long a frame may wait for a cable, as on those of netns: with 20 ms MPTCP lost so much that no rate settled."""
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


class Space:
    """A network namespace of a program that sleeps."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self.process.pid}/ns/net").readlink() == own:
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        return self.process.pid

    def run(self, *words: str) -> str:
        return run("nsenter", f"--net=/proc/{self.pid}/ns/net", *words)

    def quiet(self) -> None:
        """Have the kernel send nothing by itself: neither a panel nor a switch does on its ports."""
        for name in ("all", "default"):
            self.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Switch(Space):
    """A switch of others: ports as they were cabled, and what ``ovs-vsctl`` makes of them."""

    def __init__(self, folder: Path, mac: str) -> None:
        super().__init__()
        self.quiet()
        self.folder = folder
        folder.mkdir()
        run("ovsdb-tool", "create", f"{folder}/conf.db", SCHEMA)
        logs = ("-vsyslog:off", "-vfile:off", "-vconsole:off")
        enter = ("nsenter", f"--net=/proc/{self.pid}/ns/net")
        self.daemons = [
            subprocess.Popen(
                [
                    *enter,
                    "ovsdb-server",
                    f"{folder}/conf.db",
                    f"--remote=punix:{folder}/db.sock",
                    f"--unixctl={folder}/db.ctl",
                    *logs,
                ]
            )
        ]
        while not (folder / "db.sock").exists():
            time.sleep(0.005)
        self.daemons.append(
            subprocess.Popen(
                [
                    *enter,
                    "ovs-vswitchd",
                    f"unix:{folder}/db.sock",
                    "--disable-system",
                    f"--unixctl={folder}/ctl",
                    *logs,
                ],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "OVS_RUNDIR": str(folder)},
            )
        )
        self.configure(
            "init",
            "--",
            "add-br",
            "br",
            "--",
            "set",
            "Bridge",
            "br",
            "datapath_type=netdev",
            f'other-config:hwaddr="{mac}"',
        )

    def configure(self, *words: str) -> None:
        run("ovs-vsctl", f"--db=unix:{self.folder}/db.sock", "--timeout=15", *words)

    def show(self, *words: str) -> str:
        return run("ovs-appctl", "-t", f"{self.folder}/ctl", *words)

    def port(self, name: str, *settings: str) -> None:
        """Have a port stand alone; ``tag=10`` puts it into a VLAN."""
        self.configure("add-port", "br", name, *settings)

    def lag(self, name: str, ports: Sequence[str], *settings: str) -> None:
        """Make ports a LAG with active LACP, fast, unless ``settings`` say otherwise."""
        usual = (
            "lacp=active",
            "bond_mode=balance-tcp",
            "other_config:lacp-time=fast",
            "other_config:bond-rebalance-interval=0",
        )
        self.configure("add-bond", "br", name, *ports, *usual, *settings)

    def close(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.kill()
            daemon.wait()
        super().close()


class Rack:
    """Hosts and switches, and the cables between them."""

    def __init__(self, netns: NetnsTarget, folder: Path, stack: ExitStack) -> None:
        self._netns, self._folder, self._stack = netns, folder, stack
        self._panel = Space()
        self._panel.quiet()
        stack.callback(self._panel.close)
        self._cables = 0
        self.hosts: dict[str, NamespaceHost] = {}
        self.servers: dict[str, Server] = {}
        self.switches: dict[str, Switch] = {}
        self._pids: dict[str, int] = {}
        self.ports: dict[str, int] = {}
        """The panel's port number of each end, ``left.eth1``."""

    def host(self, name: str) -> None:
        lab = self._stack.enter_context(
            self._netns.lab(Topology(f"host {name}", (Node(name, ()),), ()), Link(), Journal())
        )
        host = lab.hosts[name]
        assert isinstance(host, NamespaceHost)
        (self._folder / name).mkdir()
        self.hosts[name], self.servers[name] = host, Server(host, self._folder / name)
        mark = f"{secrets.randbelow(10**8) + 10**8}"
        host.spawn("sleep", mark)
        while name not in self._pids:
            for entry in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if (entry / "cmdline").read_bytes() == f"sleep\0{mark}\0".encode():
                        self._pids[name] = int(entry.name)

    def switch(self, name: str, mac: str = "") -> Switch:
        made = Switch(self._folder / name, mac or f"02:53:57:00:00:{len(self.switches) + 1:02x}")
        self._stack.callback(made.close)
        self.switches[name], self._pids[name] = made, made.pid
        return made

    def router(self, name: str) -> Space:
        """Make a router of others: a namespace that forwards between its ports, once they have addresses."""
        made = Space()
        self._stack.callback(made.close)
        made.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self._pids[name] = made.pid
        return made

    def cable(self, one: str, other: str, rate: str = RATE) -> None:
        """Lay a cable between two ends, ``left.eth1`` and ``tor.p1``; a device is made of each."""
        enter = ("nsenter", f"--net=/proc/{self._panel.pid}/ns/net")
        numbers = []
        for end in (one, other):
            where, device = end.split(".", 1)
            self._cables += 1
            port = f"port{self._cables}"
            run(
                *enter,
                "ip",
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "name",
                device,
                "netns",
                str(self._pids[where]),
            )
            inside = ("nsenter", f"--net=/proc/{self._pids[where]}/ns/net")
            run(*inside, "ethtool", "-K", device, *QUIET)
            run(*enter, "ethtool", "-K", port, *QUIET)
            run(*enter, "ip", "link", "set", port, "up")
            if where in self.switches:
                run(*inside, "ip", "link", "set", device, "up")
            self.ports[end] = self._cables
            numbers.append(port)
        for near, far in (numbers, numbers[::-1]):
            run(*enter, "tc", "qdisc", "add", "dev", near, "ingress")
            words = (
                "protocol",
                "all",
                "u32",
                "match",
                "u32",
                "0",
                "0",
                "action",
                "mirred",
                "egress",
                "redirect",
                "dev",
                far,
            )
            run(*enter, "tc", "filter", "add", "dev", near, "parent", "ffff:", *words)
            self._shape(near, rate)

    def _shape(self, port: str, rate: str) -> None:
        words = (
            "stab",
            "overhead",
            "24",
            "linklayer",
            "ethernet",
            "tbf",
            "rate",
            rate,
            "burst",
            "16k",
            "latency",
            QUEUE,
        )
        self._panel.run("tc", "qdisc", "replace", "dev", port, "root", *words)

    def slow(self, end: str, rate: str) -> None:
        """Have what leaves a cable at an end come at another rate than the cable's."""
        self._shape(f"port{self.ports[end]}", rate)

    def pull(self, end: str, *, up: bool = False) -> None:
        self._panel.run("ip", "link", "set", f"port{self.ports[end]}", "up" if up else "down")


@contextmanager
def rack(netns: NetnsTarget, folder: Path) -> Iterator[Rack]:
    """Give an empty rack for the length of a block."""
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists() or shutil.which("ovs-vswitchd") is None:
        pytest.skip("a rack takes root, /dev/net/tun and Open vSwitch: apt-get install openvswitch-switch")
    with ExitStack() as stack:
        yield Rack(netns, folder, stack)


def two_hosts_and_a_switch(made: Rack, *, members: int = 2) -> Switch:
    """Cable ``left`` and ``right``, two NICs each, to a switch ``tor``: ports p1 and p2, p3 and p4."""
    tor = made.switch("tor")
    for number, name in enumerate(("left", "right")):
        made.host(name)
        for member in range(members):
            made.cable(f"{name}.eth{member + 1}", f"tor.p{number * members + member + 1}")
    return tor


def lags(tor: Switch) -> None:
    """Make each host's ports of that switch a LAG."""
    tor.lag("left", ["p1", "p2"])
    tor.lag("right", ["p3", "p4"])


def daemon(name: str, why_root: str) -> str:
    """Return where a daemon of a switch's is; skip a test that cannot have it here."""
    if os.getuid() != 0:
        pytest.skip(f"{why_root}: run the tests as root")
    if (found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")) is None:
        pytest.skip(f"there is no {name}: apt-get install {name}")
    return found


PORTS = ("p1", "p2", "p3", "p4")
"""The ports of one switch to which both hosts' NICs lead: two of the left one, two of the right one."""


def vlans(tor: Switch, tags: tuple[int, ...] = (10, 20, 10, 20)) -> None:
    """Put the hosts' first ports into one VLAN, and their second ones into another, or each port into the VLAN named."""
    for port, vlan in zip(PORTS, tags, strict=True):
        tor.port(port, f"tag={vlan}")


def one_domain(tor: Switch) -> None:
    """Have each port of that switch stand alone, all in one broadcast domain."""
    for port in PORTS:
        tor.port(port)


STACK = "02:53:57:00:00:99"


def a_stack(made: Rack, *, stacked: bool = True) -> None:
    """Cable ``left`` and ``right`` to two switches, ``one`` and ``two``, by a NIC each: by LACP one system, if ``stacked``."""
    for name in ("one", "two"):
        made.switch(name)
    for number, name in enumerate(("left", "right"), start=1):
        made.host(name)
        for device, switch in (("eth1", "one"), ("eth2", "two")):
            made.cable(f"{name}.{device}", f"{switch}.p{number}")
            own = (f'other_config:lacp-system-id="{STACK}"',) if stacked else ()
            empty = f"empty{number}"  # of one port Open vSwitch makes no LAG
            made.switches[switch].run("ip", "link", "add", empty, "type", "veth", "peer", "name", f"far{number}")
            made.switches[switch].lag(name, [f"p{number}", empty], *own)
            for interface, own_number in ((f"p{number}", device[-1]), (empty, f"9{device[-1]}")):
                words = (
                    f"other_config:lacp-aggregation-key={10 + number}",
                    f"other_config:lacp-port-id={own_number}",
                )
                made.switches[switch].configure("set", "Interface", interface, *words)


def inventory_of_a_stack(ports: Sequence[int] = (22, 22), folder: Path | None = None) -> str:
    """Return the inventory of that rack, as one would write it by hand."""
    head = inventory(ports, folder).partition("    switches:")[0]
    lines = ["    switches:"]
    lines += [
        f"      {name}: {{ports: [p1, p2], mlag: rack, lags: {{left: [p1], right: [p2]}}}}" for name in ("one", "two")
    ]
    lines += ["    cables:"]
    for host, port in (("left", "p1"), ("right", "p2")):
        lines += [
            f"      - {{ends: [{host}.{nic}, {switch}.{port}], rate: {RATE}}}"
            for nic, switch in (("a", "one"), ("b", "two"))
        ]
    return head + "\n".join(lines) + "\n"


def two_switches(made: Rack, *settings: str, hosts: int = 1) -> None:
    """Cable ``west`` and ``east`` by two cables, made a LAG with these settings, and ``left1``… and ``right1``… to each."""
    for name in ("west", "east"):
        made.switch(name)
    for trunk in ("t1", "t2"):
        made.cable(f"west.{trunk}", f"east.{trunk}")
    for side, switch in (("left", "west"), ("right", "east")):
        for number in range(1, hosts + 1):
            made.host(f"{side}{number}")
            made.cable(f"{side}{number}.eth1", f"{switch}.p{number}", ACCESS)
            made.switches[switch].port(f"p{number}")
        made.switches[switch].lag("core", ["t1", "t2"], *settings)


def target_of(made: Rack, text: str, folder: Path, say: Callable[[str], None] = lambda _: None) -> PhysicalTarget:
    """Return the target of a rack, as an inventory has it that somebody wrote."""
    (folder / "bench.yaml").write_text(text)

    def connect(name: str, host: HostEntry) -> SshLink:
        link = made.servers[name].link(sudo=host.sudo)
        link.host = name
        return link

    return PhysicalTarget(load(folder / "bench.yaml").labs["bench"], LeasePool(connect=connect), say=say)


def run_suites(inventory: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Write an inventory, and run suites on the hosts that it names, by a pytest of their own, with a turn to measure."""
    (folder / "rack.yaml").write_text(inventory)
    command = [sys.executable, "-m", "pytest", "--target=physical", f"--inventory={folder / 'rack.yaml'}", *words]
    with cpu_lock():
        return subprocess.run(
            [*command, f"--reports={folder / 'reports'}", "-p", "no:cacheprovider"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )


UPLINKS = {"a": ("198.51.100", "203.0.113"), "b": ("198.18.1", "198.18.2")}
"""The networks at the left and the right end of each routed path, without the last number."""


def two_routers(made: Rack) -> dict[str, Space]:
    """Join ``left`` and ``right`` by two routed paths: a router of its own on each, which is .1 in both of its networks."""
    for name in ("left", "right"):
        made.host(name)
    routers = {}
    for number, (label, networks) in enumerate(UPLINKS.items(), start=1):
        routers[label] = made.router(f"r{number}")
        for host, network in zip(("left", "right"), networks, strict=True):
            made.cable(f"{host}.eth{number}", f"r{number}.to_{host}")
            routers[label].run("ip", "address", "add", f"{network}.1/24", "dev", f"to_{host}")
            routers[label].run("ip", "link", "set", f"to_{host}", "up")
    return routers


def inventory_of_routed(ports: Sequence[int], folder: Path | None = None) -> str:
    """Return the inventory of that rack, as one would write it by hand."""
    lines = ["labs:", "  bench:", "    hosts:"]
    for number, (name, port) in enumerate(zip(("left", "right"), ports, strict=True), start=1):
        address = "127.0.0.1" if folder else f"192.0.2.{number}"
        keys = f", key: {folder}/{name}/client, known_hosts: {folder}/{name}/known_hosts" if folder else ""
        ssh = f"{{address: {address}, port: {port}{keys}}}"
        lines.append(f"      {name}: {{ssh: {ssh}, management: lo, nics: {{a: eth1, b: eth2}}}}")
    lines.append("    paths:")
    for label, (left, right) in UPLINKS.items():
        fields = {
            "ends": f"[left.{label}, right.{label}]",
            "addresses": f"[{left}.10/24, {right}.10/24]",
            "gateways": f"[{left}.1, {right}.1]",
            "rate": RATE,
        }
        lines.append(f"      - {{{', '.join(f'{field}: {value}' for field, value in fields.items())}}}")
    return "\n".join(lines) + "\n"


def inventory_of_two(ports: Mapping[str, int], folder: Path | None = None, more: Mapping[str, str] = {}) -> str:
    """Return the inventory of that rack, as one would write it by hand; ``ports`` are of the hosts' SSH servers.

    ``more`` are further fields of ``west`` and ``east``.
    """
    lines = ["labs:", "  bench:", "    hosts:"]
    for number, (name, port) in enumerate(ports.items(), start=1):
        keys = f", key: {folder}/{name}/client, known_hosts: {folder}/{name}/known_hosts" if folder else ""
        address = "127.0.0.1" if folder else f"192.0.2.{number}"
        lines.append(
            f"      {name}: {{ssh: {{address: {address}, port: {port}{keys}}}, management: lo, nics: {{a: eth1}}}}"
        )
    access = ", ".join(f"p{number}" for number in range(1, len(ports) // 2 + 1))
    lines += ["    switches:"]
    for name in ("west", "east"):
        lines.append(f"      {name}: {{ports: [t1, t2, {access}], lags: {{core: [t1, t2]}}{more.get(name, '')}}}")
    lines += ["    cables:"]
    lines += [f"      - {{ends: [west.{trunk}, east.{trunk}], rate: {RATE}}}" for trunk in ("t1", "t2")]
    for name in ports:
        switch = "west" if name.startswith("left") else "east"
        lines.append(f"      - {{ends: [{name}.a, {switch}.p{name[-1]}], rate: {ACCESS}}}")
    return "\n".join(lines) + "\n"


def inventory(
    ports: Sequence[int] = (22, 22), folder: Path | None = None, switch: str = "", more: Mapping[str, str] = {}
) -> str:
    """Return the inventory of that rack, as one would write it by hand; ``switch`` are the fields of ``tor``."""
    hosts: list[str] = []
    for name, port in zip(("left", "right"), ports, strict=True):
        keys = f", key: {folder}/{name}/client, known_hosts: {folder}/{name}/known_hosts" if folder else ""
        address = "127.0.0.1" if folder else f"192.0.2.{len(hosts) + 1}"
        ssh = f"{{address: {address}, port: {port}{keys}}}"
        hosts.append(f"      {name}: {{ssh: {ssh}, management: lo, nics: {{a: eth1, b: eth2}}}}")
    lines = ["labs:", "  bench:", "    hosts:", *hosts, "    switches:"]
    lines += [f"      tor: {{ports: [p1, p2, p3, p4]{', ' if switch else ''}{switch}}}"]
    lines += [f"      {name}: {{{fields}}}" for name, fields in more.items()]
    lines += ["    cables:"]
    for port, end in enumerate(("left.a", "left.b", "right.a", "right.b"), start=1):
        lines.append(f"      - {{ends: [{end}, tor.p{port}], rate: {RATE}}}")
    return "\n".join(lines) + "\n"
