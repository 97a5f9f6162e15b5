"""Causes in addresses, routes, rules and neighbours: where the kernel sends what, and whether the far end takes it."""

from __future__ import annotations

from collections.abc import Iterator

from channover.model.state import State
from channover.verdict.causes.case import Case, HostView, NicView, PathView, WayView
from channover.verdict.causes.kind import Found, cause

LOOSE, STRICT = "2", "1"


def _bare(address: str) -> str:
    return address.replace("/", " ").split()[0]


def _nic(host: HostView, device: str) -> str:
    return next((f"NIC {nic.name} ({nic.device})" for nic in host.nics if nic.device == device), device)


def _holds(state: State, device: str, address: str) -> bool:
    link = state.links.get(device)
    return link is not None and address in map(_bare, link.addresses)


@cause(
    "address-missing",
    "A NIC has not the address that the lab gave it.",
    shows="`ip address show`",
    remedy="`ip address add ADDRESS/LENGTH dev DEVICE`",
)
def _missing(case: Case) -> Iterator[Found]:
    for path in case.paths:
        for host, label, address in (
            (case.client, path.client_nic, path.near),
            (case.server, path.server_nic, path.far),
        ):
            nic = next((one for one in host.nics if one.name == label), None)
            if nic is None or nic.device not in host.state.links or _holds(host.state, nic.device, address):
                continue
            elsewhere = [name for name in host.state.links if _holds(host.state, name, address)]
            has = ", ".join(host.state.links[nic.device].addresses) or "no address"
            yield Found(
                f"{host.name}'s {nic} has not the lab's address {address}"
                + (f": it is on {_nic(host, elsewhere[0])}" if elsewhere else ""),
                (f"{nic.device} has {has}", str(host)),
                "shown",
                f"ip address add {address} dev {nic.device}",
            )


@cause(
    "address-duplicate",
    "Two NICs have the same address: who asks for it gets either.",
    shows="`ip address show` at all hosts",
    remedy="`ip address del ADDRESS dev DEVICE` where it does not belong",
)
def _duplicate(case: Case) -> Iterator[Found]:
    places: dict[str, list[str]] = {}
    meant = {address for path in case.paths for address in (path.near, path.far)}
    for host in case.hosts:
        for link in host.state.links.values():
            for address in map(_bare, link.addresses):
                if not address.startswith("127.") and address != "::1":
                    places.setdefault(address, []).append(f"{host.name}'s {_nic(host, link.device)}")
                    if any(nic.device == link.device for nic in host.nics):
                        meant.add(address)
    for address, where in places.items():
        if len(where) > 1 and address in meant:  # management networks may have the same one on each host
            yield Found(f"{address} is the address of {' and of '.join(where)}", (), "shown")


@cause(
    "no-route",
    "A route or rule of a host refuses what a path needs: blackhole, unreachable, prohibit, or no route at all.",
    shows="`ip route get FAR from NEAR` for each path, `ip route show table all`, `ip rule show`",
    remedy="`ip route del` or `ip rule del` what refuses, or add the route that is missing",
)
def _refuses(case: Case) -> Iterator[Found]:
    for _, way in case.ways():
        if way.refused and _has(case.host(way.host), way.source):
            lines = tuple(case.host(way.host).refusals) or ("no route leads there",)
            yield Found(f"{way.host} has no way from {way}: {way.refused}", lines, "shown")
    for host in case.ends:
        for line in host.refusals:
            words = line.replace("/", " ").split()
            if any(one in words for path in case.paths for one in (path.near, path.far)):
                yield Found(f"{host.name} refuses what a path needs: `{line}`", (str(host),), "shown")


def _has(host: HostView, address: str) -> bool:
    return any(_holds(host.state, device, address) for device in host.state.links)


def _astray(case: Case) -> Iterator[tuple[HostView, WayView]]:
    """Yield a way for each address that the kernel sends out of another NIC than the one that bears it."""
    seen: set[tuple[str, str]] = set()
    # Where no mesh is meant, the server answers one address alone.
    across = [way for way in case.crossing if not case.one_subflow_a_path or way.host == case.client.name]
    for way in (*(way for _, way in case.ways()), *across):
        host = case.host(way.host)
        bound = any(one.address == way.source and one.device for one in host.state.endpoints.values())
        led = bool(way.expected and way.device) and way.device != way.expected
        if led and not bound and (host.name, way.source) not in seen and _holds(host.state, way.expected, way.source):
            seen.add((host.name, way.source))
            yield host, way


def _rules(host: HostView, address: str) -> list[str]:
    return [
        f"{one.priority}: from {one.source} lookup {one.table}"
        for one in host.state.rules
        if address == _bare(one.source)
    ]


def _with(host: HostView, device: str) -> NicView | None:
    return next((one for one in host.nics if one.device == device), None)


def _carried(host: HostView, device: str) -> str:
    nic = _with(host, device)
    return f"NIC {nic.name} carried {nic.carried:,} bytes and " if nic is not None else ""


@cause(
    "rp-filter",
    "A host drops packets that come in by another NIC than it would answer by: strict reverse path filtering.",
    shows="`net.ipv4.conf.*.rp_filter`, and the counter TcpExtIPReversePathFilter",
    remedy="`sysctl net.ipv4.conf.all.rp_filter=2` (loose, RFC 3704, 2.4)",
)
def _rp_filter(case: Case) -> Iterator[Found]:
    for host in case.ends:
        dropped = host.counters.get("TcpExtIPReversePathFilter", 0)  # packets: requests of ARP are dropped uncounted
        # Of a LAG's members a driver has the kernel take nothing, which is meant.
        members = {one.device for end in case.lags if end.host == host.name for one in end.members}
        strict = [
            nic.device
            for nic in host.nics
            if nic.device not in members
            and max(_sysctl(host, "all", "rp_filter"), _sysctl(host, nic.device, "rp_filter")) == STRICT
        ]
        waits = any(one.state == "SYN-SENT" for one in case.own(case.client))
        silent = waits or not all(way.small for _, way in case.ways() if way.small is not None)
        if strict and (dropped or silent):
            yield Found(
                f"{host.name} filters strictly by the reverse path at {', '.join(strict)}",
                (f"it dropped {dropped:,} packets for that during the traffic",),
                "shown" if dropped else "likely",
            )


@cause(
    "no-source-rule",
    "A host has no rule that sends a NIC's address out of that NIC, so its packets leave by another one.",
    shows="`ip rule show`, and `ip route get FAR from NEAR` for each path",
    remedy="`ip rule add from ADDRESS table TABLE`, and the NIC's routes in that table",
    applies=Case.needs_paths,
)
def _no_rule(case: Case) -> Iterator[Found]:
    astray = ((host, way, _with(host, way.expected)) for host, way in _astray(case))
    # The NIC that carried least comes first: of one that carried all it would be odd to hear that its packets leave elsewhere.
    for host, way, _ in sorted(astray, key=lambda one: one[2].carried if one[2] else 0):
        if not _rules(host, way.source):
            count = host.subflow_sources.get(way.source, 0)
            yield Found(
                f"{_carried(host, way.expected)}{host.name} has no rule `from {way.source}`: the kernel sends it out of "
                f"{_nic(host, way.device)}",
                (f"{count} subflow{'s' * (count != 1)} of {host.name} had the address {way.source}", str(host)),
                "shown" if host is case.sender else "likely",
                f"ip rule add from {way.source} table TABLE, and the routes of {way.expected} in that table",
            )


@cause(
    "route-elsewhere",
    "A host has a rule for a NIC's address, and its table sends that out of another: the wrong table, or wrong routes in it.",
    shows="`ip route get FAR from NEAR` for each path, beside `ip rule show` and `ip route show table all`",
    remedy="correct the rule's table, or the routes in it",
    applies=Case.needs_paths,
)
def _wrong_route(case: Case) -> Iterator[Found]:
    for host, way in _astray(case):
        if rules := _rules(host, way.source):
            tables = {one.table for one in host.state.rules if _bare(one.source) == way.source}
            routes = [
                f"table {one.table}: {one.destination}{f' via {one.via}' if one.via else ''} dev {one.device}"
                for one in host.state.routes
                if one.table in tables
            ]
            yield Found(
                f"{_carried(host, way.expected)}{host.name} sends {way} out of {_nic(host, way.device)}, though it has a rule "
                "for it",
                (*rules, *(routes or ["the rule's table has no route"])),
                "shown" if host is case.sender else "likely",
            )


def _sysctl(host: HostView, device: str, name: str) -> str:
    return host.sysctls.get(f"net/ipv4/conf/{device}/{name}", "0")


@cause(
    "neighbour",
    "A host has a wrong MAC address for the far end, or none: what it sends there nobody takes, or it sends nothing.",
    shows="`ip neigh show` after an echo request, beside the MAC of the NIC at the other end",
    remedy="`ip neigh del ADDRESS dev DEVICE`; look for a filter of ARP or of ICMPv6, `arp_ignore`, NOARP",
)
def _neighbour(case: Case) -> Iterator[Found]:
    for path in case.paths:
        yield from _neighbours(case.client, case.server, path.far, path.server_nic, path)
        yield from _neighbours(case.server, case.client, path.near, path.client_nic, path)


def _neighbours(host: HostView, other: HostView, address: str, label: str, path: PathView) -> Iterator[Found]:
    macs = {nic.mac for nic in other.nics if nic.mac}
    own = next((nic for nic in other.nics if nic.name == label), None)
    answered = any(way.small for way in path.ways if way.host == host.name)
    for one in host.neighbours:
        if one.address != address or own is None:
            continue
        line = f"{host.name}: {address} dev {one.device} lladdr {one.mac or 'none'} {one.state}"
        if one.mac and own.mac and one.mac not in macs:
            yield Found(
                f"{host.name} takes {one.mac} for the MAC address of {address}, which is {own.mac}",
                (line,),
                "shown",
                f"ip neigh del {address} dev {one.device}",
            )
        elif one.state in ("FAILED", "INCOMPLETE") and not answered:
            ignored = [
                f"{other.name}: {name} = {value}"
                for name, value in other.sysctls.items()
                if "arp_ig" in name and value != "0"
            ]
            yield Found(
                f"{host.name} gets no answer to {_asking(address)} for {address} at {_nic(host, one.device)}",
                (line, *ignored),
                "shown",
            )


def _asking(address: str) -> str:
    return "neighbour discovery (ICMPv6)" if ":" in address else "ARP"


@cause(
    "path-silent",
    "Nothing comes back by one path, though its NICs are up and the hosts' own settings do not explain it.",
    shows="echo requests from each address to the one opposite",
    remedy="look at what lies between the two NICs: a switch, a filter, the cable",
    follows=True,
)
def _silent(case: Case) -> Iterator[Found]:
    for path in case.paths:
        ways = [way for way in path.ways if way.small is not None]
        if ways and not any(way.small for way in ways):
            lines = tuple(f"{way.host}: of {way.sent} echo requests from {way} none was answered" for way in ways)
            yield Found(f"nothing comes back by the path {path.near} to {path.far}", lines, "likely")
