"""A tunnel's inner network: what a judge of its loop has to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface


@dataclass(frozen=True)
class Inner:
    """What there is to know of a tunnel at one host: its device there, the networks inside, the carrier's TCP port."""

    device: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    port: int


def inner_network(one: str, other: str) -> IPv4Network | IPv6Network:
    """Return the smallest network that holds both point-to-point addresses and no other pair's: a /30 as a rule.

    Of IPv6 it is a /124: OpenVPN takes no longer prefix (openvpn-2.6, options.c). Raises ValueError where a /24, or a /112,
    does not hold both.
    """
    lengths = range(30, 23, -1) if ip_address(one).version == 4 else range(124, 111, -1)
    for length in lengths:
        network = ip_interface(f"{one}/{length}").network
        if ip_address(other) in network:
            return network
    raise ValueError(f"{one} and {other} are too far apart for the two ends of a tunnel")
