"""Traffic through the phases of a test, such as before a link is lost, while it is, and after: each has its figures.

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
from typing import Protocol

from channover.errors import TestbedError, UsageError
from channover.hosts.host import Host, Process, each
from channover.measure.activity import End, Waiting
from channover.measure.measurement import Measuring
from channover.measure.running.alive import program
from channover.measure.running.metrics import carrying, of_datagrams, of_tcp, paths
from channover.measure.running.watch import HostsWatch, ProcessorWatch
from channover.model.processors import Strain
from channover.network.programs.iperf import Transport
from channover.network.programs.numbered import SLICE, FlowSeen, StreamSeen
from channover.observe import evidence
from channover.observe.nics import NicCounters, NicSeries, Samplers
from channover.observe.sockets import parse_tcp
from channover.observe.trace import Trace
from channover.report.facts import TrafficMetrics
from channover.verdict.causes.case import ProgramView
from channover.verdict.causes.cause import Explanation, said
from channover.verdict.measured import Measured, Reading, count
from channover.verdict.shortage import Shortage

LOOK = 0.8
"""Seconds between two looks at the sockets of traffic that may end by itself."""


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


class Traffic(Protocol):
    """What goes between two hosts while phases pass."""

    @property
    def now(self) -> float:
        """The receiver's clock, in seconds since its start: when what is done now happens."""
        ...

    @property
    def over(self) -> bool:
        """Whether it has ended by itself."""
        ...

    @property
    def programs(self) -> Sequence[tuple[Host, str, Process]]:
        """The programs that it rests on, each with its host and what it is."""
        ...

    def end(self) -> object:
        """End it, and return what came of it. Raises TestbedError."""
        ...


@dataclass(frozen=True)
class Ends:
    """Between whom traffic goes: who connects, to whom, over what, and whether the data go from client to server."""

    client: End
    server: End
    transport: Transport
    ports: frozenset[int]
    upload: bool = True

    @property
    def hosts(self) -> list[Host]:
        """Both hosts, or the one."""
        return list({end.host.name: end.host for end in (self.client, self.server)}.values())


@dataclass(eq=False)
class Phased:
    """Traffic under way between two hosts, whose phases have names: ``moving.phase("before", 2.0)``."""

    name: str
    traffic: Traffic
    hosts: Sequence[Host]
    ends: Ends
    measuring: Measuring
    samplers: Samplers
    spans: list[Span] = field(default_factory=list)
    series: Mapping[str, NicSeries] = field(default_factory=dict)
    explain: Callable[[Reading], Explanation] = field(default=lambda _: said(), repr=False)
    turn: ExitStack = field(default_factory=ExitStack, repr=False)
    """Its turn to measure: whoever closes it early lets others measure on this machine beside it."""
    trace: Trace = field(default_factory=Trace, repr=False)
    """What its hosts showed before it, and while its last phase's traffic still ran."""
    programs: Sequence[ProgramView] = ()
    """The programs that it rested on, as they were at its end."""
    harms: set[str] = field(default_factory=set)
    """The names of its values of which more is worse, such as gaps: there is more of them where less was carried."""
    _looked: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    _came: object = None

    def now(self) -> Moment:
        """Return the moment."""
        return Moment(self.traffic.now, {name: one.taken for name, one in self.samplers.by_host.items()})

    def phase(self, name: str, seconds: float) -> Span:
        """Let traffic run for so many seconds, as a phase of that name."""
        self.phase_until(name, lambda: False, seconds)
        return self.spans[-1]

    def phase_to_the_end(self, name: str, limit: float) -> float:
        """Let traffic run until it ends by itself, or for ``limit`` seconds, as a phase; return how long (seconds) that was.

        Its sockets are gone with it, and are looked at meanwhile. Raises TestbedError.
        """
        begin = time.monotonic()

        def over() -> bool:
            nonlocal begin
            if not self.traffic.over and time.monotonic() > begin + LOOK:
                begin, self._looked = time.monotonic(), evidence.collect_all(self.hosts)
            return self.traffic.over

        return self.phase_until(name, over, limit)

    def phase_until_carried(self, name: str, host: Host, nic: str, rate: float, limit: float) -> Measured:
        """Let traffic run until a NIC carries ``rate`` (bit/s), or for ``limit`` seconds; return how long (s) that took."""
        sampler, device = self.samplers.by_host[host.name], host.nic(nic).device
        first = sampler.taken

        def carried() -> bool:
            seen = sampler.so_far()
            lately = NicSeries(host.name, seen.times[-3:], {device: seen.samples[device][-3:]})
            return len(seen.times) > first + 3 and max(lately.mean(device, way) for way in ("rx", "tx")) >= rate

        took = self.phase_until(name, carried, limit)
        return self.value(f"until {host.name}.{nic} carries data again", took, "s", [name], harmful=True)

    def phase_until(self, name: str, over: Callable[[], bool], limit: float) -> float:
        """Let traffic run until something is so, or for ``limit`` seconds, as a phase; return how long (seconds) that was."""
        limit = 0.0 if self.measuring.rehearsed else limit
        begin, waiting = self.now(), Waiting(f"{self.name}, {name}", limit)
        target = (self.ends.server if self.ends.upload else self.ends.client).host.name
        waiting.receiver = self.samplers.by_host[target]
        shared = self.measuring.processors
        watch = ProcessorWatch(shared) if shared is not None else HostsWatch(self.ends.hosts)
        watch.begin()
        while waiting.elapsed < limit and not over():
            self.measuring.progress(waiting)
            time.sleep(min(0.1, max(limit - waiting.elapsed, 0.0)))
            if isinstance(watch, ProcessorWatch):
                watch.look(0, 0)
        if isinstance(watch, HostsWatch):
            watch.end()
        waiting.seconds = waiting.elapsed
        self.measuring.progress(waiting)
        self.spans.append(Span(name, begin, self.now(), watch.shortage))
        return waiting.seconds

    def end(self) -> None:
        """End the traffic, and take what its programs, its hosts and the NICs say. Raises TestbedError."""
        if not self.series:
            self.trace.evidence = self._evidence()
            seen = [program(*one) for one in self.traffic.programs]
            self.programs = [one for one in seen if one.state != "ended with code 0"]  # that is as it should be
            self._came = self.traffic.end()
            self.series = self.samplers.stop()

    def _evidence(self) -> Mapping[str, Mapping[str, str]]:
        """Return what hosts show now, and of sockets that are gone with the traffic what they showed before."""
        found = evidence.collect_all(self.hosts)
        if not (self._looked and self.traffic.over):
            return found
        gone = ("sockets", "connections")
        return {
            name: {**sections, **{one: self._looked[name].get(one, "") for one in gone}}
            for name, sections in found.items()
        }

    @property
    def came(self) -> object:
        """What came of the traffic, as its programs tell it. Ends it where it still runs."""
        self.end()
        return self._came

    @property
    def fallbacks(self) -> Sequence[str]:
        """Which of its connections fell back to TCP, and why; none where it is no MPTCP, or none was left to be looked at."""
        self.end()
        if self.ends.transport is not Transport.MPTCP:
            return ()
        own = [(end.host.name, port, 1) for end in (self.ends.client, self.ends.server) for port in self.ends.ports]
        try:
            return self.trace.fallen(own)
        except TestbedError:
            return ()

    def span(self, name: str) -> Span:
        """Return the phase of that name. Raises UsageError where there is none."""
        found = next((one for one in self.spans if one.name == name), None)
        if found is None:
            raise UsageError(f"{self.name} has no phase '{name}'; it has: {', '.join(one.name for one in self.spans)}")
        return found

    def value(
        self,
        name: str,
        number: float,
        unit: str = "1",
        phases: Sequence[str] | None = None,
        *,
        harmful: bool = False,
    ) -> Measured:
        """Return a value that is known exactly, of all phases where it does not say of which.

        What was seen of the traffic explains one that is not as expected, and a machine that was busy in them may have made it.
        Of a ``harmful`` one there is more where less was carried.
        """
        if harmful:
            self.harms.add(name)
        made = count(name, number, self.measuring.on_result, unit)
        spans = self.spans if phases is None else [self.span(phase) for phase in phases]
        return replace(made, explain=self.explain, about=self, doubt=partial(self._doubt, spans))

    def _doubt(self, spans: Sequence[Span], found: Reading) -> str:
        """Say what was short of processor time in phases, so that a value that is not as expected shows nothing; or nothing."""
        rate = found.estimate.mean if found.unit == "bit/s" else 0.0
        for span in spans:
            if why := span.short.reason(rate, 1, self.measuring.chosen_rate, found.expectation.low):
                return f"{span.name}: {why}"
        return ""

    # What a stream tells

    @property
    def stream(self) -> StreamSeen:
        """What came of the stream. Ends it where it still runs. Raises UsageError where there is none."""
        came = self.came
        if not isinstance(came, StreamSeen):
            raise UsageError(f"{self.name} is no stream")
        return came

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
        gap = self.stream.longest_gap(self.span(since).begin.receiver)
        return self.value("longest gap", gap, "s", harmful=True)

    @property
    def whole(self) -> Measured:
        """Return 1 where all that was sent arrived as it was sent, by SHA-256 at both ends, else 0.

        A machine that was busy may keep a stream from its end, and makes none of another.
        """
        unhurried: Sequence[str] | None = [] if self.stream.complete else None
        return self.value("streams that arrived whole", int(self.stream.intact), phases=unhurried)

    @property
    def spoilt(self) -> str:
        """How a stream that arrived to its end is not what was sent; empty where it is, or where there is none."""
        came = self.came
        if not isinstance(came, StreamSeen) or came.intact or not came.complete:
            return ""
        return f"{came.sent:,} bytes were sent, {came.received:,} arrived, and they are not the same (SHA-256)"

    @property
    def ended(self) -> Measured:
        """Return 1 where the receiving application got the stream to its end, else 0."""
        return self.value("streams that ended", int(self.stream.complete))

    # What datagrams tell

    @property
    def flows(self) -> Sequence[FlowSeen]:
        """What came of each flow of datagrams. Ends them where they still run. Raises UsageError where there are none."""
        came = self.came
        if not isinstance(came, list):
            raise UsageError(f"{self.name} has no flows of datagrams")
        return came

    def lost(self, among: Collection[FlowSeen], what: str) -> Measured:
        """Return how many datagrams of these flows never arrived."""
        return self.value(f"datagrams lost, {what}", sum(flow.lost for flow in among), harmful=True)

    def lost_each(self, among: Collection[FlowSeen], what: str, beside: Collection[FlowSeen] = ()) -> Measured:
        """Return how many datagrams any of these flows lost at most, less what any of those ``beside`` did."""
        most, stalled = (max((flow.lost for flow in flows), default=0) for flows in (among, beside))
        return self.value(f"datagrams lost, {what}", max(most - stalled, 0), harmful=True)

    def lost_since(self, phase: str, among: Collection[FlowSeen], what: str, but: Sequence[Span] = ()) -> Measured:
        """Return how many datagrams of these flows were lost in periods that began with a phase or after it, or never ended.

        Those that began in one of ``but`` do not count.
        """
        begin = self.span(phase).begin.receiver - SLICE  # the moment is known to a slice
        lost = [flow.lost_since(begin) - self._lost_in(flow, but) for flow in among]
        return self.value(f"datagrams lost, {what}", sum(lost), harmful=True)

    def lost_in(self, spans: Sequence[Span], among: Collection[FlowSeen], what: str) -> Measured:
        """Return how many datagrams each of these flows lost at most in periods that began in one of these spans."""
        lost = max((self._lost_in(flow, spans) for flow in among), default=0)
        return self.value(f"datagrams lost, {what}", lost, harmful=True)

    def _lost_in(self, flow: FlowSeen, spans: Sequence[Span]) -> int:
        # A moment is known to a slice, and what was lost last shows in the next one.
        return sum(flow.lost_between(one.begin.receiver, one.end.receiver + 2 * SLICE) for one in spans)

    def outage(self, among: Collection[FlowSeen], what: str, beside: Collection[FlowSeen] = ()) -> Measured:
        """Return the longest outage (s) of these flows, less what flows ``beside`` show: a stall of the machine takes both."""
        longest = max((flow.outage for flow in among), default=0.0)
        stalled = max((flow.outage for flow in beside), default=0.0)
        return self.value(f"outage, {what}", max(longest - stalled, 0.0), "s", harmful=True)

    @property
    def metrics(self) -> tuple[TrafficMetrics, ...]:
        """What stands beside its rates: round trips of the sender's sockets and what was sent again; or what datagrams lost."""
        source, target = (
            (self.ends.client, self.ends.server) if self.ends.upload else (self.ends.server, self.ends.client)
        )
        near, far = source.host, target.host
        if self.ends.transport is Transport.UDP:
            came = self.came
            flows = came if isinstance(came, list) else []
            lost, sent, late = (sum(getattr(one, key) for one in flows) for key in ("lost", "sent", "reordered"))
            return (of_datagrams(self.name, near.name, far.name, lost, sent, late, None),) if flows else ()
        shown = self.trace.evidence.get(near.name, {})
        ports = self.ends.ports
        own = carrying(
            parse_tcp(shown.get("sockets", "")), lambda one: bool(ports & {one.source_port, one.destination_port})
        )
        found = [one.metrics for one in paths(near, own, shown, {})]
        return (of_tcp(self.name, self.ends.transport, near.name, far.name, found),)

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
class Phasing:
    """How traffic is let through its phases: what it is measured by, and who is told of it when it is over."""

    measuring: Measuring
    closed: Callable[[Phased], None] = field(repr=False)
    explain: Callable[[Phased, Reading], Explanation] = field(default=lambda _, __: said(), repr=False)

    @contextmanager
    def __call__(
        self,
        name: str,
        made: AbstractContextManager[Traffic],
        ends: Ends,
        watched: Sequence[Host] = (),
        offered: float = math.inf,
        programs: float = 0.0,
    ) -> Iterator[Phased]:
        """Watch the hosts of traffic for the length of a block, which is its turn to measure. Raises TestbedError.

        ``offered`` is what is sent at most (bit/s), ``programs`` how many processors those take that make it or take it.
        """
        hosts = list({host.name: host for host in (ends.client.host, ends.server.host, *watched)}.values())
        trace = Trace()
        with ExitStack() as turn, self.measuring.step(name):
            turn.enter_context(self.measuring.turn(offered=offered, programs=programs))
            each(trace.begin, hosts)
            with Samplers(hosts) as samplers, made as traffic:
                moving = Phased(name, traffic, hosts, ends, self.measuring, samplers, trace=trace, turn=turn)
                moving.explain = lambda missed: self.explain(moving, missed)
                yield moving
                moving.end()
        self.closed(moving)
