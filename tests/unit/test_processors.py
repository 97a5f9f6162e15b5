"""How busy the processors were, by readings, and what is made of it: which samples count, and what was short."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from channover.errors import TestbedError
from channover.measure.running.watch import HostsWatch
from channover.model.processors import Core, Processors, Strain, strain
from channover.observe.processors import OwnMachine
from channover.verdict import shortage
from channover.verdict.expectation import near
from channover.verdict.measured import Measured, Reading, count
from channover.verdict.shortage import Shortage, suggested
from channover.verdict.statistics import Estimate

STAT = """cpu  300 0 100 1000 0 0 600 0 0 0
cpu0 100 0 50 350 0 0 500 0 0 0
cpu1 200 0 50 650 0 0 100 0 0 0
intr 5 0
"""
PRESSURE = "some avg10=7.71 avg60=8.90 avg300=5.27 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
QUIET = Strain(2.0, 0.6, 0.0, waited=0.02, waiter="iperf3", full=0.55, softirq=0.2, count=2)
BESIDE_LOOPS = replace(
    QUIET, idle=0.0, waited=0.4, full=1.0, others=(("python3 (process 41)", 0.9), ("sh (process 7)", 0.1))
)
OVERLOADED = Strain(5.0, 0.03, 0.0, waited=0.3, waiter="ksoftirqd/1", core=1, full=1.0, softirq=0.9, count=2)


def test_a_reading_is_told_by_processor_and_a_kernel_may_know_no_pressure() -> None:
    read = Processors.parse(STAT, PRESSURE)
    assert read.cores == (Core(1000, 350, 500, 0), Core(1000, 650, 100, 0))
    assert read.pressure == 2.5
    assert Processors.parse(STAT).pressure is None


def test_between_two_readings_the_fullest_processor_and_the_longest_waiting_program_are_named() -> None:
    before = Processors.parse(STAT, PRESSURE)
    after = Processors.parse(
        STAT.replace("cpu0 100 0 50 350 0 0 500", "cpu0 100 0 50 352 0 0 598").replace(
            "650 0 0 100 0", "740 0 0 100 10"
        ),
        PRESSURE.replace("2500000", "2750000"),
    )
    before = replace(
        before, at=10.0, waited={(5, "iperf3"): 1.0, (6, "ksoftirqd/0"): 2.0}, used={(9, "sh"): 1.0}, scanned=10.0
    )
    waited = {(5, "iperf3"): 1.1, (6, "ksoftirqd/0"): 2.5, (7, "ssh"): 50.0}
    after = replace(after, at=11.0, waited=waited, used={(9, "sh"): 1.5, (10, "cc1"): 0.25}, scanned=11.0)
    found = strain(before, after)
    assert (found.core, found.full, found.softirq) == (0, 0.98, 0.98)
    assert (found.idle, found.stolen, found.pressure) == (0.46, 0.05, 0.25)
    assert (found.waiter, found.waited) == ("ksoftirqd/0", 0.5), "what was not there before has not waited yet"
    assert found.others == (("sh (process 9)", 0.5), ("cc1 (process 10)", 0.25)) and found.foreign == 0.75


def test_programs_of_a_lower_priority_give_way_and_are_no_other_work() -> None:
    niced = STAT.replace("cpu0 100 0 50", "cpu0 100 200 50").replace("350 0 0 500", "150 0 0 500")
    assert Processors.parse(niced).cores == Processors.parse(STAT).cores
    assert Processors.parse(niced, lowered=True).cores[0].idle == 150
    orphans = "sleep 60 >/dev/null & echo $!; nice -n 19 sleep 60 >/dev/null & echo $!"
    usual, polite = map(int, subprocess.run(["sh", "-c", orphans], stdout=subprocess.PIPE, check=True).stdout.split())
    try:
        deadline = time.monotonic() + 5.0
        while os.getpriority(os.PRIO_PROCESS, polite) != 19 and time.monotonic() < deadline:  # nice has not begun yet
            time.sleep(0.01)
        used = {number for number, _ in OwnMachine()().used}
        lowered = os.getpriority(os.PRIO_PROCESS, 0) > 0
        assert usual in used and (polite in used) == lowered
    finally:
        os.kill(usual, signal.SIGKILL)
        os.kill(polite, signal.SIGKILL)


def test_this_machine_tells_its_own_programs_from_others() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            machine = OwnMachine()
            read = machine()
            assert child.pid in {number for number, _ in read.waited}
            assert not {os.getpid(), child.pid} & {number for number, _ in read.used}
            assert len(read.cores) == os.cpu_count() and read.scanned > 0
        finally:
            child.kill()


def test_a_program_that_is_held_off_its_processor_is_seen_to_wait() -> None:
    core = min(os.sched_getaffinity(0))
    loops = [subprocess.Popen(["taskset", "-c", str(core), "sh", "-c", "while :; do :; done"]) for _ in range(3)]
    try:
        time.sleep(0.2)
        machine = OwnMachine()
        before = machine()
        time.sleep(0.5)
        found = strain(before, machine())
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert found.waited > shortage.WAITED and shortage.waited(found), found
    assert found.full > 0.9


def test_samples_that_waited_are_no_evidence_unless_they_lie_on_a_plateau() -> None:
    # LAG-1 beside busy loops, as it was recorded: the link's rate, and now and then less
    at_work = [94.1, 94.2, 94.0, 94.1, 94.2] * 4 + [94.1, 80.3, 94.2, 72.5, 94.0] * 3
    assert shortage.plateau(at_work, [94.15]) == set(range(20))
    assert shortage.plateau([92.7, 88.0, 87.4, 91.7, 93.0] * 6, [94.15, 92.59]) == set()
    assert shortage.plateau([92.6, 92.5, 92.7, 92.6, 92.6] * 6, [94.15, 92.59]) == set(range(30)), (
        "one path carries all"
    )
    assert shortage.plateau([94.15] * 4, [94.15]) == set(), "too few for a plateau"


def test_a_wire_is_steadier_than_what_processors_limit() -> None:
    assert shortage.narrow([86.0, 86.2, 85.9, 86.1, 86.0] * 6), "a link at nine tenths of its rate"
    assert not shortage.narrow([327.0, 310.0, 298.0, 340.0, 335.0, 305.0, 290.0] * 6)


def test_what_is_short_is_named_with_its_figures_and_with_what_would_do() -> None:
    assert not Shortage(QUIET) and Shortage(QUIET).reason(90e6, 1, 100e6) == ""
    beside = Shortage(BESIDE_LOOPS, 0.8)
    assert beside and beside.by_others and not beside.hopeless(88e6, 94e6)
    assert beside.reason(88e6, 1, 100e6, 94e6) == (
        "iperf3 waited 40% of the time for a processor, and other work took what the lab needed: python3 (process 41) 90% of "
        "one, sh (process 7) 10% of one; end it, or run this when it is over"
    )
    assert beside.reason(880e6, 1, 1e9, 941e6).endswith("run this when it is over, or with --link-rate 500mbit")
    overloaded = Shortage(OVERLOADED, 0.9)
    assert overloaded and overloaded.hopeless(976e6, 1111e6) and not overloaded.by_others
    assert overloaded.reason(976e6, 2, 600e6, 1111e6) == (
        "processor 1 was 100% busy, 90% with softirqs, all 2 together 97%; ksoftirqd/1 waited 30% of the time for a "
        "processor: this machine carries about 976 Mbit/s by 2 links; --link-rate 400mbit works"
    )


def test_a_rate_that_is_out_of_reach_without_other_work_too_is_not_put_down_to_that() -> None:
    both = Shortage(replace(OVERLOADED, others=(("python3 (process 41)", 0.5),)), 0.9)
    assert both.by_others and both.hopeless(446e6, 941e6)
    assert "beside other work (python3 (process 41) 50% of one)" in both.reason(446e6, 1, 1e9, 941e6)
    assert both.reason(446e6, 1, 1e9, 941e6).endswith("about 446 Mbit/s by one link; --link-rate 200mbit works")
    assert not both.hopeless(800e6, 941e6), "there is time enough once it is over"


def test_nothing_is_suggested_for_real_cables_and_a_host_may_take_the_time_too() -> None:
    said = Shortage(OVERLOADED, where="left").reason(38.6e9, 1, wanted=94e9)
    assert said == (
        "left's processor 1 was 100% busy, 90% with softirqs, all 2 together 97%: with its set-up, left carries about 38.6 "
        "Gbit/s by one link, and the wire more: spread the NIC's interrupts and the flow's program over other processors, "
        "switch its offloads on, or take a slower link"
    )
    assert (
        Shortage(replace(QUIET, stolen=0.2))
        .reason(1.0, 1)
        .startswith("20% of the processors' time went to other machines")
    )


@pytest.mark.parametrize(
    ("link", "carried", "rate"),
    [(600e6, 488e6, "400mbit"), (10e9, 1.3e9, "1gbit"), (10e6, 9e6, "5mbit"), (1e9, 990e6, "800mbit"), (1e6, 1e5, "")],
)
def test_a_rate_that_works_is_a_round_one_well_below_what_came_through(link: float, carried: float, rate: str) -> None:
    assert suggested(link, carried) == rate


def test_a_rate_that_works_never_exceeds_what_came_through() -> None:
    for carried in itertools.chain(range(2, 100), range(100, 40000, 37)):
        words = suggested(100e9, carried * 1e6)
        value = float(words[:-4]) * (1e3 if words.endswith("gbit") else 1.0)
        assert 0.4 * carried <= value <= 0.85 * carried, words


def test_a_value_that_is_in_doubt_is_no_verdict_but_more_than_was_expected_is_one() -> None:
    readings: list[Reading] = []
    nics = replace(
        count("NICs used", 1, readings.append), doubt=lambda _: "iperf3 waited 40% of the time for a processor"
    )
    with pytest.raises(TestbedError, match=r"expected exactly 2: no verdict: iperf3 waited 40% of the time"):
        assert nics == 2
    assert nics == 1, "what is as expected stands"
    both = Measured(
        "goodput", known=Estimate(185e6, 1e6, 50), on_result=readings.append, doubt=lambda _: "iperf3 waited"
    )
    assert not both.compare(near(94.15e6)).held, "no want of processors makes a rate higher"
    assert [one.missed for one in readings] == [False, False, True]


def test_of_two_hosts_the_one_with_the_fullest_processor_is_named() -> None:
    def host(name: str, busy: int) -> Any:
        told = iter(
            "".join(f"cpu{core} {user} 0 0 {idle} 0 0 0 0\n" for core, (user, idle) in enumerate(cores))
            for cores in (((10, 90), (10, 90)), ((20, 180), (10 + busy, 190 - busy)))
        )
        return SimpleNamespace(name=name, read=lambda path: next(told) if path == "/proc/stat" else "")

    watch = HostsWatch([host("left", 40), host("right", 99)])
    assert not watch.shortage, "nothing was looked at yet"
    watch.begin()
    watch.end()
    found = watch.shortage
    assert (found.where, found.strain.core, found.strain.full) == ("right", 1, 0.99)
    assert found.reason(36e9, 1, wanted=94e9).startswith("right's processor 1 was 99% busy, all 2 together 54%:")
