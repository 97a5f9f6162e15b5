"""The state parser on what two versions of iproute2 print."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channover.model.state import OF_IPV6, Endpoint, Limits, LinkState, Route, Rule, State

DATA = Path(__file__).parents[1] / "data" / "state"
VERSIONS = ("6.1", "6.15")
BOTH = pytest.mark.parametrize("version", VERSIONS)


def told(name: str) -> State:
    return State.parse((DATA / f"{name}.txt").read_text())


@BOTH
def test_a_fresh_host(version: str) -> None:
    state = told(f"fresh-{version}")
    assert list(state.links) == ["lo", "eth1", "eth2"]
    assert state.links["lo"].addresses == ("127.0.0.1/8", "::1/128")
    assert (state.links["eth1"].up, state.links["eth1"].mtu, state.links["eth1"].kind) == (True, 1500, "veth")
    assert state.links["eth1"].addresses == (), "an address that the kernel makes by itself is nobody's configuration"
    assert state.routes == ()
    assert state.endpoints == {}
    assert state.limits == Limits(subflows=2, add_addr_accepted=0)
    assert state.rules == (Rule(0, "all", 255), Rule(32766, "all", 254), Rule(32767, "all", 253))


@BOTH
def test_links_with_master_kind_and_addresses(version: str) -> None:
    links = told(f"client-{version}").links
    mac = links["br0"].mac
    assert len(mac) == 17
    assert links["br0"] == LinkState("br0", True, 1400, "", ("10.77.0.1/16",), mac, "bridge")
    assert (links["vx1"].master, links["vx1"].up) == ("br0", False)
    assert (links["br1"].up, links["br1"].mtu) == (False, 1500)
    assert links["eth1"].addresses == ("10.93.93.1/30", "2001:db8::1/64")


@BOTH
def test_rules_by_source(version: str) -> None:
    rules = told(f"client-{version}").rules
    assert Rule(101, "10.93.93.1", 101) in rules
    assert Rule(102, "10.94.94.1", 102) in rules


@BOTH
def test_rules_that_also_look_at_something_else_are_none_of_ours(version: str) -> None:
    rules = told(f"client-{version}").rules
    assert [rule for rule in rules if 200 <= rule.priority <= 203] == []


@BOTH
def test_routes_that_somebody_configured(version: str) -> None:
    routes = told(f"client-{version}").routes
    assert Route("default", "eth1", None, 101) in routes
    assert Route("default", "eth2", "10.94.94.2", 254) in routes
    assert Route("10.78.0.0/16", "br0", "10.77.0.2", 254) in routes
    assert Route("10.79.0.0/16", "br0", "10.77.0.2", 200) in routes
    assert not [route for route in routes if route.destination in ("10.93.93.0/30", "10.77.0.1")], "the kernel's own"
    assert not [route for route in routes if route.destination == "10.82.0.0/16"], "unreachable: it has no device"


@BOTH
def test_routes_that_go_with_a_device(version: str) -> None:
    lost = told(f"client-{version}").routes_lost_with("br0")
    assert lost == (Route("10.79.0.0/16", "br0", "10.77.0.2", 200), Route("10.78.0.0/16", "br0", "10.77.0.2", 254))


@BOTH
def test_endpoints(version: str) -> None:
    assert told(f"client-{version}").endpoints == {
        1: Endpoint(1, "10.93.93.1", ("subflow", "fullmesh"), None),
        2: Endpoint(2, "10.94.94.1", ("subflow", "backup"), None),
        7: Endpoint(7, "10.77.0.1", ("subflow",), "br0"),
    }
    assert told(f"server-{version}").endpoints[1] == Endpoint(1, "10.93.93.2", ("signal",), None)
    assert told(f"server-{version}").limits == Limits(8, 8)


@pytest.mark.parametrize("name", ["fresh", "client", "server"])
def test_both_versions_tell_the_same(name: str) -> None:
    assert told(f"{name}-6.1") == told(f"{name}-6.15")


@BOTH
def test_tables_are_numbers_even_where_the_host_names_them(version: str) -> None:
    """The answers were taken with ``/etc/iproute2/rt_tables`` in place, which names three tables."""
    text = (DATA / f"client-{version}.txt").read_text()
    assert '"table":"254"' in text
    assert '"table":"main"' not in text


def test_a_host_with_rules_of_every_kind_is_read() -> None:
    state = told("odd-6.1")
    assert state.links["eth1"].addresses == (
        "10.5.0.1 peer 10.5.0.2/32",
        "10.6.0.1/24",
        "2001:db8:5::1/64",
        "2001:db8::1 peer 2001:db8::2/128",
    )
    assert [rule for rule in state.rules if 0 < rule.priority < 32766] == [
        Rule(988, "1.2.3.4", 6),
        Rule(32764, "10.1.0.2", 1000),
        Rule(32765, "10.1.0.1", 77),
    ], "marks, suppressed prefixes, VRFs, protocols, ports, jumps and users make a rule another kind"
    assert state.endpoints == {
        9: Endpoint(9, "10.6.0.1", ("signal",), None, 4433),
        10: Endpoint(10, "2001:db8:5::1", ("signal",), None, 4434),
        11: Endpoint(11, "10.6.0.1", ("subflow",), "eth1"),
        12: Endpoint(12, "10.6.0.7", (), None),
    }
    assert {route.destination: route.table for route in state.routes} == {
        "10.8.0.0/16": 254,
        "10.10.0.0/16": 254,
        "10.11.0.0/16": 254,
        "10.12.0.0/16": 1000,
    }


def test_a_table_that_has_only_a_name_keeps_it() -> None:
    """What an ip(8) prints that does not know ``-N``, or not of every kind of table."""
    text = (DATA / "odd-6.1.txt").read_text()
    for number, name in (("77", "mgmt"), ("254", "main"), ("1000", "big-2")):
        text = text.replace(f'"table":"{number}"', f'"table":"{name}"')
    state = State.parse(text)
    assert Rule(32765, "10.1.0.1", "mgmt") in state.rules
    assert Rule(32766, "all", 254) in state.rules
    assert Route("10.12.0.0/16", "eth1", "10.6.0.5", "big-2") in state.routes


def test_an_endpoint_whose_address_is_not_told_is_read() -> None:
    text = (DATA / "odd-6.1.txt").read_text().replace('"address":"10.6.0.7",', "")
    assert State.parse(text).endpoints[12] == Endpoint(12, "", (), None)


@pytest.mark.parametrize("line", ['{"add_addr_accepted":3,"subflows":5}', '[{"add_addr_accepted":3,"subflows":5}]'])
def test_limits_as_json(line: str) -> None:
    text = "\n".join((DATA / "fresh-6.1.txt").read_text().splitlines()[:-1])
    assert State.parse(f"{text}\n{line}\n").limits == Limits(subflows=5, add_addr_accepted=3)


@BOTH
def test_a_kernel_without_mptcp(version: str) -> None:
    """``ip -force`` goes on after a refused command: its words are on standard error, the answer is shorter."""
    lines = (DATA / f"server-{version}.txt").read_text().splitlines()
    state = State.parse("\n".join(lines[:3]))
    assert state.endpoints == {}
    assert state.limits is None
    assert len(state.rules) == 5


def test_sysctls_are_kept() -> None:
    text = (DATA / "fresh-6.1.txt").read_text()
    assert State.parse(text, {"net/mptcp/enabled": "1"}).sysctls == {"net/mptcp/enabled": "1"}


@pytest.mark.parametrize(
    "text",
    ["", "ip: command not found", "[]", "[]\n[]", "[{", "1\n2\n3", "[1]\n[2]\n[3]", "[{}]\n[3]\n[]", '["a"]\n{}\n{}'],
)
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^no answer of 'ip -j -d"):
        State.parse(text)


@given(st.text(alphabet='[]{}":,01ab\n', max_size=60))
def test_any_text_is_an_answer_or_refused(text: str) -> None:
    try:
        State.parse(text)
    except ValueError:
        return


@given(st.integers(0, 40), st.sampled_from(VERSIONS))
def test_a_torn_answer_is_refused_or_shorter(cut: int, version: str) -> None:
    whole = (DATA / f"client-{version}.txt").read_text()
    text = whole[: len(whole) * cut // 41]
    try:
        state = State.parse(text)
    except ValueError:
        return
    assert state.rules == told(f"client-{version}").rules


def test_rules_of_ipv6_stand_behind_a_mark() -> None:
    answer = (DATA / "client-6.15.txt").read_text()
    rules = '[{"priority":0,"src":"all","table":"255"},{"priority":102,"src":"fd00:93:1::1","table":"102"}]'
    found = State.parse(f"{answer}\n{OF_IPV6}\n{rules}\n")
    assert found.limits == State.parse(answer).limits
    assert found.rules == (*State.parse(answer).rules, Rule(0, "::/0", 255), Rule(102, "fd00:93:1::1", 102))
    assert [rule.of_any for rule in found.rules[-2:]] == [True, False]
    assert State.parse(f"{answer}\n{OF_IPV6}\n").rules == State.parse(answer).rules  # a kernel without IPv6
