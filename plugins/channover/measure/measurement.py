"""How a test measures: until the verdict settles, or the time is over, by one loop for whatever gives rates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from channover.measure.activity import UnderWay
from channover.measure.cpu_lock import PATIENCE, cpu_lock, make_room
from channover.model.link import Link
from channover.model.processors import Processors
from channover.network.programs.iperf import ports
from channover.verdict.causes.cause import Explanation, said
from channover.verdict.expectation import Expectation
from channover.verdict.measured import Reading
from channover.verdict.settling import Source
from channover.verdict.shortage import OFTEN

EXTENSION = 3.0
"""How many times its limit something is measured where the verdict has not settled by then, whichever way it seems to go."""
CROWDED = 4.0
"""Seconds from which on what has not settled, and waits for processors too often, has the machine for itself."""
WANDERS = 2.0
"""How many times as long that is where hosts have emulated processors: what they carry wanders more."""


class AtOnce(Protocol):
    """A flow that is under way, as others that are measured at once know it."""

    name: str
    beside: list[str]
    """What was measured at once with it, by name: the NICs carried that too."""


@dataclass(frozen=True)
class Measuring:
    """How a test measures: the run's settings, whom it tells, and what it measures at once."""

    link: Link
    duration: float | None
    limit: float
    native_mptcp: bool = False
    on_result: Callable[[Reading], None] = field(default=lambda _: None, repr=False)
    progress: Callable[[UnderWay], None] = field(default=lambda _: None, repr=False)
    step: Callable[[str], AbstractContextManager[object]] = field(default=nullcontext, repr=False)
    """Wraps what a report is to show as a step (:attr:`channover.hosts.host.Journal.scope`)."""
    processors: Callable[[], Processors] | None = field(default=None, repr=False)
    """Reads the processors that the lab shares with other machines, as often as wanted; None where it shares none."""
    explain: Callable[[object, Reading], Explanation] = field(default=lambda _, __: said(), repr=False)
    """Explains a value, of a flow, a copy or a tunnel, that is not as expected."""
    rehearsed: bool = False
    """Whether nothing is done, as in a dry run: then nothing is waited for."""
    on_this_machine: bool = True
    """Whether this machine's processors are the wires: then what is measured takes its share of them."""
    processors_taken: Callable[[float], float] = field(default=lambda _: math.inf, repr=False)
    """Says how many of them traffic takes, in the lab as it now stands, of which so much is offered (bit/s)."""
    waited: Callable[[float], None] = field(default=lambda _: None, repr=False)
    """Is told for how long (seconds) each turn to measure was waited for (:meth:`channover.measure.record.Record.waits`)."""
    cables: Mapping[str, float] = field(default_factory=dict, repr=False)
    """The rate (bit/s) of the cable at each NIC, such as ``left.a``, where that is not the link's."""
    ready: Callable[[], None] = field(default=lambda: None, repr=False)
    """Reads back what was asked of the lab. Raises TestbedError where it is not in force."""
    ports: Iterator[int] = field(default_factory=ports, repr=False)
    """TCP and UDP ports for what is measured at once: no two have the same."""
    extension: float = EXTENSION
    """How many times ``limit`` it is measured where the verdict has not settled by then."""
    under_way: list[AtOnce] = field(default_factory=list, repr=False)
    """The flows that have been started and not ended."""

    @property
    def chosen_rate(self) -> float:
        """The rate of a cable (bit/s) where another could be chosen; 0 of real ones."""
        return self.link.rate if self.on_this_machine else 0.0

    def cable_rate(self, host: str, nic: str) -> float:
        """Return the rate (bit/s) of the cable at a NIC."""
        return self.cables.get(f"{host}.{nic}", self.link.rate)

    @contextmanager
    def turn(self, timeout: float = PATIENCE, offered: float = math.inf, programs: float = 0.0) -> Iterator[None]:
        """Wait for this machine's processors, and have them for the length of a block: :func:`cpu_lock`.

        ``offered`` is what is sent at most (bit/s), infinite where it is all that the links carry; ``programs`` is how
        many processors those take that make it or take it. A test whose wires are not this machine's processors does not
        wait. Then see to it that the lab is as it was asked for: whatever is measured begins here. Raises TestbedError,
        after ``timeout`` seconds for one.
        """
        taken = self.processors_taken(offered) + programs
        with cpu_lock(self.progress, timeout, taken) if self.on_this_machine else nullcontext(0.0) as waited:
            self.waited(waited)
            self.ready()
            yield


class Rates(Protocol):
    """What a measurement takes its rates of: iperf3's receivers, or a device's counters."""

    def samples(self) -> list[float]:
        """Return the rates so far, in bit/s."""
        ...

    def calm(self) -> list[float]:
        """Return those of them that nothing is known to have disturbed."""
        ...

    def shares(self) -> Mapping[str, float]:
        """Return what each NIC of the receiving host carries now, by label, as shares (0 to 1); none where nobody looks."""
        ...

    @property
    def disturbed_for(self) -> float:
        """How much longer (seconds) than its limit it is measured, since it was disturbed for so long."""
        ...

    @property
    def hopeless(self) -> bool:
        """Whether more time changes nothing, once its limit is over."""
        ...

    @property
    def overloaded(self) -> bool:
        """Whether the lab's own work fills the processors: that does not pass, and what has not settled will not."""
        ...

    def take(self) -> bool:
        """Take note of rates that are new; say whether there are any. Raises TestbedError."""
        ...

    def runs(self) -> bool:
        """Say whether there will be more of them. Raises TestbedError."""
        ...

    def disturbed(self, settled: bool) -> str:
        """Say what kept the lab from a verdict, settled or not, against the behaviour; or nothing."""
        ...

    def finish(self) -> None:
        """Take it that enough was measured. Raises TestbedError."""
        ...


@dataclass(eq=False)
class Measurement:
    """Rates that are measured until a verdict settles (:class:`Source`), told of as they come (:class:`UnderWay`)."""

    name: str
    measuring: Measuring
    rates: Rates
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    is_open: bool = True
    expected: Expectation | None = None
    """What it is being compared with, once it is."""
    _extended: bool = False
    _since: float = 0.0

    @property
    def fixed(self) -> bool:
        """Whether it runs for the whole ``--duration``."""
        return self.measuring.duration is not None

    @property
    def limit(self) -> float:
        """The longest that it is measured, in seconds: longer where it was disturbed, or is extended.

        It is shorter where more time changes nothing.
        """
        if self.fixed:
            return self.measuring.duration or 0.0
        if self.rates.hopeless:
            return self.measuring.limit / 2
        return self.measuring.limit * (self.measuring.extension if self._extended else 1.0) + self.rates.disturbed_for

    @property
    def elapsed(self) -> float:
        """Seconds since it was started, or was begun anew."""
        return self.seconds or time.monotonic() - max(self.started, self._since)

    def samples(self) -> list[float]:
        """Return the rates so far, in bit/s."""
        return self.rates.samples()

    def shares(self) -> Mapping[str, float]:
        """Return what each NIC of the receiving host carries now, by label, as shares (0 to 1)."""
        return self.rates.shares()

    def calm(self) -> list[float]:
        """Return those of them that nothing is known to have disturbed."""
        return self.rates.calm()

    def more(self) -> bool:
        """Wait for more rates; False at the limit, or when what gives them has ended by itself. Raises TestbedError."""
        while self.is_open:
            self.measuring.progress(self)
            new = self.rates.take()
            if self.elapsed > self.limit or not self.rates.runs():
                return False
            if new:
                self._make_room()
                return True
            time.sleep(0.03)
        return False

    def _make_room(self) -> None:
        """Have others end and nobody begin, where their work is what keeps this from a verdict."""
        if self.measuring.on_this_machine and not self.fixed and self.elapsed > CROWDED:
            all_of_them = len(self.samples())
            if all_of_them - len(self.calm()) > OFTEN * all_of_them:
                make_room()

    def extend(self) -> bool:
        """Allow the time of an unsettled verdict, once; False where it was allowed, or would change nothing."""
        if self._extended or not self.is_open or self.rates.hopeless or self.rates.overloaded or not self.rates.runs():
            return False
        self._extended = True
        return True

    def anew(self) -> None:
        """Count its time from now on."""
        self._since = time.monotonic()

    def finish(self) -> None:
        """Take it that enough was measured. Raises TestbedError."""
        self.rates.finish()

    def disturbed(self, settled: bool) -> str:
        """Say what kept the lab from a verdict, settled or not, against the behaviour; or nothing."""
        return self.rates.disturbed(settled)

    def over(self) -> float:
        """Note that what gives the rates has ended; return how long (seconds) it took in all."""
        self.seconds = self.seconds or time.monotonic() - self.started
        return self.seconds


_source: type[Source] = Measurement
_under_way: type[UnderWay] = Measurement
