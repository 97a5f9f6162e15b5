"""Live streaming and video on demand that need more than one link (article, a reader's question; RFC 8216)."""

from __future__ import annotations

import pytest

from channover.testing import Media, Multipath, Streaming, Tunnels, at_least, at_most, behaviour, between

DELAY = 0.5
"""Seconds for which a receiver of RTP waits for a packet."""
LINKS = 1.35
"""How many links' rate a stream needs: more than one carries, and what two carry with some to spare."""


@behaviour("APP-3")
@pytest.mark.parametrize("live", [False, True], ids=["on-demand", "live"])
def test_a_stream_above_one_links_rate_plays_over_mptcp_and_stalls_without_it(
    multipath: Multipath, streaming: Streaming, live: bool
) -> None:
    left, right = multipath.left, multipath.right
    media = Media(LINKS * multipath.link.rate)
    computed = media.at(multipath.link.tcp_goodput)
    over_mptcp = streaming.play(left, right, media, mptcp=True, live=live)
    over_tcp = streaming.play(left, right, media, mptcp=False, live=live)
    streaming.show(over_mptcp, over_tcp)
    assert over_mptcp.segments >= media.number
    assert over_mptcp.stalls == 0
    assert over_mptcp.start == at_most(computed.start, "sooner than one link can")
    for nic in multipath.nics:
        least = 0.25 * media.size
        assert over_mptcp.moving.carried(left.host, nic, "playing") == at_least(least, "both paths carry the stream")
    stalls = len(computed.stalls)
    assert over_tcp.stalls == between(stalls, stalls + 1, f"at one link {media.number} segments stall so often")
    assert over_tcp.stalled == between(0.8 * computed.stalled, 1.5 * computed.stalled, "what one link is too slow by")


@behaviour("APP-3")
def test_the_same_stream_by_rtp_crosses_the_tunnel_over_mptcp_and_is_late_over_one_link(
    multipath: Multipath, tunnels: Tunnels, streaming: Streaming
) -> None:
    media = Media(LINKS * multipath.link.rate, 6)
    with tunnels.openvpn() as tunnel:
        over_mptcp = streaming.send(tunnel, media, mptcp=True)
        assert over_mptcp.lost == at_most(0.001, "two links carry it")
        assert over_mptcp.late == at_most(0.05, "the whole stream, in time")
    one_link = multipath.link.tcp_goodput * (media.seconds + DELAY) / (media.rtp_rate * media.seconds)
    with tunnels.openvpn(mptcp=False) as tunnel:
        over_tcp = streaming.send(tunnel, media, mptcp=False)
        late = 1 - one_link
        assert over_tcp.late == between(0.8 * late, 1.6 * late, "what one link cannot carry in time")
