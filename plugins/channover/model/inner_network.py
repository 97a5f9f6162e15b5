"""A tunnel's inner network: what a judge of its loop has to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network


@dataclass(frozen=True)
class Inner:
    """What there is to know of a tunnel at one host: its device there, the networks inside, the carrier's TCP port."""

    device: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    port: int


def inner_network(one: str, other: str) -> IPv4Network:
    """Return the smallest network that holds both point-to-point addresses and no other pair's: a /30 as a rule.

    Raises ValueError where a /24 does not hold both.
    """
    for length in range(30, 23, -1):
        network = IPv4Interface(f"{one}/{length}").network
        if IPv4Address(other) in network:
            return network
    raise ValueError(f"{one} and {other} are too far apart for the two ends of a tunnel")
