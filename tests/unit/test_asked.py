"""What plans ask of a host, and what is said where it is not in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from channover.model.asked import Asked
from channover.model.operations.devices import AddressAdd, AddressDelete, LinkAdd, LinkDelete, LinkSet
from channover.model.operations.kernel import SysctlSet, TableAdd, TableDelete
from channover.model.operations.mptcp import EndpointAdd, EndpointChange, EndpointDelete, LimitsSet
from channover.model.operations.routing import RouteAdd, RouteDelete, RuleAdd, RuleDelete
from channover.model.plan import Plan
from channover.model.state import Endpoint, Limits, LinkState, Route, Rule, State

NICS = {"eth1": "NIC a (eth1)", "eth2": "NIC b (eth2)"}
STATE = State(
    links={
        "eth1": LinkState("eth1", True, 1500, "", ("10.93.93.1/30",), index=10),
        "eth2": LinkState("eth2", True, 1500, "bond0", (), index=11),
        "bond0": LinkState("bond0", True, 1500, "", (), kind="bond", index=20, options={"updelay": "200"}),
        "tun0": LinkState("tun0", True, 1500, "", ("10.91.91.1/30",), index=30),
    },
    rules=(Rule(101, "10.93.93.1", 101),),
    routes=(Route("default", "eth1", None, 101),),
    endpoints={1: Endpoint(1, "10.93.93.1", ("subflow", "fullmesh"), None)},
    limits=Limits(8, 8),
    sysctls={"net/mptcp/enabled": "1"},
)
CHANGES: Sequence[Any] = (
    LinkSet("eth1", up=True, mtu=1500),
    AddressAdd("eth1", "10.93.93.1/30"),
    RouteAdd("default", "eth1", table=101),
    RuleAdd("10.93.93.1", 101, 101),
    SysctlSet("net/mptcp/enabled", "1"),
    LimitsSet(8, 8),
    EndpointAdd(1, "10.93.93.1", ("fullmesh", "subflow")),
    LinkAdd("bond0", "bond", (("updelay", 200), ("xmit_hash_policy", "layer2"))),
    LinkSet("eth2", master="bond0"),
    AddressAdd("tun0", "10.91.91.1/30"),
)


def asked(*more: Any) -> Asked:
    found = Asked()
    found.note(Plan.of("a lab", CHANGES), replace(STATE, links={k: v for k, v in STATE.links.items() if k != "bond0"}))
    found.note(Plan.of("a test's own", more), STATE)
    return found


def said(found: Asked, now: State) -> list[str]:
    return list(found.unmet(now, NICS))


def with_link(device: str, **changes: Any) -> State:
    return STATE.with_link(replace(STATE.links[device], **changes))


def test_of_what_is_in_force_nothing_is_said() -> None:
    assert said(asked(), STATE) == []


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (with_link("eth1", mtu=1400), "the MTU of NIC a (eth1) is 1400, and 1500 was asked for"),
        (with_link("eth1", up=False), "NIC a (eth1) is down, and up was asked for"),
        (with_link("eth1", addresses=()), "the address 10.93.93.1/30 of NIC a (eth1) is gone, and was asked for"),
        (with_link("eth2", master=""), "NIC b (eth2) is a NIC by itself, and a member of bond0 was asked for"),
        (with_link("bond0", options={"updelay": "0"}), "bond0's updelay is 0, and 200 was asked for"),
        (with_link("bond0", kind="dummy"), "bond0 is a dummy, and a bond was asked for"),
        (replace(STATE, rules=()), "the rule 'from 10.93.93.1 table 101' is gone, and was asked for"),
        (replace(STATE, routes=()), "the route 'default dev eth1 table 101' is gone, and was asked for"),
        (replace(STATE, endpoints={}), "MPTCP endpoint 1 (10.93.93.1) is gone, and was asked for"),
        (
            replace(STATE, endpoints={1: Endpoint(1, "10.93.93.1", ("subflow", "backup"), "eth1")}),
            "MPTCP endpoint 1 is 10.93.93.1 dev eth1 backup subflow, and 10.93.93.1 fullmesh subflow was asked for",
        ),
        (
            replace(STATE, limits=Limits(1, 8)),
            "MPTCP's limits are 1 subflows and 8 accepted addresses, and 8 subflows and 8 accepted addresses were asked for",
        ),
        (replace(STATE, sysctls={"net/mptcp/enabled": "0"}), "net/mptcp/enabled is 0, and 1 was asked for"),
        (STATE.without_link("bond0"), "bond0 is gone"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_setting_that_is_not_in_force_is_named(now: State, words: str) -> None:
    assert said(asked(), now) == [words]


def test_a_nic_that_is_gone_is_said_once() -> None:
    assert said(asked(), STATE.without_link("eth1")) == ["NIC a (eth1) is gone"]


@pytest.mark.parametrize(
    ("change", "now"),
    [
        (RuleDelete("10.93.93.1", 101, 101), replace(STATE, rules=())),
        (RouteDelete("default", "eth1", table=101), replace(STATE, routes=())),
        (EndpointDelete(1), replace(STATE, endpoints={})),
        (EndpointDelete(1), replace(STATE, endpoints={1: Endpoint(1, "10.93.93.1", ("implicit",), None)})),
        (
            EndpointChange(1, ("backup",)),
            replace(STATE, endpoints={1: Endpoint(1, "10.93.93.1", ("subflow", "backup"), None)}),
        ),
        (LimitsSet(2, 0), replace(STATE, limits=Limits(2, 0))),
        (SysctlSet("net/mptcp/enabled", "0"), replace(STATE, sysctls={"net/mptcp/enabled": "0"})),
        (LinkSet("eth1", mtu=1400), with_link("eth1", mtu=1400)),
        (AddressDelete("eth1", "10.93.93.1/30"), replace(with_link("eth1", addresses=()), routes=())),
        (LinkSet("eth1", up=False), replace(with_link("eth1", up=False), routes=())),
        (LinkDelete("bond0"), with_link("eth2", master="").without_link("bond0")),
    ],
    ids=lambda one: one.command if hasattr(one, "command") else "",
)
def test_what_a_test_changes_by_a_plan_is_what_is_asked_for(change: Any, now: State) -> None:
    assert said(asked(change), now) == []
    if not isinstance(change, (LinkDelete, EndpointDelete)):
        assert said(asked(change), STATE), "the former setting is in force, and the change was asked for"


def test_an_address_that_was_taken_from_a_tunnel_is_gone_with_it() -> None:
    found = asked(AddressAdd("tun0", "fd00:91::1/64"), AddressDelete("tun0", "fd00:91::1/64"))
    assert said(found, replace(STATE, links={k: v for k, v in STATE.links.items() if k != "tun0"})) == []


def test_an_undo_asks_for_what_was_there_before() -> None:
    found = asked(RuleDelete("10.93.93.1", 101, 101))
    found.note(Plan.of("undo", [RuleAdd("10.93.93.1", 101, 101)]), State())
    assert said(found, STATE) == []
    assert said(found, replace(STATE, rules=())) == ["the rule 'from 10.93.93.1 table 101' is gone, and was asked for"]


def test_a_rule_of_ipv6_that_is_gone_is_named() -> None:
    assert said(asked(RuleAdd("fd00::1", 7, 7)), STATE) == [
        "the rule 'from fd00::1 table 7' is gone, and was asked for"
    ]


def test_a_setting_that_was_taken_away_and_is_there_again_is_named() -> None:
    assert said(asked(RuleDelete("10.93.93.1", 101, 101)), STATE) == [
        "the rule 'from 10.93.93.1 table 101' is there, and was to be gone"
    ]


def test_a_tunnel_that_has_ended_is_no_loss_and_a_later_one_of_its_name_is_another() -> None:
    assert said(asked(), STATE.without_link("tun0")) == []
    assert said(asked(), with_link("tun0", addresses=(), index=31)) == []
    assert said(asked(), with_link("tun0", addresses=())) == [
        "the address 10.91.91.1/30 of tun0 is gone, and was asked for"
    ]


@pytest.mark.parametrize(
    ("change", "now"),
    [
        (RuleAdd("10.7.0.1/32", 7, 7), replace(STATE, rules=(*STATE.rules, Rule(7, "10.7.0.1", 7)))),
        (RouteAdd("10.7.0.1/32", "eth1"), replace(STATE, routes=(*STATE.routes, Route("10.7.0.1", "eth1", None, 254)))),
        (AddressAdd("eth1", "fd00:0:0::1/64"), with_link("eth1", addresses=("10.93.93.1/30", "fd00::1/64"))),
        (AddressAdd("eth1", "10.7.0.1"), with_link("eth1", addresses=("10.93.93.1/30", "10.7.0.1/32"))),
        (
            SysctlSet("net/ipv4/tcp_rmem", "1 2 3"),
            replace(STATE, sysctls={**STATE.sysctls, "net/ipv4/tcp_rmem": "1\t2\t3"}),
        ),
        (RuleAdd("10.7.0.1", "blue", 7), STATE),
        (RuleAdd("fd00::1", 7, 7), replace(STATE, rules=(*STATE.rules, Rule(7, "fd00::1", 7)))),
    ],
    ids=lambda one: one.command if hasattr(one, "command") else "",
)
def test_what_the_host_tells_in_other_words_is_the_same(change: Any, now: State) -> None:
    assert said(asked(change), now) == []


def test_tables_and_offloads_are_kept_for_whoever_reads_them() -> None:
    found = asked(TableAdd("guard", "x"), TableAdd("other", "x"), TableDelete("other"))
    found.switched("eth1", ("tx", "tso"), on=False)
    found.switched("eth1", ("tx",), on=True)
    assert found.tables == {"guard": True, "other": False}
    assert found.offloads == {"eth1": {"tx": True, "tso": False}}
    assert said(found, STATE) == []


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (
            replace(STATE, rules=(*STATE.rules, Rule(50, "10.93.93.1", 7))),
            "a rule 'from 10.93.93.1 table 7' of priority 50",
        ),
        (
            replace(STATE, routes=(*STATE.routes, Route("10.94.94.2", "eth1", None, 254))),
            "a route '10.94.94.2 dev eth1'",
        ),
        (
            replace(STATE, endpoints={**STATE.endpoints, 9: Endpoint(9, "10.7.0.1", ("signal",), None)}),
            "an MPTCP endpoint 9 (10.7.0.1 signal)",
        ),
        (
            with_link("eth1", addresses=("10.93.93.1/30", "10.7.0.1/24")),
            "an address 10.7.0.1/24 of NIC a (eth1)",
        ),
        (with_link("eth1", qdisc="netem"), "a queue netem at NIC a (eth1)"),
        (STATE, None),
        (with_link("eth1", qdisc="fq_codel"), None),
        (replace(STATE, routes=(*STATE.routes, Route("10.0.0.0/8", "tun0", None, 254))), None),
        (replace(STATE, endpoints={**STATE.endpoints, 9: Endpoint(9, "10.7.0.1", ("implicit",), None)}), None),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_nobody_asked_for_and_may_defeat_what_was_is_worth_a_note(now: State, words: str | None) -> None:
    found = asked()
    assert list(found.unasked(now, NICS)) == ([words] if words else [])
    assert said(found, now) == [], "it is no error: a test may have wanted it"
    assert list(Asked().unasked(now, NICS)) == [], "of a host that no plan has changed nothing is known"


def test_a_queue_that_a_lab_was_given_is_asked_for_and_no_stranger() -> None:
    found = asked()
    found.queued("eth1", "netem")
    held = with_link("eth1", qdisc="netem")
    assert said(found, held) == []
    assert list(found.unasked(held, NICS)) == []
    assert said(found, STATE) == ["the queue of NIC a (eth1) is , and netem was asked for"]
    found.queued("eth1", "")
    assert said(found, STATE) == []
    assert list(found.unasked(held, NICS)) == ["a queue netem at NIC a (eth1)"]
