"""Numbered traffic through the phases of a test, such as before a link is lost, while it is, and after: each has its figures.

What hosts say of themselves is not told apart by clocks, which differ between machines, but by how much they had said when a
phase began and ended: slices of the receiver, samples of the NICs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean

from channover.errors import UsageError
from channover.hosts.host import Host
from channover.measure.activity import End, Waiting
from channover.measure.measurement import Measuring
from channover.measure.running.watch import ProcessorWatch
from channover.model.processors import Strain
from channover.network.programs import numbered
from channover.network.programs.iperf import Transport
from channover.network.programs.numbered import Datagrams, FlowSeen, Stream, StreamSeen
from channover.observe.nics import NicCounters, NicSeries, Samplers
from channover.observe.processors import processors
from channover.verdict.causes.cause import Explanation, said
from channover.verdict.measured import Measured, Reading, count
from channover.verdict.shortage import Shortage

DATAGRAM_PORT, STREAM_PORT = 5900, 5901
"""Of the receivers of numbered traffic: between those of display servers and of X, which no lab's host runs."""


@dataclass(frozen=True)
class Moment:
    """When something happened: seconds by the receiver's clock, and how many samples of each host's NICs were there."""

    receiver: float
    samples: Mapping[str, int]


@dataclass(frozen=True)
class Span:
    """A phase: its name, and when it began and ended. A name that begins with ``fault`` is hatched in the plot."""

    name: str
    begin: Moment
    end: Moment
    short: Shortage = field(default=Shortage(Strain(0.0, 1.0, 0.0)), repr=False)
    """How the processors were meanwhile that make the wires."""


@dataclass(eq=False)
class Phased:
    """Numbered traffic under way between two hosts, whose phases have names: ``moving.phase("before", 2.0)``."""

    name: str
    traffic: Stream | Datagrams
    hosts: Sequence[Host]
    ends: Sequence[Host]
    measuring: Measuring
    samplers: Samplers
    transport: Transport
    addresses: tuple[str | None, str]
    """From which it is sent (None: the kernel chooses), and to which."""
    spans: list[Span] = field(default_factory=list)
    series: Mapping[str, NicSeries] = field(default_factory=dict)
    explain: Callable[[Reading], Explanation] = field(default=lambda _: said(), repr=False)
    turn: ExitStack = field(default_factory=ExitStack, repr=False)
    """Its turn to measure: whoever closes it early lets others measure on this machine beside it."""
    _stream: StreamSeen | None = None
    _flows: Sequence[FlowSeen] | None = None

    def now(self) -> Moment:
        """Return the moment."""
        return Moment(self.traffic.now, {name: one.taken for name, one in self.samplers.by_host.items()})

    @property
    def port(self) -> int:
        """The receiver's port."""
        return STREAM_PORT if isinstance(self.traffic, Stream) else DATAGRAM_PORT

    def phase(self, name: str, seconds: float) -> Span:
        """Let traffic run for so many seconds, as a phase of that name."""
        self.phase_until(name, lambda: False, seconds)
        return self.spans[-1]

    def phase_until(self, name: str, over: Callable[[], bool], limit: float) -> float:
        """Let traffic run until something is so, or for ``limit`` seconds, as a phase; return how long (seconds) that was."""
        limit = 0.0 if self.measuring.rehearsed else limit
        shared = self.measuring.processors
        watch = ProcessorWatch(shared or (lambda: processors(self.ends[0])))
        begin, waiting = self.now(), Waiting(f"{self.name}, {name}", limit)
        watch.begin()
        while waiting.elapsed < limit and not over():
            self.measuring.progress(waiting)
            time.sleep(min(0.1, max(limit - waiting.elapsed, 0.0)))
            if shared is not None:
                watch.look(0, 0)
        if shared is None:  # a host of its own is asked twice, and no more
            watch.look(0, 0)
        waiting.seconds = waiting.elapsed
        self.measuring.progress(waiting)
        self.spans.append(Span(name, begin, self.now(), watch.shortage))
        return waiting.seconds

    def end(self) -> None:
        """End the traffic, and take what its programs and the NICs say. Raises TestbedError."""
        if not self.series:
            if isinstance(self.traffic, Stream):
                self._stream = self.traffic.end()
            else:
                self._flows = self.traffic.end()
            self.series = self.samplers.stop()

    def span(self, name: str) -> Span:
        """Return the phase of that name. Raises UsageError where there is none."""
        found = next((one for one in self.spans if one.name == name), None)
        if found is None:
            raise UsageError(f"{self.name} has no phase '{name}'; it has: {', '.join(one.name for one in self.spans)}")
        return found

    def value(self, name: str, number: float, unit: str = "1", phases: Sequence[str] | None = None) -> Measured:
        """Return a value that is known exactly, of all phases where it does not say of which.

        What was seen of the traffic explains one that is not as expected, and a machine that was busy in them may have made it.
        """
        made = count(name, number, self.measuring.on_result, unit)
        spans = self.spans if phases is None else [self.span(phase) for phase in phases]
        return replace(made, explain=self.explain, about=self, doubt=partial(self._doubt, spans))

    def _doubt(self, spans: Sequence[Span], found: Reading) -> str:
        """Say what was short of processor time in phases, so that a value that is not as expected shows nothing; or nothing."""
        rate = found.estimate.mean if found.unit == "bit/s" else 0.0
        for span in spans:
            where = "this machine" if self.measuring.processors is not None else self.ends[0].name
            if why := span.short.reason(rate, 1, self.measuring.chosen_rate, found.expectation.low, where):
                return f"{span.name}: {why}"
        return ""

    # What a stream tells

    @property
    def stream(self) -> StreamSeen:
        """What came of the stream. Ends it where it still runs. Raises UsageError where there is none."""
        self.end()
        if self._stream is None:
            raise UsageError(f"{self.name} is no stream")
        return self._stream

    def goodput(self, phase: str, *, after: float = 0.0) -> Measured:
        """Return what the receiving application got in a phase, in bit/s, its first ``after`` seconds left out.

        It is what arrived in that time, known exactly: no estimate of what would have arrived in a longer one.
        """
        span = self.span(phase)
        rates = self.stream.rates(span.begin.receiver + after, span.end.receiver)
        name = f"goodput {phase}" + (f", from {after:g} s on" if after else "")
        return self.value(name, fmean(rates) if rates else 0.0, "bit/s", [phase])

    def longest_gap(self, since: str) -> Measured:
        """Return the longest time (s) in which the receiving application got nothing, from the begin of a phase on."""
        return self.value("longest gap", self.stream.longest_gap(self.span(since).begin.receiver), "s")

    @property
    def whole(self) -> Measured:
        """Return 1 where all that was sent arrived as it was sent, by SHA-256 at both ends, else 0."""
        return self.value("streams that arrived whole", int(self.stream.intact), phases=[])

    # What datagrams tell

    @property
    def flows(self) -> Sequence[FlowSeen]:
        """What came of each flow of datagrams. Ends them where they still run. Raises UsageError where there are none."""
        self.end()
        if self._flows is None:
            raise UsageError(f"{self.name} has no flows of datagrams")
        return self._flows

    def lost(self, among: Collection[FlowSeen], what: str) -> Measured:
        """Return how many datagrams of these flows never arrived."""
        return self.value(f"datagrams lost, {what}", sum(flow.lost for flow in among))

    def lost_each(self, among: Collection[FlowSeen], what: str, beside: Collection[FlowSeen] = ()) -> Measured:
        """Return how many datagrams any of these flows lost at most, less what any of those ``beside`` did."""
        most, stalled = (max((flow.lost for flow in flows), default=0) for flows in (among, beside))
        return self.value(f"datagrams lost, {what}", max(most - stalled, 0))

    def lost_since(self, phase: str, among: Collection[FlowSeen], what: str) -> Measured:
        """Return how many datagrams of these flows were lost in periods that began with a phase or after it, or never ended."""
        begin = self.span(phase).begin.receiver - numbered.SLICE  # the moment is known to a slice
        return self.value(f"datagrams lost, {what}", sum(flow.lost_since(begin) for flow in among))

    def outage(self, among: Collection[FlowSeen], what: str, beside: Collection[FlowSeen] = ()) -> Measured:
        """Return the longest outage (s) of these flows, less what flows ``beside`` show: a stall of the machine takes both."""
        longest = max((flow.outage for flow in among), default=0.0)
        stalled = max((flow.outage for flow in beside), default=0.0)
        return self.value(f"outage, {what}", max(longest - stalled, 0.0), "s")

    # What NICs tell

    def moved(self, host: Host, nic: str, phase: str) -> NicCounters:
        """Return what a NIC's counters grew by in a phase. Ends the traffic where it still runs."""
        self.end()
        span = self.span(phase)
        samples = self.series[host.name].samples[host.nic(nic).device]
        first, last = (max(min(one.samples[host.name], len(samples)) - 1, 0) for one in (span.begin, span.end))
        return samples[last] - samples[first]

    def carried(self, host: Host, nic: str, phase: str) -> Measured:
        """Return the bytes that a NIC carried in a phase, both directions together."""
        return self.value(
            f"bytes of {host.name}.{nic} {phase}", self.moved(host, nic, phase).total_bytes, phases=[phase]
        )

    @property
    def bands(self) -> list[tuple[str, float, float]]:
        """The phases for a plot: name, begin and end in seconds since the first host's first sample."""
        host = self.hosts[0].name
        times = self.series[host].times

        def at(moment: Moment) -> float:
            return times[max(min(moment.samples[host], len(times)) - 1, 0)] - times[0]

        return [(span.name, at(span.begin), at(span.end)) for span in self.spans]


@dataclass(frozen=True)
class NumberedTraffic:
    """What a test calls for numbered traffic: ``with traffic.stream(left, right, mptcp=True) as moving``."""

    measuring: Measuring
    closed: Callable[[Phased], None] = field(repr=False)
    explain: Callable[[Phased, Reading], Explanation] = field(default=lambda _, __: said(), repr=False)

    @contextmanager
    def stream(
        self,
        source: End,
        target: End,
        *,
        mptcp: bool,
        size: int = 0,
        limit: float = 120.0,
        watched: Sequence[Host] = (),
        bound: bool = False,
    ) -> Iterator[Phased]:
        """Send bytes over one connection for the length of a block: ``size`` of them, or without an end (0).

        ``limit`` is seconds; ``bound`` binds the connection to the source's address. Raises TestbedError.
        """
        made = numbered.stream(
            source.host,
            target.host,
            str(target.address.ip),
            STREAM_PORT,
            mptcp=mptcp,
            source=str(source.address.ip) if bound else None,
            size=size,
            limit=limit,
        )
        transport = Transport.MPTCP if mptcp else Transport.TCP
        name = f"{transport.value} stream {source.host.name}→{target.host.name}"
        with self._phased(name, made, source, target, watched, transport, bound=bound or not mptcp) as moving:
            yield moving

    @contextmanager
    def datagrams(
        self,
        source: End,
        target: End,
        *,
        flows: int = 8,
        rate: float = 100.0,
        payload: int = 1000,
        limit: float = 120.0,
        watched: Sequence[Host] = (),
        first_port: int = numbered.FIRST_PORT,
    ) -> Iterator[Phased]:
        """Send flows of numbered datagrams for the length of a block, ``rate`` a second in each, of ``payload`` bytes.

        Flow n has the source port ``first_port`` + n; ``limit`` is seconds. Raises TestbedError.
        """
        made = numbered.datagrams(
            source.host,
            target.host,
            str(source.address.ip),
            str(target.address.ip),
            DATAGRAM_PORT,
            flows=flows,
            rate=rate,
            payload=payload,
            limit=limit,
            first_port=first_port,
        )
        name = f"{flows} flows of datagrams {source.host.name}→{target.host.name}"
        offered = 8.0 * flows * rate * payload
        with self._phased(name, made, source, target, watched, Transport.UDP, bound=True, offered=offered) as moving:
            yield moving

    @contextmanager
    def _phased(
        self,
        name: str,
        made: AbstractContextManager[Stream | Datagrams],
        source: End,
        target: End,
        watched: Sequence[Host],
        transport: Transport,
        *,
        bound: bool,
        offered: float = math.inf,
    ) -> Iterator[Phased]:
        hosts = list({host.name: host for host in (source.host, target.host, *watched)}.values())
        ends = source.host, target.host
        addresses = str(source.address.ip) if bound else None, str(target.address.ip)
        with ExitStack() as turn, self.measuring.step(name):
            turn.enter_context(self.measuring.turn(offered=offered))
            with Samplers(hosts) as samplers, made as traffic:
                moving = Phased(name, traffic, hosts, ends, self.measuring, samplers, transport, addresses, turn=turn)
                moving.explain = lambda missed: self.explain(moving, missed)
                yield moving
                moving.end()
        self.closed(moving)
