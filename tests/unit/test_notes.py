"""Notes, "passed, but …": where a reader of a run meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from channover.measure.running.slices import short_offer
from channover.model.catalogue import CATALOGUE
from channover.observe.lags.bond_parsers import parse_losses, parse_proc_bonding
from channover.report.allure.page import PageFacts, page
from channover.report.comparison.compare import compare
from channover.report.deciding.decision import decide
from channover.report.results import Outcome, Results
from channover.report.terminal import render
from channover.verdict import notes
from channover.verdict.notes import Note, once
from tests.support import runs
from tests.support.certificates import Page, written

AGAIN = Note("retransmissions", "left sent 0.4 % of its segments again (120 of 30 000)", {"share": 0.004, "again": 120})
SLOW = Note("lacp-rate", "left: bond0 is asked for LACP frames every 30 s", {})


def noted(outcome: Outcome = "passed", *notes: Note) -> Results:
    return runs.results(replace(runs.test(outcome=outcome, reason="of the wire"), notes=notes or (AGAIN, SLOW)))


def test_notes_come_back_as_they_were_and_without_them_nothing_is_written() -> None:
    assert Results.from_json(noted().to_json()) == noted()
    assert "notes" not in json.loads(runs.results(runs.test()).to_json())["tests"][0]


def test_a_figure_that_is_not_finite_is_left_out_and_a_text_is_one_line() -> None:
    note = Note("any", "two\nlines", {"a": float("inf"), "b": 2})
    assert (note.text, note.figures) == ("two lines", {"b": 2.0})


def test_what_two_flows_saw_is_noted_once() -> None:
    assert once([AGAIN, SLOW, replace(AGAIN, figures={})]) == (replace(AGAIN, figures={}), SLOW)


def test_the_terminal_says_passed_but() -> None:
    text = render(noted())
    assert "passed" in text and "but …" in text
    assert f"LAG-1 passed, but: suites/test_any.py::test_lag_1\n    {AGAIN.text}\n    {SLOW.text}\n" in text
    assert "but" not in render(runs.results(runs.test()))


@pytest.mark.parametrize("outcome", ["failed", "error"])
def test_beside_another_verdict_they_are_no_but(outcome: Outcome) -> None:
    text = render(noted(outcome))
    assert f"LAG-1 {outcome}; noted beside it: " in text and AGAIN.text in text
    assert "but" not in text


def test_the_certificate_says_it_beside_the_verdict_and_in_full_among_the_values(tmp_path: Path) -> None:
    made, html = written(noted(), tmp_path)
    text = Page(html).text
    assert "✓ passed, but: retransmissions, lacp-rate" in text
    assert f"but: {AGAIN.text}" in text and f"but: {SLOW.text}" in text
    assert made.decision.verdict == "ACCEPTED"


def test_notes_decide_nothing() -> None:
    assert decide(noted()).verdict == decide(runs.results(runs.test())).verdict == "ACCEPTED"


def test_the_page_of_a_test_has_them_above_its_values() -> None:
    html = page(PageFacts(CATALOGUE["LAG-1"], but=(AGAIN, SLOW)))
    assert "Passed, but:" in html and AGAIN.text in html and SLOW.text in html
    assert "Passed, but:" not in page(PageFacts(CATALOGUE["LAG-1"]))


def test_a_comparison_tells_which_kinds_came_and_went_and_not_their_figures() -> None:
    other = replace(AGAIN, text="left sent 0.5 % of its segments again")
    before, after = noted("passed", AGAIN), noted("passed", other, SLOW)
    found = compare([before], [after])
    assert [(one.name, one.before, one.after) for one in found.facts] == [
        ("LAG-1: noted", "retransmissions", "retransmissions, lacp-rate")
    ]
    assert not found.significant
    assert not compare([noted("passed", AGAIN)], [noted("passed", other)]).facts


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            notes.retransmissions("tcp", {"left": (120, 30_000)}),
            "tcp: 0.40% of the segments were sent again (120 of 30,000 by left)",
        ),
        (
            notes.retransmissions("tcp", {"left1": (20, 10_000), "left2": (100, 20_000)}),
            "tcp: 0.40% of the segments were sent again (120 of 30,000, of them 100 by left2)",
        ),
        (notes.retransmissions("tcp", {"left": (30, 30_000)}), None),
        (notes.retransmissions("tcp", {"left": (9, 100)}), None),
        (notes.retransmissions("tcp", {"left": (0, 0)}), None),
        (notes.retransmissions("tcp", {}), None),
        (
            notes.unequal_paths("mptcp", "right", {"a": 100e6, "b": 97e6}),
            "mptcp: right's NIC b carries 97.0 Mbit/s, and NIC a 100.0",
        ),
        (notes.unequal_paths("mptcp", "right", {"a": 100e6, "b": 98.5e6}), None),
        (notes.unequal_paths("mptcp", "right", {"a": 100e6}), None),
        (
            notes.dropped("udp", "right", "a", {"receive_drops": (50, 10_000)}),
            "udp: right's NIC a counted 50 receive drops beside 10,000 frames",
        ),
        (notes.dropped("udp", "right", "a", {"receive_drops": (9, 10_000)}), None),
        (
            notes.dropped("udp", "right", "a", {"receive_errors": (1, 10_000)}),
            "udp: right's NIC a counted 1 receive errors beside 10,000 frames",
        ),
        (
            notes.reordered("udp", "right", 50, 10_000),
            "udp: 0.50% of the datagrams (50 of 10,000) reached right out of order",
        ),
        (notes.reordered("udp", "right", 5, 10_000), None),
        ([notes.flapped("tcp", "right", "b", 2)], "tcp: the carrier of right's NIC b changed 2 times"),
        (
            notes.unlike_mtus("the cable a–b", (1500, 1400)),
            "the ends of the cable a–b have MTUs of 1500 and 1400 bytes",
        ),
        (notes.unlike_mtus("the cable a–b", (1500, 1500)), None),
    ],
)
def test_what_a_reader_wants_to_know_and_from_what_size_on(found: Iterator[Note], said: str | None) -> None:
    assert [note.text for note in found] == ([said] if said else [])


def test_a_member_s_losses_are_what_its_driver_counts() -> None:
    told = """
---- bond0-lag statistics ----

member: eth1:
  TX PDUs: 10
  Link Expired: 0
  Link Defaulted: 0
  Carrier Status Changed: 0

member: eth2:
  TX PDUs: 11
  Link Expired: 1
  Link Defaulted: 1
  Carrier Status Changed: 2
"""
    assert parse_losses(told) == {"eth1": 0, "eth2": 4}
    data = Path(__file__).parents[1] / "data" / "bond"
    cut, fast = ((data / f"kernel-6.12-{name}.txt").read_text() for name in ("cut", "fast"))
    assert [member.losses for member in parse_proc_bonding(cut).members] == [1, 0]
    assert [member.losses for member in parse_proc_bonding(fast).members] == [0, 0]


@pytest.mark.parametrize(
    ("offered", "lost", "blames"),
    [(500e6, 0.0, True), (500e6, 0.5, False), (1000e6, 0.0, False), (995e6, 0.0, False), (120e6, 0.005, True)],
)
def test_a_sender_that_offers_less_than_it_was_told_to_is_no_fault_of_a_wire(
    offered: float, lost: float, blames: bool
) -> None:
    assert bool(short_offer(offered, 1000e6, lost)) is blames
