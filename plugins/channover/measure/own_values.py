"""Values that a test makes itself, of what it counted or found: compared and reported as what is measured."""

from __future__ import annotations

from collections.abc import Callable, Collection

from channover.measure.record import Record
from channover.verdict.expectation import Measured, count
from channover.verdict.several import Listed

Counted = Callable[[str, float], Measured]
"""Makes a value of a name and a number that is known exactly."""
Listing = Callable[[str, Collection[object]], Listed]
"""Makes a value of a name and things that were found."""


def counting(record: Record) -> Counted:
    """Return what makes values of numbers in a test of that record."""

    def make(name: str, number: float) -> Measured:
        record.made.append(name)
        return count(name, number, record.readings.append)

    return make


def listing(record: Record) -> Listing:
    """Return what makes values of things that were found in a test of that record."""

    def make(name: str, found: Collection[object]) -> Listed:
        record.made.append(name)
        return Listed(name, found, record.readings.append)

    return make
