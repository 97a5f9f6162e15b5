"""Proves a routed path before it is used: each end's gateway answers, the far end does, and full packets cross.

What it carries is not proved: frames of the proof do not pass routers, and others may share what lies between.
"""

from __future__ import annotations

from collections.abc import Mapping

from channover.errors import TestbedError, UsageError
from channover.hosts.lab import Lab, Uplink
from channover.model.link import ICMP_HEADER, IPV4_HEADER, IPV6_HEADER, Link
from channover.model.topology import Cable, Port
from channover.network import addressing
from channover.targets.capabilities import CAPABILITIES
from channover.targets.physical.preflight import answered


def require_family(uplinks: Mapping[Port, Uplink], link: Link) -> None:
    """Raise UsageError where routed paths are not of the version of IP that a run asks for."""
    wanted = 6 if link.ipv6 else 4
    for port, uplink in uplinks.items():
        if uplink.address.version != wanted:
            raise UsageError(
                f"{port.node}'s NIC {port.nic} has the address {uplink.address.ip} on its path, and the run is of IPv{wanted}: "
                f"--family {uplink.address.version}, or 'addresses' of the path in the inventory"
            )


def prove(lab: Lab, cable: Cable) -> str:
    """See that both ends of a routed path reach each other by their gateways, with packets that fill its MTU (bytes).

    Both ends have their addresses and routes meanwhile. Returns what is to be said of it. Raises TestbedError.
    """
    hosts = [lab.hosts[port.node] for port in cable.ports]
    for host in hosts:
        if gap := CAPABILITIES["ping"].unmet(host):
            raise TestbedError(f"the path cannot be proved: {gap}")
    with hosts[0].applied(addressing.addresses(lab, hosts[0])), hosts[1].applied(addressing.addresses(lab, hosts[1])):
        for near, far in (cable.ports, cable.ports[::-1]):
            own = lab.uplinks[near]
            addressing.wait_usable(lab.hosts[near.node], own.address, _device(lab, near))
            _crossed(lab, near, far)
    return f"the path {cable} is routed: that it carries {lab.rate(cable) / 1e6:g} Mbit/s is not proved"


def _crossed(lab: Lab, near: Port, far: Port) -> None:
    own, there = lab.uplinks[near], str(lab.uplinks[far].address.ip)
    host, device = lab.hosts[near.node], _device(lab, near)
    title = f"{near.node}'s NIC {near.nic} ({device}, {own.address})"
    header = IPV6_HEADER if own.address.version == 6 else IPV4_HEADER
    if answered(host, device, there, "-M", "do", "-s", str(lab.link.mtu - header - ICMP_HEADER)):
        return
    if answered(host, device, there):
        raise TestbedError(
            f"packets of {lab.link.mtu} bytes that must not be fragmented do not cross from {title} to {there}, and small ones "
            "do: correct the path's 'mtu' in the inventory"
        )
    if not answered(host, device, own.gateway):
        raise TestbedError(
            f"{title} gets no answer from its gateway {own.gateway}: see where its cable ends, and correct 'addresses' or "
            "'gateways' of the path in the inventory"
        )
    raise TestbedError(
        f"{title} gets no answer from {there}, {far.node}'s NIC {far.nic}, and its gateway {own.gateway} answers: see that the "
        "routers know both networks and let the two addresses through"
    )


def _device(lab: Lab, port: Port) -> str:
    return lab.hosts[port.node].nic(port.nic).device
