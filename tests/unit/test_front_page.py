"""The first page of a run, and the pictures in it."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from channover.hosts.host import Journal
from channover.measure.record import Record, Sampled
from channover.model.catalogue import CATALOGUE
from channover.observe.nics import NicCounters, NicSeries
from channover.pytest_plugin.allure import rates
from channover.pytest_plugin.results.courses import courses
from channover.report import front_page
from channover.report.allure.links import test_ids as ids_of_tests
from channover.report.drawing.plots import Judged, nic_rates_svg
from channover.report.drawing.sparkline import sparkline_svg, told
from channover.report.facts import Bound, Course, Event, LeftOut, NicBytes, Planned
from channover.report.results import Results
from channover.report.signoff import certificate
from channover.verdict.causes.cause import Cause, Explanation
from channover.verdict.expectation import Expectation
from channover.verdict.measured import Reading
from channover.verdict.statistics import Estimate
from tests.support import runs
from tests.support.certificates import Page, written

TRAFFIC = "mptcp left→right"
COURSE = Course(
    TRAFFIC,
    "goodput",
    tuple(number / 10 for number in range(120)),
    tuple(1.85e8 if not 30 <= number < 60 else 9.2e7 for number in range(120)),
    (Bound(0.5, 3.0, 1.75e8, None, 1.85e8),),
    (Event("path lost", 3.0, "fault"), Event("return", 6.0, "return"), Event("dealt anew 1", 7.0, "re-deal")),
)
CAUSE = Cause(
    "no-source-rule",
    "NIC b carried 616,630 bytes and left has no rule `from 10.94.94.1`: the kernel sends it out of NIC a (eth1)",
    ("2 subflows of left had the address 10.94.94.1",),
    "ip rule add from 10.94.94.1 table TABLE",
    "shown",
)
NICS = tuple(
    NicBytes(TRAFFIC, host, nic, tx, rx)
    for host, nic, tx, rx in (
        ("left", "a", 45_000_000, 957_388),
        ("left", "b", 616_000, 630),
        ("right", "a", 957_388, 45_000_000),
        ("right", "b", 630, 616_000),
    )
)


def failing() -> Results:
    reason = "\n".join(["goodput of 93.2 Mbit/s, expected at least 175 Mbit/s", *Explanation((CAUSE,)).lines])
    low = replace(runs.RATE, value=9.32e7, expected=None, low=1.75e8, high=None, article=None)
    failed = replace(
        runs.test("MP-1", "failed", reason, measurements=[low]), causes=(CAUSE,), nics=NICS, courses=(COURSE,)
    )
    left = (LeftOut("suites/t.py::test_other", "MP-3", "deselected"),)
    return runs.results(
        runs.test("LAG-1"),
        failed,
        runs.test("LAG-6", "skipped", "no FTP server: install vsftpd", measurements=[]),
        more_planned=[Planned("suites/t.py::test_never", "TUN-1")],
        left_out=left,
        command=("pytest", "-k", "mptcp"),
    )


def test_the_decision_comes_first_then_what_failed_with_its_cause_and_remedy_then_every_behaviour() -> None:
    text = Page(front_page.render(failing())).text
    wanted = [
        "NOT ACCEPTED",
        "✗ 1 failed",
        "What did not pass, and why",
        "✗ MP-1 failed",
        "goodput of 93.2 Mbit/s, expected at least 175 Mbit/s",
        "Most likely: NIC b carried 616,630 bytes",
        "(no-source-rule, shown)",
        "Remedy: ip rule add from 10.94.94.1 table TABLE",
        "Every behaviour",
        "LAG-1",
        "goodput 94.100 ± 0.030 Mbit/s",
        "94.2 ±0.9 Mbit/s",
        "✓ passed",
        "What was not run, and why",
        "LAG-6 skipped: no FTP server: install vsftpd",
        "TUN-1 not reported: nothing was reported of it",
        "1 deselected (-k mptcp) suites/t.py: test_other",
        f"{len(CATALOGUE) - 4} not planned LAG-2 ",
    ]
    places = [text.find(words) for words in wanted]
    assert -1 not in places, [words for words, place in zip(wanted, places, strict=True) if place < 0]
    assert places == sorted(places)
    assert text.count("Most likely") == 1 and text.count("2 subflows of left had the address") == 1, "said once"


def test_the_family_and_the_mtu_are_told() -> None:
    usual = runs.results(runs.test())
    assert (
        "target netns" in Page(front_page.render(usual)).text
        and "IPv4, MTU 1500 bytes" in Page(front_page.render(usual)).text
    )
    six = Page(front_page.render(runs.results(runs.test(), family=6, mtu=9000))).text
    assert re.search(r"target netns ?, IPv6", six) and "over IPv6, for the emulated lab only" in six
    assert re.search(r"IPv ?6 ?, MTU ?9000", six)


def test_no_figure_beside_a_nic_says_otherwise_than_the_diagnosis() -> None:
    html = front_page.render(failing())
    drawing = next(svg for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL) if "no-source-rule" in svg)
    said = ET.fromstring(drawing).findtext("{http://www.w3.org/2000/svg}title") or ""
    assert "left.b: no-source-rule" in said, "the NIC that the likeliest cause accuses, and no other, is crossed out"
    assert "left.a: no-source-rule" not in said and drawing.count("no-source-rule</text>") == 1
    assert "left.b: 617 kB" in said and "left.a: 46 MB" in said, "the bytes that the diagnosis speaks of, both ways"
    assert front_page.accused([replace(CAUSE, statement="other work took the processors", evidence=())], [], []) == {}


def test_every_row_has_a_picture_of_the_rate_with_the_bound_and_what_happened() -> None:
    svg = sparkline_svg(COURSE)
    ET.fromstring(svg)
    assert svg.count("<rect") == 1 and 'fill-opacity="0.2"' in svg, "the range"
    assert svg.count('stroke="#b00020" stroke-width="1.2"') == 1, "the loss"
    assert svg.count('stroke-dasharray="3 2"') == 2, "the return, and the flows dealt anew"
    assert "expected at least 175 Mbit/s" in told(COURSE) and "3.0 s: path lost ✗" in told(COURSE)
    assert "mean 185 Mbit/s" in told(COURSE)
    assert sparkline_svg(replace(COURSE, times=(), rates=())) == ""
    html = front_page.render(failing())
    assert html.count(svg) == 2, "beside the failure, and in the row of its behaviour"


def test_it_asks_for_nothing_outside_and_links_into_the_report() -> None:
    results = failing()
    nodeid = results.tests[1].nodeid
    page = Page(front_page.render(results, links={nodeid: "4711"}))
    assert set(page.references) == {
        f"a href={name}" for name in ("certificate.html", "report.html", "results.json", "report.html#4711")
    }
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert "report.html" not in front_page.render(results)


def test_a_test_is_found_in_the_report_though_allure_was_told_nothing_of_it(tmp_path: Path) -> None:
    results = runs.four_states()
    ids = ids_of_tests(results, tmp_path)
    assert len(set(ids.values())) == 6 and all(re.fullmatch("[0-9a-f]{32}", one) for one in ids.values())
    assert ids == ids_of_tests(results, tmp_path)


@pytest.mark.parametrize("make", [runs.odd, runs.large, runs.physical, runs.four_states, runs.results])
def test_of_any_run_it_is_small_soon_made_and_holds_nothing_that_others_wrote(make: Any) -> None:
    results = make()
    front_page.render(results)  # the template is read once
    start = time.process_time()
    html = front_page.render(results)
    assert time.process_time() - start < 1.0
    assert len(html.encode()) < 1_000_000
    page = Page(html)
    assert "script" not in page.tags and not any("example" in one for one in page.references)
    assert "\u202e" not in html, "what turns text around is spelt out"


def test_thirty_behaviours_with_pictures_stay_below_one_megabyte(tmp_path: Path) -> None:
    tests = [replace(runs.test(one), courses=(COURSE,), nics=NICS) for one in CATALOGUE]
    runs.saved(runs.results(*tests), tmp_path)
    start = time.process_time()
    page = front_page.write(tmp_path)
    assert time.process_time() - start < 1.0
    assert page == tmp_path / "index.html" and page.stat().st_size < 300_000
    assert page.read_text("utf-8").count("<polyline") == len(CATALOGUE)


# ------------------------------------------------------------------------------------------------- rates over time


def host(name: str, *nics: str) -> Any:
    made = {nic: SimpleNamespace(name=nic, device=f"eth{nic}") for nic in nics}
    return SimpleNamespace(name=name, nics=made)


def series(name: str, **moved: tuple[int, int]) -> NicSeries:
    """Three samples, a second apart, of NICs that receive and send so many bytes a second."""
    samples = {
        f"eth{nic}": tuple(NicCounters(rx_bytes=number * rx, tx_bytes=number * tx) for number in range(3))
        for nic, (rx, tx) in moved.items()
    }
    return NicSeries(name, (10.0, 11.0, 12.0), samples)


def test_a_plot_has_one_direction_though_acknowledgements_come_back_by_another_nic() -> None:
    hosts = [host("left", "a", "b"), host("right", "a", "b")]
    taken = {
        "left": series("left", a=(10, 1000), b=(30, 10)),
        "right": series("right", a=(1000, 10), b=(10, 30)),
    }
    found = rates.lines(hosts, taken)
    assert [label for label, *_ in found] == ["right.a rx", "right.b rx"]
    assert rates.together(found, rates.receivers(hosts, taken))[1] == [8080.0, 8080.0]


def test_a_switch_in_between_shows_what_comes_towards_the_receiver() -> None:
    hosts = [host("left", "a"), host("east", "h", "a", "b"), host("right", "a")]
    taken = {
        "left": series("left", a=(20, 1000)),
        "east": series("east", h=(1000, 20), a=(1, 1000), b=(10, 20)),
        "right": series("right", a=(1000, 20)),
    }
    found = rates.lines(hosts, taken)
    assert [label for label, *_ in found] == ["east.h rx", "east.b rx", "right.a rx"], "an idle trunk link is shown"
    assert rates.together(found, rates.receivers(hosts, taken))[1] == [8000.0, 8000.0]


def test_loss_return_and_flows_dealt_anew_are_events() -> None:
    spans = [("before", 0.0, 2.0), ("fault: link lost", 2.0, 4.0), ("recovery", 4.0, 5.0), ("dealt anew 1", 5.0, 6.0)]
    assert rates.events(spans) == [
        Event("before", 0.0),
        Event("link lost", 2.0, "fault"),
        Event("return", 4.0, "return"),
        Event("dealt anew 1", 5.0, "re-deal"),
    ]
    assert rates.events([("warm-up", 0.0, 1.0), ("measured", 1.0, 3.0)]) == []


def reading(name: str, low: float, about: object) -> Reading:
    return Reading(
        name, "bit/s", Estimate(2e8, 0.0, 9), Expectation(low, float("inf")), held=True, settled=True, about=about
    )


def test_a_course_has_the_bounds_of_its_own_goodput_when_they_held() -> None:
    flow, other = object(), object()
    record = Record(None, Journal())
    plain = replace(COURSE, bounds=(), events=())
    record.sampled += [
        Sampled(flow, plain, [("warm-up", 0.0, 1.0), ("measured", 1.0, 12.0)]),
        Sampled(other, plain, [("before", 0.0, 2.0), ("fault: path lost", 2.0, 5.0)]),
    ]
    record.readings += [
        reading("goodput", 1e8, flow),
        reading("offered", 3e8, flow),
        reading("goodput fault: path lost, from 1 s on", 5e7, other),
    ]
    first, second = courses(record)
    assert first.bounds == (Bound(1.0, 12.0, 1e8, None, 2e8),)
    assert second.bounds == (Bound(3.0, 5.0, 5e7, None, 2e8),)


def test_courses_come_back_as_they_were_and_what_is_no_number_is_refused() -> None:
    results = runs.results(replace(runs.test("MP-1"), courses=(COURSE,)))
    assert Results.from_json(results.to_json()) == results
    with pytest.raises(ValueError, match="numbers"):
        replace(COURSE, rates=("1",) * 120)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="119 times and 120 rates"):
        replace(COURSE, times=COURSE.times[1:])


def test_a_plot_shows_the_bound_the_sum_of_the_nics_and_the_mean() -> None:
    lines = [("right.a rx", [0.0, 5.0, 10.0], [1e8, 1e8, 1e8]), ("right.b rx", [0.0, 5.0, 10.0], [8e7, 8e7, 8e7])]
    judged = Judged([("sum of NICs", [0.0, 10.0], [1.8e8, 1.8e8])], [Bound(1.0, 10.0, 1.75e8, 2e8, 1.78e8)])
    phases = [("before", 0.0, 2.0), ("fault: path lost", 2.0, 4.0), ("recovery", 4.0, 6.0), ("dealt anew 1", 6.0, 10.0)]
    svg = nic_rates_svg(lines, title="t", link_rate=1e8, phases=phases, judged=judged)
    words = [node.text for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"sum of NICs", "bound 175..200", "mean 178", "✗", "↺", "⇄"} <= set(words)
    assert "prefers-color-scheme:dark" in svg, "on a dark screen its ground is dark"


def test_a_reason_is_whole_on_the_certificate_too_and_never_ends_within_a_word(tmp_path: Path) -> None:
    reason = " ".join(f"word-{number}" for number in range(150))
    text = Page(written(runs.results(runs.test("LAG-1", "failed", reason)), tmp_path)[1]).text
    assert reason in text
    cut = certificate.clipped(reason, 100)
    assert cut.endswith(" …") and set(cut.split()) <= {*reason.split(), "…"} and len(cut) <= 102
    assert certificate.clipped("x" * 900, 100) == "x" * 99 + " …"
