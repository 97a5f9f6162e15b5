"""The gate of ``--gate-regression``: a run whose values left their level for the worse does not end with 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channover.pytest_plugin.options import names as words

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from channover.report.results import Results


def asked(config: pytest.Config) -> bool:
    """Say whether the run has a gate."""
    return bool(words.value(config, "--gate-regression"))


def regressed(results: Results, reports: Path) -> tuple[list[str], str]:
    """Return a line for what became worse than in former runs of the same lab, and one that says how many these are."""
    from channover.report.comparison.over_time import FEWEST_RUNS
    from channover.report.comparison.past import past
    from channover.report.comparison.regressions import regressions

    former = past(reports, results.run)
    told = f"{len(former)} former run{'s' * (len(former) != 1)} of the same target, lab and rate in {reports}"
    if len(former) < FEWEST_RUNS:
        return [], f"gate: {told}: fewer than {FEWEST_RUNS}, so that nothing can be a regression yet"
    found = regressions([*former, results])
    return found, f"gate: held against {told}: {f'{len(found)} values dropped' if found else 'nothing dropped'}"
