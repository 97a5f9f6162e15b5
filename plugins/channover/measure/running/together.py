"""How a flow begins and ends: with the flows that run at once, since their time counts in which all run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from channover.hosts.host import Host, each
from channover.measure.measurement import Measurement, Rates
from channover.measure.running.programs import Loads, Programs
from channover.measure.running.slices import MOST_WAITING, Slices
from channover.network.programs.iperf import GaveUp, Transport
from channover.observe import evidence

ENDING = 60.0
"""How much longer than it is measured iperf3 would go on: the evidence of eighteen emulated hosts takes half a minute."""


@dataclass(eq=False)
class FlowRun:
    """A flow from its start to its end, as what is measured of it (:class:`channover.measure.measurement.Rates`).

    Of flows that run at once the time counts in which all do: the next one's start has them begin anew, and they end
    together. ``closed`` is told of its end in good order.
    """

    name: str
    programs: Programs
    closed: Callable[[], None] = field(default=lambda: None, repr=False)
    slices: Slices = field(init=False, repr=False)
    measurement: Measurement = field(init=False, repr=False)
    beside: list[str] = field(default_factory=list)
    _held: ExitStack = field(default_factory=ExitStack, repr=False)
    _judged: bool = False

    def __post_init__(self) -> None:
        self.slices = Slices(self.programs)
        self.measurement = Measurement(self.name, self.programs.measuring, self)

    @property
    def is_open(self) -> bool:
        """Whether it has not been ended."""
        return self.measurement.is_open

    @property
    def _company(self) -> list[FlowRun]:
        """The flows of the test that run at once, itself among them."""
        return [one for one in self._under_way if one.is_open] or [self]

    @property
    def _under_way(self) -> list[FlowRun]:
        return [one for one in self.programs.measuring.under_way if isinstance(one, FlowRun)]

    def samples(self) -> list[float]:
        """Return the receivers' goodput so far (bit/s), slice by slice."""
        return self.slices.samples()

    def shares(self) -> Mapping[str, float]:
        """Return what each NIC of the first receiver carries now, by label, as shares (0 to 1)."""
        transfers, samplers = self.programs.transfers, self.programs.samplers
        return samplers.by_host[transfers[0].target.name].shares("rx") if transfers and samplers else {}

    def calm(self) -> list[float]:
        """Return the samples in which none of the run's programs waited for a processor."""
        return self.slices.calm()

    @property
    def disturbed_for(self) -> float:
        """How much longer (seconds) it is measured for the slices in which other work had the processors."""
        return self.slices.disturbed_for

    @property
    def hopeless(self) -> bool:
        """Whether more time changes nothing: the lab's own work is more than the processors can do."""
        return self.slices.hopeless

    @property
    def overloaded(self) -> bool:
        """Whether the lab's own work fills the processors: that does not pass, and what has not settled will not."""
        return self.slices.overloaded

    def take(self) -> bool:
        """Take note of new slices; False where there are none. Raises TestbedError where a program of any flow has died."""
        for run in self._company:  # none at its side may die unseen
            run.runs()
        return self.slices.take()

    def runs(self) -> bool:
        """Say whether all of it still sends; start it once more where iperf3 gave up before any of it. Raises TestbedError.

        iperf3's control connection does not bear a message that comes in two parts, as MPTCP may deliver it. Where it cannot
        be made a second time either, nothing arrives.
        """
        if self.slices.silent:
            return False
        try:
            return self.programs.running()
        except GaveUp as error:
            if self.slices.begun or self.samples() or (self.programs.notes and "unable to connect" not in str(error)):
                raise
            if self.programs.notes and any(one.server.poll() is not None for one in self.programs.transfers):
                raise
            if self.programs.notes:
                self.programs.notes.append(f"nothing arrived: {error}")
                self.slices.silent = True
                return False
            self.programs.notes.append(f"iperf3 was started again: {error}")
            loads = self.programs.withdraw()
            self.slices.forget_lead()
            self.measurement.started = time.monotonic()
            self.programs.begin(loads)
            return True

    def disturbed(self, settled: bool) -> str:
        """Say that the hosts' processors were too busy to be a wire, or nothing. Ends the flow."""
        self.close()
        return self.slices.disturbed(settled, alone=not self.beside)

    def begin(self, loads: Loads, watched: Sequence[Host]) -> None:
        """Start it, once it is this process's turn to measure, beside the flows that are under way. Raises TestbedError."""
        measuring = self.programs.measuring
        hosts = {host.name: host for source, target, _ in loads for host in (source, target)}
        hosts |= {host.name: host for host in watched}
        datagrams = self.programs.protocol is Transport.UDP
        offered = sum(load.offered * load.streams for _, _, load in loads) if datagrams else math.inf
        self._held.enter_context(measuring.turn(offered=offered))
        try:
            self.programs.watch(list(hosts.values()))
            self.measurement.started = time.monotonic()
            # iperf3 is told to go on for longer: it is ended when the verdict is settled.
            longest = self.measurement.measuring.extension * self.measurement.limit + MOST_WAITING + ENDING
            self.programs.begin([(source, target, replace(load, limit=longest)) for source, target, load in loads])
            self.slices.begin()
        except BaseException:
            self.abandon()
            raise
        for other in self._under_way:
            other.slices.anew()
            other.measurement.anew()
            other.beside.append(self.name)
            self.beside.append(other.name)
        measuring.under_way.append(self)

    def finish(self) -> None:
        """Take it that enough was measured: it ends as soon as that is so of all that run at once. Raises TestbedError."""
        self._judged = True
        if all(run._judged for run in self._company):
            self.close()

    def close(self) -> None:
        """End it, with all that run at once, once enough of each was measured. Raises TestbedError, BehaviourFailed."""
        if self.is_open:
            company = self._company
            for run in company:
                while not run._has_enough and run.measurement.more():
                    pass
            _end(company)

    def share(self) -> None:
        """Give up its turn, and go on: others may measure on this machine beside it."""
        self._held.close()

    @property
    def _has_enough(self) -> bool:
        return self._judged or (not self.measurement.fixed and self.slices.enough)

    def leave(self) -> None:
        """End it with its test: in good order where it was judged, and else as it stands. Raises TestbedError."""
        judged = [run for run in self._company if run._judged]
        try:
            if self.is_open and judged:
                _end(judged)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End its programs, whatever state they are in: a test broke off, or never asked for it."""
        if self.is_open:
            self.measurement.is_open = False
            self._give_up()

    def _give_up(self) -> None:
        with self._held:
            self.programs.abandon()
            self._gone()
        self.measurement.over()

    def _stop(self) -> None:
        """End the traffic, and look at what is left of it. Raises TestbedError."""
        self.programs.stop_traffic()
        self.measurement.over()
        self.programs.stop_sampling()
        self._held.close()
        self._gone()

    def _gone(self) -> None:
        under_way = self.programs.measuring.under_way
        if self in under_way:
            under_way.remove(self)


def _end(runs: Sequence[FlowRun]) -> None:
    """Look at the sockets while the traffic of flows still runs, then end it. Raises TestbedError, BehaviourFailed."""
    for run in runs:
        run.measurement.is_open = False
    try:
        hosts = {host.name: host for run in runs for host in run.programs.hosts}
        found = evidence.collect_all(hosts.values())
        for run in runs:
            run.programs.trace.evidence = {host.name: found[host.name] for host in run.programs.hosts}
            for transfer in run.programs.transfers:
                transfer.take()
            run.slices.end()
        for run in runs:
            run._stop()
            run.slices.silent |= not run.samples()  # nothing arrived, though its programs ran: a verdict like any other
    except BaseException:
        each(FlowRun._give_up, runs)
        raise
    for run in runs:
        run.programs.measuring.progress(run.measurement)
        run.closed()


_: type[Rates] = FlowRun
