"""What NICs carried, from series of their counters: full at once or in turns, and beside another flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from channover.hosts.host import Nic
from channover.measure.nic_usage import NicUse
from channover.model.link import Link
from channover.network.programs.provenance import Program
from channover.observe.nics import NicCounters, NicSeries
from channover.verdict.expectation import near
from channover.verdict.measured import count

FULL = int(Link().rate / 8 * 1514 / 1538 / 10)
"""Bytes of a slice in which a NIC of 100 Mbit/s is full, as counters show them."""


class Named:
    """A host's name and NICs."""

    def __init__(self, name: str, nics: str) -> None:
        self.name = name
        self.nics = {nic: Nic(nic, f"eth{nic}") for nic in nics}

    def nic(self, label: str) -> Nic:
        return self.nics[label]


def use(host: Named, moved: Mapping[str, Sequence[tuple[int, int]]], **options: Any) -> NicUse:
    """NICs by label with the bytes that they received and sent in each slice."""
    samples = {}
    for label, slices in moved.items():
        found = [NicCounters()]
        for rx, tx in slices:
            last = found[-1]
            found.append(NicCounters(rx_bytes=last.rx_bytes + rx, tx_bytes=last.tx_bytes + tx))
        samples[f"eth{label}"] = tuple(found)
    times = tuple(at / 10 for at in range(len(found)))
    ends: Any = [host]
    series = {host.name: NicSeries(host.name, times, samples)}
    return NicUse(series, ends, Link(), lambda *words: count(words[0], words[1], lambda _: None, words[2]), **options)


def test_nics_that_are_full_at_once_have_a_full_lesser_one() -> None:
    found = use(Named("right", "ab"), {"a": [(FULL, 0)] * 20, "b": [(0, 0), *[(FULL, 0)] * 19]})
    least = found.least(found.ends[0], "rx", ["a", "b"])
    assert least == near(Link().rate, 0.001)


def test_nics_that_are_full_in_turns_have_full_medians_and_an_empty_lesser_one() -> None:
    """Each of three is full two thirds of the time."""
    turns = {nic: [(0 if at % 3 == number else FULL, 0) for at in range(30)] for number, nic in enumerate("abc")}
    found = use(Named("right", "abc"), turns)
    (host,) = found.ends
    assert sorted(found.series["right"].rate("etha", "rx"))[15] == pytest.approx(FULL * 80)
    assert found.least(host, "rx", ["a", "b", "c"]) == 0


def test_a_frame_that_is_dropped_on_its_way_does_not_count_where_it_would_arrive() -> None:
    found = use(Named("left", "ab"), {"a": [(FULL, FULL)] * 9, "b": [(FULL // 2, FULL)] * 9})
    (host,) = found.ends
    assert found.least(host, "tx", ["a", "b"]) == near(Link().rate, 0.001)
    assert found.least(host, "rx", ["a", "b"]) == near(Link().rate / 2, 0.001)


def test_a_nic_s_share_is_of_what_all_carried_that_way() -> None:
    found = use(Named("right", "ab"), {"a": [(0, 7), (900, 5)], "b": [(50, 0), (100, 95)]})
    (host,) = found.ends
    assert found.share(host, "b", "rx") == near(0.1)
    assert found.share(host, "b", "tx") == near(0.95)


def test_what_runs_the_other_way_at_once_uses_no_nic_of_the_flow_and_is_told() -> None:
    """The flow leaves by a; b receives another, whose acknowledgements are 3 % of what a sends."""
    moved = {"a": [(FULL // 33, FULL)] * 9, "b": [(FULL, FULL // 33)] * 9}
    host = Named("left", "ab")
    both, alone = use(host, moved, ways={"left": ["tx"]}, beside=["tcp right→left"]), use(host, moved)
    ends: Any = host
    assert both.used(ends) == ["a"]
    assert alone.used(ends) == ["a", "b"]
    value = both.trunk_count(ends, ["a", "b"])
    assert value == 1
    assert value.name == "links used at left (2 at once)"


@pytest.mark.parametrize(
    ("words", "settings", "about", "addresses"),
    [
        (("-q", "http://10.93.93.2:8080/copy.bin"), "listen 0.0.0.0:8080;", [], ["10.93.93.2"]),
        (("--mptcp", "http://10.93.93.2/"), "", ["--mptcp"], ["10.93.93.2"]),
        (("http://10.93.93.2/", "--interface", "10.94.94.1"), "", [], ["10.93.93.2", "10.94.94.1"]),
        (("-c", "x.conf"), "listen 8080 multipath;\n# MPTCP", ["multipath;", "MPTCP"], []),
    ],
)
def test_what_a_program_is_told_of_mptcp_and_of_addresses(
    words: tuple[str, ...], settings: str, about: list[str], addresses: list[str]
) -> None:
    host: Any = None
    program = Program(host, "/usr/bin/curl", words, settings)
    assert program.about_mptcp == about
    assert program.addresses == addresses
