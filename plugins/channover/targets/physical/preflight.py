"""What speaks against using a host, or its cables, before anything of the kind is done. Every finding has its remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from channover.errors import TestbedError
from channover.hosts.guardian.facts import Facts, NicFacts, speed_of
from channover.hosts.host import Host, Nic
from channover.hosts.lab import Lab
from channover.hosts.ssh.shell import PACKAGES
from channover.model.drivers import VIRTUAL
from channover.model.link import ICMP_HEADER, IPV4_HEADER, USUAL_MTU
from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.plan import Plan
from channover.model.topology import Cable, Port
from channover.network import bonding, lag
from channover.network.addressing import FIRST_TABLE
from channover.observe.nics import nic_counters
from channover.observe.proof.prove import prove as prove_cables
from channover.targets.capabilities import CAPABILITIES
from channover.targets.inventory.schema import HostEntry, LabEntry

TAKEN_NAMES = {lag.DEVICE, bonding.BRIDGE}
"""Devices that tests make."""
CLOCK_TOLERANCE = 2.0
"""Seconds that a host's clock may be off before its timeline misleads."""
BASH = (5, 0)
"""The oldest bash that the sampler and the guardian run on."""

PORTS = ("", "bridge", "bond", "vrf")
"""Kinds of masters that a NIC can be taken from and given back to."""
EXCLUSIVE = ("macvlan", "macvtap", "ipvlan", "ipvtap", "macsec")
"""Kinds of devices that take all that a NIC receives, as a LAG and a bridge do: a NIC is for one of them
(``netdev_rx_handler_register`` in ``net/core/dev.c``)."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be; ``fatal``: nothing can be tried before it is mended."""

    host: str
    what: str
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.host}: {self.what}: {self.remedy}"


def of_host(name: str, host: HostEntry, lab: LabEntry, facts: Facts) -> Iterator[Finding]:
    """Yield what speaks against a host."""
    if facts.uid != 0:
        yield Finding(name, f"commands run as user {facts.uid}", "log in as root, or set sudo: true in the inventory")
    if facts.bash < BASH:
        found = ".".join(map(str, facts.bash)) if facts.bash > (0, 0) else "none"
        yield Finding(name, f"bash is {found}", "install bash 5.0 or newer")
    if facts.lacks:
        packages = " ".join(sorted({PACKAGES.get(program, program) for program in facts.lacks}))
        what = f"{', '.join(facts.lacks)} there is missing, or knows too little (BusyBox's does)"
        yield Finding(name, what, f"install {packages}")
    yield from _way(name, host, facts)
    for label, device in host.nics.items():
        found_nic = facts.device(device)
        if found_nic is None:
            names = ", ".join(one for one, nic in facts.devices.items() if nic.physical) or "none"
            yield Finding(
                name, f"there is no NIC {device} (nics.{label})", f"name one of its NICs ({names}) or a MAC address"
            )
        else:
            yield from _nic(name, label, found_nic, rate_of(lab, Port(name, label)))
            yield from _vlan(name, label, found_nic, host, lab, facts)
            yield from _use(name, f"{found_nic.device} (nics.{label})", found_nic, facts)
    if abs(facts.clock) > CLOCK_TOLERANCE:
        yield Finding(
            name, f"the clock is off by {facts.clock:+.1f} s", "let chrony or systemd-timesyncd set it", fatal=False
        )


def _use(name: str, what: str, nic: NicFacts, facts: Facts) -> Iterator[Finding]:
    """Yield what somebody uses a NIC for that could not be given back, or that a run takes for its length."""
    if nic.port not in PORTS:
        own = f"'ovs-vsctl del-port {nic.device}'" if nic.port == "openvswitch" else f"take it out of {nic.master}"
        yield Finding(
            name, f"{what} is a port of {nic.master} ({nic.port}), which could not have it back as it was", own
        )
    elif nic.port == "bridge" and (nic.static or (nic.master in facts.devices and facts.devices[nic.master].filtering)):
        kept = "forwarding entries" if nic.static else "VLANs"
        remedy = f"take it out before a run: 'ip link set {nic.device} nomaster'"
        yield Finding(name, f"{what} is a port of the bridge {nic.master}, whose {kept} would be lost", remedy)
    for device in facts.above(nic.device):
        kind = facts.devices[device].kind or "device"
        if kind in EXCLUSIVE:
            words = f"{device} ({kind}) is stacked on {what}, and no LAG or bridge could have the NIC"
            yield Finding(name, words, f"delete it, or give it another NIC: 'ip link delete {device}'")
        else:
            words = f"{device} ({kind}) is stacked on {what}, and is without it while a run lasts"
            yield Finding(name, words, "give it another NIC where it is needed meanwhile", fatal=False)
    if nic.xdp:
        words = f"an XDP program on {what} sees the lab's frames first, and may drop them"
        yield Finding(name, words, f"unload it: 'ip link set {nic.device} xdp off'", fatal=False)


def _way(name: str, host: HostEntry, facts: Facts) -> Iterator[Finding]:
    own = host.management
    if own not in facts.devices:
        yield Finding(
            name, f"there is no interface {own} (management)", "name the interface that carries the SSH connection"
        )
        return
    seen = facts.management.device if facts.management else own
    lower_devices = facts.beneath({own, seen} - {"lo"})
    for label, device in host.nics.items():
        found = facts.device(device)
        if found is not None and found.device in lower_devices:
            yield Finding(
                name, f"the SSH connection goes through {found.device} (nics.{label})", "a test NIC must not carry it"
            )
    for device in sorted(TAKEN_NAMES & facts.devices.keys()):
        what = f"it has a device {device} of its own, and the lab's LAGs or bridges would have that name"
        yield Finding(name, what, f"rename it: 'ip link set {device} name ...'", fatal=False)
    for number in sorted(facts.tables & {FIRST_TABLE + position for position in range(len(host.nics))}):
        what = f"its routing table {number} is in use, and the lab would use that number"
        yield Finding(name, what, "give its own routes another table", fatal=False)
    if facts.endpoints:
        numbers = ", ".join(map(str, facts.endpoints))
        what = f"it has MPTCP endpoints of its own (id {numbers}), and the lab's would meet their numbers and paths"
        yield Finding(name, what, "take them away while a run lasts: 'ip mptcp endpoint flush'", fatal=False)
    if seen not in (own, "lo"):
        remedy = "correct 'management', unless this is meant: both are left alone"
        yield Finding(name, f"the SSH connection goes through {seen}, not {own}", remedy, fatal=False)


def rate_of(lab: LabEntry, port: Port) -> int | None:
    """Return the rate (bit/s) of the cable at a port; None where it has none."""
    return next((one.rate for one in lab.cables_and_paths if port in one.ports), None)


def mtu_of(lab: LabEntry, port: Port) -> int:
    """Return the MTU (bytes) of the cable at a port."""
    return next((one.mtu for one in lab.cables_and_paths if port in one.ports), USUAL_MTU)


def _nic(name: str, label: str, nic: NicFacts, rate: int | None) -> Iterator[Finding]:
    what = f"{nic.device} (nics.{label})"
    if nic.carrier and nic.driver not in VIRTUAL:
        yield from _link(name, what, nic.speed, nic.duplex, rate)
    if nic.up and not nic.carrier and rate is not None:
        yield Finding(name, f"{what} has no carrier", "plug its cable in at both ends", fatal=False)
    if nic.manager:
        remedies = {
            "NetworkManager": f"nmcli device set {nic.device} managed no",
            "systemd-networkd": f"mark it Unmanaged=yes in a .network file for {nic.device}",
            "ifupdown": f"take {nic.device} out of /etc/network/interfaces, or leave it alone while a run lasts",
        }
        yield Finding(name, f"{nic.manager} also configures {what}", remedies[nic.manager], fatal=False)


def _vlan(name: str, label: str, nic: NicFacts, host: HostEntry, lab: LabEntry, facts: Facts) -> Iterator[Finding]:
    """Yield what speaks against the device of a VLAN as a test NIC: what is below it is one link, and others may use it."""
    below = facts.devices.get(nic.below)
    if nic.kind != "vlan" or below is None:
        return
    what = f"{nic.device} (nics.{label}) is a VLAN of {below.device}"
    beneath = facts.beneath({nic.device}) - {nic.device}
    way = facts.beneath({host.management, facts.management.device if facts.management else ""} - {"", "lo"})
    if beneath & way:
        words = f"{what}, which carries the SSH connection: a test would fill that link"
        yield Finding(name, words, "name a VLAN of another NIC")
    for other, device in host.nics.items():
        found = facts.device(device)
        if other != label and found is not None and beneath & facts.beneath({found.device}):
            words = f"{what}, and so is nics.{other} on that link"
            yield Finding(name, words, "a test NIC needs a link of its own: name one of the two")
            break
    if not below.up:
        yield Finding(name, f"{what}, which is down", f"set it up: 'ip link set {below.device} up'")
    if below.mtu < (mtu := mtu_of(lab, Port(name, label))):
        words = f"{what}, whose MTU of {below.mtu} bytes is less than its cable's of {mtu}"
        yield Finding(name, words, f"'ip link set {below.device} mtu {mtu}', or correct 'mtu' in the inventory")


def _link(name: str, what: str, speed: int | None, duplex: str, rate: int | None) -> Iterator[Finding]:
    if rate is not None and speed is not None and speed != rate:
        yield Finding(
            name,
            f"{what} runs at {speed / 1e6:g} Mbit/s, and its cable's rate is {rate / 1e6:g} Mbit/s",
            "correct the cable's rate in the inventory, or set the speed (ethtool -s)",
        )
    if duplex == "half":
        yield Finding(name, f"{what} runs at half duplex", "let both ends negotiate, or set the same duplex on both")


def negotiated(host: Host, label: str, rate: int | None) -> None:
    """See that a NIC which is up runs at its cable's rate (bit/s), in full duplex. Raises TestbedError.

    A NIC that was down has no speed before: sysfs tells it only of a running one.
    """
    nic = host.nic(label)
    if nic.driver in VIRTUAL or not nic.driver:  # one that is on no bus has no driver
        return
    read = 'cd "/sys/class/net/$1" && for n in speed duplex; do cat $n 2>/dev/null || echo; done; echo'
    said = host.run("sh", "-c", read, "sh", nic.device, check=False, quiet=True).stdout
    speed, duplex, *_ = f"{said}\n\n".split("\n")
    fatal(list(_link(host.name, f"{nic.device} ({label})", speed_of(speed), duplex, rate)))


def fatal(findings: list[Finding]) -> None:
    """Raise TestbedError where something must be mended first."""
    bad = [finding for finding in findings if finding.fatal]
    if bad:
        more = f" (and {len(bad) - 1} more: 'channover doctor --target physical' lists them)" if len(bad) > 1 else ""
        raise TestbedError(f"{bad[0]}{more}")


def answered(host: Host, device: str, address: str, *options: str) -> bool:
    """Send pings by a device; whether one was answered. Raises TestbedError where none could be sent."""
    words = ("ping", "-n", "-c", "4", "-i", "0.2", "-W", "2", *options, "-I", device, address)
    ping = host.run(*words, check=False, quiet=True)
    if ping.returncode not in (0, 1):  # of ping(8) itself: it could not be tried
        raise TestbedError(f"{host.name}: ping cannot be used: {(ping.stderr or ping.stdout).strip()[-200:]}")
    return ping.returncode == 0


def prove(lab: Lab, cable: Cable, number: int, rate: int | None = None, mtu: int = USUAL_MTU) -> str | None:
    """See that both ends of a cable run at its rate (bit/s), and that frames come from the NIC that the inventory names.

    Both ends have an address of a network of their own meanwhile (RFC 3927 keeps it off other networks), and the ``mtu``
    (bytes), of which a packet has to cross that must not be fragmented. ARP alone proves the cable (RFC 826): what is returned
    then says that pings are not answered; None where they are. Raises TestbedError.
    """
    for port in cable.ports:
        if gap := CAPABILITIES["ping"].unmet(lab.hosts[port.node]):
            raise TestbedError(f"the cabling cannot be proved: {gap}")
    for port in cable.ports:
        negotiated(lab.hosts[port.node], port.nic, rate)
    network = f"169.254.{7 + number % 240}"
    (host, nic), (other, peer) = ((lab.hosts[port.node], lab.hosts[port.node].nic(port.nic)) for port in cable.ports)
    with (
        host.applied(_proving(nic.device, f"{network}.1/30", mtu)),
        other.applied(_proving(peer.device, f"{network}.2/30", mtu)),
    ):
        there = _Way(lab, host, nic, other, peer, f"{network}.2", mtu)
        back = _Way(lab, other, peer, host, nic, f"{network}.1", mtu)
        remarks = [there.proved(), back.proved()]
        return remarks[1] or remarks[0]


def _proving(device: str, address: str, mtu: int) -> Plan:
    return Plan("prove the cabling", (LinkSet(device, mtu=mtu), AddressAdd(device, address)))


@dataclass(frozen=True)
class Measured:
    """What was found of cables that frames were sent over: ``findings`` speak against them, ``remarks`` do not."""

    cables: list[Cable]
    findings: list[str]
    remarks: list[str]


def measured(lab: Lab, rates: Mapping[Cable, float], mtu: int = USUAL_MTU) -> Measured:
    """Send over cables, by rate (bit/s), frames that fill an ``mtu`` (bytes), and return what they do and should not.

    A cable of a host without Python is left out, and so is one with something between its ends that keeps the proof's frames
    from crossing: they are addressed to the nearest bridge. Raises TestbedError.
    """
    remarks = []
    able = {name for name, host in lab.hosts.items() if has_python(host)}
    for name in sorted({port.node for cable in rates for port in cable.ports} - able):
        remarks.append(f"{name}: what its cables carry is not proved, since it has no python3: install it")
    cables = [cable for cable in rates if {port.node for port in cable.ports} <= able]
    with ExitStack() as stack:
        for port in (port for cable in cables for port in cable.ports):
            host = lab.hosts[port.node]
            stack.enter_context(host.applied(_sized(host.nic(port.nic).device, mtu)))
        found = prove_cables(replace(lab, link=replace(lab.link, mtu=mtu)), cables, rates)
    ways = [finding.cable for finding in found if finding.kind == "unheard"]
    between = {cable for cable in ways if ways.count(cable) == len(cable.ports)}
    remarks += [
        f"something lies between the ends of the cable {cable}, which frames to the nearest bridge do not pass: what it "
        "carries is not proved"
        for cable in between
    ]
    remarks += [str(finding) for finding in found if finding.kind == "machine"]
    bad = [finding for finding in found if finding.kind != "machine" and finding.cable not in between]
    spoiled = between | {finding.cable for finding in found}
    return Measured([cable for cable in cables if cable not in spoiled], list(map(str, bad)), remarks)


def _sized(device: str, mtu: int) -> Plan:
    return Plan("prove what cables carry", (LinkSet(device, mtu=mtu),))


def has_python(host: Host) -> bool:
    """Say whether a host can run the programs that prove cables and ports."""
    return host.run("sh", "-c", "command -v python3", check=False, quiet=True).returncode == 0


@dataclass(frozen=True)
class _Way:
    """From a host's NIC to another's, which has an address meanwhile."""

    lab: Lab
    host: Host
    nic: Nic
    other: Host
    peer: Nic
    address: str
    mtu: int

    def proved(self) -> str | None:
        """Return that pings are not answered, or nothing. Raises TestbedError where frames do not arrive where they should."""
        if self._answered("-M", "do", "-s", str(self.mtu - IPV4_HEADER - ICMP_HEADER)):
            return None
        if self._answered():
            raise TestbedError(
                f"packets of {self.mtu} bytes that must not be fragmented do not cross from {self.host.name}'s NIC "
                f"{self.nic.name} ({self.nic.device}) to {self.other.name}'s, and small ones do: set that MTU at whatever lies "
                "between them, or correct the cable's 'mtu' in the inventory"
            )
        if self._resolved():
            return (
                f"{self.other.name} answers ARP on its NIC {self.peer.name} ({self.peer.device}), and no ping: where a "
                "firewall drops it, let all of the lab's networks through on test NICs"
            )
        before = _received(self.lab)
        self._answered()
        seen = _grown(before, _received(self.lab), Port(self.host.name, self.nic.name))
        where = f"they were seen at {seen}" if seen else "no NIC of the lab saw them"
        raise TestbedError(
            f"frames from {self.host.name}'s NIC {self.nic.name} ({self.nic.device}) do not reach {self.other.name}'s NIC "
            f"{self.peer.name} ({self.peer.device}) as the inventory says: {where}; correct the cabling, or 'cables' in the "
            "inventory"
        )

    def _answered(self, *options: str) -> bool:
        """Send pings; whether one was answered, by the NIC that should. Raises TestbedError where none could be sent."""
        return answered(self.host, self.nic.device, self.address, *options) and self._resolved()

    def _resolved(self) -> bool:
        """Whether the address was found at the NIC that should have it."""
        found = _neighbours(self.host, self.nic.device).get(self.address, "")
        return found.lower() == self.peer.mac.lower()


def _neighbours(host: Host, device: str) -> dict[str, str]:
    found = json.loads(host.run("ip", "-j", "neigh", "show", "dev", device, quiet=True).stdout or "[]")
    return {entry["dst"]: entry.get("lladdr", "") for entry in found}


def _received(lab: Lab) -> Mapping[Port, int]:
    found = {}
    for name, host in lab.hosts.items():
        counters = nic_counters(host)
        for label, nic in host.nics.items():
            if nic.device in counters:
                found[Port(name, label)] = counters[nic.device].rx_packets
    return found


def _grown(before: Mapping[Port, int], after: Mapping[Port, int], sender: Port) -> str:
    grown = {port: after[port] - before.get(port, 0) for port in after if port != sender}
    best = max(grown, key=lambda port: grown[port], default=None)
    return str(best) if best is not None and grown[best] >= 3 else ""
