"""From what was seen of a flow to the likeliest cause."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from channover.model.state import Endpoint, Limits, LinkState, Rule, State
from channover.verdict.diagnosis import HostView, NicView, causes, per_nic

FULL = Limits(8, 8)
A, B = "10.93.93.1", "10.94.94.1"
BOTH_RULES = (Rule(101, A, 101), Rule(102, B, 102))
MESH = {1: Endpoint(1, A, ("subflow", "fullmesh"), None), 2: Endpoint(2, B, ("subflow", "fullmesh"), None)}


def link(device: str, up: bool = True) -> LinkState:
    return LinkState(device, up, 1500, "", ())


def view(
    name: str = "left",
    carried: tuple[int, int] = (10_000_000, 558),
    *,
    rules: tuple[Rule, ...] = BOTH_RULES,
    endpoints: Mapping[int, Endpoint] = MESH,
    limits: Limits | None = FULL,
    subflows: Mapping[str, int] | None = None,
    down: str = "",
) -> HostView:
    state = State(
        links={device: link(device, device != down) for device in ("eth1", "eth2")},
        rules=rules,
        endpoints=endpoints,
        limits=limits,
    )
    nics = [NicView("a", "eth1", carried[0], A), NicView("b", "eth2", carried[1], B)]
    return HostView(name, nics, state, subflows if subflows is not None else {A: 1, B: 1})


RIGHT = view("right", (5_000_000, 5_000_000))


def test_a_missing_rule_is_named_with_the_bytes_that_prove_it() -> None:
    """A join succeeds without the rule, its NIC stays idle: the subflow left by the other one."""
    (cause,) = causes(view(rules=BOTH_RULES[:1]), RIGHT, mptcp=True)
    assert cause == (
        "NIC b carried 558 bytes and left has no rule `from 10.94.94.1`: "
        "the 1 subflow(s) with that address left by NIC a"
    )


def test_a_rule_with_a_prefix_length_counts() -> None:
    rules = (BOTH_RULES[0], Rule(102, f"{B}/32", 102))
    assert not any("no rule" in cause for cause in causes(view(rules=rules), RIGHT, mptcp=True))


def test_an_endpoint_bound_to_its_nic_needs_no_rule() -> None:
    bound = {**MESH, 2: Endpoint(2, B, ("subflow", "fullmesh"), "eth2")}
    assert causes(view(rules=(), endpoints=bound), RIGHT, mptcp=True) == []


def test_a_missing_endpoint_is_named_with_the_remedy() -> None:
    (cause,) = causes(view(endpoints={1: MESH[1]}, subflows={A: 1}), RIGHT, mptcp=True)
    assert cause.startswith(
        "NIC b carried 558 bytes and left has no MPTCP endpoint 10.94.94.1: no subflow starts there"
    )
    assert "ip mptcp endpoint add 10.94.94.1 dev eth2 subflow fullmesh" in cause


def test_a_backup_is_idle_by_design() -> None:
    backup = {**MESH, 2: Endpoint(2, B, ("subflow", "backup"), None)}
    assert causes(view(endpoints=backup), RIGHT, mptcp=True) == [
        "NIC b carried 558 bytes: its endpoint 10.94.94.1 is a backup"
    ]


def test_limits_that_keep_a_subflow_from_forming() -> None:
    found = causes(view(limits=Limits(0, 0), subflows={A: 1}), RIGHT, mptcp=True)
    assert found == ["NIC b carried 558 bytes and no subflow has its address: left allows 0 extra subflows"]


def test_unknown_limits() -> None:
    (cause,) = causes(view(limits=None, subflows={A: 1}), RIGHT, mptcp=True)
    assert cause.endswith("left allows an unknown number of extra subflows")


def test_a_receiver_that_accepts_none_is_named_too() -> None:
    receiver = view("right", (5_000_000, 5_000_000), limits=Limits(0, 0))
    found = causes(view(subflows={A: 1}), receiver, mptcp=True)
    assert found[-1] == "right accepts no extra subflow (ip mptcp limits set subflows 8)"


@pytest.mark.parametrize("mptcp", [True, False])
def test_a_nic_that_is_down_comes_first(mptcp: bool) -> None:
    found = causes(view(down="eth2"), view("right", down="eth1"), mptcp=mptcp)
    assert found[:2] == ["left's NIC b (eth2) is down", "right's NIC a (eth1) is down"]


def test_a_fallback_comes_before_all() -> None:
    found = causes(view(down="eth2"), RIGHT, mptcp=True, fallbacks=["MPCapableFallbackACK rose by 1"])
    assert found[0] == "the connection fell back to TCP: MPCapableFallbackACK rose by 1"


def test_nothing_stands_out_where_all_nics_are_busy() -> None:
    assert causes(view(carried=(5_000_000, 5_000_000), rules=()), RIGHT, mptcp=True) == []
    assert causes(view(), RIGHT, mptcp=False) == [], "TCP uses one NIC: an idle one is as it should be"


def test_a_nic_without_an_address_is_no_path() -> None:
    idle = view()
    nameless = HostView("left", [idle.nics[0], NicView("b", "eth2", 0)], idle.state, {A: 1})
    assert causes(nameless, RIGHT, mptcp=True) == []


def test_a_device_that_is_gone_is_not_called_down() -> None:
    assert causes(HostView("left", view().nics, State(), {}), RIGHT, mptcp=False) == []


def test_a_host_that_moved_nothing() -> None:
    silent = view(carried=(0, 0), subflows={})
    assert len(causes(silent, RIGHT, mptcp=True)) == 2, "each NIC is idle, and each has its cause"


def test_bytes_of_each_nic_in_one_line() -> None:
    assert per_nic(view()) == "left: a (eth1) 10,000,000 bytes, b (eth2) 558 bytes"
