"""Kinds of causes: each is a function from what was seen to findings, with an id, a title and a remedy for the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType

from channover.verdict.causes.case import Case
from channover.verdict.causes.cause import Certainty


@dataclass(frozen=True)
class Found:
    """One finding of a kind: what is so here, the evidence with its figures, and the remedy where it has figures too."""

    statement: str
    evidence: tuple[str, ...] = ()
    certainty: Certainty = "likely"
    remedy: str = ""


@dataclass(frozen=True)
class CauseKind:
    """A kind of cause.

    ``title`` says in a sentence what is wrong where it is found, ``shows`` what it is found by, ``remedy`` what to do.
    ``find`` yields what it finds in a case, ``applies`` says whether it is to be looked for there at all. Where it ``follows``,
    it may come of another cause: one that does not is likelier, however sure.
    """

    id: str
    title: str
    shows: str
    remedy: str
    find: Callable[[Case], Iterable[Found]]
    applies: Callable[[Case], bool] = lambda _: True
    follows: bool = False


def cause(
    id: str,
    title: str,
    *,
    shows: str,
    remedy: str,
    applies: Callable[[Case], bool] = lambda _: True,
    follows: bool = False,
) -> Callable[[Callable[[Case], Iterable[Found]]], CauseKind]:
    """Make a function that finds something in a case a kind of cause: its place in its module is its rank there."""

    def make(find: Callable[[Case], Iterable[Found]]) -> CauseKind:
        return CauseKind(id, title, shows, remedy, find, applies, follows)

    return make


def kinds_of(module: ModuleType) -> Iterator[CauseKind]:
    """Yield the kinds that a module defines, in its order."""
    return (one for one in vars(module).values() if isinstance(one, CauseKind))


def over_mptcp(case: Case) -> bool:
    """Say whether the data was to go by Multipath TCP."""
    return case.mptcp
