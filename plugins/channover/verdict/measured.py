"""Values that a test compares with what it expects, and what the comparisons showed.

``assert flow.goodput == near(link.tcp_goodput)`` reads as it is meant: the value goes on being measured until its
confidence interval lies inside what is expected (it holds) or outside (it does not), or until the deadline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from channover.errors import Inconclusive, TestbedError
from channover.verdict.causes.cause import Cause, Explanation, Missed, said
from channover.verdict.expectation import (
    Expectation,
    anything_but,
    at_least,
    at_most,
    exactly,
    less_than,
    more_than,
    quantity,
)
from channover.verdict.settling import Source, Telling, advice, ended, settle, settled_by
from channover.verdict.statistics import Estimate


@dataclass(frozen=True)
class Reading:
    """A comparison that was made: the value, what was expected, and whether it held.

    ``undecided`` says why the testbed allows no verdict, ``inconclusive`` what would settle it where the interval still
    held the bound when the time was up; both are empty where it is one. ``explained`` is what was seen where it did not
    hold, ``causes`` why that most likely is so, the likeliest first. ``about`` is what was measured, None for a number of
    the test's own.
    """

    name: str
    unit: str
    estimate: Estimate
    expectation: Expectation
    held: bool
    settled: bool
    undecided: str = ""
    inconclusive: str = ""
    explained: tuple[str, ...] = field(default=(), repr=False)
    causes: tuple[Cause, ...] = field(default=(), repr=False)
    about: object = field(default=None, compare=False, repr=False)

    @property
    def missed(self) -> bool:
        """Whether it is a verdict against what was expected."""
        return not (self.held or self.undecided or self.inconclusive)

    @property
    def met(self) -> bool:
        """Whether it is a verdict in favour of what was expected."""
        return self.held and not (self.undecided or self.inconclusive)

    @property
    def way(self) -> Missed:
        """How the value lies to what was expected of it, where it did not hold."""
        if self.expectation.rule == "outside":
            return "otherwise"
        return "too little" if self.estimate.mean <= self.expectation.low else "too much"

    @property
    def beyond(self) -> bool:
        """Whether it is more than what was expected for certain: a busy machine can only take away from a rate."""
        expected = self.expectation
        return self.unit == "bit/s" and expected.rule != "outside" and self.estimate.low > expected.high

    def __str__(self) -> str:
        return f"{_stated(self.name, self.unit, self.estimate)}, expected {self.expectation.text(self.unit)}"


def explanation(readings: Iterable[Reading]) -> list[str]:
    """Return, line by line, which of some comparisons did not hold, and what was seen; nothing where all held."""
    missed = [reading for reading in readings if reading.missed]
    lines = [str(reading) for reading in missed]
    return lines + list(dict.fromkeys(line for reading in missed for line in reading.explained))


@dataclass
class Measured:
    """A value that can be compared with an :class:`Expectation`. ``on_result`` is told of every comparison.

    A value is either known (``known``) or still being measured (``source``); ``about`` is what it was measured of. Where
    it is ``of_testbed``, what the test itself was to do, it is never a verdict on a behaviour that it is not as expected.
    ``doubt`` says why a known value that is not as expected is no verdict on a behaviour either, or nothing.
    """

    name: str
    unit: str = "bit/s"
    source: Source | None = None
    known: Estimate | None = None
    on_result: Callable[[Reading], None] = field(default=lambda _: None, repr=False)
    explain: Callable[[Reading], Explanation] = field(default=lambda _: said(), repr=False)
    about: object = field(default=None, repr=False)
    of_testbed: bool = False
    doubt: Callable[[Reading], str] = field(default=lambda _: "", repr=False)
    last: Reading | None = None

    @property
    def value(self) -> float:
        """The mean. Ends the measurement where it still runs."""
        return self.result().mean

    def result(self) -> Estimate:
        """Return the estimate. Ends the measurement where it still runs."""
        if self.known is None:
            assert self.source is not None
            self.known = ended(self.source, self.source.samples())
        return self.known

    def compare(self, expectation: Expectation) -> Reading:
        """Compare, measuring for as long as it takes, and record the comparison.

        Raises Inconclusive where the time was up before the verdict was settled, and TestbedError where the testbed was too
        disturbed for one, or more was read than theory allows.
        """
        source = self.source if self.known is None else None
        found, left = self._read(expectation)
        undecided = self._undecided(source, found)
        words = "" if left is None or undecided else advice(left, expectation, self.unit, self.source)
        found = replace(found, undecided=undecided, inconclusive=words and f"{found}: INCONCLUSIVE: {words}")
        self.last = self._explained(found) if found.missed else found
        self.on_result(self.last)
        if undecided:
            raise TestbedError(undecided, "processors")
        if self.last.inconclusive:
            raise Inconclusive(self.last.inconclusive)
        return self.last

    def _read(self, expectation: Expectation) -> tuple[Reading, Estimate | None]:
        """Return the comparison, and the interval that leaves it open, if one does."""
        if self.known is None:
            assert self.source is not None
            if isinstance(self.source, Telling):
                self.source.expected = expectation
            self.known, left = settle(self.source, expectation)
        else:  # what is known exactly, as a count is, leaves nothing open, even where nobody can say what it is
            left = self.known if self.known.half and not settled_by(self.known, expectation) else None
        held = expectation.holds(self.known.mean)
        settled = left is None
        return Reading(self.name, self.unit, self.known, expectation, held, settled, about=self.about), left

    def _undecided(self, source: Source | None, found: Reading) -> str:
        """Say why what was found is no verdict, or nothing."""
        if self.of_testbed and not found.held:
            return f"{found}: no verdict: the lab did not do what was asked of it"
        if not (found.held and found.settled) and not found.beyond:
            cause = source.disturbed(found.settled) if source is not None else self.doubt(found)
            if cause:
                return f"{found}: no verdict: {cause}"
        if source is None:
            return ""
        if not found.expectation.possible(found.estimate.mean):
            theory = quantity(found.expectation.value or 0.0, self.unit)
            return f"{self!r}, of the {theory} that the wire allows: no verdict: the receivers gave their figures late"
        return ""

    def _explained(self, found: Reading) -> Reading:
        try:
            why = self.explain(found)
        except TestbedError as error:  # a verdict stands though its host says no more
            why = said(f"not explained: {error}")
        return replace(found, explained=why.lines, causes=why.causes)

    def __eq__(self, other: object) -> bool:
        return self.compare(self._expected(other)).held

    def __ne__(self, other: object) -> bool:
        return self.compare(anything_but(self._expected(other))).held

    def __ge__(self, other: float) -> bool:
        return self.compare(at_least(self._number(other))).held

    def __le__(self, other: float) -> bool:
        return self.compare(at_most(self._number(other))).held

    def __gt__(self, other: float) -> bool:
        self._require_exact(">", "at_least")
        return self.compare(more_than(self._number(other))).held

    def __lt__(self, other: float) -> bool:
        self._require_exact("<", "at_most")
        return self.compare(less_than(self._number(other))).held

    def _expected(self, other: object) -> Expectation:
        return other if isinstance(other, Expectation) else exactly(self._number(other))

    def _number(self, other: object) -> float:
        if isinstance(other, (int, float)):
            return float(other)
        raise TypeError(
            f"{self.name} cannot be compared so with {other!r}: ==, != take an expectation or a number, the others a number"
        )

    def _require_exact(self, sign: str, word: str) -> None:
        if self.source is not None or (self.known is not None and self.known.half):
            raise TypeError(
                f"{self.name} is known to within an interval, which lies on no side of its own border: "
                f"write == {word}(…) instead of {sign}"
            )

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value: compare it, as in == 2, >= 1 or == near(…)")

    __hash__ = None  # type: ignore[assignment]

    def scaled(self, factor: float, name: str, unit: str) -> Measured:
        """Return the value times a factor, under another name."""
        found = self.result()
        known = Estimate(found.mean * factor, found.half * abs(factor), found.samples)
        return replace(self, name=name, unit=unit, known=known, source=None)

    def __repr__(self) -> str:
        return f"{self.name}: still being measured" if self.known is None else _stated(self.name, self.unit, self.known)


def _stated(name: str, unit: str, found: Estimate) -> str:
    text = quantity(found.mean, unit)
    if 0 < found.half < math.inf:
        text += f" ± {quantity(found.half, unit)}"
    return f"{name} of {text}"


def count(name: str, number: float, on_result: Callable[[Reading], None], unit: str = "1") -> Measured:
    """Return a value that is known exactly: a number of NICs, of subflows, of bytes."""
    return Measured(name, unit, known=Estimate(float(number), 0.0, 1), on_result=on_result)
