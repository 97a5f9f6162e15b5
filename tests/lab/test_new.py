"""What ``channover new`` writes runs: suites of each part on namespaces, and a behaviour of one's own from its wheel."""

from __future__ import annotations

import os

import pytest

import channover
from channover.report.results import Results
from tests.support import packages
from tests.support.commands import command

pytestmark = pytest.mark.lab
PARTS = {"bonds": "LAG-1", "paths": "MP-1", "tunnels": "TUN-2"}


def test_suites_and_a_behaviour_run_as_they_were_written(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, identifier in PARTS.items():
        assert command("new", "suite", name, "--behaviour", identifier) == 0
    assert "run it: pytest bonds/test_bonds.py --target=netns" in capsys.readouterr().out
    assert command("new", "behaviour", "ACME-1", "--statement", "both hosts are whole") == 0
    packages.install(pytester.path / "acme_behaviours", pytester.path / "installed")
    own = os.path.dirname(os.path.dirname(channover.__file__))
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path / 'installed'}:{own}")
    options = ("-p", "channover.pytest_plugin.hooks", "--no-report", "--reports=reports", "--target=netns")
    done = pytester.runpytest_subprocess(*options, *PARTS, "acme_behaviours")
    found = Results.from_json((pytester.path / "reports" / "latest" / "results.json").read_text())
    assert {test.behaviour for test in found.tests} == {*PARTS.values(), "ACME-1"}, done.stdout.str()
    for test in found.tests:
        # other work on this machine may take what a rate needs: that is said, and is nobody's failure
        measured = test.outcome in ("passed", "inconclusive", "skipped") or "no verdict" in test.reason
        assert test.outcome == "passed" if test.behaviour == "ACME-1" else measured, test.reason
