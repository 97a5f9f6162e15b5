"""A failure on a bare terminal: the user's frames alone, the step that it is in, and the last commands of each host."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import channover

PLUGINS = str(Path(channover.__file__).parent.parent)
SHORT = """
from channover.measure.record import Record
from channover.testing import at_least, behaviour, step

@behaviour("MP-8")
def test_short(counted, channover_record):
    for number in range(7):
        with channover_record.journal.step("left", f"ip link set eth{number} up"):
            pass
    with channover_record.journal.step("right", "sysctl -w net.mptcp.enabled=1"):
        pass
    with step("close the loop"):
        with step("offer the tunnel's own address"):
            assert counted("subflows", 1) == 2

@behaviour("MP-8")
def test_good(counted):
    with step("count"):
        assert counted("subflows", 2) == 2
"""
BROKEN = """
from channover.errors import TestbedError
from channover.hosts.host import until
from channover.testing import behaviour

@behaviour("MP-8")
def test_waits(counted):
    assert counted("paths", 1) == 1
    until(lambda: False, "what never comes", 0.01)

@behaviour("MP-8")
def test_chained(counted):
    assert counted("paths", 1) == 1
    try:
        until(lambda: False, "what never comes", 0.01)
    except TestbedError as error:
        raise TestbedError("given up") from error
"""


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    monkeypatch.setenv("PYTHONPATH", PLUGINS)
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--no-report", *options)
    return done.stdout.str()


@pytest.mark.lab
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "worker"])
def test_a_failure_names_its_step_and_shows_the_last_commands_of_each_host(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(SHORT)
    said = run(pytester, monkeypatch, *workers)
    assert re.search(r"-+ left: last commands -+\n(ip link set eth[2-6] up  \(\d\.\d\d s\)\n){5}-+ right: last", said)
    assert "eth1 up" not in said.partition("left: last commands")[2]
    assert said.count(": last commands") == 2, "a test that passed has none"
    if sys.version_info >= (3, 11):
        assert re.search(r"\nE +in step: offer the tunnel's own address\nE +in step: close the loop\n", said)
        results = (pytester.path / "reports" / "latest" / "results.json").read_text()
        assert "in step: offer the tunnel's own address\\nin step: close the loop" in results
    assert "in step: count" not in said
    steps = [file.read_text() for file in (pytester.path / "reports/latest/allure-results").glob("*-result.json")]
    assert any('"name": "close the loop"' in text for text in steps)


@pytest.mark.lab
def test_frames_of_channover_are_hidden_unless_all_are_asked_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(BROKEN)
    said = run(pytester, monkeypatch)
    assert said.count("waited 0.01 s for what never comes") >= 2 and "given up" in said
    assert 'until(lambda: False, "what never comes", 0.01)' in said
    assert "channover/hosts/host.py" not in said and "def until" not in said
    assert "channover/hosts/host.py" in run(pytester, monkeypatch, "--full-trace")


UNREACHED = """
def test_lab(lab, counted):
    assert counted("hosts", len(lab.hosts)) == 2
"""


@pytest.mark.lab
def test_an_error_that_comes_from_channover_alone_is_told_in_words(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(UNREACHED)
    told = run(pytester, monkeypatch, "--link-rate", "20gbit")
    assert re.search(r"\n_+ ERROR at setup of test_lab _+\n(no verdict: )?cable", told)
    assert "raise unfit" not in told and "lab = Lab(" not in told
    assert "raise unfit(found)" in run(pytester, monkeypatch, "--link-rate", "20gbit", "--full-trace")
