"""How fast data came over time, of flows, copies and loads of a tunnel: in one direction, NIC by NIC and together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any

from channover.hosts.host import Host, Step
from channover.measure.nic_usage import ACKNOWLEDGEMENTS
from channover.observe.nics import NicCounters, NicSeries
from channover.report.drawing.plots import Phase, Series
from channover.report.drawing.thinning import thinned
from channover.report.facts import Carried, Course, Event, NicBytes
from channover.scenarios.loop.ways import LOOP_ENDPOINT

ONE_WAY = 1.5
"""How many times as much as it sends a host receives that data go to, and the other way round: more than acknowledgements."""
POINTS = 120
"""Of a course in the results: two of its pictures' pixels each."""
UNTOLD = ("warm-up", "set-up", "measured", "copy", "load", "recovery")
"""Phases whose begin is no event: a recovery begins with the return of what was lost."""
DEALT = "dealt anew"
"""How the name of a phase begins at whose start flows were dealt anew to the links of a LAG."""


def carried(title: str, hosts: Sequence[Host], taken: Mapping[str, NicSeries]) -> list[NicBytes]:
    """Return the bytes that each NIC carried."""
    found = []
    for host in hosts:
        for nic in host.nics.values():
            if nic.device in taken[host.name].devices:
                moved = taken[host.name].delta(nic.device)
                found.append(NicBytes(title, host.name, nic.name, moved.tx_bytes, moved.rx_bytes))
    return found


def counters(taken: Mapping[str, NicSeries]) -> dict[str, Any]:
    """Return every sample as plain data: rows of counters in the order of their names, since most of a report is this."""
    hosts = {
        name: {
            "times": [round(time, 6) for time in one.times],
            "samples": {device: [astuple(sample) for sample in samples] for device, samples in one.samples.items()},
        }
        for name, one in taken.items()
    }
    return {"counters": [each.name for each in fields(NicCounters)], "hosts": hosts}


def lines(hosts: Sequence[Host], taken: Mapping[str, NicSeries]) -> list[Series]:
    """Return the rates (bit/s) of NICs in the direction of the data: what each host received that does not only send.

    Of hosts in between, such as switches, the NICs that send the data on are left out: they count it once more.
    """
    found: list[Series] = []
    ends = receivers(hosts, taken)
    for host in hosts:
        series = taken[host.name]
        if not series.times or (host not in ends and _way(series) != "through"):
            continue
        whole = sum(series.delta(device).total_bytes for device in series.devices)
        for nic in host.nics.values():
            if nic.device not in series.devices:
                continue
            moved = series.delta(nic.device)
            if host in ends or moved.rx_bytes >= moved.tx_bytes or moved.tx_bytes <= ACKNOWLEDGEMENTS * whole / 2:
                times = [round(time - series.times[0], 4) for time in series.middles]
                found.append(
                    (f"{host.name}.{nic.name} rx", times, [round(one) for one in series.rate(nic.device, "rx")])
                )
    return found


def receivers(hosts: Sequence[Host], taken: Mapping[str, NicSeries]) -> list[Host]:
    """Return the hosts that data go to; where they go both ways, the one that got most."""
    sampled = [host for host in hosts if taken[host.name].times]
    found = [host for host in sampled if _way(taken[host.name]) == "to"]
    return found or sorted(sampled, key=lambda host: -_moved(taken[host.name])[0])[:1]


def _way(series: NicSeries) -> str:
    got, sent = _moved(series)
    return "to" if got > ONE_WAY * sent else "from" if sent > ONE_WAY * got else "through"


def _moved(series: NicSeries) -> tuple[int, int]:
    moved = [series.delta(device) for device in series.devices]
    return sum(one.rx_bytes for one in moved), sum(one.tx_bytes for one in moved)


def together(found: Sequence[Series], hosts: Sequence[Host]) -> tuple[list[float], list[float]]:
    """Return the sum of the rates of these hosts' NICs, at the moments of the first: they are sampled at once, or nearly so."""
    names = {f"{host.name}.{nic.name} rx" for host in hosts for nic in host.nics.values()}
    chosen = [(times, rates) for label, times, rates in found if label in names]
    if not chosen:
        return [], []
    first = chosen[0][0]
    return list(first), [sum(_at(times, rates, number) for times, rates in chosen) for number in range(len(first))]


def _at(times: Sequence[float], rates: Sequence[float], number: int) -> float:
    return rates[min(number, len(times) - 1)] if times else 0.0


def course(traffic: str, of: Carried, times: Sequence[float], rates: Sequence[float], spans: Sequence[Phase]) -> Course:
    """Return rates over time as results hold them, with what happened meanwhile."""
    times, rates = thinned(times, rates, POINTS)
    return Course(
        traffic,
        of,
        tuple(round(time, 3) for time in times),
        tuple(float(round(rate)) for rate in rates),
        events=tuple(events(spans)),
    )


def events(spans: Sequence[Phase]) -> list[Event]:
    """Return what happened, by the phases: faults and what ended them, flows dealt anew, phases of the test's own."""
    found = []
    for number, (label, begin, _) in enumerate(spans):
        before = spans[number - 1][0] if number else ""
        at = round(begin, 3)
        if before.startswith("fault") and not label.startswith("fault"):
            found.append(Event("return", at, "return"))
        if label.startswith("fault"):
            found.append(Event(label.partition(": ")[2] or label, at, "fault"))
        elif label.startswith(DEALT):
            found.append(Event(label, at, "re-deal"))
        elif label not in UNTOLD:
            found.append(Event(label, at))
    return found


_FAULT = re.compile(
    rf"pull the cable (?P<what>.+)|ip link set (?:dev )?(?P<device>\S+) down"
    rf"|ip mptcp endpoint add (?P<loop>\S+) id {LOOP_ENDPOINT}\b"
)
_REPAIR = re.compile(r"plug in the cable |ip link set (?:dev )?\S+ up|nft -f ")


def phases(warm: float, end: float, began: float, steps: Sequence[Step], label: str = "measured") -> list[Phase]:
    """Return what a flow went through, in seconds from its start: warm-up, measured, and each fault with its recovery.

    It ``began`` at a moment (seconds since the epoch), was warm after ``warm`` and over after ``end`` seconds. Faults are
    the steps that take a link away, or offer a tunnel's own address as a path, until one that gives a link back, or loads
    a guard.
    """
    found: list[Phase] = [("warm-up", 0.0, warm)] if warm else []
    since = warm
    for step in steps:
        at = step.start - began
        if not since < at < end:
            continue
        if match := _FAULT.match(step.title):
            loop = match["loop"] and f"loop by {match['loop']}"
            if loop and label.startswith("fault: loop"):
                continue  # it has begun already
            what = match["what"] or loop or f"{step.host} {match['device']}"
            following = f"fault: {what}"
        elif _REPAIR.match(step.title) and label.startswith("fault"):
            following = "recovery"
        else:
            continue
        found.append((label, since, at))
        label, since = following, at
    return [*found, (label, since, end)]
