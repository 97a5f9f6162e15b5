"""The values of the last runs of a lab: as a table for a terminal, as JSON, and as a page with a picture of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from channover.report.comparison.over_time import Course, Point, courses
from channover.report.comparison.regressions import sentence
from channover.report.comparison.values import LEVEL
from channover.report.drawing.page import template
from channover.report.figures import with_uncertainty
from channover.report.results import Results
from channover.report.terminal import text_console, written
from channover.text import printable, readable

if TYPE_CHECKING:
    from rich.text import Text

_STEPS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _EDGE = 320.0, 72.0, 6.0
_LEAST = 0.02
"""The share of a value that a picture is high at least: less than that is no change, and does not look like one."""


@dataclass(frozen=True)
class History:
    """Runs of one lab, the oldest first, and the courses of the last one's values."""

    runs: tuple[Results, ...]
    courses: tuple[Course, ...]

    @property
    def changes(self) -> list[str]:
        """What left its level and is not back, a sentence each, for the worse first."""
        changed = sorted((one for one in self.courses if one.change), key=lambda one: not one.regressed)
        return [sentence(one, one.change, self.runs) for one in changed if one.change]

    @property
    def method(self) -> str:
        """How a change was told from noise."""
        return (
            f"A change: further from the runs before than runs differ (Student's test, {1 - LEVEL:.0%} over all values of a "
            "run together), and at least 1 % of the scale."
        )


def history(runs: Sequence[Results], behaviours: Sequence[str] = (), *, everything: bool = False) -> History:
    """Return the history of runs of one lab; of some behaviours, where any is named.

    Without ``everything`` counts that are the same in all runs are left out.
    """
    wanted = [one for one in courses(runs) if not behaviours or one.behaviour in behaviours]
    return History(tuple(runs), tuple(one for one in wanted if everything or _varies(one)))


def _varies(course: Course) -> bool:
    return course.unit != "1" or len({point.value for point in course.points}) > 1


def to_json(found: History) -> str:
    """Return it as JSON: values in bit/s, bytes, s; ``regressed`` says what a gate says."""
    values = [{**asdict(one), "regressed": one.regressed} for one in found.courses]
    document = {"version": 1, "runs": [one.run.id for one in found.runs], "values": values}
    return json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def render(found: History, *, width: int, colour: bool = False) -> str:
    """Return it as a table, with what changed below."""
    from rich import box  # here, since --help does not need it
    from rich.table import Table

    console = text_console(width, colour)
    console.print(_text(_heading(found)), overflow="fold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("behaviour", no_wrap=True)
    table.add_column("of", overflow="fold", min_width=14, max_width=80)
    for name in ("runs", "before", "last"):
        table.add_column(name, justify="right", no_wrap=name == "runs")
    table.add_column("course", no_wrap=True)
    table.add_column("change")
    for one in found.courses:
        style = "bold red" if colour and one.regressed else ""
        table.add_row(*map(_text, _row(one)), style=style)
    console.print(table)
    for line in found.changes:
        console.print(_text(line), overflow="fold")
    console.print(_text(found.method), overflow="fold")
    return written(console) + "\n"


def _heading(found: History) -> str:
    first, last = found.runs[0].run, found.runs[-1].run
    lab = f", lab {last.lab}" if last.lab else ""
    return f"{len(found.runs)} runs of target {last.kind}{lab}: {first.id} to {last.id}"


def _row(course: Course) -> tuple[str, ...]:
    last = course.points[-1]
    name = f"{course.name} ({_test(course)})"
    before = with_uncertainty(last.level.mean, last.level.spread, course.unit) if last.level else "–"
    return (
        course.behaviour or "–",
        name,
        str(len(course.points)),
        before,
        with_uncertainty(last.value, last.half, course.unit),
        _spark(course.points[-20:]),
        _change(course),
    )


def _test(course: Course) -> str:
    return readable(course.nodeid.rpartition("::")[2] or course.nodeid)


def _change(course: Course) -> str:
    if course.change is None:
        return "–" if course.points[-1].level else "too few runs"
    words = f"{course.change.way} with {course.change.run}"
    return f"{words}: worse" if course.regressed else words


def _spark(points: Sequence[Point]) -> str:
    """Return the course as blocks, from the least value to the most; of values that are all the same in the middle."""
    values = [point.value for point in points]
    low, room = min(values), max(values) - min(values)
    return "".join(_STEPS[round((value - low) / room * (len(_STEPS) - 1)) if room else 3] for value in values)


def page(found: History) -> str:
    """Return it as one HTML file, which asks nothing of the network and runs nothing."""
    rows = [
        {
            "behaviour": one.behaviour or "–",
            "name": printable(one.name),
            "test": _test(one),
            "cells": _row(one)[2:5],
            "change": _change(one),
            "worse": one.regressed,
            "changed": one.change is not None,
            "picture": _picture(one),
        }
        for one in found.courses
    ]
    values = {"heading": printable(_heading(found)), "method": found.method, "changes": found.changes, "rows": rows}
    return str(template("history.html").render(values, w=_WIDTH, h=_HEIGHT))


def _picture(course: Course) -> dict[str, Any]:
    """Return the places of a picture: a dot a run with its interval, the level's band, the bounds that fit."""
    level = course.points[-1].level
    ends = [
        end for point in course.points for end in (point.value - (point.half or 0), point.value + (point.half or 0))
    ]
    ends += [level.mean - level.spread, level.mean + level.spread] if level else []
    room = max(ends) - min(ends) or abs(max(ends)) or 1.0
    bounds = [
        one for one in (course.low, course.high) if one is not None and min(ends) - room <= one <= max(ends) + room
    ]
    low, high = min([*ends, *bounds]), max([*ends, *bounds])
    span = max(high - low, _LEAST * max(abs(low), abs(high))) or 1.0
    middle = (low + high) / 2

    def y(value: float) -> float:
        return round(_HEIGHT / 2 - (value - middle) / span * (_HEIGHT - 2 * _EDGE), 1)

    step = (_WIDTH - 2 * _EDGE) / max(len(course.points) - 1, 1)
    dots = [
        {
            "x": round(_EDGE + number * step, 1),
            "y": y(point.value),
            "top": y(point.value + (point.half or 0)),
            "foot": y(point.value - (point.half or 0)),
            "kind": point.kind if point.outcome == "passed" else "unlucky",
            "title": f"{point.run}: {with_uncertainty(point.value, point.half, course.unit)}, {point.outcome}",
        }
        for number, point in enumerate(course.points)
    ]
    band = (y(level.mean + level.spread), y(level.mean - level.spread)) if level else None
    return {"dots": dots, "band": band, "bounds": [y(one) for one in bounds]}


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text))
