"""What pytest made of each phase of a test, before plugins and conftest files could say otherwise.

A hook may turn a failed report into a passed one, and a plugin may try a test again and report the last try alone. Each
report carries what was witnessed so far, so that whoever takes the reports sees both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from channover.errors import Inconclusive, TestbedError

if TYPE_CHECKING:
    from channover.report.results import Outcome

WITNESSED = pytest.StashKey[dict[str, list[list[str]]]]()
"""In the configuration: by test, the phases that were made and not reported yet, each with its outcome."""
_CARRIED = "channover_witnessed"


class Witness:
    """Notes pytest's own report of each phase of a test before other plugins can change it."""

    def __init__(self, config: pytest.Config) -> None:
        self._seen = config.stash.setdefault(WITNESSED, {})

    def note(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        """Note the phase and its outcome, and have the report carry all that was noted of the test."""
        seen = self._seen.setdefault(item.nodeid, [])
        raised = call.excinfo.value if call.excinfo is not None else None
        ways = {TestbedError: "error", Inconclusive: "inconclusive"}
        way = next((words for kind, words in ways.items() if isinstance(raised, kind)), report.outcome)
        seen.append([str(report.when), way if report.failed else report.outcome])
        setattr(report, _CARRIED, list(seen))

    def forget(self, report: pytest.TestReport) -> None:
        """Begin anew where a try was reported to its end."""
        if report.when == "teardown" or str(report.outcome) == "rerun":
            self._seen.pop(report.nodeid, None)


def against(report: pytest.TestReport) -> tuple[Outcome, str] | None:
    """Say what speaks against a test whose reports say that it passed, by the last of them."""
    seen: list[list[str]] | None = getattr(report, _CARRIED, None)
    if seen is None:
        return "error", "its report was not made by pytest: a plugin or a conftest.py put another one in its place"
    for when, outcome in seen:
        if outcome == "skipped":
            return "skipped", f"skipped ({when}), and reported as passed: a plugin or a conftest.py changed the report"
        if outcome != "passed":
            verdict: Outcome = "failed" if when == "call" and outcome == "failed" else "error"
            verdict = "inconclusive" if outcome == "inconclusive" else verdict
            word = "failed" if verdict == "error" else verdict
            return (
                verdict,
                f"{word} ({when}), and reported as passed: a plugin or a conftest.py changed it, or tried again",
            )
    return None
