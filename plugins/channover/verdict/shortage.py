"""Whether a lab had the processor time that its wires are made of: which samples count, and what was short where few do.

A shortfall while the run's own programs waited for a processor is no evidence. But a plateau that fits another cause, one
link's rate, is no starved flow's, however little idle time there was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from channover.model.processors import Strain
from channover.verdict.expectation import quantity

THIS_MACHINE = "this machine"
WAITED = 0.2
"""The share of a slice that a program of the run's own may wait for a processor, and its sample still count."""
STOLEN = 0.05
"""The share of the processors' time that other machines may take, and rates still be trusted."""
FULL = 0.97
"""The share of its time from which on a processor is full, whatever fills it."""
IDLE = 0.05
"""The share of idle time, all processors together, below which none of them can have taken more work."""
OFTEN = 0.2
"""The share of the samples that may have waited before a verdict that has not settled is put down to it."""
MOSTLY = 0.5
"""The share of the samples that waited from which on the others are no evidence either: a connection takes longer to recover
from the time without a processor than that lasted."""
FOREIGN = 0.25
"""What other programs than the run's may use, in processors, and the machine not be called busy with them."""
LEVEL = 0.005
"""How near (relative) a plateau lies to the rate that explains it, and how narrow it is."""
BATCH = 5
"""Samples of which a plateau's is the mean: a receiver counts whole blocks, which shows in shorter ones."""
EASY = 100e6
"""The rate of links (bit/s) up to which less would not help beside other work: hardly any processor time goes into it."""
_ENOUGH = 0.9
"""What share of a wire's rate a machine has to come to without other work, so that waiting for the end of that may help."""
_ROOM = 0.85
"""What share of what a machine carries it will carry for certain, whatever else runs."""


def waited(strain: Strain) -> bool:
    """Say whether what was measured meanwhile is no evidence of too little."""
    return strain.waited > WAITED or strain.stolen > STOLEN


def plateau(samples: Sequence[float], levels: Collection[float]) -> set[int]:
    """Return the numbers of the samples that lie on one of these rates, where half of all do at least; or none.

    What other work takes, it takes now and then: so exact a rate, and so steady, is a wire's.
    """
    starts = range(len(samples) % BATCH, len(samples), BATCH)
    means = {start: fmean(samples[start : start + BATCH]) for start in starts}
    for level in levels:
        fit = [start for start, mean in means.items() if abs(mean - level) <= LEVEL * level]
        if len(fit) * 2 >= len(means) > 1:
            return {number for start in fit for number in range(start, start + BATCH)}
    return set()


def narrow(samples: Sequence[float]) -> bool:
    """Say whether samples are as steady as a wire lets them be: what processors limit wanders more."""
    means = [fmean(samples[start : start + BATCH]) for start in range(len(samples) % BATCH, len(samples), BATCH)]
    return len(means) > 2 and stdev(means) <= LEVEL * fmean(means)


@dataclass(frozen=True)
class Shortage:
    """How the processors were while something was measured: ``share`` of its samples had waited for one.

    ``where`` is the machine whose processors these are.
    """

    strain: Strain
    share: float = 0.0
    where: str = THIS_MACHINE

    @property
    def by_others(self) -> bool:
        """Whether other programs, or other machines, took time that was short: it may pass."""
        return self.strain.stolen > STOLEN or self.strain.foreign > FOREIGN

    @property
    def mostly(self) -> bool:
        """Whether so many samples had waited that the others are no evidence either."""
        return self.share > MOSTLY

    @property
    def full(self) -> bool:
        """Whether there was no processor left for the lab's own work."""
        return self.strain.full >= FULL or self.strain.idle < IDLE

    def __bool__(self) -> bool:
        """Whether what fell short may have done so for this reason."""
        return self.share > OFTEN or self.strain.stolen > STOLEN or self.full

    def hopeless(self, rate: float, wanted: float) -> bool:
        """Say whether this machine cannot make of ``rate`` what is ``wanted`` (bit/s), even without other work."""
        return self.full and self.strain.stolen <= STOLEN and rate * self._spare < _ENOUGH * wanted

    @property
    def _spare(self) -> float:
        """How many times as much processor time the lab would have without other work."""
        return self.strain.count / max(self.strain.count - self.strain.foreign, 0.1)

    def reason(self, rate: float, links: int, link_rate: float = 0.0, wanted: float = 0.0) -> str:
        """Say what was short, and what would do; nothing where nothing was.

        ``rate`` (bit/s) is what came through by so many ``links`` of what was ``wanted``; ``link_rate`` is that of a link
        where another can be chosen.
        """
        strain = self.strain
        if not self:
            return ""
        if strain.stolen > STOLEN:
            return f"{strain.stolen:.0%} of the processors' time went to other machines of their host"
        if self.where != THIS_MACHINE:
            softirq = f", {strain.softirq:.0%} with softirqs" if strain.softirq > 0.01 else ""
            return (
                f"{self.where}'s processor {strain.core} was {strain.full:.0%} busy{softirq}, all {strain.count} together "
                f"{1 - strain.idle:.0%}: with its set-up, {self.where} carries about {quantity(rate, 'bit/s')} "
                f"{_by(links)}, and the wire more: spread the NIC's interrupts and the flow's program over other processors, "
                "switch its offloads on, or take a slower link"
            )
        less = suggested(link_rate, rate / links)
        waited = f"{strain.waiter or 'the lab'} waited {strain.waited:.0%} of the time for a processor"
        if self.by_others and not self.hopeless(rate, wanted):
            return (
                f"{waited}, and other work took what the lab needed: {_named(strain)}; end it, or run this when it is over"
                + (f", or with --link-rate {less}" if less and link_rate > EASY else "")
            )
        softirq = f", {strain.softirq:.0%} with softirqs" if strain.softirq > 0.01 else ""
        beside = f", beside other work ({_named(strain)})" if self.by_others else ""
        return (
            f"processor {strain.core} was {strain.full:.0%} busy{softirq}, all {strain.count} together "
            f"{1 - strain.idle:.0%}{beside}; {waited}: {self.where} carries about {quantity(rate, 'bit/s')} "
            f"{_by(links)}"
        ) + (f"; --link-rate {less} works" if less else "")


def _by(links: int) -> str:
    return f"by {links} links" if links > 1 else "by one link"


def busy(strain: Strain, processors: int) -> str:
    """Say that a machine of so many processors is busy with other work than a run's, and by what; or nothing."""
    if strain.stolen > STOLEN:
        return f"{strain.stolen:.0%} of the processors' time goes to other machines of their host"
    if strain.foreign <= FOREIGN:
        return ""
    return f"other programs use {strain.foreign:.1f} of the {processors} processors: {_named(strain)}"


def _named(strain: Strain) -> str:
    return ", ".join(f"{name} {share:.0%} of one" for name, share in strain.others[:3])


def suggested(link_rate: float, carried: float) -> str:
    """Return the rate of links that a machine carries which carried so much (bit/s) of a higher one; empty: none is known."""
    fits = [
        step * size
        for size in (10**6, 10**7, 10**8, 10**9, 10**10, 10**11)
        for step in (1, 2, 4, 5, 8)
        if step * size <= _ROOM * min(carried, link_rate)
    ]
    if not fits:
        return ""
    best = max(fits)
    return f"{best // 10**9}gbit" if best >= 10**9 else f"{best // 10**6}mbit"
