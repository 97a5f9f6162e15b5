"""What a host shows of its tunnels, and of whether they could feed on themselves; nothing is changed there.

A tunnel is a device of the kinds tun and tap; its program is the one that has ``/dev/net/tun`` open for it (``iff`` in
``/proc/PID/fdinfo``, ``drivers/net/tun.c``), its carrier a TCP connection of that program, or of one that it speaks to on
this host, such as stunnel or ssh's ProxyCommand. Only root sees what other users' programs have open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from channover.errors import TestbedError
from channover.model.inner_network import inner_network
from channover.model.state import State
from channover.network.loop_guard import MATCHES_MPTCP
from channover.observe.sockets import (
    MPTCP_COMMAND,
    ROUTES_COMMAND,
    TCP_COMMAND,
    Connection,
    Pair,
    Subflow,
    parse_mptcp,
    parse_routes,
    parse_tcp,
    route_questions,
)
from channover.verdict.loop.check import ADDERS, Carrier, Seen, Sight, questions
from channover.verdict.loop.rules import Address, Filters

Ask = Callable[[str, str], str]
"""Has a host run a shell script with some standard input, and returns its standard output. Raises TestbedError."""

_MARK = "@channover"
_QUERY = "address show\nrule show\nroute show table default\nmptcp endpoint show\nmptcp limits show\n"
"""What :class:`State` is parsed from, but for routes: of those a host may have a million, and none is looked at."""
_SAVERS = tuple(f"{family}tables-{kind}save" for family in ("ip", "ip6") for kind in ("legacy-", "nft-", ""))
"""Programs that print the rules of iptables: of both kinds where the host says which is which, else the one that it has."""
_SCRIPT = f"""\
LC_ALL=C; export LC_ALL
say() {{ printf '\\n{_MARK} %s\\n' "$1"; }}
say user; id -u
say missing; for program in ip ss; do command -v "$program" > /dev/null || echo "$program"; done
say state; ip -j -d -s -s -N -force -batch - 2> /dev/null
say tcp; {" ".join(TCP_COMMAND)}p
say mptcp; {" ".join(MPTCP_COMMAND)}p 2> /dev/null
say processes; grep -sH -e '^Name:' -e '^PPid:' /proc/[0-9]*/status
say here; readlink /proc/self/ns/net
say held; grep -rsH '^iff:' /proc/[0-9]*/fdinfo 2> /dev/null | while IFS=/ read -r _ _ pid _ rest; do
    echo "$pid $(readlink "/proc/$pid/ns/net") ${{rest##*:}}"
done
say manager; cat /proc/sys/net/mptcp/path_manager 2> /dev/null || cat /proc/sys/net/mptcp/pm_type 2> /dev/null
say nft; if command -v nft > /dev/null; then nft -j list ruleset 2> /dev/null || echo refused; fi
for program in {" ".join(_SAVERS)}; do
    say "$program"; if command -v "$program" > /dev/null; then "$program" -c 2> /dev/null; fi
done
say option; nft --check -f - > /dev/null 2>&1 <<'END' && echo yes
{MATCHES_MPTCP.ruleset}END
:
"""
_USER = re.compile(r"pid=(\d+)")
_KINDS = ("tun", "tap")
_INSIDE = ("127.", "::1", "[::1]")


@dataclass(frozen=True)
class Reading:
    """What a host has shown; ``option`` says that its nft can match MPTCP's option."""

    sight: Sight
    option: bool


def read(host: str, ask: Ask) -> Reading:
    """Look at a host. Raises TestbedError where it does not answer, or lacks a program."""
    parts = _parts(ask(_SCRIPT, _QUERY))
    if missing := parts.get("missing", "").split():
        raise TestbedError(f"{host}: there is no '{missing[0]}': install iproute2 there")
    try:
        sight = _sight(parts)
    except (ValueError, KeyError, IndexError) as error:
        raise TestbedError(
            f"{host}: what it says cannot be read: {str(error)[:200]}; install iproute2 5.0 or newer"
        ) from None
    return Reading(replace(sight, routed=_routed(questions(sight), ask)), parts.get("option", "").strip() == "yes")


def _parts(text: str) -> dict[str, str]:
    """Return the script's answer by its titles."""
    found = re.split(rf"^{_MARK} (\S+)\n", text, flags=re.MULTILINE)
    return dict(zip(found[1::2], (part.removesuffix("\n") for part in found[2::2]), strict=True))


def _sight(parts: Mapping[str, str]) -> Sight:
    state = State.parse(parts["state"])
    privileged = parts["user"].strip() == "0"
    limits = state.limits
    processes = _Processes.parse(parts)
    return Sight(
        tunnels=tuple(_tunnels(state, processes, parts)),
        endpoints=tuple(state.endpoints.values()),
        subflow_limit=limits.subflows if limits else 0,
        accepted=limits.add_addr_accepted if limits else 0,
        in_kernel=parts.get("manager", "").strip() in ("", "0", "kernel"),
        adders=tuple(name for name in ADDERS if name in processes.names.values()),
        filters=_filters(parts, privileged),
        privileged=privileged,
    )


def _filters(parts: Mapping[str, str], privileged: bool) -> Filters | None:
    if not privileged or parts["nft"].strip() == "refused":
        return None
    found = Filters()
    if parts["nft"].strip():
        found.add_nft(parts["nft"])
    for program in _SAVERS:
        found.add_iptables(parts[program], "ip6" if program.startswith("ip6") else "ip", program)
    return found


@dataclass
class _Processes:
    """A host's processes, as far as they may be seen, and their sockets."""

    names: dict[int, str] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    sockets: list[tuple[Subflow, frozenset[int]]] = field(default_factory=list)
    connections: list[tuple[Connection, frozenset[int]]] = field(default_factory=list)

    @classmethod
    def parse(cls, parts: Mapping[str, str]) -> _Processes:
        found = cls()
        for line in parts["processes"].splitlines():
            match = re.match(r"/proc/(\d+)/status:(\w+):\s*(.*)", line)
            if match and match[2] == "Name":
                found.names[int(match[1])] = match[3]
            elif match:
                found.parents[int(match[1])] = int(match[3])
        found.sockets = list(zip(parse_tcp(parts["tcp"]), _users(parts["tcp"]), strict=True))
        found.connections = list(zip(parse_mptcp(parts["mptcp"]), _users(parts["mptcp"]), strict=True))
        return found

    def family(self, pid: int) -> set[int]:
        """Return a program, and those of this host that it speaks to by TCP, or has started to speak for it."""
        found, new = {pid}, {pid}
        while new:
            own = [one for one, users in self.sockets if users & new and not one.listening]
            peers = {(one.destination, one.destination_port, one.source, one.source_port) for one in own}
            reached = {user for one, users in self.sockets if one.pair in peers for user in users}
            if not own:
                reached |= {child for child, parent in self.parents.items() if parent in new}
            new = reached - found
            found |= new
        return found


def _users(text: str) -> Iterator[frozenset[int]]:
    """Yield the processes that have each socket of an answer of ``ss -p``, in its order."""
    for line in text.splitlines():
        if line and line[0] not in "\t ":
            yield frozenset(int(pid) for pid in _USER.findall(line))


def _tunnels(state: State, processes: _Processes, parts: Mapping[str, str]) -> Iterator[Seen]:
    here = parts["here"].strip()
    holders: dict[str, int] = {}
    for line in parts["held"].splitlines():
        number, _, rest = line.partition(" ")
        namespace, _, device = rest.partition(" ")
        if namespace == here and device.strip():
            holders.setdefault(device.strip(), int(number))
    present = [name for name, link in state.links.items() if link.kind in _KINDS]
    for device in (*present, *(name for name in holders if name not in state.links)):
        own, far, networks = _inside(state, device)
        pid = holders.get(device, 0)
        carriers = tuple(_carriers(processes, pid, networks)) if pid else ()
        name = processes.names.get(pid, "a program") if pid else ""
        apart = device not in state.links
        if not apart or any(one.mptcp for one in carriers):  # a hypervisor's taps are elsewhere as well, and no tunnels
            yield Seen(device, own, far, networks, name, pid, carriers, apart)


def _inside(
    state: State, device: str
) -> tuple[tuple[Address, ...], tuple[Address, ...], tuple[IPv4Network | IPv6Network, ...]]:
    """Return a tunnel's own addresses, far ones as far as they are known, and its networks."""
    own: list[Address] = []
    far: list[Address] = []
    networks: list[IPv4Network | IPv6Network] = []
    for text in state.links[device].addresses if device in state.links else ():
        local, _, rest = text.partition(" peer ")
        interface = ip_interface(local if not rest else f"{local}/{rest.partition('/')[2]}")
        own.append(interface.ip)
        if rest:
            peer = ip_interface(rest)
            far.append(peer.ip)
            networks += _between(interface.ip, peer.network)
        else:
            networks.append(interface.network)
            far += [one for one in (interface.ip - 1, interface.ip + 1) if _usable(one, interface.network)][:1]
    return tuple(own), tuple(far), tuple(networks)


def _usable(address: Address, network: IPv4Network | IPv6Network) -> bool:
    """Whether another host of a network may have an address: it is neither the network's own nor that of a broadcast."""
    reserved = {network.network_address, network.broadcast_address} if network.num_addresses > 2 else set()
    return address in network and address not in reserved


def _between(own: Address, far: IPv4Network | IPv6Network) -> list[IPv4Network | IPv6Network]:
    """Return the network of two point-to-point addresses, or each by itself where they are far apart."""
    if own.version == 4 and far.num_addresses == 1:
        try:
            return [inner_network(str(own), str(far.network_address))]
        except ValueError:
            pass
    return [ip_network(str(own)), far]


def _carriers(processes: _Processes, pid: int, networks: Iterable[IPv4Network | IPv6Network]) -> list[Carrier]:
    """Return the connections that carry what a program holds: those that are not for this host alone, nor within the tunnel."""
    family = processes.family(pid)
    fallen = {one.token for one, _ in processes.connections if one.fallback and one.token}
    tokens = {one.token for one, users in processes.connections if users & family and one.token}
    groups: dict[object, list[Subflow]] = {}
    for one, users in processes.sockets:
        if (
            one.listening
            or one.source.startswith(_INSIDE)
            or not (users & family or (one.token and one.token in tokens))
        ):
            continue
        groups.setdefault(one.token or one.pair, []).append(one)
    found = [_carrier(group, group[0].mptcp and group[0].token not in fallen) for group in groups.values()]
    outside = [one for one in found if any(not _within(flow.source, networks) for flow in one.subflows)]
    found = outside or found
    several = [one for one in found if one.mptcp]
    if several:
        return several
    if len(found) == 1:
        return found
    return found or [
        Carrier((), one.mptcp, one.source_port, True)
        for one, users in processes.sockets
        if one.listening and pid in users
    ]


def _within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    return any(ip_address(address.partition("%")[0]) in network for network in networks)


def _carrier(flows: list[Subflow], mptcp: bool) -> Carrier:
    """Return a connection's port at its server: the one that all of its subflows share, else the lesser."""
    near, far = ({one.source_port for one in flows}, {one.destination_port for one in flows})
    first = flows[0]
    serving = len(near) == 1 and (len(far) > 1 or first.source_port < first.destination_port)
    return Carrier(tuple(flows), mptcp, first.source_port if serving else first.destination_port, serving)


def _routed(pairs: Iterable[Pair], ask: Ask) -> dict[Pair, str]:
    """Ask by which device packets leave."""
    wanted = list(pairs)
    return parse_routes(ask(f"{' '.join(ROUTES_COMMAND)} 2> /dev/null; :", route_questions(wanted))) if wanted else {}
