"""Numbered traffic between namespaces: what is lost is counted, an outage is as long as it was, a stream is whole."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.model.link import Link
from channover.model.topology import pair
from channover.network.programs import numbered
from channover.scenarios.labs import Multipath, configure
from channover.targets.netns import NetnsTarget

ONE, OTHER = "10.93.93.1", "10.93.93.2"


@pytest.fixture
def made(netns: NetnsTarget) -> Iterator[Multipath]:
    with netns.lab(pair(), Link(), Journal()) as lab:
        yield configure(lab)


def lab_of(made: Multipath) -> Lab:
    return made.lab


def test_nothing_is_lost_where_nothing_happens_and_an_outage_is_as_long_as_it_was(made: Multipath) -> None:
    lab = lab_of(made)
    with numbered.datagrams(lab.left, lab.right, ONE, OTHER, 5900, flows=4, rate=200.0) as flows:
        time.sleep(0.5)
        quiet = flows.end()
    assert [flow.lost for flow in quiet] == [0] * 4
    assert all(90 <= flow.sent <= 400 and flow.outage == 0 and not flow.duplicates for flow in quiet)
    with numbered.datagrams(lab.left, lab.right, ONE, OTHER, 5900, flows=4, rate=200.0) as flows:
        time.sleep(0.3)
        lab.cabling.mute(lab.topology.cables[0])
        begun = time.monotonic()
        time.sleep(0.5)
        lab.cabling.restore(lab.topology.cables[0])
        muted = time.monotonic() - begun
        time.sleep(0.3)
        seen = flows.end()
        slices = flows.slices
    for flow in seen:
        assert flow.outage == pytest.approx(muted, abs=0.1)
        assert flow.lost == pytest.approx(200 * muted, abs=20)
        assert max(period.silent for period in flow.periods) == pytest.approx(muted, abs=0.1)
    assert min(map(sum, slices[1:-1])) == 0


def test_flows_that_end_in_silence_have_their_outage_too(made: Multipath) -> None:
    lab = lab_of(made)
    with numbered.datagrams(lab.left, lab.right, ONE, OTHER, 5900, flows=2, rate=100.0) as flows:
        time.sleep(0.3)
        lab.cabling.mute(lab.topology.cables[0], lab.topology.cables[0].a)
        time.sleep(0.5)
        seen = flows.end()
    assert all(0.4 < flow.outage < 0.9 for flow in seen)


@pytest.mark.parametrize("mptcp", [False, True])
def test_a_stream_is_whole_and_tells_its_gaps(made: Multipath, mptcp: bool) -> None:
    lab = lab_of(made)
    with numbered.stream(lab.left, lab.right, OTHER, 5901, mptcp=mptcp) as one:
        time.sleep(1.5)
        lost = one.now
        for cable in lab.topology.cables:
            lab.cabling.mute(cable)
        time.sleep(0.3)
        for cable in lab.topology.cables:
            lab.cabling.restore(cable)
        time.sleep(1.5)
        seen = one.end()
    assert seen.intact and seen.complete and seen.sent == seen.received > 10_000_000
    assert 0.25 < seen.longest_gap(lost - 0.2) < 1.5
    assert max(seen.rates(0.5, 1.4)) > (1.2e8 if mptcp else 0.8e8)


def test_a_stream_of_a_size_ends_by_itself(made: Multipath) -> None:
    lab = lab_of(made)
    with numbered.stream(lab.left, lab.right, OTHER, 5901, mptcp=True, size=3_000_001) as one:
        assert one.wait(10)
        seen = one.end()
    assert (seen.sent, seen.received, seen.intact) == (3_000_001, 3_000_001, True)
