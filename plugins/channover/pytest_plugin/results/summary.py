"""The summary of a run in Markdown: where ``--summary`` says, and where GitHub's and GitLab's jobs have a place for it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from channover.pytest_plugin.options import names as words

if TYPE_CHECKING:
    import pytest

    from channover.report.results import Results

GITHUB, GITLAB = "GITHUB_STEP_SUMMARY", "GITLAB_CI"
"""What the services set in a job's environment: the file of a step's summary, and that it is a job of GitLab's."""


def leave(config: pytest.Config, results: Results, folder: Path, remarks: Sequence[str]) -> list[str]:
    """Write the summary wherever it is wanted, and return a line to be shown for each place of the user's own."""
    places = list(_places(config, folder))
    if not places:
        return []
    from channover.report.deciding.decision import decide
    from channover.report.interchange.markdown import summary

    text, said = summary(results, decide(results), remarks), []
    for path, adds in places:
        shown = os.path.relpath(path, config.invocation_params.dir)
        try:
            with path.open("a" if adds else "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            said.append(f"summary: cannot be written to {shown}: {error.strerror or error}")
        else:
            said += [] if adds else [f"summary: {shown}"]
    return said


def _places(config: pytest.Config, folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield each file that takes the summary, and whether it is added to what is there: a step may have several."""
    wanted = words.value(config, "--summary")
    if wanted:
        yield Path(config.invocation_params.dir, wanted), False
    if told := os.environ.get(GITHUB):
        yield Path(told), True
    elif os.environ.get(GITLAB) and not wanted:
        yield folder / "summary.md", False
