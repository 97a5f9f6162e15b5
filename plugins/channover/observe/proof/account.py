"""The frames that a test sent anyway, counted at both ends of each cable: what went in by one end and did not come out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from channover.hosts.host import each
from channover.hosts.lab import Lab
from channover.hosts.prober import dropped
from channover.model.topology import Cable, Port, Topology
from channover.observe.nics import NicCounters, nic_counters
from channover.observe.proof.findings import name

LEAST = 10
"""Lost frames that are told: a few may be under way at the moment of the count."""
SHARE = 1e-4
"""The share of the frames that is told."""


@runtime_checkable
class Refusing(Protocol):
    """Cabling that knows what its cables' own queues have refused: more was offered than they carry, and that is no loss."""

    def refused(self) -> Mapping[Port, int]:
        """Return how many frames towards each port. Raises TestbedError."""
        ...


@dataclass(frozen=True)
class Account:
    """What NICs have counted up to a moment, by port, and what cables' queues have refused towards them."""

    counted: Mapping[Port, NicCounters]
    refused: Mapping[Port, int]
    dropped: int = 0
    """Frames that this machine's processors dropped, whosever they were, where they are the wires: they came too fast."""


@dataclass(frozen=True)
class Lost:
    """Frames of a test that a cable lost, from a port to another."""

    cable: Cable
    source: Port
    target: Port
    frames: int
    sent: int

    def text(self, topology: Topology) -> str:
        """Return it as a line with its figures."""
        figures = f"{self.frames:,} of the {self.sent:,} frames ({self.frames / self.sent:.2%})"
        way = f"{self.source.node} to {self.target.node}"
        return f"{name(topology, self.cable)} lost {figures} that the test sent, {way}"


def account(lab: Lab) -> Account | None:
    """Count at every NIC that has a cable; None where what cables refuse is not known. Raises TestbedError."""
    if not isinstance(lab.cabling, Refusing):
        return None
    names = list(dict.fromkeys(port.node for cable in lab.topology.cables for port in cable.ports))
    found = dict(zip(names, each(lambda one: nic_counters(lab.hosts[one]), names), strict=True))
    ports = [port for cable in lab.topology.cables for port in cable.ports]
    counted = {port: found[port.node][lab.hosts[port.node].nic(port.nic).device] for port in ports}
    return Account(counted, lab.cabling.refused(), dropped() if lab.probe is not None else 0)


def lost(cables: Collection[Cable], before: Account, after: Account) -> Iterator[Lost]:
    """Yield what cables have lost between two moments, of each direction, where it is more than a trifle."""
    for cable in cables:
        for source, target in (cable.ports, cable.ports[::-1]):
            sent = (after.counted[source] - before.counted[source]).tx_packets
            arrived = (after.counted[target] - before.counted[target]).rx_packets
            missing = sent - arrived - (after.refused.get(target, 0) - before.refused.get(target, 0))
            if missing >= LEAST and missing > SHARE * sent:
                yield Lost(cable, source, target, missing, sent)
