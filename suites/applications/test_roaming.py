"""Roaming from Wi-Fi to 3G and back while a file comes (article, closing remarks; RFC 6182, 2.1)."""

from __future__ import annotations

import pytest

from channover.testing import Downloads, Multipath, at_least, at_most, behaviour, on, unequal

RETRANSMISSION = 0.2
"""Seconds: TCP's least retransmission timer in Linux (``TCP_RTO_MIN``), of which a lost path costs one to three."""
AWAY = 3.0
"""Seconds for which Wi-Fi is away."""
GAP = 5 * RETRANSMISSION
"""Seconds for which a lost path may stop a download: one to three timers, and what a busy machine adds."""
QUEUE = 0.05
"""Seconds that a frame may have waited for Wi-Fi as it is lost: what was under way so may come by 3G a second time."""
LEFT = 6.0
"""Seconds that Wi-Fi takes at most for what is left as 3G dies. It is given as long again: where Wi-Fi has been lost before,
Linux may send what it gave 3G anew in pieces of 32 kB, one in each time-out."""
ways = pytest.mark.parametrize("silently", [False, True], ids=["carrier", "silent"])


@behaviour("APP-1")
@on(unequal(0.2))
@ways
def test_a_download_outlives_the_path_that_it_comes_by(
    multipath: Multipath, downloads: Downloads, silently: bool
) -> None:
    (wifi, mobile), lab, client = multipath.nics, multipath.lab, multipath.left.host
    fast, slow = multipath.added(wifi), multipath.added(mobile)
    size = (6.0 * fast + 3.0 * slow) / 8
    with multipath.one_subflow_a_path(), downloads(multipath.left, multipath.right, size, mptcp=True) as moving:
        moving.phase("before", 1.5)
        with lab.lost(multipath.cable(wifi), silently=silently):
            moving.phase("fault: Wi-Fi lost", AWAY)
        back = moving.phase_until_carried("recovery", client, wifi, 0.5 * fast, 2 * AWAY + 2.0)
        moving.phase("both again", 0.5)
        with lab.lost(multipath.cable(mobile), silently=silently):
            moving.phase_to_the_end("fault: 3G lost", 2 * LEFT)
    assert moving.whole == 1
    assert moving.goodput("before", after=0.7) == at_least(
        2 * slow, "Wi-Fi is in use: twice what 3G gives", theory=fast + slow
    )
    assert back == at_most(AWAY + 1.0, "as long again as it was away: TCP's timer was wound up")
    assert moving.goodput("fault: Wi-Fi lost", after=1.0) == at_least(
        slow - QUEUE * fast, "3G carries all, and some of it twice", theory=slow
    )
    assert moving.goodput("fault: 3G lost", after=0.5) == at_least(
        0.3 * fast, "Wi-Fi carries all, 3G could not", theory=fast
    )
    assert moving.longest_gap("fault: Wi-Fi lost") == at_most(GAP, "one to three timers")
    assert moving.carried(client, mobile, "fault: Wi-Fi lost") == at_least(
        0.8 * slow / 8, "by 3G, for a second at least"
    )


@behaviour("APP-1")
@on(unequal(0.2))
def test_a_download_by_tcp_stands_still_as_long_as_its_path_is_away(multipath: Multipath, downloads: Downloads) -> None:
    wifi, _ = multipath.nics
    fast, away = multipath.link.tcp_goodput, 4.0
    with downloads(multipath.left, multipath.right, 2.0 * fast / 8, mptcp=False) as moving:
        moving.phase("before", 1.0)
        with multipath.lab.lost(multipath.cable(wifi)):
            moving.phase_to_the_end("fault: Wi-Fi lost", away)
            moving.end()
    assert moving.goodput("before", after=0.3) == at_least(0.9 * fast, "Wi-Fi is in use")
    assert moving.ended == 0
    assert moving.longest_gap("fault: Wi-Fi lost") == at_least(0.9 * away, "nothing comes while Wi-Fi is away")
