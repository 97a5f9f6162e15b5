"""The plan of a run, as data: what is to be run, what was left out, what could not be collected; and how workers hand it on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from channover.errors import UsageError
from channover.report.facts import LeftOut, Planned, Uncollected
from channover.report.store import write_whole


@dataclass(frozen=True)
class Plan:
    """``planned`` holds a test as often as it is to be run.

    ``files`` are the Python files that were loaded for the run, ``packages`` the installed ones that its tests stand in,
    and ``own`` says that some stand in none.
    """

    planned: tuple[Planned, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    uncollected: tuple[Uncollected, ...] = ()
    files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    own: bool = True

    def joined(self, other: Plan, *, each: bool) -> Plan:
        """Return the plan of two workers together; ``each``: each of them runs all of its own."""
        mine, theirs = Counter(self.planned), Counter(other.planned)
        planned = mine + theirs if each else mine | theirs
        names = {test.nodeid for test in planned}
        return Plan(
            tuple(planned.elements()),
            tuple(one for one in dict.fromkeys((*self.left_out, *other.left_out)) if one.nodeid not in names),
            tuple(dict.fromkeys((*self.uncollected, *other.uncollected))),
            tuple(dict.fromkeys((*self.files, *other.files))),
            tuple(dict.fromkeys((*self.packages, *other.packages))),
            self.own or other.own,
        )


def _place(folder: Path, worker: str) -> Path:
    return folder / f"plan-{worker}.json"


def save(folder: Path, worker: str, plan: Plan) -> None:
    """Leave a worker's plan in the run's folder, which is made: xdist's workers collect, and a lost one can tell nothing.

    Raises UsageError where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(_place(folder, worker), json.dumps(asdict(plan)) + "\n")
    except OSError as error:
        raise UsageError(f"the plan cannot be kept in {folder}: {error.strerror or error}") from None


def take(folder: Path, worker: str) -> Plan | None:
    """Return the plan that a worker left in a run's folder, and remove it; None where there is none."""
    path = _place(folder, worker)
    try:
        plain = json.loads(path.read_text("utf-8"))
        plan = Plan(
            tuple(Planned(**one) for one in plain["planned"]),
            tuple(LeftOut(**one) for one in plain["left_out"]),
            tuple(Uncollected(**one) for one in plain["uncollected"]),
            tuple(plain["files"]),
            tuple(plain["packages"]),
            plain["own"],
        )
        path.unlink()
        return plan
    except (OSError, ValueError, TypeError, KeyError):
        return None
