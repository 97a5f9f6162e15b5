"""What a host must be able to do for a behaviour to be tried on it: found out by trying, never by version.

The catalogue of behaviours names what each needs; here stands how to find out, on any host, and the remedy.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from channover.errors import ChannoverError, TestbedError, UsageError
from channover.hosts.host import Host
from channover.model.catalogue import CATALOGUE, Behaviour
from channover.model.operations.devices import LinkAdd
from channover.model.operations.kernel import TableAdd
from channover.model.operations.operation import Operation
from channover.model.operations.routing import RuleAdd
from channover.model.plan import Plan
from channover.model.registry import Register
from channover.network import openvpn
from channover.network.drivers import DRIVERS
from channover.network.lag import LagDriver

Trial = Callable[[Host], "str | None"]


@dataclass(frozen=True)
class Capability:
    """Programs (with the Debian package of each) and a trial that returns what is missing, with its remedy.

    A trial takes a host that is up, changes nothing that it does not put back, and returns None where nothing is missing.
    """

    title: str
    programs: Mapping[str, str]
    trial: Trial | None = None

    def unmet(self, host: Host) -> str | None:
        """Say what the host lacks, and how to get it; None where it lacks nothing."""
        if self.programs:
            loop = 'for p in "$@"; do command -v "$p" >/dev/null || echo "$p"; done'
            missing = host.run("sh", "-c", loop, "sh", *self.programs, quiet=True).stdout.split()
            if missing:
                packages = " ".join(sorted({self.programs[program] for program in missing}))
                return f"{host.name} has no {', '.join(missing)}: apt-get install {packages}"
        return self._tried(host) if self.trial else None

    def _tried(self, host: Host) -> str | None:
        assert self.trial is not None
        try:
            found = self.trial(host)
        except (ChannoverError, OSError):
            raise
        except Exception as error:  # a stranger's trial: what is wrong with it is no reason for a traceback
            return f"{host.name}: the trial of '{self.title}' raised {type(error).__name__}: {error}"
        if found is not None and not isinstance(found, str):
            return f"{host.name}: the trial of '{self.title}' returned {found!r}, and not what is missing, or None"
        return found


def _accepts(host: Host, operation: Operation, remedy: str) -> str | None:
    try:
        with host.applied(Plan("find out what the kernel can do", (operation,))):
            return None
    except TestbedError as error:
        return f"{error}: {remedy}"


def _mptcp(host: Host) -> str | None:
    try:
        host.read("/proc/sys/net/mptcp/enabled")
    except TestbedError:
        return f"{host.name}'s kernel has no MPTCP: boot one built with CONFIG_MPTCP (Linux 5.6 or later)"
    return None


def _ipv6(host: Host) -> str | None:
    try:
        off = host.read("/proc/sys/net/ipv6/conf/all/disable_ipv6").strip() != "0"
    except TestbedError:
        return f"{host.name}'s kernel has no IPv6: boot one built with CONFIG_IPV6, and without ipv6.disable=1"
    return f"{host.name} has IPv6 switched off: sysctl net.ipv6.conf.all.disable_ipv6=0" if off else None


def _tun(host: Host) -> str | None:
    found = host.run("ip", "tuntap", "add", "dev", "chanprobe", "mode", "tun", check=False, quiet=True)
    if found.returncode == 0:
        host.run("ip", "tuntap", "delete", "dev", "chanprobe", "mode", "tun", quiet=True)
        return None
    words = " ".join(found.stderr.split())
    if "No such file" in words:
        return f"{host.name} has no /dev/net/tun: modprobe tun; in a container, docker run --device /dev/net/tun"
    return (
        f"{host.name} cannot make a tun device ({words}): load the module tun, and run as root "
        "or make /dev/net/tun readable and writable (chmod 0666 /dev/net/tun)"
    )


def _mptcp_iperf3(host: Host) -> str | None:
    found = host.run(
        "sh", "-c", "iperf3 --help 2>&1 | grep -q -- --mptcp || command -v mptcpize", check=False, quiet=True
    )
    if found.returncode == 0:
        return None
    return f"{host.name}'s iperf3 is older than 3.19 and there is no mptcpize: apt-get install mptcpize"


def _sshd(host: Host) -> str | None:
    try:
        denied = host.read("/proc/self/setgroups").strip() == "deny"
    except TestbedError:
        denied = False
    if not denied:
        return None
    return (
        f"{host.name}: sshd must change groups, which a user namespace with one id forbids: run as root, or install "
        "uidmap and give the user subordinate ids (usermod --add-subuids 100000-165535 --add-subgids 100000-165535)"
    )


def bonding(host: Host) -> str | None:
    """Say why kernel bonding cannot be had on a host, if it cannot."""
    return _accepts(
        host,
        LinkAdd("chanprobe", "bond", (("mode", "802.3ad"),)),
        "the kernel has no bonding driver (CONFIG_BONDING): modprobe bonding, or --lag-driver openvswitch",
    )


OPENVSWITCH = Capability(
    "Open vSwitch, userspace datapath",
    {"ovs-vswitchd": "openvswitch-switch", "ovsdb-server": "openvswitch-switch", "ovs-vsctl": "openvswitch-switch"},
    _tun,
)


def lag_driver(host: Host, wish: str) -> tuple[str | None, str | None]:
    """Return the LAG driver to use on a host, or None and what is missing. ``auto`` is one that channover has."""
    own: Mapping[str, Trial] = {"bonding": bonding, "openvswitch": OPENVSWITCH.unmet}
    reasons = []
    for name in own if wish == "auto" else (wish,):
        reason = own[name](host) if name in own else _driver_unmet(host, DRIVERS[name])
        if reason is None:
            return name, None
        reasons.append(reason)
    return None, "; ".join(reasons)


def _driver_unmet(host: Host, driver: LagDriver) -> str | None:
    """Say which of the programs that a driver needs a host lacks."""
    loop = 'for p in "$@"; do command -v "$p" >/dev/null || echo "$p"; done'
    missing = host.run("sh", "-c", loop, "sh", *driver.needs, quiet=True).stdout.split() if driver.needs else []
    return f"{host.name} has no {', '.join(missing)}, which the LAG driver {driver.name} needs" if missing else None


def likely_lag_driver(host: Host) -> str | None:
    """Return the LAG driver that ``auto`` leads to on a host, as far as that shows without changing anything there."""
    look = (
        "[ -e /sys/module/bonding ] || modprobe -n -q rtnl-link-bond && echo bonding; command -v ovs-vswitchd >/dev/null && "
        "command -v ovsdb-server >/dev/null && command -v ovs-vsctl >/dev/null && [ -c /dev/net/tun ] && echo openvswitch"
    )
    found = host.run("sh", "-c", look, check=False, quiet=True).stdout.split()
    return found[0] if found else None


LAG = "lag"
"""What a behaviour needs that needs LAGs. It is no capability: which driver makes them depends on what was asked for."""
CAPABILITIES: Register[Capability] = Register(
    "capability",
    {
        "iperf3": Capability("traffic", {"iperf3": "iperf3", "bash": "bash"}),
        "mptcp": Capability("Multipath TCP", {"ip": "iproute2", "ss": "iproute2"}, _mptcp),
        "mptcpize": Capability("MPTCP for unchanged applications", {"mptcpize": "mptcpize"}),
        "mptcp-iperf3": Capability("iperf3 over MPTCP", {"iperf3": "iperf3"}, _mptcp_iperf3),
        "ipv6": Capability("IPv6", {"ip": "iproute2"}, _ipv6),
        "policy-routing": Capability(
            "policy routing",
            {"ip": "iproute2"},
            lambda host: _accepts(
                host, RuleAdd("192.0.2.1", 101, 30_000), "boot a kernel built with CONFIG_IP_MULTIPLE_TABLES"
            ),
        ),
        "tun": Capability("tun devices", {"ip": "iproute2"}, _tun),
        "openssh": Capability(
            "OpenSSH server and client",
            {
                "sshd": "openssh-server",
                "ssh": "openssh-client",
                "sftp": "openssh-client",
                "ssh-keygen": "openssh-client",
            },
            _sshd,
        ),
        "openvpn": Capability("OpenVPN without TLS", {"openvpn": "openvpn"}, openvpn.unmet),
        "python": Capability("numbered traffic", {"python3": "python3", "bash": "bash"}),
        "ping": Capability("ICMP echo", {"ping": "iputils-ping"}),
        "nftables": Capability(
            "nftables",
            {"nft": "nftables"},
            lambda host: _accepts(host, TableAdd("chanprobe", ""), "boot a kernel built with CONFIG_NF_TABLES"),
        ),
        "tcpdump": Capability("captures", {"tcpdump": "tcpdump"}),
        "http": Capability("HTTP server and client", {"nginx": "nginx-light", "curl": "curl"}),
        "ftp": Capability("FTP server and client", {"vsftpd": "vsftpd", "curl": "curl"}),
        "ffmpeg": Capability("made-up pictures as a stream", {"ffmpeg": "ffmpeg"}),
        "sip": Capability("SIP calls", {"sipp": "sip-tester"}),
        "tls": Capability("TLS before other programs", {"stunnel": "stunnel4", "openssl": "openssl"}),
    },
)
"""All but ``lag``, which depends on the driver that is asked for: see :func:`lag_driver`."""


def add(name: str, capability: Capability) -> None:
    """Add a capability of another package. Raises UsageError where it cannot be one."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise UsageError(f"capability '{name}': the name is lower-case letters, digits and hyphens, as in jumbo-frames")
    if name == LAG:
        raise UsageError(f"capability '{LAG}': what makes LAGs is a driver; add it to the drivers")
    if not isinstance(capability, Capability):
        raise UsageError(f"capability '{name}': {capability!r} is none; write Capability(title, programs, trial)")
    if not isinstance(capability.title, str) or not capability.title.strip():
        raise UsageError(f"capability '{name}': title must be a text that is not empty, not {capability.title!r}")
    programs = capability.programs
    if not isinstance(programs, Mapping) or not all(isinstance(one, str) for pair in programs.items() for one in pair):
        raise UsageError(f"capability '{name}': programs must map a program to its Debian package, not {programs!r}")
    if capability.trial is not None and not callable(capability.trial):
        raise UsageError(f"capability '{name}': trial must take a host and return what is missing, or None")
    CAPABILITIES.add(name, capability)


def unknown_needs(behaviour: Behaviour) -> str | None:
    """Say what a behaviour needs that nobody knows how to find out, naming near ones; None where all is known."""
    for need in behaviour.needs:
        if need != LAG and need not in CAPABILITIES:
            near = difflib.get_close_matches(need, [*CAPABILITIES, LAG], n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join([*CAPABILITIES, LAG])}"
            return f"{behaviour.id} ({CATALOGUE.origin(behaviour.id)}) needs '{need}', which is no capability: {hint}"
    return None
