"""What a run leaves out unless it is asked for: further variants of behaviours, and rivals, which are not judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
    assert VARIANT not in said and "9 deselected" in said
    assert "channover: TUN-3, TUN-4: the topology pair; a lab of real hosts needs left–right 2 cables" in said
    assert "channover: elsewhere than --target=netns: --target=vm: " in said
    assert VARIANT in run("--collect-only", "--variants", file)


def test_what_chooses_families_itself_is_left_out_of_a_second_run_with_ipv6() -> None:
    file = "suites/mptcp/test_families.py", "suites/mptcp/test_multipath.py", "suites/mptcp/test_subflows.py"
    assert "test_one_ipv6_connection" in run("--collect-only", *file)
    said = run("--collect-only", "--family=6", *file)
    assert "4 deselected" in said
    assert "IPv6; tests about families themselves (MP-11), or about IPv4 alone, are left out" in said


def test_rivals_are_deselected_unless_they_are_asked_for() -> None:
    rivals = "suites/rivals", "suites/lacp/test_lag.py"
    assert "17 deselected" in run("--collect-only", *rivals)
    assert "test_ecmp_gives" in run("--collect-only", "--rivals", *rivals)
