"""Readings of a machine's processors as values, and how busy they were between two of them.

Sources: ``proc(5)`` for ``/proc/stat``, ``Documentation/accounting/psi.rst`` for ``/proc/pressure/cpu``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

Name = tuple[int, str]
"""A thread or process: its number, and what it is called."""


@dataclass(frozen=True)
class Core:
    """What one processor did since the machine was booted, in ticks.

    Programs of a lower priority than the usual one give way to a lab's: what they take is as good as idle. What they cost all
    the same shows in how long the lab's programs waited.
    """

    total: int
    idle: int
    softirq: int
    stolen: int


@dataclass(frozen=True)
class Processors:
    """A machine's processors at a moment (``at``: monotonic seconds).

    ``waited`` is how long (seconds) each thread of the run's own has waited for a processor, ``pressure`` how long some
    thread of the machine has, None where the kernel does not tell. ``used`` is the processor time (seconds) of programs that
    are not the run's, as they were looked through at the moment ``scanned``.
    """

    cores: tuple[Core, ...]
    at: float = field(default_factory=time.monotonic)
    waited: Mapping[Name, float] = field(default_factory=dict, repr=False)
    pressure: float | None = None
    used: Mapping[Name, float] = field(default_factory=dict, repr=False)
    scanned: float = 0.0

    @classmethod
    def parse(cls, text: str, pressure: str = "", lowered: bool = False) -> Processors:
        """Return what ``/proc/stat`` tells, and ``/proc/pressure/cpu`` where it is there.

        ``lowered``: the lab's own programs have a lower priority than the usual one, so that no other's give way to them.
        """
        cores = [_core(line.split()[1:], lowered) for line in text.splitlines() if re.match(r"cpu\d", line)]
        some = re.search(r"^some .*total=(\d+)", pressure, re.MULTILINE)
        return cls(tuple(cores), pressure=int(some[1]) / 1e6 if some else None)


def _core(words: list[str], lowered: bool) -> Core:
    """Read user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in the first two already."""
    ticks = [int(word) for word in words[:8]]
    ticks += [0] * (8 - len(ticks))
    return Core(sum(ticks), ticks[3] + ticks[4] + (0 if lowered else ticks[1]), ticks[6], ticks[7])


@dataclass(frozen=True)
class Strain:
    """How the processors were between two moments, ``seconds`` apart; shares are 0 to 1.

    ``waited`` is the share of the time that the run's thread which waited most did, ``waiter`` its program; ``pressure`` the
    share in which some thread of the machine waited, None where that is not known. ``core`` is the fullest processor, busy
    for the share ``full``, ``softirq`` of it with softirqs. ``others`` are programs that are not the run's, each with what it
    used of a processor, the greediest first. ``count`` is how many processors there are.
    """

    seconds: float
    idle: float
    stolen: float
    waited: float = 0.0
    waiter: str = ""
    pressure: float | None = None
    core: int = 0
    full: float = 0.0
    softirq: float = 0.0
    others: tuple[tuple[str, float], ...] = ()
    count: int = 1

    @property
    def foreign(self) -> float:
        """What all other programs used, in processors."""
        return sum(share for _, share in self.others)


def strain(before: Processors, after: Processors) -> Strain:
    """Return how the processors were between two readings of one machine."""
    seconds = max(after.at - before.at, 1e-3)
    cores = [_share(*pair) for pair in zip(before.cores, after.cores, strict=False)] or [Core(1, 1, 0, 0)]
    total = sum(core.total for core in cores)
    core = max(range(len(cores)), key=lambda number: 1 - cores[number].idle / cores[number].total)
    delays = {name: delay - before.waited.get(name, delay) for name, delay in after.waited.items()}
    name = max(delays, key=delays.__getitem__, default=(0, ""))
    pressure = None if before.pressure is None or after.pressure is None else after.pressure - before.pressure
    return Strain(
        seconds,
        sum(core.idle for core in cores) / total,
        sum(core.stolen for core in cores) / total,
        min(max(delays.get(name, 0.0), 0.0) / seconds, 1.0),
        name[1],
        None if pressure is None else min(pressure / seconds, 1.0),
        core,
        1 - cores[core].idle / cores[core].total,
        cores[core].softirq / cores[core].total,
        _others(before, after),
        len(cores),
    )


def _share(before: Core, after: Core) -> Core:
    return Core(
        max(after.total - before.total, 1),
        max(after.idle - before.idle, 0),
        max(after.softirq - before.softirq, 0),
        max(after.stolen - before.stolen, 0),
    )


def _others(before: Processors, after: Processors) -> tuple[tuple[str, float], ...]:
    seconds = after.scanned - before.scanned
    if seconds <= 0:
        return ()
    grown = {name: (used - before.used.get(name, 0.0)) / seconds for name, used in after.used.items()}
    most = sorted(grown, key=grown.__getitem__, reverse=True)
    return tuple((f"{title} (process {pid})", grown[pid, title]) for pid, title in most if grown[pid, title] > 0)
