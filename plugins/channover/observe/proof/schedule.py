"""Who sends on which cable when, while cables are proved: all side by side, as far as processors allow it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from channover.model.link import ETHERNET_HEADER, WIRE_OVERHEAD
from channover.model.topology import Cable, Port

FRAMES = 2400
"""Full frames that are sent each way: of 1 in 1000 that are lost, one of them is seen lost in 91 of 100 tries."""
FEWER = 800
"""As many where more than a few cables have to wait for each other."""
FEW = 4
LONGEST = 0.25
"""Seconds of a load: a slow cable's frames are fewer, ``LEAST`` at the least."""
SHORTEST = 0.01
LEAST = 120
"""Full frames of a load, however slow the cable is: one more or less at its edges is then less than a rate's tolerance."""
MORE = 1.12
"""How many times the cable's rate is offered, so that one that carries a tenth more than stated shows its figure."""
GENTLE = 0.95
"""As many where only loss is looked for: no queue on the way is full."""
SMALLER = (9014, 8014, 4014, 2014, 1514, 1494, 1414, 1294, 1014, 590)
"""Sizes of frames (bytes) by which the largest one that passes is told."""


@dataclass(frozen=True)
class Pace:
    """The times (seconds) of a proof, and ``budget``, how many frames a second processors can be asked for at once.

    ``patience`` is for a first sign of the other end, ``meet`` for round trips and sizes, ``quiet`` before loads, ``drain`` at
    most after them; a load of ``longest`` seconds at most, in which a program looks up every ``tick``; ``trip`` is the longest
    round trip that an idle cable may have.
    """

    patience: float
    hello: float
    meet: float
    quiet: float
    drain: float
    budget: float
    trip: float = 0.005
    longest: float = LONGEST
    tick: float = 0.001
    exact: bool = True
    """Whether what arrives too slowly, or not at all, is the cable's doing: emulated processors are slow and drop frames."""


ONE_PROCESS = Pace(patience=0.3, hello=0.001, meet=0.02, quiet=0.004, drain=0.2, budget=55_000)
"""Of a lab of namespaces, whose NICs one process probes; a frame takes 10 µs of a processor from end to end."""
REAL = Pace(patience=10.0, hello=0.02, meet=0.4, quiet=0.1, drain=0.3, budget=float("inf"), longest=1.0)
"""Of hosts that have each a program of its own, and processors of their own."""
EMULATED = Pace(
    patience=30.0,
    hello=0.05,
    meet=1.0,
    quiet=0.3,
    drain=0.5,
    budget=4_000,
    trip=0.1,
    longest=0.5,
    tick=0.005,
    exact=False,
)
"""Of micro-VMs whose processors are emulated: what passes at all, where it ends, and that it is no faster than stated."""


@dataclass(frozen=True)
class Span:
    """A span of time of a load (seconds since loads began), and who sends in it: one end of a cable, or both."""

    start: float
    end: float
    senders: tuple[Port, ...]
    factor: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True)
class Schedule:
    """The loads of each cable, and how long they take in all (seconds)."""

    spans: Mapping[Cable, Sequence[Span]]
    seconds: float


def full_frame(mtu: int) -> int:
    """Return the bytes of a frame that fills an MTU, as the kernel counts them."""
    return mtu + ETHERNET_HEADER


def frames_per_second(rate: float, size: int) -> float:
    """Return how many frames of so many bytes a rate (bit/s) is."""
    return rate / 8 / (size + WIRE_OVERHEAD)


def schedule(
    rates: Mapping[Cable, float],
    size: int,
    pace: Pace,
    *,
    apart: bool = False,
    gentle: bool = False,
    longer: float = 1.0,
) -> Schedule:
    """Return when which end of each cable, by rate (bit/s), sends frames of so many bytes.

    Both ends send at once, except where that alone is more than the processors can be asked for. With ``apart`` each end also
    sends by itself; ``gentle`` offers less than the rate; loads are ``longer`` by so much.
    """
    spans: dict[Cable, list[Span]] = {cable: [] for cable in rates}
    factor = GENTLE if gentle else MORE
    fast = [cable for cable, rate in rates.items() if frames_per_second(rate, size) * 2 > pace.budget]
    frames = (FEWER if len(fast) > FEW else FRAMES) * longer
    clock, used, until = 0.0, 0.0, 0.0
    for cable, rate in sorted(rates.items(), key=lambda one: one[1]):
        each = frames_per_second(rate, size)
        seconds = max(min(pace.longest * longer, frames / each), LEAST / each, SHORTEST)
        both = 2 * each <= pace.budget
        ways: list[tuple[Port, ...]] = [cable.ports] if both else []
        if apart or not both:
            ways += [(port,) for port in cable.ports]
        load = each * (2 if both else 1)
        if used and (used + load > pace.budget or len(ways) > 1):
            clock, used = until, 0.0
        start = clock
        for way in ways:
            spans[cable].append(Span(start, start + seconds, way, factor))
            start += seconds
        used += load
        until = max(until, start)
        if len(ways) > 1:
            clock, used = until, 0.0
    return Schedule(spans, until)


def sizes(size: int) -> list[int]:
    """Return the sizes of the frames that ends send while they meet: the full one again and again, and smaller ones."""
    smaller = [one for one in SMALLER if one < size]
    return [one for each in smaller for one in (size, each)] or [size]
