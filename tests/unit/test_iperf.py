"""What iperf3 3.12 printed, turned into values."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iperf3 import TestResult as Witness  # pytest would collect it by its own name

from channover.measure.flow import Flow
from channover.measure.measurement import Measuring
from channover.measure.running.programs import Programs
from channover.measure.running.slices import Slices
from channover.measure.running.together import FlowRun
from channover.measure.running.watch import HostsWatch, ProcessorWatch
from channover.model.link import Link
from channover.model.processors import Core, Processors
from channover.network.programs.iperf import Load, Transfer, Transport
from channover.network.programs.iperf_output import SLICE, Slice, even_rates, parse_slices, read_report
from tests.support.iperf_output import Ended, told


def summary(line: str) -> float:
    """The rate (bit/s) in a line of iperf3's."""
    return float(line.split(" Kbits/sec")[0].split()[-1]) * 1e3


def test_a_tcp_server_s_slices() -> None:
    slices = parse_slices(told("server-tcp.txt"))
    assert (slices[0].start, slices[0].end, slices[0].rate) == (0.0, 0.1, 95_131_000)
    assert [round(one.start, 2) for one in slices[:10]] == [round(0.1 * at, 2) for at in range(10)]
    assert all(one.lost == one.total == 0 and one.jitter == 0 for one in slices)
    assert all(93e6 < one.rate < 96e6 for one in slices[:10])


def test_a_udp_server_s_slices_count_datagrams() -> None:
    first = parse_slices(told("server-udp.txt"))[0]
    assert (first.rate, first.lost, first.total, first.jitter) == (95_916_000, 0, 816, 31e-6)


@pytest.mark.parametrize(("name", "streams"), [("tcp-3", 3), ("udp-2", 2)])
def test_of_several_streams_the_sum_is_taken(name: str, streams: int) -> None:
    text = told(f"server-{name}.txt")
    slices = parse_slices(text, streams)
    each = [line for line in text.splitlines() if " sec " in line and "SUM" not in line and "receiver" not in line]
    assert len(each) >= streams * len(slices)
    assert slices[0].rate == pytest.approx(sum(summary(line) for line in each[:streams]), rel=1e-3)
    starts = [one.start for one in slices]
    assert starts == sorted(set(starts))


@pytest.mark.parametrize(
    ("name", "streams"), [("tcp", 1), ("udp", 1), ("tcp-3", 3), ("udp-2", 2), ("tcp-interrupted", 1)]
)
def test_the_summary_and_a_repeated_last_slice_are_no_slices(name: str, streams: int) -> None:
    slices = parse_slices(told(f"server-{name}.txt"), streams)
    assert len(slices) >= 10
    assert all(one.end - one.start < 0.2 for one in slices)
    assert all(one.end <= other.start + 1e-9 for one, other in pairwise(slices))


@pytest.mark.parametrize(("name", "streams"), [("tcp", 1), ("udp", 1), ("tcp-3", 3), ("udp-2", 2)])
def test_slices_add_up_to_the_receiver_s_own_summary(name: str, streams: int) -> None:
    text = told(f"server-{name}.txt")
    slices = parse_slices(text, streams)
    (line,) = [line for line in text.splitlines() if line.endswith("receiver") and (streams == 1 or "SUM" in line)]
    bits = sum(one.rate * (one.end - one.start) for one in slices)
    seconds = slices[-1].end - slices[0].start
    assert bits / seconds == pytest.approx(summary(line), rel=0.02)


@pytest.mark.parametrize(("name", "streams"), [("tcp", 1), ("udp", 1), ("tcp-3", 3), ("udp-2", 2)])
def test_slices_agree_with_what_another_reader_finds_in_the_client_s_report(name: str, streams: int) -> None:
    """The server's lines, read here, and the client's JSON, read by the module iperf3, tell of one transfer."""
    slices, witness = parse_slices(told(f"server-{name}.txt"), streams), Witness(told(f"client-{name}.json"))
    assert witness.error is None and witness.num_streams == streams
    moved = sum(one.moved for one in slices)
    if witness.protocol == "TCP":
        assert moved == pytest.approx(witness.received_bytes, rel=0.01)
    else:
        assert sum(one.total for one in slices) == pytest.approx(witness.packets, abs=1)  # one may be still on its way
        assert sum(one.lost for one in slices) == witness.lost_packets
        assert moved == pytest.approx(witness.bytes, rel=0.01)


@pytest.mark.parametrize("name", ["tcp", "udp-2", "tcp-interrupted", "refused"])
def test_a_client_s_report_says_to_another_reader_what_it_says_here(name: str) -> None:
    text = told(f"client-{name}.json")
    report, words = read_report("warning: {odd}\n" + text + WORDS)
    witness = Witness(text)
    assert report is not None and report == witness.json and report.get("error") == witness.error
    assert words == " ".join(("warning: {odd} " + WORDS).split())


def test_a_receiver_that_had_to_wait_is_not_read_above_the_wire() -> None:
    """As iperf3 prints it where its process was stopped for a second of a flow of 10 Mbit/s."""
    lines = [(at / 10, (at + 1) / 10, "122 KBytes", 10000) for at in range(20)]
    lines += [(2.0, 3.05, "48.0 KBytes", 375), (3.05, 3.1, "1.27 MBytes", 205888)]
    lines += [(at / 10, (at + 1) / 10, "122 KBytes", 10000) for at in range(31, 40)]
    text = "".join(
        f"[  5]   {start:.2f}-{end:.2f}   sec  {moved}  {rate} Kbits/sec                  \n"
        for start, end, moved, rate in lines
    )
    slices = parse_slices(text)
    rates = even_rates(slices)
    assert fmean(one.rate for one in slices) > 15e6
    assert len(rates) == 40
    assert fmean(rates) == pytest.approx(10e6, rel=0.01)
    assert rates[:20] == pytest.approx([10e6] * 20, rel=0.01)
    assert rates[20:30] == pytest.approx([0.375e6] * 10, rel=0.01)
    for number in range(1, len(slices)):  # what is there of a series does not change when more of it comes
        part = even_rates(slices[:number])
        assert part == pytest.approx(rates[: len(part)], rel=0.01)


@pytest.mark.parametrize(("name", "streams"), [("tcp", 1), ("udp", 1), ("tcp-3", 3), ("udp-2", 2)])
def test_slices_of_one_length_are_taken_as_they_are(name: str, streams: int) -> None:
    slices = parse_slices(told(f"server-{name}.txt"), streams)[:10]  # the last one is what was left
    assert even_rates(slices) == [one.rate for one in slices]
    assert fmean(one.moved * 8 / (one.end - one.start) for one in slices) == pytest.approx(
        fmean(one.rate for one in slices), rel=0.02
    )


@given(st.lists(st.tuples(st.floats(0, 0.7), st.floats(0, 1e6)), max_size=40))
def test_no_byte_is_lost_or_won_where_slices_are_cut_anew(given_: list[tuple[float, float]]) -> None:
    slices: list[Slice] = []
    for length, moved in given_:
        start = slices[-1].end if slices else 0.0
        end = round(start + length, 2)
        slices.append(Slice(start, end, 8 * moved / max(end - start, 0.01), moved))
    if all(SLICE / 2 < one.end - one.start < SLICE * 2 for one in slices):
        return
    rates = even_rates(slices)
    total = sum(rates) * SLICE / 8
    assert total <= sum(one.moved for one in slices) * (1 + 1e-9) + 1e-6
    tail = sum(one.moved for one in slices if one.end > len(rates) * SLICE - 1e-9)
    assert total >= sum(one.moved for one in slices) - tail - 1e-3


def test_datagrams_lost_out_of_order_and_negative() -> None:
    """Lines as iperf3 prints them: datagrams that came late are counted back, so that a slice's loss may be negative."""
    head = "[  5]   1.00-1.10   sec   1.14 MBytes  95916 Kbits/sec  0.031 ms  "
    found = [parse_slices(head + tail)[0] for tail in ("8/816 (0.98%)  ", "-3/816 (-0.37%)  ", "0/0 (0%)  ")]
    assert [(one.lost, one.total) for one in found] == [(8, 816), (-3, 816), (0, 0)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Server listening on 5201 (test #1)",
        "[ ID] Interval           Transfer     Bitrate",
        "[  5] local 10.93.93.2 port 5201 connected to 10.93.93.1 port 44758",
        "[  5]   0.00-1.01   sec  11.3 MBytes  94238 Kbits/sec                  receiver",
        "[  5]   0.00-1.01   sec  11.3 MBytes  94238 Kbits/sec    0             sender",
        "iperf3: interrupt - the server has terminated",
        "[  5]   0.00-0.10   sec  1.13 MB",
    ],
)
def test_other_lines_are_no_slices(line: str) -> None:
    assert parse_slices(line) == []


@given(st.integers(0, 2000))
def test_a_line_that_is_not_complete_yet_changes_nothing_before_it(cut: int) -> None:
    text = told("server-udp.txt")
    whole, part = parse_slices(text), parse_slices(text[:cut])
    complete = parse_slices(text[:cut].rpartition("\n")[0])
    assert part[: len(complete)] == complete == whole[: len(complete)]


@given(st.text(max_size=200))
def test_any_text_has_slices_or_none(text: str) -> None:
    assert isinstance(parse_slices(text), list)


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (Load(Transport.TCP, "10.0.0.2"), "-c 10.0.0.2 -p 5201 -t 10 -P 1 -l 16K"),
        (Load(Transport.TCP, "10.0.0.2", offered=5e6), "-c 10.0.0.2 -p 5201 -t 10 -P 1 -l 16K -b 5000000"),
        (
            Load(Transport.UDP, "10.0.0.2", "10.0.0.1", streams=2, offered=1e9, payload=1390, limit=3, port=5202),
            "-c 10.0.0.2 -p 5202 -t 3 -P 2 -B 10.0.0.1 -u -l 1390 -b 1000000000",
        ),
        (Load(Transport.MPTCP, "10.0.0.2"), "-c 10.0.0.2 -p 5201 -t 10 -P 1 -l 16K"),
        (
            Load(Transport.TCP, "10.0.0.2", "10.0.0.1", streams=2, first_port=20000),
            "-c 10.0.0.2 -p 5201 -t 10 -P 2 -B 10.0.0.1 --cport 20000 -l 16K",
        ),
    ],
)
def test_the_client_s_options(load: Load, words: str) -> None:
    assert " ".join(load.options) == words


@pytest.mark.parametrize("name", ["tcp", "udp", "tcp-3", "udp-2"])
def test_a_client_s_report_is_json_without_an_error(name: str) -> None:
    report = json.loads(told(f"client-{name}.json"))
    assert "error" not in report
    assert report["start"]["version"] == "iperf 3.12"


WORDS = "iperf3: error - unable to send control message: Bad file descriptor\n"


def test_what_several_transfers_lost_is_a_share_of_what_all_sent() -> None:
    """One sent a hundred datagrams and lost ten, the other sent nine hundred: 1 %, and not 10 %."""
    slice_ = "[  5]   0.00-0.10   sec  1 MBytes  90000 Kbits/sec  0.031 ms  {}/{} (1%)  \n"
    host: Any = None
    load = Load(Transport.UDP, "10.0.0.2")
    transfers = [
        Transfer(load, host, host, Ended(slice_.format(lost, sent)), Ended("{}"))
        for lost, sent in ((10, 100), (0, 900))
    ]
    run = FlowRun("two", Programs(Transport.UDP, Measuring(Link(), duration=None, limit=3.0), transfers))
    run.measurement.is_open = False
    flow = Flow(run)
    assert flow.lost == 0.01
    transfers[0].server.stdout, transfers[1].server.stdout = slice_.format(0, 0), slice_.format(0, 0)  # type: ignore[misc]
    for transfer in transfers:
        transfer._read = 0
        transfer._slices = []
    assert flow.lost == 1.0, "nothing arrived: nothing is known to have been sent"


@pytest.mark.parametrize(("name", "streams"), [("tcp", 1), ("tcp-3", 3), ("udp-2", 2)])
@pytest.mark.parametrize("step", [1, 100, 999])
def test_what_comes_bit_by_bit_is_read_as_if_it_had_come_at_once(name: str, streams: int, step: int) -> None:
    text, server = told(f"server-{name}.txt"), Ended("")
    host: Any = None
    transfer = Transfer(Load(Transport.TCP, "10.0.0.2", streams=streams), host, host, server, Ended(""))
    for end in range(0, len(text), step):
        server.stdout = text[:end]
        transfer.slices()
    server.stdout = text
    assert transfer.slices() == parse_slices(text, streams)


def test_transfers_that_began_one_after_the_other_are_summed_from_where_all_had_begun() -> None:
    """The first has the link for itself for three slices, then they share it: the link's rate, and never more."""
    slice_ = "[  5]   {:.2f}-{:.2f}   sec  1 MBytes  {} Kbits/sec\n"
    lines = [slice_.format(at / 10, (at + 1) / 10, 90000 if at < 3 else 45000) for at in range(6)]
    later = [slice_.format(at / 10, (at + 1) / 10, 45000) for at in range(3)]
    servers = [Ended(""), Ended("")]
    load = Load(Transport.TCP, "10.0.0.2")
    host: Any = None
    transfers = [Transfer(load, host, host, server, Ended("{}")) for server in servers]
    slices = Slices(Programs(Transport.TCP, Measuring(Link(), duration=None, limit=3.0), transfers))
    found = []
    for first, second in ((3, 0), (4, 1), (6, 3)):
        servers[0].stdout, servers[1].stdout = "".join(lines[:first]), "".join(later[:second])
        found.append(slices.samples())
    assert found == [[], [90e6], [90e6, 90e6, 90e6]]


@pytest.mark.parametrize(("waited", "stands"), [(0, True), (40, True), (60, False)])
def test_where_most_samples_waited_the_others_are_no_evidence_against(waited: int, stands: bool) -> None:
    slice_ = "[  5]   {:.2f}-{:.2f}   sec  1 MBytes  {} Kbits/sec\n"
    server = Ended("".join(slice_.format(at / 10, (at + 1) / 10, 40000 + 5000 * (at % 2)) for at in range(100)))
    host: Any = SimpleNamespace(name="right", nics={})
    transfers = [Transfer(Load(Transport.TCP, "10.0.0.2"), host, host, server, Ended("{}"))]
    slices = Slices(Programs(Transport.TCP, Measuring(Link(), duration=None, limit=30.0), transfers))
    slices.begun = slices.take()
    slices.watch.waited.update(range(waited))
    assert len(slices.calm()) == 100 - waited
    assert (slices.disturbed(settled=True, alone=True) == "") is stands


@pytest.mark.parametrize(
    ("kbits", "busy", "stands"),
    [(40_000_000, 100, False), (94_148_000, 100, True), (40_000_000, 60, True)],
    ids=["a core is full", "one link is", "nothing is"],
)
def test_a_flow_that_a_core_of_a_real_host_limits_is_no_verdict_however_steady(
    kbits: int, busy: int, stands: bool
) -> None:
    slice_ = "[  5]   {:.2f}-{:.2f}   sec  1 MBytes  {} Kbits/sec\n"
    server = Ended("".join(slice_.format(at / 10, (at + 1) / 10, kbits) for at in range(100)))
    host: Any = SimpleNamespace(name="right", nics={})
    transfers = [Transfer(Load(Transport.TCP, "10.0.0.2"), host, host, server, Ended("{}"))]
    slices = Slices(Programs(Transport.TCP, Measuring(Link(10**11), duration=None, limit=30.0), transfers))
    slices.begun = slices.take()
    cores = iter(((Core(0, 0, 0, 0),) * 2, (Core(100, 95, 0, 0), Core(100, 100 - busy, 70, 0))))
    reader = ProcessorWatch(lambda: Processors(next(cores)))
    reader.begin()
    reader.look(0, 0)
    slices._hosts = HostsWatch([], {"left": ProcessorWatch(lambda: Processors(())), "right": reader})
    found = slices.disturbed(settled=True, alone=True)
    assert (found == "") is stands
    if not stands:
        assert found.startswith("right's processor 1 was 100% busy, 70% with softirqs, all 2 together")
        assert "right carries about 40 Gbit/s by one link" in found
