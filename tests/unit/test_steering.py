"""Receive packet steering: a set of processors as the kernel reads it."""

from __future__ import annotations

from channover.hosts.netns.steering import mask


def test_a_mask_is_hexadecimal_in_groups_of_32_processors() -> None:
    assert mask({0, 1}) == "3"
    assert mask(range(32)) == "ffffffff"
    assert mask({0, 32, 63}) == "80000001,00000001"
    assert mask({64}) == "1,00000000,00000000"
