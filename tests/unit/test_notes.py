"""Notes, "passed, but …": where a reader of a run meets them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from channover.model.catalogue import CATALOGUE
from channover.report.allure.page import PageFacts, page
from channover.report.comparison.compare import compare
from channover.report.decision import decide
from channover.report.results import Outcome, Results
from channover.report.terminal import render
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
