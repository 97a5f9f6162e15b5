"""Results as a flat table, a row for each measured value: CSV for spreadsheets, JSON for programs.

Rates are bit/s, sizes bytes, times seconds, moments ISO 8601 in UTC, as in results.json. A test that measured nothing has one
row, without a value.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields

from channover.report.results import Measurement, Results, TestResult
from channover.text import printable

_FORMULA = ("=", "+", "-", "@", "\t")
"""What a spreadsheet takes for the beginning of a formula."""


@dataclass(frozen=True)
class Row:
    """One value of one test of one run; the fields of :class:`Measurement` are None where the test measured nothing.

    ``number`` counts the values of one name and unit in a test, from 1; ``held`` says whether the value is as expected.
    """

    run: str
    start: str
    target: str
    lab: str
    link_rate: float
    kernel: str
    revision: str
    family: int
    mtu: int
    test: str
    behaviour: str | None
    outcome: str
    duration: float
    name: str | None = None
    number: int | None = None
    value: float | None = None
    unit: str | None = None
    uncertainty: float | None = None
    samples: int | None = None
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    article: float | None = None
    held: bool | None = None
    settled: bool | None = None


def rows(runs: Sequence[Results]) -> Iterator[Row]:
    """Yield the rows of runs, in the order of these and of their tests."""
    for results in runs:
        run = results.run
        place = (run.id, run.start, run.target, run.lab, run.link_rate, run.kernel, run.revision, run.family, run.mtu)
        for test in results.tests:
            ended = (*place, test.nodeid, test.behaviour, test.outcome, test.duration)
            if not test.measurements:
                yield Row(*ended)
            for number, each in numbered(test):
                yield Row(
                    *ended,
                    *(each.name, number, each.value, each.unit, each.uncertainty, each.samples),
                    *(each.low, each.high, each.expected, each.article, each.held, each.settled),
                )


def numbered(test: TestResult) -> Iterator[tuple[int, Measurement]]:
    """Yield a test's measurements, each with which of that name and unit it is, from 1."""
    seen: dict[tuple[str, str], int] = {}
    for each in test.measurements:
        seen[each.name, each.unit] = number = seen.get((each.name, each.unit), 0) + 1
        yield number, each


def to_csv(runs: Sequence[Results]) -> str:
    """Return the rows as CSV (RFC 4180), with a row of names; no text of theirs is a formula to a spreadsheet."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(field.name for field in fields(Row))
    for row in rows(runs):
        writer.writerow(_cell(value) for value in asdict(row).values())
    return file.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def to_json(runs: Sequence[Results]) -> str:
    """Return the rows as JSON: ``version`` 1, and ``rows``, an object each; what is not known is null."""
    document = {"version": 1, "rows": [asdict(row) for row in rows(runs)]}
    return json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
