"""A comparison of runs as a table for a terminal, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from channover.report.comparison.compare import Comparison, Difference, Value, by_behaviour
from channover.report.figures import with_uncertainty
from channover.report.results import Unit
from channover.report.terminal import text_console, written
from channover.text import printable, readable

if TYPE_CHECKING:
    from rich.text import Text

NARROWEST = 80
"""Columns that the table needs."""


def to_json(comparison: Comparison) -> str:
    """Return a comparison as JSON: values in bit/s, bytes, s; ``significant`` says what the exit code says."""
    document = {"version": 1, "significant": comparison.significant, **asdict(comparison)}
    return json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def render(comparison: Comparison, *, width: int = NARROWEST, colour: bool = False) -> str:
    """Return what changed as a table: facts, then a row for each change and for each behaviour without one."""
    from rich import box  # here, since --help does not need it
    from rich.table import Table

    console = text_console(max(width, NARROWEST), colour)
    console.print(
        _text(f"before {', '.join(comparison.before)} · after {', '.join(comparison.after)}"), overflow="fold"
    )
    if comparison.facts:
        facts = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("fact", "before", "after"):
            facts.add_column(name, overflow="fold")
        for fact in comparison.facts:
            facts.add_row(*(_text(part) for part in (fact.name, fact.before, fact.after)))
        console.print(facts)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("behaviour", no_wrap=True)
    table.add_column("of", overflow="fold", min_width=14)
    table.add_column("before", justify="right", overflow="fold")
    table.add_column("after", justify="right", overflow="fold")
    table.add_column("change", overflow="fold")
    for behaviour, *cells in _rows(comparison):
        style = "bold red" if colour and cells[-1].startswith(("verdict", "changed", "added", "removed")) else ""
        table.add_row(_text(behaviour), *(_text(cell) for cell in cells), style=style)
    console.print(table)
    console.print(_text(_closing(comparison)), overflow="fold")
    return written(console) + "\n"


def _rows(comparison: Comparison) -> list[tuple[str, str, str, str, str]]:
    rows: list[tuple[str, str, str, str, str]] = []
    for behaviour, verdicts, differences in by_behaviour(comparison):
        name = behaviour or "–"
        for verdict in verdicts:
            what = "added" if verdict.before is None else "removed" if verdict.after is None else "verdict"
            rows.append((name, _short(verdict.nodeid), verdict.before or "–", verdict.after or "–", what))
        quiet = [each for each in differences if each.kind == "same" or _small(each)]
        for each in differences:
            if each not in quiet:
                old, new = _value(each.before, each.unit), _value(each.after, each.unit)
                rows.append((name, f"{each.name} ({_short(each.nodeid)})", old, new, _change(each)))
        if quiet and len(quiet) == len(differences) and not verdicts:
            first = quiet[0]
            old, new = _value(first.before, first.unit), _value(first.after, first.unit)
            more = f" and {len(quiet) - 1} more" if len(quiet) > 1 else ""
            rows.append((name, first.name + more, old, new, "same"))
    return rows


def _small(difference: Difference) -> bool:
    return difference.kind == "noise unknown" and abs(difference.share or 0.0) < 0.01


def _change(difference: Difference) -> str:
    if difference.before is None or difference.after is None:
        return difference.kind
    moved = difference.after.mean - difference.before.mean
    by = f"{moved / abs(difference.before.mean):+.1%}" if difference.before.mean else f"{moved:+g}"
    return f"{difference.kind} {by}".replace("-", "−")


def _value(value: Value | None, unit: Unit) -> str:
    return "–" if value is None else with_uncertainty(value.mean, value.half, unit)


def _short(nodeid: str) -> str:
    return readable(nodeid.rpartition("::")[2] or nodeid)


def _closing(comparison: Comparison) -> str:
    changed = sum(each.kind == "changed" for each in comparison.differences)
    unknown = sum(each.kind == "noise unknown" for each in comparison.differences)
    gone = sum(None in (each.before, each.after) for each in comparison.verdicts)
    verdicts = len(comparison.verdicts) - gone
    parts = [f"{verdicts} verdicts and {changed} of {len(comparison.differences)} values changed"]
    parts += [f"{gone} tests came or went"] * bool(gone)
    parts += [f"of {unknown} values the noise is not known (repeat the runs: --with)"] * bool(unknown)
    return f"{'; '.join(parts)}. How: {comparison.method}."


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text))
