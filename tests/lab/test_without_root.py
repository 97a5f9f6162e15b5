"""The same labs for a user who is not root: in a user namespace, with one id."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import channover

pytestmark = [pytest.mark.lab, pytest.mark.timed]

NOBODY = "65534"
PLUGINS = str(Path(channover.__file__).parent.parent)
PROGRAM = """
import json, os, sys
from channover.errors import TestbedError
from channover.hosts.host import Journal
from channover.network import addressing, mptcp
from channover.model.operations.devices import AddressDelete, LinkAdd
from channover.model.operations.kernel import TableAdd
from channover.model.plan import Plan
from channover.targets.capabilities import CAPABILITIES
from channover.targets.netns import NetnsTarget
from channover.model.topology import pair
from channover.model.link import Link

found = {"uid": os.getuid()}
target = NetnsTarget()
try:
    found["unmet"] = target.unmet(pair())
    if found["unmet"] is None:
        with target.lab(pair(), Link(), Journal()) as lab:
            left, right = lab.left, lab.right
            sysctls = ("net/mptcp/enabled", "net/ipv4/conf/all/rp_filter")
            before = left.state(sysctls)
            rules = Plan("x", (TableAdd("ours", ""), LinkAdd("br0", "bridge")))
            endpoints = mptcp.client_endpoints(lab, left)
            plan = addressing.addresses(lab, left) + addressing.source_rules(lab, left) + mptcp.enable() + endpoints + rules
            right.apply(addressing.addresses(lab, right))
            with left.applied(plan):
                ping = left.run("ping", "-c", "1", "-W", "5", "10.93.93.2", check=False)
                found["ping"] = [ping.returncode, ping.stdout + ping.stderr]
                found["endpoints"] = [endpoint.address for endpoint in left.state().endpoints.values()]
            found["restored"] = left.state(sysctls) == before
            left.offloads("eth1", ("tx",), on=False)
            left.write(left.folder + "/file", "text")
            found["file"] = left.read(left.folder + "/file")
            found["uid inside"] = left.run("id", "-u").stdout.strip()
            lab.cabling.cut(lab.topology.cables[0])
            found["lacks"] = {name: capability.unmet(left) for name, capability in CAPABILITIES.items()}
            try:
                left.apply(Plan("y", (AddressDelete("eth1", "10.1.1.1/32"),)))
            except TestbedError as error:
                found["refused"] = str(error)
finally:
    target.close()
print(json.dumps(found))
"""


def unprivileged(*words: str) -> subprocess.CompletedProcess[str]:
    become = []
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv, which makes root another user, is missing: apt-get install util-linux")
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": PLUGINS, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*become, sys.executable, *words],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    try:
        reachable = unprivileged("-c", "import channover.targets.netns")
        words = reachable.stderr.strip()
    except OSError as error:
        words = str(error)
    if words:
        pytest.skip(
            f"user {NOBODY} cannot use this Python ({words.splitlines()[-1]}): "
            f"make {sys.executable} and {PLUGINS} readable for everybody"
        )
    done = unprivileged("-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer["unmet"]:
        pytest.skip(answer["unmet"])
    return answer


def test_it_is_no_root_that_ran(found: dict[str, Any]) -> None:
    assert found["uid"] != 0
    assert found["uid inside"] == "0"


def test_hosts_reach_each_other(found: dict[str, Any]) -> None:
    code, words = found["ping"]
    assert code == 0, words


def test_plans_are_applied_and_taken_back(found: dict[str, Any]) -> None:
    assert found["endpoints"] == ["10.93.93.1", "10.94.94.1"]
    assert found["restored"]
    assert found["refused"].startswith("left: the kernel refused 'ip address delete")


def test_files_are_the_lab_s_own(found: dict[str, Any]) -> None:
    assert found["file"] == "text"
    assert not Path("/run/left/file").exists()


def test_what_a_user_cannot_have_is_said_with_the_remedy(found: dict[str, Any]) -> None:
    lacks = found["lacks"]
    assert lacks["mptcp"] is None
    assert lacks["policy-routing"] is None
    assert lacks["nftables"] is None or "apt-get install nftables" in lacks["nftables"]
    assert all("\n" not in reason for reason in lacks.values() if reason)
    if lacks["tun"]:
        assert "chmod 0666 /dev/net/tun" in lacks["tun"]
