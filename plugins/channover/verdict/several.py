"""Values of more than one part: what each end says, and what is found of a set. One comparison records all of its parts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeGuard

from channover.verdict.causes.cause import said
from channover.verdict.expectation import Expectation, at_least, exactly
from channover.verdict.measured import Measured, Reading, count

MOST = 16
"""How many things an explanation names."""


@dataclass
class Each:
    """One value of several, such as one an end: what is expected is expected of each, and each is recorded."""

    parts: Sequence[Measured]

    @property
    def last(self) -> tuple[Reading, ...]:
        """The last comparison, part by part."""
        return tuple(part.last for part in self.parts if part.last is not None)

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a value of no parts would be anything that is expected")

    def _all(self, compare: Callable[[Any, Any], Any], other: object) -> bool:
        return all([compare(part, other) for part in self.parts])  # a list: all are recorded before the verdict

    def __eq__(self, other: object) -> bool:
        return self._all(operator.eq, other)

    def __ne__(self, other: object) -> bool:
        return self._all(operator.ne, other)

    def __ge__(self, other: float) -> bool:
        return self._all(operator.ge, other)

    def __le__(self, other: float) -> bool:
        return self._all(operator.le, other)

    def __gt__(self, other: float) -> bool:
        return self._all(operator.gt, other)

    def __lt__(self, other: float) -> bool:
        return self._all(operator.lt, other)

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value: compare it, as in == 2")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return ", ".join(map(repr, self.parts))


@dataclass
class Listed:
    """What was found of things that have no order, such as address pairs, to compare with what must be there.

    ``==`` expects these and no others, ``>=`` these at least, ``<=`` none but these, ``!=`` anything else. Recorded are how
    many of the expected ones were found, and how many others. Raises TypeError where what was found is no collection:
    a text has parts that are no things, and a generator is empty after the first look.
    """

    name: str
    found: Collection[object]
    on_result: Callable[[Reading], None] = field(repr=False)
    last: tuple[Reading, ...] = ()
    about: object = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _is_collection(self.found):
            raise TypeError(f"{self.name}: {self.found!r} is no collection of things that were found: give a set")

    def _compare(self, other: object, *, lacking: bool, others: bool) -> bool:
        wanted = self._collection(other)
        if not wanted and not others:
            raise ValueError(f"{self.name}: anything has all of nothing; to expect nothing, write == set()")
        there = [one for one in wanted if one in self.found]
        lack = [one for one in wanted if one not in self.found]
        more = [one for one in self.found if one not in wanted]
        words = [f"missing: {_listing(lack)}"] if lacking and lack else []
        words += [f"not expected: {_listing(more)}"] if others and more else []
        parts = []
        if lacking and wanted:
            parts.append((self.name, len(there), exactly(len(wanted))))
        if others:
            parts.append((f"{self.name}, others" if wanted else self.name, len(more), exactly(0)))
        return self._recorded(parts, words)

    def _recorded(self, parts: Sequence[tuple[str, int, Expectation]], words: Sequence[str]) -> bool:
        made = [(count(name, number, self.on_result), expectation) for name, number, expectation in parts]
        for value, _ in made:
            value.explain, value.about = lambda _: said(words), self.about
        self.last = tuple(value.compare(expectation) for value, expectation in made)
        return all(reading.held for reading in self.last)

    def _collection(self, other: object) -> Collection[object]:
        if _is_collection(other):
            return other
        raise TypeError(f"{self.name} cannot be compared with {other!r}: write a set, as in == {{…}}")

    def __eq__(self, other: object) -> bool:
        return self._compare(other, lacking=True, others=True)

    def __ge__(self, other: object) -> bool:
        return self._compare(other, lacking=True, others=False)

    def __le__(self, other: object) -> bool:
        return self._compare(other, lacking=False, others=True)

    def __ne__(self, other: object) -> bool:
        unwanted = self._collection(other)
        unlike = [one for one in self.found if one not in unwanted] + [one for one in unwanted if one not in self.found]
        part = (f"{self.name}, differences", len(unlike), at_least(1))
        return self._recorded([part], [f"found: {_listing(self.found)}"])

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value: compare it, as in == {{…}} or >= {{…}}")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.name}: {_listing(self.found) or 'none'}"


def _is_collection(one: object) -> TypeGuard[Collection[object]]:
    return isinstance(one, Collection) and not isinstance(one, (str, bytes))


def _listing(things: Iterable[object]) -> str:
    words = sorted(map(_named, things))
    more = [f"{len(words) - MOST} more"] if len(words) > MOST else []
    return ", ".join([*words[:MOST], *more])


def _named(one: object) -> str:
    if isinstance(one, Enum):
        return one.name
    return " to ".join(map(_named, one)) if isinstance(one, tuple) else str(one)
