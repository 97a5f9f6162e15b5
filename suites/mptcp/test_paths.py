"""Paths of a Multipath TCP connection that are lost, come back, or wait as a backup (article, stage 2; RFC 8684, 3.3.8)."""

from __future__ import annotations

import pytest

from channover.testing import Multipath, NumberedTraffic, at_least, at_most, behaviour, near

RETRANSMISSION = 0.2
"""Seconds: TCP's least retransmission timer in Linux (``TCP_RTO_MIN``), of which a lost path costs one to three."""
ways = pytest.mark.parametrize("silently", [False, True], ids=["carrier", "silent"])


@behaviour("MP-5")
@ways
def test_a_backup_path_carries_nothing_until_the_other_fails(
    multipath: Multipath, numbered: NumberedTraffic, silently: bool
) -> None:
    one_path, client = multipath.link.mptcp_goodput, multipath.left.host
    used, backup = multipath.nics
    with (
        multipath.one_subflow_a_path(backup=[backup]),
        numbered.stream(multipath.left, multipath.right, mptcp=True) as moving,
    ):
        moving.phase("before", 2.0)
        with multipath.lab.lost(multipath.cable(used), silently=silently):
            moving.phase("fault: path lost", 3.5)
        moving.phase_until_carried("recovery", client, used, 0.5 * one_path, 7.0)
        moving.phase("ramp", 1.0)
        moving.phase("back", 1.5)
    assert moving.whole == 1
    assert moving.goodput("before", after=0.5) == near(one_path, 0.05, "one path, the backup is none")
    assert moving.carried(client, backup, "before") == at_most(
        0.01 * moving.moved(client, used, "before").total_bytes, "a join, and now and then a segment sent again"
    )
    assert moving.goodput("fault: path lost", after=2.0) == at_least(0.9 * one_path, "the backup carries all")
    assert moving.longest_gap("fault: path lost") == at_most(10 * RETRANSMISSION, "within 2 s")
    assert moving.goodput("back") == near(one_path, 0.05, "one path again")
    assert moving.carried(client, backup, "back") == at_most(
        0.01 * moving.moved(client, used, "back").total_bytes, "the path that was lost carries all again"
    )


@behaviour("MP-5")
def test_a_backup_path_that_is_made_a_path_like_any_other_carries_at_once(
    multipath: Multipath, numbered: NumberedTraffic
) -> None:
    one_path = multipath.link.mptcp_goodput
    _, backup = multipath.nics
    with (
        multipath.one_subflow_a_path(backup=[backup]),
        numbered.stream(multipath.left, multipath.right, mptcp=True) as moving,
    ):
        moving.phase("backup", 1.5)
        with multipath.no_backup(backup):
            moving.phase("no backup", 2.5)
        moving.phase("backup again", 2.5)
    assert moving.whole == 1
    assert moving.goodput("backup", after=0.5) == near(one_path, 0.05, "one path")
    assert moving.goodput("no backup", after=1.0) == at_least(
        1.75 * multipath.link.rate, "two paths", theory=2 * one_path
    )
    assert moving.goodput("backup again", after=1.0) == near(one_path, 0.05, "one path again")


@behaviour("MP-5")
def test_a_path_whose_address_is_removed_leaves_the_rest_to_the_backup(
    multipath: Multipath, numbered: NumberedTraffic
) -> None:
    one_path, client = multipath.link.mptcp_goodput, multipath.left.host
    used, backup = multipath.nics
    with (
        multipath.one_subflow_a_path(backup=[backup]),
        numbered.stream(multipath.left, multipath.right, mptcp=True) as moving,
    ):
        moving.phase("before", 1.5)
        with multipath.address_removed(used):
            moving.phase("address removed", 2.5)
    assert moving.whole == 1
    assert moving.goodput("before", after=0.5) == near(one_path, 0.05, "one path, the backup is none")
    assert moving.goodput("address removed", after=1.0) == at_least(0.9 * one_path, "the backup carries all")
    assert moving.longest_gap("address removed") == at_most(10 * RETRANSMISSION, "within 2 s")
    assert moving.carried(client, used, "address removed") == at_most(
        0.1 * moving.moved(client, backup, "address removed").total_bytes, "what was under way"
    )


@behaviour("MP-9")
@ways
def test_a_path_lost_in_mid_transfer_is_done_without_and_used_again(
    multipath: Multipath, numbered: NumberedTraffic, silently: bool
) -> None:
    one_path, both = multipath.link.mptcp_goodput, 1.75 * multipath.link.rate
    lost = multipath.nics[0]
    with (
        multipath.one_subflow_a_path(),
        numbered.stream(multipath.left, multipath.right, mptcp=True) as moving,
    ):
        moving.phase("before", 2.0)
        with multipath.lab.lost(multipath.cable(lost), silently=silently):
            moving.phase("fault: path lost", 2.5)
        # As long again as the outage, and a second, at most: its timer was wound up.
        moving.phase_until_carried("recovery", multipath.left.host, lost, 0.5 * one_path, 5.0)
        moving.phase("ramp", 1.0)
        moving.phase("after", 2.0)
    assert moving.whole == 1
    assert moving.goodput("before", after=1.0) == at_least(both, "two paths", theory=2 * one_path)
    assert moving.goodput("fault: path lost", after=1.0) == at_least(0.9 * one_path, "the other path carries all")
    assert moving.longest_gap("fault: path lost") == at_most(5 * RETRANSMISSION, "one to three timers")
    assert moving.goodput("after") == at_least(both, "two paths again", theory=2 * one_path)
