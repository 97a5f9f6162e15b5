"""A player's buffer as a model: from when each segment of a stream arrived to when it played, and when it had to wait.

A player begins with so many segments, then plays each for as long as it lasts. Where the next one is not there when the last
one ends, it stalls until it is. How much is buffered is the player's affair (RFC 8216, 6.3.3); three segments are usual.
Times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIRST = 3
"""Segments that are there before a player begins."""
PICTURE = 1 / 24
"""Seconds of a picture: whoever waits for less does not notice."""


@dataclass(frozen=True)
class Stall:
    """A stall: when it began (since the first segment was asked for), and for how long nothing played."""

    at: float
    seconds: float


@dataclass(frozen=True)
class Playback:
    """How a stream played: when it ``start``-ed (since the first segment was asked for), and its stalls.

    ``buffer`` is what the player had before it, in seconds of the stream, at moments between which it grows or falls evenly.
    """

    start: float
    stalls: Sequence[Stall]
    buffer: Sequence[tuple[float, float]]

    @property
    def stalled(self) -> float:
        """For how long nothing played, in all."""
        return sum(one.seconds for one in self.stalls)


def played(arrivals: Sequence[float], durations: Sequence[float], first: int = FIRST) -> Playback:
    """Return how segments play that arrive at these moments and last so long; none have arrived: it never starts."""
    if len(arrivals) < first:
        return Playback(float("inf"), (), ())
    start = arrivals[first - 1]
    stalls: list[Stall] = []
    due = start  # when the next segment is to play
    for arrival, duration in zip(arrivals, durations, strict=True):
        if arrival > due:
            if arrival - due >= PICTURE:
                stalls.append(Stall(due, arrival - due))
            due = arrival
        due += duration
    return Playback(start, tuple(stalls), tuple(_buffer(arrivals, durations, start)))


def _buffer(arrivals: Sequence[float], durations: Sequence[float], start: float) -> list[tuple[float, float]]:
    points = [(0.0, 0.0)]
    level, at = 0.0, 0.0
    for arrival, duration in zip(arrivals, durations, strict=True):
        since = max(at, start)
        if arrival > since:  # it played, until the buffer was empty or the segment came
            dry = since + level
            points.append((since, level))
            if dry < arrival:
                points.append((dry, 0.0))
            level = max(level - (arrival - since), 0.0)
        points += [(arrival, level), (arrival, level + duration)]
        level, at = level + duration, arrival
    return [*points, (max(at, start) + level, 0.0)]


def evenly(number: int, duration: float, each: float, first: int = FIRST) -> Playback:
    """Return how ``number`` segments of a ``duration`` play that come one after the other, ``each`` in so many seconds."""
    return played([each * (1 + one) for one in range(number)], [duration] * number, first)
