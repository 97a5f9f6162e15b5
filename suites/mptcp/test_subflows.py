"""Subflows of a Multipath TCP connection within limits, to an announced port, and under checksums (RFC 8684, 3.3 and 3.4)."""

from __future__ import annotations

import pytest

from channover.testing import Multipath, TrafficGenerator, at_least, behaviour, between, on, require_multipath, trio

PORT = 10100
"""Of the listener that the server announces with an address, besides the application's own."""
ALLOWED = 1
"""Extra subflows, of the two that three paths of one subflow each take."""


@behaviour("MP-2")
@on(trio())
@pytest.mark.parametrize("side", ["left", "right"])
def test_of_more_paths_than_the_limit_only_so_many_are_taken(
    multipath: Multipath, mptcp: TrafficGenerator, side: str
) -> None:
    with multipath.one_subflow_a_path(), multipath.limited(ALLOWED, getattr(multipath, side)):
        flow = mptcp(multipath.left, multipath.right)
        two = 2 * multipath.link.mptcp_goodput
        assert flow.goodput == between(1.75 * multipath.link.rate, 1.2 * two, "two of three paths carry", theory=two)
        for end in (multipath.left, multipath.right):
            assert flow.established(end.host) == 1 + ALLOWED
        assert flow.nics_used == 1 + ALLOWED
        require_multipath(flow)


# Of IPv4 alone: an IPv6 address with a port takes 30 bytes, timestamps 12, and TCP has 40 for options (RFC 8684, 3.4.1).
@behaviour("MP-2")
@pytest.mark.families
def test_a_path_leads_to_a_port_that_was_announced(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    _, second = multipath.nics
    with multipath.listening_on(second, PORT):
        flow = mptcp(multipath.left, multipath.right)
        assert flow.goodput == at_least(
            1.75 * multipath.link.rate, "two paths carry one connection", theory=multipath.goodput
        )
        for end in (multipath.left, multipath.right):
            mesh = multipath.mesh(end.host)
            assert flow.meshed(end.host, mesh) == len(mesh)
        assert flow.to_port(multipath.left.host, PORT) == 2
        assert flow.nics_used == 2
        require_multipath(flow)


@behaviour("MP-7")
def test_all_nics_are_full_at_once_with_checksums(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    with multipath.one_subflow_a_path(), multipath.checksums():
        flow = mptcp(multipath.left, multipath.right)
        assert flow.goodput == at_least(
            1.75 * multipath.link.rate, "two paths carry one connection", theory=multipath.goodput
        )
        assert flow.nics_used == 2
        require_multipath(flow)
