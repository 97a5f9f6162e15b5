"""The table of rivals, made of a run's results."""

from __future__ import annotations

from tools import rivals

from channover.report.results import Measurement, TestResult


def measured(name: str, *values: float) -> TestResult:
    found = tuple(Measurement("goodput", value, "bit/s") for value in values)
    return TestResult(f"suites/rivals/test_rivals.py::test_{name}", None, "passed", measurements=found)


def test_the_table_has_what_was_measured_and_a_dash_for_what_was_not() -> None:
    tests = [measured("lacp_gives", 94.1e6, 188.2e6, 95.7e6), measured("lacp_loses_a_link[silent]", 2.9)]
    assert list(rivals.cells(tests, "lacp")) == ["94", "188", "96", "–", "2900"]
    assert list(rivals.cells(tests, "ecmp")) == ["–"] * 5
