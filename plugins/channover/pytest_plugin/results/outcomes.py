"""How a test ended, told from the reports of its phases.

A comparison that was not met is a failure; one that was not settled is neither failed nor passed, nor is a broken testbed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from channover.errors import ChannoverError, Inconclusive, TestbedError

if TYPE_CHECKING:
    from channover.report.results import Outcome

ERRORS, INCONCLUSIVE, REGRESSED = 6, 7, 8
"""Exit codes beside pytest's own (0 to 5): nothing failed, but the testbed broke; neither, but not all was settled; all passed,
but a value dropped over time (``--gate-regression``)."""
TESTBED_BROKE = "channover_testbed_broke"
"""Set on a report whose exception was no verdict on the behaviour."""
UNSETTLED = "channover_inconclusive"
"""Set on a report whose exception was a comparison that neither held nor did not."""
JUDGED = "channover_judged"
"""Set on a report that is a failure in whatever phase: of a comparison, or of what ``--no-skips`` forbids to skip."""
LEFT = "channover_left"
"""Set on a teardown's report: what the test left, as plain data."""
REPEATED = "repeated"
"""Property of the reports of a second try: a machine died in the first."""
REASON = "channover_reason"
"""Set on the report of a comparison that did not hold: the explanation, whole."""


_VERDICTS = (AssertionError, pytest.fail.Exception)


class Instead(TestbedError):
    """A broken testbed that was found after a verdict against, or none, and stands in its place."""


def broke(error: BaseException | None) -> bool:
    """Say whether an exception means a broken testbed rather than a broken behaviour."""
    return error is not None and not isinstance(error, (*_VERDICTS, Inconclusive))


def came_first(error: BaseException | None) -> BaseException | None:
    """Return the comparison during whose way out an exception was raised, a failed one first, or else the exception itself.

    A lab that is taken down after a failure may refuse what it would have done before: that is no verdict in its place.
    """
    if isinstance(error, Instead):
        return error
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__context__
    for kinds in (_VERDICTS, Inconclusive, BaseException):
        if found := next((one for one in chain if isinstance(one, kinds)), None):
            return found
    return None


def outcome_of(reports: list[pytest.TestReport]) -> tuple[Outcome, str]:
    """Return how a test ended, of the reports of its phases, and why.

    What was expected to fail and did has failed: the behaviour is not there. So has what a plugin tries once more.
    """
    for report in reports:
        if getattr(report, UNSETTLED, False) and not report.passed:
            return "inconclusive", reason_of(report)
        if report.skipped and hasattr(report, "wasxfail"):
            expected = f"expected to fail ({report.wasxfail})" if report.wasxfail else "expected to fail"
            return "failed", f"{expected}: {reason_of(report)}"
        if str(report.outcome) == "rerun":
            return "error" if report.when != "call" or getattr(report, TESTBED_BROKE, False) else "failed", reason_of(
                report
            )
        if report.skipped:
            text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            return "skipped", text.removeprefix("Skipped: ")
        if report.failed:
            judged = report.when == "call" and not getattr(report, TESTBED_BROKE, False)
            return "failed" if judged or getattr(report, JUDGED, False) else "error", reason_of(report)
    return "passed", ""


def exit_code(report: pytest.TestReport) -> int:
    """Return how a run ends of which this is the worst report: one that did not pass."""
    if getattr(report, TESTBED_BROKE, False):
        return ERRORS
    return INCONCLUSIVE if getattr(report, UNSETTLED, False) else int(pytest.ExitCode.TESTS_FAILED)


_CLASS = re.compile(r"(?:channover(?:\.\w+)+|Failed|AssertionError): ")
"""How a report begins with the class of what was raised: one of channover's own, pytest's, Python's."""


def reason_of(report: pytest.TestReport) -> str:
    """Return why a test did not pass, of the report of the phase that did not."""
    if explained := getattr(report, REASON, ""):
        return str(explained)
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    while said := _CLASS.match(text):
        text = text[said.end() :]
    return str(text.strip() or "no reason given")


def one_line(error: ChannoverError) -> str:
    """Return an error as one line."""
    return " ".join(str(error).split())
