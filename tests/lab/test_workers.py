"""xdist's workers on an inventory of two labs, whose four hosts are namespaces behind SSH servers of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import channover
from channover.hosts.host import Journal, until
from channover.hosts.netns.host import NamespaceHost
from channover.model.link import Link
from channover.model.state import State
from channover.model.topology import pair
from channover.report.deciding.decision import decide
from channover.report.results import Results
from channover.targets.netns import NetnsTarget
from tests.support.sshd import Server

pytestmark = pytest.mark.lab

LAB = """\
  {name}:
    hosts:
      left: {left}
      right: {right}
    cables:
      - {{ends: [left.a, right.a], rate: 100mbit}}
      - {{ends: [left.b, right.b], rate: 100mbit}}
"""
HOST = (
    "{{ssh: {{address: 127.0.0.1, port: {port}, key: {folder}/client, known_hosts: {folder}/known_hosts}}, "
    "management: lo, nics: {{a: eth1, b: eth2}}}}"
)
CONFTEST = """
from channover.targets import capabilities
from channover.targets.physical import preflight

for name in capabilities.CAPABILITIES:
    capabilities.CAPABILITIES.entries[name] = capabilities.Capability("", {})  # what hosts can do is not in question
preflight.prove = lambda *_: None  # each host is of a network of its own, and nothing crosses
preflight.measured = lambda *_: preflight.Measured([], [], [])
"""
SUITE = """
import os
import signal
import time
from pathlib import Path

import pytest

from channover.model.operations.devices import AddressAdd
from channover.model.plan import Plan
from channover.pytest_plugin.testbed import TESTBED
from channover.testing import behaviour

@behaviour("LAG-1")
@pytest.mark.parametrize("number", range(4))
def test_holds(lab, request, number, counted):
    for end, host in enumerate((lab.left, lab.right), start=1):
        host.apply(Plan("held", (AddressAdd(host.nic("a").device, f"10.93.93.{end}/30"),)))
    name = request.config.stash[TESTBED].settings.place.lab.name
    Path(f"{name}.{os.environ['PYTEST_XDIST_WORKER']}").touch()
    if os.environ["HOLD"] == "killed" and name == "two" and not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(120 if os.environ["HOLD"] == "long" else 0.5)
    assert counted("labs", 1) == 1
"""


class Floor:
    """Four hosts, the folder of a user who has written them down as two labs, and runs of pytest there."""

    def __init__(self, hosts: list[NamespaceHost], folder: Path, stack: ExitStack) -> None:
        self.hosts, self.folder = hosts, folder
        written = []
        for number, host in enumerate(hosts):
            place = folder / f"host{number}"
            place.mkdir()
            port = stack.enter_context(Server(host, place).listening())
            written.append(HOST.format(port=port, folder=place))
        labs = (LAB.format(name=name, left=written[at], right=written[at + 1]) for name, at in (("one", 0), ("two", 2)))
        (folder / "floor.yaml").write_text("labs:\n" + "".join(labs))
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_floor.py").write_text(SUITE)
        self.before = self.states()

    def states(self) -> list[State]:
        return [host.state() for host in self.hosts]

    def start(self, hold: str, *options: str) -> subprocess.Popen[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        environment |= {"PYTHONPATH": str(Path(channover.__file__).parent.parent), "HOLD": hold}
        words = ["-m", "pytest", "-p", "channover.pytest_plugin.hooks", "-p", "no:cacheprovider", "--no-report", "-v"]
        words += ["--target=physical", "--inventory=floor.yaml", *options]
        # Whoever started this run may have left SIGINT ignored, as shells do for what runs in the background.
        return subprocess.Popen(
            ["env", "--default-signal=INT,TERM", sys.executable, *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def held(self) -> set[str]:
        """Which lab each worker has held."""
        return {file.name for name in ("one", "two") for file in self.folder.glob(f"{name}.gw*")}

    def outcomes(self) -> dict[str, str]:
        found = Results.from_json((self.folder / "reports/latest/results.json").read_text())
        return {test.nodeid: test.outcome for test in found.tests}


@pytest.fixture
def floor(netns: NetnsTarget, tmp_path: Path) -> Iterator[Floor]:
    with ExitStack() as stack:
        hosts = []
        for _ in range(4):
            host = stack.enter_context(netns.lab(pair(), Link(), Journal())).left
            assert isinstance(host, NamespaceHost)
            hosts.append(host)
        yield Floor(hosts, tmp_path, stack)


def finished(run: subprocess.Popen[str], timeout: float) -> str:
    """Return what a run says until its end, which comes by force if need be."""
    try:
        return run.communicate(timeout=timeout)[0]
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()


def test_each_worker_has_a_lab_of_its_own(floor: Floor) -> None:
    run = floor.start("short", "-d", "--tx", "2*popen")
    said = finished(run, 300)
    assert run.returncode == 0, said[-3000:]
    assert floor.held == {"one.gw0", "two.gw1"}
    assert list(floor.outcomes().values()) == ["passed"] * 4
    assert floor.states() == floor.before
    found = decide(Results.from_json((floor.folder / "reports/latest/results.json").read_text()))
    assert found.scope.holds_for == "for the emulated hosts only"
    assert "left.a (eth1: no bus, no driver, no speed of its own)" in found.scope.proves


@pytest.mark.slow
def test_a_worker_that_stands_in_for_a_dead_one_gets_its_lab(floor: Floor) -> None:
    run = floor.start("killed", "-n", "2")
    said = finished(run, 300)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, said[-3000:]
    assert "INTERNALERROR" not in said and "IndexError" not in said, said[-3000:]
    assert floor.held >= {"one.gw0", "two.gw1"}
    assert not {name for name in floor.held if re.match(r"one\.gw[^0]", name)}, floor.held
    assert sorted(floor.outcomes().values()) == ["error", "passed", "passed", "passed"], said[-3000:]
    until(lambda: floor.states() == floor.before, "all hosts to be as they were", 40, 0.5)


@pytest.mark.parametrize("way", ["TERM", pytest.param("INT", marks=pytest.mark.slow)])
def test_a_run_that_is_ended_leaves_all_hosts_as_they_were(floor: Floor, way: str) -> None:
    run = floor.start("long", "-n", "2")
    try:
        until(lambda: len(floor.held) == 2 or run.poll() is not None, "both workers to hold their labs", 300, 0.1)
        assert all(now != then for now, then in zip(floor.states(), floor.before, strict=True))
        if way == "TERM":
            run.send_signal(signal.SIGTERM)
        else:
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    finally:
        said = finished(run, 60)
    assert run.returncode == {"TERM": -signal.SIGTERM, "INT": pytest.ExitCode.INTERRUPTED}[way], said[-3000:]
    until(lambda: floor.states() == floor.before, "all hosts to be as they were", 40, 0.5)
