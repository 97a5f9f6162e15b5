"""What ``channover new`` writes runs: suites of each part on namespaces, and a behaviour of one's own from its wheel."""

from __future__ import annotations

import os

import pytest

import channover
from channover.report.results import Results, TestResult
from tests.support import packages
from tests.support.commands import command

pytestmark = pytest.mark.lab
PARTS = {"bonds": "LAG-1", "paths": "MP-1", "tunnels": "TUN-2"}


def ran(pytester: pytest.Pytester, *options: str) -> tuple[pytest.RunResult, dict[str | None, TestResult]]:
    """Run tests in a process of its own; return what its results have, by behaviour."""
    common = ("-p", "channover.pytest_plugin.hooks", "--no-report", "--reports=reports", "--target=netns")
    done = pytester.runpytest_subprocess(*common, *options)
    file = pytester.path / "reports" / "latest" / "results.json"
    tests = Results.from_json(file.read_text()).tests if file.exists() else ()
    return done, {test.behaviour: test for test in tests}


def test_a_behaviour_of_one_s_own_runs_from_its_wheel_as_it_was_written(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("new", "behaviour", "ACME-1", "--statement", "both hosts are whole") == 0
    assert command("new", "suite", "calls", "--behaviour", "APP-2") == 0
    packages.install(pytester.path / "acme_behaviours", pytester.path / "installed")
    own = os.path.dirname(os.path.dirname(channover.__file__))
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path / 'installed'}:{own}")
    done, found = ran(pytester, "calls", "acme_behaviours")
    assert done.ret == 0, done.stdout.str()
    assert {name: test.outcome for name, test in found.items()} == {"APP-2": "passed", "ACME-1": "passed"}
    for name, identifier in PARTS.items():
        assert command("new", "suite", name, "--behaviour", identifier) == 0
    done, _ = ran(pytester, "--dry-run", *PARTS)
    assert done.ret == 0 and done.parseoutcomes() == {"skipped": 3}, done.stdout.str()


@pytest.mark.slow
def test_suites_run_as_they_were_written(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, identifier in PARTS.items():
        assert command("new", "suite", name, "--behaviour", identifier) == 0
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(channover.__file__)))
    done, found = ran(pytester, *PARTS)
    assert set(found) == set(PARTS.values()), done.stdout.str()
    for test in found.values():
        # other work on this machine may take what a rate needs: that is said, and is nobody's failure
        assert test.outcome in ("passed", "inconclusive", "skipped") or "no verdict" in test.reason, test.reason
