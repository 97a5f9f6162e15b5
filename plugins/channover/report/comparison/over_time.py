"""Values over the runs of a lab: which of them left the level that the runs before it had, by more than runs differ.

Each run is held against those before it that had the same level and whose test passed: by Student's test with the spread
between these runs, over all values of the run together (Holm), so that a run of unchanged code is called changed once in a
hundred. Runs that left the level do not move it; three in a row on one side make a new one, and the change stays told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

from channover.model.catalogue import CATALOGUE
from channover.report.comparison.values import LEVEL, Key, chance_of, counts, floor_of, scale_of, values_of
from channover.report.results import Measurement, Outcome, Results, TestResult, Unit
from channover.verdict.significance import Spread, holm, of_runs

FEWEST_RUNS = 3
"""Runs that make a level."""
LASTING = 3
"""Runs in a row that make a new one."""
Way = Literal["fell", "rose"]
Kind = Literal["first", "same", "fell", "rose"]


@dataclass(frozen=True)
class Level:
    """What the runs before had: their mean, the standard deviation between them, how many they are."""

    mean: float
    spread: float
    runs: int


@dataclass(frozen=True)
class Point:
    """A value of one run; ``half`` is half its interval, ``level`` what it was held against, None where runs were too few."""

    run: str
    value: float
    half: float | None
    outcome: Outcome
    kind: Kind
    level: Level | None


@dataclass(frozen=True)
class Change:
    """A change of level: which way, since which run, the level before."""

    way: Way
    run: str
    before: Level


@dataclass(frozen=True)
class Course:
    """One value of one test over runs, the oldest first. ``worse`` is the way in which it would be worse, None: neither is.

    ``change`` is the last change, whether it has lasted or the last run alone shows it.
    """

    behaviour: str | None
    nodeid: str
    name: str
    unit: Unit
    low: float | None
    high: float | None
    worse: Way | None
    points: tuple[Point, ...]
    change: Change | None

    @property
    def regressed(self) -> bool:
        """Whether its last change was for the worse."""
        return self.change is not None and self.change.way == self.worse


@dataclass
class _Track:
    """A course while runs are gone through."""

    test: TestResult
    last: Measurement
    points: list[Point] = field(default_factory=list)
    usual: list[Measurement] = field(default_factory=list)
    away: list[tuple[Point, Measurement]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    spreads: list[Spread | None] = field(default_factory=list)
    """Of the levels before, around which runs differed as they do around this one."""

    @property
    def level(self) -> Level | None:
        values = _numbers(self.usual)
        return Level(fmean(values), stdev(values), len(values)) if len(values) >= FEWEST_RUNS else None

    def chance(self, now: Measurement, link_rate: float) -> float | None:
        if self.level is None:
            return None
        return chance_of(self.usual, [now], self._found, self._scale(now, link_rate))

    @property
    def _found(self) -> list[Spread | None]:
        return [of_runs(_numbers(self.usual)), *self.spreads]

    def kind(self, now: Measurement, link_rate: float, chance: float | None, significant: bool) -> Kind:
        if self.level is None:
            return "first"
        scale = self._scale(now, link_rate)
        share = ((now.value or 0.0) - self.level.mean) / scale if scale else 0.0
        floor = floor_of([*self.usual, now], self._found, scale)
        if not significant or chance is None or not counts(share, chance, floor, now.unit):
            return "same"
        return "fell" if share < 0 else "rose"

    def _scale(self, now: Measurement, link_rate: float) -> float:
        return scale_of([*self.usual, now], link_rate)

    def add(self, point: Point, now: Measurement) -> None:
        self.points.append(point)
        passed = point.outcome == "passed"
        if point.kind in ("first", "same"):
            self.away.clear()
            self.usual += [now] if passed else []
            return
        if self.away and self.away[-1][0].kind != point.kind:
            self.away.clear()
        self.away.append((point, now))
        if len(self.away) >= LASTING:
            self.changes += self.leaving()
            self.spreads.append(of_runs(_numbers(self.usual)))
            self.usual = [measurement for one, measurement in self.away if one.outcome == "passed"]
            self.away.clear()

    def leaving(self) -> Iterator[Change]:
        """Yield the change that the last runs show, where they do."""
        if self.away and (first := self.away[0][0]).level is not None:
            yield Change("fell" if first.kind == "fell" else "rose", first.run, first.level)


def courses(history: Sequence[Results]) -> list[Course]:
    """Return the values of the last of these runs over all of them, in the catalogue's order; the runs are of one lab."""
    tracks: dict[Key, _Track] = {}
    for results in history:
        found = values_of(results)
        for key, (test, now) in found.items():
            track = tracks.setdefault(key, _Track(test, now))
            track.test, track.last = test, now
        rate = results.run.link_rate
        chances = {key: tracks[key].chance(now, rate) for key, (_, now) in found.items()}
        tried = {key: chance for key, chance in chances.items() if chance is not None}
        significant = dict(zip(tried, holm(list(tried.values()), LEVEL), strict=True))
        for key, (test, now) in found.items():
            track = tracks[key]
            kind = track.kind(now, rate, chances[key], significant.get(key, False))
            point = Point(results.run.id, now.value or 0.0, now.uncertainty, test.outcome, kind, track.level)
            track.add(point, now)
    last = values_of(history[-1]) if history else {}
    made = [_course(key, tracks[key]) for key in last]
    order = {identifier: place for place, identifier in enumerate(CATALOGUE)}
    return sorted(made, key=lambda one: order.get(one.behaviour or "", len(order)))


def _course(key: Key, track: _Track) -> Course:
    nodeid, name, unit, _ = key
    change = next(iter([*track.leaving(), *track.changes[::-1]]), None)
    bounds = (track.last.low, track.last.high)
    return Course(track.test.behaviour, nodeid, name, unit, *bounds, _worse(track.last), tuple(track.points), change)


def _worse(measurement: Measurement) -> Way | None:
    """Return the way in which a value would be worse: a rate that is bounded from above alone is no goal."""
    low, high = measurement.low is not None, measurement.high is not None
    if measurement.rule == "outside" or (low and high and measurement.unit != "bit/s"):
        return None
    if low or high:
        return "fell" if low else "rose" if measurement.unit != "bit/s" else None
    return {"bit/s": "fell", "s": "rose"}.get(measurement.unit)  # type: ignore[return-value]


def _numbers(measurements: Iterable[Measurement]) -> list[float]:
    return [each.value or 0.0 for each in measurements]
