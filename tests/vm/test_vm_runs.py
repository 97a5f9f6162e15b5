"""The suites on hosts with kernels of their own, as a user runs them: micro-VMs, and hosts that channover did not make."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

from channover.hosts.vm import kernel_images as kernels

pytestmark = [pytest.mark.lab, pytest.mark.vm]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
CHOSEN = {"LAG-4": "test_lacp_has_converged", "MP-4": "test_with_multipath_off"}
INVENTORY = """
labs:
  bench:
    hosts:
{hosts}
    cables:
      - {{ends: [host1.a, host2.a], rate: 10mbit}}
      - {{ends: [host1.b, host2.b], rate: 10mbit}}
"""
HOST = """
      host{number}:
        ssh: {{address: 127.0.0.1, port: {port}, key: {folder}/client, known_hosts: {folder}/known_hosts}}
        management: {management}
        nics: {{a: "52:54:00:b0:0{number}:01", b: "52:54:00:b0:0{number}:02"}}
"""


ASKED = """
ip -br link; ip -4 -o address; ip rule; ip -4 route show table all; ip mptcp endpoint; ip mptcp limits
ls -A /run
"""


def channover(*words: str, timeout: float = 300, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout, check=False
    )


SYSTEMD = Path("/lib/systemd/systemd").exists()
WATCHER = """
from channover.hosts.host import until
from channover.testing import behaviour

UNIT = "systemctl list-units --plain --no-legend --state=running 'channover-*' | cut -d' ' -f1"
PID = f"systemctl show --property MainPID --value $({UNIT})"

@behaviour("LAG-4")
def test_watcher_that_is_killed_is_started_again_by_systemd(lab, counted):
    host = lab.left
    killed = host.run("sh", "-c", PID).stdout.strip()
    host.run("kill", "-KILL", killed)
    until(lambda: host.run("sh", "-c", PID).stdout.strip() not in ("", "0", killed), "a new watcher", 10.0, 0.2)
    assert counted("watchers", 1) == 1
"""


def suites(reports: Path, behaviours: Sequence[str], *options: str) -> dict[str, Any]:
    """Run one test of each behaviour, LAG-4 among them; return the results."""
    chosen = " or ".join(["test_watcher", *(CHOSEN[one] for one in behaviours)])
    words = ("pytest", "-p", "no:cacheprovider", "-q", "--reports", str(reports), "suites", "-k", chosen, *options)
    done = channover(*words)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads((reports / "latest" / "results.json").read_text())
    assert {test["behaviour"]: test["outcome"] for test in found["tests"]} == dict.fromkeys(behaviours, "passed")
    assert found["run"]["lag_driver"] == "bonding"
    states = [text for file in reports.rglob("*-attachment.txt") if "802.3ad" in (text := file.read_text())]
    assert any(
        re.search(r"^Bonding Mode: IEEE 802.3ad.*^Slave Interface: ", text, re.MULTILINE | re.DOTALL) for text in states
    )
    return found


@pytest.mark.parametrize(
    "behaviours", [("LAG-4",), pytest.param(("LAG-4", "MP-4"), marks=pytest.mark.slow)], ids=" ".join
)
def test_the_suites_on_micro_vms(tmp_path: Path, behaviours: tuple[str, ...]) -> None:
    kernel = kernels.fetched()[0]
    found = suites(tmp_path, behaviours, "--target=vm", "--kernel", kernel.name)
    assert found["run"]["kernel"].startswith(kernel.release)


USED_AGAIN = """
from channover.model.operations.devices import AddressAdd
from channover.model.plan import Plan
from channover.testing import behaviour

CONNECTED = '''
import socket, sys, time
listener = socket.create_server(("10.93.93.1", 0))
connected = socket.create_connection(listener.getsockname())
print("connected", flush=True)
time.sleep(1000)
'''

def sockets(host):
    return host.run("ss", "-Htn", "state", "connected", "src", "10.93.93.0/30").stdout.splitlines()

@behaviour("MP-4")
def test_leaves_sockets(lab, counted):
    lab.left.apply(Plan("address", (AddressAdd("eth1", "10.93.93.1/30"),)))
    lab.left.spawn("python3", "-c", CONNECTED).wait_for("connected", 20)
    assert counted("sockets", len(sockets(lab.left))) == 2

@behaviour("MP-4")
def test_finds_none(lab, counted):
    assert counted("sockets of the first test", len(sockets(lab.left))) == 0
"""


@pytest.mark.slow
def test_a_test_on_a_machine_finds_no_sockets_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "test_used_again.py").write_text(USED_AGAIN)
    words = ["pytest", "-p", "channover.pytest_plugin.hooks", "-p", "no:cacheprovider", "--no-report", "--target=vm"]
    done = channover(*words, "--kernel", kernels.fetched()[0].name, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


PANICS = """
from pathlib import Path
from channover.testing import behaviour

@behaviour("LAG-1")
def test_panics(lab, counted):
    if not Path("panicked").exists():
        Path("panicked").touch()
        lab.left.run("sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger", timeout=5)
    assert counted("panics", 1) == 1
"""


@pytest.mark.slow
def test_a_guest_that_panics_is_no_verdict_and_the_second_try_is_marked(tmp_path: Path) -> None:
    (tmp_path / "test_panics.py").write_text(PANICS)
    words = ["pytest", "-p", "channover.pytest_plugin.hooks", "-p", "no:cacheprovider", "--no-report", "--target=vm"]
    done = channover(*words, "--kernel", kernels.fetched()[0].name, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "repeated: a machine died in the first try" in done.stdout
    (test,) = json.loads((tmp_path / "reports/latest/results.json").read_text())["tests"]
    assert (test["outcome"], test["repeated"]) == ("passed", True)
    consoles = (tmp_path / "reports/latest/allure-results").glob("*-attachment.txt")
    assert any("Kernel panic" in file.read_text() for file in consoles)


@contextmanager
def booted(folder: Path, kernel: str) -> Iterator[int]:
    """Boot two hosts with a script that knows nothing of channover; give the first one's port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, str(ROOT / "tools" / "boot_hosts.py"), "--kernel", kernel, "--rate", "10"]
    words += ["--port", str(port), "--folder", str(folder), *(["--systemd"] if SYSTEMD else [])]
    script = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert script.stdout is not None
        said = []
        for line in script.stdout:
            said.append(line)
            if "Ctrl-C ends all" in line:
                break
        else:
            pytest.fail("".join(said))
        yield port
    finally:
        script.kill()  # by now it is unshare(1), with which the script and the hosts end
        script.wait(30)


def examined(inventory: Path) -> None:
    """See that doctor finds nothing wrong with the hosts."""
    doctor = channover("channover.cli.main", "doctor", "--target", "physical", "--inventory", str(inventory))
    assert "LAG-4" in doctor.stdout, doctor.stdout + doctor.stderr
    assert "mended" not in doctor.stdout and re.search(r"^topologies +pair$", doctor.stdout, re.MULTILINE)
    nics = re.findall(r"^(host\d\.\w) +\S+, virtio_net, .*, carrier$", doctor.stdout, re.MULTILINE)
    assert nics == ["host1.a", "host1.b", "host2.a", "host2.b"], doctor.stdout


@pytest.mark.slow
def test_hosts_that_channover_did_not_make(tmp_path: Path) -> None:
    folder = tmp_path / "hosts"
    with booted(folder, kernels.fetched()[0].name) as port:
        ssh = ["ssh", "-F", "none", "-i", f"{folder}/client", "-o", f"UserKnownHostsFile={folder}/known_hosts"]

        def state(number: int) -> str:
            words = [*ssh, "-p", str(port + number - 1), "root@127.0.0.1", ASKED]
            return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout

        before = [state(1), state(2)]
        names = [re.search(r"^(\S+)\s+\S+\s+52:54:00:b0:0\d:00", text, re.MULTILINE) for text in before]
        hosts = "".join(
            HOST.format(number=number, port=port + number - 1, folder=folder, management=name[1] if name else "")
            for number, name in enumerate(names, start=1)
        )
        inventory = tmp_path / "bench.yaml"
        inventory.write_text(INVENTORY.format(hosts=hosts))
        checked = channover("channover.cli.main", "inventory", "validate", str(inventory))
        assert checked.returncode == 0, checked.stdout + checked.stderr
        examined(inventory)
        behaviours = ["LAG-4", "MP-4"]
        options = ["--target=physical", f"--inventory={inventory}"]
        if SYSTEMD:
            (tmp_path / "test_watcher.py").write_text(WATCHER)
            options.append(str(tmp_path / "test_watcher.py"))
        found = suites(tmp_path / "reports", behaviours, *options)
        assert len(found["tests"]) == len(behaviours) + SYSTEMD
        assert {host["name"] for host in found["run"]["hosts"]} == {"left", "right"}
        deadline = time.monotonic() + 20
        while [state(1), state(2)] != before and time.monotonic() < deadline:
            time.sleep(1)
        differences = [
            line
            for number, old in enumerate(before, start=1)
            for line in unified_diff(old.splitlines(), state(number).splitlines(), lineterm="")
        ]
        assert differences == [], "\n".join(differences)
