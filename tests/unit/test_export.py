"""Results as other programs take them: a real parser of OpenMetrics, and Python's of CSV and JSON, read what was written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from channover.report.interchange.openmetrics import to_openmetrics
from channover.report.interchange.rows import to_csv, to_json
from channover.report.results import Results
from tests.support import runs
from tests.support.commands import command


def samples(*found: Results) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(to_openmetrics(found)) for sample in family.samples]


def test_openmetrics_has_values_states_and_the_decision_at_the_time_of_the_run() -> None:
    of = {sample.name: sample for sample in samples(runs.results(runs.test("LAG-1"))) if sample.value}
    rate = of["channover_measured_bits_per_second"]
    assert rate.value == 94.1e6 and float(rate.timestamp or 0) == 1769860860.0
    assert rate.labels == {
        "run": runs.RUN.id,
        "target": "netns",
        "lab": "Bilbao 2",
        "behaviour": "LAG-1",
        "test": "suites/test_any.py::test_lag_1",
        "name": "goodput",
        "number": "1",
    }
    assert of["channover_lowest_bits_per_second"].value == 93.2e6
    assert of["channover_uncertainty_bits_per_second"].value == 3e4
    assert of["channover_measured"].labels["unit"] == "1"
    assert of["channover_run_info"].labels["decision"] == "ACCEPTED"
    assert of["channover_test_state"].labels["channover_test_state"] == "passed"
    assert of["channover_test_duration_seconds"].value == 2.5


@pytest.mark.parametrize("found", [runs.four_states(), runs.physical(), runs.odd(), runs.results()], ids=str)
def test_any_run_is_openmetrics_that_a_parser_takes(found: Results) -> None:
    other = replace(found, run=replace(found.run, id="another", end="2026-02-01T12:00:00.000Z"))
    names = {sample.name for sample in samples(found, other)}
    assert "channover_run_info" in names
    assert ("channover_test_state" in names) == bool(found.tests)


def test_csv_has_a_row_for_each_value_and_one_for_a_test_without() -> None:
    read = list(csv.DictReader(io.StringIO(to_csv([runs.four_states()]), newline="")))
    assert [(row["behaviour"], row["outcome"], row["name"]) for row in read[:4]] == [
        ("LAG-1", "passed", "goodput"),
        ("LAG-1", "passed", "NICs used"),
        ("LAG-2", "failed", "goodput"),
        ("LAG-2", "failed", "NICs used"),
    ]
    assert read[2]["value"] == "61200000.0" and read[2]["unit"] == "bit/s" and read[2]["held"] == "false"
    assert [row["value"] for row in read[4:6]] == ["", ""]


def test_no_text_of_a_csv_is_a_formula_to_a_spreadsheet() -> None:
    evil = runs.test("MP-1", name='=HYPERLINK("https://example.net")', measurements=[replace(runs.RATE, name="-2+3")])
    (row,) = csv.DictReader(io.StringIO(to_csv([runs.results(evil)]), newline=""))
    assert row["test"].startswith("'=") and row["name"] == "'-2+3"
    assert row["value"] == "94100000.0"


def test_json_has_the_same_rows() -> None:
    found = json.loads(to_json([runs.four_states()]))
    assert found["version"] == 1 and len(found["rows"]) == 8
    assert found["rows"][2] | {"held": False, "value": 61.2e6, "low": 93.2e6} == found["rows"][2]
    assert found["rows"][4]["value"] is None
    json.loads(to_json([runs.odd()]))


def test_the_command_writes_each_run_once(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    one = runs.saved(runs.results(runs.test()), tmp_path / "one")
    (tmp_path / "latest").symlink_to("one")
    assert command("export", one, tmp_path / "latest", "--format", "csv") == 0
    assert capsysbinary.readouterr().out.count(b"\r\n") == 3
    assert command("export", one, "--format", "openmetrics", "--output", tmp_path / "one.om") == 0
    assert list(text_string_to_metric_families((tmp_path / "one.om").read_text()))
    assert command("export", one, "--format", "json", "--output", tmp_path / "none" / "one.json") == 2
    assert command("export", tmp_path / "moon", "--format", "json") == 2
    assert capsysbinary.readouterr().err.count(b"\n") == 2
