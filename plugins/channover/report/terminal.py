"""Results on a terminal or in a log: the table at the end of a run, and one live line while a flow is measured."""

from __future__ import annotations

import io
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from types import TracebackType
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
NARROW_LINE = 12
"""Fewer columns than this are not worth a live line."""
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
    file.write(_encodable(render(results, width=width, colour=colour), file))
    file.flush()


def is_terminal(file: TextIO) -> bool:
    """Say whether a file is a terminal that can move its cursor."""
    try:
        return file.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # no real file, or closed
        return False


def _encodable(text: str, file: TextIO) -> str:
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


def progress(behaviour: str | None, what: str, rate: float | None, elapsed: float, left: float) -> str:
    """Return a live line's text; ``rate`` is bit/s, ``elapsed`` and ``left`` (at most) are seconds."""
    parts = [behaviour or "", what, "" if rate is None else f"{figure(rate, 'bit/s')} Mbit/s"]
    clock = f"{elapsed:.1f} s, at most {max(left, 0.0):.1f} s more"
    return "  ".join(part for part in (*parts, clock) if part)


class LiveLine:
    """The rest of a terminal's line, written over and over at most ten times a second; nothing where there is no terminal.

    It begins where the cursor stands (``column`` tells how far to the right) and leaves the cursor there, so that what
    stands before it on the line stays. A context manager: at its end it is gone. Threads may share it. A terminal that
    goes away is no error.
    """

    PERIOD = 0.1
    """Seconds between two paints, at least."""

    def __init__(
        self, file: TextIO, clock: Callable[[], float] = time.monotonic, column: Callable[[], int] = lambda: 0
    ) -> None:
        self._file = file
        self._clock = clock
        self._column = column
        self._lock = threading.Lock()
        self._painted: float | None = None
        self._visible = False
        self._below = False
        self._columns = 0
        self._enabled = is_terminal(file)

    @property
    def enabled(self) -> bool:
        """Whether there is a terminal."""
        return self._enabled

    def update(self, text: str) -> None:
        """Show a text (its first line, cut to the terminal's width), unless the last paint is too recent."""
        if not self._enabled:
            return
        with self._lock:
            now = self._clock()
            if self._painted is not None and now - self._painted < self.PERIOD:
                return
            rest = self._rest()
            self._painted = now
            line, cells = self._fitting(text)
            if cells:
                self._visible = True
                self._write(f"{rest}{line}\x1b[K\x1b[{cells}D")

    def show_below(self, texts: Sequence[str]) -> None:
        """Show texts on lines of their own below that of the cursor, each cut to the terminal's width; none takes them away.

        The cursor stays where it stands. Unlike :meth:`update`, it paints whenever it is asked to.
        """
        if not self._enabled or not (texts or self._below):
            return
        with self._lock:
            self._rest()
            self._below = bool(texts)
            lines = "".join(f"\n{self._cut(text, self._columns - 1)}" for text in texts)
            back = f"\x1b[{len(texts)}A\x1b[{self._column() % self._columns + 1}G" if texts else ""
            self._write(f"\x1b[J{lines}{back}")

    def clear(self) -> None:
        """Take the line away, and those below, so that something else can be written there."""
        with self._lock:
            if self._enabled and (self._visible or self._below):
                words = "\x1b[J" if self._below else self._rest() or "\x1b[K"
                self._visible = self._below = False
                self._painted = None
                self._write(words)

    def __enter__(self) -> LiveLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.clear()

    def _rest(self) -> str:
        """Measure the terminal; return what takes away the line that it has wrapped, where it was resized meanwhile."""
        before = self._columns
        try:
            self._columns = os.get_terminal_size(self._file.fileno()).columns or PLAIN_WIDTH
        except (OSError, ValueError, AttributeError):
            self._columns = PLAIN_WIDTH
        return "\x1b[J" if self._visible and self._columns != before else ""

    def _fitting(self, text: str) -> tuple[str, int]:
        """Return what fits the rest of the line, and how many columns that takes."""
        from rich.cells import cell_len

        # What stands before may be longer than a line; the last column stays free: some terminals wrap on it.
        room = self._columns - 1 - self._column() % self._columns
        if room < NARROW_LINE:
            return "", 0
        fitting = self._cut(text, room)
        return fitting, cell_len(fitting)

    @staticmethod
    def _cut(text: str, room: int) -> str:
        """Return a text's first line, as much of it as fits into so many columns."""
        from rich.cells import cell_len, set_cell_size

        line = printable(text.partition("\n")[0].replace("\t", " "))
        return line if cell_len(line) <= room else set_cell_size(line, max(room - 1, 0)) + "…"

    def _write(self, text: str) -> None:
        try:
            self._file.write(_encodable(text, self._file))
            self._file.flush()
        except (OSError, ValueError):  # the terminal is gone, or the file closed
            self._enabled = False
