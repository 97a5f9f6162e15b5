"""What stands beside a measured rate, as Allure shows it: a parameter, a text with all paths, and a plot of round trips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import allure

from channover.measure.record import Record
from channover.measure.running.metrics import Path
from channover.pytest_plugin.allure import evidence
from channover.report.facts import TrafficMetrics


def attach(record: Record, found: Sequence[TrafficMetrics], paths: Sequence[Path] = ()) -> None:
    """Note what stands beside rates, and attach it to the running test; of ``paths`` that were looked at often, a plot."""
    record.metrics += found
    dynamic: Any = allure.dynamic
    for one in found:
        name = f"{one.traffic}, {one.source}→{one.target}"
        if said := summary(one):
            dynamic.parameter(name, said, excluded=True)  # no part of what the test is: runs are compared across it
        evidence.attach_text(f"beside the rate, {name}", "\n".join(lines(one)))
    drawn = sorted((one for one in paths if len(one.trips) > 2), key=lambda one: -one.metrics.sent)[: evidence.MOST]
    if drawn:
        title = f"round trips, {found[0].traffic}"
        series = [
            (one.metrics.name, [round(at, 3) for at, _ in one.trips], [round(rtt * 1e3, 3) for _, rtt in one.trips])
            for one in drawn
        ]
        evidence.of_course(record, title, series, "ms")


def summary(one: TrafficMetrics) -> str:
    """Return the figures of one direction in a few words."""
    return "; ".join(
        words
        for words in (
            f"RTT idle {_ms(one.rtt_idle)}, loaded {_ms(one.rtt_loaded)}" if one.rtt_loaded is not None else "",
            f"{one.efficiency:.2%} efficient" if one.efficiency is not None else "",
            f"transfer time ratio {one.transfer_time_ratio:.2f}" if one.transfer_time_ratio is not None else "",
            f"{one.lost:.2%} lost" if one.lost is not None else "",
            f"jitter {_ms(one.jitter)}" if one.jitter is not None else "",
            f"{one.reordered:.2%} reordered" if one.reordered is not None else "",
        )
        if words
    )


def lines(one: TrafficMetrics) -> Iterator[str]:
    """Yield the figures of one direction, and those of each of its paths."""
    yield summary(one) or "nothing was told before its sockets were gone"
    if one.buffer_delay is not None:
        yield f"buffer delay {one.buffer_delay:.0%} of the idle round trip (RFC 6349, 4.3)"
    for path in one.paths:
        trips = f"RTT idle {_ms(path.rtt_idle)}, loaded {_ms(path.rtt_loaded)}, at most {_ms(path.rtt_most)}"
        yield f"{path.name}: {trips}; {path.sent:,} bytes sent, {path.again:,} of them again"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.3g} ms"
