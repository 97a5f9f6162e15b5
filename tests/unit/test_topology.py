"""Topologies as a test asks for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channover.errors import UsageError
from channover.hosts.host import Journal
from channover.hosts.lab import Lab, subnet, subnet_of_ipv6
from channover.model.link import Link
from channover.model.topology import (
    Cable,
    Node,
    Port,
    Role,
    Topology,
    gateway,
    node,
    pair,
    parallel,
    trio,
    two_switches,
    unequal,
    unstacked,
    with_members,
)


def test_the_pair_is_the_article_s_mini_lab() -> None:
    made = pair()
    assert [node.name for node in made.nodes] == ["left", "right"]
    assert [str(cable) for cable in made.cables] == ["left.a–right.a", "left.b–right.b"]
    assert all(node.role is Role.HOST for node in made.nodes)
    assert all(cable.speedup == 1 for cable in made.cables)


def test_the_trio_has_three_cables() -> None:
    assert trio().name == "trio"
    assert trio().node("left").nics == ("a", "b", "c")
    assert len(list(trio().between("right", "left"))) == 3


@given(st.integers(1, 8))
def test_parallel_cables_join_equal_nics(links: int) -> None:
    made = parallel(links)
    assert len(made.cables) == links
    assert all(cable.a.nic == cable.b.nic for cable in made.cables)


@pytest.mark.parametrize(
    ("make", "number"), [(parallel, 0), (parallel, 9), (two_switches, 0), (two_switches, 33), (parallel, -1)]
)
def test_too_many_or_too_few_are_refused_with_the_range(make: Callable[[int], Topology], number: int) -> None:
    with pytest.raises(ValueError, match=rf"1 to (8|32) .*not {number}$"):
        make(number)


def test_the_gateway_s_far_host_hangs_on_a_faster_cable() -> None:
    made = gateway()
    (far,) = made.between("right", "beyond")
    assert far.speedup == 10
    assert not list(made.between("left", "beyond"))
    assert len(list(made.between("left", "right"))) == 2


@given(st.integers(1, 32))
def test_switches_have_a_port_for_each_host(hosts: int) -> None:
    made = two_switches(hosts)
    assert len(list(made.between("west", "east"))) == 2
    assert [node.name for node in made.nodes if node.role is Role.SWITCH] == ["west", "east"]
    for side, switch in (("left", "west"), ("right", "east")):
        for number in range(1, hosts + 1):
            (cable,) = made.between(f"{side}{number}", switch)
            assert cable.speedup == 10
    ports = [port for cable in made.cables for port in cable.ports]
    assert len(ports) == len(set(ports)) == 4 + 4 * hosts


def test_a_cable_to_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^topology t: a cable ends in b\.x, which no node has$"):
        Topology("t", (Node("a", ("x",)),), (Cable(Port("a", "x"), Port("b", "x")),))


def test_a_nic_takes_one_cable() -> None:
    nodes = (Node("a", ("x",)), Node("b", ("x", "y")))
    cables = (Cable(Port("a", "x"), Port("b", "x")), Cable(Port("a", "x"), Port("b", "y")))
    with pytest.raises(ValueError, match=r"^topology t: a\.x has more than one cable$"):
        Topology("t", nodes, cables)


def test_a_cable_does_not_bite_its_tail() -> None:
    with pytest.raises(ValueError, match=r"a\.x has more than one cable"):
        Topology("t", (Node("a", ("x",)),), (Cable(Port("a", "x"), Port("a", "x")),))


def test_an_unknown_node() -> None:
    with pytest.raises(KeyError, match="nobody"):
        pair().node("nobody")
    assert not list(pair().between("left", "nobody"))


def test_networks_are_the_article_s_and_never_overlap() -> None:
    assert [str(subnet(number)) for number in range(4)] == [
        "10.93.93.0/30",
        "10.94.94.0/30",
        "10.10.0.0/24",
        "10.101.3.0/30",
    ]
    networks = [subnet(number) for number in range(66)]  # the largest lab: 2 + 64 cables
    assert not any(one.overlaps(other) for at, one in enumerate(networks) for other in networks[:at])


def test_a_port_is_known_by_its_ipv6_address_while_its_cable_goes_by_ipv6() -> None:
    topology = pair()
    first, second = topology.cables
    lab = Lab(topology, {}, Link(), cabling=None, journal=Journal())  # type: ignore[arg-type]
    lab.over_ipv6.add(second)
    assert [str(lab.address(port)) for port in first.ports] == ["10.93.93.1/30", "10.93.93.2/30"]
    assert [str(lab.address(port)) for port in second.ports] == ["fd00:93:1::1/64", "fd00:93:1::2/64"]
    networks = {subnet_of_ipv6(number) for number in range(66)}
    assert len(networks) == 66
    assert all(network.is_private for network in networks)


def test_the_second_of_unequal_cables_is_a_share_as_fast() -> None:
    made = unequal(0.25)
    assert [cable.speedup for cable in made.cables] == [1, 0.25]
    assert [node.name for node in made.nodes] == ["left", "right"]


def test_a_topology_in_words() -> None:
    made = Topology.of(
        "chain",
        node("alpha", "ab", role="client"),
        node("sw-1", "p1 p2", role="switch"),
        node("gamma", "a", role="server"),
        cables="alpha.b-sw-1.p1 sw-1.p2-gamma.a*10",
    )
    assert (made.client, made.server) == ("alpha", "gamma")
    assert [str(cable) for cable in made.cables] == ["alpha.b–sw-1.p1", "sw-1.p2–gamma.a"]
    assert [cable.speedup for cable in made.cables] == [1.0, 10.0]
    assert made.node("sw-1") == Node("sw-1", ("p1", "p2"), Role.SWITCH)


@pytest.mark.parametrize(
    ("roles", "ends"),
    [
        (("host", "host", "host"), ("a", "b")),
        (("server", "host", "host"), ("b", "a")),
        (("host", "client", "host"), ("b", "a")),
        (("host", "host", "server"), ("a", "c")),
        (("server", "host", "client"), ("c", "a")),
    ],
)
def test_who_connects_and_who_listens(roles: tuple[str, ...], ends: tuple[str, str]) -> None:
    made = Topology.of("t", *(node(name, "x", role) for name, role in zip("abc", roles, strict=True)), cables="")
    assert (made.client, made.server) == ends


def test_ends_of_the_topologies_that_there_are() -> None:
    for made in (pair(), trio(), gateway()):
        assert (made.client, made.server) == ("left", "right")


@pytest.mark.parametrize(
    ("nodes", "cables", "words"),
    [
        ((node("a", "x", "client"), node("b", "x", "client")), "", "more than one host has the role 'client'"),
        ((node("a", "x"), node("a", "x")), "", "there are two nodes 'a'"),
        ((node("a", "x"), node("b", "x")), "a-b", "'a-b' is no cable such as alpha.a-beta.a"),
    ],
)
def test_what_is_no_topology_is_said(nodes: tuple[Node, ...], cables: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"topology t: {words}"):
        Topology.of("t", *nodes, cables=cables)


def test_a_host_has_any_role_and_is_found_by_it() -> None:
    hosts = node("a", "x", "relay"), node("b", "x", "relay"), node("c", "x", "client"), node("d", "x")
    made = Topology.of("t", *hosts, cables="")
    assert [one.name for one in made.having("relay")] == ["a", "b"]
    assert (made.client, made.server) == ("c", "a")
    assert all(one.role is Role.HOST for one in made.nodes)


def test_a_role_that_is_no_word_and_an_end_that_is_missing() -> None:
    with pytest.raises(ValueError, match="node a: '' is no role; write a word, such as relay"):
        node("a", "x", "")
    with pytest.raises(UsageError, match="topology t: no host is left to be the server"):
        _ = Topology.of("t", node("a", "x"), cables="").server


@pytest.mark.parametrize("members", range(2, 9))
def test_a_lag_has_two_to_eight_members(members: int) -> None:
    hosts, switches = with_members(pair(), members), with_members(two_switches(8), members)
    assert len(list(hosts.between("left", "right"))) == members
    assert len(list(switches.between("west", "east"))) == members
    assert len(switches.hosts) == 16 and len(switches.cables) == members + 16
    assert (hosts == pair(), switches == two_switches(8)) == (members == 2,) * 2
    for other in (trio(), gateway(), unequal(), unstacked()):
        assert with_members(other, members) == other


def test_more_members_than_nics_have_names_are_refused() -> None:
    for members in (1, 9):
        with pytest.raises(ValueError, match="cables"):
            two_switches(1, members)
