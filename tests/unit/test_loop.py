"""The loop detector, and the texts of the guards, without any live host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv4Network, ip_network
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channover.errors import TestbedError
from channover.hosts.host import Completed, Host
from channover.model.inner_network import Inner, inner_network
from channover.model.operations.kernel import SysctlSet, TableAdd
from channover.model.operations.routing import RouteAdd
from channover.model.plan import Plan
from channover.model.state import Endpoint
from channover.network.loop_guard import BOTH, SOURCE, both_guard, hits, matches_mptcp, source_guard
from channover.network.tunnel import Tunnel, TunnelEnd, through, way_back
from channover.observe.sockets import Subflow
from channover.verdict.loop.signs import PENDING, SENDING, Form, LoopFinding, loops

SSH = Inner("tun0", (IPv4Network("10.91.91.0/30"),), 2222)
OPENVPN = Inner("ptp", (IPv4Network("10.96.96.0/30"),), 1200)


def flow(
    source: str = "10.93.93.1",
    destination: str = "10.93.93.2",
    device: str | None = None,
    state: str = "ESTAB",
    ports: tuple[int, int] = (40001, 1200),
) -> Subflow:
    return Subflow(source, ports[0], destination, ports[1], device, state)


def mesh(ports: tuple[int, int] = (40001, 1200)) -> list[Subflow]:
    """Return the four subflows of two NICs a side, as measured on a clean OpenVPN tunnel."""
    left = (("10.93.93.1", "eth1"), ("10.94.94.1", "eth2"))
    return [flow(ip, to, device, ports=ports) for ip, device in left for to in ("10.93.93.2", "10.94.94.2")]


ENDPOINTS = (
    Endpoint(1, "10.93.93.1", ("subflow", "fullmesh"), "eth1"),
    Endpoint(2, "10.94.94.1", ("subflow", "fullmesh"), None),
)


def forms(findings: tuple[LoopFinding, ...]) -> list[str]:
    return [finding.form.value for finding in findings]


def test_a_clean_mesh_has_no_finding() -> None:
    assert loops(mesh(), ENDPOINTS, [OPENVPN]) == ()


def test_nothing_at_all_has_no_finding() -> None:
    assert loops([], [], []) == ()
    assert loops([flow("10.96.96.1")], ENDPOINTS, []) == ()


def test_a_source_inside_the_tunnel_is_named() -> None:
    (finding,) = loops([*mesh(), flow("10.96.96.1", ports=(45023, 1200))], ENDPOINTS, [OPENVPN])
    assert finding.form is Form.SOURCE
    assert finding.tunnel is OPENVPN
    assert finding.sentence == (
        "subflow 10.96.96.1:45023 to 10.93.93.2:1200 carries the tunnel within itself: "
        "its source lies in the tunnel's network 10.96.96.0/30"
    )
    assert str(finding) == f"source: {finding.sentence}"


def test_a_destination_inside_the_tunnel_is_what_a_guard_on_the_source_misses() -> None:
    (finding,) = loops([flow(destination="10.96.96.2", device="eth1")], (), [OPENVPN])
    assert finding.form is Form.DESTINATION
    assert "10.93.93.1%eth1:40001 to 10.96.96.2:1200" in finding.sentence


def test_a_device_alone_is_enough() -> None:
    assert forms(loops([flow(device="ptp")], (), [OPENVPN])) == ["device"]


def test_a_route_alone_is_enough_where_routes_are_given() -> None:
    assert loops([flow()], (), [OPENVPN]) == ()
    assert forms(loops([flow()], (), [OPENVPN], routed={("10.93.93.1", "10.93.93.2"): "ptp"})) == ["device"]
    assert loops([flow()], (), [OPENVPN], routed={("10.93.93.1", "10.93.93.2"): "eth1"}) == ()
    bound = flow(device="eth1")  # a bound socket does not follow the route
    assert loops([bound], (), [OPENVPN], routed={("10.93.93.1", "10.93.93.2"): "ptp"}) == ()


def test_every_reason_stands_in_the_one_sentence_of_a_subflow() -> None:
    (finding,) = loops([flow("10.96.96.1", "10.96.96.2", "ptp")], (), [OPENVPN])
    assert finding.form is Form.SOURCE
    assert "source lies" in finding.sentence
    assert "destination lies" in finding.sentence
    assert "bound to the tunnel's device ptp" in finding.sentence


@pytest.mark.parametrize("state", sorted(PENDING))
@pytest.mark.parametrize(
    "looped", [flow("10.96.96.1"), flow(destination="10.96.96.2"), flow(device="ptp")], ids=["source", "to", "device"]
)
def test_a_join_without_an_answer_is_pending(looped: Subflow, state: str) -> None:
    (finding,) = loops([replace(looped, state=state)], (), [OPENVPN])
    assert finding.form is Form.PENDING
    assert state in finding.sentence


@pytest.mark.parametrize("state", ["FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "LAST-ACK", "TIME-WAIT", "CLOSE", "LISTEN"])
def test_a_socket_that_takes_no_new_data_is_no_loop(state: str) -> None:
    assert loops([flow("10.96.96.1", state=state)], (), [OPENVPN]) == ()


def test_a_subflow_that_the_peer_has_closed_still_sends() -> None:
    assert forms(loops([flow("10.96.96.1", state="CLOSE-WAIT")], (), [OPENVPN])) == ["source"]


def test_the_server_sees_the_same_loop_from_its_side() -> None:
    seen = [flow("10.93.93.2", "10.96.96.1", ports=(1200, 45023)), flow("10.96.96.2", "10.93.93.1", ports=(1200, 4))]
    assert forms(loops(seen, (), [OPENVPN])) == ["destination", "source"]


def test_an_application_within_the_tunnel_is_no_loop() -> None:
    inside = flow("10.96.96.1", "10.96.96.2", ports=(50000, 5201))
    assert loops([*mesh(), inside], ENDPOINTS, [OPENVPN]) == ()


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        (Endpoint(9, "10.96.96.1", ("subflow", "fullmesh"), "ptp"), "address lies"),
        (Endpoint(9, "10.96.96.1", ("subflow",), None), "address lies"),
        (Endpoint(9, "10.96.96.2", ("signal",), None), "address lies"),
        (Endpoint(9, "10.1.1.1", ("subflow", "backup"), "ptp"), "belongs to the tunnel's device ptp"),
    ],
    ids=["dev", "unbound", "signal", "device"],
)
def test_an_endpoint_on_the_tunnel_is_found_before_there_is_traffic(endpoint: Endpoint, why: str) -> None:
    (finding,) = loops([], [*ENDPOINTS, endpoint], [OPENVPN])
    assert finding.form is Form.ENDPOINT
    assert f"{endpoint.address} (id 9, {' '.join(endpoint.flags)})" in finding.sentence
    assert why in finding.sentence


def test_each_tunnel_is_judged_by_its_own_carrier() -> None:
    carriers = [flow("10.96.96.1", ports=(40001, 2222)), flow("10.91.91.1", ports=(40002, 2222))]
    (finding,) = loops(carriers, (), [SSH, OPENVPN])
    assert finding.tunnel is SSH
    assert "10.91.91.1:40002" in finding.sentence


def test_addresses_as_dual_stack_sockets_show_them() -> None:
    assert forms(loops([flow("::ffff:10.96.96.1")], (), [OPENVPN])) == ["source"]
    assert forms(loops([flow("[::ffff:10.96.96.1]")], (), [OPENVPN])) == ["source"]
    assert loops([flow("fe80::1%eth1", "fe80::2")], (), [OPENVPN]) == ()


def test_sockets_bound_to_no_address_are_no_loop() -> None:
    assert loops([flow("*", "*"), flow("0.0.0.0", "::")], (), [OPENVPN]) == ()


def test_any_value_with_the_six_facts_will_do() -> None:
    @dataclass(frozen=True)
    class Mine:
        source: str = "10.96.96.1"
        source_port: int = 1
        destination: str = "10.93.93.2"
        destination_port: int = 1200
        device: str | None = None
        state: str = "ESTAB"

    assert forms(loops([Mine()], (), [OPENVPN])) == ["source"]


def test_the_article_listing_has_five_subflows_in_the_tunnel_and_the_guard_leaves_two() -> None:
    left, right = ("10.93.93.1", "10.94.94.1", "10.96.96.1"), ("10.93.93.2", "10.94.94.2", "10.96.96.2")
    nine = [flow(a, b) for a in left for b in right]
    found = loops(nine, (), [OPENVPN])
    assert sorted(forms(found)) == ["destination"] * 2 + ["source"] * 3
    guarded = [one for one in nine if one.source != "10.96.96.1"]
    assert forms(loops(guarded, (), [OPENVPN])) == ["destination"] * 2


OUTSIDE = st.ip_addresses(v=4).filter(lambda address: address not in OPENVPN.networks[0]).map(str)
DEVICES = st.sampled_from([None, "eth1", "eth2", "tun0", "ptp1"])
STATES = st.sampled_from([*sorted(SENDING | PENDING), "FIN-WAIT-1", "TIME-WAIT", "LISTEN"])
PORTS = st.integers(1, 65535)


@given(
    st.lists(st.builds(flow, OUTSIDE, OUTSIDE, DEVICES, STATES, st.tuples(PORTS, st.just(1200)))),
    st.lists(st.builds(Endpoint, st.integers(1, 255), OUTSIDE, st.just(("subflow",)), DEVICES)),
)
def test_no_carrier_outside_the_tunnel_is_ever_accused(flows: list[Subflow], endpoints: list[Endpoint]) -> None:
    assert loops(flows, endpoints, [OPENVPN]) == ()


@given(
    st.lists(st.builds(flow, OUTSIDE, OUTSIDE, DEVICES, STATES, st.tuples(PORTS, st.just(1200)))),
    st.sampled_from(["10.96.96.1", "10.96.96.2"]),
    st.booleans(),
    st.sampled_from(sorted(SENDING | PENDING)),
    st.booleans(),
)
def test_one_inner_subflow_among_many_is_always_found(
    flows: list[Subflow], inner: str, as_source: bool, state: str, server: bool
) -> None:
    looped = flow(
        *((inner, "10.93.93.2") if as_source else ("10.93.93.1", inner)),
        state=state,
        ports=(1200, 40001) if server else (40001, 1200),
    )
    (finding,) = loops([*flows, looped], (), [OPENVPN])
    assert inner in finding.sentence
    assert (finding.form is Form.PENDING) == (state in PENDING)


@pytest.mark.parametrize(
    ("one", "other", "network"),
    [
        ("10.96.96.1", "10.96.96.2", "10.96.96.0/30"),
        ("10.96.96.2", "10.96.96.1", "10.96.96.0/30"),
        ("10.96.96.3", "10.96.96.4", "10.96.96.0/29"),
        ("fd00:96::1", "fd00:96::2", "fd00:96::/124"),
    ],
)
def test_the_network_of_two_point_to_point_addresses(one: str, other: str, network: str) -> None:
    assert inner_network(one, other) == ip_network(network)


def test_two_ends_too_far_apart_are_no_tunnel() -> None:
    with pytest.raises(ValueError, match="too far apart"):
        inner_network("10.96.96.1", "10.97.96.1")


@dataclass
class FakeHost:
    """A host that answers every command alike."""

    name: str
    answer: Completed | None = None

    def run(self, *_: str, **__: Any) -> Completed | None:
        return self.answer


def tunnel() -> Tunnel:
    left, right = (
        TunnelEnd(cast(Host, FakeHost(name)), "ptp", IPv4Interface(address), cast(Any, None))
        for name, address in (("left", "10.96.96.1/30"), ("right", "10.96.96.2/30"))
    )
    return Tunnel("openvpn", left, right, 1200)


def text(plan: Plan) -> str:
    (table,) = plan
    assert isinstance(table, TableAdd)
    return table.text


def test_a_tunnel_knows_its_ends() -> None:
    up = tunnel()
    assert up.end(up.server.host) is up.server
    assert up.peer(up.client) is up.server
    assert up.inner(up.client.host) == OPENVPN
    with pytest.raises(KeyError):
        up.end(cast(Host, FakeHost("left")))


def test_the_article_guard_is_its_one_rule() -> None:
    up = tunnel()
    guard = source_guard(up, up.client.host)
    assert (guard.name, guard.counters) == (SOURCE, ("by_source",))
    assert "ip saddr 10.96.96.1 tcp dport 1200 counter name by_source reject\n" in text(guard.plan)
    assert "daddr" not in text(guard.plan)


@pytest.mark.parametrize("option", [True, False])
def test_the_other_guard_has_a_rule_for_each_form_and_lets_its_own_resets_out(option: bool) -> None:
    up = tunnel()
    for end, port in ((up.client, "tcp dport 1200"), (up.server, "tcp sport 1200")):
        guard = both_guard(up, end.host, option=option)
        match = "tcp option mptcp exists" if option else port
        assert guard.name == BOTH
        rules = [line.strip() for line in text(guard.plan).splitlines()]
        assert [rule for rule in rules if "reject" in rule] == [
            f"ip saddr 10.96.96.0/30 {match} counter name by_source reject with tcp reset",
            f"ip daddr 10.96.96.0/30 {match} counter name by_destination reject with tcp reset",
            f'oifname "ptp" {match} counter name by_device reject with tcp reset',
        ]
        assert rules.index("tcp flags & rst == rst accept") < min(rules.index(r) for r in rules if "reject" in r)


COUNTERS = """{"nftables": [{"metainfo": {}}, {"table": {"family": "inet", "name": "t", "handle": 1}},
{"counter": {"family": "inet", "name": "by_source", "table": "t", "handle": 1, "packets": PACKETS, "bytes": 60}}]}"""


@pytest.mark.parametrize("packets", [0, 7])
def test_a_guard_that_was_never_hit_is_told_from_one_that_works(packets: int) -> None:
    up = tunnel()
    host = FakeHost("left", Completed((), 0, COUNTERS.replace("PACKETS", str(packets)), ""))
    found = hits(cast(Host, host), source_guard(up, up.client.host))
    assert (found.total, bool(found), str(found)) == (packets, packets > 0, f"by_source {packets}")


def test_a_guard_that_is_not_loaded_is_a_broken_testbed() -> None:
    up = tunnel()
    host = cast(Host, FakeHost("left", Completed((), 1, "", "Error: No such file or directory")))
    with pytest.raises(TestbedError, match="is not loaded"):
        hits(host, source_guard(up, up.client.host))
    other = cast(Host, FakeHost("left", Completed((), 0, COUNTERS.replace("PACKETS", "1"), "")))
    with pytest.raises(TestbedError, match="no counter by_destination, by_device"):
        hits(other, both_guard(up, up.client.host))
    assert not matches_mptcp(host)
    assert matches_mptcp(other)


def test_the_way_through_a_tunnel_and_back() -> None:
    up = tunnel()
    plans = through(up, up.client, "10.10.0.0/24")
    assert plans["right"].operations == (RouteAdd("10.10.0.0/24", "ptp", "10.96.96.1"),)
    assert plans["left"].operations == (SysctlSet("net/ipv4/ip_forward", "1"),)
    assert way_back(up, "eth1", "10.10.0.1").operations == (RouteAdd("10.96.96.0/30", "eth1", "10.10.0.1"),)
