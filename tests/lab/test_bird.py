"""Equal-cost routes that BIRD keeps with BFD: as many next hops as cables, and one less while one is silent."""

from __future__ import annotations

import shutil

import pytest

from channover.hosts.host import until
from channover.hosts.lab import Lab
from channover.network.programs.bird import ADDRESSES, INTERVAL, MISSED, hops_to, multipath_routes


@pytest.mark.lab
@pytest.mark.parametrize("silently", [False, True], ids=["carrier", "silent"])
def test_a_lost_cable_takes_its_next_hop_and_gives_it_back(two_hosts: Lab, silently: bool) -> None:
    if shutil.which("bird") is None:
        pytest.skip("there is no bird: install bird2")
    left, far = two_hosts.left, ADDRESSES[1]
    before = left.state()
    with multipath_routes(two_hosts):
        assert hops_to(left, far) == 2
        assert left.run("ping", "-c", "1", "-W", "1", far).returncode == 0
        assert f"src {ADDRESSES[0]}" in left.run("ip", "route", "get", far).stdout
        with two_hosts.lost(two_hosts.topology.cables[0], silently=silently):
            until(lambda: hops_to(left, far) == 1, "the dead next hop to go", 10 * MISSED * INTERVAL / 1000)
        until(lambda: hops_to(left, far) == 2, "it to come back", 20.0)
    until(lambda: left.state().routes == before.routes, "BIRD's routes to be gone", 5.0)
