"""From what was seen of a lab to the likeliest cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channover import extend
from channover.model.state import Endpoint, Limits, LinkState, Rule, State
from channover.observe.sockets import Subflow
from channover.report.results import Results, TestResult
from channover.verdict.causes.case import (
    Case,
    FilterView,
    GuardView,
    HashedView,
    HostView,
    LagView,
    MemberView,
    NeighbourView,
    NicView,
    PathView,
    ProgramView,
    QdiscView,
    TunnelView,
    WayView,
)
from channover.verdict.causes.catalogue import CAUSES, explain
from channover.verdict.causes.cause import UNEXPLAINED, Cause, Explanation
from channover.verdict.causes.reference import reference
from tests.support.runs import RUN

PORT = 5201
NETS = ("10.93.93", "10.94.94")
WORKING = frozenset({"activity", "timeout", "aggregation", "synchronized", "collecting", "distributing"})
COUNTED = {
    "left": {"MPCapableSYNTX": 2, "MPJoinSynTx": 3, "MPJoinSynAckRx": 3, "AddAddr": 1, "MPCapableFallbackSYNACK": 0},
    "right": {"MPCapableSYNRX": 2, "MPJoinSynRx": 3, "MPJoinAckRx": 3, "AddAddrTx": 1, "MPJoinRejected": 0},
}


def host(name: str, last: int, carried: tuple[int, int] = (50_000_000, 50_000_000)) -> HostView:
    """Return a host that is as it should be: two NICs, addresses, rules, endpoints, subflows of the whole mesh."""
    flags = ("subflow", "fullmesh") if name == "left" else ("signal",)
    own = [f"{net}.{last}" for net in NETS]
    links = {f"eth{n}": LinkState(f"eth{n}", True, 1500, "", (f"{own[n - 1]}/30",), f"02:{last}:{n}") for n in (1, 2)}
    state = State(
        links=links,
        rules=tuple(Rule(100 + n, own[n - 1], 100 + n) for n in (1, 2)),
        endpoints={n: Endpoint(n, own[n - 1], flags, None) for n in (1, 2)},
        limits=Limits(8, 8),
    )
    nics = [
        NicView(label, f"eth{n}", carried[n - 1], own[n - 1], mac=f"02:{last}:{n}", mtu=1500)
        for n, label in enumerate("ab", start=1)
    ]
    sockets = [socket(near, far, last) for near in NETS for far in NETS]
    counters = {f"MPTcpExt{key}": value for key, value in COUNTED[name].items()}
    return HostView(name, nics, state, {}, sockets, counters)


def socket(near: str, far: str, last: int = 1, **changes: Any) -> Subflow:
    ports = (40000, PORT) if last == 1 else (PORT, 40000)
    made = Subflow(
        f"{near}.{last}",
        ports[0],
        f"{far}.{3 - last}",
        ports[1],
        None,
        "ESTAB",
        mptcp=True,
        bytes_sent=10_000_000,
        busy=5.0,
    )
    return replace(made, **changes)


def ways(net: str, **changes: Any) -> list[WayView]:
    device = f"eth{NETS.index(net) + 1}"
    plain = {"device": device, "sent": 3, "small": 3, "full": 3, **changes}
    return [
        WayView("left", f"{net}.1", f"{net}.2", device, **plain),
        WayView("right", f"{net}.2", f"{net}.1", device, **{**plain, "device": device}),
    ]


def case(**changes: Any) -> Case:
    """Return what is seen of a lab that is as it should be, where too little came by two paths."""
    paths = [PathView(label, label, f"{net}.1", f"{net}.2", ways(net)) for label, net in zip("ab", NETS, strict=True)]
    whole = Case(
        host("left", 1),
        host("right", 2),
        True,
        ports=frozenset({PORT}),
        paths=paths,
        transport="mptcp",
        unit="bit/s",
        link=1e8,
        measured=9e7,
        seconds=5.0,
        about="goodput",
    )
    return replace(whole, **changes)


def one_idle(**changes: Any) -> HostView:
    """Return the client with its second NIC idle, and changed otherwise."""
    return replace(host("left", 1, (50_000_000, 558)), **changes)


def state_of(view: HostView, **changes: Any) -> State:
    return replace(view.state, **changes)


def only_a(view: HostView) -> list[Subflow]:
    return [one for one in view.sockets if not one.source.startswith(NETS[1])]  # type: ignore[misc]


def at(path: int, **changes: Any) -> list[PathView]:
    paths = list(case().paths)
    paths[path] = replace(paths[path], ways=ways(NETS[path], **changes))
    return paths


def counted(view: HostView, **counts: int) -> HostView:
    return replace(view, counters={**view.counters, **{f"MPTcpExt{name}": value for name, value in counts.items()}})


LEFT, RIGHT = host("left", 1), host("right", 2)
ENDPOINT = LEFT.state.endpoints
IMPLICIT = {1: replace(RIGHT.state.endpoints[1], flags=("implicit",))}
"""What a kernel notes of an address that a join came to."""
PENDING = [*only_a(LEFT), socket(NETS[1], NETS[1], state="SYN-SENT")]


def changed(number: int, **changes: Any) -> State:
    return state_of(LEFT, endpoints={**ENDPOINT, number: replace(ENDPOINT[number], **changes)})


def link_b(**changes: Any) -> HostView:
    """Return the client with its second NIC idle, whose link is otherwise."""
    links = {**LEFT.state.links, "eth2": replace(LEFT.state.links["eth2"], **changes)}
    return one_idle(state=state_of(LEFT, links=links))


def passive(name: str) -> LagView:
    return lag(name, *(member(device, actor=WORKING - {"activity"}) for device in ("eth1", "eth2")))


def tunnel(**changes: Any) -> TunnelView:
    names = {"left": "tun0", "right": "tun0"}
    return replace(TunnelView("openvpn", 1200, "10.91.91.0/30", names, {"left": 1500, "right": 1500}), **changes)


def through(**changes: Any) -> Case:
    """Return a case of traffic through a tunnel that is up."""
    links = []
    for number, view in enumerate((LEFT, RIGHT), start=1):
        device = LinkState("tun0", True, 1500, "", (f"10.91.91.{number}/30",))
        links.append({**view.state.links, "tun0": device})
    ends = [replace(view, state=state_of(view, links=found)) for view, found in zip((LEFT, RIGHT), links, strict=True)]
    return case(client=ends[0], server=ends[1], tunnel=tunnel(**changes))


def standing(seconds: float) -> Case:
    """Return a case of traffic through a tunnel in which a round trip takes so long, while its carrier waits for data."""
    found = through(network="10.91.91.0/30")
    inside = replace(
        socket("10.91.91", "10.91.91"), source_port=41000, destination_port=41001, rtt=seconds, mptcp=False
    )
    carriers = [socket(net, net, rtt=0.06, busy=0.6) for net in NETS]
    sender = replace(found.client, sockets=[*carriers, inside])
    return replace(found, client=sender, unit="bit/s", seconds=3.6)


def beyond(switched_off: str, network: str = "10.91.91.0/30") -> Case:
    """Return a case of traffic through a tunnel to a host beyond its far end, which has a parameter switched off."""
    found = through(network=network)
    return replace(
        found, server=replace(found.server, sysctls={switched_off: "0"}), others=[HostView("beyond", [], State())]
    )


def member(device: str, **changes: Any) -> MemberView:
    plain = MemberView(device, True, 1, WORKING, WORKING, "02:00", 9, 9, True, "", True, 50_000_000)
    return replace(plain, **changes)


def lag(name: str = "left", *members: MemberView, **changes: Any) -> LagView:
    found = members or (member("eth1"), member("eth2"))
    plain = LagView(name, "bond0", "layer2", "layer2", "fast", "fast", 2, found, active_ports=2)
    return replace(plain, **changes)


def lags(one: LagView, other: LagView | None = None) -> Case:
    return case(mptcp=False, paths=[], several=False, transport="tcp", lags=[one, other or lag("right")])


def hashed(**seen: Any) -> Case:
    """Return a case of a LAG that is as it should be, over which flows went otherwise."""
    return replace(lags(lag()), hashed=[HashedView("IPv4 left→right", "left", **seen)])


def guards(**met: int) -> list[GuardView]:
    return [GuardView("left", "guard", {"by_source": 5}), GuardView("right", "guard", met or None)]


SIX = ("fd00:93:1::1", "fd00:93:1::2")


def six(device: str = "", rules: Sequence[Rule] = (), **changes: Any) -> Case:
    """Return a case whose second path goes by IPv6, its client otherwise: nothing comes back by that path.

    ``device`` is what the client's kernel chooses for it, where that is another one; ``rules`` are more of its own.
    """
    silent = [
        replace(way, source=source, destination=far, small=0, full=0)
        for way, source, far in zip(ways(NETS[1]), SIX, SIX[::-1], strict=True)
    ]
    ends = []
    for view, address in zip((LEFT, RIGHT), SIX, strict=True):
        links = {**view.state.links, "eth2": replace(view.state.links["eth2"], addresses=(f"{address}/64",))}
        nics = [view.nics[0], replace(view.nics[1], address=address, carried=558)]
        ends.append(replace(view, nics=nics, state=state_of(view, links=links, rules=(*view.state.rules, *rules))))
    if device:
        silent[0] = replace(silent[0], device=device, small=3, full=3)
    return case(
        client=replace(ends[0], **{"sockets": only_a(LEFT), **changes}),
        server=ends[1],
        paths=[case().paths[0], replace(case().paths[1], near=SIX[0], far=SIX[1], ways=silent)],
    )


SYSCTLS = {"net/mptcp/enabled": "1"}
DROP = FilterView("inet x", "c", "ip saddr 10.94.94.1 drop", "drop", 12)
SILENT = [socket(near, far, backoff=4 * (near != NETS[0])) for near in NETS for far in NETS]
LOSSY = [socket(near, far, bytes_retransmitted=900_000) for near in NETS for far in NETS]
RIDING = ["left: source: subflow 10.91.91.1:1 carries the tunnel within itself"]
FALLEN = ["left: a is a fallback"]


def duplicated(limit: int = 4, own: str = "251992cd") -> Case:
    """Return what a machine of Linux 6.1 showed: four subflows of one pair of addresses, and the limit used up.

    ``own`` is their connection's token; without one, each is a connection by itself.
    """
    whole = host("left", 1)
    sockets = [socket(NETS[0], NETS[0], token=own or "0")]
    sockets += [socket(NETS[1], NETS[1], token=own or str(n), source_port=40000 + n) for n in range(1, 5)]
    left = replace(whole, sockets=sockets, state=replace(whole.state, limits=Limits(limit, 8)))
    counters = {"MPTcpExtMPJoinSynRx": 5, "MPTcpExtMPJoinAckRx": 4}
    left = replace(left, counters={**left.counters, "MPTcpExtMPJoinSynAckRx": 5})
    right = replace(host("right", 2), counters=counters)
    return case(client=left, server=right, about="address pairs of the mesh at left", unit="1", measured=2.0)


CASES: dict[str, tuple[Callable[[], Case], str]] = {
    "healthy": (case, UNEXPLAINED),
    "duplicates": (duplicated, "subflow-duplicates"),
    "stopped": (lambda: case(programs=[ProgramView("left", "iperf3", "stopped")]), "program-stopped"),
    "ended": (lambda: case(programs=[ProgramView("left", "sshd", "ended with code 1", "oom")]), "program-ended"),
    "app": (
        lambda: case(
            client=replace(LEFT, sockets=[socket(NETS[0], NETS[0], busy=1.0), socket(NETS[1], NETS[1], busy=1.5)])
        ),
        "sender-limited",
    ),
    "down": (
        lambda: case(client=link_b(up=False)),
        "nic-down",
    ),
    "pulled": (
        lambda: case(client=link_b(carrier=False)),
        "no-carrier",
    ),
    "IPv6 off": (
        lambda: six(sysctls={"net/ipv6/conf/eth2/disable_ipv6": "1"}),
        "ipv6-off",
    ),
    "too small for IPv6": (
        lambda: six(nics=[LEFT.nics[0], replace(LEFT.nics[1], address=SIX[0], mtu=1279)]),
        "ipv6-off",
    ),
    "no neighbour of IPv6": (lambda: six(neighbours=[NeighbourView(SIX[1], "eth2", "", "FAILED")]), "neighbour"),
    "rule of IPv6 to another table": (
        lambda: six(device="eth1", rules=[Rule(50, SIX[0], 101)]),
        "route-elsewhere",
    ),
    "no rule of IPv6": (lambda: six(device="eth1"), "no-source-rule"),
    "shaped": (lambda: case(client=replace(LEFT, qdiscs=[QdiscView("eth2", "tbf", "tbf rate 8Mbit", 99)])), "qdisc"),
    "mtu": (lambda: case(server=replace(RIGHT, nics=[RIGHT.nics[0], replace(RIGHT.nics[1], mtu=1400)])), "mtu"),
    "black hole": (lambda: case(paths=at(1, full=0)), "mtu-blackhole"),
    "filter": (lambda: case(client=one_idle(sockets=PENDING), server=replace(RIGHT, filters=[DROP])), "filter"),
    "filter of no counter": (
        lambda: case(client=one_idle(sockets=PENDING), server=replace(RIGHT, filters=[replace(DROP, packets=None)])),
        "filter",
    ),
    "filter that met nothing": (lambda: case(server=replace(RIGHT, filters=[replace(DROP, packets=0)])), UNEXPLAINED),
    "no address": (
        lambda: case(client=link_b(addresses=())),
        "address-missing",
    ),
    "no route": (lambda: case(paths=at(1, device="", refused="Network is unreachable")), "no-route"),
    "no rule": (
        lambda: case(client=one_idle(state=state_of(LEFT, rules=LEFT.state.rules[:1])), paths=at(1, device="eth1")),
        "no-source-rule",
    ),
    "wrong table": (lambda: case(client=one_idle(), paths=at(1, device="eth1")), "route-elsewhere"),
    "bound": (lambda: case(client=one_idle(state=changed(2, device="eth2")), paths=at(1, device="eth1")), UNEXPLAINED),
    "reverse path": (
        lambda: case(
            client=one_idle(sockets=PENDING),
            server=replace(RIGHT, sysctls={f"net/ipv4/conf/{each}/rp_filter": "1" for each in ("all", "eth2")}),
        ),
        "rp-filter",
    ),
    "neighbour": (
        lambda: case(client=one_idle(neighbours=[NeighbourView("10.94.94.2", "eth2", "02:99:99", "PERMANENT")])),
        "neighbour",
    ),
    "flaps": (
        lambda: case(client=replace(LEFT, nics=[*LEFT.nics[:-1], replace(LEFT.nics[-1], flaps=4)])),
        "carrier-flaps",
    ),
    "no neighbour": (
        lambda: case(
            client=one_idle(neighbours=[NeighbourView("10.94.94.2", "eth2", "", "FAILED")]), paths=at(1, small=0)
        ),
        "neighbour",
    ),
    "silent": (lambda: case(client=one_idle(), paths=at(1, small=0, full=0)), "path-silent"),
    "off": (lambda: case(server=replace(RIGHT, sysctls={"net/mptcp/enabled": "0"}), fallbacks=FALLEN), "mptcp-off"),
    "plain": (lambda: case(client=counted(LEFT, MPCapableSYNTX=0), fallbacks=FALLEN), "mptcp-not-asked"),
    "stripped": (
        lambda: case(
            client=counted(LEFT, MPCapableFallbackSYNACK=2),
            server=counted(RIGHT, MPCapableSYNRX=0),
            fallbacks=FALLEN,
        ),
        "mptcp-fallback",
    ),
    "nothing arrived": (
        lambda: case(
            client=counted(one_idle(), MPCapableSYNTX=2, Blackhole=1),
            server=replace(
                counted(RIGHT, MPCapableSYNRX=0), counters={"TcpPassiveOpens": 0, "MPTcpExtMPCapableSYNRX": 0}
            ),
            paths=at(1, small=0, full=0),
        ),
        "path-silent",
    ),
    "box that takes nothing": (lambda: case(client=replace(LEFT, middlebox=True), missed="too much"), "option-intact"),
    "checksum": (lambda: case(client=counted(LEFT, DataCsumErr=4)), "mptcp-checksum"),
    "no endpoint": (
        lambda: case(client=one_idle(state=state_of(LEFT, endpoints={1: ENDPOINT[1]}), sockets=only_a(LEFT))),
        "no-endpoint",
    ),
    "endpoint's address": (
        lambda: case(client=one_idle(state=changed(2, address="10.7.7.7"))),
        "endpoint-wrong-address",
    ),
    "endpoint's device": (lambda: case(client=one_idle(state=changed(2, device="eth1"))), "endpoint-wrong-device"),
    "backup": (lambda: case(client=one_idle(state=changed(2, flags=("subflow", "backup")))), "endpoint-backup"),
    "flags": (lambda: case(client=one_idle(state=changed(2, flags=("signal",)))), "endpoint-flags"),
    "limit": (
        lambda: case(client=one_idle(state=state_of(LEFT, limits=Limits(0, 8)), sockets=only_a(LEFT))),
        "subflow-limit",
    ),
    "lost join of one subflow a path": (
        lambda: case(
            client=counted(
                one_idle(
                    state=state_of(
                        LEFT, endpoints={n: replace(one, flags=("subflow",)) for n, one in ENDPOINT.items()}
                    ),
                    sockets=only_a(LEFT),
                ),
                MPJoinSynAckRx=0,
            ),
            server=replace(counted(RIGHT, MPJoinSynRx=0), state=state_of(RIGHT, endpoints={})),
        ),
        "join-unanswered",
    ),
    "no backup": (
        lambda: case(
            client=replace(
                LEFT,
                state=state_of(LEFT, endpoints={n: replace(one, flags=("subflow",)) for n, one in ENDPOINT.items()}),
            ),
            server=replace(RIGHT, state=state_of(RIGHT, endpoints=IMPLICIT)),
            missed="too much",
        ),
        "no-backup",
    ),
    "lost joins": (
        lambda: case(client=counted(one_idle(sockets=PENDING), MPJoinSynAckRx=0), server=counted(RIGHT, MPJoinSynRx=0)),
        "join-unanswered",
    ),
    "lost announcements": (
        lambda: case(client=counted(one_idle(), AddAddr=0), server=host("right", 2, (50_000_000, 558))),
        "no-announcement",
    ),
    "not tried": (
        lambda: case(
            client=counted(one_idle(sockets=only_a(LEFT)), MPJoinSynTx=1), server=counted(RIGHT, MPJoinSynRx=1)
        ),
        "no-join",
    ),
    "window": (
        lambda: case(server=replace(RIGHT, sysctls={"net/ipv4/tcp_rmem": "4096 8192 16384"})),
        "receive-buffer",
    ),
    "send buffer": (lambda: case(client=replace(LEFT, sysctls={"net/ipv4/tcp_wmem": "4096 8192 8192"})), "send-buffer"),
    "loss": (lambda: case(client=replace(LEFT, sockets=LOSSY)), "loss"),
    "stale late": (lambda: case(server=replace(RIGHT, sysctls={"net/mptcp/stale_loss_cnt": "100"})), "stale-late"),
    "never stale": (lambda: case(server=replace(RIGHT, sysctls={"net/mptcp/stale_loss_cnt": "0"})), "stale-late"),
    "loss uncounted": (
        lambda: case(client=counted(replace(LEFT, sockets=SILENT), SubflowStale=1, SubflowRecover=1, MPTCPRetrans=25)),
        "loss-uncounted",
    ),
    "gives up": (lambda: case(server=replace(RIGHT, sysctls={"net/ipv4/tcp_retries2": "3"})), "gives-up-early"),
    "control by MPTCP": (lambda: case(mptcp=False, transport="tcp", missed="too much", several=False), "mptcp-unasked"),
    "control by MPTCP, on a slower path": (lambda: case(mptcp=False, transport="tcp"), "mptcp-unasked"),
    "control by MPTCP, gone": (
        lambda: case(
            client=replace(LEFT, sockets=()),
            server=replace(RIGHT, sockets=()),
            mptcp=False,
            transport="tcp",
            missed="too much",
        ),
        "mptcp-unasked",
    ),
    "too much": (lambda: case(missed="too much"), "endpoint-left"),
    "rules there": (
        lambda: case(missed="too much", server=replace(RIGHT, state=state_of(RIGHT, endpoints={}))),
        "rule-left",
    ),
    "loop": (
        lambda: through(loops=["left: source: subflow 10.91.91.1:1 carries the tunnel within itself"]),
        "tunnel-loop",
    ),
    "latent": (lambda: replace(through(loops=RIDING), missed="too much"), "loop-latent"),
    "joined": (lambda: replace(through(loops=RIDING), about="signs of a loop by pending at left"), "loop-joined"),
    "not offered": (lambda: replace(through(), about="signs of a loop by source at left"), "loop-not-offered"),
    "a gateway that forwards no IPv4": (lambda: beyond("net/ipv4/ip_forward"), "tunnel-route-missing"),
    "a gateway that forwards no IPv6": (
        lambda: beyond("net/ipv6/conf/all/forwarding", "fd00:96::/124"),
        "tunnel-route-missing",
    ),
    "a gateway that forwards what is asked for": (
        lambda: beyond("net/ipv4/ip_forward", "fd00:96::/124"),
        UNEXPLAINED,
    ),
    "standing queue in a tunnel's program": (
        lambda: standing(12.6),
        "tunnel-standing-queue",
    ),
    "a tunnel whose carrier is as slow": (lambda: standing(0.4), "sender-limited"),
    "beyond the window": (
        lambda: case(
            server=replace(RIGHT, counters={"MPTcpExtNoDSSInWindow": 48}),
            client=replace(LEFT, counters={"MPTcpExtMPTCPRetrans": 34}),
        ),
        "mptcp-beyond-window",
    ),
    "switch killed": (
        lambda: lags(lag(refused="right: Open vSwitch ended with code -9; its last words: ")),
        "program-ended",
    ),
    "switch silent": (
        lambda: lags(lag(refused="right: 'ovs-appctl bond/show' did not end within 30 s")),
        "program-stopped",
    ),
    "no bond": (lambda: lags(lag(refused="right: 'ovs-appctl bond/show' ended with code 2: no such bond")), "lag-mode"),
    "spoilt": (lambda: case(spoilt="9 bytes were sent, 9 arrived, and they are not the same"), "stream-spoilt"),
    "tunnel gone": (lambda: case(tunnel=tunnel()), "tunnel-down"),
    "guard unloaded": (lambda: through(guards=guards()), "guard-not-loaded"),
    "guard unmet": (lambda: through(guards=guards(by_source=0)), "guard-never-met"),
    "tunnel's sizes": (lambda: through(mtus={"left": 1500, "right": 1300}), "tunnel-mtu"),
    "mode": (lambda: lags(lag(refused="the bond's mode is balance-rr, not IEEE 802.3ad")), "lag-mode"),
    "few members": (lambda: lags(lag("left", member("eth1"))), "lag-member-missing"),
    "dead member": (lambda: lags(lag("left", member("eth1"), member("eth2", linked=False))), "lag-member-down"),
    "passive": (
        lambda: lags(passive("left"), passive("right")),
        "lacp-passive",
    ),
    "keys": (lambda: lags(lag("left", member("eth1"), member("eth2", actor_key=7))), "lacp-keys"),
    "partners": (lambda: lags(lag("left", member("eth1"), member("eth2", partner_system="02:77"))), "lacp-partners"),
    "one way": (lambda: lags(lag("left", member("eth1"), member("eth2", heard=False))), "lacp-one-way"),
    "unheard, by members that take no packets themselves": (
        lambda: replace(
            lags(*(lag(name, member("eth1"), member("eth2", heard=False)) for name in ("left", "right"))),
            client=replace(
                LEFT,
                sysctls={f"net/ipv4/conf/{each}/rp_filter": "1" for each in ("eth1", "eth2")},
                sockets=[socket(NETS[0], NETS[0], state="SYN-SENT")],
            ),
        ),
        "lacp-unheard",
    ),
    "unheard": (
        lambda: lags(*(lag(name, member("eth1"), member("eth2", heard=False)) for name in ("left", "right"))),
        "lacp-unheard",
    ),
    "rate": (lambda: lags(lag(rate="slow")), "lacp-rate"),
    "delay": (lambda: lags(lag(text="updelay: 0 ms\ndowndelay: 2000 ms\n")), "lag-delay"),
    "least links": (lambda: lags(lag(text="Min links: 3\n")), "lag-min-links"),
    "hash": (lambda: lags(lag(policy="layer3+4")), "hash-policy"),
    "buckets": (lambda: replace(lags(lag(buckets={"eth1": 256})), several=True), "buckets-not-dealt"),
    "lost for a while": (lambda: lags(lag(lost=["eth2"])), "lag-member-lost"),
    "astray": (lambda: hashed(astray=["port 6001 sent by a, arrived by b"]), "flows-astray"),
    "moved": (lambda: hashed(moved=["port 6000 by a and b"]), "flows-moved"),
    "elsewhere": (lambda: hashed(elsewhere=["port 6000 by b, where its hash says a"]), "flows-elsewhere"),
    "active": (lambda: lags(lag("right", asked_passive=True), lag("left", asked_passive=True)), "lacp-active"),
    "altered": (
        lambda: lags(lag("left", member("eth1"), member("eth2", actor_system="02:00", actor_key=2))),
        "lacp-altered",
    ),
    "pending": (lambda: lags(lag(pending="eth2: the actor is not collecting")), "lag-member-idle"),
}


@pytest.mark.parametrize(("make", "first"), CASES.values(), ids=CASES)
def test_the_likeliest_cause_comes_first(make: Callable[[], Case], first: str) -> None:
    found = explain(make())
    assert found[0].id == first, Explanation(found).lines


def _addressed(device: str, address: str) -> Case:
    """Return a case in which both hosts have an address on a device of this name."""
    seen = case()
    one, other = (
        replace(
            each,
            state=replace(
                each.state, links={**each.state.links, device: LinkState(device, True, 1500, "", (f"{address}/24",))}
            ),
        )
        for each in seen.ends
    )
    return replace(seen, client=one, server=other)


def test_an_address_that_both_have_is_one_too_many_where_traffic_goes_and_not_on_management_networks() -> None:
    assert explain(_addressed("tun5", f"{NETS[0]}.1"))[0].id == "address-duplicate"
    assert "address-duplicate" not in {one.id for one in explain(_addressed("mgmt0", "10.0.2.15"))}


def test_every_cause_that_is_told_apart_by_few_words_has_a_case() -> None:
    elsewhere = {
        "receiver-slow",
        "nic-drops",
        "filter-strips-option",
        "address-duplicate",
        "endpoint-not-announced",
        "endpoint-not-fullmesh",
        "address-limit",
        "join-ack-lost",
        "join-refused",
        "subflow-ended",
        "mesh-incomplete",
        "tcp-setting",
        "congestion-control",
        "bad-checksums",
        "offloads",
        "lag-speed",
        "lag-individual",
    }
    assert {*CAUSES.entries} - {first for _, first in CASES.values()} == elsewhere


def test_a_cause_has_its_figures_as_evidence_and_a_remedy_that_can_be_typed() -> None:
    make, _ = CASES["no rule"]
    cause = explain(make())[0]
    assert cause.statement == (
        "NIC b carried 558 bytes and left has no rule `from 10.94.94.1`: the kernel sends it out of NIC a (eth1)"
    )
    assert "left: a (eth1) 50,000,000 bytes, b (eth2) 558 bytes" in cause.evidence
    assert cause.remedy.startswith("ip rule add from 10.94.94.1 ")


def test_duplicates_take_others_places_only_where_the_limit_is_used_up_and_of_one_connection() -> None:
    found = explain(duplicated())
    pairs = "4 from 10.94.94.1 to 10.94.94.2"
    words = f"one connection has several subflows of the same addresses ({pairs}): its 4 joins use up the limit"
    assert found[0].statement == words
    assert "join-ack-lost" not in {one.id for one in found}, "the server refused one too many: no ACK was lost"
    assert "subflow-duplicates" not in {one.id for one in explain(duplicated(limit=8))}
    apart = duplicated(own="")
    assert "subflow-duplicates" not in {one.id for one in explain(apart)}, "each is a connection of its own"


def test_a_loss_that_was_counted_is_no_cause_though_its_subflow_is_silent() -> None:
    sender = counted(replace(LEFT, sockets=SILENT), SubflowStale=2, SubflowRecover=1, MPTCPRetrans=25)
    assert "loss-uncounted" not in [one.id for one in explain(case(client=sender))]


def test_a_pending_subflow_is_none_and_the_pairs_without_one_are_named() -> None:
    make, _ = CASES["lost joins"]
    told = "\n".join(explain(replace(make(), about="address pairs of the mesh at left"))[0].lines("most likely"))
    assert "10.94.94.1 to 10.94.94.2 SYN-SENT" in told
    assert "no established subflow from 10.94.94.1 to 10.93.93.2, from 10.94.94.1 to 10.94.94.2" in told


def test_what_one_path_is_to_carry_is_no_matter_of_the_other_paths() -> None:
    make, _ = CASES["no endpoint"]
    assert explain(replace(make(), several=False))[0].id == UNEXPLAINED


def test_the_last_resort_lists_what_was_ruled_out() -> None:
    (cause,) = explain(case())
    assert cause.statement == "nothing that was looked at explains it"
    assert "ruled out: a NIC of the lab is administratively down" in cause.evidence
    assert any("MPTCP endpoint" in line for line in cause.evidence)
    assert not any("LAG" in line for line in cause.evidence), "what was not looked for is not ruled out"


def test_no_reason_shows_how_python_writes_a_value() -> None:
    for name, (make, _) in CASES.items():
        told = "\n".join(Explanation(explain(make())).lines)
        assert not any(sign in told for sign in ("frozenset", "{'", "['", "None", "View(")), name


def test_another_package_s_cause_is_found_after_channover_s_own_and_is_not_on_the_page() -> None:
    @extend.cause("acme-dust", "A NIC is dusty.", shows="its bytes", remedy="wipe it")
    def dust(seen: extend.Case) -> list[extend.Found]:
        return [extend.Found(f"{seen.client.name} is dusty", ("a grain",))]

    page = reference()
    try:
        extend.causes.add(dust)
        make, first = CASES["no rule"]
        found = explain(make())
        assert (found[0].id, found[-1].id) == (first, "acme-dust")
        assert Cause("acme-dust", "left is dusty", ("a grain",), "wipe it") in found
        assert reference() == page
    finally:
        CAUSES.entries.pop("acme-dust", None)
        CAUSES.origins.pop("acme-dust", None)


def test_an_explanation_is_text_with_the_evidence_below_each_cause() -> None:
    sure = Cause("one", "it rains", ("12 mm",), "wait", "shown")
    assert Explanation((sure, Cause("two", "it snows")), ("seen: a cloud",)).lines == (
        "most likely: it rains [one, shown]",
        "  12 mm",
        "  remedy: wait",
        "or: it snows [two, likely]",
        "seen: a cloud",
    )


def test_the_page_of_the_causes_is_made_from_them() -> None:
    page = Path(__file__).parents[2] / "docs" / "causes.md"
    words = "run: python -m channover.verdict.causes.reference > docs/causes.md"
    assert page.read_text("utf-8") == reference(), words


def test_causes_are_in_the_results() -> None:
    cause = Cause("no-carrier", "left's NIC b has no carrier", ("left: b 0 bytes",), "plug it in", "shown")
    found = Results(RUN, (TestResult("suites/t.py::test_one", "LAG-1", "failed", "too slow", causes=(cause,)),))
    assert Results.from_json(found.to_json()).tests[0].causes == (cause,)
    assert '"causes"' not in Results(RUN, (TestResult("t", None, "passed"),)).to_json()
