"""The transmit hash decides by which link a flow leaves a LAG: predicted for each flow, and found there."""

from __future__ import annotations

import pytest

from channover.testing import Counted, HashedFlows, HashPolicy, Lag, behaviour


@behaviour("LAG-9")
@pytest.mark.parametrize(
    "spread",
    [
        pytest.param(False, id="layer2", marks=pytest.mark.hash_policy(HashPolicy.LAYER2)),
        pytest.param(False, id="layer2+3", marks=[pytest.mark.hash_policy(HashPolicy.LAYER23), pytest.mark.variant]),
        pytest.param(True, id="layer3+4", marks=pytest.mark.hash_policy(HashPolicy.LAYER34)),
    ],
)
def test_each_flow_takes_the_link_that_its_hash_says(
    lag: Lag, hashed: HashedFlows, counted: Counted, spread: bool
) -> None:
    """Two hosts with an address each: what hashes ports spreads their flows, all else keeps them to a link a version of IP."""
    for placed in hashed(lag):
        assert counted(f"links taken, {placed.name}", len(placed.links)) == (lag.links if spread else 1)
