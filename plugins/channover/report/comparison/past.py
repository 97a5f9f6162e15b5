"""The runs of the past that lie in a folder of reports: those of one lab, in the order in which they began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from channover.errors import UsageError
from channover.report.results import Results, Run

LAST = 20
"""Runs that are looked back at."""


def past(reports: Path, like: Run, last: int = LAST, without: Sequence[str] = ()) -> list[Results]:
    """Return the last runs of the target, lab and rate of one that began before it, the oldest first.

    ``without`` are ids of runs that are left out. What cannot be read is none.
    """
    found: list[Results] = []
    for results in _newest(reports):
        run = results.run
        if run.start < like.start and run.id not in without and same_lab(run, like):
            found.append(results)
            if len(found) == last:
                break
    return found[::-1]


def same_lab(one: Run, other: Run) -> bool:
    """Say whether the values of two runs can be put beside each other: kernels, drivers and suites may have changed."""
    return _place(one) == _place(other)


def _place(run: Run) -> tuple[object, ...]:
    return run.target, run.lab, run.link_rate, run.family, run.mtu


def newest(reports: Path) -> Results | None:
    """Return the last run of a folder of reports that has measured anything, None where there is none."""
    return next((results for results in _newest(reports) if any(test.measurements for test in results.tests)), None)


def _newest(reports: Path) -> Iterator[Results]:
    """Yield the runs of a folder from the newest: the folders' names begin with the time of their start."""
    for path in sorted(reports.glob("*/results.json"), key=lambda path: path.parent.name, reverse=True):
        if path.parent.is_symlink():
            continue  # latest
        try:
            yield Results.from_json(path.read_text("utf-8"), check=False)
        except (OSError, UnicodeDecodeError, UsageError):
            continue
