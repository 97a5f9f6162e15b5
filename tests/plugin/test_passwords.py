"""The password for sudo on hosts: where a run has it from, and who comes by it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

INVENTORY = """
labs:
  one:
    hosts: {left: {ssh: {address: 192.0.2.1}, management: eth0, nics: {a: eth1}}}
"""
TEST = """
import os
from channover.hosts.ssh.sudo import PASSWORDS, VARIABLE
def test_who_has_it():
    assert VARIABLE not in os.environ, "programs that are started from here would have it too"
    assert PASSWORDS.first == "t0p-secret"
"""


def run(folder: Path, *words: str, password: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "inventory.yaml").write_text(INVENTORY)
    (folder / "test_it.py").write_text(TEST)
    environment = {**os.environ, "CHANNOVER_SUDO_PASSWORD": password}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--target=physical",
        "--inventory=inventory.yaml",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, *words], cwd=folder, env=environment, start_new_session=True, capture_output=True, text=True, timeout=120
    )  # fmt: skip


@pytest.mark.parametrize("words", [[], ["-n1"]], ids=["alone", "worker"])
def test_the_password_of_the_environment_is_taken_out_of_it_and_workers_have_it(
    tmp_path: Path, words: list[str]
) -> None:
    done = run(tmp_path, *words, password="t0p-secret")
    assert "1 passed" in done.stdout, done.stdout
    assert "t0p-secret" not in done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "test_it.py"]
    assert not any(b"t0p-secret" in path.read_bytes() for path in written if path.suffix != ".pyc")


def test_without_a_terminal_nobody_can_be_asked(tmp_path: Path) -> None:
    done = run(tmp_path, "--ask-sudo-password")
    assert done.returncode == 4
    assert "--ask-sudo-password: there is no terminal to ask at; set CHANNOVER_SUDO_PASSWORD instead" in done.stderr
    done = run(tmp_path, "--ask-sudo-password", "--target=netns")
    assert done.returncode == 4
