"""``channover loopcheck`` without a host: what packet filters let through, and what is said of what a host shows."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from channover.cli.loopcheck import reading
from channover.model.state import Endpoint
from channover.observe.sockets import Subflow
from channover.verdict.loop.check import Carrier, Judgement, Seen, Sight, Verdict, judge, questions
from channover.verdict.loop.rules import Filters, Packet

NEAR, FAR = ip_address("10.96.96.1"), ip_address("10.96.96.2")
ETH1, ETH2, SERVER = "10.93.93.1", "10.94.94.1", "10.93.93.2"


def join(source: str = "10.96.96.1", destination: str = SERVER, device: str = "ptp") -> Packet:
    return Packet(ip_address(source), ip_address(destination), (50000, 1200), device)


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol: str, name: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": name}}


def filters(*rules: list[dict[str, Any]], other: list[list[dict[str, Any]]] | None = None, **chain: Any) -> Filters:
    """Return filters with these rules in a chain of output, and those of a chain that they may call."""
    head = {"family": "inet", "table": "t"}
    base = {**head, "name": "out", "type": "filter", "hook": "output", "prio": 0, "policy": "accept", **chain}
    entries: list[dict[str, Any]] = [{"chain": base}, {"chain": {**head, "name": "other"}}]
    entries.append({"set": {**head, "name": "bad", "elem": [{"prefix": {"addr": "10.96.96.0", "len": 30}}]}})
    entries.append({"counter": {**head, "name": "met", "packets": 7}})
    entries += [{"rule": {**head, "chain": "out", "expr": rule}} for rule in rules]
    entries += [{"rule": {**head, "chain": "other", "expr": rule}} for rule in other or ()]
    found = Filters()
    found.add_nft(json.dumps({"nftables": entries}))
    return found


DROP: dict[str, Any] = {"drop": None}
REJECT: dict[str, Any] = {"reject": {"type": "tcp reset"}}
ACCEPT: dict[str, Any] = {"accept": None}
BY_DEVICE = match({"meta": {"key": "oifname"}}, "ptp")
MPTCP = match({"tcp option": {"name": "mptcp"}}, True)
BY_SOURCE = match(payload("ip", "saddr"), {"prefix": {"addr": "10.96.96.0", "len": 30}})
PORT = match(payload("tcp", "dport"), 1200)
UNKNOWN = match({"meta": {"key": "mark"}}, 3)
SYN = match({"&": [payload("tcp", "flags"), ["fin", "syn", "rst", "ack"]]}, "syn")


@pytest.mark.parametrize(
    "rule",
    [
        [BY_DEVICE, MPTCP, REJECT],
        [BY_SOURCE, PORT, DROP],
        [match(payload("ip", "saddr"), "@bad"), {"counter": "met"}, REJECT],
        [match(payload("ip", "saddr"), {"range": ["10.96.96.1", "10.96.96.9"]}), DROP],
        [match(payload("tcp", "dport"), {"set": [80, {"range": [1000, 1300]}]}), DROP],
        [match({"meta": {"key": "oifname"}}, "pt*"), DROP],
        [match({"meta": {"key": "oifname"}}, "eth1", "!="), match({"meta": {"key": "l4proto"}}, "tcp"), DROP],
        [match({"ct": {"key": "state"}}, ["invalid", "new"], "in"), SYN, DROP],
        [match({"tcp option": {"name": "mptcp", "field": "subtype"}}, "mp-join"), DROP],
        [{"jump": {"target": "other"}}],
        [BY_DEVICE, {"xt": {"type": "target", "name": "REJECT"}}],
    ],
)
def test_a_rule_that_holds_refuses_the_join(rule: list[dict[str, Any]]) -> None:
    assert filters(rule, other=[[BY_DEVICE, DROP]]).refuses(join())


@pytest.mark.parametrize(
    "rule",
    [
        [BY_DEVICE, UNKNOWN, DROP],
        [BY_DEVICE, {"limit": {"rate": 1}}, DROP],
        [BY_DEVICE, {"xt": {"type": "match", "name": "owner"}}, DROP],
        [match({"meta": {"key": "oifname"}}, "ptp", "!="), DROP],
        [match(payload("udp", "dport"), 1200), DROP],
        [match(payload("ip6", "saddr"), "::1", "!="), DROP],
        [match(payload("tcp", "dport"), 1201), DROP],
        [match(payload("tcp", "sport"), 1200), DROP],
        [match(payload("ip", "daddr"), "@nowhere"), DROP],
        [UNKNOWN, {"jump": {"target": "other"}}],
        [BY_DEVICE, {"xt": {"type": "target", "name": "LOG"}}],
        [match({"tcp option": {"name": "mptcp"}}, False), DROP],
    ],
)
def test_a_rule_that_may_not_hold_refuses_nothing_for_certain(rule: list[dict[str, Any]]) -> None:
    assert filters(rule, other=[[BY_DEVICE, DROP]]).refuses(join()) is None


def test_what_comes_first_counts() -> None:
    refusing = [BY_DEVICE, DROP]
    assert filters([PORT, ACCEPT], refusing).refuses(join()) is None
    assert filters([UNKNOWN, ACCEPT], refusing).refuses(join()) is None
    assert filters([UNKNOWN, DROP], refusing).refuses(join())
    assert filters([{"jump": {"target": "other"}}], refusing, other=[[PORT, {"return": None}]]).refuses(join())
    assert filters([{"goto": {"target": "other"}}], refusing, other=[[PORT, ACCEPT]]).refuses(join()) is None
    assert filters(policy="drop").refuses(join())
    assert filters([PORT, ACCEPT], policy="drop").refuses(join()) is None
    assert filters(refusing, hook="forward").refuses(join()) is None


def test_where_and_how_often_is_said() -> None:
    found = filters([MPTCP, {"counter": "met"}, DROP]).refuses(join())
    assert str(found) == "table inet t, chain out, which has refused 7 so far"
    found = filters([MPTCP, {"counter": {"packets": 0, "bytes": 0}}, DROP]).refuses(join())
    assert str(found) == "table inet t, chain out, which has refused none so far"


IPTABLES = """\
# Generated by iptables-save v1.8.9
*filter
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [12:900]
:GUARD - [0:0]
{rules}
COMMIT
"""


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (
            "[3:180] -A OUTPUT -s 10.96.96.1/32 -p tcp -m tcp --dport 1200 -j REJECT --reject-with icmp-port-unreachable",
            True,
        ),
        ("-A OUTPUT -o pt+ -p tcp -m multiport --dports 80,1200:1300 -j DROP", True),
        ("-A OUTPUT -p tcp -m tcp --tcp-option 30 -m comment --comment 'no loop' -j DROP", True),
        ("-A OUTPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j GUARD\n-A GUARD ! -o eth1 -j DROP", True),
        ("-A OUTPUT -o ptp -j LOG\n-A OUTPUT -o ptp -j DROP", True),
        ("-A OUTPUT -o ptp -m owner --uid-owner 0 -j DROP", False),
        ("-A OUTPUT -p udp -m udp --dport 1200 -j DROP", False),
        ("-A OUTPUT ! -s 10.96.96.0/30 -j DROP", False),
        ("-A OUTPUT -p tcp -j ACCEPT\n-A OUTPUT -o ptp -j DROP", False),
        ("-A OUTPUT -p tcp -m tcp --tcp-option 8 -j DROP", False),
    ],
)
def test_rules_of_iptables_are_read_as_well(rules: str, refused: bool) -> None:
    found = Filters()
    found.add_iptables(IPTABLES.format(rules=rules), "ip", "iptables-save")
    assert bool(found.refuses(join())) == refused


# verdicts


def flow(source: str, destination: str, device: str | None = None, state: str = "ESTAB") -> Subflow:
    return Subflow(source, 40001, destination, 1200, device, state, mptcp=True)


CLEAN = (flow(ETH1, SERVER), flow(ETH2, SERVER))
NICS = (Endpoint(1, ETH1, ("subflow", "fullmesh"), None), Endpoint(2, ETH2, ("subflow", "fullmesh"), None))
ROUTES = {(NEAR.compressed, SERVER): "eth1", (ETH1, SERVER): "eth1", (ETH2, SERVER): "eth2"}


def seen(*flows: Subflow, mptcp: bool = True, **changes: Any) -> Seen:
    carrier = Carrier(flows or CLEAN, mptcp, 1200, False)
    found = Seen("ptp", (NEAR,), (FAR,), (ip_network("10.96.96.0/30"),), "openvpn", 7, (carrier,))
    return replace(found, **changes)


def judged(tunnel: Seen, **changes: Any) -> Judgement:
    sight = Sight((tunnel,), NICS, 8, 8, filters=Filters(), routed=ROUTES)
    (found,) = judge(replace(sight, **changes))
    return found


OFFERED = (*NICS, Endpoint(9, "10.96.96.1", ("subflow",), "ptp"))
BY_DESTINATION = match(payload("ip", "daddr"), {"prefix": {"addr": "10.96.96.0", "len": 30}})
GUARD = filters([MPTCP, BY_SOURCE, DROP], [MPTCP, BY_DESTINATION, DROP], [MPTCP, BY_DEVICE, DROP])

AT_JOINS = filters(*([SYN, MPTCP, side, DROP] for side in (BY_SOURCE, BY_DESTINATION, BY_DEVICE)))


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        (judged(seen()), Verdict.COULD, "no endpoint offers the tunnel yet; mptcpd or NetworkManager would"),
        (judged(seen(), adders=("mptcpd",)), Verdict.COULD, "mptcpd, which runs here, may add one"),
        (judged(seen(), in_kernel=False), Verdict.COULD, "a program decides on the paths"),
        (judged(seen(), endpoints=OFFERED), Verdict.COULD, "the tunnel is offered as a path"),
        (judged(seen(), filters=None), Verdict.COULD, "whether a guard is loaded, only root may see"),
        (
            judged(seen(), filters=GUARD),
            Verdict.CANNOT,
            "a packet filter keeps the carrier out: table inet t, chain out",
        ),
        (judged(seen(), filters=GUARD, endpoints=OFFERED), Verdict.CANNOT, "a packet filter keeps the carrier out"),
        (judged(seen(), subflow_limit=0), Verdict.CANNOT, "the limit is 0"),
        (judged(seen(mptcp=False)), Verdict.CANNOT, "its carrier is plain TCP"),
        (judged(seen(apart=True)), Verdict.CANNOT, "in another network namespace"),
        (judged(seen(program="", carriers=())), Verdict.CANNOT, "no program holds the device here"),
        (judged(seen(program="", carriers=()), privileged=False), Verdict.UNKNOWN, "only root may see"),
        (judged(seen(carriers=())), Verdict.CANNOT, "openvpn has no TCP connection"),
        (judged(seen(*CLEAN, flow("10.96.96.1", SERVER, "ptp", "SYN-SENT"))), Verdict.TRIES, "has not answered"),
        (judged(seen(*CLEAN, flow("10.96.96.1", SERVER))), Verdict.FEEDS, "leaves by eth1; what the far end sends"),
        (
            judged(seen(*CLEAN, flow("10.96.96.1", SERVER)), filters=GUARD),
            Verdict.CANNOT,
            "refused whatever it is to carry",
        ),
        (judged(seen(*CLEAN, flow("10.96.96.1", SERVER)), filters=AT_JOINS), Verdict.FEEDS, "look there as well"),
        (judged(seen(), filters=AT_JOINS), Verdict.CANNOT, "a packet filter keeps the carrier out"),
    ],
)
def test_what_is_said_of_a_tunnel(found: Judgement, verdict: Verdict, words: str) -> None:
    assert found.verdict is verdict
    assert any(words in reason for reason in found.reasons), found.reasons


def test_a_subflow_in_the_tunnel_is_the_sign() -> None:
    found = judged(seen(*CLEAN, flow("10.96.96.1", "10.96.96.2", "ptp")), endpoints=OFFERED)
    assert [sign.form.value for sign in found.signs] == ["source", "endpoint"]
    assert found.verdict is Verdict.FEEDS
    assert found.reasons == ()


def test_a_subflow_to_the_far_address_that_leaves_by_a_nic_goes_round_the_tunnel() -> None:
    """As the article's list shows that it calls clean: the guard of the source leaves two of them."""
    tunnel = seen(*CLEAN, flow(ETH1, "10.96.96.2"))
    found = judged(tunnel, routed={**ROUTES, (ETH1, "10.96.96.2"): "eth1"})
    assert found.verdict is Verdict.COULD
    assert found.reasons[0].startswith(
        f"the subflow from {ETH1} to 10.96.96.2 leaves by eth1 and goes round the tunnel"
    )
    assert judged(tunnel, routed={**ROUTES, (ETH1, "10.96.96.2"): "ptp"}).verdict is Verdict.FEEDS


def test_a_default_route_into_the_tunnel_leads_the_carrier_in() -> None:
    plain = seen(mptcp=False, carriers=(Carrier((flow(ETH1, SERVER),), False, 1200, False),))
    into = {**ROUTES, (ETH1, SERVER): "ptp"}
    assert judged(plain, routed=into).verdict is Verdict.FEEDS
    assert judged(seen(), routed={**ROUTES, (ETH2, SERVER): "ptp"}).verdict is Verdict.FEEDS
    bound = seen(flow(ETH1, SERVER, "eth1"))
    found = judged(bound, routed={**ROUTES, (ETH2, SERVER): "ptp"})
    assert found.verdict is Verdict.COULD
    assert any(
        "nothing keeps the carrier out by the tunnel's device (10.94.94.1 to 10.93.93.2)" in one
        for one in found.reasons
    )


def test_the_articles_guard_leaves_the_way_to_the_far_address_open() -> None:
    article = Filters()
    article.add_iptables(
        IPTABLES.format(rules="-A OUTPUT -s 10.96.96.1/32 -p tcp -m tcp --dport 1200 -j REJECT"), "ip", "iptables-save"
    )
    found = judged(seen(), filters=article)
    assert found.verdict is Verdict.COULD
    (gap,) = [one for one in found.reasons if one.startswith("nothing keeps")]
    assert (
        gap == f"nothing keeps the carrier out towards the far end's address within the tunnel ({ETH1} to 10.96.96.2)"
    )


def test_a_guard_of_the_device_alone_does_not_see_what_leaves_by_a_nic() -> None:
    by_device = filters([BY_DEVICE, MPTCP, REJECT])
    found = judged(seen(), filters=by_device)
    (gap,) = [one for one in found.reasons if one.startswith("nothing keeps")]
    assert gap == f"nothing keeps the carrier out from the tunnel's own address (10.96.96.1 to {SERVER}, by eth1)"
    assert (
        judged(seen(), filters=by_device, routed={**ROUTES, (NEAR.compressed, SERVER): "ptp"}).verdict is Verdict.CANNOT
    )


def test_a_guard_of_what_comes_in_by_the_tunnel_is_one() -> None:
    coming = filters([match({"meta": {"key": "iifname"}}, "ptp"), MPTCP, DROP], hook="input")
    assert judged(seen(), filters=coming, routed={**ROUTES, (NEAR.compressed, SERVER): "ptp"}).verdict is Verdict.CANNOT


def test_routes_are_asked_for_of_all_that_could_be_a_subflow() -> None:
    sight = Sight((seen(flow(ETH1, SERVER)),), NICS)
    assert questions(sight) == {
        (ETH1, SERVER),
        (ETH2, SERVER),
        ("10.96.96.1", SERVER),
        (ETH1, "10.96.96.2"),
        (ETH2, "10.96.96.2"),
    }


# what a host says


SOCKETS = """\
ESTAB 0 0 10.93.93.1:51182 10.93.93.2:1200 users:(("openvpn",pid=13,fd=4))
\t bbr bytes_sent:68 tcp-ulp-mptcp flags:Mmec token:0000(id:0)/fa249892(id:0) seq:1
ESTAB 0 0 10.94.94.1:34745 10.93.93.2:1200
\t bbr tcp-ulp-mptcp flags:Jjec token:6bdfd5e(id:0)/fa249892(id:2) seq:1
ESTAB 0 0 10.96.96.1:40000 10.96.96.2:5201 users:(("iperf3",pid=20,fd=4))
\t bbr tcp-ulp-mptcp flags:Mmec token:0000(id:0)/11111111(id:0) seq:1
ESTAB 0 0 127.0.0.1:7505 127.0.0.1:40404 users:(("openvpn",pid=13,fd=9))
\t bbr
"""
CONNECTIONS = """\
ESTAB 0 0 10.93.93.1:51182 10.93.93.2:1200 users:(("openvpn",pid=13,fd=4))
\t subflows:1 token:fa249892
"""
RELAYED = """\
ESTAB 0 0 127.0.0.1:40404 127.0.0.1:1194 users:(("openvpn",pid=13,fd=9))
\t bbr
ESTAB 0 0 127.0.0.1:1194 127.0.0.1:40404 users:(("stunnel4",pid=14,fd=9))
\t bbr
ESTAB 0 0 10.93.93.1:51182 10.93.93.2:1200 users:(("stunnel4",pid=14,fd=4))
\t bbr tcp-ulp-mptcp flags:Mmec token:0000(id:0)/fa249892(id:0) seq:1
"""
BY_CHILD = """\
ESTAB 0 0 10.93.93.1:51182 10.93.93.2:22 users:(("nc",pid=15,fd=4))
\t bbr tcp-ulp-mptcp flags:Mmec token:0000(id:0)/fa249892(id:0) seq:1
"""
ADDRESSES = [
    {"ifname": "ptp", "flags": ["UP"], "mtu": 1500, "linkinfo": {"info_kind": "tun"}, "addr_info": [
        {"local": "10.96.96.1", "address": "10.96.96.2", "prefixlen": 32, "scope": "0"},
        {"local": "fd00::1", "prefixlen": 64, "scope": "0"}]},
]  # fmt: skip


PROCESSES = """\
/proc/13/status:Name:\topenvpn
/proc/13/status:PPid:\t1
/proc/15/status:Name:\tnc
/proc/15/status:PPid:\t13
"""


def parts(**changes: str) -> dict[str, str]:
    state = "\n".join([json.dumps(ADDRESSES), "[]", "[]", "[]", "add_addr_accepted 0 subflows 2 "])
    known = {
        "user": "0", "state": state, "tcp": SOCKETS, "mptcp": CONNECTIONS, "here": "net:[1]", "held": "13 net:[1] ptp",
        "processes": PROCESSES,
        "manager": "0", "nft": "", "option": "yes", **dict.fromkeys(reading._SAVERS, ""),
    }  # fmt: skip
    return {**known, **changes}


def answered(**changes: str) -> tuple[Sight, Seen]:
    text = "".join(f"\n@channover {name}\n{part}\n" for name, part in parts(**changes).items())
    sight = reading.read("here", lambda script, _: text if "say user" in script else "").sight
    return sight, sight.tunnels[0]


def test_a_tunnel_is_read_with_its_carrier_and_no_other_connection() -> None:
    sight, tunnel = answered()
    assert (tunnel.program, tunnel.pid, tunnel.far) == ("openvpn", 13, (FAR, ip_address("fd00::2")))
    assert tunnel.networks == (ip_network("10.96.96.0/30"), ip_network("fd00::/64"))
    (carrier,) = tunnel.carriers
    assert [one.source for one in carrier.subflows] == [ETH1, ETH2]
    assert (carrier.mptcp, carrier.port, carrier.serving) == (True, 1200, False)
    assert (sight.subflow_limit, sight.accepted, sight.in_kernel, sight.privileged) == (2, 0, True, True)


@pytest.mark.parametrize(("sockets", "port"), [(RELAYED, 1200), (BY_CHILD, 22)], ids=["stunnel", "ProxyCommand"])
def test_a_carrier_is_found_behind_another_program(sockets: str, port: int) -> None:
    (carrier,) = answered(tcp=sockets, mptcp="")[1].carriers
    assert (carrier.mptcp, carrier.port) == (True, port)


def test_a_connection_that_fell_back_is_plain_tcp() -> None:
    (carrier,) = answered(mptcp=CONNECTIONS.replace("subflows:1", "fallback subflows:0"))[1].carriers
    assert not carrier.mptcp


def test_what_another_namespace_holds_is_not_of_here() -> None:
    assert answered(held="13 net:[2] ptp")[1].program == ""
    sight, tunnel = answered(held="13 net:[1] ptp\n13 net:[1] tap9")
    assert (tunnel.device, tunnel.apart) == ("ptp", False)
    assert [(one.device, one.apart) for one in sight.tunnels] == [("ptp", False), ("tap9", True)]
    assert [
        one.device
        for one in answered(tcp=SOCKETS.replace("tcp-ulp-mptcp", ""), mptcp="", held="13 net:[1] tap9")[0].tunnels
    ] == ["ptp"]


def test_a_filter_that_may_not_be_read_is_not_an_empty_one() -> None:
    assert answered(nft="refused")[0].filters is None
    assert answered(user="1000")[0].filters is None
    assert answered()[0].filters == Filters()
