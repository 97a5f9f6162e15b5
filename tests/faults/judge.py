"""From what a run of the suites left to what a row of the matrix came to: caught, named, or void."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.fault import SUITES, Expected, Fault

FOUND = {
    "processors": r"INCONCLUSIVE|waited .*for (a )?processor|this machine could send",
    "lacp": r"LACP on \S+ has not converged",
    "program-ended": r"ended with code|died with|has ended",
}
"""What is found out about the testbed, by what its error says: such an error has no cause beside it."""


@dataclass(frozen=True)
class Seen:
    """What became of one test in a lab with the fault: ``first`` are ids, the likeliest cause or what was found first."""

    test: str
    outcome: str
    reason: str = ""
    first: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    evidence: str = ""
    void: str = ""
    caught: bool | None = None
    """Whether a verdict in favour was kept back, or the note made, where that must be; None where nothing must be found."""
    named: bool | None = None
    """Whether the right cause came first."""
    spared: bool | None = None
    """Whether it passed, without a note of harm, where it must; None where it need not."""

    @property
    def short(self) -> str:
        """Its end in a few words."""
        return f"{self.outcome}{': ' + self.first[0] if self.first else ''}"


@dataclass(frozen=True)
class Row:
    """What a row came to."""

    fault: str
    seen: tuple[Seen, ...] = ()
    seconds: float = 0.0
    words: str = field(default="", repr=False)
    """The end of the run's output, where it left no results."""

    @property
    def skipped(self) -> str:
        """Why it was not run on this machine, which lacks something; empty where it was."""
        return self.seen[0].reason if self.seen and all(one.outcome == "skipped" for one in self.seen) else ""

    @property
    def void(self) -> str:
        """Why the row tells nothing: the fault was not in force, or the run left no results."""
        return next((one.void for one in self.seen if one.void), "" if self.seen else self.words or "no results")

    @property
    def busy(self) -> bool:
        """Whether a test came to no verdict since this machine was busy with something else: it says nothing of the row."""
        return any(
            (one.outcome == "inconclusive" or one.first[:1] == ("processors",)) and not (one.caught and one.named)
            for one in self.seen
        )

    @property
    def caught(self) -> bool:
        """Whether every test that it must break was kept from passing."""
        return not self.void and all(one.caught in (None, True) for one in self.seen)

    @property
    def named(self) -> bool:
        """Whether the right cause came first for every one of them."""
        return self.caught and all(one.named in (None, True) for one in self.seen)

    @property
    def spared(self) -> bool:
        """Whether all that it must spare passed."""
        return not self.void and all(one.spared in (None, True) for one in self.seen)

    @property
    def good(self) -> bool:
        """Whether all is as the row says."""
        return self.named and self.spared

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Row:
        """Return the row that plain data tell."""
        seen = tuple(
            Seen(**{**one, "first": tuple(one["first"]), "notes": tuple(one["notes"])}) for one in plain["seen"]
        )
        return cls(**{**plain, "seen": seen})


def judge(
    fault: Fault, tests: Sequence[Mapping[str, Any]], log: Sequence[Mapping[str, str]], seconds: float, words: str = ""
) -> Row:
    """Judge a row by the tests of its results and the injection's log."""
    by_node = {one["nodeid"]: one for one in tests}
    said = {one["test"]: one for one in log}
    seen = []
    for name in fault.tests:
        node = SUITES[name]
        if node not in by_node:
            seen.append(Seen(name, "none", void=words[-400:] or "it did not run"))
            continue
        seen.append(_seen(fault, name, by_node[node], said.get(node)))
    return Row(fault.id, tuple(seen), round(seconds, 1), words if not seen else "")


def _seen(fault: Fault, name: str, test: Mapping[str, Any], said: Mapping[str, str] | None) -> Seen:
    reason = " ".join(test.get("reason", "").split())
    first = first_of(test)
    notes = tuple(one["id"] for one in test.get("notes", ()))
    void = "the fault was not done: no lab was built" if said is None else said["void"]
    if test["outcome"] == "skipped":
        void = f"skipped: {reason}"
    expected = fault.breaks.get(name)
    caught = named = spared = None
    if expected is not None:
        caught = meets(expected, test["outcome"], reason, notes)
        named = caught and names(expected, test["outcome"], reason, first, notes)
    else:
        spared = test["outcome"] == "passed"
    return Seen(
        name,
        test["outcome"],
        reason[:600],
        first,
        notes,
        round(test["duration"], 1),
        (said or {}).get("evidence", "")[:400],
        void,
        caught,
        named,
        spared,
    )


def first_of(test: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the ids of a test's causes, the first first; of an error that has none, what it says was found."""
    causes = tuple(one["id"] for one in test.get("causes", ()))
    if test["outcome"] == "passed" or (causes and test["outcome"] == "failed"):
        return causes
    reason = " ".join(test.get("reason", "").split())
    found = [identifier for identifier, words in FOUND.items() if re.search(words, reason)]
    return causes or tuple(found)


def meets(expected: Expected, outcome: str, reason: str, notes: Sequence[str]) -> bool:
    """Whether a test came to what it had to: was kept from passing, or passed with a note."""
    del reason
    silent = outcome == "passed" and not notes and (expected.first or expected.outcomes == ("passed",))
    return outcome in expected.outcomes and not silent


def names(expected: Expected, outcome: str, reason: str, first: Sequence[str], notes: Sequence[str]) -> bool:
    """Whether it was given its right name: the first cause, what was found first, or a note."""
    if expected.words and not re.search(expected.words, reason, re.DOTALL):
        return False
    if not expected.first:
        return True
    if outcome == "passed":
        return bool(set(notes) & set(expected.first))
    return bool(first) and first[0] in expected.first
