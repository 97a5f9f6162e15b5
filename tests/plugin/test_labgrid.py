"""Labs that a labgrid coordinator gives out: a real one, with an exporter and places, and runs that wait for one another."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from channover.errors import UsageError
from channover.hosts.host import until
from channover.targets.labgrid.places import source

PYTHON = Path(sys.prefix) / "labgrid" / "bin" / "python"
"""The Python that has labgrid (tools/setup): its plugin for pytest is not for every run of these tests."""
INVENTORY = """
labs:
  {name}:
    hosts:
      left: {{ssh: {{address: 192.0.2.1}}, management: eth0, nics: {{a: eth1}}}}
      right: {{ssh: {{address: 192.0.2.2}}, management: eth0, nics: {{a: eth1}}}}
    cables:
      - {{ends: [left.a, right.a], rate: 100mbit}}
"""
PLACES = """
import asyncio, sys
from labgrid.remote.client import ClientSession
from labgrid.remote.generated import labgrid_coordinator_pb2 as pb
async def main():
    session = ClientSession(sys.argv[1], asyncio.get_running_loop())
    await session.start()
    for name in sys.argv[2:]:
        await session.stub.AddPlace(pb.AddPlaceRequest(name=name))
        await session.stub.AddPlaceMatch(pb.AddPlaceMatchRequest(placename=name, pattern=f"*/{name}/*"))
        tags = {"kind": "bare" if name == "bare" else "lag"}
        await session.stub.SetPlaceTags(pb.SetPlaceTagsRequest(placename=name, tags=tags))
    while sum(map(len, session.resources.get("here", {}).values())) < len(sys.argv) - 3:
        await asyncio.sleep(0.05)
    session.stopping.set()
    await session.stop()
asyncio.run(main())
"""
WHO = """
import asyncio, sys
from labgrid.remote.client import ClientSession
async def main():
    session = ClientSession(sys.argv[1], asyncio.get_running_loop())
    await session.start()
    places = {name: place.acquired or place.reservation for name, place in session.places.items()}
    print(*sorted(f"{name}={'held' if taken else 'free'}" for name, taken in places.items()))
    session.stopping.set()
    await session.stop()
asyncio.run(main())
"""


Run = subprocess.Popen[str]


@dataclass
class Coordinator:
    """A coordinator, and an exporter with the labs of two places; a third place has none."""

    folder: Path
    address: str = ""
    process: Run | None = None
    others: list[Run] = field(default_factory=list)

    def start(self) -> None:
        self.process = self.spawn("labgrid.remote.coordinator", "-l", self.address or "127.0.0.1:0")
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := re.match(r"listening on (\S+)", line):
                self.address = match[1]
                return
        raise AssertionError("the coordinator ended")

    def spawn(self, module: str, *words: str) -> Run:
        with (self.folder / f"{module}.log").open("a") as log:
            return subprocess.Popen(
                [PYTHON, "-m", module, *words], cwd=self.folder, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def export(self) -> None:
        two = INVENTORY.format(name="two").replace("192.0.2", "198.51.100").removeprefix("\nlabs:")
        (self.folder / "two.yaml").write_text(INVENTORY.format(name="other") + two)
        (self.folder / "exports.yaml").write_text(
            f"bench-1:\n  ChannoverLab:\n    inventory: {json.dumps(INVENTORY.format(name='one'))}\n"
            f"bench-2:\n  ChannoverLab:\n    inventory: {self.folder}/two.yaml\n    lab: two\n"
        )
        exporter = self.spawn("labgrid.remote.exporter", "-c", self.address, "-n", "here", "exports.yaml")
        self.others.append(exporter)
        self.ask(PLACES, "bench-1", "bench-2", "bare")

    def ask(self, script: str, *words: str) -> str:
        done = subprocess.run(
            [PYTHON, "-c", script, self.address, *words], capture_output=True, text=True, timeout=90, check=True
        )
        return done.stdout.strip()

    def end(self) -> None:
        for process in (*self.others, self.process):
            if process is not None:
                process.kill()
                process.wait()


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    if not PYTHON.exists():
        pytest.skip("there is no labgrid: tools/setup installs it")
    made = Coordinator(tmp_path)
    try:
        made.start()
        made.export()
        yield made
    finally:
        made.end()


TEST = """
import time
from pathlib import Path
def test_that_uses_its_lab(pytestconfig, worker_id="master"):
    from channover.pytest_plugin.testbed import TESTBED
    lab = pytestconfig.stash[TESTBED].settings.place.lab.name
    print(f"lab {lab}")
    (Path(__file__).parent / f"in-{lab}").touch()
    end = time.monotonic() + 120
    while not (Path(__file__).parent / "go").exists() and time.monotonic() < end:
        time.sleep(0.05)
"""


def started(coordinator: Coordinator, name: str, *words: str, tags: str = "kind=lag", test: str = TEST) -> Run:
    """Start a run in a folder of its own."""
    folder = coordinator.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "test_it.py").write_text(test)
    url = f"labgrid://{coordinator.address}?{tags}"
    options = ["--target=physical", "--inventory", url, "-s", "-p", "no:cacheprovider", "-p", "no:labgrid", *words]
    return subprocess.Popen(
        [PYTHON, "-m", "pytest", *options, "test_it.py"],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def said(process: Run) -> str:
    out, _ = process.communicate(timeout=120)
    return out


def test_of_three_runs_for_two_places_the_third_waits(coordinator: Coordinator) -> None:
    inside = coordinator.folder
    runs = {name: started(coordinator, name) for name in ("first", "second")}
    until(lambda: len(list(inside.glob("*/in-*"))) == 2, "two runs to have a place", 90)
    runs["third"] = started(coordinator, "third")
    assert runs["third"].stdout is not None
    waiting = next(line for line in runs["third"].stdout if "waiting" in line)
    assert re.search(r"waiting for a place of labgrid://.*: bench-1 \(\S+/\w+\), bench-2 \(\S+/\w+\)", waiting), waiting
    (inside / "first" / "go").touch()
    assert "1 passed" in said(runs["first"])
    until(lambda: bool(list(inside.glob("third/in-*"))), "the third run to have the first one's place", 90)
    assert {path.name for path in inside.glob("[ft]*/in-*")} in ({"in-one"}, {"in-two"}), (
        "the place that was given back"
    )
    runs["second"].send_signal(signal.SIGKILL)
    runs["second"].wait()
    until(lambda: coordinator.ask(WHO).count("held") == 1, "a killed run's place to be given back", 90)
    (inside / "third" / "go").touch()
    assert "1 passed" in said(runs["third"])
    assert coordinator.ask(WHO) == "bare=free bench-1=free bench-2=free"


@pytest.mark.slow
def test_each_worker_takes_a_place_of_its_own(coordinator: Coordinator) -> None:
    two = TEST + TEST.replace("test_that", "test_too_that")
    run = started(coordinator, "workers", "-n2", test=two)
    until(lambda: len(list(coordinator.folder.glob("workers/in-*"))) == 2, "each worker to have its lab", 90)
    (coordinator.folder / "workers" / "go").touch()
    assert "2 passed" in said(run)
    assert "places with the tags kind=lag: 2, and wanted: 3" in said(started(coordinator, "three", "-n3"))
    assert coordinator.ask(WHO) == "bare=free bench-1=free bench-2=free"


@pytest.mark.slow
def test_a_coordinator_that_dies_takes_no_run_with_it(coordinator: Coordinator) -> None:
    run = started(coordinator, "held")
    until(lambda: bool(list(coordinator.folder.glob("held/in-*"))), "the run to have a place", 90)
    assert coordinator.process is not None
    coordinator.process.kill()
    coordinator.process.wait()
    time.sleep(1)
    assert run.poll() is None
    (coordinator.folder / "held" / "go").touch()
    out = said(run)
    assert "1 passed" in out and re.search(
        r"labgrid://\S+: its coordinator is gone; another run may have been given bench", out
    )
    out = said(started(coordinator, "late"))
    assert re.search(r"ERROR: labgrid://\S+: it does not answer: is labgrid-coordinator running there", out), out


@pytest.mark.slow
def test_a_coordinator_that_dies_ends_the_wait_for_it(coordinator: Coordinator) -> None:
    runs = [started(coordinator, f"run-{number}") for number in range(2)]
    until(lambda: len(list(coordinator.folder.glob("*/in-*"))) == 2, "two runs to have a place", 90)
    third = started(coordinator, "third")
    assert third.stdout is not None
    assert any("waiting" in line for line in third.stdout)
    assert coordinator.process is not None
    coordinator.process.kill()
    assert "its coordinator is gone" in said(third)
    for number, run in enumerate(runs):
        (coordinator.folder / f"run-{number}" / "go").touch()
        assert "1 passed" in said(run)


@pytest.mark.slow
def test_who_only_looks_reserves_nothing_and_a_place_without_a_lab_is_named(coordinator: Coordinator) -> None:
    assert "1 test collected" in said(started(coordinator, "look", "--collect-only"))
    assert coordinator.ask(WHO) == "bare=free bench-1=free bench-2=free"
    for tags, words in (
        ("kind=bare", "place bare has no resource of the class ChannoverLab"),
        ("kind=none", r"places with the tags kind=none: 0, and wanted: 1; it has: bare kind=bare; bench-1 kind=lag"),
    ):
        out = said(started(coordinator, "wrong", tags=tags))
        assert re.search(words, out), out
    assert coordinator.ask(WHO) == "bare=free bench-1=free bench-2=free"


@pytest.mark.slow
def test_ctrl_c_gives_up_a_place_and_the_wait_for_one(coordinator: Coordinator) -> None:
    held = [started(coordinator, f"run-{number}") for number in range(2)]
    until(lambda: len(list(coordinator.folder.glob("*/in-*"))) == 2, "two runs to have a place", 90)
    third = started(coordinator, "third")
    assert third.stdout is not None
    assert any("waiting" in line for line in third.stdout)
    for run in (third, *held):
        os.kill(run.pid, signal.SIGINT)
        said(run)
    assert coordinator.ask(WHO) == "bare=free bench-1=free bench-2=free"


@pytest.mark.parametrize(
    "text",
    ["labgrid://", "labgrid://host/path", "labgrid://host:port", "labgrid://host?kind", "labgrid://host?a b=c", "labgrid://u@h",
     "labgrid://host#x"],
)  # fmt: skip
def test_what_is_no_coordinator_is_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not of the form labgrid://COORDINATOR\[:PORT\]\?TAG=VALUE"):
        source(text)


def test_a_coordinators_address_and_tags() -> None:
    found = source("labgrid://lab.example?kind=lag&rate=10g")
    assert (found.address, found.tags) == ("lab.example:20408", {"kind": "lag", "rate": "10g"})
    assert source("labgrid://[2001:db8::1]:99").address == "[2001:db8::1]:99"
