"""Addresses of a lab's NICs, and the policy routing that multihomed hosts need.

A host with several NICs sends by the route to the destination, whatever source address the packet bears. So that a packet
leaves by the NIC whose address it carries, each NIC gets a routing table of its own and a rule that selects it by source
(RFC 6724 leaves it to the host; ``ip-rule(8)``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

from channover.hosts.host import Host, until
from channover.hosts.lab import Interface, Lab
from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.operations.kernel import SysctlSet
from channover.model.operations.operation import Operation
from channover.model.operations.routing import EVERYWHERE, RouteAdd, RuleAdd, RuleDelete
from channover.model.plan import Plan
from channover.model.topology import Cable, Port

FIRST_TABLE = 101
FIRST_PRIORITY = 101


def cabled(lab: Lab, host: Host) -> Iterator[Port]:
    """Yield the ports of a host that have a cable, in order."""
    for nic in host.nics:
        port = Port(host.name, nic)
        if any(port in cable.ports for cable in lab.topology.cables):
            yield port


def wait_usable(host: Host, address: Interface, device: str, timeout: float = 10.0) -> None:
    """Wait until an address of IPv6 is not tentative any more: before that nothing is sent from it (RFC 4862, 5.4).

    A device that had no carrier asks only now whether somebody else has it. Raises TestbedError after ``timeout`` seconds.
    """
    if address.version == 6:
        words = ("ip", "-6", "-o", "address", "show", "dev", device, "tentative")
        until(
            lambda: f" {address.ip}/" not in host.run(*words, quiet=True).stdout,
            f"{host.name}: {address.ip} at {device} to be usable",
            timeout,
            0.02,
        )


def addresses(lab: Lab, host: Host) -> Plan:
    """Return the plan that gives each cabled NIC of a host its address and its MTU, and sets it up.

    NICs that share a broadcast domain answer ARP, and ask, each for its own address alone: else the far end may learn the other
    one's MAC address (``arp_ignore`` 1 and ``arp_announce`` 2, ``Documentation/networking/ip-sysctl.rst``).
    """
    operations: list[Operation] = []
    for port in cabled(lab, host):
        device = host.nic(port.nic).device
        if port in lab.crowded:
            operations.append(SysctlSet(f"net/ipv4/conf/{device}/arp_ignore", "1"))
            operations.append(SysctlSet(f"net/ipv4/conf/{device}/arp_announce", "2"))
        operations.append(LinkSet(device, up=True, mtu=lab.link.mtu))
        operations.append(AddressAdd(device, str(lab.address(port))))
        if (uplink := lab.uplinks.get(port)) is not None:
            operations.append(RouteAdd(str(ip_network(_far(lab, port))), device, uplink.gateway))
    return Plan.of("addresses of the test NICs", operations)


def _far(lab: Lab, port: Port) -> IPv4Address | IPv6Address:
    """Return the address at the other end of a port's cable."""
    cable = next(one for one in lab.topology.cables if port in one.ports)
    return lab.address(next(one for one in cable.ports if one != port)).ip


def source_rules(lab: Lab, host: Host) -> Plan:
    """Return the plan of one routing table and one rule for each cabled NIC of a host, and loose source validation.

    ``rp_filter`` goes to 2, since strict validation drops the SYN of a join (RFC 3704, 2.4).
    """
    operations: list[Operation] = [SysctlSet("net/ipv4/conf/all/rp_filter", "2")]
    for number, port in enumerate(cabled(lab, host)):
        operations += _way(lab, host, port, number)
    return Plan.of("a packet leaves by the NIC whose address it carries", operations)


def _way(lab: Lab, host: Host, port: Port, number: int) -> tuple[Operation, Operation]:
    """Return the only route of a NIC's own table, and the rule that selects it by the NIC's address.

    With IPv4 it is an on-link default: between two hosts of a lab every address is one hop away on every cable. With IPv6 the
    far end of its cable is the way to all others: neighbour discovery answers for the addresses of the NIC that is asked
    alone (RFC 4861, 7.2.3). On a routed path it is the NIC's own gateway.
    """
    device, table, own = host.nic(port.nic).device, FIRST_TABLE + number, lab.address(port).ip
    if (uplink := lab.uplinks.get(port)) is not None:
        via: str | None = uplink.gateway
    else:
        via = str(_far(lab, port)) if own.version == 6 else None
    return RouteAdd(EVERYWHERE[own.version], device, via, table), RuleAdd(str(own), table, FIRST_PRIORITY + number)


def quick_acks(lab: Lab, host: Host) -> Plan:
    """Return the plan that has a host acknowledge each segment at once that comes by a cable from its other end.

    Each cable gets a route of its own to that end's address. A routed path keeps its acknowledgements as they are.
    """
    operations = [
        RouteAdd(str(ip_network(_far(lab, port))), host.nic(port.nic).device, quick_ack=True)
        for port in cabled(lab, host)
        if port not in lab.uplinks
    ]
    return Plan.of("each segment is acknowledged at once", operations)


def over_ipv6(lab: Lab, host: Host, cables: Collection[Cable]) -> Plan:
    """Return the plan of the IPv6 addresses of a host's NICs on some cables, by which the lab knows these now.

    Each has a table and a rule of its own, as :func:`source_rules` has it.
    """
    operations: list[Operation] = []
    for number, port in enumerate(cabled(lab, host)):
        cable = next(one for one in lab.topology.cables if port in one.ports)
        if cable not in cables:
            continue
        operations.append(AddressAdd(host.nic(port.nic).device, str(lab.address(port))))
        operations += _way(lab, host, port, number)
    return Plan.of("IPv6 addresses, each packet by the NIC whose address it carries", operations)


def no_source_rules(lab: Lab, host: Host) -> Plan:
    """Return the plan that takes the rules of :func:`source_rules` away, and leaves the tables."""
    operations = [
        RuleDelete(str(lab.address(port).ip), FIRST_TABLE + number, FIRST_PRIORITY + number)
        for number, port in enumerate(cabled(lab, host))
    ]
    return Plan.of("no rule ties a source address to its NIC", operations)
