"""A course as a picture of a few letters' height: the rate over time, what was expected of it, and what happened meanwhile."""

from __future__ import annotations

from html import escape

from channover.report.drawing.plots import BLUE, GREEN, RED
from channover.report.drawing.thinning import thinned
from channover.report.drawing.topology import rate
from channover.report.facts import Bound, Course, EventKind
from channover.text import printable

WIDTH, HEIGHT = 150, 34
"""CSS pixels."""
_TOP, _SIDE = 3.0, 1.5
_EVENTS: dict[EventKind, tuple[str, str]] = {
    "fault": (RED, "✗"),
    "return": (GREEN, "↺"),
    "re-deal": (BLUE, "⇄"),
}
"""Colour and sign of what is marked."""


def sparkline_svg(course: Course) -> str:
    """Return the picture as an SVG text; an empty text where nothing was sampled.

    From zero to the greatest rate or bound. The range is shaded, its bounds are lines, as is the mean, thicker; events stand
    upright.
    """
    if not course.times:
        return ""
    begin, end = course.times[0], max(course.times[-1], course.times[0] + 0.1)
    edges = [edge for one in course.bounds for edge in (one.low, one.high) if edge is not None]
    top = max([*course.rates, *edges, 1.0]) * 1.04

    def x(at: float) -> float:
        return _SIDE + (min(max(at, begin), end) - begin) / (end - begin) * (WIDTH - 2 * _SIDE)

    def y(bits: float) -> float:
        return _TOP + (1 - min(max(bits / top, 0.0), 1.0)) * (HEIGHT - _TOP - 1)

    parts = [f'<path d="M0 {HEIGHT - 0.5:g}H{WIDTH}" stroke="#9a9a9a" stroke-width="1"/>']
    for one in course.bounds:
        left, right = x(one.begin), x(one.end)
        upper, lower = y(top if one.high is None else one.high), y(0 if one.low is None else one.low)
        parts.append(
            f'<rect x="{left:.1f}" y="{upper:.1f}" width="{max(right - left, 1):.1f}" height="{max(lower - upper, 1):.1f}" '
            f'fill="{GREEN}" fill-opacity="0.2"/>'
        )
        for edge in (one.low, one.high):
            if edge is not None:
                parts.append(f'<path d="M{left:.1f} {y(edge):.1f}H{right:.1f}" stroke="{GREEN}" stroke-width="1.2"/>')
    for event in course.events:
        if event.kind in _EVENTS:
            colour, _ = _EVENTS[event.kind]
            dash = "" if event.kind == "fault" else ' stroke-dasharray="3 2"'
            parts.append(f'<path d="M{x(event.at):.1f} 0V{HEIGHT}" stroke="{colour}" stroke-width="1.2"{dash}/>')
    times, rates = thinned(course.times, course.rates, WIDTH)
    points = " ".join(f"{x(at):.1f},{y(bits):.1f}" for at, bits in zip(times, rates, strict=True))
    parts.append(
        f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-width="1.1" stroke-linejoin="round"/>'
    )
    for one in course.bounds:
        if one.mean is not None:
            line = f"M{x(one.begin):.1f} {y(one.mean):.1f}H{x(one.end):.1f}"
            parts.append(f'<path d="{line}" stroke="{RED}" stroke-width="2"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(told(course))}">{"".join(parts)}</svg>'
    )


def told(course: Course) -> str:
    """Return in words what the picture shows."""
    what = "goodput" if course.of == "goodput" else "sum of the receiving NICs"
    words = [f"{what} of {printable(course.traffic)} over {course.times[-1] - course.times[0]:.1f} s"]
    words.append(f"from {rate(min(course.rates))} to {rate(max(course.rates))}")
    words += [
        f"{'' if one.mean is None else f'mean {rate(one.mean)}, '}expected {_range(one)}" for one in course.bounds
    ]
    words += [
        f"{event.at:.1f} s: {event.what} {_EVENTS[event.kind][1]}" for event in course.events if event.kind in _EVENTS
    ]
    return "; ".join(dict.fromkeys(words))


def _range(bound: Bound) -> str:
    if bound.low is not None and bound.high is not None:
        return f"{rate(bound.low)} to {rate(bound.high)}"
    return f"at least {rate(bound.low)}" if bound.low is not None else f"at most {rate(bound.high or 0.0)}"
