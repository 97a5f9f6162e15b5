"""The first page of a run: what was decided, every behaviour in a row, what failed and why, what was not run.

It is one file of HTML without scripts that asks for nothing: pictures are SVG within it. Evidence is in the report, whose
tests it links to; what is signed is the certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from channover import __version__
from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE
from channover.report.allure.links import test_ids
from channover.report.allure.make import NAME as REPORT
from channover.report.allure.make import read
from channover.report.deciding.decision import Decision, Judged, decide
from channover.report.deciding.deviations import left_out
from channover.report.deciding.endings import MEANING, SIGNS, STATES, Ended, State
from channover.report.deciding.waivers import Waiver
from channover.report.drawing import theme
from channover.report.drawing.page import template
from channover.report.drawing.sparkline import sparkline_svg, told
from channover.report.drawing.topology import rate, topology_svg
from channover.report.facts import CableFacts, Course, HostFacts, NicBytes
from channover.report.figures import Line, lines_of, main_line
from channover.report.results import Results, Run, TestResult
from channover.report.signoff.certificate import NAME as CERTIFICATE
from channover.report.signoff.hardware_table import parts
from channover.report.store import write_whole
from channover.text import readable
from channover.verdict.causes.cause import Cause, besides
from channover.verdict.notes import Note, once

NAME = "index.html"
_FAILURES, _LINES, _CAUSES, _DRAWINGS = 20, 12, 3, 6
"""Failures that are told whole, lines of a reason, causes of each, drawings: the rest is counted, and in the report."""


@dataclass(frozen=True)
class _Row:
    """A behaviour: the value that stands for it, of which test, and the picture of that test's rate."""

    judged: Judged
    line: Line | None
    picture: str
    caption: str
    link: str
    notes: tuple[Note, ...]
    tests: int


@dataclass(frozen=True)
class _Failure:
    """A test that did not pass: what was said, the likeliest causes, its lab with what each NIC carried."""

    behaviour: str
    statement: str
    test: str
    state: State
    said: Sequence[str]
    more: int
    causes: Sequence[Cause]
    drawing: str
    picture: str
    caption: str
    link: str


@dataclass(frozen=True)
class _Unrun:
    """What was not run, and why."""

    what: str
    why: str


def write(
    folder: Path, *, waivers: Sequence[Waiver] = (), report: bool | None = None, allure_results: Path | None = None
) -> Path:
    """Write the page of the run in ``folder`` beside its results, and return its path. Raises UsageError in one line.

    ``report`` says whether the report is there, or will be: the page links to it. ``allure_results`` are those that it is
    made of, where they are not in the folder.
    """
    results = read(folder)
    path = folder / NAME
    try:
        there = (folder / REPORT).exists() if report is None else report
        links = test_ids(results, allure_results or folder / "allure-results") if there else {}
        html = render(results, waivers, links, certificate=(folder / CERTIFICATE).exists())
        write_whole(path, html)
    except OSError as error:
        raise UsageError(f"{path}: the page cannot be written: {error.strerror or error}") from None
    return path


def render(
    results: Results,
    waivers: Sequence[Waiver] = (),
    links: Mapping[str, str] | None = None,
    *,
    certificate: bool = True,
) -> str:
    """Return the page. ``links`` are the ids of tests in the report, by nodeid; None where there is no report."""
    from markupsafe import Markup

    run, links = results.run, links or {}
    decision = decide(results, waivers)
    failures = list(_failures(results, decision, links))
    rows = [_row(each, links) for each in decision.behaviours]
    drawings = [topology_svg(hosts, cables, carried=_carried(results.tests, hosts)) for hosts, cables in parts(run)]
    values: dict[str, Any] = {
        "run": run,
        "began": run.start.replace("T", " ").partition(".")[0].removesuffix("Z") + " UTC",
        "decision": decision,
        "meaning": MEANING,
        "signs": SIGNS,
        "counts": [(s, n) for s in STATES if (n := sum(each.state == s for each in decision.behaviours))],
        "tests": len(results.tests),
        "planned": None if run.planned is None else len(run.planned),
        "failures": failures[:_FAILURES],
        "others": failures[_FAILURES:],
        "rows": rows,
        "drawings": drawings[:_DRAWINGS],
        "undrawn": max(len(drawings) - _DRAWINGS, 0),
        "deviations": [one for one in decision.deviations if one not in set(left_out(run))],
        "unrun": list(_unrun(results, decision)),
        "rate": rate,
        "report": REPORT if links else "",
        "certificate": CERTIFICATE if certificate else "",
        "version": __version__,
        "svg": Markup,
    }
    page = str(template("index.html").render(values))
    dark = f"@media {theme.QUERY}{{{theme.rules(page)}}}"
    return page.replace("/* dark pictures */", dark, 1)


def _row(judged: Judged, links: Mapping[str, str]) -> _Row:
    lines = [(line, test) for test in judged.tests if test.result for line in lines_of(test.result)]
    lines.sort(key=lambda one: one[0].inside)
    main = main_line([line for line, _ in lines])
    shown = next((test for line, test in lines if line is main), judged.tests[0])
    course = _course(shown.result)
    return _Row(
        judged,
        main,
        sparkline_svg(course) if course else "",
        told(course) if course else "",
        links.get(shown.nodeid, ""),
        once(note for test in judged.tests if test.result for note in test.result.notes),
        len(judged.tests),
    )


def _course(test: TestResult | None) -> Course | None:
    """Return what is drawn of a test's rates: what something was expected of, else the first."""
    courses = [one for one in test.courses if one.times] if test else []
    return next((one for one in courses if one.bounds), next(iter(courses), None))


def _failures(results: Results, decision: Decision, links: Mapping[str, str]) -> Iterator[_Failure]:
    """Yield every test that did not pass and was tried, from the worst; of no behaviour, too."""
    ends = [(each.behaviour, each.statement, test) for each in decision.behaviours for test in each.tests]
    ends += [
        ("", "", Ended(one.nodeid, "failed" if one.outcome == "failed" else "error", one.reason, one))
        for one in results.tests
        if one.behaviour is None and one.outcome in ("failed", "error", "inconclusive")
    ]
    ends = [one for one in ends if one[2].state in ("failed", "error", "inconclusive")]
    for behaviour, statement, test in sorted(ends, key=lambda one: STATES.index(one[2].state)):
        causes = [one for one in test.result.causes if one.explains] if test.result else []
        said = [line for line in besides(test.reason, causes) if line.strip()] or ["no reason was given"]
        course = _course(test.result)
        yield _Failure(
            behaviour,
            statement,
            readable(test.nodeid),
            test.state,
            said[:_LINES],
            len(said[_LINES:]),
            causes[:_CAUSES],
            _drawing(results.run, test.result, causes) if test.result else "",
            sparkline_svg(course) if course else "",
            told(course) if course else "",
            links.get(test.nodeid, ""),
        )


# --------------------------------------------------------------------------------------------------------- the drawing


def _drawing(run: Run, test: TestResult, causes: Sequence[Cause]) -> str:
    """Return the lab of a test as it was used, with what each NIC carried, and what the likeliest cause accuses."""
    carried = _of_reason(test)
    used = {f"{one.host}.{one.nic}" for one in carried}
    hosts = [
        replace(host, nics=tuple(nic for nic in host.nics if f"{host.name}.{nic.name}" in used))
        for host in run.hosts
        if any(one.host == host.name for one in carried)
    ]
    cables = [one for one in run.cables if one.a in used and one.b in used]
    return topology_svg(hosts, cables, accused(causes, hosts, cables), _figures(carried))


def _of_reason(test: TestResult) -> list[NicBytes]:
    """Return what NICs carried of the traffic that the reason names, else of the last: its figures are the reason's."""
    traffics = list(dict.fromkeys(one.traffic for one in test.nics))
    named = [one for one in traffics if one in test.reason] or traffics[-1:]
    return [one for one in test.nics if one.traffic in named[-1:]]


def _carried(tests: Sequence[TestResult], hosts: Sequence[HostFacts]) -> dict[str, str]:
    names = {host.name for host in hosts}
    total: dict[tuple[str, str], NicBytes] = {}
    for one in (nic for test in tests for nic in test.nics if nic.host in names):
        before = total.get((one.host, one.nic), replace(one, tx=0, rx=0))
        total[one.host, one.nic] = replace(before, tx=before.tx + one.tx, rx=before.rx + one.rx)
    return _figures(list(total.values()))


def _figures(carried: Sequence[NicBytes]) -> dict[str, str]:
    """Return the bytes of each NIC, both ways together as in reasons and evidence."""
    return {f"{one.host}.{one.nic}": _size(one.tx + one.rx) for one in carried}


def _size(size: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"


_NIC = re.compile(r"\bNIC (?P<nic>[\w.-]+)")


def accused(causes: Sequence[Cause], hosts: Sequence[HostFacts], cables: Sequence[CableFacts]) -> dict[str, str]:
    """Return the cable, or the NIC, that the likeliest cause names, with the cause's kind."""
    ends = [f"{host.name}.{nic.name}" for host in hosts for nic in host.nics]
    for cause in causes[:1]:
        words = " ".join([cause.statement, *cause.evidence])
        for cable in cables:
            if any(f"{a}–{b}" in words for a, b in ((cable.a, cable.b), (cable.b, cable.a))):
                return {f"{cable.a}–{cable.b}": cause.id}
        for end in ends:
            if re.search(rf"(?<![\w.-]){re.escape(end)}(?![\w-])", words):
                return {end: cause.id}
        found = _NIC.search(cause.statement)
        named = [host.name for host in hosts if re.search(rf"\b{re.escape(host.name)}\b", cause.statement)]
        if found and named and (end := f"{named[0]}.{found['nic'].rstrip('.')}") in ends:
            return {end: cause.id}
    return {}


# ---------------------------------------------------------------------------------------------------- what was not run


def _unrun(results: Results, decision: Decision) -> Iterator[_Unrun]:
    """Yield what was skipped, lost, left out or not planned, each with its reason."""
    ends = [(each.behaviour, test) for each in decision.behaviours for test in each.tests]
    skipped = sorted(((one, test) for one, test in ends if test.state == "skipped"), key=lambda each: each[1].reason)
    for reason, group in groupby(skipped, key=lambda each: each[1].reason):
        yield _Unrun(", ".join(dict.fromkeys(one for one, _ in group)), f"skipped: {reason or 'no reason was given'}")
    lost = sorted(((one, test) for one, test in ends if test.state == "not reported"), key=lambda each: each[1].reason)
    for reason, group in groupby(lost, key=lambda each: each[1].reason):
        yield _Unrun(", ".join(dict.fromkeys(one for one, _ in group)), f"not reported: {reason}")
    for one in results.run.uncollected:
        yield _Unrun(readable(one.nodeid), f"{'skipped as a whole' if one.skipped else 'not collected'}: {one.reason}")
    for words in left_out(results.run):
        what, _, names = words.partition(": ")
        yield _Unrun(what, readable(names))
    if decision.uncovered:
        statements = (f"{CATALOGUE[one].id} {CATALOGUE[one].statement.replace('`', '')}" for one in decision.uncovered)
        yield _Unrun(f"{len(decision.uncovered)} not planned", "; ".join(statements))
