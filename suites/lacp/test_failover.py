"""A link of a LAG that is lost and restored (IEEE 802.1AX: receive and mux machines; the driver's own look at the carrier)."""

from __future__ import annotations

import pytest

from channover.testing import (
    Bonds,
    Counted,
    FlowsOfLinks,
    HashPolicy,
    Lab,
    LacpRate,
    SpreadFlows,
    at_least,
    at_most,
    behaviour,
)

ways = pytest.mark.parametrize("silently", [False, True], ids=["carrier", "silent"])


def require_others_untouched_and_the_link_used_again(flows: FlowsOfLinks, counted: Counted) -> None:
    """Compare what the loss of a link cost the other link's flows, and whether it carries flows again without a loss."""
    lag = flows.lag
    assert flows.outage_beside == at_most(0.2, "the other link's flows are not touched")
    assert flows.back == at_most(flows.again_within, "two LACP frames, the wait for others, and the drivers' delays")
    for end in lag.ends:
        assert counted(f"links at work again at {end.host.name}", len(end.status().working)) == lag.links
    assert flows.lost_on_return == 0
    if flows.deals:
        assert flows.lost_in_dealing == flows.datagrams(0.1)
    assert flows.on_it_again == at_least(1, "the link carries flows again")


@behaviour("LAG-8")
@ways
def test_a_lost_links_flows_move_over_and_the_link_is_used_again(
    lab: Lab, bond: Bonds, lacp_rate: LacpRate, spread: SpreadFlows, counted: Counted, silently: bool
) -> None:
    lag = bond(lab.left, lab.right, policy=HashPolicy.LAYER34, rate=lacp_rate)
    with spread(lag) as flows:
        flows.lose(silently=silently)
        flows.use_again()
    noticed = flows.noticed(silently=silently)
    assert flows.outage == noticed
    assert flows.lost == flows.datagrams(noticed.high)
    require_others_untouched_and_the_link_used_again(flows, counted)


@behaviour("LAG-8")
def test_a_link_that_loses_one_way_only_is_done_without_later_if_at_all(
    lab: Lab, bond: Bonds, spread: SpreadFlows, counted: Counted
) -> None:
    lag = bond(lab.left, lab.right, policy=HashPolicy.LAYER34)
    timer = lag.rate.timeout
    with spread(lag) as flows:
        flows.lose(silently=True, one_way=True, seconds=2 * timer + 1)
        flows.use_again()
    assert flows.outage == at_least(timer, "who sends hears its partner still, which has to lose it first")
    require_others_untouched_and_the_link_used_again(flows, counted)


@behaviour("LAG-8")
def test_a_lag_is_down_without_a_link_that_it_needs_and_needs_one_unless_told_more(
    lab: Lab, bond: Bonds, spread: SpreadFlows
) -> None:
    lag = bond(lab.left, lab.right, policy=HashPolicy.LAYER34)
    with spread(lag) as flows, flows.every_link_needed() as needed:
        flows.lose(silently=False)
        flows.use_again()
    if needed == lag.links:
        assert flows.outage_of_all == at_least(1.0, "as long as a link is missing")
    else:
        assert flows.outage_beside == at_most(0.2, "one link is enough")
    assert flows.on_it_again == at_least(1, "the link carries flows again")
