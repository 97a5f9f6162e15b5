"""Multipath TCP spreads one connection over every path (article, stage 2)."""

from __future__ import annotations

from channover.model.topology import trio
from channover.testing import (
    FileProtocol,
    FileTransfer,
    Multipath,
    TrafficGenerator,
    at_least,
    at_most,
    behaviour,
    between,
    near,
    on,
    require_multipath,
)

CHATTER = 0.001
"""What share of a flow's bytes an idle NIC may send: ARP, neighbour discovery, LLDP."""


ONE_PATH_AT_MOST = 1.2
"""Of one path's goodput. A second path that carried data would make it 1.9; one NIC alone cannot make more than 1, on which a
bound would lie so near the figure that only its noise was judged. The idle NIC's bytes are compared by themselves."""


@behaviour("MP-1")
def test_one_connection_passes_one_link_over_two_paths(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    flow = mptcp(multipath.left, multipath.right)
    assert flow.goodput == at_least(
        1.75 * multipath.link.rate, "two paths carry one connection", theory=2 * multipath.link.mptcp_goodput
    )
    assert flow.nics_used == 2
    require_multipath(flow)


@behaviour("MP-1")
@on(trio())
def test_one_connection_nears_three_links_over_three_paths(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    flow = mptcp(multipath.left, multipath.right)
    assert flow.goodput == at_least(
        2.6 * multipath.link.rate, "three paths carry one connection", theory=3 * multipath.link.mptcp_goodput
    )
    assert flow.nics_used == 3
    require_multipath(flow)


@behaviour("MP-2")
@on(trio())
def test_the_full_mesh_of_three_nics_is_nine_subflows(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    flow = mptcp(multipath.left, multipath.right)
    assert flow.goodput == at_least(
        2.6 * multipath.link.rate, "the mesh carries data on every path", theory=3 * multipath.link.mptcp_goodput
    )
    for end in (multipath.left, multipath.right):
        assert flow.established(end.host) == 9
        assert flow.meshed(end.host, multipath.mesh(end.host)) == 9
    assert flow.nics_used == 3


@behaviour("MP-3")
def test_the_application_is_unchanged_and_names_one_address(multipath: Multipath, copies: FileTransfer) -> None:
    copied = copies(FileProtocol.HTTP, multipath.left, multipath.right, mptcp=True)
    assert copied.goodput == at_least(
        1.5 * multipath.link.rate, "three quarters of two paths", theory=2 * multipath.link.mptcp_goodput
    )
    require_multipath(copied)
    assert copied.nics_used == 2
    assert copied.packaged == 2
    assert copied.mptcp_words == 0
    assert copied.addresses_named == 1


@behaviour("MP-4")
def test_with_multipath_off_on_every_nic_it_is_one_link(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    with multipath.off(multipath.nics):
        flow = mptcp(multipath.left, multipath.right)
        assert flow.goodput == near(multipath.link.mptcp_goodput)
        assert flow.nics_used == 1
        assert flow.established(multipath.left.host) == 1


@behaviour("MP-6")
def test_without_source_rules_the_second_path_joins_and_stays_idle(
    multipath: Multipath, mptcp: TrafficGenerator
) -> None:
    one_path = multipath.link.mptcp_goodput
    with multipath.one_server_address():
        with multipath.without_source_rules():
            flow = mptcp(multipath.left, multipath.right)
            assert flow.goodput == between(
                0.9 * one_path, ONE_PATH_AT_MOST * one_path, "all subflows leave by one NIC", theory=one_path
            )
            assert flow.nics_used == 1
            assert flow.established(multipath.left.host) == 2
            (idle,) = flow.nics.idle(multipath.left.host, "tx")
            whole = sum(flow.nics.carried(multipath.left.host).values())
            assert idle.bytes == at_most(CHATTER * whole, "what hosts say of themselves, and no data")
        flow = mptcp(multipath.left, multipath.right)
        assert flow.goodput == at_least(1.75 * multipath.link.rate, "the rules are back", theory=2 * one_path)
        assert flow.nics_used == 2


@behaviour("MP-7")
def test_all_nics_are_full_at_once_on_both_hosts(multipath: Multipath, mptcp: TrafficGenerator) -> None:
    flow = mptcp(multipath.left, multipath.right)
    assert flow.goodput == at_least(
        1.75 * multipath.link.rate, "two paths carry one connection", theory=2 * multipath.link.mptcp_goodput
    )
    # A frame has left one host's NIC and arrived at the other's where it is counted after its cable.
    crossed = flow.nics.least(multipath.right.host, "rx", multipath.nics)
    assert crossed == near(multipath.link.rate, 0.07, "every cable is full, slice by slice")
    assert flow.nics_used == 2
