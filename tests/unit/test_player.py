"""How the player reads a playlist of HLS."""

from __future__ import annotations

from channover.network.programs.applications.media import LARGEST, SEGMENT, Media
from channover.network.programs.applications.player_program import playlist

LIVE = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:1
#EXT-X-MEDIA-SEQUENCE:3
#EXTINF:0.500000,
3.ts
#EXTINF:0.500000,
4.ts
"""


def test_a_live_playlist_has_its_first_number_and_goes_on_until_its_end_is_said() -> None:
    assert playlist(LIVE) == (3, [(0.5, "3.ts"), (0.5, "4.ts")], False)
    assert playlist(LIVE + "#EXT-X-ENDLIST\n")[2]
    assert playlist("") == (0, [], False)


def test_a_stream_of_any_rate_fits_into_memory_and_lasts_whole_pictures() -> None:
    usual, fast, slow = (Media(rate) for rate in (1.35e8, 1.35e9, 1.35e6))
    assert usual.segment == slow.segment == SEGMENT and usual.size == 84_375_000
    assert fast.size <= LARGEST and 0.2 < fast.segment < SEGMENT and fast.segment * 24 == fast.pictures


def test_how_often_a_stream_stalls_at_one_link_follows_from_its_rate_alone() -> None:
    for rate in (1e7, 1e8, 1e9):
        media = Media(1.35 * rate)
        computed = media.at(0.9415 * rate)
        assert len(computed.stalls) == 3
        assert media.at(1.8 * rate).stalls == ()
