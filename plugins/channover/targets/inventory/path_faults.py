"""What is wrong with an inventory's routed paths that no single value shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface
from typing import Protocol

from channover.model.topology import Port
from channover.targets.inventory.faults import Fault
from channover.targets.inventory.strict_yaml import Where


class PathLike(Protocol):
    """What is looked at of a path of an inventory."""

    @property
    def ports(self) -> tuple[Port, Port]: ...
    @property
    def addresses(self) -> tuple[str, str]: ...
    @property
    def gateways(self) -> tuple[str, str]: ...


def path_faults(
    top: Where, paths: Sequence[PathLike], hosts: Mapping[str, Collection[str]], cabled: Collection[Port]
) -> Iterator[Fault]:
    """Yield ends that are no NIC or have something else already, addresses that stand twice, gateways out of reach.

    ``hosts`` are the names of each host's NICs, ``cabled`` those that have a cable.
    """
    taken: dict[Port, int] = {}
    addresses: dict[str, Where] = {}
    for number, path in enumerate(paths):
        where = (*top, "paths", number)
        a, b = path.ports
        if a.node == b.node:
            yield Fault((*where, "ends"), f"both ends are at {a.node}; a path joins two hosts")
            continue
        for position, port in enumerate(path.ports):
            place = (*where, "ends", position)
            if port.node not in hosts:
                yield Fault(place, f"there is no host '{port.node}' in this lab; there is: {', '.join(hosts)}")
            elif port.nic not in hosts[port.node]:
                has = ", ".join(hosts[port.node])
                yield Fault(place, f"'{port.node}' has no NIC '{port.nic}'; it has: {has}")
            elif port in cabled:
                yield Fault(place, f"{port} has a cable in 'cables'; a NIC has that or a path: remove one")
            elif port in taken:
                yield Fault(place, f"{port} has a path already (paths.{taken[port]}); a NIC has at most one")
            taken.setdefault(port, number)
        yield from _addressing(where, path, addresses)


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
