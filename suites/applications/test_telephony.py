"""Telephone calls by SIP through the loss of a path (article, closing remarks: promised as the next experiment; RFC 3261)."""

from __future__ import annotations

import pytest

from channover.testing import Multipath, Telephony, at_least, at_most, behaviour

RATE, LENGTH, CALLS = 20, 1.0, 60
"""Calls a second, the seconds of each, and how many."""
BEFORE = 1.5
"""Seconds of calls before the path dies, of the three in which they are placed."""
ways = pytest.mark.parametrize(
    ("tls", "silently"),
    [(False, False), (False, True), (True, False)],
    ids=["TCP-carrier", "TCP-silent", "TLS-carrier"],
)


@behaviour("APP-2")
@ways
def test_calls_are_kept_and_placed_while_a_path_dies(
    multipath: Multipath, calls: Telephony, tls: bool, silently: bool
) -> None:
    left, right = multipath.left, multipath.right
    dying, other = multipath.nics
    placing = calls(left, right, CALLS, rate=RATE, length=LENGTH, mptcp=True, tls=tls)
    with multipath.one_subflow_a_path(), placing as calling:
        calling.moving.phase("before", BEFORE)
        with multipath.lab.lost(multipath.cable(dying), silently=silently):
            calling.moving.phase_to_the_end("fault: path lost", 10.0)
            calling.moving.end()
    assert calling.placed == CALLS
    assert calling.kept == CALLS
    after = (CALLS - RATE * BEFORE) * 2000
    assert calling.moving.carried(left.host, other, "fault: path lost") == at_least(
        after, "the calls of after the loss"
    )
    if tls:
        assert calling.sessions >= 1


@behaviour("APP-2")
@pytest.mark.parametrize("tls", [False, True], ids=["TCP", "TLS"])
def test_without_mptcp_most_calls_are_lost_with_their_path(multipath: Multipath, calls: Telephony, tls: bool) -> None:
    dying, _ = multipath.nics
    with calls(multipath.left, multipath.right, CALLS, rate=RATE, length=LENGTH, mptcp=False, tls=tls) as calling:
        calling.moving.phase("before", BEFORE)
        with multipath.lab.lost(multipath.cable(dying)):
            calling.moving.phase_to_the_end("fault: path lost", 4.0)
            calling.moving.end()
    assert calling.kept == at_most(RATE * BEFORE, "those that can have ended before the path died")
