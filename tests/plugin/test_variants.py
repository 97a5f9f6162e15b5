"""What a run leaves out unless it is asked for: further variants of behaviours, and rivals, which are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIANT = "test_the_tunnel_as_a_backup_path_is_latent"


def run(*words: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_variants_are_deselected_unless_they_are_asked_for() -> None:
    file = "suites/tunnel/test_loop.py"
    said = run("--collect-only", file)
    assert VARIANT not in said and "2 deselected" in said
    assert VARIANT in run("--collect-only", "--variants", file)


@pytest.mark.lab
def test_rivals_are_skipped_unless_they_are_asked_for(tmp_path: Path) -> None:
    said = run("--no-report", "--reports", str(tmp_path), "suites/rivals")
    assert "measured and not judged: --rivals runs it" in said
    results = json.loads((tmp_path / "latest" / "results.json").read_text())
    assert {one["outcome"] for one in results["tests"]} == {"skipped"}
    assert len(results["tests"]) == 12
