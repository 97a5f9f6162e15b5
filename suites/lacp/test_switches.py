"""Two switches with a LAG between them: one copy stays within a link, many hosts fill the LAG (article, sketches 1, 2)."""

from __future__ import annotations

import pytest

from channover.testing import (
    Copies,
    FileProtocol,
    HashPolicy,
    Switched,
    Traffic,
    at_least,
    behaviour,
    between,
    hash_policy,
    on,
)
from channover.topology import two_switches


@behaviour("LAG-6")
@on(two_switches(1))
@pytest.mark.parametrize("protocol", list(FileProtocol), ids=lambda protocol: protocol.name)
def test_one_file_copy_stays_within_one_link(switched: Switched, copies: Copies, protocol: FileProtocol) -> None:
    one_link = switched.lag.link.tcp_goodput
    west, east = switched.switches
    copied = copies(protocol, switched.left[0], switched.right[0], watched=[west, east])
    assert copied.goodput == between(
        0.85 * one_link, 1.01 * one_link, "one link, less the copy's own overhead", theory=one_link
    )
    for switch in switched.switches:
        assert copied.nics.trunk_count(switch, ["a", "b"]) == 1


@behaviour("LAG-7")
@on(two_switches(8))
@hash_policy(HashPolicy.LAYER34)
def test_many_hosts_fill_the_lag(switched: Switched, tcp: Traffic) -> None:
    flow = tcp.between(switched.pairs, streams=2, watched=switched.switches)
    link = switched.lag.link
    assert flow.goodput == at_least(
        1.75 * link.rate, "sixteen flows spread over two links", theory=2 * link.tcp_goodput
    )
    for switch in switched.switches:
        assert flow.nics.trunk_count(switch, ["a", "b"]) == 2
