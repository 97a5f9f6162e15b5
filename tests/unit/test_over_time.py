"""Changes over runs are told from noise by how much runs differ: simulations of how often that errs, and what it finds."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channover.report.comparison import history as shown
from channover.report.comparison.over_time import Course, courses
from channover.report.comparison.values import LEVEL, chance_of, scale_of
from channover.report.results import Measurement, Outcome, Results
from channover.verdict.significance import holm, of_runs, of_succession
from tests.support import runs
from tests.support.commands import command

VALUES = 30
"""Values of a comparison: about as many rates as the suites have."""


def measured(chance: random.Random, spread: float, mean: float = 185e6) -> Measurement:
    """A rate of one run: off by the spread between runs, and by the noise within it, as its interval says."""
    value = mean * (1 + chance.gauss(0, spread) + chance.gauss(0, 0.002))
    return replace(runs.RATE, value=value, low=150e6, high=None, expected=mean, uncertainty=3.5 * 0.002 * mean)


def found(chance: random.Random, sides: tuple[int, int, int], spread: float, drop: float = 0.0) -> bool:
    """Whether a comparison of so many runs before, after and former finds a change, of the first value in truth or of none."""
    probabilities = []
    for number in range(VALUES):
        mean = 185e6 * (1 - drop if number == 0 else 1)
        before, after = (
            [measured(chance, spread, m) for _ in range(n)] for m, n in ((185e6, sides[0]), (mean, sides[1]))
        )
        past = [measured(chance, spread) for _ in range(sides[2])]
        rates = [[one.value or 0.0 for one in side] for side in (before, after, past)]
        told = [of_runs(rates[0]), of_runs(rates[1]), of_succession(rates[2])]
        probability = chance_of(before, after, told, scale_of([*before, *after], 1e8))
        assert probability is not None
        probabilities.append(probability)
    return any(holm(probabilities, LEVEL))


@pytest.mark.parametrize("sides", [(1, 1, 0), (1, 1, 10), (3, 3, 0), (10, 1, 0)], ids=str)
@pytest.mark.parametrize("spread", [0.002, 0.015, 0.025])
def test_runs_of_the_same_code_are_called_the_same(sides: tuple[int, int, int], spread: float) -> None:
    # One comparison in a hundred may err: of fifty, four or more do so in two of a thousand trials.
    chance = random.Random(f"{sides} {spread}")
    assert sum(found(chance, sides, spread) for _ in range(50)) <= 3


@pytest.mark.parametrize(
    ("sides", "spread", "drop"),
    [((1, 1, 0), 0.01, 0.30), ((1, 1, 12), 0.004, 0.07), ((4, 4, 0), 0.01, 0.10), ((10, 1, 0), 0.01, 0.10)],
    ids=str,
)
def test_a_drop_is_found(sides: tuple[int, int, int], spread: float, drop: float) -> None:
    chance = random.Random(f"{sides} {drop}")
    assert sum(found(chance, sides, spread, drop) for _ in range(25)) >= 20


def history(rates: Sequence[float], *, low: float | None = 150e6, outcome: Outcome = "passed") -> list[Results]:
    """Runs of one test, a day each, with these rates; the last one's test ended so."""
    made = []
    for day, rate in enumerate(rates, start=1):
        value = replace(runs.RATE, value=rate, low=low, high=None if low else 300e6, expected=185e6, uncertainty=4e5)
        test = runs.test("MP-1", outcome if day == len(rates) else "passed", measurements=[value])
        made.append(runs.results(test, id=f"run-{day:02}", start=f"2026-01-{day:02}T12:00:00.000Z"))
    return made


STEADY = (184e6, 184.4e6, 183.7e6, 184.2e6, 183.9e6, 184.1e6, 184.3e6)


def only(rates: Sequence[float], **changes: Any) -> Course:
    (course,) = courses(history(rates, **changes))
    return course


def test_a_run_is_held_against_those_before_it() -> None:
    course = only([*STEADY, 171e6])
    assert [point.kind for point in course.points] == ["first"] * 3 + ["same"] * 4 + ["fell"]
    assert course.regressed and course.change is not None
    assert (course.change.run, course.change.before.runs) == ("run-08", 7)
    assert course.change.before.mean == pytest.approx(184.1e6, rel=1e-3)
    assert not only(STEADY).regressed and only(STEADY).change is None
    assert not only([*STEADY, 198e6]).regressed, "more is no regression"
    assert not only([184e6, 176e6, 185e6, 171e6, 180e6, 185e6, 174e6, 169e6]).regressed, "these runs differ by as much"
    assert not only([184e6, 184e6, 120e6]).regressed, "too few runs to tell"


def test_a_drop_does_not_become_usual_by_lasting_and_is_over_when_the_rate_is_back() -> None:
    lasting = only([*STEADY, 171e6, 171.2e6, 170.9e6, 171.1e6, 171e6])
    assert lasting.regressed and lasting.change is not None and lasting.change.run == "run-08"
    assert lasting.points[-1].kind == "same", "it is the level now"
    assert not only([*STEADY, 171e6, 184e6]).regressed
    back = only([*STEADY, 171e6, 171.2e6, 170.9e6, 184e6, 184.1e6, 183.9e6])
    assert back.change is not None and back.change.way == "rose" and not back.regressed


def test_a_rate_that_is_only_bounded_from_above_is_no_goal() -> None:
    course = only([*STEADY, 120e6], low=None)
    assert course.points[-1].kind == "fell" and not course.regressed


def test_a_failed_test_s_value_makes_no_level() -> None:
    runs_ = history([*STEADY[:4], 120e6], outcome="failed") + history([*STEADY, 184e6, 184.2e6])[5:]
    (course,) = courses(runs_)
    assert course.points[-1].level is not None and course.points[-1].level.mean > 183e6
    assert not course.regressed


def test_unchanged_code_is_called_changed_in_one_run_of_a_hundred() -> None:
    chance = random.Random(3)
    spreads = [chance.choice([0.001, 0.004, 0.01, 0.02]) for _ in range(VALUES)]
    made = []
    for day in range(1, 41):
        tests = [runs.test("MP-1", name=f"t[{n}]", measurements=[measured(chance, s)]) for n, s in enumerate(spreads)]
        made.append(runs.results(*tests, id=f"run-{day:02}", start=f"2026-01-01T12:{day:02}:00.000Z"))
    changed = {point.run for course in courses(made) for point in course.points if point.kind in ("fell", "rose")}
    assert len(changed) <= 2


def test_the_history_of_a_lab_is_a_table_a_page_and_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = history([*STEADY, 171e6])
    made[-1] = replace(made[-1], run=replace(made[-1].run, kernel="6.19"))
    for one in made:
        runs.saved(one, tmp_path / one.run.id)
    runs.saved(
        runs.results(runs.test(), id="run-99", start="2027-01-01T12:00:00.000Z", target="vm"), tmp_path / "run-00"
    )
    (tmp_path / "latest").symlink_to("run-08")
    page = tmp_path / "history.html"
    assert command("history", "--reports", tmp_path, "--html", page) == 1
    said = capsys.readouterr().out
    (row,) = [" ".join(line.split()) for line in said.splitlines() if line.startswith(" MP-1")]
    assert row == (
        "MP-1 goodput (test_mp_1) 8 184.09 ± 0.24 Mbit/s 171.00 ± 0.40 Mbit/s ███████▁ fell with run-08: worse"
    )
    assert "MP-1 goodput (test_mp_1): 171.00 ± 0.40 Mbit/s, 7.1% below the 7 runs before (184.09 ± 0.24 Mbit/s" in said
    assert "changed with it: kernel 6.18.5 x86_64 → 6.19" in said
    text = page.read_text()
    assert text.count("<circle") == 8 and "fell with run-08: worse" in text and "http" not in text
    assert command("history", "MP-1", "--reports", tmp_path, "--last", "2", "--json") == 0, (
        "one run before makes no level"
    )
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == ["run-07", "run-08"] and found["values"][0]["change"] is None
    assert command("history", "--run", tmp_path / "run-07") == 0
    assert command("history", "MP-2", "--reports", tmp_path) == 2
    assert command("history", "--reports", tmp_path / "none") == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_any_run_has_a_history_and_nothing_of_it_is_markup() -> None:
    made = [replace(runs.odd(), run=replace(runs.odd().run, id=f"r{number}")) for number in range(5)]
    found = shown.history(made, everything=True)
    assert "\x1b" not in shown.render(found, width=100) and "<script" not in shown.page(found)
    json.loads(shown.to_json(found))
    assert "No value left its level" in shown.page(shown.history([runs.results()]))
