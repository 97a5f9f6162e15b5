"""Results on a terminal or in a log: the table at the end of a run, and a line a test."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from channover.model.catalogue import CATALOGUE
from channover.model.link import USUAL_MTU
from channover.report.results import Measurement, Outcome, Results, TestResult, Unit
from channover.text import printable, readable
from channover.verdict.notes import Note

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PLAIN_WIDTH = 80
"""Columns of a terminal that does not tell."""
UNBROKEN, NAME_WIDTH = 4000, 100
"""Columns of what goes to a file or a pipe, where names are looked for and not to be broken; of a value's name there."""
NARROWEST = 70
"""Columns that the table needs at least; below 76 it leaves the article's figures out."""
LONGEST_REASON = 160
"""Characters of a reason that a test's line has."""
_STYLES: dict[Outcome, str] = {
    "passed": "green",
    "failed": "bold red",
    "inconclusive": "bold yellow",
    "error": "bold magenta",
    "skipped": "yellow",
}
_NOTHING = "–"
_RIGHT_TO_LEFT = re.compile("([\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc][^\\S\n]*)(?=[^\\S\n]{2}|\n|$)")
_LEFT_TO_RIGHT_MARK = "\u200e"


def figure(value: float | None, unit: Unit) -> str:
    """Return a number as the table shows it, in the unit that :func:`scale` names; ``–`` for None."""
    if value is None:
        return _NOTHING
    if unit == "bit/s":
        value /= 1e6
        return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"
    if unit == "s":
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.4g}"


def scale(unit: Unit) -> str:
    """Return the unit in which :func:`figure` writes numbers: rates in Mbit/s, a unit of a suite's own as it is."""
    return {"bit/s": "Mbit/s", "1": ""}.get(unit, unit)


def expectation(measurement: Measurement) -> str:
    """Return what was expected of a measurement: ``94.1 ±1.9``, ``92.3..96.0``, ``≥ 180.0``, ``> 1``, ``9``, ``≠ 9``."""
    low, high, expected, unit = measurement.low, measurement.high, measurement.expected, measurement.unit
    if measurement.rule == "outside":
        return f"≠ {expectation(replace(measurement, rule='within'))}"
    if measurement.rule == "strictly":
        return f"> {figure(low, unit)}" if high is None else f"< {figure(high, unit)}"
    if low is None and high is None:
        return figure(expected, unit)
    if low is None:
        return f"≤ {figure(high, unit)}"
    if high is None:
        return f"≥ {figure(low, unit)}"
    if low == high:
        return figure(low, unit)
    middle = (low + high) / 2
    if expected is not None and abs(expected - middle) <= 1e-9 * max(abs(low), abs(high)):
        margin = (high - low) / 2
        return f"{figure(expected, unit)} ±{f'{margin / 1e6:.1f}' if unit == 'bit/s' else figure(margin, unit)}"
    return f"{figure(low, unit)}..{figure(high, unit)}"


def text_console(width: int, colour: bool) -> Console:
    """Return a console that keeps what is printed on it: plain, or with ANSI sequences, whatever the terminal here is."""
    from rich.console import Console  # here, since only the end of a run needs it

    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )


def written(console: Console) -> str:
    """Return what was printed on a console of :func:`text_console`, without blanks at the ends of lines."""
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def render(results: Results, *, width: int = PLAIN_WIDTH, colour: bool = False) -> str:
    """Return the final table, the reasons of what did not pass, and one closing line.

    No line is wider than ``width`` columns, or NARROWEST where that is more; the table is no wider than it has to be.
    ``colour`` adds ANSI sequences.
    """
    from rich import box  # here, since only the end of a run needs it
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = text_console(max(width, NARROWEST), colour)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False, header_style="bold" if colour else "")
    table.add_column("behaviour", no_wrap=True)
    table.add_column("of", overflow="fold", min_width=12, max_width=NAME_WIDTH)
    columns = ("measured", "expected", "article") if width >= 76 else ("measured", "expected")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for test in _ordered(results):
        for number, (name, *figures) in enumerate(_rows(test)):
            identifier, verdict = (test.behaviour or _NOTHING, test.outcome) if number == 0 else ("", "")
            style = _STYLES[test.outcome] if colour and verdict else ""
            verdict += "\nbut …" if test.notes and verdict == "passed" else ""
            verdict += "\nrepeated" if test.repeated and identifier else ""
            table.add_row(_text(identifier), _text(name), *figures[: len(columns)], Text(verdict, style=style))
    console.print(table)
    if any(not each.settled for test in results.tests for each in test.measurements):
        console.print("?  not settled: the interval still held the bound when the time was up")
    if any(test.repeated for test in results.tests):
        console.print("repeated: a machine died in the first try; the second one counts")
    for heading, reason, outcome in _reasons(results):
        console.print(Text(printable(heading), style=_STYLES[outcome] if colour else ""), overflow="fold")
        console.print(Padding(_text(reason), (0, 0, 0, 4)), overflow="fold")
    for heading, notes in _noted(results):
        console.print(Text(printable(heading)), overflow="fold")
        for note in notes:
            console.print(Padding(_text(note.text), (0, 0, 0, 4)), overflow="fold")
    console.print(_text(_closing(results)), overflow="fold")
    lines = written(console)
    # European digits after a right-to-left word would be drawn as part of it, columns swapped (Unicode, UAX 9)
    return _RIGHT_TO_LEFT.sub(rf"\1{_LEFT_TO_RIGHT_MARK}", lines) + "\n"


def show(results: Results, file: TextIO) -> None:
    """Write :func:`render`'s text: in colour and as wide as the terminal where there is one, else plain, and no line broken."""
    terminal = is_terminal(file)
    colour = terminal and not os.environ.get("NO_COLOR")
    width = min(shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns, 140) if terminal else UNBROKEN
    file.write(encodable(render(results, width=width, colour=colour), file))
    file.flush()


def is_terminal(file: TextIO) -> bool:
    """Say whether a file is a terminal that can move its cursor."""
    try:
        return file.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # no real file, or closed
        return False


def encodable(text: str, file: TextIO) -> str:
    """Return text that a file's encoding can hold: signs that it lacks become plain ones of the same width."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        plain = text.translate({ord(sign): other for sign, other in zip("≤≥≠±–─·…→←", "<>!~--|~><", strict=True)})
        return plain.encode(encoding, "replace").decode(encoding)


def _text(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text))


def _ordered(results: Results) -> list[TestResult]:
    """Return the tests in the catalogue's order; those of no behaviour last."""
    places = {identifier: place for place, identifier in enumerate(CATALOGUE)}
    return sorted(results.tests, key=lambda test: places.get(test.behaviour or "", len(places)))


def _rows(test: TestResult) -> Iterator[tuple[str, str, str, str]]:
    for each in test.measurements:
        value = f"{figure(each.value, each.unit)} {scale(each.unit)}".rstrip() + ("" if each.settled else " ?")
        yield each.name, value, expectation(each), figure(each.article, each.unit)
    if not test.measurements:
        yield readable(test.nodeid.rpartition("::")[2] or test.nodeid), _NOTHING, _NOTHING, _NOTHING


def compared(measurements: Sequence[Measurement]) -> str:
    """Return the value that a verdict stands on, with what was expected of it: the first that did not hold, or the first."""
    one = next((each for each in measurements if not each.held), measurements[0])
    value = f"{figure(one.value, one.unit)} {scale(one.unit)}".rstrip()
    return f"{one.name} {value} ({expectation(one)})"


def line_of(test: TestResult) -> str:
    """Return a test that has ended as one line: verdict, behaviour, value with what was expected, seconds, pytest's name."""
    said = compared(test.measurements) if test.measurements else ""
    if test.outcome not in ("passed", "failed") or not said:
        reason = printable(test.reason.strip().partition("\n")[0])
        said = reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 1]}…"
    words = [test.outcome.upper(), test.behaviour or "", f"{printable(said)}," if said else ""]
    return f"{' '.join(filter(None, words))} {test.duration:.1f} s: {readable(test.nodeid)}"


def _reasons(results: Results) -> Iterator[tuple[str, str, Outcome]]:
    """Yield a heading, a reason and its outcome: equal skips together, since a missing tool skips many tests."""
    unlucky = [test for test in _ordered(results) if test.outcome != "passed"]
    rank = ("error", "failed", "inconclusive", "skipped").index
    unlucky.sort(key=lambda test: (rank(test.outcome), test.reason if test.outcome == "skipped" else ""))
    for (outcome, together), group in groupby(
        unlucky, key=lambda test: (test.outcome, test.reason if test.outcome == "skipped" else test.nodeid)
    ):
        tests = list(group)
        if outcome == "skipped":
            names = ", ".join(dict.fromkeys(test.behaviour or test.nodeid for test in tests))
            yield f"{names} skipped", together or "no reason was given", outcome
        else:
            heading = f"{tests[0].behaviour or ''} {outcome}: {readable(tests[0].nodeid)}".lstrip()
            kept = f"\nleft as files: {results.run.id}/{tests[0].artifacts}" if tests[0].artifacts else ""
            yield heading, (tests[0].reason or "no reason was given") + kept, outcome


def _noted(results: Results) -> Iterator[tuple[str, Sequence[Note]]]:
    """Yield a heading and what was noted of a test beside its verdict."""
    for test in _ordered(results):
        if test.notes:
            words = "passed, but" if test.outcome == "passed" else f"{test.outcome}; noted beside it"
            yield f"{test.behaviour or ''} {words}: {readable(test.nodeid)}".lstrip(), test.notes


def _closing(results: Results) -> str:
    run = results.run
    counts = Counter(test.outcome for test in results.tests)
    tally = ", ".join(f"{counts[outcome]} {outcome}" for outcome in _STYLES if counts[outcome]) or "no tests"
    seconds = sum(test.duration for test in results.tests)
    facts = [
        f"{tally} in {seconds:.1f} s",
        f"target {run.target}",
        f"kernel {run.kernel}",
        f"LAG by {run.lag_driver}" if run.lag_driver else "",
        f"links of {', '.join(figure(rate, 'bit/s') for rate in run.link_rates)} Mbit/s",
        f"MTU {run.mtu}" if run.mtu != USUAL_MTU else "",
        f"IPv{run.family}" if run.family != 4 else "",
        run.congestion_control,
    ]
    stopped = "Interrupted: tests that did not run are not listed. " if run.interrupted else ""
    return stopped + " · ".join(fact for fact in facts if fact)
