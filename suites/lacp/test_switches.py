"""Two switches with a LAG between them: one copy stays within a link, many hosts fill the LAG (article, sketches 1, 2)."""

from __future__ import annotations

import pytest

from channover.model.topology import two_switches
from channover.testing import (
    Copied,
    Counted,
    FileProtocol,
    FileTransfer,
    HashedFlows,
    HashPolicy,
    Switched,
    TrafficGenerator,
    at_least,
    behaviour,
    between,
    hash_policy,
    on,
)

FIRST_PORT = 20_000
"""Source port of a host's first stream in LAG-7: known, so that the link of each is."""
TRIES = 16
"""Copies of which one takes the other link, since their ports decide (layer3+4): all but once in 65 536 times."""


def another_way(copies: FileTransfer, protocol: FileProtocol, switched: Switched, first: Copied) -> Copied:
    """Copy between the other hosts until a copy takes another link than the first one did, as far as that is seen."""
    for _ in range(TRIES):
        copied = copies(protocol, switched.left[1], switched.right[1], watched=switched.switches)
        seen = switched.switches[1:]
        if all(copied.nics.used(at, switched.trunk) != first.nics.used(at, switched.trunk) for at in seen):
            break
    return copied


@behaviour("LAG-6")
@on(two_switches(2))
@hash_policy(HashPolicy.LAYER34)
@pytest.mark.parametrize("protocol", list(FileProtocol), ids=lambda protocol: protocol.name)
def test_one_file_copy_stays_within_one_link(
    switched: Switched, copies: FileTransfer, protocol: FileProtocol, counted: Counted
) -> None:
    one_link = switched.link.tcp_goodput
    with switched.counting() as counts:
        first = copies(protocol, switched.left[0], switched.right[0], watched=switched.switches)
    for end in switched.ends:
        assert counted(f"links at work at {end.host.name}", len(end.status().working)) == switched.links
        assert counted(f"links lost at {end.host.name}", len(end.lost())) == 0
    with switched.counting() as more:
        second = another_way(copies, protocol, switched, first)
    for trunk in (*counts, *more):
        assert counted(f"links used at {trunk.switch}, as it counts", len(trunk.used)) == 1
    for copied in (first, second):
        assert copied.goodput == between(
            0.85 * one_link, 1.01 * one_link, "one link, less the copy's own overhead", theory=one_link
        )
        for switch in switched.switches:
            assert copied.nics.trunk_count(switch, switched.trunk) == 1
    for switch in switched.switches[1:]:
        taken = {*first.nics.used(switch, switched.trunk), *second.nics.used(switch, switched.trunk)}
        assert counted("links that the copies took", len(taken)) == 2


@behaviour("LAG-7")
@on(two_switches(8))
@hash_policy(HashPolicy.LAYER34)
def test_many_hosts_fill_the_lag(
    switched: Switched, tcp: TrafficGenerator, hashed: HashedFlows, counted: Counted
) -> None:
    with switched.counting() as counts:
        flow = tcp.between(switched.pairs, streams=2, watched=switched.switches, first_port=FIRST_PORT)
    link = switched.link
    links = hashed.links(switched.ends[0], flow.conversations) if switched.ends else switched.links
    assert flow.goodput == at_least(
        0.875 * links * link.rate, f"sixteen flows are on {links} links", theory=links * link.tcp_goodput
    )
    for switch in switched.switches:
        assert flow.nics.trunk_count(switch, switched.trunk) == links
        if links == switched.links:
            fair = at_least(0.8 / links, "few flows fill a link as well as many do")
            assert flow.nics.lesser_share(switch, switched.trunk) == fair
    for trunk in counts:
        assert counted(f"links used at {trunk.switch}, as it counts", len(trunk.used)) == links
        share = counted(f"lesser link's share at {trunk.switch}, as it counts", trunk.lesser_share)
        assert share == at_least(0.8 / links, "few flows fill a link as well as many do")
