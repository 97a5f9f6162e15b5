"""The model of a player's buffer: when a stream starts, where it stalls and for how long, and what the buffer holds."""

from __future__ import annotations

import math

import pytest

from channover.network.programs.applications.playback import PICTURE, evenly, played


def test_what_comes_in_time_plays_without_a_stall_from_the_third_segment_on() -> None:
    seen = evenly(10, 0.5, 0.4)
    assert seen.start == pytest.approx(1.2) and not seen.stalls and seen.stalled == 0
    assert seen.buffer[0] == (0, 0) and seen.buffer[-1] == pytest.approx((1.2 + 5.0, 0))
    assert max(level for _, level in seen.buffer) == pytest.approx(5.0 - (4.0 - 1.2)), (
        "all is there, so much has played"
    )


def test_what_comes_too_slowly_stalls_once_a_segment_when_the_buffer_is_dry() -> None:
    seen = evenly(10, 1.0, 1.434)
    # after three segments at 4.302 s, segment n is due at 4.302 + n - 1 and comes at 1.434 n: the eighth is the first late one
    assert len(seen.stalls) == 3
    assert seen.stalls[0].at == pytest.approx(3 * 1.434 + 7)
    assert seen.stalls[1].seconds == pytest.approx(0.434)
    assert seen.stalled == pytest.approx(7 * 1.434 - 9)


def test_a_gap_in_the_middle_is_one_stall_and_the_buffer_is_empty_in_it() -> None:
    seen = played([0.1, 0.2, 0.3, 5.0, 5.1], [1.0] * 5)
    assert [(one.at, one.seconds) for one in seen.stalls] == [pytest.approx((3.3, 1.7))]
    at = [point[0] for point in seen.buffer if point[1] == 0.0]
    assert at[-3:] == pytest.approx([3.3, 5.0, 7.0]) and (5.0, 1.0) in seen.buffer
    assert all(level >= 0 for _, level in seen.buffer)
    assert [at for at, _ in seen.buffer] == sorted(at for at, _ in seen.buffer)


def test_less_than_a_picture_late_is_no_stall() -> None:
    late = 3.3 + PICTURE * 0.9
    assert played([0.1, 0.2, 0.3, late], [1.0] * 4).stalls == ()
    assert len(played([0.1, 0.2, 0.3, late + PICTURE], [1.0] * 4).stalls) == 1


def test_what_never_fills_the_buffer_never_starts() -> None:
    assert math.isinf(played([0.1, 0.2], [1.0, 1.0]).start)
