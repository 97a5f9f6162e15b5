"""Hosts and cables of a lab under the names that its inventory gives them: what is looked at before anything is tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from channover.errors import ChannoverError, TestbedError
from channover.hosts.change_policy import ChangePolicy, Management
from channover.hosts.guardian import inquiry
from channover.hosts.guardian.facts import Facts
from channover.hosts.host import Host, Journal, until
from channover.hosts.lab import Lab
from channover.hosts.ssh.host import NOWHERE, RemoteHost
from channover.model.link import Link
from channover.model.topology import Cable, Node, Port, Topology
from channover.targets.inventory.schema import LabEntry
from channover.targets.inventory.wiring import Wiring
from channover.targets.physical import preflight
from channover.targets.physical.facing.prove import Outlook
from channover.targets.physical.lease_pool import each
from channover.targets.physical.placement import Fit, fit
from channover.targets.physical.target import CARRIER_TIMEOUT, PhysicalTarget


def used(entry: LabEntry, topologies: Iterable[Topology]) -> Topology:
    """Return the hosts, NICs and cables that those of the topologies are laid on that fit the lab."""
    nics: dict[str, dict[str, None]] = {}
    ends = set()
    for topology in topologies:
        found = fit(topology, entry)
        if isinstance(found, str):
            continue
        for host in found.nodes.values():
            nics.setdefault(host, {})
        for port in found.nics.values():
            nics[port.node][port.nic] = None
        ends |= {frozenset((found.nics[cable.a], found.nics[cable.b])) for cable in found.seen(topology).cables}
    return _part(entry, nics, lambda a, b: frozenset((a, b)) in ends)


def whole(entry: LabEntry, hosts: Iterable[str]) -> Topology:
    """Return hosts with all of their NICs, and every cable between them."""
    nics = {name: entry.hosts[name].nics for name in hosts}
    return _part(entry, nics, lambda a, b: a.node in nics and b.node in nics)


def fitting(entry: LabEntry, part: Topology, topologies: Iterable[Topology]) -> list[Topology]:
    """Return the topologies that a part of the lab is enough for."""
    cables = {cable.ports for cable in part.cables}
    reached = {*(node.name for node in part.nodes), *entry.switches}
    switched = {cable for cable in entry.cables if any(port.node in entry.switches for port in cable.ports)}
    changes = {
        "hosts": {node.name: entry.hosts[node.name] for node in part.nodes},
        "cables": tuple(
            cable
            for cable in entry.cables
            if cable.ports in cables or (cable in switched and {port.node for port in cable.ports} <= reached)
        ),
    }
    some = entry.model_copy(update=changes)
    return [topology for topology in topologies if isinstance(fit(topology, some), Fit)]


def _part(entry: LabEntry, nics: Mapping[str, Iterable[str]], wanted: Callable[[Port, Port], bool]) -> Topology:
    nodes = tuple(Node(name, tuple(labels), entry.hosts[name].role) for name, labels in nics.items())
    return Topology(f"lab {entry.name}", nodes, tuple(Cable(*one.ports) for one in entry.cables if wanted(*one.ports)))


@contextmanager
def opened(target: PhysicalTarget, part: Topology) -> Iterator[Lab]:
    """Take the hosts of a part of the lab, and make its NICs bare and up; no carrier is waited for.

    Raises TestbedError, Taken.
    """
    target.take(node.name for node in part.nodes)
    loose = replace(target, entry=target.entry.model_copy(update={"cables": ()}))
    with loose.lab(Topology(part.name, part.nodes, ()), Link(), Journal()) as lab:
        yield lab


def miswired(target: PhysicalTarget, lab: Lab, part: Topology) -> list[str]:
    """Send frames over each cable that was not proved yet, and say of which they do not come as the inventory states."""
    words = []
    laid: dict[Cable, tuple[Port, Port]] = {}
    deadline = time.monotonic() + CARRIER_TIMEOUT
    for number, cable in enumerate(part.cables if target.prove else ()):
        if target.is_proven(*cable.ports):
            continue
        try:
            _carried(lab, cable, deadline)
            if remark := preflight.prove(lab, cable, number, *_stated(target.entry, cable)):
                target.say(remark)
        except TestbedError as error:
            words.append(str(error))
        else:
            laid[cable] = cable.ports
    said = target.measure(lab, laid)
    words += said
    for cable in laid:
        if not any(f"{cable} " in one or f"{cable}:" in one for one in said):
            target.proven |= {(cable.a, cable.b), (cable.b, cable.a)}
            if cable.ports in target.measured:
                target.measured |= {(cable.b, cable.a)}
    words += _ports(target, lab, deadline) if target.prove else []
    return list(dict.fromkeys(words))


def _stated(entry: LabEntry, cable: Cable) -> tuple[int | None, int]:
    return preflight.rate_of(entry, cable.a), preflight.mtu_of(entry, cable.a)


def _ports(target: PhysicalTarget, lab: Lab, deadline: float) -> list[str]:
    """Say of NICs that face switches what is not as the inventory states."""
    nics = []
    for port in Wiring(target.entry).facing:
        if port.node in lab.hosts and port.nic in lab.hosts[port.node].nics:
            nics.append(Outlook(port, lab.hosts[port.node], lab.hosts[port.node].nic(port.nic)))

    def carriers() -> bool:
        return all(one.host.state().links[one.nic.device].carrier for one in nics)

    with suppress(TestbedError):  # which of them has none is said by the look at each
        until(carriers, "carriers", max(0.0, deadline - time.monotonic()), 0.2)
    try:
        return target.look_at_ports(nics)
    except TestbedError as error:
        return [str(error)]


def _carried(lab: Lab, cable: Cable, deadline: float) -> None:
    """Wait for the carrier of both ends. Raises TestbedError."""
    for port in cable.ports:
        host = lab.hosts[port.node]
        device = host.nic(port.nic).device

        def carrier(host: Host = host, device: str = device) -> bool:
            return host.state().links[device].carrier

        try:
            until(carrier, "a carrier", max(0.0, deadline - time.monotonic()), 0.2)
        except TestbedError:
            raise TestbedError(
                f"{port} ({device}) has no carrier: plug in its cable at both ends, or correct 'cables' in the inventory"
            ) from None


@dataclass
class Sight:
    """One host as it was found. ``fatal`` and ``remarks`` are what speaks against it, each one line with its remedy."""

    facts: Facts | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    fatal: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def sights(target: PhysicalTarget, tools: Callable[[Host], Mapping[str, str]]) -> dict[str, Sight]:
    """Look at each host of the lab, and take those that nothing speaks against; one that fails hides no other."""
    found = {name: Sight() for name in target.entry.hosts}

    def look(name: str) -> None:
        sight = found[name]
        try:
            findings = target.findings({name: target.entry.hosts[name]})
            sight.fatal += [str(finding) for finding in findings if finding.fatal]
            sight.remarks += [str(finding) for finding in findings if not finding.fatal]
            host_lease = target.leases.at(name, target.entry.hosts[name])
            sight.facts = host_lease.facts
            nothing = ChangePolicy(name, frozenset(), frozenset(), Management(""))
            sight.tools = tools(RemoteHost(name, {}, host_lease.link, "", NOWHERE, nothing, Journal()))
            if not sight.fatal:
                target.take((name,))
        except (ChannoverError, OSError) as error:
            sight.fatal.append(" ".join(str(error).split()))

    each(found, look)
    return found


def renewed(lab: Lab, sight: Mapping[str, Sight]) -> None:
    """Read again what the hosts say of their NICs: speed and carrier are known only of one that is up."""
    for name, host in lab.hosts.items():
        with suppress(TestbedError, ValueError):
            asked = time.time()
            said = host.run("sh", "-c", inquiry.SCRIPT, "facts", "", quiet=True).stdout
            sight[name].facts = inquiry.parse(said, asked, time.time(), "")
