"""Arithmetic of Ethernet framing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channover.errors import UsageError
from channover.model.link import Link, parse_mtu, parse_rate

RATES = st.integers(10**6, 10**11)
MTUS = st.integers(576, 9216)


def test_the_article_s_link() -> None:
    link = Link()
    assert link.tcp_goodput == pytest.approx(94.15e6, rel=1e-4)
    assert link.udp_goodput() == pytest.approx(95.70e6, rel=1e-4)
    assert link.mptcp_goodput == pytest.approx(92.59e6, rel=1e-4)
    assert link.datagram == 1470
    assert link.udp_goodput(1470) == 100e6 * 1470 / 1536


@given(RATES, MTUS)
def test_goodput_stays_below_the_rate(rate: int, mtu: int) -> None:
    link = Link(rate, mtu)
    assert 0 < link.mptcp_goodput < link.tcp_goodput < link.udp_goodput(mtu - 28) < rate


@given(RATES, RATES, MTUS)
def test_goodput_is_proportional_to_the_rate(one: int, other: int, mtu: int) -> None:
    assert Link(one, mtu).tcp_goodput / one == pytest.approx(Link(other, mtu).tcp_goodput / other)


@given(RATES, MTUS, st.integers(1, 4000))
def test_larger_packets_carry_more(rate: int, mtu: int, more: int) -> None:
    small, large = Link(rate, mtu), Link(rate, mtu + more)
    assert small.tcp_goodput < large.tcp_goodput
    assert small.mptcp_goodput < large.mptcp_goodput


@given(RATES, MTUS, st.data())
def test_larger_datagrams_carry_more_until_they_do_not_fit(rate: int, mtu: int, data: st.DataObject) -> None:
    link = Link(rate, mtu)
    payload = data.draw(st.integers(1, mtu - 29))
    assert link.udp_goodput(payload) < link.udp_goodput(payload + 1)
    with pytest.raises(ValueError, match=f"above the MTU of {mtu}$"):
        link.udp_goodput(mtu - 27)


@given(RATES, MTUS)
def test_what_counters_show_of_a_full_link_is_its_rate(rate: int, mtu: int) -> None:
    link = Link(rate, mtu)
    counted = rate * (mtu + 14) / (mtu + 38)
    assert link.counted(counted) == pytest.approx(rate)


def test_jumbo_frames_cost_less_framing() -> None:
    jumbo = Link(10**9, 9000)
    assert jumbo.datagram == 8970
    assert jumbo.tcp_goodput == 10**9 * 8948 / 9038
    assert jumbo.mptcp_goodput == 10**9 * 8924 / 9038
    assert jumbo.udp_goodput() == 10**9 * 8970 / 9036
    assert Link(10**9, 9000, ipv6=True).tcp_goodput == 10**9 * 8928 / 9038


@pytest.mark.parametrize("text", ["1279", "16001", "", "9e3", "9000 ", "-9000"])
def test_what_is_no_mtu_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no MTU that a lab can have: write bytes, from 1280 to 16000"):
        parse_mtu(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100mbit", 100_000_000),
        ("1gbit", 10**9),
        ("2.5gbit", 2_500_000_000),
        ("2.5Gbit", 2_500_000_000),
        (" 10 mbit ", 10_000_000),
        ("1000000", 10**6),
        ("1500kbit", 1_500_000),
        ("1000000bit", 10**6),
        ("25gbit", 25 * 10**9),
        ("40gbit", 40 * 10**9),
        ("100gbit", 10**11),
        ("200gbit", 2 * 10**11),
        ("400gbit", 4 * 10**11),
        ("800Gbit", 8 * 10**11),
    ],
)
def test_rates_are_written_as_tc_writes_them(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "fast", "100", "0", "-1mbit", "100mbps", "1e9", "nan", "inf", "801gbit", "999kbit", "1tbit", "1 0mbit"]
)
def test_what_is_no_rate_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=f"^'{text}' is not a rate") as raised:
        parse_rate(text)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=12))
def test_any_text_is_a_rate_or_refused(text: str) -> None:
    try:
        rate = parse_rate(text)
    except UsageError:
        return
    assert 10**6 <= rate <= 8 * 10**11


@given(RATES)
def test_a_rate_comes_back(rate: int) -> None:
    assert parse_rate(str(rate)) == parse_rate(f"{rate}bit") == rate


def test_a_tunnel_takes_its_framing_and_its_inner_headers_of_what_its_carrier_gets() -> None:
    link = Link()
    assert link.tunnelled_tcp_goodput(2) == pytest.approx(2 * 100e6 * 1424 / 1538 * 1448 / 1502)


def test_a_packet_of_ipv6_has_twenty_bytes_less_of_data() -> None:
    four, six = Link(), Link(ipv6=True)
    assert (six.tcp_goodput / six.rate, six.mptcp_goodput / six.rate) == (1428 / 1538, 1404 / 1538)
    assert four.mptcp_goodput / four.rate == 1424 / 1538
    assert six.datagram == 1450
    assert six.udp_goodput() / six.rate == pytest.approx(1450 / 1536)
