"""A machine that is busy with other work, or too slow for the rate that is asked for: nobody is accused, and it says why."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOOPS = 2
"""Busy loops beside a run: what takes a machine of two processors from a lab, but for its precedence."""
TIMES = 2
"""How often a test is run beside them."""

pytestmark = pytest.mark.lab

ONE_FLOW = """
from channover.testing import Lag, TrafficGenerator, behaviour, near

@behaviour("LAG-1")
def test_one_flow(lag: Lag, tcp: TrafficGenerator) -> None:
    flow = tcp(lag.left, lag.right)
    assert flow.goodput == near(lag.link.tcp_goodput)
    assert flow.nics_used == 1
"""
ONE_PATH = """
from channover.testing import Multipath, TrafficGenerator, at_least, behaviour

@behaviour("MP-1")
def test_one_path_is_not_two(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    with multipath.one_server_address(), multipath.without_source_rules():
        flow = mptcp(multipath.left, multipath.right)
        assert flow.goodput == at_least(1.75 * multipath.link.rate)
        assert flow.nics_used == 2
"""
TWO_PATHS = """
from channover.testing import Multipath, TrafficGenerator, at_least, behaviour

@behaviour("MP-1")
def test_two_paths(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    flow = mptcp(multipath.left, multipath.right)
    assert flow.goodput == at_least(1.75 * multipath.link.rate)
    assert flow.nics_used == 2
"""


@pytest.fixture
def loops() -> Iterator[list[int]]:
    """Busy loops for the length of a test, by their process numbers."""
    made = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(LOOPS)]
    try:
        yield [one.pid for one in made]
    finally:
        for one in made:
            one.kill()
            one.wait()


def ran(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, text: str, *options: str) -> tuple[Any, str]:
    """Return the one test of a run as its results have it, and what the run printed."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "plugins"))
    pytester.makepyfile(text)
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--no-report", *options)
    (one,) = json.loads((pytester.path / "reports" / "latest" / "results.json").read_text())["tests"]
    return one, done.stdout.str()


def test_the_doctor_and_a_run_say_that_the_machine_is_busy_and_by_what(
    loops: list[int], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = r"other programs use \d+\.\d of the \d+ processors: .*\(process \d+\) \d+% of one"
    doctor = [sys.executable, "-m", "channover.cli.main", "doctor", "--target", "netns"]
    done = subprocess.run(doctor, cwd=ROOT / "plugins", capture_output=True, text=True)
    told = re.search(rf"^other work +{named}.*$", done.stdout, re.MULTILINE)
    assert told is not None and all(f"(process {loop}) " in told[0] for loop in loops), done.stdout + done.stderr
    text = """
from channover.testing import Counted, Multipath, behaviour

@behaviour("MP-1")
def test_nothing_is_measured(multipath: Multipath, counted: Counted) -> None:
    assert counted("paths", multipath.paths) == 2
"""
    for options in ((), ("-n", "2")):
        one, printed = ran(pytester, monkeypatch, text, *options)
        assert one["outcome"] == "passed"
        found = re.findall(
            rf"^channover: this machine is busy, and verdicts may be inconclusive: {named}", printed, re.MULTILINE
        )
        assert len(found) == 1, printed
        first = re.search(r"^(test_\S+\.py |\.|PASSED )", printed, re.MULTILINE)
        assert first is not None and printed.index(found[0]) < first.start(), "it is said before the first test"


@pytest.mark.usefixtures("loops")
@pytest.mark.slow
def test_a_busy_machine_accuses_nobody(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(TIMES):
        one, printed = ran(pytester, monkeypatch, ONE_FLOW)
        assert one["outcome"] in ("passed", "error", "inconclusive"), printed
        assert one["outcome"] != "error" or "processor" in one["reason"], one["reason"]
        (figures,) = one["processors"]
        assert figures["traffic"].startswith("tcp") and figures["waited"] > 0 and figures["idle"] < 0.5
        assert figures["others"] and all("(process " in name for name in figures["others"]), figures


@pytest.mark.usefixtures("loops")
@pytest.mark.slow
def test_a_true_fault_beside_a_busy_machine_never_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(TIMES):
        one, printed = ran(pytester, monkeypatch, ONE_PATH)
        assert one["outcome"] in ("failed", "error", "inconclusive"), printed
        assert one["outcome"] != "error" or "processor" in one["reason"], one["reason"]


@pytest.mark.parametrize("text", [ONE_FLOW, TWO_PATHS], ids=["LAG", "MPTCP"])
def test_a_rate_that_no_processor_carries_is_an_error_with_one_that_works(
    text: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, printed = ran(pytester, monkeypatch, text, "--link-rate", "10gbit")
    assert one["outcome"] == "error", printed
    assert one["duration"] < 15.0, one["reason"]
    assert re.search(
        r"no verdict: .*(processor \d was \d+% busy.*--link-rate \d+[mg]bit works|other work took what the lab needed)",
        one["reason"],
    ), one["reason"]
