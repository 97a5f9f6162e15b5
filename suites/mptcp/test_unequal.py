"""Multipath TCP over paths of unlike rates and unlike delays (RFC 6182, 2.1: at least what the best of them gives)."""

from __future__ import annotations

import pytest

from channover.testing import Multipath, TrafficGenerator, at_least, behaviour, near, on, require_multipath, unequal

NO_TIME = 1e-6
"""Seconds that any way there and back takes."""
EACH_WAY = 0.025
"""Seconds that a frame takes on the delayed path: as a mobile network's, beside a cable's of less than a millisecond."""


@behaviour("MP-10")
@on(unequal())
@pytest.mark.parametrize("delay", [0.0, EACH_WAY], ids=["rates", "rates and delays"])
def test_paths_of_unlike_rates_give_their_sum_each_its_share(
    multipath: Multipath, mptcp: TrafficGenerator, delay: float
) -> None:
    fast, slow = multipath.by_rate
    with multipath.one_subflow_a_path(), multipath.delayed(slow, delay):
        flow = mptcp(multipath.left, multipath.right)
        assert flow.goodput == at_least(0.9 * multipath.goodput, "the paths' sum", theory=multipath.goodput)
        for nic in (slow, fast):
            share = multipath.added(nic) / multipath.goodput
            assert flow.nics.share(multipath.right.host, nic, "rx") == near(share, 0.05, "as the rates")
        require_multipath(flow)
        address = multipath.address(multipath.left.host.name, slow)
        assert flow.round_trip(multipath.left.host, address) == at_least(2 * delay or NO_TIME, "there and back")
