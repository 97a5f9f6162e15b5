"""Targets, inventories and labs as a user chooses them: one clear line and pytest's usage exit code where it cannot be."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from channover import ownership
from channover.hosts.host import Journal
from channover.model.link import Link
from channover.model.topology import pair
from channover.report.results import Results
from channover.targets.capabilities import lag_driver
from channover.targets.netns import NetnsTarget

ROOT = Path(__file__).parents[2]
INVENTORY = """
labs:
  one:
    hosts:
      left: {ssh: {address: 192.0.2.1}, management: eth0, nics: {a: eth1, b: eth2}}
      right: {ssh: {address: 192.0.2.2}, management: eth0, nics: {a: eth1, b: eth2}}
    cables:
      - {ends: [left.a, right.a], rate: 100mbit}
      - {ends: [left.b, right.b], rate: 100mbit}
  two:
    hosts:
      left: {ssh: {address: 192.0.2.3}, management: eth0, nics: {a: eth1}}
"""


def pytest_run(*options: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target=moon"], "--target: there is no target 'moon'; there are: netns, physical, vm"),
        (["--target=physical"], "--target=physical needs --inventory FILE"),
        (["--inventory={inventory}"], "--inventory is for --target=physical, and the target is netns"),
        (["--target=physical", "--inventory=/nowhere.yaml"], "/nowhere.yaml"),
        (["--target=physical", "--inventory={inventory}"], "has 2 labs (one, two): choose one with --lab NAME"),
        (["--target=physical", "--inventory={inventory}", "--lab=three"], "has no lab 'three'; it has: one, two"),
        (
            ["--target=physical", "--inventory={inventory}", "--lab=one", "--link-rate=1gbit"],
            "--link-rate: real cables have the rate that the inventory says",
        ),
        (
            ["--target=physical", "--inventory={inventory}", "-n", "3"],
            "-n 3: {inventory} has 2 labs, and each worker needs a lab of its own; -n 2 at most",
        ),
        (
            ["--target=physical", "--inventory={inventory}", "--lab=one", "-n", "2"],
            "has 1 lab, and each worker needs a lab of its own",
        ),
        (
            ["--target=physical", "--inventory={inventory}", "-d", "--tx", "3*popen"],
            "-n 3: {inventory} has 2 labs, and each worker needs a lab of its own; -n 2 at most",
        ),
        (
            ["--keep-lab", "-n", "2"],
            "--keep-lab shows what a single process does, and workers cannot be seen: use -n 0",
        ),
        (["--dry-run", "-n", "2"], "--dry-run shows what a single process does, and workers cannot be seen: use -n 0"),
        (["--target=vm", "--kernel=/nowhere"], "/nowhere"),
        (
            ["--target=physical", "--inventory={inventory}", "--lab=one", "--lease-wait=²"],
            "'²' is no number of seconds",
        ),
        (["--lease-wait=5"], "--lease-wait is for --target=physical, and the target is netns"),
        (["--kernel=6.1"], "--kernel is for --target=vm, and the target is netns"),
        ([f"--link-rate={'9' * 400}"], "is not a rate that a lab can run: from 1mbit to 800gbit"),
        (["--lag-driver=bonding", "-n", "2"], "--lag-driver=bonding: "),
        (["--members=9"], "--members: '9' is no number of a LAG's links from 2 to 8"),
        (["--mtu=1000"], "--mtu: '1000' is no MTU that a lab can have: write bytes, from 1280 to 16000"),
        (["--family=5"], "--family: there is no IPv5; there are: 4, 6"),
        (["--reports=/dev/null/reports"], "reports cannot be kept in /dev/null/reports"),
        (["--reports=/dev/null/reports", "-n", "2"], "cannot be kept in /dev/null/reports"),
    ],
)
def test_bad_use_is_one_clear_line(tmp_path: Path, options: list[str], words: str) -> None:
    inventory = tmp_path / "labs.yaml"
    inventory.write_text(INVENTORY)
    done = pytest_run(*(option.format(inventory=inventory) for option in options), "suites/lacp")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout[-2000:]
    said = [line for line in (done.stderr + done.stdout).splitlines() if words.format(inventory=inventory) in line]
    assert len(said) == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr + done.stdout


def test_a_dry_run_prints_commands_and_their_undo_and_changes_nothing(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    suites = ("suites/lacp", "suites/mptcp", "suites/tunnel")
    done = pytest_run("--dry-run", "--lag-driver=bonding", "--reports", str(reports), *suites)
    assert done.returncode == 0, done.stdout[-3000:]
    lines = [line.strip() for line in done.stdout.splitlines()]
    do = lines.index("left# ip link add name bond0 type bond mode 802.3ad miimon 100 updelay 200 downdelay 200 lacp_rate fast "
                     "xmit_hash_policy layer2")  # fmt: skip
    undo = lines.index("left  undo: ip link delete dev bond0", do)
    assert do < undo
    assert "left  undo: ip mptcp endpoint delete id 1" in lines
    assert any(line.startswith("right# iperf3 -s") for line in lines)
    assert not reports.exists(), "what measures nothing leaves nothing"


@pytest.mark.lab
def test_a_dry_run_shows_the_lag_driver_that_a_run_would_use_here(tmp_path: Path, netns: NetnsTarget) -> None:
    with netns.lab(pair(), Link(), Journal()) as lab:
        driver, reason = lag_driver(lab.left, "auto")
    assert driver is not None, reason
    done = pytest_run("--dry-run", "--reports", str(tmp_path), "suites/lacp/test_lag.py")
    assert done.returncode == 0, done.stdout[-3000:]
    shown = {
        "bonding": "left# ip link add name bond0 type bond mode 802.3ad" in done.stdout,
        "openvswitch": "add-bond bond0 bond0-lag eth1 eth2 lacp=active" in done.stdout,
    }
    assert shown == {name: name == driver for name in shown}, done.stdout[-3000:]
    assert f"LAG by {driver}" in done.stdout


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_an_unreachable_lab_is_one_line_and_names_the_host(tmp_path: Path, options: tuple[str, ...]) -> None:
    inventory = tmp_path / "labs.yaml"
    inventory.write_text(
        INVENTORY.replace("192.0.2.1", "127.0.0.1, port: 1").replace("192.0.2.2", "127.0.0.1, port: 2")
    )
    done = pytest_run("--target=physical", f"--inventory={inventory}", "--lab=one", "suites/lacp", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "left: cannot reach 127.0.0.1 port 1" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_a_dry_run_of_a_lab_that_lacks_hosts_says_so(tmp_path: Path) -> None:
    inventory = tmp_path / "labs.yaml"
    inventory.write_text(INVENTORY)
    done = pytest_run("--dry-run", "--target=physical", f"--inventory={inventory}", "--lab=two", "suites/lacp")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "lab two has hosts: 1, and the topology pair needs 2" in done.stderr + done.stdout


def test_collection_alone_asks_no_host(tmp_path: Path) -> None:
    inventory = tmp_path / "labs.yaml"
    inventory.write_text(
        INVENTORY.replace("192.0.2.1", "127.0.0.1, port: 1").replace("192.0.2.2", "127.0.0.1, port: 2")
    )
    done = pytest_run("--collect-only", "--target=physical", f"--inventory={inventory}", "--lab=one", "suites/lacp")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot reach" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    skipped = [line for line in lines if line.startswith("would skip ")]
    assert skipped and all(re.search(r"the topology (two-switches-|unstacked )|LAG driver", line) for line in skipped)
    assert sum("no host was asked what it lacks" in line for line in lines) == 1


def test_doctor_names_every_host_that_cannot_be_reached(tmp_path: Path) -> None:
    inventory = tmp_path / "labs.yaml"
    inventory.write_text(
        INVENTORY.replace("192.0.2.1", "127.0.0.1, port: 1").replace("192.0.2.2", "127.0.0.1, port: 2")
    )
    command = [sys.executable, "-m", "channover.cli.main", "doctor", "--target", "physical", "--lab", "one"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    done = subprocess.run(
        [*command, "--inventory", str(inventory)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    for line in ("left: cannot reach 127.0.0.1 port 1", "right: cannot reach 127.0.0.1 port 2"):
        assert f"\n{line}" in done.stdout
    assert "0 of 31 behaviours can be tried with what is left" in done.stdout


@pytest.mark.lab
@pytest.mark.alone
def test_a_kept_lab_can_be_looked_at(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins"), "XDG_RUNTIME_DIR": str(tmp_path)}
    kept = ownership.runtime() if os.geteuid() == 0 else tmp_path / "channover"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--keep-lab", "--reports", str(tmp_path / "r")]
    # Whoever started this run may have left SIGINT ignored, as shells do for what runs in the background.
    hearing = ["env", "--default-signal=INT", *command]
    (tmp_path / "test_later.py").write_text("import pytest\n\n@pytest.mark.skip\ndef test_later():\n    pass\n")
    tests = ["suites/mptcp", str(tmp_path), "-k", "over_two or later"]
    run = subprocess.Popen([*hearing, *tests], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 180  # it measures, beside other tests
        while not list(kept.glob("*.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        shell = [sys.executable, "-m", "channover.cli.main", "shell", "left"]
        look = subprocess.run(
            shell,
            env=environment,
            input="ip -o -4 address; ip mptcp endpoint; uname -n\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert "10.93.93.1/30" in look.stdout, look.stdout + look.stderr
        assert "subflow fullmesh" in look.stdout
        assert look.stdout.splitlines()[-1] == "left", "its name is the host's, and so is its prompt's"
        who, first, second, others, last = look.stderr.splitlines()
        assert (
            who.startswith("left (client) of the lab pair, as suites/mptcp/test_multipath.py::") and str(run.pid) in who
        )
        assert first.split() == ["a", "eth1", "10.93.93.1/30", "—", "right.a", "10.93.93.2/30"]
        assert second.split() == ["b", "eth2", "10.94.94.1/30", "—", "right.b", "10.94.94.2/30"]
        assert (others, last) == ("others: channover shell right", "exit leaves; the lab stays")
        wrong = subprocess.run([*shell[:-1], "moon"], env=environment, capture_output=True, text=True, check=False)
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert "no lab that is kept has a host 'moon'; there are: left, right" in wrong.stderr
    finally:
        run.send_signal(signal.SIGINT)
        try:
            said = run.communicate(timeout=60)[0]
        finally:
            run.kill()
    assert "channover shell left|right; Ctrl-C ends it" in said
    assert not list(kept.glob("*.json"))
    found = Results.from_json((tmp_path / "r" / "latest" / "results.json").read_text())
    assert [test.outcome for test in found.tests] == ["passed", "skipped"], said
    assert not found.run.interrupted, "all of its tests were run"
    assert run.returncode == 0, said
