"""What the fault trials rest on: what counts as a difference, and that hosts, inventory and script know the same things."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from tools.trial_hosts import DATA, TrialHost, differences, inventory
from tools.trials import FAULTS

from channover.hosts.vm.vm import Vm
from channover.targets.inventory.schema import load

SCRIPT = Path(__file__).parents[2] / "tools" / "fault_trials.py"


def test_what_is_gone_and_what_is_new_differs_but_not_a_module_s_parameters() -> None:
    before = ["rule: 0: from all", "nft: }", "nft: }", "parameter: /core/wmem_max=1"]
    after = ["rule: 0: from all", "nft: }", "parameter: /core/wmem_max=2", "parameter: /new=1", "file: /run/x"]
    assert differences(before, before) == []
    assert differences(before, after) == [
        "- nft: }",
        "- parameter: /core/wmem_max=1",
        "+ parameter: /core/wmem_max=2",
        "+ file: /run/x",
    ]


@pytest.mark.parametrize("sudo", [False, True])
def test_the_inventory_is_valid(tmp_path: Path, sudo: bool) -> None:
    class Stub:
        def __init__(self, name: str) -> None:
            self.name, self.ssh_port = name, 2300 + len(name)

    hosts = [TrialHost(cast("Vm", Stub(name)), tmp_path, tmp_path, 1) for name in ("left", "right")]
    (tmp_path / "trial.yaml").write_text(inventory(hosts, sudo=sudo))
    lab = load(tmp_path / "trial.yaml").labs["trial"]
    user = "lab" if sudo else "root"
    found = [(host.ssh.user, host.sudo, host.ssh.port) for host in lab.hosts.values()]
    assert found == [(user, sudo, 2304), (user, sudo, 2305)]


def test_hosts_know_their_faults_and_the_remedies() -> None:
    guest = (DATA / "guest.sh").read_text()
    for fault in FAULTS.values():
        for name in ([fault.name] if fault.inside else []) + ([fault.remedy] if fault.remedy else []):
            assert f"\n        {name})" in guest


def test_a_fault_that_there_is_not_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--faults", "kill,flood"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "there is no fault flood; there are none, kill" in done.stderr
