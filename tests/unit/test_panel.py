"""What a lab's devices are told: receive packet steering, and the bucket of a cable's shaper."""

from __future__ import annotations

from channover.hosts.netns.netlink import bucket
from channover.hosts.netns.steering import mask


def test_a_mask_is_hexadecimal_in_groups_of_32_processors() -> None:
    assert mask({0, 1}) == "3"
    assert mask(range(32)) == "ffffffff"
    assert mask({0, 32, 63}) == "80000001,00000001"
    assert mask({64}) == "1,00000000,00000000"


def test_a_shaper_may_be_as_late_at_any_rate_and_never_overflows_a_backlog() -> None:
    assert [bucket(rate * 10**6) for rate in (10, 100, 250, 1000)] == [16_384, 16_384, 40_960, 163_840]
    assert bucket(10**10) / 1514 < 1000


def test_a_shaper_of_a_slow_cable_lets_no_more_through_at_once_than_it_may_be_late_by_or_two_frames() -> None:
    assert [bucket(rate * 10**6, 1500) for rate in (1, 10, 20, 50, 100)] == [3_076, 3_076, 3_277, 8_192, 16_384]
    assert bucket(10**7, 9000) == 16_384
