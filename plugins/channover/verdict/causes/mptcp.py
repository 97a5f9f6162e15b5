"""Causes in Multipath TCP's signalling: what kept a connection from a path, or from Multipath TCP altogether."""

from __future__ import annotations

from collections.abc import Iterator

from channover.model.state import Endpoint
from channover.verdict.causes.case import Case, HostView, NicView
from channover.verdict.causes.kind import Found, cause, over_mptcp


@cause(
    "mptcp-fallback",
    "The connection fell back to TCP: it is no Multipath TCP, or not any more.",
    shows="the connection's sockets at both ends (`ss -tiM`), and the kernels' fallback counters (`nstat`)",
    remedy="find what strips or mangles TCP option 30 between the hosts, or which end does not speak MPTCP",
    applies=over_mptcp,
)
def _fallback(case: Case) -> Iterator[Found]:
    for reason in case.fallbacks:
        yield Found(f"the connection fell back to TCP: {reason}", (), "shown")


def _idle(host: HostView) -> Iterator[tuple[NicView, str, Endpoint | None]]:
    for nic in host.idle():
        if nic.address:
            endpoint = next((e for e in host.state.endpoints.values() if e.address == nic.address), None)
            yield nic, f"NIC {nic.name} carried {nic.carried:,} bytes", endpoint


def _ruled(host: HostView, nic: NicView) -> bool:
    return any(rule.source in (nic.address, f"{nic.address}/32") for rule in host.state.rules)


@cause(
    "no-endpoint",
    "A host has no MPTCP endpoint for the address of a NIC, so no subflow starts there.",
    shows="`ip mptcp endpoint show`",
    remedy="`ip mptcp endpoint add ADDRESS dev DEVICE subflow fullmesh`",
    applies=over_mptcp,
)
def _no_endpoint(case: Case) -> Iterator[Found]:
    host = case.sender
    for nic, carried, endpoint in _idle(host):
        if endpoint is None and not host.subflow_sources.get(nic.address, 0):
            yield Found(
                f"{carried} and {host.name} has no MPTCP endpoint {nic.address}: no subflow starts there",
                (str(host),),
                remedy=f"ip mptcp endpoint add {nic.address} dev {nic.device} subflow fullmesh",
            )


@cause(
    "no-source-rule",
    "A host has no rule that sends a NIC's address out of that NIC, so its subflows leave by another one.",
    shows="`ip rule show`",
    remedy="`ip rule add from ADDRESS table TABLE`, and the NIC's routes in that table",
    applies=over_mptcp,
)
def _no_source_rule(case: Case) -> Iterator[Found]:
    host = case.sender
    for nic, carried, endpoint in _idle(host):
        count = host.subflow_sources.get(nic.address, 0)
        if (endpoint is None and not count) or _ruled(host, nic) or (endpoint is not None and endpoint.device):
            continue
        busy = ", ".join(other.name for other in host.nics if other not in host.idle()) or "another"
        yield Found(
            f"{carried} and {host.name} has no rule `from {nic.address}`: its subflows left by NIC {busy}",
            (f"{count} subflow{'s' * (count != 1)} of {host.name} had the address {nic.address}", str(host)),
            remedy=f"ip rule add from {nic.address} table TABLE, and the routes of {nic.device} in that table",
        )


@cause(
    "endpoint-backup",
    "An MPTCP endpoint has the flag backup: its path carries nothing while others work.",
    shows="`ip mptcp endpoint show`",
    remedy="`ip mptcp endpoint change id ID nobackup`",
    applies=over_mptcp,
)
def _endpoint_backup(case: Case) -> Iterator[Found]:
    for nic, carried, endpoint in _idle(case.sender):
        if endpoint is not None and "backup" in endpoint.flags:
            yield Found(
                f"{carried}: its endpoint {nic.address} is a backup",
                (str(case.sender),),
                remedy=f"ip mptcp endpoint change id {endpoint.id} nobackup",
            )


@cause(
    "subflow-limit",
    "A host's limit of MPTCP subflows is below what the paths take.",
    shows="`ip mptcp limits show`",
    remedy="`ip mptcp limits set subflows 8 add_addr_accepted 8`, on both hosts",
    applies=over_mptcp,
)
def _subflow_limit(case: Case) -> Iterator[Found]:
    lacking = [
        nic for nic, _, endpoint in _idle(case.sender) if endpoint and not case.sender.subflow_sources.get(nic.address)
    ]
    if not lacking:
        return
    named = ", ".join(f"{nic.name} ({nic.address})" for nic in lacking)
    for host in (case.sender, case.receiver):
        limits = host.state.limits
        if limits is not None and limits.subflows < len(lacking):
            yield Found(
                f"{host.name} allows {limits.subflows} extra subflows, and none has the address of NIC {named}",
                (str(case.sender),),
                remedy="ip mptcp limits set subflows 8",
            )
