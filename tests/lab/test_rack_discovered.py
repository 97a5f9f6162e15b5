"""What ``discover`` writes of a rack: the cables and switches that LLDP tells of, and their LAGs, of which LACP does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from channover.targets.inventory.schema import loaded
from channover.targets.netns import NetnsTarget
from channover.targets.physical.discovery import Found, document
from channover.targets.physical.neighbours.hearing import hear
from tests.support.rack import (
    RATE,
    Rack,
    a_stack,
    inventory,
    lags,
    one_domain,
    rack,
    run_suites,
    two_hosts_and_a_switch,
)
from tests.support.rack_lldp import speaking

pytestmark = pytest.mark.lab
NICS = {"a": "eth1", "b": "eth2"}


def bundled(made: Rack) -> Mapping[str, list[str]]:
    lags(two_hosts_and_a_switch(made))
    return {"tor": ["p1", "p2", "p3", "p4"]}


def of_one_domain(made: Rack) -> Mapping[str, list[str]]:
    one_domain(two_hosts_and_a_switch(made))
    return {"tor": ["p1", "p2", "p3", "p4"]}


def stacked(made: Rack) -> Mapping[str, list[str]]:
    a_stack(made)
    return {"one": ["p1", "p2"], "two": ["p1", "p2"]}


def discovered(made: Rack, folder: Path | None = None, ports: Mapping[str, int] = {}) -> str:
    """Return the inventory that hosts of a rack make of what they hear; NICs are told by hand, since they have no bus."""
    for host in made.hosts.values():
        for device in NICS.values():
            host.run("ip", "link", "set", device, "up")
    heard = hear({name: (host, [*NICS.values()]) for name, host in made.hosts.items()}, 10.0)
    hosts = inventory([ports.get(name, 22) for name in made.hosts], folder).splitlines()
    found = [
        Found(
            name,
            [line for line in hosts if line.startswith(f"      {name}:")],
            NICS,
            [*NICS.values()],
            dict.fromkeys(NICS, RATE),
        )
        for name in made.hosts
    ]
    return document(found, heard)


@pytest.mark.parametrize(
    ("laid", "lags", "mlag"),
    [
        (bundled, {"tor": {"left": ("p1", "p2"), "right": ("p3", "p4")}}, None),
        (of_one_domain, {"tor": {}}, None),
        (
            stacked,
            {"one": {"left": ("p1",), "right": ("p2",)}, "two": {"left": ("p1",), "right": ("p2",)}},
            "stack-025357000099",
        ),
    ],
    ids=["lag", "domain", "stack"],
)
def test_cables_switches_and_lags_are_written_as_they_were_heard(
    netns: NetnsTarget,
    tmp_path: Path,
    laid: Callable[[Rack], Mapping[str, list[str]]],
    lags: Mapping[str, Mapping[str, tuple[str, ...]]],
    mlag: str | None,
) -> None:
    with rack(netns, tmp_path) as made, ExitStack() as stack:
        for name, ports in laid(made).items():
            stack.enter_context(speaking(made.switches[name], name, ports))
        text = discovered(made)
    (lab,) = loaded(text, tmp_path / "x.yaml").labs.values()
    assert {name: dict(switch.lags) for name, switch in lab.switches.items()} == lags, text
    assert {switch.mlag for switch in lab.switches.values()} == {mlag}, text
    assert len(lab.cables) == 4, text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("laid", "tests"),
    [
        (bundled, ("suites/lacp/test_lag.py", "-k", "tcp_flow_rides or converged")),
        (of_one_domain, ("suites/mptcp/test_multipath.py", "-k", "over_two_paths or full_at_once")),
        (stacked, ("suites/lacp/test_lag.py", "-k", "tcp_flow_rides or converged")),
    ],
    ids=["lag", "domain", "stack"],
)
def test_the_suites_pass_with_what_was_discovered(
    netns: NetnsTarget,
    tmp_path_factory: pytest.TempPathFactory,
    laid: Callable[[Rack], Mapping[str, list[str]]],
    tests: tuple[str, ...],
) -> None:
    folder = tmp_path_factory.mktemp("rack")
    with rack(netns, folder) as made, ExitStack() as stack:
        for name, ports in laid(made).items():
            stack.enter_context(speaking(made.switches[name], name, ports))
        ssh = {name: stack.enter_context(server.listening()) for name, server in made.servers.items()}
        done = run_suites(discovered(made, folder, ssh), folder, *tests)
    assert "2 passed" in done.stdout and done.returncode == 0, done.stdout + done.stderr
