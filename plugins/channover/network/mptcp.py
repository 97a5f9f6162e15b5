"""Multipath TCP as the kernel's in-kernel path manager does it: limits, endpoints, subflows (RFC 8684, ``ip-mptcp(8)``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from channover.hosts.host import Host
from channover.hosts.lab import Lab
from channover.model.operations.kernel import SysctlSet
from channover.model.operations.mptcp import EndpointAdd, EndpointDelete, LimitsSet
from channover.model.operations.operation import Operation
from channover.model.plan import Plan
from channover.model.state import Endpoint
from channover.model.topology import Port
from channover.network.addressing import cabled

MAX_EXTRA_SUBFLOWS = 8
"""The most subflows that the path manager adds to the first one (``MPTCP_PM_ADDR_MAX``, ``net/mptcp/pm_netlink.c``)."""


def enable() -> Plan:
    """Return the plan that switches MPTCP on and raises both limits to what the kernel allows.

    They default to two extra subflows and no accepted ADD_ADDR, which silently keeps a mesh from forming.
    """
    return Plan.of(
        "MPTCP on, limits raised",
        [SysctlSet("net/mptcp/enabled", "1"), LimitsSet(MAX_EXTRA_SUBFLOWS, MAX_EXTRA_SUBFLOWS)],
    )


def client_endpoints(
    lab: Lab, host: Host, *, backup: Collection[str] = (), without: Collection[str] = (), bound: bool = False
) -> Plan:
    """Return the plan of a client's endpoints: from each cabled NIC, subflows to every address of the server.

    NICs named in ``backup`` carry data only when no other path is left, those in ``without`` get no endpoint: the
    article's ``multipath backup`` and ``multipath off``. ``bound`` ties the subflows to the device, which makes the
    source rules unnecessary.
    """
    operations: list[Operation] = []
    for number, port in enumerate(cabled(lab, host), start=1):
        if port.nic not in without:
            flags = ("subflow", "backup") if port.nic in backup else ("subflow", "fullmesh")
            device = host.nic(port.nic).device if bound else None
            operations.append(EndpointAdd(number, str(lab.address(port).ip), flags, device))
    return Plan.of("subflows from each NIC", operations)


def server_endpoints(lab: Lab, host: Host, *, without: Collection[str] = ()) -> Plan:
    """Return the plan of a server's endpoints: each cabled NIC's address is announced (ADD_ADDR, RFC 8684, 3.4.1)."""
    operations: list[Operation] = [
        EndpointAdd(number, str(lab.address(port).ip), ("signal",))
        for number, port in enumerate(cabled(lab, host), start=1)
        if port.nic not in without
    ]
    return Plan.of("announce each NIC's address", operations)


def readdressed(lab: Lab, host: Host, former: Mapping[str, str]) -> Plan:
    """Return the plan that gives a host's endpoints the addresses of their NICs of now: ``former`` ones, by NIC, go."""
    operations: list[Operation] = []
    for number, known in host.state().endpoints.items():
        nic = next((name for name, address in former.items() if address == known.address), None)
        if nic is not None:
            operations.append(EndpointDelete(number))
            operations.append(replace(EndpointAdd.of(known), address=str(lab.address(Port(host.name, nic)).ip)))
    return Plan.of("endpoints of the other family", operations)


def without(endpoints: Iterable[Endpoint]) -> Plan:
    """Return the plan that takes endpoints away: the article's ``multipath off`` for their NICs.

    One whose address the host does not tell stays: it could not be given back.
    """
    return Plan.of("multipath off", [EndpointDelete(endpoint.id) for endpoint in endpoints if endpoint.address])
