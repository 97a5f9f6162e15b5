"""What is wrong with the ends of an inventory's cables and routed paths that no single value shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Protocol

from channover.model.topology import Port
from channover.targets.inventory.faults import Fault
from channover.targets.inventory.strict_yaml import Where


class Joining(Protocol):
    """What joins two ends."""

    @property
    def ports(self) -> tuple[Port, Port]: ...


class PathLike(Joining, Protocol):
    """What is looked at of a path of an inventory."""

    @property
    def addresses(self) -> tuple[str, str]: ...
    @property
    def gateways(self) -> tuple[str, str]: ...


@dataclass(frozen=True)
class Kind:
    """What joins ends, and its ends, in words: ``field`` is where they stand in a lab."""

    field: str
    name: str
    joins: str
    node: str
    nic: str


CABLES = Kind("cables", "cable", "two hosts or switches", "host or switch", "NIC or port")
PATHS = Kind("paths", "path", "two hosts", "host", "NIC")


def end_faults(
    top: Where,
    kind: Kind,
    joined: Sequence[Joining],
    known: Mapping[str, Collection[str]],
    taken: Mapping[Port, str] = {},
) -> Iterator[Fault]:
    """Yield ends that are at one host, that are nowhere, or that are taken: by another of these, or as ``taken`` says.

    ``known`` are the names of the NICs or ports of each host or switch that ends may be at.
    """
    told = dict(taken)
    for number, one in enumerate(joined):
        where = (*top, kind.field, number, "ends")
        a, b = one.ports
        if a.node == b.node:
            yield Fault(where, f"both ends are at {a.node}; a {kind.name} joins {kind.joins}")
            continue
        for position, port in enumerate((a, b)):
            place = (*where, position)
            if port.node not in known:
                yield Fault(place, f"there is no {kind.node} '{port.node}' in this lab; there is: {some(known)}")
            elif port.nic not in known[port.node]:
                yield Fault(place, f"'{port.node}' has no {kind.nic} '{port.nic}'; it has: {some(known[port.node])}")
            elif port in told:
                yield Fault(place, f"{port} {told[port]}")
            told.setdefault(port, f"has a {kind.name} already ({kind.field}.{number}); a NIC has at most one")


def address_faults(top: Where, paths: Sequence[PathLike]) -> Iterator[Fault]:
    """Yield addresses of paths that stand twice or do not fit each other, and gateways out of reach."""
    addresses: dict[str, Where] = {}
    for number, path in enumerate(paths):
        a, b = path.ports
        if a.node == b.node:
            continue  # which is wrong itself
        yield from _addressing((*top, PATHS.field, number), path, addresses)


def some(names: Collection[str]) -> str:
    """Return the first names of several in a line."""
    found = list(names)
    return ", ".join(found[:8]) + (", …" if len(found) > 8 else "")


def _addressing(where: Where, path: PathLike, addresses: dict[str, Where]) -> Iterator[Fault]:
    near, far = map(ip_interface, path.addresses)
    if near.version != far.version:
        yield Fault((*where, "addresses"), "one is of IPv4 and the other of IPv6; write two of one family")
    elif near.network.overlaps(far.network):
        yield Fault(
            (*where, "addresses"), f"{near} and {far} are in one network; what joins them is a cable, or a switch"
        )
    for position, (own, gateway) in enumerate(zip((near, far), path.gateways, strict=True)):
        place = (*where, "gateways", position)
        if ip_address(gateway) not in own.network and not (own.version == 6 and ip_address(gateway).is_link_local):
            yield Fault(place, f"{gateway} is not in {own.network}; write a router of the network of {own.ip}")
        elif ip_address(gateway) == own.ip:
            yield Fault(place, f"{gateway} is the NIC's own address; write the router's")
        if str(own.ip) in addresses:
            yield Fault((*where, "addresses", position), f"{own.ip} is there twice; each NIC has an address of its own")
        addresses.setdefault(str(own.ip), where)
