"""The fault matrix as data: what its rows say, how they are judged, and what is told of them."""

from __future__ import annotations

import ast
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from channover.hosts.readback import NOT_AS_ASKED
from channover.observe.proof.findings import Kind
from channover.report.signoff.detection_limits import size
from channover.verdict.causes.catalogue import CAUSES
from tests.faults import limits, page, run
from tests.faults.fault import SUITES, Fault, When, caught, fails, noted, unfit
from tests.faults.judge import FOUND, Row, judge
from tests.faults.table import FAULTS, ROWS

ROOT = Path(__file__).parents[2]
FAULT = Fault(
    "any",
    "rate",
    "cable b is slow",
    lambda _: "",
    When.BUILT,
    {"LAG-1": fails("no-carrier"), "LAG-2": unfit("cable-rate"), "MP-1": noted("mtu")},
    ("MP-4",),
)


def result(name: str, outcome: str, **more: Any) -> dict[str, Any]:
    return {"nodeid": SUITES[name], "outcome": outcome, "duration": 1.0, "measurements": [], **more}


def log(**void: str) -> list[dict[str, str]]:
    return [{"test": node, "evidence": "seen", "void": void.get(name, "")} for name, node in SUITES.items()]


GOOD = [
    result("LAG-1", "failed", reason="1 link", causes=[{"id": "no-carrier"}, {"id": "nic-down"}]),
    result("LAG-2", "error", reason="cable b carries 90.0 of 100 Mbit/s, left to right", causes=[{"id": "cable-rate"}]),
    result("MP-1", "passed", notes=[{"id": "mtu"}]),
    result("MP-4", "passed"),
]


def changed(number: int, **more: Any) -> list[dict[str, Any]]:
    return [{**one, **more} if place == number else one for place, one in enumerate(GOOD)]


def test_each_suite_test_is_a_row_s_and_each_row_s_test_is_a_suite_s() -> None:
    there = {
        f"{path.relative_to(ROOT)}::{each.name}"
        for path in (ROOT / "suites").rglob("test_*.py")
        for each in ast.parse(path.read_text()).body
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
        if path.parent.name != "rivals"  # measured and not judged
    }
    assert {node.partition("[")[0] for node in SUITES.values()} == there
    broken = {name for row in ROWS for name in row.breaks}
    assert broken == set(SUITES), "a test that no fault keeps from passing"


def test_rows_say_what_they_must_and_there_are_enough() -> None:
    assert len(FAULTS) == len(ROWS)
    assert len([row for row in ROWS if not row.harmless]) >= 60
    families = [family for group in page.GROUPS.values() for family in group]
    assert {row.family for row in ROWS} == set(families)
    for row in ROWS:
        assert row.tests and set(row.tests) <= set(SUITES), row.id
        assert (row.do is None) == (row.when is When.IN_PLACE) == bool(row.patches), row.id
        assert row.harmless == (row.family == "harmless"), row.id
        assert set(row.breaks).isdisjoint(row.spares), row.id
    assert 3 <= len([row for row in ROWS if row.quick]) <= 7


def test_a_row_expects_no_cause_that_there_is_not() -> None:
    noted = {"retransmissions", "mtu", "hash", "slow-lacp", "changed", "unasked"}
    kinds = {NOT_AS_ASKED, *(f"cable-{kind}" for kind in get_args(Kind))}
    known = {*CAUSES, *FOUND, *kinds, *noted}
    for row in ROWS:
        for expected in row.breaks.values():
            assert set(expected.first) <= known, row.id
            assert expected.first or expected.words or "passed" in expected.outcomes, row.id


def test_a_row_whose_tests_come_to_what_they_must_is_good() -> None:
    row = judge(FAULT, GOOD, log(), 4.0)
    assert row.good and [one.first for one in row.seen] == [("no-carrier", "nic-down"), ("cable-rate",), (), ()]
    assert Row.from_plain(json.loads(json.dumps(row.to_plain()))) == row


@pytest.mark.parametrize(
    ("tests", "void", "words"),
    [
        (changed(0, outcome="passed", causes=[]), {}, "NOT CAUGHT"),
        (changed(0, causes=[{"id": "nic-down"}, {"id": "no-carrier"}]), {}, "NOT NAMED"),
        (changed(1, reason="cable b loses 3 of 900 frames (0.33%)", causes=[{"id": "cable-loss"}]), {}, "NOT NAMED"),
        (changed(1, reason="INCONCLUSIVE: one processor was full", causes=[]), {}, "no verdict"),
        (changed(2, notes=[]), {}, "NOT CAUGHT"),
        (changed(2, notes=[{"id": "offloads"}]), {}, "NOT NAMED"),
        (changed(3, outcome="failed", reason="x"), {}, "NOT SPARED"),
        (changed(3, outcome="skipped", reason="no tun"), {}, "VOID: skipped: no tun"),
        (GOOD, {"LAG-1": "not in force: port 104"}, "VOID: not in force"),
        (GOOD[:3], {}, "VOID"),
    ],
)
def test_a_row_that_comes_to_something_else_says_what(
    tests: list[dict[str, Any]], void: dict[str, str], words: str
) -> None:
    row = judge(FAULT, tests, log(**void), 4.0)
    assert not row.good
    assert run.told(row).startswith(words)


def test_words_of_a_reason_are_looked_for() -> None:
    worded = replace(FAULT, breaks={"LAG-1": caught(words=r"of \d, expected")}, spares=())
    assert judge(worded, changed(0, reason="links at work of 1, expected exactly 2"), log(), 1.0).good
    assert not judge(worded, GOOD, log(), 1.0).named


def test_the_page_and_the_picture_tell_what_was_caught_and_named() -> None:
    pairs = [(replace(row, id=f"{row.id}"), judge(row, [], log(), 1.0, "no results")) for row in ROWS[:3]]
    pairs.append((FAULT, judge(FAULT, GOOD, log(), 60.0)))
    text = page.page(pairs, None)
    assert "| caught | 1 of 4 |" in text and "| named, the right cause first | 1 of 4 |" in text
    assert "LAG-1 failed: no-carrier<br>LAG-2 error: cable-rate<br>MP-1 passed, but: mtu<br>MP-4 passed" in text
    drawing = ET.fromstring(page.picture(pairs))
    assert "rate" in [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")]


def test_a_detection_limit_is_the_last_size_that_was_found_in_19_of_20_tries() -> None:
    family = replace(limits.FAMILIES[0], sizes=(0.04, 0.03, 0.02, 0.01))
    tries: list[float] = []

    def found(_: limits.Family, size: float) -> bool:
        tries.append(size)
        return size > 0.02 and not (size == 0.03 and tries.count(0.03) == 7)

    limit = limits.detect(family, found)
    assert limit["limit"] == 0.03
    assert limit["tried"] == [
        {"size": 0.04, "found": 20, "of": 20},
        {"size": 0.03, "found": 19, "of": 20},
        {"size": 0.02, "found": 0, "of": 2},
    ]


def test_the_limits_that_are_shipped_stand_on_the_page() -> None:
    shipped = json.loads(limits.PATH.read_text())
    text = (ROOT / "docs" / "faults.md").read_text()
    for one in shipped["limits"]:
        assert f"| {one['says']} | {size(one['limit'], one['unit'])} |" in text
