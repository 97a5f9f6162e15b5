"""The HTML report: made of real results of Allure by the real generator, and what is done where there is none."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
from tools import look_report

import channover
from channover.cli.runs.html_report import folder_of
from channover.errors import TestbedError, UsageError
from channover.hosts.host import Step
from channover.hosts.lab import Lab
from channover.model.catalogue import CATALOGUE
from channover.observe.captures import Captures
from channover.pytest_plugin.allure.labels import links, requirements, severity
from channover.pytest_plugin.allure.rates import phases
from channover.report.allure import config as allure_config
from channover.report.allure import generator, history
from channover.report.allure import make as allure_report
from channover.report.allure import page as pages
from channover.report.allure.config import NODEID
from channover.report.allure.generator import GeneratorMissing
from channover.report.allure.plot_process import PLACEHOLDER, SAMPLES
from channover.report.drawing.plots import nic_rates_svg
from channover.report.facts import Planned
from channover.report.results import Results
from channover.verdict.causes.cause import Cause, Explanation
from channover.verdict.expectation import Expectation, at_least, between
from channover.verdict.measured import Reading
from channover.verdict.statistics import Estimate
from tests.support import runs

needs_generator = pytest.mark.skipif(generator.unmet() is not None, reason=f"{generator.unmet()} (or: make setup)")
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="276"><text>95 % "of" <b>#1</b></text></svg>'


def allure_result(folder: Path, nodeid: str, **changes: Any) -> None:
    """Write a result as allure-pytest would."""
    raw = folder / "allure-results"
    raw.mkdir(parents=True, exist_ok=True)
    path, _, name = nodeid.partition("::")
    uuid = changes.get("uuid", f"uuid of {nodeid}")
    result = {
        "uuid": uuid,
        "name": name,
        "fullName": f"{path}#{name.partition('[')[0]}",
        "testCaseId": f"{path}#{name.partition('[')[0]}",
        "titlePath": path.split("/"),
        "status": "passed",
        "labels": [
            {"name": NODEID, "value": nodeid},
            {"name": "target", "value": "netns"},
            {"name": "epic", "value": "E"},
        ],
        "parameters": [{"name": "target", "value": "'netns'"}],
        "start": 1_769_860_800_000,
        "stop": 1_769_860_801_000,
    }
    number = len(list(raw.iterdir()))
    (raw / f"{number}-result.json").write_text(json.dumps({**result, **changes}), "utf-8")


def saved(results: Results, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / "results.json")
    return folder


def embedded(report: Path) -> dict[str, Any]:
    """Return the data that a report holds, by the names that its scripts know them by."""
    text = report.read_text("utf-8")
    found = {}
    for name, content in re.findall(r'd\("([^"]+)","([^"]*)"\)', text):
        plain = base64.b64decode(content)
        found[name] = json.loads(plain) if name.endswith(".json") else plain
    return found


def statuses(data: dict[str, Any]) -> dict[str, str]:
    """Return each test's status by its name."""
    return {one["name"]: one["status"] for name, one in data.items() if name.startswith("data/test-results/")}


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """A run with a failure, a skip, a broken testbed, an open verdict, a lost worker, and a test that was never begun."""
    results = runs.results(
        runs.test(
            "LAG-1", "failed", "goodput of 50 Mbit/s\nmost likely: NIC b is down", name="suites/t.py::test_fails"
        ),
        runs.test("MP-1", "skipped", "no MPTCP here", name="suites/t.py::test_skips"),
        runs.test("MP-2", "error", "iperf3 died", name="suites/t.py::test_testbed"),
        runs.test("MP-4", "error", "worker 'gw0' crashed", name="suites/t.py::test_lost", lost=True),
        runs.test("MP-6", "inconclusive", "goodput: INCONCLUSIVE: the interval", name="suites/t.py::test_open"),
        runs.test("MP-7", "passed", name="suites/t.py::test_passes"),
        more_planned=[Planned("suites/t.py::test_never", "TUN-1")],
        interrupted=True,
    )
    folder = saved(results, tmp_path / "reports" / results.run.id)
    allure_result(folder, "suites/t.py::test_fails", status="broken")  # whatever Allure made of it
    allure_result(folder, "suites/t.py::test_skips", status="skipped")
    allure_result(folder, "suites/t.py::test_testbed", status="failed")
    allure_result(folder, "suites/t.py::test_open", status="broken")
    allure_result(folder, "suites/t.py::test_passes")
    return folder


@needs_generator
def test_five_bad_ends_are_five_different_things(four: Path) -> None:
    made = allure_report.make(four)
    data = embedded(made.path)
    assert statuses(data) == {
        "test_fails": "failed",
        "test_skips": "skipped",
        "test_testbed": "broken",
        "test_lost": "unknown",
        "test_never": "unknown",
        "test_open": "unknown",
        "test_passes": "passed",
    }
    (gate,) = data["widgets/quality-gate.json"].values()
    assert {one["rule"]: (one["success"], one["actual"]) for one in gate} == {
        "behaviours": (False, 1),
        "testbed": (False, 1),
        "settled": (False, 1),
        "tried": (False, 1),
        "complete": (False, 2),
    }
    tests = {one["id"]: one["name"] for name, one in data.items() if name.startswith("data/test-results/")}
    assert [tests[one] for rule in gate if rule["rule"] == "tried" for one in rule["testResults"]] == ["test_skips"]
    categories = {one["name"] for one in data["widgets/categories.json"]["nodes"].values() if one["type"] == "category"}
    assert {
        "Broken testbed: no verdict",
        "Broken behaviour",
        "Not tried here",
        "Collected and not reported",
        "Inconclusive: measured, and not settled",
    } <= categories
    lost = next(one for one in data.values() if isinstance(one, dict) and one.get("name") == "test_lost")
    assert {label["name"]: label["value"] for label in lost["labels"]}["epic"] == CATALOGUE["MP-4"].epic
    assert made.notes == (
        "the run was stopped before its end",
        "2 tests were collected and not reported: suites/t.py::test_lost, suites/t.py::test_never",
    )
    assert [one["message"] for one in data["widgets/globals.json"]["errors"]] == list(made.notes)


@needs_generator
def test_it_asks_for_nothing_outside(four: Path) -> None:
    text = allure_report.make(four).path.read_text("utf-8")
    assert "googletagmanager" not in text and "gtag" not in text
    assert re.search(r"<head>\s*<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';", text)
    assert not re.search(r'\s(src|href)="(https?:)?//', text)
    assert [one.name for one in four.iterdir() if one.name.startswith(".")] == []


@needs_generator
@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no browser here: apt-get install chromium chromium-driver fonts-dejavu",
)
def test_it_opens_from_the_file_system_without_an_error_or_a_request(four: Path, tmp_path: Path) -> None:
    made = allure_report.make(four)
    assert look_report.look(made.path, tmp_path / "pictures", ["test_fails", "test_never"]) == []
    names = {one.name for one in (tmp_path / "pictures").iterdir()}
    assert {"overview.png", "test-failed-test_fails.png", "test-unknown-test_never.png"} <= names


@needs_generator
def test_tests_that_differ_in_nothing_that_allure_sees_are_all_shown(tmp_path: Path) -> None:
    names = [f"suites/t.py::test_same[1_{number}]" for number in range(3)]
    folder = saved(runs.results(*(runs.test(name=name) for name in names)), tmp_path / "r" / runs.RUN.id)
    for name in names:
        allure_result(folder, name)
    made = allure_report.make(folder)
    data = embedded(made.path)
    assert data["widgets/statistic.json"]["total"] == 3
    assert "retries" not in data["widgets/statistic.json"]
    assert made.notes[0].startswith("3 tests were told apart by name")


@needs_generator
def test_phantom_teardowns_are_dropped_and_real_ones_stay(tmp_path: Path) -> None:
    name = "suites/t.py::test_one"
    folder = saved(runs.results(runs.test(name=name)), tmp_path / "r" / runs.RUN.id)
    allure_result(folder, name)
    container = {
        "uuid": "c",
        "children": [f"uuid of {name}"],
        "befores": [{"name": "lab", "status": "passed"}],
        "afters": [{"name": "lab::0", "start": 1}, {"name": "lab::1", "status": "passed"}],
    }
    (folder / "allure-results" / "c-container.json").write_text(json.dumps(container))
    data = embedded(allure_report.make(folder).path)
    (test,) = (one for key, one in data.items() if key.startswith("data/test-results/"))
    assert [(one["name"], one["status"]) for one in test["teardown"]] == [("lab::1", "passed")]


@needs_generator
def test_the_page_holds_its_plots_and_draws_those_that_were_not_drawn(tmp_path: Path) -> None:
    name = "suites/t.py::test_one"
    folder = saved(runs.results(runs.test(name=name)), tmp_path / "r" / runs.RUN.id)
    done, undone = ("aaaaaaaa-0-attachment.svg", "bbbbbbbb-0-attachment.svg")
    samples = {
        "title": "tcp",
        "link_rate": 1e8,
        "phases": [["fault: left.a", 0, 1]],
        "series": [["left.a tx", [0, 1], [1, 2]]],
    }
    files = {done: SVG, undone: PLACEHOLDER.format("tcp"), "s-attachment.json": json.dumps(samples)}
    allure_result(
        folder,
        name,
        parameters=[{"name": "target", "value": "'netns'"}, {"name": "protocol", "value": "<FileProtocol.FTP: 'ftp'>"}],
        descriptionHtml=f'<img src="{pages.PLOT}{done}"><img src="{pages.PLOT}{undone}">',
        steps=[
            {
                "name": "left: start bash -c 'a\nb' x",
                "attachments": [
                    {"name": "a", "source": done, "type": "image/svg+xml"},
                    {"name": "b", "source": undone, "type": "image/svg+xml"},
                    {"name": SAMPLES, "source": "s-attachment.json", "type": "application/json"},
                ],
            }
        ],
    )
    for file, text in files.items():
        (folder / "allure-results" / file).write_text(text)
    data = embedded(allure_report.make(folder).path)
    (test,) = (one for key, one in data.items() if key.startswith("data/test-results/"))
    assert pages.PLOT not in test["descriptionHtml"]
    first, second = re.findall(r'src="data:image/svg\+xml;charset=utf-8,([^"]*)"', test["descriptionHtml"])
    assert "95 %25 %22of%22" in first
    assert {one["name"]: one["value"] for one in test["parameters"]} == {"target": "netns", "protocol": "FTP"}
    assert "not drawn" not in second and "fault: left.a" in second
    (step,) = test["steps"]
    assert step["name"] == "left: start bash -c '…' x"
    assert [one["link"]["name"] for one in step["steps"]] == [SAMPLES]


@needs_generator
def test_environment_metrics_and_trends(tmp_path: Path) -> None:
    name = "suites/t.py::test_one"
    for day, rate in (("20260130", 94.0e6), ("20260131", 94.5e6)):
        measured = replace(runs.RATE, value=rate)
        run = runs.results(runs.test(name=name, measurements=[measured]), id=f"{day}T120000Z-0a1b2c")
        folder = saved(run, tmp_path / "reports" / run.run.id)
        allure_result(folder, name)
        for _ in range(2):  # the same run again is the same point of the trend
            made = allure_report.make(folder)
    data = embedded(made.path)
    told = {one["name"]: one["values"] for one in data["widgets/allure_environment.json"]}
    assert told["congestion control"] == ["bbr"] and told["link rate"] == ["100 Mbit/s"] and told["lab"] == ["Bilbao 2"]
    (metric,) = data["widgets/metrics.json"]["current"]
    assert (metric["value"], metric["unit"]) == (94.5, "Mbit/s")
    assert [list(point["metrics"].values()) for point in data["widgets/metrics.json"]["history"]] == [[94.0]]
    lines = (tmp_path / "reports" / ".history" / "netns.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["20260130T120000Z-0a1b2c", "20260131T120000Z-0a1b2c"]


@needs_generator
def test_targets_have_trends_and_environments_of_their_own(tmp_path: Path) -> None:
    name = "suites/t.py::test_one"
    for target in ("netns", "vm"):
        run = runs.results(runs.test(name=name), id=f"20260131T120000Z-{target}", target=target)
        folder = saved(run, tmp_path / "reports" / run.run.id)
        allure_result(folder, name, labels=[{"name": NODEID, "value": name}, {"name": "target", "value": target}])
        data = embedded(allure_report.make(folder).path)
        assert [one["name"] for one in data["widgets/environments.json"]] == [target]
        assert list(data["widgets/quality-gate.json"]) == [target]
    assert {one.name for one in (tmp_path / "reports" / ".history").iterdir()} == {"netns.jsonl", "vm.jsonl"}


@needs_generator
def test_texts_in_any_script_come_through(tmp_path: Path) -> None:
    names = [f"suites/t.py::test_x[{text}]" for text in ("قناة", "漢字 テスト", "🚀", "long " * 400, '</script>"&')]
    tests = [runs.test(name=name, outcome="failed", reason=name + "\udcff") for name in names]
    folder = saved(runs.results(*tests), tmp_path / "r" / runs.RUN.id)
    for name in names:
        allure_result(folder, name, descriptionHtml=pages.page(pages.PageFacts(CATALOGUE["LAG-1"], reason=name)))
    found = statuses(embedded(allure_report.make(folder).path))
    assert set(found) == {name.partition("::")[2] for name in names}
    assert set(found.values()) == {"failed"}


def test_without_a_generator_one_line_says_what_to_do(
    four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(generator.FOLDER, str(tmp_path / "nowhere"))
    with pytest.raises(GeneratorMissing, match=r"Allure 3\.18\.0, is not installed: channover report --set-up"):
        allure_report.make(four)
    assert {one.name for one in four.iterdir()} == {"allure-results", "results.json"}


@pytest.mark.lab
def test_a_run_without_a_generator_has_all_the_rest(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(channover.__file__).parent.parent))
    monkeypatch.setenv(generator.FOLDER, "none")
    pytester.makepyfile(
        "from channover.testing import behaviour\n@behaviour('MP-8')\n"
        "def test_one(counted): assert counted('paths', 1) == 1"
    )
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks")
    assert done.ret == 0
    said = [line for line in done.stdout.lines if line.startswith("report:")]
    assert said == [f"report: not made: {generator.FOLDER} is 'none'"]
    assert (pytester.path / "reports" / "latest" / "results.json").exists()


@needs_generator
@pytest.mark.lab
def test_a_failure_a_skip_a_broken_testbed_and_a_lost_worker_are_told_apart_everywhere(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(channover.__file__).parent.parent))
    pytester.makepyfile(
        """
        import os
        import signal
        import pytest
        from channover.testing import behaviour
        from channover.errors import TestbedError

        @behaviour("MP-8")
        def test_passes(lab, counted):
            assert counted("paths", 1) == 1

        @behaviour("MP-1")
        def test_fails(lab):
            assert False, "two is broken"

        @behaviour("MP-2")
        def test_skips():
            pytest.skip("there is no third NIC here: add one")

        @behaviour("MP-4")
        def test_testbed(lab):
            raise TestbedError("left: iperf3 died with signal 9")

        @behaviour("MP-7")
        def test_lost():
            if "PYTEST_XDIST_WORKER" in os.environ:
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "-n", "2", "--max-worker-restart", "1")
    assert done.ret == 1
    folder = pytester.path / "reports" / "latest"
    results = Results.from_json((folder / "results.json").read_text("utf-8"))
    assert {test.behaviour or test.nodeid[-9:]: (test.outcome, test.lost) for test in results.tests} == {
        "MP-1": ("failed", False),
        "MP-2": ("skipped", False),
        "MP-4": ("error", False),
        "MP-8": ("passed", False),
        "test_lost": ("error", True),
    }
    (line,) = [line for line in done.stdout.lines if line.startswith("certificate: ")]
    assert line.endswith(": NOT ACCEPTED")
    sheet = " ".join(
        re.sub("<[^>]+>", " ", (folder / "certificate.html").read_text("utf-8").partition("</style>")[2]).split()
    )
    assert "NOT ACCEPTED" in sheet and "Not whole:" not in sheet
    for words in (
        "Failed (1): the behaviour is not there MP-1 test_",
        "Error (1): the testbed broke: no verdict on the behaviour MP-4 test_",
        "Not reported (1): collected, and nothing says how it ended MP-7 test_",
        "Skipped (1): the testbed lacks what the test needs MP-2 test_",
        "over three, nearly three – – – ✗ failed",
        "! error",
        "? not reported",
        "– skipped",
        "✓ passed",
    ):
        assert words in sheet, words
    (line,) = [line for line in done.stdout.lines if line.startswith("report: ")]
    data = embedded(pytester.path / line.partition(": ")[2])
    assert statuses(data) == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_skips": "skipped",
        "test_testbed": "broken",
        "test_lost": "unknown",
    }
    test = next(one for one in data.values() if isinstance(one, dict) and one.get("name") == "test_fails")
    assert "MP-1" in test["descriptionHtml"]
    assert "two is broken" in test["error"]["message"] and "two is broken" not in test["descriptionHtml"], "once a page"
    assert "data:image/svg+xml" in test["descriptionHtml"], "the topology"
    labels = {label["name"]: label["value"] for label in test["labels"]}
    assert (labels["severity"], labels["layer"], labels["target"]) == ("critical", "4 transport", "netns")
    assert [link["url"] for link in test["links"]] == [f"https://www.rfc-editor.org/rfc/rfc{n}" for n in (8684, 6182)]
    (gates,) = [one for name, one in data.items() if "quality-gate" in name]
    assert {one["rule"]: one["success"] for one in _flat(gates)} == dict.fromkeys(
        ("behaviours", "testbed", "tried", "complete"), False
    ) | {"settled": True}


def _flat(found: Any) -> list[dict[str, Any]]:
    return found if isinstance(found, list) else [one for some in found.values() for one in some]


@pytest.mark.lab
def test_a_file_copy_and_a_lag_have_a_story_too(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(channover.__file__).parent.parent))
    pytester.makepyfile(
        """
        from channover.testing import FileProtocol, behaviour, on
        from channover.model.topology import two_switches

        @behaviour("LAG-6")
        @on(two_switches(1))
        def test_copies(switched, copies):
            copied = copies(FileProtocol.HTTP, switched.left[0], switched.right[0], watched=switched.switches)
            assert copied.nics_used == 1

        @behaviour("LAG-4")
        def test_forms(forming_lag, counted):
            assert forming_lag.unconverged() is None
            assert counted("ports in it", forming_lag.left.status().ports) == 2
        """
    )
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--no-report", "--duration", "1")
    if done.parseoutcomes().get("skipped"):
        pytest.skip("LAGs or HTTP servers cannot be had here")
    done.assert_outcomes(passed=2)
    raw = pytester.path / "reports" / "latest" / "allure-results"
    found = [json.loads(file.read_text("utf-8")) for file in raw.glob("*-result.json")]
    copied, formed = sorted(found, key=lambda one: str(one["name"]))
    (plot,) = re.findall(
        rf'<img alt="copy by HTTP, right1→left1"[^>]* src="{pages.PLOT}([^"]+)"', copied["descriptionHtml"]
    )
    svg = (raw / plot).read_text("utf-8")
    assert "west.a" in svg and "set-up" in svg and "link rate 100" in svg
    (step,) = [step for step in copied["steps"] if step["name"].startswith("copy by HTTP, right1→left1: ")]
    names = [one["name"] for one in step["attachments"]]
    assert {f"{host}: addresses, routes, rules, sockets, counters" for host in ("left1", "east")} < set(names)
    assert SAMPLES in names
    for said in ("ports in it", "The LAG at the end of the test", "collecting, distributing", "No NIC was watched"):
        assert said in formed["descriptionHtml"], said
    assert "No NIC was" not in copied["descriptionHtml"]


@needs_generator
def test_ctrl_c_leaves_the_former_report_and_nothing_half_made(four: Path) -> None:
    former = allure_report.make(four).path.read_bytes()
    script = f"from pathlib import Path; from channover.report.allure import make as a; a.make(Path({str(four)!r}))"
    environment = {**os.environ, "PYTHONPATH": str(Path(channover.__file__).parent.parent)}
    process = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE
    )
    child = _wait_for_child(process.pid)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in said
    _wait_gone(child)
    assert {one.name for one in four.iterdir()} == {"allure-results", "results.json", "report.html"}
    assert (four / "report.html").read_bytes() == former


def _wait_for_child(parent: int, timeout: float = 20.0) -> int:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            return int(found[0])
        time.sleep(0.005)
    raise AssertionError("the generator was not started")


def _wait_gone(process: int, timeout: float = 10.0) -> None:
    """Wait until a process has ended: where its parent went before it did, it finds out by itself."""
    deadline = time.monotonic() + timeout
    with contextlib.suppress(OSError):
        while Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z":
            assert time.monotonic() < deadline, "the generator ends with whoever wanted the report"
            time.sleep(0.01)


@needs_generator
def test_a_generator_that_takes_too_long_is_ended(four: Path) -> None:
    with pytest.raises(GeneratorMissing, match=r"it was not ready after 0\.01 s"):
        allure_report.make(four, timeout=0.01)
    assert {one.name for one in four.iterdir()} == {"allure-results", "results.json"}


def test_a_run_is_named_by_its_id_or_its_folder(four: Path) -> None:
    reports = four.parent
    assert folder_of(four.name, reports) == four
    assert folder_of(str(four), Path("elsewhere")) == four
    with pytest.raises(UsageError, match="there is no run 'latest' in"):
        folder_of("latest", reports)


# ----------------------------------------------------------------------------------------------------------- a page


def reading(mean: float, expected: Expectation, *, unit: str = "bit/s", half: float = 0.0) -> Reading:
    return Reading("goodput", unit, Estimate(mean, half, 40), expected, expected.holds(mean), True)


def test_a_page_tells_what_was_measured_expected_and_why() -> None:
    found = reading(94.1e6, between(93e6, 95e6, "1448 of 1538 bytes"), half=3e5)
    page = pages.page(pages.PageFacts(CATALOGUE["LAG-1"], [found]))
    for text in (
        "LAG-1",
        "94.1 Mbit/s ± 0.3 Mbit/s",
        "93 Mbit/s to 95 Mbit/s",
        "1448 of 1538",
        "94.3 Mbit/s",
        "+0.9 %",
    ):
        assert text in page
    assert "✓ holds" in page and "✗" not in page


def test_a_page_of_a_failure_names_the_cause_and_says_so_in_words() -> None:
    cause = Cause("nic-down", "NIC b is <down>", ("left: a 5 bytes",), "ip link set eth2 up", "shown")
    why = "\n".join(["goodput of 50 Mbit/s", *Explanation((cause,)).lines, "nobody else"])
    facts = pages.PageFacts(
        CATALOGUE["LAG-1"],
        [reading(5e7, at_least(9e7))],
        reason=why,
        causes=[cause],
        verdict="failed",
        topology="<svg>é#</svg>",
    )
    page = pages.page(facts)
    assert "✗ does not hold" in page and "-44.4 %" in page
    assert re.search(r"<b><bdi[^>]*>NIC b is &lt;down&gt;</bdi></b> <span[^>]*>nic-down, shown</span>", page)
    assert re.search(r"left: a 5 bytes</bdi></li></ul><br>Remedy: <bdi[^>]*>ip link set eth2 up", page)
    assert page.count("&lt;down&gt;") == 1 and "nobody else" in page, (
        "the reason's lines about causes are not said twice"
    )
    assert 'src="data:image/svg+xml;charset=utf-8,%3Csvg%3Eé%23%3C/svg%3E"' in page
    unsettled = replace(facts, verdict="error", readings=[replace(facts.readings[0], undecided="the testbed was busy")])
    assert "The testbed broke" in pages.page(unsettled) and "no verdict</td>" in pages.page(unsettled)


def test_a_page_of_what_was_not_settled_says_neither_that_it_holds_nor_that_it_does_not() -> None:
    words = "goodput of 91 Mbit/s: INCONCLUSIVE: the interval still holds the bound of 90 Mbit/s"
    left = replace(reading(9.1e7, at_least(9e7)), settled=False, inconclusive=words)
    page = pages.page(
        pages.PageFacts(CATALOGUE["LAG-1"], [left], reason=words, verdict="inconclusive", topology="<svg/>")
    )
    assert "≈ inconclusive" in page and "✓ holds" not in page and "✗ does not hold" not in page
    assert "Inconclusive: neither met nor not met when the time was up." in page and "still holds the bound" in page


@pytest.mark.parametrize(
    ("mean", "low", "high", "unit", "shown"),
    [
        (94e6, 93e6, float("inf"), "bit/s", "+1.1 %"),
        (94e6, 95e6, 96e6, "bit/s", "-1.1 %"),
        (2, 2, 2, "1", ""),
        (1, 2, 2, "1", "-1"),
        (3, 2, 5, "1", "+1"),
        (0.5, float("-inf"), 0, "bytes", "-0.5"),
        (float("nan"), 1, 2, "s", ""),
    ],
)
def test_the_margin_is_the_way_to_the_nearer_bound(mean: float, low: float, high: float, unit: str, shown: str) -> None:
    assert pages.margin(reading(mean, Expectation(low, high), unit=unit)) == shown


@pytest.mark.parametrize("behaviour", CATALOGUE.values(), ids=lambda one: one.id)
def test_labels_rest_on_the_catalogue(behaviour: Any) -> None:
    assert severity(behaviour) in ("blocker", "critical", "normal")
    assert requirements(behaviour) and not any("article" in one for one in requirements(behaviour))
    hosts = {urlparse(address).hostname for _, address in links(behaviour)}
    assert hosts <= {"www.rfc-editor.org", "1.ieee802.org", "docs.kernel.org"}
    assert ("RFC" in behaviour.source) == any(name.startswith("RFC") for name, _ in links(behaviour))


def test_the_environment_survives_javas_properties() -> None:
    run = runs.results(runs.test(), tools={"a b": "1=2: #3\\4\nnext"})
    assert "tool\\ a\\ b = 1\\=2\\: \\#3\\\\4 next\n" in allure_config.environment(run)


def test_history_is_one_line_a_run_in_their_order(tmp_path: Path) -> None:
    path = history.place(tmp_path, "netns")
    for run in ("20260102", "20260101", "20260102"):
        history.keep(path, run, 1.5, json.dumps({"uuid": "u", "testResults": {"t": {"trace": "long", "status": "x"}}}))
    points = [json.loads(line) for line in path.read_text().splitlines()]
    assert [point["name"] for point in points] == ["20260101", "20260102"]
    assert points[0]["timestamp"] == 1500 and "trace" not in points[0]["testResults"]["t"]
    assert json.loads(history.before(path, "20260102"))["name"] == "20260101"
    assert history.before(path, "20260101") == ""
    path.write_text("no JSON\n" + path.read_text())
    assert len(history.before(path, "2027").splitlines()) == 2


def test_a_flow_goes_through_phases() -> None:
    steps = [
        Step("panel", "build pair", 90.0, 0.1),
        Step("panel", "pull the cable left.a–right.a", 102.0, 0.1),
        Step("left", "ip route show", 103.0, 0.1),
        Step("panel", "plug in the cable left.a–right.a", 104.5, 0.1),
        Step("left", "ip link set dev eth2 down", 106.0, 0.1),
        Step("panel", "plug in the cable left.b–right.b", 120.0, 0.1),
    ]
    assert phases(0.4, 8.0, 100.0, steps) == [
        ("warm-up", 0.0, 0.4),
        ("measured", 0.4, 2.0),
        ("fault: left.a–right.a", 2.0, 4.5),
        ("recovery", 4.5, 6.0),
        ("fault: left eth2", 6.0, 8.0),
    ]
    looped = [
        Step("left", "ip mptcp endpoint add 10.96.96.1 id 40 subflow fullmesh", 102.0, 0.1),
        Step("right", "ip mptcp endpoint add 10.96.96.2 id 40 signal", 102.01, 0.1),
        Step("left", "nft -f - <<'END' table inet guard", 104.0, 0.1),
        Step("right", "nft -f - <<'END' table inet guard", 104.1, 0.1),
        Step("left", "ip mptcp endpoint delete id 40", 107.0, 0.1),
    ]
    assert phases(0.0, 8.0, 100.0, looped, "load") == [
        ("load", 0.0, 2.0),
        ("fault: loop by 10.96.96.1", 2.0, 4.0),
        ("recovery", 4.0, 8.0),
    ]
    svg = nic_rates_svg(
        [("left.a tx", [0.0, 8.0], [1.0, 2.0])], title="t", link_rate=1e8, phases=phases(1, 8, 100.0, steps)
    )
    assert svg.count("fill: url(#") == 2, "a hatched area for each fault"
    assert "recovery" in svg and "warm-up" in svg


# ---------------------------------------------------------------------------------------------------------- packets


@pytest.mark.lab
@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="no tcpdump here: apt-get install tcpdump")
def test_packets_of_every_nic_are_captured_and_sliced(two_hosts: Lab) -> None:
    left, right = two_hosts.left, two_hosts.right
    for host, address in ((left, "10.93.93.1/30"), (right, "10.93.93.2/30")):
        host.run("ip", "address", "replace", address, "dev", host.nic("a").device)
    captures = Captures([left, right], size=60)
    left.run("ping", "-n", "-c", "2", "-i", "0.1", "-s", "1000", "10.93.93.2")
    taken = {f"{one.host}.{one.nic}": one for one in captures.stop(keep=True)}
    assert set(taken) == {"left.a", "left.b", "right.a", "right.b"}
    assert not any(one.cut for one in taken.values())
    content = taken["left.a"].content
    assert content[:4] == b"\xd4\xc3\xb2\xa1" and int.from_bytes(content[16:20], "little") == 60
    sizes = []
    place = 24
    while place < len(content):
        kept, whole = (int.from_bytes(content[place + at : place + at + 4], "little") for at in (8, 12))
        sizes.append((kept, whole))
        place += 16 + kept
    assert sizes.count((60, 1042)) == 4, "two requests, two replies, sliced"
    assert captures.stop(keep=True) == [], "they have ended"
    assert left.run("pgrep", "-x", "tcpdump", check=False).stdout == ""


@pytest.mark.lab
def test_a_capture_that_is_refused_breaks_the_testbed(two_hosts: Lab) -> None:
    with pytest.raises(TestbedError, match="tcpdump"):
        Captures([two_hosts.left], size=-1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pcap", "sometimes"], "--pcap: there is no 'sometimes'; there are: never, on-failure, always"),
        (["--pcap-size", "big"], "--pcap-size: 'big' is no number of bytes from 14 to 262144"),
    ],
)
def test_capture_options_are_checked(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(channover.__file__).parent.parent))
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", *options)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert said in done.stderr.str()
