"""The decision, the waivers, the certificate: what a lab manager signs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE
from channover.pytest_plugin.results.collector import measurement
from channover.pytest_plugin.results.plan import Plan, save, take
from channover.report.deciding.decision import decide
from channover.report.deciding.endings import MEANING
from channover.report.deciding.rules import RULES
from channover.report.deciding.waivers import Waiver, load
from channover.report.drawing.topology import topology_svg
from channover.report.facts import CableFacts, HostFacts, LeftOut, NicFacts, Planned, Uncollected
from channover.report.figures import lines_of, with_uncertainty
from channover.report.results import Measurement, Outcome, Results, TestResult
from channover.report.signoff import certificate, detection_limits
from channover.report.signoff.hardware_table import in_short, items, parts
from channover.verdict.expectation import near
from channover.verdict.measured import Reading
from channover.verdict.statistics import Estimate
from tests.support import runs
from tests.support.certificates import Page, written

TODAY = date(2026, 2, 1)
NOW = datetime(2026, 2, 1, 9, 30, tzinfo=timezone.utc)
WAIVER = Waiver("LAG-1", "A. Engineer", "known, ticket 4711", date(2026, 12, 31))

# --------------------------------------------------------------------------------------------------------- decision


def test_a_run_whose_behaviours_all_passed_is_accepted_for_the_emulated_lab_only() -> None:
    found = decide(runs.results(runs.test("LAG-1"), runs.test("MP-1")))
    assert found.text == "ACCEPTED: 2 of 31 behaviours for the emulated lab only"
    assert found.others.startswith("not planned: LAG-2, LAG-3, ") and "\n" not in found.others
    assert found.scope.emulated and "nothing about NICs" in found.scope.proves
    assert "LAG-2" in found.uncovered and "LAG-1" not in found.uncovered
    one = runs.results(runs.test())
    six = Results(replace(one.run, family=6), one.tests)
    assert decide(six).text == "ACCEPTED: 1 of 31 behaviours over IPv6, for the emulated lab only"
    assert decide(replace_target(one, "vm")).text == "ACCEPTED: 1 of 31 behaviours for the emulated lab only"
    assert decide(runs.results(runs.test(), target="moon")).scope.emulated
    real = runs.physical(hosts=runs.physical().run.hosts)
    assert decide(real, [replace(WAIVER, behaviour="LAG-8")]).text == (
        "CONDITIONAL: 30 of 31 behaviours for the hardware named here"
    )
    assert decide(runs.four_states()).text == "NOT ACCEPTED"
    assert decide(runs.four_states()).others.startswith(
        "failed: LAG-2; error: MP-1; not reported: MP-2, MP-3; skipped: LAG-6"
    )


@pytest.mark.parametrize(
    ("nic", "why"),
    [
        (NicFacts("a", "eth1"), "left.a (eth1: no bus, no driver, no speed of its own)"),
        (NicFacts("a", "eth1", "veth", "", 1e10), "left.a (eth1: the driver veth is of virtual NICs)"),
        (NicFacts("a", "eth1", "vmxnet3", "", 1e10, "pci"), "the driver vmxnet3 is of virtual NICs"),
        (NicFacts("a", "eth1", "virtio_net", "", 1e10, "virtio"), "the driver virtio_net is of virtual NICs"),
        (NicFacts("a", "eth1", "strange", "", 1e10, "vmbus"), "the bus vmbus is of virtual NICs"),
        (NicFacts("a", "eth1", "e1000", "", 1e9, "emulated pci"), "the bus emulated pci is of virtual NICs"),
        (NicFacts("a", "eth1", "ice", "4.4", None, "pci"), "left.a (eth1: no speed of its own)"),
        (NicFacts("a", "eth1", "", "", 1e9, "usb"), "left.a (eth1: no driver)"),
        (NicFacts("a", "tun0", "tun", "", 1e7), "the driver tun is of virtual NICs"),
    ],
)
def test_virtual_nics_are_no_hardware_and_are_named(tmp_path: Path, nic: NicFacts, why: str) -> None:
    good = NicFacts("b", "eth2", "ice", "4.40", 2.5e10, "pci")
    hosts = (HostFacts("left", nics=(nic, good)), HostFacts("right", nics=(good,)))
    found = decide(runs.results(runs.test(), target="physical", hosts=hosts))
    assert found.text == "ACCEPTED: 1 of 31 behaviours for the emulated hosts only"
    assert why in found.scope.proves and "left.b" not in found.scope.proves and "right" not in found.scope.proves
    text = Page(written(runs.results(runs.test(), target="physical", hosts=hosts), tmp_path)[1]).text
    assert "no hardware was tested" in text and why in text and "Hardware (" not in text


def test_a_host_whose_nics_nobody_recorded_is_no_hardware() -> None:
    found = decide(runs.results(runs.test(), target="physical", hosts=(HostFacts("left"),)))
    assert found.scope.emulated and "left (its NICs were not recorded)" in found.scope.proves
    switch = HostFacts("tor-1", "switch", "EOS", (NicFacts("1", "Et1"),))
    assert not decide(replace(runs.physical(), tests=(runs.test(),))).scope.emulated, (
        "a switch says nothing of its ports"
    )
    linux = replace(switch, machine="tor-1.lan")
    assert decide(runs.results(runs.test(), target="physical", hosts=(linux,))).scope.emulated


def replace_target(results: Results, target: str) -> Results:
    return replace(results, run=replace(results.run, target=target))


@pytest.mark.parametrize("outcome", ["failed", "error", "skipped"])
def test_whatever_did_not_pass_is_not_accepted_and_with_a_waiver_conditional(outcome: Outcome) -> None:
    results = runs.results(runs.test("LAG-1", outcome, "why"), runs.test("MP-1"))
    found = decide(results)
    assert found.verdict == "NOT ACCEPTED" and found.reasons[0].startswith(f"LAG-1: {outcome}")
    waived = decide(results, [WAIVER])
    assert waived.verdict == "CONDITIONAL" and "A. Engineer" in waived.reasons[0]
    other = decide(results, [replace(WAIVER, behaviour="MP-1")])
    assert other.verdict == "NOT ACCEPTED" and [each.behaviour for each in other.unused] == ["MP-1"]


def test_failure_skip_error_and_lost_worker_are_four_things() -> None:
    found = decide(runs.four_states())
    states = {each.behaviour: each.state for each in found.behaviours}
    assert states == {
        "LAG-1": "passed",
        "LAG-2": "failed",
        "LAG-6": "skipped",
        "MP-1": "error",
        "MP-2": "not reported",
        "MP-3": "not reported",
    }
    assert found.verdict == "NOT ACCEPTED" and len(found.reasons) == 5


def test_a_crash_that_names_no_behaviour_counts_for_the_one_that_was_planned() -> None:
    crash = runs.test(None, "error", "worker 'gw0' crashed", name="t::one", lost=True)
    results = replace(runs.results(runs.test("MP-1")), tests=(crash,))
    results = replace(results, run=replace(results.run, planned=(Planned("t::one", "LAG-4"),)))
    assert [(each.behaviour, each.state) for each in decide(results).behaviours] == [("LAG-4", "not reported")]


def test_one_of_many_tests_decides_on_a_behaviour() -> None:
    tests = [runs.test("LAG-6", name=f"t[{number}]") for number in range(9)]
    tests.append(runs.test("LAG-6", "skipped", "no FTP server", name="t[9]"))
    found = decide(runs.results(*tests))
    assert found.verdict == "NOT ACCEPTED" and "1 skipped, 9 passed" in found.reasons[0]


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (runs.results(runs.test(), planned=None), "hold no plan"),
        (runs.results(), "no mandatory behaviour"),
        (runs.results(runs.test(None, name="t")), "no mandatory behaviour"),
        (runs.results(runs.test(), interrupted=True), "stopped before its end"),
        (runs.results(runs.test(), target="physical", hosts=()), "do not name the hosts"),
        (runs.results(runs.test(), uncollected=(Uncollected("u.py", "bad"),)), "could not be collected: u.py (bad)"),
        (runs.results(runs.test(), uncollected=(Uncollected("u.py", "x", True),)), "skipped as a whole: u.py (x)"),
        (
            runs.results(replace(runs.test("LAG-1", "error"), unrun=True), runs.test("MP-1")),
            "no body ran: suites/test_any.py::test_lag_1",
        ),
        (runs.results(runs.test(), runs.test(None, "failed", "no")), "a test of no behaviour failed or was lost: "),
        (
            runs.results(runs.test(), more_planned=[Planned("t::x", None)]),
            "a test of no behaviour failed or was lost: t::x",
        ),
    ],
)
def test_evidence_that_is_not_whole_is_not_accepted_and_cannot_be_waived(results: Results, reason: str) -> None:
    found = decide(results, [WAIVER])
    assert found.verdict == "NOT ACCEPTED" and reason in found.reasons[0]


def test_waivers_alone_accept_nothing() -> None:
    found = decide(runs.results(runs.test("LAG-1", "failed", "no")), [WAIVER])
    assert found.verdict == "NOT ACCEPTED" and found.rule == RULES["nothing passed"].words
    optional = Planned("t::optional", "MP-5", mandatory=False)
    results = runs.results(runs.test("LAG-1", "failed", "no"), more_planned=[optional])
    passes = replace(results, tests=(*results.tests, runs.test("MP-5", name="t::optional")))
    assert decide(passes, [WAIVER]).verdict == "NOT ACCEPTED"


def test_a_test_counts_as_its_worst_report_and_is_to_be_reported_as_often_as_it_was_planned() -> None:
    twice = replace(runs.test("LAG-1", "failed", "no"), outcomes=("passed", "failed"))
    found = decide(runs.results(twice))
    assert found.verdict == "NOT ACCEPTED"
    assert any(
        "the worst report counts: suites/test_any.py::test_lag_1 (passed, failed)" in one for one in found.deviations
    )
    once = runs.test("LAG-1")
    (judged,) = decide(runs.results(once, more_planned=[Planned(once.nodeid, "LAG-1")])).behaviours
    assert (judged.state, judged.tests[0].reason) == ("not reported", "to be run 2 times, and reported 1 times")
    apart = runs.results(runs.test("LAG-1", "failed", "no"), once)
    assert decide(apart).verdict == "NOT ACCEPTED", "two results of one test are two reports of it"
    assert decide(replace(apart, tests=apart.tests[::-1])).verdict == "NOT ACCEPTED"
    both = replace(once, outcomes=("passed", "passed"))
    assert decide(runs.results(both, more_planned=[Planned(once.nodeid, "LAG-1")])).verdict == "ACCEPTED"


@pytest.mark.parametrize(
    ("result", "state", "reason"),
    [
        (
            runs.test(measurements=[replace(runs.RATE, value=61.2e6), runs.NICS]),
            "failed",
            "given as passed, and not as expected: goodput",
        ),
        (runs.test(measurements=[replace(runs.RATE, value=None)]), "failed", "not as expected: goodput"),
        (runs.test(measurements=[replace(runs.NICS, rule="outside")]), "failed", "not as expected: NICs used"),
        (runs.test(measurements=[replace(runs.NICS, low=2.0)]), "failed", "not as expected: NICs used"),
        (runs.test(measurements=[]), "failed", "given as passed, and compared nothing"),
        (replace(runs.test(), outcomes=("error", "passed")), "error", "one of its reports is 'error'"),
        (replace(runs.test(), outcomes=("passed", "failed")), "failed", "one of its reports is 'failed'"),
    ],
)
def test_results_that_say_passed_beside_what_did_not_are_not_accepted(
    result: TestResult, state: str, reason: str
) -> None:
    found = decide(runs.results(result))
    (judged,) = found.behaviours
    assert (found.verdict, judged.state) == ("NOT ACCEPTED", state)
    assert reason in judged.tests[0].reason


def test_what_is_not_mandatory_is_told_and_does_not_decide() -> None:
    optional = runs.test("MP-5", "failed", "no", name="t::optional")
    results = runs.results(runs.test("LAG-1"))
    planned = (*(results.run.planned or ()), Planned("t::optional", "MP-5", mandatory=False))
    found = decide(replace(results, run=replace(results.run, planned=planned), tests=(*results.tests, optional)))
    assert found.verdict == "ACCEPTED"
    assert any("MP-5, which is not mandatory: failed" in each for each in found.deviations)


def test_a_test_that_nobody_planned_counts_and_is_a_deviation() -> None:
    results = runs.results(runs.test("LAG-1"))
    found = decide(replace(results, tests=(*results.tests, runs.test("MP-1", "failed", "no"))))
    assert found.verdict == "NOT ACCEPTED"
    assert any("reported and not planned" in each for each in found.deviations)


def test_values_that_had_not_settled_and_changed_suites_are_deviations() -> None:
    slow = runs.test(measurements=[replace(runs.RATE, settled=False)])
    found = decide(runs.results(slow, revision="v0.1.0-dirty", hosts=()))
    text = " ".join(found.deviations)
    assert "had not settled" in text and "v0.1.0-dirty" in text and "hosts and NICs" in text


def table(page: str, first: str) -> list[tuple[str, ...]]:
    """The rows of a page's table whose first column has this heading."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text("utf-8")
    _, _, below = text.partition(f"\n| {first} |")
    rows = below.split("\n\n")[0].splitlines()[2:]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]


def test_the_page_says_what_can_never_be_accepted_as_the_code_does() -> None:
    rules = [
        (name, rule.verdict, "yes" if rule.waiver else "no", rule.words, rule.example) for name, rule in RULES.items()
    ]
    assert table("certificate.md", "rule") == rules
    assert table("certificate.md", "state") == list(MEANING.items())


def test_each_rule_decides_on_a_run() -> None:
    bad = runs.test("LAG-1", "failed", "no")
    cases = {
        "no plan": runs.results(runs.test(), planned=None),
        "nothing planned": runs.results(),
        "stopped": runs.results(runs.test(), interrupted=True),
        "not collected": runs.results(runs.test(), uncollected=(Uncollected("u.py", "bad"),)),
        "skipped whole": runs.results(runs.test(), uncollected=(Uncollected("u.py", "shy", True),)),
        "no body": runs.results(replace(runs.test("LAG-1", "error"), unrun=True)),
        "other failure": runs.results(runs.test(), runs.test(None, "failed", "no")),
        "hosts not named": runs.results(runs.test(), target="physical", hosts=()),
        "not passed": runs.results(runs.test("MP-1", "failed", "no"), bad),
        "nothing passed": runs.results(bad),
        "waived": runs.results(runs.test("MP-1"), bad),
        "passed": runs.results(runs.test()),
    }
    assert list(cases) == list(RULES)
    for name, results in cases.items():
        found = decide(results, [WAIVER])
        assert (found.verdict, found.rule) == (RULES[name].verdict, RULES[name].words), name
    assert decide(cases["waived"]).verdict == "NOT ACCEPTED"


def test_a_second_try_is_a_deviation_on_the_first_sheet(tmp_path: Path) -> None:
    again = replace(runs.test(), repeated=True)
    text = Page(written(runs.results(again), tmp_path)[1]).text
    assert text.count(f"1 repeated: a machine died in the first try: {again.nodeid}") == 2  # and in annex D
    assert decide(runs.results(again)).verdict == "ACCEPTED"


# ---------------------------------------------------------------------------------------------------------- waivers

GOOD = """\
waivers:
  - behaviour: LAG-8
    who: A. Engineer
    why: slow
    until: 2026-02-01
"""


def test_waivers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "waivers.yaml"
    path.write_text(GOOD, "utf-8")
    assert load(path, TODAY) == (Waiver("LAG-8", "A. Engineer", "slow", TODAY),)
    for empty in ("", "waivers:\n", "waivers: []\n", "# none\n"):
        path.write_text(empty, "utf-8")
        assert load(path, TODAY) == ()


def test_a_waiver_ends_within_a_year_or_says_why_it_does_not(tmp_path: Path) -> None:
    path = tmp_path / "waivers.yaml"
    path.write_text(GOOD.replace("2026-02-01", "2027-02-01"), "utf-8")  # to the day a year from today
    assert load(path, TODAY)[0].until == date(2027, 2, 1)
    path.write_text(GOOD.replace("2026-02-01", "2026-06-01") + "    since: 2025-06-01\n", "utf-8")
    assert load(path, TODAY)[0].since == date(2025, 6, 1)
    path.write_text(GOOD.replace("2026-02-01", "2025-02-28") + "    since: 2024-02-29\n", "utf-8")
    assert load(path, date(2025, 1, 1))[0].until == date(2025, 2, 28)
    reason = "the switch is replaced in 2029, with the building's cables"
    path.write_text(GOOD.replace("2026-02-01", "2029-06-30") + f"    why_longer: {reason}\n", "utf-8")
    (waiver,) = load(path, TODAY)
    assert waiver.why_longer == reason
    _, html = written(runs.physical(), tmp_path / "run", waivers=path)
    assert f"Longer than a year: {reason}" in Page(html).text and "2029-06-30" in Page(html).text
    raw = b"results"
    other = replace(waiver, why_longer="for no reason")
    assert certificate.identify(raw, [waiver]) != certificate.identify(raw, [other])


def test_waivers_that_are_a_pipe_are_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "waivers.yaml")
    with pytest.raises(UsageError, match=r"waivers\.yaml: the waivers cannot be read: no regular file"):
        load(tmp_path / "waivers.yaml", TODAY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("2026-02-01", "2026-01-31"), "line 5, field 'until': expired on 2026-01-31"),
        (GOOD.replace("2026-02-01", "soon"), "line 5, field 'until': 'soon' is no day"),
        (GOOD.replace("2026-02-01", "2026-02-30"), "line 5, field 'until'"),
        (GOOD.replace("2026-02-01", "20260201"), "line 5, field 'until'"),
        (
            GOOD.replace("2026-02-01", "2027-02-02"),
            "line 5, field 'until': 2027-02-02 is more than a year after 2026-02-01",
        ),
        (GOOD.replace("2026-02-01", "2027-02-02"), "end it on 2027-02-01 at the latest, or say why it takes longer"),
        (GOOD + "    since: 2025-01-31\n", "line 5, field 'until': 2026-02-01 is more than a year after 2025-01-31"),
        (GOOD.replace("2026-02-01", "9999-12-31"), "field 'why_longer'"),
        (
            GOOD.replace("2026-02-01", "2099-01-01") + "    why_longer: ''\n",
            "line 6, field 'why_longer': must be a text",
        ),
        (GOOD + "    since: 2026-02-02\n", "line 6, field 'since': does not hold before 2026-02-02"),
        (GOOD + "    since: today\n", "line 6, field 'since': 'today' is no day"),
        (GOOD.replace("2026-02-01", "２０２６-02-01"), "line 5, field 'until'"),
        (GOOD.replace("LAG-8", "LAG-88"), "line 2, field 'behaviour': no behaviour 'LAG-88'"),
        (GOOD.replace("LAG-8", "lag-8"), "line 2, field 'behaviour'"),
        (GOOD.replace("    who: A. Engineer\n", ""), "line 2, field 'who': is missing"),
        (GOOD.replace("A. Engineer", "''"), "line 3, field 'who': must be a text"),
        (GOOD.replace("slow", "~"), "line 4, field 'why': must be a text"),
        (GOOD.replace("slow", "[a, b]"), "line 4, field 'why': must be a text"),
        (GOOD.replace("why:", "reason:"), "line 4, field 'reason': no such field"),
        (GOOD + "    who: B\n", "line 6, field 'who': stands there twice"),
        (GOOD + GOOD.partition("\n")[2], "line 6, field 'behaviour': LAG-8 is waived twice"),
        ("waivers: 3", "line 1, field 'waivers'"),
        ("- LAG-8", "line 1, field 'waivers'"),
        ("waivers: [LAG-8]", "line 1, field 'waivers[1]'"),
        ("exceptions: []", "line 1, field 'waivers'"),
        ("waivers: [", "no YAML"),
        ("waivers: \x00", "no YAML"),
        ("[" * 5000, "no YAML"),
        ("a: &a [x]\nwaivers: *b", "no YAML"),
    ],
)
def test_a_waiver_that_is_not_valid_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "waivers.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError) as refused:
        load(path, TODAY)
    assert str(path) in str(refused.value) and message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"waivers: \xff")
    for path in (tmp_path / "none", tmp_path, tmp_path / "latin"):
        with pytest.raises(UsageError, match=re.escape(str(path))):
            load(path, TODAY)


def test_the_certificate_says_all_that_is_signed(tmp_path: Path) -> None:
    waivers = tmp_path / "waivers.yaml"
    waivers.write_text(GOOD, "utf-8")
    made, html = written(runs.physical(), tmp_path / "run", waivers=waivers)
    text = Page(html).text
    digest = hashlib.sha256((tmp_path / "run" / "results.json").read_bytes()).hexdigest()
    for words in (
        made.id,
        "2026-02-01 09:30 UTC",
        "2026-01-31 12:00:00 UTC – 2026-01-31 12:01:00 UTC",
        "Bilbao 2",
        "CONDITIONAL: 30 of 31 behaviours for the hardware named here",
        "Each mandatory behaviour passed or is waived by name",
        "4.40 0x8001c967 1.3534.0",
        "EOS 4.32.2F",
        "tor-1",
        "25 Gbit/s",
        "v0.1.0-12-g919fa06",
        "each flow at most 10 s",
        "99 %",
        "iperf3 3.12",
        CATALOGUE["MP-1"].statement,
        "23510 ± 21 Mbit/s",
        "1448 of 1538 bytes",
        "+210.0 Mbit/s",
        "traffic came back after 31 s",
        "A. Engineer",
        "slow",
        digest,
        "Approved by",
    ):
        assert words in text, words
    assert made.id == certificate.identify((tmp_path / "run" / "results.json").read_bytes(), load(waivers, TODAY))
    assert made.id != certificate.identify((tmp_path / "run" / "results.json").read_bytes())


def test_four_states_are_four_sections(tmp_path: Path) -> None:
    text = Page(written(runs.four_states(), tmp_path)[1]).text
    assert "NOT ACCEPTED" in text and "EMULATED LAB, no hardware was tested" in text
    for words in (
        "Failed (1): the behaviour is not there LAG-2",
        "Error (1): the testbed broke: no verdict on the behaviour MP-1",
        "Not reported (2): collected, and nothing says how it ended MP-2",
        "Skipped (1): the testbed lacks what the test needs LAG-6",
    ):
        assert words in text, words


@pytest.mark.parametrize("results", [runs.odd(), runs.physical(), runs.results(), runs.large(300)])
def test_a_page_asks_for_nothing_and_runs_nothing(tmp_path: Path, results: Results) -> None:
    html = written(results, tmp_path)[1]
    page = Page(html)
    assert page.references == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert not re.search("[\u202a-\u202e\u2066-\u2067\x00-\x08\x0b-\x1f]", html)


def test_texts_in_any_script_are_shown_as_they_are(tmp_path: Path) -> None:
    text = Page(written(runs.odd(), tmp_path)[1]).text
    assert (
        "<script>alert(1)</script>" in text and "{{ 7 * 7 }}" in text and "49" not in text.replace(runs.RUN.start, "")
    )
    assert "مضيف المختبر رقم ٧" in text and "🧪" in text and r"\u202e" in text


def test_old_results_still_make_a_certificate(tmp_path: Path) -> None:
    new = runs.results(runs.test(measurements=[replace(runs.RATE, uncertainty=None, samples=None, why="")]))
    document = json.loads(new.to_json())
    for name in ("lab", "revision", "hosts", "cables", "planned", "confidence", "durations"):
        del document["run"][name]
    (tmp_path / "results.json").write_text(json.dumps(document), "utf-8")
    made = certificate.write(tmp_path, now=NOW, pdf=False)
    assert made.decision.verdict == "NOT ACCEPTED" and "no plan" in made.decision.reasons[0]
    assert "94.1 Mbit/s" in Page(made.page.read_text("utf-8")).text


@pytest.mark.parametrize("text", [None, "", "{}", "[1", "\ud800"])
def test_without_results_there_is_no_certificate(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "results.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError, match=r"results\.json"):
        certificate.write(tmp_path, pdf=False)
    assert not (tmp_path / certificate.NAME).exists()


def test_without_chromium_one_line_says_so_and_a_former_pdf_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    runs.saved(runs.results(runs.test()), tmp_path)
    (tmp_path / "certificate.pdf").write_bytes(b"%PDF-former")
    made = certificate.write(tmp_path)
    assert made.pdf is None and "no Chromium here" in made.note and "\n" not in made.note
    assert not (tmp_path / "certificate.pdf").exists() and made.page.exists()


def test_the_item_under_test_takes_few_rows() -> None:
    nics = (NicFacts("a", "eth1"), NicFacts("b", "eth2"))
    made_up = runs.results(hosts=tuple(HostFacts(f"h{number}", nics=nics) for number in range(9))).run
    (row,) = items(made_up)
    assert (row.names, row.nics, row.kernel) == ("h0, h1, … h8 (9 alike)", "a (eth1), b (eth2)", runs.RUN.kernel)
    assert in_short([row]) == ["h0, h1, … h8 (9 alike): 2 NICs", f"kernel {runs.RUN.kernel}"]
    real = replace(made_up, target="physical", hosts=(HostFacts("left", "host", "6.1", nics, "bilbao-7"),))
    assert in_short(items(real)) == ["left = bilbao-7: 2 NICs", "kernel 6.1"]
    switch = HostFacts("tor-1", "switch")
    assert items(replace(real, hosts=(switch,)))[0].kernel == "", "not the hosts' kernel"


def test_labs_that_do_not_hang_together_are_drawn_apart() -> None:
    hosts = tuple(HostFacts(name) for name in ("left", "right", "west", "east", "alone"))
    cables = (CableFacts("left.a", "right.a"), CableFacts("west.a", "east.a"), CableFacts("left.b", "nobody.a"))
    found = parts(runs.results(hosts=hosts, cables=cables).run)
    assert [[host.name for host in some] for some, _ in found] == [["left", "right"], ["west", "east"], ["alone"]]
    assert [[cable.a for cable in some] for _, some in found] == [["left.a"], ["west.a"], []]


def test_a_drawing_shows_nodes_cables_and_what_failed() -> None:
    hosts = [HostFacts(name, "host", "", (NicFacts("a", "eth1"), NicFacts("b", "eth2"))) for name in ("left", "right")]
    cables = [CableFacts("left.a", "right.a", 1e8), CableFacts("left.b", "right.b", 2.5e9)]
    plain = topology_svg(hosts, cables)
    root = ET.fromstring(plain)
    words = [element.text for element in root.iter() if element.text]
    assert {"left", "right", "100 Mbit/s", "2.5 Gbit/s", "a (eth1)"} <= set(words)
    for place in ("left.b", "right.b", "left.b–right.b", "right.b–left.b"):
        broken = topology_svg(hosts, cables, {place: "cable pulled"})
        assert "cable pulled" in broken and "2.5 Gbit/s" not in broken and broken.count("stroke-dasharray") == 1
    assert "stroke-dasharray" not in plain
    assert topology_svg([], cables) == ""


def test_drawings_hold_any_name_and_any_number() -> None:
    for results in (runs.odd(), runs.physical()):
        root = ET.fromstring(topology_svg(results.run.hosts, results.run.cables))
        assert float(root.get("width", "0")) < 1500
    hosts = [HostFacts(f"h{number}", "host", "", (NicFacts("a"),)) for number in range(300)]
    root = ET.fromstring(topology_svg([HostFacts("sw", "switch"), *hosts], [CableFacts("nobody.a", "h1.a")]))
    assert float(root.get("height", "0")) < 1500 and "and 138 more" in ET.tostring(root, "unicode")


def test_values_are_shown_with_two_figures_of_their_uncertainty() -> None:
    assert with_uncertainty(94.1234e6, 0.0234e6, "bit/s") == "94.123 ± 0.023 Mbit/s"
    assert with_uncertainty(94.1234e6, 12.3e6, "bit/s") == "94 ± 12 Mbit/s"
    assert with_uncertainty(9.0, 0.0, "1") == "9"
    assert with_uncertainty(None, 1.0, "s") == "–"
    outside = replace(runs.RATE, value=90e6)
    (line,) = lines_of(runs.test(measurements=[outside]))
    assert not line.inside and line.margin == "−3.2 Mbit/s (−3.4 %)"
    (line,) = lines_of(runs.test(measurements=[replace(runs.NICS, value=2.0)]))
    assert line.margin == "off by 1"


def test_a_plan_is_kept_for_the_process_that_reports(tmp_path: Path) -> None:
    left = (LeftOut("t::c", "LAG-2", "deselected"),)
    planned = (Planned("t::señal", "LAG-1", xfail=True), Planned("t::b", None, mandatory=False))
    plan = Plan(planned, left, (Uncollected("u.py", "no module"),), ("t.py",))
    assert take(tmp_path, "gw0") is None
    save(tmp_path, "gw0", plan)
    assert take(tmp_path, "gw1") is None
    assert take(tmp_path, "gw0") == plan
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "plan-gw0.json").write_text("{", "utf-8")
    assert take(tmp_path, "gw0") is None


def test_the_plans_of_workers_are_one() -> None:
    one, other = Planned("t::a", "LAG-1"), Planned("t::b", "LAG-2")
    left = LeftOut("t::b", "LAG-2", "deselected")
    first, second = Plan((one, one), (left,)), Plan((one, other))
    assert first.joined(second, each=False) == Plan((one, one, other))
    assert first.joined(second, each=True) == Plan((one, one, one, other))


def test_what_was_compared_is_kept_with_its_interval() -> None:
    def reading(found: Estimate, unit: str) -> Measurement:
        return measurement(Reading("x", unit, found, near(1.0, why="because"), held=True, settled=False), None)

    rate = reading(Estimate(94e6, 2e4, 40), "bit/s")
    assert (rate.uncertainty, rate.samples, rate.why, rate.settled) == (2e4, 40, "because", False)
    assert reading(Estimate(9.0, 0.0, 1), "1").uncertainty == 0.0
    for once in (Estimate(0.97, 0.0, 1), Estimate(9.0, math.inf, 4)):
        assert reading(once, "1").uncertainty is None
    assert reading(Estimate(0.1, 0.0, 1), "s").uncertainty is None


@pytest.mark.parametrize(("target", "words"), [("netns", ""), ("vm", "not on this run's target, vm")])
def test_an_annex_says_what_would_have_been_noticed(tmp_path: Path, target: str, words: str) -> None:
    found = replace_target(runs.results(runs.test()), target)
    text = Page(written(found, tmp_path)[1]).text
    annex = text.partition("F. What would have been noticed")[2].partition("G. Not planned")[0]
    assert annex.startswith(" The smallest fault of one cable that the proof of a lab finds in 19 of 20 tries")
    for part in (
        "a cable carries less than its rate, by 1",
        "a cable loses frames, both ways, of all 0.",
        words,
    ):
        assert part in annex
    assert ("not on this run's target" in annex) == bool(words)
    known = detection_limits.told()
    assert f"Measured on {known['measured']} with channover {known['version']}, target netns" in annex
