"""Causes that keep a connection of Multipath TCP from a path: endpoints, limits, announcements, joins that are lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from channover.model.state import Endpoint
from channover.verdict.causes.case import PARTLY, Case, HostView, NicView, PathView, SocketLike
from channover.verdict.causes.kind import Found, cause

_COUNTERS = (
    "MPTCP's counters at both ends, as differences over the traffic (`nstat`), and the sockets' states (`ss -tai`)"
)


def _wanted(case: Case) -> bool:
    return case.mptcp and case.needs_paths() and not case.fallbacks


def _lesser(case: Case, host: HostView) -> list[NicView]:
    """Return the NICs of an end, of those that are paths, which carried less than the busiest."""
    names = {path.client_nic if host is case.client else path.server_nic for path in case.paths}
    nics = [nic for nic in host.nics if nic.name in names]
    most = max((nic.carried for nic in nics), default=0)
    return [nic for nic in nics if nic.carried < PARTLY * most or not most]


def _joined(case: Case) -> set[tuple[str, str]]:
    """Return the client's pairs of addresses with an established subflow: one that is pending is none."""
    return {(one.source, one.destination) for one in _established(case)}


def _established(case: Case) -> list[SocketLike]:
    """Return the client's established subflows: those of the traffic, where its ports are known."""
    sockets = case.own(case.client) if case.ports else case.client.sockets
    return [one for one in sockets if one.mptcp and one.state == "ESTAB"]


def _pairs(case: Case) -> list[tuple[str, str]]:
    others = case.paths[:1] if case.one_subflow_a_path else case.paths
    return [(one.near, other.far) for one in case.paths for other in others]


def _missing(case: Case) -> list[tuple[str, str]]:
    """Return the pairs of addresses of the mesh without an established subflow."""
    joined = _joined(case)
    return [pair for pair in _pairs(case) if pair not in joined]


def _absent(case: Case, host: HostView) -> list[NicView]:
    """Return the NICs of an end whose address no established subflow has."""
    joined = _joined(case)
    have = {near for near, _ in joined} if host is case.client else {far for _, far in joined}
    names = {path.client_nic if host is case.client else path.server_nic for path in case.paths}
    return [nic for nic in host.nics if nic.name in names and nic.address not in have]


def _meshed(case: Case) -> bool:
    return case.about.startswith(("address pairs", "subflows"))


def _suspects(case: Case, host: HostView) -> list[NicView]:
    """Return the NICs of an end that have too little part: no subflow, less than their share, or pairs of them missing."""
    found = {nic.name: nic for nic in (*_absent(case, host), *_lesser(case, host))}
    if _meshed(case):
        side = 0 if host is case.client else 1
        lacking = {pair[side] for pair in _missing(case)}
        found |= {nic.name: nic for nic in host.nics if nic.address in lacking}
    return list(found.values())


def _endpoint(host: HostView, nic: NicView) -> Endpoint | None:
    return next((one for one in host.state.endpoints.values() if one.address == nic.address), None)


def _first(case: Case) -> PathView | None:
    """Return the path that the connection was opened by: it needs no endpoint."""
    return case.paths[0] if case.paths else None


def _what(nic: NicView) -> str:
    return f"NIC {nic.name} carried {nic.carried:,} bytes"


@cause(
    "no-endpoint",
    "A host has no MPTCP endpoint for the address of a NIC, so no subflow starts, or is invited, there.",
    shows="`ip mptcp endpoint show`",
    remedy="`ip mptcp endpoint add ADDRESS dev DEVICE subflow fullmesh` at the client, `signal` at the server",
    applies=_wanted,
)
def _no_endpoint(case: Case) -> Iterator[Found]:
    first = _first(case)
    for host in [case.client] if case.one_subflow_a_path else case.ends:
        for nic in _suspects(case, host):
            opened = first is not None and nic.name in (first.client_nic, first.server_nic)
            if not nic.address or _endpoint(host, nic) is not None or (opened and host.state.endpoints):
                continue
            others = [one for one in host.state.endpoints.values() if not _has(host, one.address)]
            if others and len(others) >= 1:
                continue  # there is one, with an address that the host has not
            flags = "subflow fullmesh" if host is case.client else "signal"
            lacks = "no subflow starts there" if host is case.client else "the other end is not invited there"
            yield Found(
                f"{_what(nic)} and {host.name} has no MPTCP endpoint {nic.address}: {lacks}",
                (str(host), *_limits(host)),
                "shown" if nic in _absent(case, host) else "likely",
                f"ip mptcp endpoint add {nic.address} dev {nic.device} {flags}",
            )


def _has(host: HostView, address: str) -> bool:
    return any(
        address == one.replace("/", " ").split()[0] for link in host.state.links.values() for one in link.addresses
    )


def _limits(host: HostView) -> tuple[str, ...]:
    limits = host.state.limits
    if limits is None:
        return ()
    return (
        f"{host.name} allows {limits.subflows} extra subflows and accepts {limits.add_addr_accepted} announced addresses",
    )


@cause(
    "endpoint-wrong-address",
    "An MPTCP endpoint has an address that no NIC of its host has.",
    shows="`ip mptcp endpoint show`, beside `ip address show`",
    remedy="`ip mptcp endpoint delete id ID`, and add it with the NIC's address",
    applies=_wanted,
)
def _wrong_address(case: Case) -> Iterator[Found]:
    for host in case.ends:
        for one in host.state.endpoints.values():
            if one.address and not _has(host, one.address):
                yield Found(
                    f"{host.name}'s MPTCP endpoint {one.id} has the address {one.address}, which no NIC of it has",
                    tuple(f"{nic.device} has {nic.address}" for nic in host.nics if nic.address),
                    "shown",
                    f"ip mptcp endpoint delete id {one.id}",
                )


@cause(
    "endpoint-wrong-device",
    "An MPTCP endpoint is bound to another device than the one that has its address.",
    shows="`ip mptcp endpoint show`, beside `ip address show`",
    remedy="`ip mptcp endpoint delete id ID`, and add it with the right device, or none",
    applies=_wanted,
)
def _wrong_device(case: Case) -> Iterator[Found]:
    for host in case.ends:
        for one in host.state.endpoints.values():
            owner = next((nic for nic in host.nics if nic.address == one.address), None)
            if owner is not None and one.device and one.device != owner.device:
                yield Found(
                    f"{host.name}'s MPTCP endpoint {one.address} is bound to {one.device}, and the address is {owner}'s",
                    (_what(owner), str(host)),
                    "shown",
                    f"ip mptcp endpoint delete id {one.id}; ip mptcp endpoint add {one.address} dev {owner.device}",
                )


@cause(
    "endpoint-backup",
    "An MPTCP endpoint has the flag backup: its path carries nothing while others work.",
    shows="`ip mptcp endpoint show`, and the flags of the subflows (`ss -ti`: b, B)",
    remedy="`ip mptcp endpoint change id ID nobackup`",
    applies=_wanted,
)
def _backup(case: Case) -> Iterator[Found]:
    for host in case.ends:
        for one in host.state.endpoints.values():
            owner = next((nic for nic in host.nics if nic.address == one.address), None)
            if owner is not None and "backup" in one.flags:
                yield Found(
                    f"{_what(owner)}: {host.name}'s endpoint {one.address} is a backup",
                    (str(host),),
                    "shown",
                    f"ip mptcp endpoint change id {one.id} nobackup",
                )


@cause(
    "endpoint-not-announced",
    "The server's MPTCP endpoint of a NIC has not the flag signal: its address is not announced.",
    shows="`ip mptcp endpoint show` at the server, and its counter AddAddrTx",
    remedy="`ip mptcp endpoint delete id ID`, and add it with the flag signal",
    applies=_wanted,
)
def _not_announced(case: Case) -> Iterator[Found]:
    server = case.server
    for nic in _suspects(case, server):
        one = _endpoint(server, nic)
        if one is not None and "signal" not in one.flags:
            yield Found(
                f"{_what(nic)}: {server.name}'s endpoint {one.address} has the flags {', '.join(one.flags) or 'none'} and is "
                "not announced",
                (server.told("AddAddrTx"), str(server)),
                "shown",
                f"ip mptcp endpoint delete id {one.id}; ip mptcp endpoint add {one.address} signal",
            )


@cause(
    "endpoint-flags",
    "The client's MPTCP endpoint of a NIC has neither the flag subflow nor fullmesh: it starts no subflow.",
    shows="`ip mptcp endpoint show` at the client",
    remedy="`ip mptcp endpoint delete id ID`, and add it with the flags subflow fullmesh",
    applies=_wanted,
)
def _no_subflow(case: Case) -> Iterator[Found]:
    client = case.client
    for nic in _suspects(case, client):
        one = _endpoint(client, nic)
        if one is not None and not {"subflow", "fullmesh"} & set(one.flags):
            yield Found(
                f"{_what(nic)}: {client.name}'s endpoint {one.address} has the flags {', '.join(one.flags) or 'none'} and "
                "starts no subflow",
                (str(client),),
                "shown",
                f"ip mptcp endpoint delete id {one.id}; ip mptcp endpoint add {one.address} subflow fullmesh",
            )


@cause(
    "subflow-limit",
    "A host's limit of MPTCP subflows is below what the paths take.",
    shows="`ip mptcp limits show`, and the subflows that are there",
    remedy="`ip mptcp limits set subflows 8 add_addr_accepted 8`, on both hosts",
    applies=_wanted,
)
def _limit(case: Case) -> Iterator[Found]:
    missing = _missing(case)
    needed = len(_pairs(case)) - 1
    for host in case.ends:
        limits = host.state.limits
        if limits is None or limits.subflows >= needed or not missing:
            continue
        if _meshed(case) or limits.subflows < len(case.paths) - 1 or _suspects(case, host):
            yield Found(
                f"{host.name} allows {limits.subflows} extra subflows, and the paths take {needed}",
                (_named(missing), *_limits(host)),
                "shown" if limits.subflows < len(case.paths) - 1 or _meshed(case) else "likely",
                "ip mptcp limits set subflows 8 add_addr_accepted 8",
            )


@cause(
    "subflow-duplicates",
    "The kernel made several subflows of one pair of addresses, and the limit was used up before others had theirs.",
    shows="the subflows of one connection at the client (`ss -tain`, by its token), and `ip mptcp limits show`",
    remedy="it is the kernel's path manager: open the connection again, or take another kernel (seen on Linux 6.1, on a slow "
    "machine)",
    applies=_wanted,
)
def _duplicates(case: Case) -> Iterator[Found]:
    missing = _missing(case)
    for several, joined in _crowded(case):
        if missing:
            pairs = ", ".join(f"{number} from {near} to {far}" for (near, far), number in several.items())
            yield Found(
                f"one connection has several subflows of the same addresses ({pairs}): its {joined} joins use up the limit",
                (_named(missing), *(line for host in case.ends for line in _limits(host))),
                "shown",
            )


def _crowded(case: Case) -> Iterator[tuple[dict[tuple[str, str], int], int]]:
    """Yield, of each connection whose joins use up a limit, its pairs of addresses with several subflows, and all joins."""
    connections: dict[str, Counter[tuple[str, str]]] = {}
    for one in _established(case):
        if one.token:
            connections.setdefault(one.token, Counter())[one.source, one.destination] += 1
    limits = [host.state.limits.subflows for host in case.ends if host.state.limits is not None]
    for pairs in connections.values():
        joined = pairs.total() - 1
        several = {pair: number for pair, number in pairs.items() if number > 1}
        if several and any(joined >= limit for limit in limits):
            yield several, joined


def _named(pairs: list[tuple[str, str]]) -> str:
    return "no established subflow " + ", ".join(f"from {near} to {far}" for near, far in pairs)


@cause(
    "address-limit",
    "The client accepts fewer announced addresses than the server has.",
    shows="`ip mptcp limits show` at the client, and its counters AddAddr and AddAddrDrop",
    remedy="`ip mptcp limits set add_addr_accepted 8` at the client",
    applies=_wanted,
)
def _not_accepted(case: Case) -> Iterator[Found]:
    client, limits = case.client, case.client.state.limits
    announced = [one for one in case.server.state.endpoints.values() if "signal" in one.flags]
    # Where the limit is known, AddAddrDrop says nothing: announcements that come a second time are dropped as well.
    few = limits.add_addr_accepted < len(announced) - 1 if limits else client.counted("AddAddrDrop") > 0
    if few and _suspects(case, case.server):
        yield Found(
            f"{client.name} accepts {limits.add_addr_accepted if limits else 'fewer'} announced addresses, and "
            f"{case.server.name} announces {len(announced)}",
            (client.told("AddAddr", "AddAddrDrop"), _named(_missing(case)) if _missing(case) else str(case.server)),
            "shown",
            "ip mptcp limits set add_addr_accepted 8",
        )


@cause(
    "no-announcement",
    "The server's announcements of its addresses do not reach the client.",
    shows=_COUNTERS,
    remedy="look for what strips ADD_ADDR (TCP option 30) on the way",
    applies=_wanted,
    follows=True,
)
def _announcement(case: Case) -> Iterator[Found]:
    client, server = case.ends
    if server.counted("AddAddrTx") and not client.counted("AddAddr", "AddAddrDrop") and _suspects(case, server):
        yield Found(
            f"{server.name} announced addresses, and no announcement reached {client.name}",
            (server.told("AddAddrTx"), client.told("AddAddr")),
            "shown",
        )


def _pending(case: Case) -> list[str]:
    return [
        f"{one.source} to {one.destination} {one.state}"
        for one in case.own(case.client)
        if one.state in ("SYN-SENT", "SYN-RECV")
    ]


def _waits(pending: list[str]) -> tuple[str, ...]:
    return (f"subflows that wait for an answer: {', '.join(pending)}",) if pending else ()


@cause(
    "join-unanswered",
    "The client's SYNs with MP_JOIN are not answered: they do not reach the server, or its answers do not come back.",
    shows=_COUNTERS,
    remedy="look for a filter between the two addresses: of SYNs, of a port, of TCP option 30, on the way there or back",
    applies=_wanted,
    follows=True,
)
def _unanswered(case: Case) -> Iterator[Found]:
    client, server = case.ends
    tried, came = client.counted("MPJoinSynTx"), server.counted("MPJoinSynRx")
    answered = client.counted("MPJoinSynAckRx")
    refused = server.counted("MPJoinRejected", "MPJoinNoTokenFound")
    pending, missing = _pending(case), _missing(case)
    evidence = (
        client.told("MPJoinSynTx", "MPJoinSynAckRx"),
        server.told("MPJoinSynRx", "MPJoinAckRx"),
        *_waits(pending),
        _named(missing),
    )
    if (tried > came and missing) or (pending and not client.has("MPJoinSynTx") and not came):
        sent = tried or len(pending)
        yield Found(f"{client.name} sent {sent} SYNs with MP_JOIN, and {came} reached {server.name}", evidence, "shown")
    elif came > answered + refused and missing:
        words = f"{server.name} got {came} SYNs with MP_JOIN, and {answered} answers reached {client.name}"
        yield Found(words, evidence, "shown")
    elif pending:
        yield Found(f"subflows of {client.name} wait for an answer: {', '.join(pending)}", evidence, "likely")


@cause(
    "join-ack-lost",
    "The third ACK of joins does not reach the server, or not with MP_JOIN.",
    shows=_COUNTERS,
    remedy="look for what strips TCP option 30 from the third ACK on the way",
    applies=_wanted,
    follows=True,
)
def _join_ack(case: Case) -> Iterator[Found]:
    client, server = case.ends
    answered, done = client.counted("MPJoinSynAckRx"), server.counted("MPJoinAckRx")
    refused = any(_crowded(case))  # one too many, and the server allows no more
    # The client holds such a subflow for established, and nothing it sends there is taken.
    if answered > done and (_missing(case) or _suspects(case, server)) and not refused:
        yield Found(
            f"{client.name} got {answered} answers to joins, and {done} of its ACKs reached {server.name}",
            (client.told("MPJoinSynAckRx"), server.told("MPJoinSynRx", "MPJoinAckRx", "MPJoinAckHMacFailure")),
            "shown",
        )


@cause(
    "join-refused",
    "A host refused or could not make joins.",
    shows=_COUNTERS,
    remedy="look at its limits, its endpoints and its routes",
    applies=_wanted,
    follows=True,
)
def _join_refused(case: Case) -> Iterator[Found]:
    names = (
        "MPJoinRejected",
        "MPJoinNoTokenFound",
        "MPJoinSynAckHMacFailure",
        "MPJoinAckHMacFailure",
        "MPJoinSynTxCreatSkErr",
        "MPJoinSynTxBindErr",
        "MPJoinSynTxConnectErr",
    )
    for host in case.ends:
        if (count := host.counted(*names)) and (_missing(case) or _suspects(case, host)):
            yield Found(
                f"{host.name} refused or could not make joins {count} times",
                (", ".join(f"{name} {host.counted(name)}" for name in names if host.counted(name)),),
                "shown",
            )


@cause(
    "endpoint-not-fullmesh",
    "The client's MPTCP endpoint has not the flag fullmesh: it joins one address of the server, and not each.",
    shows="`ip mptcp endpoint show` at the client, and the pairs of addresses with a subflow",
    remedy="`ip mptcp endpoint change id ID fullmesh`",
    applies=_wanted,
)
def _not_fullmesh(case: Case) -> Iterator[Found]:
    missing = [] if case.one_subflow_a_path else _missing(case)
    for one in case.client.state.endpoints.values():
        lacking = [pair for pair in missing if pair[0] == one.address]
        if lacking and "subflow" in one.flags and "fullmesh" not in one.flags:
            yield Found(
                f"{case.client.name}'s endpoint {one.address} is not fullmesh",
                (_named(lacking),),
                "shown",
                f"ip mptcp endpoint change id {one.id} fullmesh",
            )


@cause(
    "subflow-ended",
    "A subflow was established, and a kernel reset or left it during the traffic.",
    shows="the subflows as the traffic began and as it ended, and the kernels' counters",
    remedy="read the counters beside it; Linux resets some without the network's fault (mptcp_net-next, issue 501)",
    applies=_wanted,
    follows=True,
)
def _subflow_ended(case: Case) -> Iterator[Found]:
    ended = [line for line in case.said if "had ended before the traffic did" in line]
    if ended:
        yield Found("a subflow ended before the traffic did", tuple(case.said), "likely")


@cause(
    "no-join",
    "The client's kernel knows a path, may use it, and never tried to join it.",
    shows=_COUNTERS,
    remedy="compare with another kernel: its path manager did not act on what it was told",
    applies=_wanted,
    follows=True,
)
def _not_tried(case: Case) -> Iterator[Found]:
    client, server = case.ends
    missing = _missing(case)
    if missing and client.has("MPJoinSynTx") and client.counted("MPJoinSynTx") < len(_pairs(case)) - 1:
        yield Found(
            f"{client.name}'s kernel tried {client.counted('MPJoinSynTx')} joins of {len(_pairs(case)) - 1}",
            (client.told("MPJoinSynTx", "AddAddr", "EchoAddTx"), server.told("AddAddrTx", "EchoAdd"), _named(missing)),
            "possible",
        )


@cause(
    "mesh-incomplete",
    "Pairs of addresses of the mesh have no established subflow.",
    shows="the subflows of both ends (`ss -tai`)",
    remedy="look at the addresses that are missing: their endpoints, routes, filters",
    applies=_wanted,
    follows=True,
)
def _incomplete(case: Case) -> Iterator[Found]:
    missing = _missing(case)
    if missing and (_meshed(case) or _suspects(case, case.client)):
        yield Found(
            f"{len(missing)} of {len(_pairs(case))} pairs of addresses have no established subflow",
            (_named(missing), *_waits(_pending(case))),
            "possible",
        )
