"""The live line itself: what it says of something under way, in as many words as there is room for, and how it is painted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from channover.report.results import Measurement
from channover.report.terminal import PLAIN_WIDTH, encodable, expectation, figure, is_terminal
from channover.text import printable
from channover.verdict.expectation import Expectation

NARROW_LINE = 12
"""Fewer columns than this are not worth a live line."""
SHOWN_NICS = 4
"""NICs whose shares are told one by one."""
Words = Sequence[str]
"""What a line may say, the longest first: the first one that fits is shown."""


def progress(
    test: Sequence[str],
    what: str,
    rate: float | None,
    expected: Expectation | None,
    shares: Mapping[str, float],
    elapsed: float,
    left: float,
) -> Words:
    """Return what a line may say of something under way: rates are bit/s, ``elapsed`` and ``left`` (at most) seconds.

    ``test`` is the behaviour's id, or the test's name, and the name where that is more; ``shares`` (0 to 1) are what each NIC
    carries of the data now.
    """
    first = test[0] if test else ""
    bound = "" if expected is None else _bound(expected)
    measured = "" if rate is None else f"{figure(rate, 'bit/s')} Mbit/s{f' of {bound}' if bound else ''}"
    close = "" if rate is None else f"{figure(rate, 'bit/s')}{f' ({bound})' if bound else ''}"
    known = [f"{name} {share:.0%}" for name, share in shares.items()]
    carried = " ".join(known[:SHOWN_NICS]) + (f" +{len(known) - SHOWN_NICS}" if len(known) > SHOWN_NICS else "")
    clock, remaining = f"{elapsed:.1f} s, at most {max(left, 0.0):.1f} s more", f"≤ {max(left, 0.0):.0f} s"
    lines = (
        (" ".join(test), what, measured, carried, clock),
        (first, what, measured, carried, clock),
        (first, what, measured, carried, remaining),
        (first, measured, carried, remaining),
        (first, close, carried, remaining),
        (first, close, remaining),
        (first, what.partition(", ")[0], remaining),
    )
    shown = lines if rate is not None else (*lines[:3], lines[-1])
    return list(dict.fromkeys("  ".join(part for part in line if part) for line in shown))


def _bound(expected: Expectation) -> str:
    """Return what is expected of a rate, as the table at a run's end says it."""
    return expectation(Measurement("", None, "bit/s", expected.value, expected.low, expected.high, rule=expected.rule))


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

    @property
    def due(self) -> bool:
        """Whether it would be painted now: the last paint is not too recent."""
        return self._enabled and (self._painted is None or self._clock() - self._painted >= self.PERIOD)

    def update(self, words: Words) -> None:
        """Show what fits of the words, unless the last paint is too recent."""
        with self._lock:
            if not self.due:
                return
            now = self._clock()
            rest = self._rest()
            self._painted = now
            line, cells = self._fitting(words)
            if cells:
                self._visible = True
                self._write(f"{rest}{line}\x1b[K\x1b[{cells}D")

    def show_below(self, texts: Sequence[Words]) -> None:
        """Show what fits of some words on lines of their own below that of the cursor; none takes them away.

        The cursor stays where it stands. Unlike :meth:`update`, it paints whenever it is asked to.
        """
        if not self._enabled or not (texts or self._below):
            return
        with self._lock:
            self._rest()
            self._below = bool(texts)
            lines = "".join(f"\n{self._cut(words, self._columns - 1)}" for words in texts)
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

    def _fitting(self, words: Words) -> tuple[str, int]:
        """Return what fits the rest of the line, and how many columns that takes."""
        # What stands before may be longer than a line; the last column stays free: some terminals wrap on it.
        room = self._columns - 1 - self._column() % self._columns
        if room < NARROW_LINE:
            return "", 0
        fitting = self._cut(words, room)
        return fitting, cell_len(fitting)

    @staticmethod
    def _cut(words: Words, room: int) -> str:
        """Return the first of some words that fits into so many columns, or as much as does of the last one's first line."""
        line = ""
        for text in words:
            line = printable(text.partition("\n")[0].replace("\t", " "))
            if cell_len(line) <= room:
                return line
        return set_cell_size(line, max(room - 1, 0)) + "…"

    def _write(self, text: str) -> None:
        try:
            self._file.write(encodable(text, self._file))
            self._file.flush()
        except (OSError, ValueError):  # the terminal is gone, or the file closed
            self._enabled = False
