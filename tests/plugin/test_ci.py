"""What a run leaves where nobody sits at a terminal: JUnit's file, a summary in Markdown, names that are not broken."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

import channover

PLUGINS = str(Path(channover.__file__).parent.parent)
SUITE = """
from channover.errors import Inconclusive
from channover.testing import TestbedError, at_least, behaviour

@behaviour("MP-1")
def test_a_rate_that_is_there(observe, counted):
    assert observe("goodput", 184.25e6, "bit/s") == at_least(175e6, "two paths carry one connection")
    assert counted("NICs used at left", 2) == 2
    assert counted("NICs used at left", 2) == 2

@behaviour("MP-2")
def test_one_whose_subflows_are_too_few_for_the_mesh_of_all_of_its_three_nics_at_both_ends(counted):
    assert counted("subflows | *left*", 8) == 9

@behaviour("MP-3")
def test_one_whose_lab_broke():
    raise TestbedError("left: iperf3 died")

@behaviour("MP-4")
def test_one_that_was_not_decided():
    raise Inconclusive("the interval holds the bound")

def test_of_nothing():
    pass
"""


@pytest.fixture
def job(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with a suite, and an environment without a terminal's width."""
    monkeypatch.setenv("PYTHONPATH", PLUGINS)
    monkeypatch.delenv("COLUMNS", raising=False)
    pytester.makepyfile(test_suite=SUITE)
    return pytester


def ran(job: pytest.Pytester, *options: str) -> pytest.RunResult:
    done = job.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--no-report", *options)
    assert "INTERNALERROR" not in done.stdout.str() + done.stderr.str()
    return done


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "workers"])
def test_junit_s_file_has_behaviours_outcomes_and_values(job: pytest.Pytester, options: tuple[str, ...]) -> None:
    ran(job, "--junitxml=junit.xml", *options)
    cases = {one.get("name", ""): one for one in ElementTree.parse(job.path / "junit.xml").iter("testcase")}
    found = {
        name: [(one.get("name"), one.get("value")) for one in case.iter("property")] for name, case in cases.items()
    }
    assert found["test_a_rate_that_is_there"] == [
        ("behaviour", "MP-1"),
        ("outcome", "passed"),
        ("goodput (bit/s)", "184250000"),
        ("goodput expected", "≥ 175.0 Mbit/s"),
        ("NICs used at left", "2"),
        ("NICs used at left expected", "2"),
        ("NICs used at left 2", "2"),
        ("NICs used at left 2 expected", "2"),
    ]
    (mesh,) = (name for name in found if "mesh" in name)
    assert ("behaviour", "MP-2") in found[mesh] and ("outcome", "failed") in found[mesh]
    assert ("subflows | *left*", "8") in found[mesh]
    assert found["test_one_whose_lab_broke"] == [("behaviour", "MP-3"), ("outcome", "error")]
    assert found["test_of_nothing"] == []
    # A broken testbed, and what was inconclusive, are no failure of a behaviour, whatever raised them.
    bad = {name: [one.tag for one in case if one.tag != "properties"] for name, case in cases.items()}
    assert {name: tags for name, tags in bad.items() if tags} == {
        mesh: ["failure"],
        "test_one_whose_lab_broke": ["error"],
        "test_one_that_was_not_decided": ["error"],
    }
    (suite,) = ElementTree.parse(job.path / "junit.xml").iter("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "2")


def test_names_and_reasons_are_not_broken_where_there_is_no_terminal(job: pytest.Pytester) -> None:
    lines = ran(job).stdout.lines
    name = "test_suite.py::test_one_whose_subflows_are_too_few_for_the_mesh_of_all_of_its_three_nics_at_both_ends"
    assert f"MP-2 failed: {name}" in lines
    assert "    subflows | *left* of 8, expected exactly 9" in lines
    assert any(line.split("  ")[0].startswith(" MP-1") and "goodput" in line and "passed" in line for line in lines)


def test_a_job_of_github_gets_a_summary_in_markdown_and_its_other_steps_keep_theirs(
    job: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = job.path / "step.md"
    step.write_text("of another step\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    ran(job, "-n", "2")
    text = step.read_text()
    assert text.startswith("of another step\n## ❌ NOT ACCEPTED\n")
    assert "| ✅ | **MP-1** " in text and "| goodput 184.2 Mbit/s | ≥ 175.0 Mbit/s | passed |" in text
    assert "### ❌ MP-2 failed: the behaviour is not there" in text
    assert "subflows \\| \\*left\\* 8" in text and "left: iperf3 died" in text


def test_elsewhere_the_summary_goes_where_it_is_told_to(job: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    done = ran(job, "--summary", "summary.md", "-k", "rate")
    assert "summary: summary.md" in done.stdout.lines
    assert (job.path / "summary.md").read_text().startswith("## ✅ ACCEPTED: 1 of ")
    done = ran(job, "--summary", "none/summary.md")
    assert done.ret == pytest.ExitCode.USAGE_ERROR and "--summary: none/summary.md is a folder" in done.stderr.str()
    monkeypatch.setenv("GITLAB_CI", "true")
    ran(job, "-k", "rate")
    assert (job.path / "reports" / "latest" / "summary.md").is_file()


RATE = """
from pathlib import Path
from channover.testing import at_least, behaviour

@behaviour("MP-1")
def test_a_rate(observe):
    assert observe("goodput", float(Path("rate").read_text()), "bit/s") == at_least(150e6, "two paths")
"""


def test_a_rate_that_dropped_over_time_gates(job: pytest.Pytester) -> None:
    (job.path / "test_suite.py").write_text(RATE)

    def with_rate(rate: float, *options: str) -> pytest.RunResult:
        (job.path / "rate").write_text(str(rate))
        return ran(job, "--gate-regression", *options)

    done = with_rate(184e6)
    assert done.ret == 0 and any(
        "fewer than 3, so that nothing can be a regression yet" in line for line in done.stdout.lines
    )
    first = json.loads((job.path / "reports" / "latest" / "results.json").read_text())
    for number, rate in enumerate((184.4e6, 183.7e6, 184.2e6, 183.9e6), start=1):
        first["run"]["start"] = first["run"]["end"] = f"2026-01-0{number}T12:00:00.000Z"
        first["run"]["id"] = f"2026010{number}T120000Z-0"
        first["tests"][0]["measurements"][0]["value"] = rate
        folder = job.path / "reports" / first["run"]["id"]
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(first))
    assert with_rate(184.1e6).ret == 0
    done = with_rate(171e6, "--summary", "summary.md", "-n", "1")
    assert done.ret == 8, done.stdout.str()
    (line,) = [line for line in done.stdout.lines if line.startswith("dropped: ")]
    assert line.startswith("dropped: MP-1 goodput (test_a_rate): 171.0 Mbit/s, 7.1% below the 6 runs before (184.0")
    assert "📉 MP-1 goodput" in (job.path / "summary.md").read_text()
    assert ran(job).ret == 0, "no gate that was not asked for"
