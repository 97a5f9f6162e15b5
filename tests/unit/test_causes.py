"""From what was seen of a lab to the likeliest cause."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from channover.model.state import Endpoint, Limits, LinkState, Rule, State
from channover.report.results import Results, TestResult
from channover.verdict.causes.case import Case, HostView, NicView
from channover.verdict.causes.catalogue import explain
from channover.verdict.causes.cause import UNEXPLAINED, Cause, Explanation
from channover.verdict.causes.reference import reference
from tests.support.runs import RUN

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


def causes(sender: HostView, receiver: HostView = RIGHT, *, mptcp: bool = True, **more: object) -> tuple[Cause, ...]:
    return explain(Case(sender, receiver, mptcp, **more))  # type: ignore[arg-type]


def ids(*found: Cause) -> list[str]:
    return [one.id for one in found]


def test_a_missing_rule_is_named_with_the_bytes_that_prove_it() -> None:
    """A join succeeds without the rule, its NIC stays idle: the subflow left by the other one."""
    (cause,) = causes(view(rules=BOTH_RULES[:1]))
    assert cause.id == "no-source-rule"
    assert cause.statement == (
        "NIC b carried 558 bytes and left has no rule `from 10.94.94.1`: its subflows left by NIC a"
    )
    assert "1 subflow of left had the address 10.94.94.1" in cause.evidence
    assert cause.remedy.startswith("ip rule add from 10.94.94.1 ")


def test_a_rule_with_a_prefix_length_counts() -> None:
    rules = (BOTH_RULES[0], Rule(102, f"{B}/32", 102))
    assert "no-source-rule" not in ids(*causes(view(rules=rules)))


def test_an_endpoint_bound_to_its_nic_needs_no_rule() -> None:
    bound = {**MESH, 2: Endpoint(2, B, ("subflow", "fullmesh"), "eth2")}
    assert ids(*causes(view(rules=(), endpoints=bound))) == [UNEXPLAINED]


def test_a_missing_endpoint_is_named_with_the_remedy() -> None:
    (cause,) = causes(view(endpoints={1: MESH[1]}, subflows={A: 1}))
    assert cause.statement.startswith(
        "NIC b carried 558 bytes and left has no MPTCP endpoint 10.94.94.1: no subflow starts there"
    )
    assert cause.remedy == "ip mptcp endpoint add 10.94.94.1 dev eth2 subflow fullmesh"


def test_a_backup_is_idle_by_design() -> None:
    backup = {**MESH, 2: Endpoint(2, B, ("subflow", "backup"), None)}
    (cause,) = causes(view(endpoints=backup))
    assert (cause.id, cause.statement) == (
        "endpoint-backup",
        "NIC b carried 558 bytes: its endpoint 10.94.94.1 is a backup",
    )


def test_limits_that_keep_a_subflow_from_forming() -> None:
    (cause,) = causes(view(limits=Limits(0, 0), subflows={A: 1}))
    assert cause.id == "subflow-limit"
    assert cause.statement == "left allows 0 extra subflows, and none has the address of NIC b (10.94.94.1)"


def test_a_receiver_that_accepts_none_is_named_too() -> None:
    receiver = view("right", (5_000_000, 5_000_000), limits=Limits(0, 0))
    (cause,) = causes(view(subflows={A: 1}), receiver)
    assert cause.statement.startswith("right allows 0 extra subflows")


@pytest.mark.parametrize("mptcp", [True, False])
def test_a_nic_that_is_down_comes_first(mptcp: bool) -> None:
    found = causes(view(down="eth2"), view("right", down="eth1"), mptcp=mptcp)
    assert [one.statement for one in found[:2]] == ["left's NIC b (eth2) is down", "right's NIC a (eth1) is down"]


def test_nothing_stands_out_where_all_nics_are_busy() -> None:
    assert ids(*causes(view(carried=(5_000_000, 5_000_000), rules=()))) == [UNEXPLAINED]
    assert ids(*causes(view(), mptcp=False)) == [UNEXPLAINED], "TCP uses one NIC: an idle one is as it should be"


def test_the_last_resort_lists_what_was_ruled_out() -> None:
    (cause,) = causes(view(carried=(5_000_000, 5_000_000)))
    assert cause.statement == "nothing that was looked at explains it"
    assert "ruled out: a NIC of the lab is administratively down" in cause.evidence
    assert any("no MPTCP endpoint" in line for line in cause.evidence)
    assert not any("MPTCP" in line for line in causes(view(), mptcp=False)[0].evidence)


def test_a_nic_without_an_address_is_no_path() -> None:
    idle = view()
    nameless = HostView("left", [idle.nics[0], NicView("b", "eth2", 0)], idle.state, {A: 1})
    assert ids(*causes(nameless)) == [UNEXPLAINED]


def test_a_device_that_is_gone_is_not_called_down() -> None:
    assert "nic-down" not in ids(*causes(HostView("left", view().nics, State(), {}), mptcp=False))


def test_bytes_of_each_nic_in_one_line() -> None:
    assert str(view()) == "left: a (eth1) 10,000,000 bytes, b (eth2) 558 bytes"


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
