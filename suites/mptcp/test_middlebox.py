"""A middlebox that does not know Multipath TCP: the connection falls back to TCP, or does without a path (RFC 8684, 3.7, 6)."""

from __future__ import annotations

import pytest

from channover.testing import Counted, Multipath, Takes, TrafficGenerator, at_least, behaviour, near, require_multipath

BEHIND = 0.03
"""The share of a rate that settles later: what a connection sent before it fell back, or before a path was given up."""
LOST_OF_FIRST = {
    Takes.SYN: "MP_CAPABLE of SYNs",
    Takes.SYN_ACK: "MP_CAPABLE of SYN-ACKs",
    Takes.DATA: "MP_CAPABLE or DSS behind SYNs",
}
"""By what is taken of a connection's first path. A checksum that is spoilt there, before there is another path, is left out:
Linux 6.18 then falls back at one end alone, and what the application gets stands still or comes twice."""
LOST_OF_JOIN = {
    Takes.SYN: "MP_JOIN of SYNs",
    Takes.SYN_ACK: "MP_JOIN of SYN-ACKs",
    Takes.DATA: "MP_JOIN or DSS behind SYNs",
    Takes.CHECKSUM: "checksums of data",
}
IDS = ["SYN", "SYN-ACK", "data", "checksum"]


@behaviour("MP-8")
@pytest.mark.parametrize("takes", list(LOST_OF_FIRST), ids=IDS[:3])
def test_a_middlebox_on_the_first_path_ends_in_a_fallback(
    multipath: Multipath, mptcp: TrafficGenerator, counted: Counted, takes: Takes
) -> None:
    first, _ = multipath.nics
    with multipath.one_subflow_a_path(), multipath.middlebox(first, takes) as box:
        flow = mptcp(multipath.left, multipath.right)
        assert flow.goodput == near(multipath.link.tcp_goodput, BEHIND, "one path, as plain TCP")
        assert flow.fallen_back == 1
        assert flow.lost_of_mptcp(LOST_OF_FIRST[takes]) == 1
        assert flow.nics_used == 1
        assert counted("segments that the middlebox met", box.met) == at_least(1)


@behaviour("MP-8")
@pytest.mark.parametrize("takes", list(Takes), ids=IDS)
def test_a_middlebox_on_one_of_two_paths_costs_that_path(
    multipath: Multipath, mptcp: TrafficGenerator, counted: Counted, takes: Takes
) -> None:
    _, second = multipath.nics
    with multipath.one_subflow_a_path(), multipath.checksums(), multipath.middlebox(second, takes) as box:
        flow = mptcp(multipath.left, multipath.right)
        assert flow.goodput == near(multipath.link.mptcp_goodput, BEHIND, "one path")
        require_multipath(flow)
        assert flow.lost_of_mptcp(LOST_OF_JOIN[takes]) == 1
        assert flow.nics_used == 1
        assert counted("segments that the middlebox met", box.met) == at_least(1)
