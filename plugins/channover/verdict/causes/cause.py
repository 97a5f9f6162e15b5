"""A cause of what a test found: what it is, the evidence for it with its figures, the remedy, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Certainty = Literal["shown", "likely", "possible"]
"""*shown*: a counter or a probe shows it at work; *likely*: it is there, and fits what was seen; *possible*: other causes
would look alike."""
CERTAINTIES: tuple[Certainty, ...] = ("shown", "likely", "possible")
"""From the surest."""
Missed = Literal["too little", "too much", "otherwise"]
"""How a value lies to what was expected of it."""
UNEXPLAINED = "unexplained"
"""The id of the last resort: nothing that was looked at explains what was found."""
MOST = 4
"""Causes that a reason names; the rest, less sure ones, are in the results."""


@dataclass(frozen=True)
class Cause:
    """Why something is not as expected. ``id`` is that of its kind (docs/causes.md), the rest tells of this very case.

    Each line of ``evidence`` is something that was seen, with its figures. ``remedy`` is what to type or to look at.
    """

    id: str
    statement: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    certainty: Certainty = "likely"

    @property
    def explains(self) -> bool:
        """Whether it says more than what was found: an error of the testbed names itself."""
        return bool(self.evidence or self.remedy)

    def lines(self, heading: str) -> Iterator[str]:
        """Yield it as text: the statement behind a heading, and what belongs to it, indented."""
        yield f"{heading}: {self.statement} [{self.id}, {self.certainty}]"
        yield from (f"  {line}" for line in self.evidence)
        if self.remedy:
            yield f"  remedy: {self.remedy}"


def cause_of(plain: Mapping[str, Any]) -> Cause:
    """Return the cause that plain data tell, as results hold it."""
    return Cause(**{**plain, "evidence": tuple(plain["evidence"])})


@dataclass(frozen=True)
class Explanation:
    """What was found out about a comparison that did not hold: causes, the likeliest first, and what was ``seen`` besides."""

    causes: tuple[Cause, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The whole as text, line by line."""
        found: list[str] = []
        for number, cause in enumerate(self.causes[:MOST]):
            found += cause.lines("most likely" if number == 0 else "or")
        return (*found, *self.seen)


def said(words: str | Iterable[str] = ()) -> Explanation:
    """Return an explanation that consists of words alone, line by line."""
    return Explanation(seen=tuple(words.splitlines() if isinstance(words, str) else words))


def besides(reason: str, causes: Iterable[Cause]) -> list[str]:
    """Return the lines of a reason that do not tell of these causes."""
    told = set(Explanation(tuple(causes)).lines)
    return [line for line in reason.splitlines() if line not in told]
