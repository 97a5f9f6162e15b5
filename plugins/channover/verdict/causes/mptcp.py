"""Causes that keep a connection from Multipath TCP altogether: switched off, not asked for, its options lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

from channover.verdict.causes.case import Case
from channover.verdict.causes.kind import Found, cause, over_mptcp
from channover.verdict.causes.options import options_lost

_COUNTERS = "MPTCP's counters at both ends, as differences over the traffic (`nstat`)"
_MIDDLEBOX = "find what strips or mangles TCP option 30 between the hosts: a firewall, a proxy, a load balancer"


@cause(
    "mptcp-off",
    "A host has MPTCP switched off.",
    shows="`sysctl net.mptcp.enabled`",
    remedy="`sysctl net.mptcp.enabled=1`",
    applies=over_mptcp,
)
def _off(case: Case) -> Iterator[Found]:
    for host in case.ends:
        if host.sysctls.get("net/mptcp/enabled") == "0":
            yield Found(
                f"{host.name} has MPTCP switched off: net.mptcp.enabled is 0",
                tuple(case.fallbacks),
                "shown",
                "sysctl net.mptcp.enabled=1",
            )


@cause(
    "mptcp-not-asked",
    "A program opened or took plain TCP: it did not ask for MPTCP.",
    shows="the sockets of both ends (`ss -tai`), and the counters of MP_CAPABLE",
    remedy="start the program with `mptcpize run`, or have it open sockets of IPPROTO_MPTCP",
    applies=over_mptcp,
)
def _not_asked(case: Case) -> Iterator[Found]:
    client, server = case.ends
    # A tunnel's carrier was opened before any traffic: what its sockets are tells, where there are any.
    plain = case.tunnel is None or any(one.state == "ESTAB" and not one.mptcp for one in case.own(client))
    if plain and client.has("MPCapableSYNTX") and not client.counted("MPCapableSYNTX", "MPCapableSYNTXDisabled"):
        yield Found(f"{client.name}'s program opened plain TCP", (client.told("MPCapableSYNTX"),), "shown")
    listening = [one for one in server.sockets if one.listening and one.source_port in case.ports]
    if listening and not any(one.mptcp for one in listening):
        ports = ", ".join(map(str, sorted(one.source_port for one in listening)))
        yield Found(f"{server.name}'s program listens on port {ports} with plain TCP", tuple(case.fallbacks), "shown")


@cause(
    "mptcp-checksum",
    "MPTCP's data checksum fails, or its mapping is corrupt: something on the way rewrites the data.",
    shows=_COUNTERS,
    remedy="look for what rewrites data between the hosts: a proxy, a NAT with an application gateway",
    applies=over_mptcp,
)
def _checksum(case: Case) -> Iterator[Found]:
    names = ("DataCsumErr", "MPFailTx", "MPFailRx", "InfiniteMapTx", "InfiniteMapRx", "DSSCorruptionReset")
    for host in case.ends:
        if host.counted(*names):
            yield Found(
                f"{host.name} found corrupt mappings or checksums", (host.told(*names), *case.fallbacks), "shown"
            )


@cause(
    "stream-spoilt",
    "The stream ended well and is not what was sent: MPTCP put data in a wrong place, or something on the way rewrites them.",
    shows="SHA-256 of what was sent and of what arrived; `nstat -az` of both ends: MPTcpExtDSSNotMatching",
    remedy="run it again with `sysctl net.mptcp.checksum_enabled=1` at both ends: what rewrites data is found by that, and "
    "where nothing is found it is the kernel (seen on Linux 6.18: one of 80 streams, an address removed in mid-transfer)",
    applies=lambda case: bool(case.spoilt),
)
def _spoilt(case: Case) -> Iterator[Found]:
    names = ("DSSNotMatching", "DSSCorruptionReset", "DuplicateData", "MPRstTx")
    yield Found(
        f"{case.receiver.name} got a stream to its end that is not what {case.sender.name} sent",
        (case.spoilt, *(host.told(*names) for host in case.ends)),
        "shown",
    )


def _behind_middlebox(case: Case) -> bool:
    return case.mptcp and any(host.middlebox for host in case.ends)


@cause(
    "option-intact",
    "Nothing of MPTCP was lost on the way where a middlebox was to take it.",
    shows=f"{_COUNTERS}; `net.mptcp.checksum_enabled` of both, without which a spoilt checksum is none",
    remedy="look at what was to take it: its rules, the interface that they are for, and what their counters have met",
    applies=_behind_middlebox,
)
def _intact(case: Case) -> Iterator[Found]:
    client, server = case.ends
    if options_lost(client.counters, server.counters) or case.fallbacks:
        return
    unchecked = not any(host.sysctls.get("net/mptcp/checksum_enabled") == "1" for host in case.ends)
    yield Found(
        f"nothing of MPTCP was lost between {client.name} and {server.name}"
        + (", and no end has its mappings checked" if unchecked else ""),
        (
            client.told("MPCapableSYNTX", "MPCapableFallbackSYNACK", "MPJoinSynTx", "MPJoinSynAckRx"),
            server.told("MPCapableSYNRX", "MPCapableFallbackACK", "MPJoinSynRx", "MPJoinAckRx", "DataCsumErr"),
        ),
        "shown",
    )


@cause(
    "mptcp-fallback",
    "The connection fell back to TCP: MPTCP's option is lost on the way, from SYNs, from their answers, or from data.",
    shows="the connection's sockets at both ends (`ss -tiM`); the fallback counters of both (`nstat`); packet filters",
    remedy=_MIDDLEBOX,
    applies=over_mptcp,
)
def _fallback(case: Case) -> Iterator[Found]:
    client, server = case.ends
    names = ("MPCapableSYNTX", "MPCapableFallbackSYNACK", "MPCapableSYNTXDrop", "MPCapableSYNTXDisabled", "Blackhole")
    behind = ("MPCapableFallbackACK", "MPCapableDataFallback", "DssFallback", "DSSCorruptionFallback")
    fell = bool(client.counted(*names[1:]) or server.counted(*behind) or client.counted(*behind) or case.fallbacks)
    unheard = server.counters.get("TcpPassiveOpens", 1) == 0  # no connection came about, by whatever protocol
    if unheard or not fell or not client.counted("MPCapableSYNTX", "MPCapableSYNTXDisabled"):
        if case.fallbacks:
            yield Found("the connection fell back to TCP", tuple(case.fallbacks), "shown")
        return
    evidence = (client.told(*names[:2]), server.told("MPCapableSYNRX", *behind[:2]), *case.fallbacks)
    stripping = [
        (host.name, one)
        for host in case.hosts
        for one in host.filters
        if one.does in ("strip", "mangle") and one.packets != 0
    ]
    if stripping:
        name, one = stripping[0]
        yield Found(
            f"the connection fell back to TCP: a packet filter of {name} takes options out of TCP: `{one.rule}`",
            (f"table {one.table}, chain {one.chain}: {one.met}", *evidence),
            "shown",
            f"nft delete table {one.table}",
        )
    elif server.has("MPCapableSYNRX") and not server.counted("MPCapableSYNRX"):
        words = (
            f"the connection fell back to TCP: {client.name} asked for MPTCP, and no MP_CAPABLE reached {server.name}"
        )
        yield Found(words, evidence, "shown")
    elif client.counted("MPCapableFallbackSYNACK"):
        yield Found(
            f"the connection fell back to TCP: {server.name} got MP_CAPABLE, and its answers reached {client.name} without it",
            evidence,
            "shown",
        )
    else:
        yield Found("the connection fell back to TCP: MPTCP's option is lost behind the SYNs", evidence, "shown")


_OFTEN = 10
"""MPTCP's own retransmissions from which they are what holds a connection back: a few come with any start."""


@cause(
    "mptcp-beyond-window",
    "Data arrived beyond MPTCP's receive window and was dropped: each piece of it waits for a time-out of the sender's.",
    shows="`nstat -az`: MPTcpExtNoDSSInWindow at the receiver, MPTcpExtMPTCPRetrans at the sender",
    remedy="a larger receive buffer: `sysctl net.core.rmem_max=4194304` where the program sets its own (SO_RCVBUF), else "
    "`net.ipv4.tcp_rmem='4096 1048576 6291456'`: a program that waits for a processor lets the window shrink",
    applies=lambda case: (over_mptcp(case) or case.tunnel is not None) and case.slow,
    follows=True,
)
def _beyond_window(case: Case) -> Iterator[Found]:
    if count := case.receiver.counted("NoDSSInWindow"):
        yield Found(
            f"{case.receiver.name} dropped data {count} times that arrived beyond MPTCP's receive window",
            (case.receiver.told("NoDSSInWindow", "OFOQueue"), case.sender.told("MPTCPRetrans")),
            "likely" if case.sender.counted("MPTCPRetrans") >= _OFTEN else "possible",
        )
