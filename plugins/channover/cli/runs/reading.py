"""What commands that read runs share: how a run is named, and how text is printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from channover.errors import UsageError
from channover.text import printable

if TYPE_CHECKING:
    from channover.report.results import Results

RUN = "a run's folder, its results.json, or its name in reports/"


def folder_of(run: str) -> Path:
    """Return the folder of a run, given as folder, as results.json, or as a name in reports/. Raises UsageError."""
    given = Path(run)
    for path in (given, given.parent if given.is_file() else given, Path("reports") / run):
        if (path / "results.json").is_file():
            return path
    raise UsageError(f"{run}: there is no results.json; name a folder such as reports/latest")


def results_of(run: str) -> Results:
    """Return the results of a run. Raises UsageError."""
    from channover.report.results import Results

    given = Path(run)
    path = given if given.is_file() else folder_of(run) / "results.json"
    try:
        return Results.from_json(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def say(text: str, *, raw: bool = False) -> None:
    """Print text that the terminal's encoding may lack signs of; names in it may come from anywhere."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = text if raw else printable(text) + "\n"
    sys.stdout.write(shown.encode(encoding, "replace").decode(encoding))
