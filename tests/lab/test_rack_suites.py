"""The suites, word for word, on hosts that face switches of others: runs of pytest with inventories written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from channover.targets.netns import NetnsTarget
from tests.support.rack import (
    Rack,
    a_stack,
    inventory,
    inventory_of_a_stack,
    inventory_of_routed,
    inventory_of_two,
    lags,
    one_domain,
    rack,
    run_suites,
    two_hosts_and_a_switch,
    two_routers,
    two_switches,
    vlans,
)

pytestmark = [pytest.mark.lab, pytest.mark.timed]
Inventory = Callable[[Mapping[str, int], Path], str]


def bundled(made: Rack) -> Inventory:
    lags(two_hosts_and_a_switch(made))
    return lambda ports, folder: inventory([*ports.values()], folder, "lags: {left: [p1, p2], right: [p3, p4]}")


def of_two_vlans(made: Rack) -> Inventory:
    vlans(two_hosts_and_a_switch(made))
    return lambda ports, folder: inventory([*ports.values()], folder, "vlans: {10: [p1, p3], 20: [p2, p4]}")


def of_one_domain(made: Rack) -> Inventory:
    one_domain(two_hosts_and_a_switch(made))
    return lambda ports, folder: inventory([*ports.values()], folder)


def stacked(made: Rack) -> Inventory:
    a_stack(made)
    return lambda ports, folder: inventory_of_a_stack([*ports.values()], folder)


def routed(made: Rack) -> Inventory:
    two_routers(made)
    return lambda ports, folder: inventory_of_routed([*ports.values()], folder)


def joined(made: Rack) -> Inventory:
    two_switches(made, hosts=2)
    return inventory_of_two


def joined_with_many(made: Rack) -> Inventory:
    two_switches(made, hosts=8)
    return inventory_of_two


@pytest.mark.parametrize(
    ("laid", "tests", "passed"),
    [
        pytest.param(bundled, ("suites/lacp/test_lag.py", "-k", "tcp_flow_rides or converged"), 2, id="lag"),
        pytest.param(
            bundled,
            ("suites/lacp", "-k", "(test_lag and not long_run) or test_hash or (test_failover and carrier)"),
            7,
            id="all-of-lags",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            bundled,
            ("suites/lacp/test_lag.py", "-k", "long_run", "--soak=120"),
            1,
            id="long-run",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            of_two_vlans,
            ("suites/mptcp/test_multipath.py", "-k", "over_two_paths or full_at_once"),
            2,
            id="vlans",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            of_one_domain,
            ("suites/mptcp/test_multipath.py", "-k", "over_two_paths or full_at_once"),
            2,
            id="domain",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            routed,
            ("suites/mptcp/test_multipath.py", "-k", "over_two_paths or full_at_once"),
            2,
            id="routed",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            stacked,
            ("suites/lacp/test_lag.py", "-k", "tcp_flow_rides or converged"),
            2,
            id="stack",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            of_two_vlans,
            ("suites/tunnel/test_tunnel.py", "-k", "openvpn_over"),
            1,
            id="tunnel",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            joined, ("suites/lacp/test_switches.py", "-k", "HTTP"), 1, id="two-switches", marks=pytest.mark.slow
        ),
        pytest.param(
            joined_with_many,
            ("suites/lacp/test_switches.py", "-k", "many_hosts"),
            1,
            id="many-hosts",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_suites_pass(
    netns: NetnsTarget,
    tmp_path_factory: pytest.TempPathFactory,
    laid: Callable[[Rack], Inventory],
    tests: tuple[str, ...],
    passed: int,
) -> None:
    folder = tmp_path_factory.mktemp("rack")
    with rack(netns, folder) as made, ExitStack() as stack:
        written = laid(made)
        ports = {name: stack.enter_context(server.listening()) for name, server in made.servers.items()}
        done = run_suites(written(ports, folder), folder, *tests)
    assert f"{passed} passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout
