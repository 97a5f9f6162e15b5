"""What is said of a cable, of what its two ends saw of each other's frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from channover.model.link import WIRE_OVERHEAD
from channover.model.topology import Cable, Port, gateway, pair
from channover.observe.nics import NicCounters
from channover.observe.proof import schedule as plans
from channover.observe.proof.account import Account, lost
from channover.observe.proof.findings import Finding, Stated, carried, judge
from channover.observe.proof.schedule import EMULATED, ONE_PROCESS, REAL, Span

SIZE = 1514
RATE = 100e6
A, B = pair().cables
SPAN = Span(0.0, 0.25, B.ports, plans.MORE)


def samples(rate: float, sent: float = RATE, pauses: Sequence[tuple[float, float]] = ()) -> list[Sequence[float]]:
    """Counters every 4 ms of a NIC that gets frames at a rate (bit/s), and none in the pauses."""
    found: list[Sequence[float]] = []
    packets = 0.0
    for number in range(63):
        at = number * 0.004
        held = any(start <= at < end for start, end in pauses)
        packets += 0 if held else 0.004 * rate / 8 / (SIZE + WIRE_OVERHEAD)
        moved = int(0.004 * number * sent / 8 / (SIZE + WIRE_OVERHEAD))
        found.append((at, packets * SIZE, packets, moved))
    return found


def end(port: Port, **seen: Any) -> dict[str, Any]:
    """What was seen at a NIC of a sound cable, but for what is given."""
    far = next(one for one in next(c for c in (A, B) if port in c.ports).ports if one != port)
    usual: dict[str, Any] = {
        "host": port.node,
        "nic": port.nic,
        "device": "eth2",
        "mac": f"02:00:00:00:00:0{'lr'.index(port.node[0])}",
        "heard": {f"{far.node} {far.nic}": 100},
        "largest": SIZE,
        "refused": "",
        "duplicates": 0,
        "trip": 0.0001,
        "typical": 0.0001,
        "foreign": {},
        "before": (0, 10, 0, 10),
        "after": (0, 2110, 0, 2110),
        "samples": samples(RATE),
        "loads": [{"sent": 2100, "full": 0.9}],
        "carrier": True,
        "error": "",
    }
    return usual | seen


def found(
    left: Mapping[str, Any], right: Mapping[str, Any], spans: Sequence[Span] = (SPAN,), busy: bool = False
) -> list[str]:
    stated = Stated(pair(), {B: RATE}, SIZE, 0.005, busy)
    ends = [end(Port("left", "b"), **left), end(Port("right", "b"), **right)]
    return [str(one) for one in judge(stated, {(one["host"], one["nic"]): one for one in ends}, {B: spans})]


def test_nothing_speaks_against_a_sound_cable() -> None:
    assert found({}, {}) == []


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ({}, {"samples": samples(90e6)}, "cable b carries 90.0 of 100 Mbit/s, left to right"),
        ({}, {"samples": samples(98.7e6)}, "cable b carries 98.7 of 100 Mbit/s, left to right"),
        ({"samples": samples(105e6)}, {}, "cable b carries 105.0 of 100 Mbit/s, right to left"),
        ({}, {"samples": samples(112e6)}, "cable b carries at least 112.0 of 100 Mbit/s, left to right"),
        ({}, {"after": (0, 2108, 0, 2110)}, "cable b loses 2 of 2,100 frames (0.10%), left to right"),
        ({"trip": 0.1002}, {"trip": 0.1001}, "cable b takes 100 ms there and back while it is idle, of 5 ms at most"),
        (
            {"typical": 0.0052},
            {"typical": 0.0043, "trip": 0.0003},
            "cable b takes between 0.1 and more than 4.3 ms there and back while it is idle, of 5 ms at most",
        ),
        (
            {"refused": "1514 bytes: Message too long"},
            {"largest": 1414},
            "cable b carries no frame of 1514 bytes, left to right: the largest that arrived had 1414 "
            "(left cannot send 1514 bytes: Message too long)",
        ),
        ({"heard": {}}, {}, "cable b carries nothing, right to left"),
        ({"carrier": False}, {"carrier": False}, "cable b has no carrier at left and right"),
        (
            {"after": (0, 2115, 0, 2110), "foreign": {"02:00:00:00:00:09 0x0800": 5, "02:00:00:00:00:01 0x86dd": 1}},
            {},
            "somebody else sends on cable b: left got 5 frames that right did not send, from 02:00:00:00:00:09 (type 0x0800)",
        ),
        (
            {"foreign": {"02:00:00:00:00:99 0x88b6": 40, "02:00:00:00:00:01 0x86dd": 1}},
            {},
            "somebody else sends on cable b: left got 40 frames by right's NIC b that bear no address of right's, from "
            "02:00:00:00:00:99 (type 0x88b6)",
        ),
        (
            {"after": (0, 2231, 0, 2110), "duplicates": 8},
            {},
            "cable b delivers frames twice, right to left: 121 more arrived than the 2,100 that were sent",
        ),
        ({"error": "No such device"}, {}, "left's NIC b (eth2): No such device"),
        (
            {"loads": [{"sent": 1000, "full": 0.0}], "samples": samples(RATE, sent=60e6)},
            {"samples": samples(60e6)},
            "this machine could send 60.0 of 100 Mbit/s, left to right, over cable b",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_figures(left: dict[str, Any], right: dict[str, Any], words: str) -> None:
    assert found(left, right) == [words]


@pytest.mark.parametrize(
    ("factor", "surplus", "twice", "finds"),
    [(plans.MORE, 2, 0, True), (plans.MORE, 0, 1, True), (plans.GENTLE, 2, 0, False), (plans.GENTLE, 0, 1, False)],
)
def test_a_full_queue_does_not_hide_that_frames_come_twice(
    factor: float, surplus: int, twice: int, finds: bool
) -> None:
    spans = [replace(SPAN, factor=factor)]
    said = found({"after": (0, 2110 + surplus, 0, 2110), "duplicates": twice}, {}, spans)
    words = f"cable b delivers frames twice, right to left: {surplus} more arrived than the 2,100 that were sent"
    assert said == ([words] if finds else [])


@pytest.mark.parametrize(("share", "finds"), [(1.0, False), (1.005, False), (0.98, True), (1.02, True)])
def test_a_slow_cable_has_frames_for_so_long_that_one_of_them_tells_nothing(share: float, finds: bool) -> None:
    rate = 1e6
    (span,) = plans.schedule({B: rate}, SIZE, ONE_PROCESS).spans[B]
    each = plans.frames_per_second(rate, SIZE)
    slow = [
        (at, int(share * each * at) * SIZE, int(share * each * at), int(plans.MORE * each * at))
        for at in (number * ONE_PROCESS.tick for number in range(round(span.seconds / ONE_PROCESS.tick)))
    ]
    stated = Stated(pair(), {B: rate}, SIZE, 0.1)
    ends = [end(Port(node, "b"), samples=slow) for node in ("left", "right")]
    said = judge(stated, {(one["host"], one["nic"]): one for one in ends}, {B: (span,)})
    assert bool(said) is finds


def test_a_size_that_does_not_pass_is_all_that_is_said() -> None:
    assert len(found({}, {"largest": 1414, "samples": samples(0.0), "after": (0, 20, 0, 2110)})) == 1


def test_cables_that_are_crossed_are_named_with_where_their_frames_arrive() -> None:
    ends = [end(port) for cable in (A, B) for port in cable.ports]
    for one in ends:
        own, far = one["nic"], "left" if one["host"] == "right" else "right"
        one["heard"] = {f"{far} {'b' if own == 'a' else 'a'}": 20}
    stated = Stated(pair(), {A: RATE, B: RATE}, SIZE, 0.005)
    said = judge(stated, {(one["host"], one["nic"]): one for one in ends}, {A: [SPAN], B: [SPAN]})
    assert str(said[0]) == "cable a: frames of left's NIC a arrive at right's NIC b and not at right's NIC a"
    assert {finding.kind for finding in said} == {"crossed"}


def test_half_duplex_is_what_is_short_at_once_and_not_each_way_alone() -> None:
    alone = [Span(0.25, 0.5, (port,), plans.MORE) for port in B.ports]
    both = samples(50e6)
    later = [(t + 0.252, x + both[-1][1], n + both[-1][2], s) for t, x, n, s in samples(RATE)]
    loads = [{"sent": 1000, "full": 0.9}] * 2
    seen = {"samples": both + later, "loads": loads}
    (words,) = found(seen, seen, [SPAN, *alone])
    assert words == (
        "cable b carries 50.0 of 100 Mbit/s left to right and 50.0 of 100 Mbit/s right to left when both send, and each way "
        "alone its rate: half duplex"
    )


def test_a_pause_of_a_busy_machine_accuses_no_cable_and_that_of_an_idle_one_does() -> None:
    paused = {"samples": samples(RATE, pauses=[(0.1, 0.12)])}
    assert found({}, paused, busy=True) == []
    assert found({}, paused) != []
    assert found({}, {"samples": samples(97e6, pauses=[(0.1, 0.12)])}, busy=True) != []


@pytest.mark.parametrize(("beside", "finds"), [(None, False), (0.0001, True), (0.0004, True), (0.003, False)])
def test_a_busy_machine_excuses_a_round_trip_unless_the_cable_beside_takes_a_part_of_it(
    beside: float | None, finds: bool
) -> None:
    tried = [B] if beside is None else [A, B]
    ends = [end(port, typical=beside if cable == A else 0.0049) for cable in tried for port in cable.ports]
    spans = {cable: (SPAN,) for cable in tried}
    stated = Stated(pair(), dict.fromkeys(tried, RATE), SIZE, 0.005, busy=True)
    said = judge(stated, {(one["host"], one["nic"]): one for one in ends}, spans)
    assert [one.kind for one in said if one.cable == B] == (["delay"] if finds else [])


def test_two_tries_confirm_each_other_only_with_the_same_figure() -> None:
    one, near, far = (Finding(B, "rate", "left to right", "", share) for share in (0.97, 0.973, 0.96))
    assert one.confirms(near)
    assert not one.confirms(far)
    assert not one.confirms(Finding(B, "rate", "right to left", "", 0.97))
    assert Finding(B, "rate", "", "", 1.03).confirms(Finding(B, "rate", "", "", 1.1))


def test_too_few_samples_tell_nothing() -> None:
    assert carried([(0.1, 0, 0, 0), (0.2, 15140, 10, 10)], SPAN) is None


def test_cables_are_proved_side_by_side_as_far_as_the_budget_goes() -> None:
    rates = {cable: RATE for cable in pair().cables}
    planned = plans.schedule(rates, SIZE, ONE_PROCESS)
    assert {(span.start, span.senders) for cable in rates for span in planned.spans[cable]} == {
        (0.0, A.ports),
        (0.0, B.ports),
    }
    assert planned.seconds <= 0.3


def test_a_fast_cable_has_its_ends_send_by_turns_and_when_no_other_does() -> None:
    lab = gateway()
    rates = {cable: RATE * cable.speedup for cable in lab.cables}
    planned = plans.schedule(rates, SIZE, ONE_PROCESS)
    fast: Cable = lab.cables[2]
    one, other = planned.spans[fast]
    assert one.senders == (fast.a,) and other.senders == (fast.b,)
    assert one.end <= other.start
    assert all(span.end <= one.start for cable in lab.cables[:2] for span in planned.spans[cable])


@pytest.mark.parametrize(("arrived", "refused", "told"), [(99_991, 0, []), (99_900, 95, []), (99_900, 40, [60])])
def test_frames_that_a_test_sent_and_a_cable_lost_are_told_without_those_that_its_queue_refused(
    arrived: int, refused: int, told: list[int]
) -> None:
    nothing = {port: NicCounters() for port in B.ports}
    before = Account(nothing, {B.b: 5})
    counted = {
        B.a: NicCounters(rx_packets=500, tx_packets=100_000),
        B.b: NicCounters(rx_packets=arrived, tx_packets=500),
    }
    found = list(lost([B], before, Account(counted, {B.b: 5 + refused})))
    assert [one.frames for one in found] == told
    if found:
        assert (
            found[0].text(pair()) == "cable b lost 60 of the 100,000 frames (0.06%) that the test sent, left to right"
        )


def test_what_emulated_processors_feign_is_not_judged() -> None:
    assert not EMULATED.exact and EMULATED.trip > ONE_PROCESS.trip
    assert REAL.exact and ONE_PROCESS.exact


def test_a_vlan_s_frames_are_counted_without_their_header_and_bear_a_tag_on_the_wire() -> None:
    each = 1542 * 8 / RATE  # seconds of a frame of 1500 bytes, header, tag, and what is around it
    arrived = [(number * 20 * each, number * 20 * 1500, number * 20, 0) for number in range(int(0.25 / each / 20))]
    stated = Stated(pair(), {B: RATE}, SIZE, 0.005, tagged=B.ports)
    assert stated.tag(B) == 4 and stated.tag(A) == 0
    told = carried(arrived, SPAN, 24 + 14 + stated.tag(B))
    assert told is not None and told.mean == pytest.approx(RATE)
