"""All kinds of causes, and how those that are found in a case are ranked."""

from __future__ import annotations

import re

from channover.errors import UsageError
from channover.model.registry import Register
from channover.verdict.causes import (
    addressing,
    filters,
    hashing,
    lags,
    links,
    mptcp,
    programs,
    recovery,
    subflows,
    transport,
    tunnels,
)
from channover.verdict.causes.case import Case
from channover.verdict.causes.cause import CERTAINTIES, UNEXPLAINED, Cause
from channover.verdict.causes.kind import CauseKind, kinds_of

_MODULES = programs, links, hashing, lags, filters, tunnels, addressing, mptcp, recovery, subflows, transport

CAUSES: Register[CauseKind] = Register("cause", {kind.id: kind for module in _MODULES for kind in kinds_of(module)})
"""Every kind by its id. Of equally sure causes the one whose kind comes first here is the likelier: what others follow
from comes before what follows."""


def explain(case: Case) -> tuple[Cause, ...]:
    """Return what most likely made a case what it is, the likeliest first; the last resort where nothing did."""
    found: list[tuple[bool, Cause]] = []
    ruled_out: list[str] = []
    for kind in CAUSES.values():
        if not kind.applies(case):
            continue
        here = list(kind.find(case))
        for one in here:
            made = Cause(kind.id, one.statement, one.evidence, one.remedy or kind.remedy, one.certainty)
            found.append((kind.follows, made))
        ruled_out += [] if here else [kind.title]
    if not found:
        return (unexplained(ruled_out),)
    return tuple(cause for _, cause in sorted(found, key=_rank))


def _rank(found: tuple[bool, Cause]) -> tuple[bool, bool, int]:
    follows, cause = found
    return cause.certainty == "possible", follows, CERTAINTIES.index(cause.certainty)


def unexplained(ruled_out: list[str]) -> Cause:
    """Return the last resort, which lists what was ruled out."""
    return Cause(
        UNEXPLAINED,
        "nothing that was looked at explains it",
        tuple(f"ruled out: {title[:1].lower()}{title[1:].rstrip('.')}" for title in ruled_out),
        "keep the lab (--keep-lab) and look for what channover does not know: docs/causes.md has what it knows",
        "possible",
    )


_ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def add(kind: CauseKind) -> None:
    """Add another package's kind of cause. Raises UsageError for an id that is taken or none, and for what is no kind."""
    if not isinstance(kind, CauseKind):
        raise UsageError("a cause is made of a function by @cause(id, title, shows=…, remedy=…)")
    if not _ID.fullmatch(kind.id) or kind.id == UNEXPLAINED:
        raise UsageError(
            f"'{kind.id}' is no id of a cause: small letters, digits and single dashes, as in no-source-rule"
        )
    CAUSES.add(kind.id, kind)
