"""The history of runs that Allure's report shows trends of: a file for each target, one line a run.

Allure adds a line whenever it makes a report, whatever the report is of. So it is given a copy that holds the runs
before the one that is shown, and only what it adds there is kept, in place of an older line of the same run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from channover.report.store import write_whole

LIMIT = 30
"""Runs that are kept."""


def place(reports: Path, kind: str) -> Path:
    """Return the history file of runs of a kind (:attr:`channover.report.results.Run.kind`)."""
    return reports / ".history" / f"{kind}.jsonl"


def before(path: Path, run: str) -> str:
    """Return the lines of the runs before this one: a run's id begins with the time of its start."""
    earlier = [point for point in _points(path) if str(point.get("name", "")) < run]
    return "".join(_line(point) for point in earlier[-LIMIT:])


def keep(path: Path, run: str, start: float, added: str) -> None:
    """Keep what Allure has added of a run that started at ``start`` (seconds since the epoch). Raises OSError."""
    lines = added.splitlines()
    if not lines:
        return
    point = json.loads(lines[-1])
    point |= {"name": run, "timestamp": int(start * 1000)}
    for result in point.get("testResults", {}).values():
        result.pop("trace", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.parent):
        others = [one for one in _points(path) if one.get("name") != run]
        points = sorted([*others, point], key=lambda one: str(one.get("name", "")))
        write_whole(path, "".join(_line(one) for one in points[-LIMIT:]))


def _line(point: Mapping[str, Any]) -> str:
    return json.dumps(point, ensure_ascii=False) + "\n"


def _points(path: Path) -> list[dict[str, Any]]:
    """Return the points of a history file; a line that is none is left out."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):
                point = json.loads(line)
                if isinstance(point, dict):
                    found.append(point)
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
