"""The report room: results as data, the terminal's table and live line, the plots."""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE
from channover.pytest_plugin.results import collector as collecting
from channover.report import figures
from channover.report import results as results_module
from channover.report.allure.plot_process import drawn
from channover.report.drawing.plots import Series, course_svg, nic_rates_svg
from channover.report.facts import CableFacts, NicBytes, moment
from channover.report.results import Measurement, Outcome, Results, Run, TestResult, Unit
from channover.report.store import run_folder
from channover.report.terminal import expectation, figure, line_of, render, show
from channover.text import printable, readable
from channover.verdict.expectation import Expectation, anything_but, at_least, between, less_than, more_than
from channover.verdict.measured import Reading
from channover.verdict.statistics import Estimate
from tests.support import runs as made

RUN = Run(
    id="20260131T120000Z-0a1b2c",
    target="netns",
    kernel="6.18.5",
    lag_driver="openvswitch",
    tools={"iperf3": "3.12"},
    link_rate=1e8,
    congestion_control="bbr",
    start="2026-01-31T12:00:00.000Z",
    end="2026-01-31T12:01:00.000Z",
    command=("pytest", "suites"),
)
RATE = Measurement("tcp left→right", 94.1e6, "bit/s", 94.15e6, 93.2e6, 95.1e6, 94.3e6)


def results(*tests: TestResult, **changes: Any) -> Results:
    return Results(replace(RUN, **changes), tests)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


# ---------------------------------------------------------------------------------------------------------- results

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
units: st.SearchStrategy[Unit] = st.sampled_from(["bit/s", "s", "1", "bytes", "°C", "packets/s"])
measurements = st.builds(Measurement, st.text(), numbers, units, numbers, numbers, numbers, numbers)
tests_of_a_run = st.builds(
    TestResult,
    nodeid=st.text(min_size=1),
    behaviour=st.none() | st.sampled_from(sorted(CATALOGUE)) | st.text(),
    outcome=st.sampled_from(["passed", "failed", "error", "skipped"]),
    reason=st.text(),
    duration=st.floats(min_value=0, allow_infinity=False),
    measurements=st.lists(measurements, max_size=3).map(tuple),
)
moments = st.datetimes(timezones=st.just(timezone.utc)).map(moment)
runs = st.builds(
    Run,
    id=st.text(min_size=1),
    target=st.text(min_size=1),
    kernel=st.text(),
    lag_driver=st.none() | st.text(),
    tools=st.dictionaries(st.text(), st.text(), max_size=3),
    link_rate=st.floats(min_value=1e6, max_value=1e11),
    congestion_control=st.text(),
    start=moments,
    end=moments,
    command=st.lists(st.text(), max_size=3).map(tuple),
    interrupted=st.booleans(),
)
any_results = st.builds(Results, runs, st.lists(tests_of_a_run, max_size=4).map(tuple))


@given(any_results)
@settings(deadline=None, max_examples=60)
def test_results_come_back_as_they_were(found: Results) -> None:
    assert Results.from_json(found.to_json()) == found


def test_bytes_of_nics_come_back_as_they_were() -> None:
    carried = (NicBytes("tcp left→right", "left", "a", 1000, 20),)
    found = Results(RUN, (TestResult("t::a", "LAG-1", "passed", nics=carried),))
    assert Results.from_json(found.to_json()) == found


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_null(value: float) -> None:
    found = Measurement("rate", value, "bit/s", value, value, value, value)
    text = results(TestResult("t", "LAG-1", "passed", measurements=(found,))).to_json()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["tests"][0]["measurements"][0]["value"] is None
    with pytest.raises(ValueError, match="cannot last"):
        TestResult("t", None, "passed", duration=value)


def test_lone_surrogates_do_not_stop_the_report(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results(TestResult("t\udcff", None, "failed", "got \udc80")).write(path)
    assert Results.from_json(path.read_text("utf-8")).tests[0].reason == r"got \udc80"


def _set(*keys: Any) -> Callable[[Any, Any], None]:
    def change(document: Any, value: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "value", "place"),
    [
        (_set("version"), 2, r"\$\.version"),
        (_set("surplus"), 1, r"\$:.*surplus"),
        (_set("run", "surplus"), 1, r"\$\.run:.*surplus"),
        (_set("run", "start"), "yesterday", r"\$\.run\.start"),
        (_set("run", "start"), "2026-01-31T12:00:00+02:00", r"\$\.run\.start"),
        (_set("run", "link_rate"), 0, r"\$\.run\.link_rate"),
        (_set("run", "command"), "pytest", r"\$\.run\.command"),
        (_set("tests", 0, "outcome"), "xfailed", r"\$\.tests\[0\]\.outcome"),
        (_set("tests", 0, "duration"), -1, r"\$\.tests\[0\]\.duration"),
        (_set("tests", 0, "measurements", 0, "unit"), "Mbit/s", r"measurements\[0\]\.unit"),
        (_set("tests", 0, "measurements", 0, "unit"), "", r"measurements\[0\]\.unit"),
        (_set("tests", 0, "measurements", 0, "unit"), "two\nlines", r"measurements\[0\]\.unit"),
        (_set("tests", 0, "measurements", 0, "value"), "94.1", r"measurements\[0\]\.value"),
        (_set("tests", 0, "measurements", 0, "value"), True, r"measurements\[0\]\.value"),
        (_set("tests", 0, "measurements", 0, "value"), 10**400, r"no results"),
    ],
)
def test_what_is_no_result_is_refused_with_its_place(
    change: Callable[[Any, Any], None], value: Any, place: str
) -> None:
    document = json.loads(results(TestResult("t", "LAG-1", "passed", measurements=(RATE,))).to_json())
    change(document, value)
    with pytest.raises(UsageError, match=place):
        Results.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": NaN}', "[" * 100_000])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no results of channover"):
        Results.from_json(text)


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
def test_numbers_beyond_a_float_are_refused_where_one_is_due(number: str) -> None:
    text = (
        results(TestResult("t", None, "passed", duration=1.0))
        .to_json()
        .replace('"duration": 1.0', f'"duration": {number}')
    )
    with pytest.raises(UsageError, match="no results"):
        Results.from_json(text)


def test_results_that_break_the_schema_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results().write(path)
    before = path.read_text()
    with pytest.raises(UsageError, match=r"\$\.run\.end"):
        results(end="").write(path)
    assert path.read_text() == before


def test_a_failed_write_leaves_the_former_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    path.write_text("former")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        results().write(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]
    assert path.read_text() == "former"


def test_file_is_readable_by_others_as_the_umask_says(tmp_path: Path) -> None:
    path, sample = tmp_path / "results.json", tmp_path / "sample"
    sample.touch()
    results().write(path)
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(sample.stat().st_mode)


def test_schema_is_sound() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(results_module.schema())


def test_moments_are_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert moment(datetime(2026, 1, 31, 14, 0, 0, 250_000, east)) == "2026-01-31T12:00:00.250Z"
    with pytest.raises(ValueError, match="time zone"):
        moment(datetime(2026, 1, 31))


START = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


def test_run_folder_is_new_and_latest_points_at_it(tmp_path: Path) -> None:
    reports = tmp_path / "deep" / "reports"
    first, second = run_folder(reports, START), run_folder(reports, START)
    assert first != second and first.is_dir()
    assert re.fullmatch(r"20260131T120000Z-[0-9a-f]{8}", first.name)
    latest = reports / "latest"
    assert latest.is_symlink() and not latest.readlink().is_absolute()
    assert latest.resolve() == second.resolve()


def test_many_runs_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    folders: list[Path] = []
    broken: list[str] = []
    done = threading.Event()
    barrier = threading.Barrier(8)

    def watch() -> None:
        while not done.is_set():
            try:
                if not (tmp_path / "latest").is_dir():
                    broken.append("latest points nowhere")
            except OSError as error:
                broken.append(str(error))

    def start() -> None:
        barrier.wait()
        for _ in range(25):
            folders.append(run_folder(tmp_path, START))

    run_folder(tmp_path, START)
    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert not broken
    assert len(set(folders)) == 200
    assert (tmp_path / "latest").resolve() in {folder.resolve() for folder in folders}
    assert not [entry for entry in tmp_path.iterdir() if entry.name.endswith(".tmp")]


def test_a_dangling_latest_is_replaced_but_a_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("gone")
    assert (tmp_path / "latest").resolve() != run_folder(tmp_path, START)
    assert (tmp_path / "latest").is_dir()
    other = tmp_path / "other"
    (other / "latest").mkdir(parents=True)
    with pytest.raises(UsageError, match="no link"):
        run_folder(other, START)
    assert [entry.name for entry in other.iterdir()] != []


def test_reports_that_cannot_be_made_are_said(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(UsageError, match="cannot be kept"):
        run_folder(tmp_path / "reports", START)


# --------------------------------------------------------------------------------------------------------- terminal

SCRIPTS = [
    "tcp left→right",
    "吞吐量 左→右 三条链路的总和",
    "معدل النقل عبر المسار الأول",
    "स्थानांतरण दर",
    "x" * 90,
    "🚀 " * 20,
    "",
]


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("width", [70, 80, 120])
def test_table_fits_in_any_script(name: str, width: int) -> None:
    tests = [
        TestResult("s/t.py::test_one", "LAG-1", "passed", "", 1.0, (replace(RATE, name=name), RATE)),
        TestResult(
            f"s/t.py::test_two[{name}]", "MP-1", "failed", f"expected {name} " * 9, 1.0, (replace(RATE, value=None),)
        ),
        TestResult(f"s/t.py::test_three[{name}]", None, "error", name, 1.0),
    ]
    text = render(results(*tests), width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "94.1 Mbit/s" in text and "94.2 ±0.9" in text
    assert ("94.3" in text) == (width >= 76), "the article's figures need the room"
    assert "\x1b" not in text
    assert all(line == line.rstrip(" ") for line in text.splitlines())


def test_a_value_that_had_not_settled_is_told_apart_and_why() -> None:
    text = render(
        results(TestResult("t", "LAG-1", "inconclusive", "why", measurements=(replace(RATE, settled=False),)))
    )
    assert "?  not settled: the interval still held the bound when the time was up" in text
    assert "LAG-1 inconclusive: t\n    why" in text and "1 inconclusive in" in text


def test_digits_after_right_to_left_text_stay_in_their_column() -> None:
    text = render(results(TestResult("t", "LAG-1", "passed", measurements=(replace(RATE, name="المسار الأول"),))))
    assert re.search("المسار الأول *\u200e +94", text)


def test_main_measurement_is_on_the_line_of_the_verdict() -> None:
    more = Measurement("idle NIC", 558, "bytes", high=10_000)
    lines = render(results(TestResult("t", "LAG-1", "passed", measurements=(RATE, more)))).splitlines()
    main = next(line for line in lines if "LAG-1" in line)
    assert "94.1 Mbit/s" in main and main.endswith("passed")
    beneath = lines[lines.index(main) + 1]
    assert "558 bytes" in beneath and "≤ 10 000" in beneath and "passed" not in beneath


def test_a_second_try_is_marked_in_the_table_and_in_the_file() -> None:
    found = results(
        TestResult("t", "LAG-1", "passed", measurements=(RATE,), repeated=True), TestResult("u", "LAG-2", "passed")
    )
    assert Results.from_json(found.to_json()) == found
    assert '"repeated": true' in found.to_json() and '"repeated": false' not in found.to_json()
    lines = render(found).splitlines()
    at = next(number for number, line in enumerate(lines) if "LAG-1" in line)
    assert lines[at].endswith("passed") and lines[at + 1].strip() == "repeated"
    assert "repeated: a machine died in the first try; the second one counts" in lines
    assert "repeated" not in render(results(TestResult("u", "LAG-2", "passed")))


def test_table_is_in_the_order_of_the_catalogue() -> None:
    text = render(results(*(TestResult("t", key, "passed") for key in reversed(list(CATALOGUE)))))
    assert re.findall(r"(?m)^ ([A-Z]+-\d+)", text) == list(CATALOGUE)


def test_equal_skips_are_told_once_and_failures_each() -> None:
    reason = "left has no openvpn: apt-get install openvpn"
    tests = [TestResult(f"t::{key}", key, "skipped", reason) for key in ("TUN-2", "TUN-3")]
    tests += [TestResult(f"t::{key}", key, "failed", "too slow") for key in ("LAG-1", "LAG-2")]
    text = render(results(*tests))
    assert text.count(reason) == 1 and "TUN-2, TUN-3 skipped" in text
    assert text.count("too slow") == 2 and "LAG-1 failed: t::LAG-1" in text
    assert "2 failed, 2 skipped" in text


def test_links_of_several_rates_are_all_named() -> None:
    cables = tuple(CableFacts(f"left.{nic}", f"right.{nic}", rate) for nic, rate in (("a", 1e10), ("b", 1e9)))
    assert "links of 1000.0, 10000.0 Mbit/s" in render(results(target="physical", cables=cables), width=140)
    assert "links of 100.0 Mbit/s" in render(
        results(cables=cables), width=140
    )  # an emulated access link is ten times as fast


def test_an_interrupted_run_says_so() -> None:
    assert "Interrupted" in render(results(interrupted=True))
    assert "no tests" in render(results())


def test_control_sequences_of_others_do_not_reach_the_terminal() -> None:
    bad = "\x1b[2J\x9b31m\u202e\udcff"
    text = render(results(TestResult(bad, bad, "failed", bad, 0, (replace(RATE, name=bad),)), kernel=bad), colour=False)
    assert not set("\x1b\x9b\u202e\udcff") & set(text)
    assert r"\x1b[2J" in text


def test_brackets_are_no_markup() -> None:
    assert "test_x[red]" in render(results(TestResult("t::test_x[red]", None, "failed", "[bold]why[/bold]")))
    assert "[bold]why[/bold]" in render(results(TestResult("t", None, "failed", "[bold]why[/bold]")))


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = results(TestResult("t", "LAG-1", "passed", measurements=(RATE,)))
    log, terminal, plain = io.StringIO(), Terminal(), Terminal()
    show(found, log)
    show(found, terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    show(found, plain)
    assert "\x1b[" not in log.getvalue() and "\x1b[" not in plain.getvalue()
    assert "\x1b[32m" in terminal.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_log_of_any_encoding(encoding: str) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    show(results(TestResult("t", "LAG-1", "failed", "吞吐量", 1, (replace(RATE, low=None),))), file)
    text = file.buffer.getvalue().decode(encoding)
    assert "94.1 Mbit/s" in text and "tcp left" in text


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (94.14e6, "bit/s", "94.1"),
        (9.4e9, "bit/s", "9400.0"),
        (12_300.0, "bit/s", "0.012"),
        (0.0, "bit/s", "0.0"),
        (0.1044, "s", "0.104"),
        (1200.04, "s", "1200.0"),
        (9.0, "1", "9"),
        (0.4689, "1", "0.4689"),
        (13_200_000_000.0, "bytes", "13 200 000 000"),
        (None, "bit/s", "–"),
    ],
)
def test_figures(value: float | None, unit: Unit, shown: str) -> None:
    assert figure(value, unit) == shown


@pytest.mark.parametrize(
    ("expected", "low", "high", "shown"),
    [
        (None, None, None, "–"),
        (94e6, None, None, "94.0"),
        (94e6, 92e6, 96e6, "94.0 ±2.0"),
        (94e6, 90e6, 96e6, "90.0..96.0"),
        (None, 90e6, 96e6, "90.0..96.0"),
        (None, 90e6, math.inf, "≥ 90.0"),
        (None, -math.inf, 96e6, "≤ 96.0"),
        (9e6, 9e6, 9e6, "9.0"),
    ],
)
def test_expectations(expected: float | None, low: float | None, high: float | None, shown: str) -> None:
    assert expectation(Measurement("m", 1.0, "bit/s", expected, low, high)) == shown


@pytest.mark.parametrize(
    ("expected", "value", "shown", "margin", "inside"),
    [
        (more_than(1), 2.0, "> 1", "+1", True),
        (more_than(2), 2.0, "> 2", "+0", False),
        (less_than(2), 2.0, "< 2", "+0", False),
        (less_than(3), 2.0, "< 3", "+1", True),
        (anything_but(2), 2.0, "≠ 2", "+0", False),
        (anything_but(5), 2.0, "≠ 5", "+3", True),
        (anything_but(between(3, 4)), 2.0, "≠ 3..4", "+1", True),
        (anything_but(between(1, 4)), 2.0, "≠ 1..4", "−1", False),
        (anything_but(at_least(2)), 2.0, "< 2", "+0", False),
    ],
)
def test_strict_and_negated_expectations_are_told_as_they_are(
    expected: Expectation, value: float, shown: str, margin: str, inside: bool
) -> None:
    taken = Reading("ports", "1", Estimate(value, 0.0, 1), expected, expected.holds(value), settled=True)
    kept = made.results(made.test(measurements=[collecting.measurement(taken, None)]))
    (line,) = figures.lines_of(Results.from_json(kept.to_json()).tests[0])
    assert (line.bounds, line.margin.partition(" ")[0], line.inside) == (shown, margin, inside)
    assert expected.holds(value) is inside


@pytest.mark.parametrize(
    ("outcome", "measured", "reason", "said"),
    [
        ("passed", [RATE], "", "PASSED LAG-1 tcp left→right 94.1 Mbit/s (94.2 ±0.9), "),
        ("failed", [RATE, replace(RATE, name="wire", value=1e6)], "x", "FAILED LAG-1 wire 1.0 Mbit/s (94.2 ±0.9), "),
        ("failed", [], "no route\nto it", "FAILED LAG-1 no route, "),
        (
            "skipped",
            [],
            "no vsftpd: install it" + " x" * 99,
            f"SKIPPED LAG-1 {('no vsftpd: install it' + ' x' * 99)[:159]}…, ",
        ),
        ("error", [RATE], "iperf3 died", "ERROR LAG-1 iperf3 died, "),
    ],
)
def test_a_test_is_a_line_with_its_verdict_and_its_value(
    outcome: Outcome, measured: list[Measurement], reason: str, said: str
) -> None:
    found = TestResult("suites/test_x.py::test_it", "LAG-1", outcome, reason, 1.25, tuple(measured))
    assert line_of(found) == f"{said}1.2 s: suites/test_x.py::test_it"


# ------------------------------------------------------------------------------------------------------------ plots


def nics(count: int, samples: int = 100) -> list[Series]:
    times = [sample / 10 for sample in range(samples)]
    return [
        (f"left.{chr(97 + n)} tx", times, [9e7 + (n * 37 + s * s) % 5 * 1e6 for s in range(samples)])
        for n in range(count)
    ]


def words(svg: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_plot_is_xml_with_its_labels_as_text() -> None:
    svg = nic_rates_svg(nics(8), title="TUN-5 <&> 10.96.96.1 吞吐量 $x^2$", link_rate=1e8, phases=[("b pulled", 4, 6)])
    found = words(svg)
    assert "TUN-5 <&> 10.96.96.1 吞吐量 $x^2$" in found
    assert {label for label, _, _ in nics(8)} <= set(found)
    assert {"b pulled", "Mbit/s", "seconds", "link rate 100", "0", "50", "100"} <= set(found)
    root = ET.fromstring(svg)
    assert (root.get("width"), root.get("height")) == ("640", "276")


def test_what_is_no_rate_is_drawn_with_its_own_axis_and_without_a_link_rate() -> None:
    series = [("mptcp", [0.0, 1.1, 5.0], [0.0, 1.5, 0.0]), ("tcp", [0.0, 2.1, 7.0], [0.0, 1.5, 0.0])]
    svg = course_svg(series, title="buffer", axis="seconds of the stream", phases=[("fault: path lost", 1, 2)])
    found = words(svg)
    assert {"mptcp", "tcp", "seconds of the stream", "seconds", "buffer", "fault: path lost", "1.5"} <= set(found)
    assert not [word for word in found if "link rate" in word or "bit/s" in word]
    job = {"title": "buffer", "axis": "seconds of the stream", "phases": [("fault: path lost", 1, 2)], "series": series}
    assert drawn(job) == svg, "as the plotter's process draws it"


@pytest.mark.parametrize("letter", ["x", "信", "🧪"])
def test_long_names_in_any_script_fit_their_place(letter: str) -> None:
    wide = 1 if letter == "x" else 2
    svg = nic_rates_svg([(f"{letter * 90}.a tx", [0, 1], [1, 2])], title=letter * 200, link_rate=1e8)
    texts = [text.text or "" for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    shown = [text for text in texts if letter in text]
    assert sorted(sum(wide if one == letter else 1 for one in text) <= 18 for text in shown) == [False, True]
    assert max(sum(wide if one == letter else 1 for one in text) for text in shown) <= 78
    assert any(text.endswith(".a tx") for text in shown)


def placed(svg: str) -> dict[str, tuple[float, float]]:
    """Where each text of a plot begins, or is centred, or ends, by what it says."""
    texts = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return {text.text or "": (float(text.get("x") or 0), float(text.get("y") or 0)) for text in texts}


@pytest.mark.parametrize(("most", "ticks"), [(1.42e8, ("0", "50", "100", "150")), (1e10, ("0", "5000", "10000"))])
def test_ticks_leave_its_place_to_the_unit(most: float, ticks: tuple[str, ...]) -> None:
    texts = placed(nic_rates_svg([("left.a tx", [0, 1], [0, most])], title="t", link_rate=1e8))
    for tick in ticks:  # they end at x, a figure is no wider than 6.5 pixels; the unit is upright, with its foot at x
        assert texts["Mbit/s"][0] + 3 < texts[tick][0] - 6.5 * len(tick)


def test_names_of_phases_are_whole_where_there_is_room_and_never_run_into_each_other() -> None:
    late = [("load", 0.0, 9.0), ("fault: loop by 10.96.96.1", 9.0, 10.0)]
    texts = placed(nic_rates_svg(nics(2), title="t", link_rate=1e8, phases=late))
    assert "fault: loop by 10.96.96.1" in texts, "above the key there is room"
    flaps = [(f"fault: left.a pulled {number}", number / 2, number / 2 + 0.2) for number in range(20)]
    texts = placed(nic_rates_svg(nics(2), title="t", link_rate=1e8, phases=flaps))
    shown = [(text, *at) for text, at in texts.items() if text.startswith("f")]
    assert len(shown) == 20
    for text, x, y in shown:
        ends = x + 5.5 * len(text)
        assert not [other for other, start, row in shown if row == y and x < start < ends], text


def test_a_name_that_begins_with_an_underscore_is_in_the_key() -> None:
    assert "_lab.a tx" in words(nic_rates_svg([("_lab.a tx", [0, 1], [1, 2])], title="t", link_rate=1e8))


def test_a_plot_stands_on_white_and_any_viewer_has_its_font() -> None:
    """A report is read on a dark page too."""
    svg = nic_rates_svg(nics(2), title="t", link_rate=1e8)
    ground = re.search(r"<path [^>]*>", svg)
    assert ground is not None and "M 0 276 L 640 276 L 640 0 L 0 0 z" in ground[0] and "fill: #ffffff" in ground[0]
    styles = [text.get("style") or "" for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert styles and all(re.search(r"font(-family)?: [^;]*, sans-serif(;|$)", style) for style in styles)


def test_what_draws_is_imported_by_nobody_but_the_process_that_draws() -> None:
    modules = (
        "channover.cli.main",
        "channover.pytest_plugin.hooks",
        "channover.report.allure.make",
        "channover.report.allure.plot_process",
    )
    program = f"import {', '.join(modules)}, sys; print({{'matplotlib', 'numpy', 'iperf3'}} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_plot_refers_to_nothing_outside() -> None:
    svg = nic_rates_svg(nics(2), title="t", link_rate=1e8)
    assert set(re.findall(r"https?://[^\"' >]+", svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<script" not in svg and "DOCTYPE" not in svg and "<image" not in svg and "@import" not in svg
    assert all(reference.startswith("#") for reference in re.findall(r'href="([^"]*)"', svg))


def test_plot_is_the_same_each_time_and_small() -> None:
    one, two = (nic_rates_svg(nics(8), title="t", link_rate=1e8, phases=[("p", 1, 2)]) for _ in range(2))
    assert one == two
    assert len(one.encode()) < 40_000


def test_lines_of_a_plot_differ_without_colour() -> None:
    svg = nic_rates_svg(nics(8), title="t", link_rate=1e8)
    dashes = {re.sub(r"\s", "", found) for found in re.findall(r"stroke-dasharray: ([^;\"]+)", svg)}
    assert len(dashes) >= 8, "seven dashed series and the link rate; the first series is solid"


def test_long_series_are_thinned_and_keep_a_short_stall() -> None:
    times = [sample / 10 for sample in range(12_000)]
    svg = nic_rates_svg([("a", times, [0.0 if s == 5001 else 9.4e7 for s in range(12_000)])], title="t", link_rate=1e8)
    assert len(svg) < 40_000
    line = max(re.findall(r'\bd="([^"]*)"', svg), key=lambda path: path.count("L"))
    heights = [float(y) for y in re.findall(r"[ML] [0-9.]+ ([0-9.]+)", line)]
    (stall,) = [
        number for number, height in enumerate(heights[1:-1], 1) if heights[number - 1] < height > heights[number + 1]
    ]
    assert heights[stall] - heights[stall - 1] > 150, "the one sample of 0 bit/s is at the bottom"


@pytest.mark.parametrize("count", [0, 1, 30])
def test_plot_of_any_number_of_series(count: int) -> None:
    assert ET.fromstring(nic_rates_svg(nics(count, 1), title="", link_rate=1e9)) is not None


labels = st.text(max_size=40)
floats = st.floats()


@given(
    labels,
    st.lists(st.tuples(labels, st.lists(st.tuples(floats, floats), max_size=4)), max_size=3),
    st.lists(st.tuples(labels, floats, floats), max_size=2),
    st.floats(min_value=1, max_value=1e15),
)
@settings(deadline=None, max_examples=40)
def test_plot_of_anything_is_xml(
    title: str, series: list[tuple[str, list[tuple[float, float]]]], phases: list[tuple[str, float, float]], rate: float
) -> None:
    lines = [(name, sorted(time for time, _ in pairs), [rate for _, rate in pairs]) for name, pairs in series]
    svg = nic_rates_svg(lines, title=title, link_rate=rate, phases=phases)
    ET.fromstring(svg)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<(text|title).*?</\1>", "", svg, flags=re.DOTALL))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="2 times and 1 rates"):
        nic_rates_svg([("a", [0, 1], [1])], title="t", link_rate=1e8)
    for rate in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="link rate"):
            nic_rates_svg([], title="t", link_rate=rate)


@given(st.text(alphabet=st.characters()))
def test_printable_text_is_printable(text: str) -> None:
    shown = printable(text)
    ET.fromstring(f"<a>{shown.replace('&', '').replace('<', '').replace('>', '')}</a>".encode())
    assert printable(shown) == shown


def test_names_are_shown_as_they_were_written_and_cannot_turn_their_line() -> None:
    assert readable(r"t.py::test_a[\u4fe1\u53f7-\U0001f9ea-se\xf1al]") == "t.py::test_a[信号-🧪-señal]"
    assert readable(r"test[\u202egnp\x1b\x0a\ud800\Uffffffff]").isprintable()
    assert readable("test[a-b]") == "test[a-b]"
