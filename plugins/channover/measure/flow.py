"""A flow under measurement: iperf3 at work, the NICs sampled beside it, and values that settle as they are compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from statistics import fmean, median

from channover.errors import RigError
from channover.hosts.host import Host, each
from channover.measure.activity import EXTENSION, UnderWay
from channover.measure.cpu_lock import PATIENCE, measuring_slot
from channover.measure.nic_usage import NicUse
from channover.model.link import ETHERNET_HEADER, IPV4_HEADER, UDP_HEADER, Link
from channover.network.programs.iperf import GaveUp, Load, Protocol, Transfer, ports
from channover.network.programs.iperf_output import SLICE
from channover.observe import evidence
from channover.observe.counters import Counters, Processors, processors
from channover.observe.nics import NicSeries, Sampler
from channover.observe.sockets import Subflow
from channover.observe.trace import Pair, Trace
from channover.verdict.measured import Measured, Reading, count
from channover.verdict.settling import CALM, Source
from channover.verdict.several import Each
from channover.verdict.statistics import estimate, settled_part

LOST_WITHIN = 0.005
"""The share of datagrams that a receiver may lose between its NICs and iperf3 before a verdict against it is none."""
ENDING = 60.0
"""How much longer than it is measured iperf3 would go on: the evidence of eighteen emulated hosts takes half a minute."""
MOST_WAITING = 20.0
"""How much longer (seconds) than its limit a flow is measured while its machine's processors are taken away."""
EXACT = 0.005
"""How exact a rate is wanted that nothing was compared with yet: half of what ``near`` gives or takes."""


@dataclass(frozen=True)
class Measuring:
    """How a test measures: the run's settings, and what is told of each flow as it goes."""

    link: Link
    duration: float | None
    limit: float
    native_mptcp: bool = False
    record: Callable[[Reading], None] = field(default=lambda _: None, repr=False)
    opened: Callable[[Flow], None] = field(default=lambda _: None, repr=False)
    progress: Callable[[UnderWay], None] = field(default=lambda _: None, repr=False)
    closed: Callable[[Flow], None] = field(default=lambda _: None, repr=False)
    explain: Callable[[Flow], str] = field(default=lambda _: "", repr=False)
    step: Callable[[str], AbstractContextManager[object]] = field(default=nullcontext, repr=False)
    """Wraps what a report is to show as a step (:attr:`channover.hosts.host.Journal.scope`)."""
    processors: Callable[[], Processors] | None = field(default=None, repr=False)
    """Reads the processors that the lab shares with other machines, as often as wanted; None where it shares none."""
    on_this_machine: bool = True
    """Whether this machine's processors are the wires: then one test measures at a time."""
    ports: Iterator[int] = field(default_factory=ports, repr=False)
    """TCP and UDP ports for what is measured at once: no two have the same."""
    under_way: list[Flow] = field(default_factory=list, repr=False)
    """The flows that have been started and not ended."""

    def turn(self, timeout: float = PATIENCE) -> AbstractContextManager[float]:
        """Wait for this machine's processors, and have them for the length of a block: :func:`measuring_slot`.

        A test whose wires are not this machine's processors does not wait. Raises RigError after ``timeout`` seconds.
        """
        return measuring_slot(self.progress, timeout) if self.on_this_machine else nullcontext(0.0)


@dataclass(eq=False)
class Flow:
    """Traffic between hosts, measured while it runs (:class:`channover.verdict.settling.Source`).

    The first comparison of :attr:`goodput` ends it, as soon as the verdict is settled. What tells of its end, such as
    :attr:`nics_used`, ends it as well, once enough was measured. Of flows that run at once the time counts in which all
    do: the next one's start has them begin anew, and they end together.
    """

    name: str
    protocol: Protocol
    measuring: Measuring
    transfers: list[Transfer]
    series: dict[str, NicSeries] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace, repr=False)
    beside: list[str] = field(default_factory=list)
    """What was measured at once with it, by name: the NICs carried that too."""
    waited: float = 0.0
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)
    _samplers: dict[str, Sampler] = field(default_factory=dict, repr=False)
    _held: ExitStack = field(default_factory=ExitStack, repr=False)
    _processors: Processors | None = field(default=None, repr=False)
    _looked: Processors | None = field(default=None, repr=False)
    _stolen: set[int] = field(default_factory=set, repr=False)
    _starved: str = ""
    _busy: str = ""
    _open: bool = True
    _judged: bool = False
    _extended: bool = False
    _begun: bool = False
    _seen: int = 0
    _since: float = 0.0
    _lead: list[int] = field(default_factory=list, repr=False)

    @property
    def fixed(self) -> bool:
        """Whether it runs for the whole ``--duration``."""
        return self.measuring.duration is not None

    @property
    def limit(self) -> float:
        """The longest that it is measured, in seconds: longer where slices were lost to other machines, or it is extended."""
        if self.fixed:
            return self.measuring.duration or 0.0
        return self.measuring.limit * (EXTENSION if self._extended else 1.0) + min(
            SLICE * len(self._stolen), MOST_WAITING
        )

    @property
    def elapsed(self) -> float:
        """Seconds since it was started, or was joined by another."""
        return self.seconds or time.monotonic() - max(self.started, self._since)

    @property
    def evidence(self) -> Mapping[str, Mapping[str, str]]:
        """What each host showed of itself just before the traffic was ended, by sections; empty while it runs."""
        return self.trace.evidence

    @property
    def _company(self) -> list[Flow]:
        """The flows of the test that run at once, itself among them."""
        return [one for one in self.measuring.under_way if one._open] or [self]

    @property
    def hosts(self) -> list[Host]:
        """Every host whose NICs are sampled."""
        return [sampler.host for sampler in self._samplers.values()]

    def samples(self) -> list[float]:
        """Return the receivers' goodput (bit/s), summed over the transfers, slice by slice, from where all had begun."""
        rates = [transfer.rates()[ahead:] for transfer, ahead in zip(self.transfers, self._ahead(), strict=True)]
        return [sum(row) for row in zip(*rates, strict=False)]

    def _ahead(self) -> list[int]:
        """Return how many slices each transfer had behind it when the last one's first came: they were not at one time."""
        if not self._lead:
            lengths = [len(transfer.rates()) for transfer in self.transfers]
            if not all(lengths):
                return [0] * len(lengths)
            self._lead = [length - min(lengths) for length in lengths]
        return self._lead

    def calm(self) -> list[float]:
        """Return the samples in which no other machine had the processors."""
        return [rate for number, rate in enumerate(self.samples()) if number not in self._stolen]

    def disturbed(self, settled: bool) -> str:
        """Say that the host's processors were too busy to be a wire, or nothing. Ends the flow.

        A settled verdict rests on calm samples where there were enough of them: then it stands. None are calm where the
        processors had no pause at all.
        """
        self.close()
        if lost := self._lost_within():
            return lost
        if self._busy:
            return self._busy
        return "" if settled and (not self._stolen or len(self.calm()) >= 30) else self._starved

    def _lost_within(self) -> str:
        """Say that a receiver got less of its datagrams than its NICs had received, or nothing: no wire has lost those."""
        if self.protocol is not Protocol.UDP or len(self.transfers) > 1 or self.beside or not self.samples():
            return ""
        transfer = self.transfers[0]
        frame = transfer.load.payload + UDP_HEADER + IPV4_HEADER + ETHERNET_HEADER
        series = self.series[transfer.target.name]
        arrived = 0.0
        for device in series.devices:
            moved = series.delta(device)
            size = moved.rx_bytes / moved.rx_packets if moved.rx_packets else 0.0
            if abs(size - frame) < 0.005 * frame:  # the datagrams themselves: a tunnel's segments have other sizes
                arrived += median(series.rate(device, "rx")) * transfer.load.payload / frame
        share = 1 - fmean(settled_part(self.samples())) / arrived if arrived else 0.0
        if share < LOST_WITHIN:
            return ""
        return (
            f"{transfer.target.name} lost {share:.1%} of the datagrams that its NICs had received: other work took the "
            "processor time that it needed"
        )

    def _shared_processors(self) -> Processors:
        """Read the processors that make the wire: this machine's, which all hosts share, or a real host's own."""
        shared = self.measuring.processors
        return shared() if shared is not None else processors(self.transfers[0].source)

    def _look(self, found: int) -> None:
        """Mark the newest slices, and their neighbours, where the processors were somebody else's meanwhile."""
        if self.measuring.processors is not None:
            now = self.measuring.processors()
            if self._looked is not None and now.stolen_since(self._looked):
                self._stolen.update(range(self._seen - 1, found + 1))
            self._looked = now

    def more(self) -> bool:
        """Wait for the next slice; False at the limit, or when the traffic has ended by itself."""
        while self._open:
            self.measuring.progress(self)
            for flow in self._company:  # none at its side may die unseen
                flow._runs()
            new = self._take()
            if self.elapsed > self.limit or not self._runs():
                return False
            if new:
                return True
            time.sleep(0.03)
        return False

    def _runs(self) -> bool:
        """Say whether all of it still sends. Raises RigError."""
        try:
            return all([transfer.running for transfer in self.transfers])
        except GaveUp as error:
            self._again(error)
        return True

    def _take(self) -> bool:
        """Take note of new slices, if there are any."""
        found = len(self.samples())
        if found <= self._seen:
            return False
        if not self._begun and self.protocol is Protocol.MPTCP:
            each(self.trace.meet, self.hosts)
        self._begun = True
        self._look(found)
        self._seen = found
        return True

    def _anew(self) -> None:
        """Let only what comes from now on be measured: another flow has begun."""
        self._lead = [len(transfer.rates()) for transfer in self.transfers] if self.samples() else []
        self._stolen.clear()
        self._seen = 0
        self._since = time.monotonic()

    def extend(self) -> bool:
        """Allow the time of an unsettled verdict, once; False where it was allowed, or the traffic has ended."""
        if self._extended or not self._open or not all(transfer.running for transfer in self.transfers):
            return False
        self._extended = True
        return True

    def _again(self, error: GaveUp) -> None:
        """Start the traffic once more where iperf3 gave up before any of it. Raises the error otherwise.

        iperf3's control connection does not bear a message that comes in two parts, as MPTCP may deliver it.
        """
        if self._begun or self.samples() or self.notes:
            raise error
        self.notes.append(f"iperf3 was started again: {error}")
        loads = [(one.source, one.target, one.load) for one in self.transfers]
        each(Transfer.abandon, self.transfers)
        self.transfers.clear()
        self._lead.clear()
        self.started = time.monotonic()
        self._begin(loads)

    def _watch(self, host: Host) -> None:
        self._samplers[host.name] = Sampler(host)
        self.trace.begin(host)

    def _begin(self, loads: Sequence[tuple[Host, Host, Load]]) -> None:
        placed = [(source, target, replace(load, port=next(self.measuring.ports))) for source, target, load in loads]
        self.transfers += Transfer.start(placed, native_mptcp=self.measuring.native_mptcp)

    def finish(self) -> None:
        """Take it that enough was measured: it ends as soon as that is so of all that run at once. Raises RigError."""
        self._judged = True
        if all(flow._judged for flow in self._company):
            self.close()

    def close(self) -> None:
        """End it, with all that run at once, once enough of each was measured. Raises RigError, BehaviourFailed."""
        if self._open:
            company = self._company
            for flow in company:
                while not (flow._judged or flow._measured_enough) and flow.more():
                    pass
            _end(company)

    @property
    def _measured_enough(self) -> bool:
        """Whether a comparison to come will have the samples that it takes: see :mod:`channover.verdict.settling`."""
        calm = self.calm()
        found = estimate(settled_part(calm))
        return not self.fixed and len(calm) >= CALM and found.half <= EXACT * found.mean

    def _stop(self) -> None:
        """End the traffic, and look at what is left of it."""
        for transfer in self.transfers:
            transfer.stop()
        self.seconds = time.monotonic() - self.started
        if self._processors is not None:
            now = self._shared_processors()
            self._starved = now.starved_since(self._processors)
            self._busy = now.starved_since(self._processors, least_idle=0.01, most_stolen=1.0)
        self.series = dict(zip(self._samplers, each(Sampler.stop, self._samplers.values()), strict=True))
        self.notes += [note for transfer in self.transfers for note in transfer.notes]
        self.notes += self.trace.ended()
        if self.protocol is Protocol.MPTCP:
            with suppress(RigError):  # who asks for fallbacks is told that there is nothing left to look at
                self.notes += [] if self.trace.fallen(self._own) else self.trace.others_fell_back()
        self._held.close()

    def leave(self) -> None:
        """End it with its test: in good order where it was judged, and else as it stands. Raises RigError."""
        judged = [flow for flow in self._company if flow._judged]
        try:
            if self._open and judged:
                _end(judged)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End its programs, whatever state they are in: a test broke off, or never asked for it."""
        if self._open:
            self._open = False
            self._give_up()

    def _give_up(self) -> None:
        with self._held:
            each(Transfer.abandon, self.transfers)
            each(Sampler.abandon, self._samplers.values())
            self._gone()
        if not self.seconds:
            self.seconds = time.monotonic() - self.started

    def _gone(self) -> None:
        if self in self.measuring.under_way:
            self.measuring.under_way.remove(self)

    @property
    def goodput(self) -> Measured:
        """What the receiving applications get, in bit/s."""
        name = f"goodput, {self.name}" if self.beside else "goodput"
        return Measured(name, source=self, record=self.measuring.record, explain=self.explain, about=self)

    def explain(self) -> str:
        """Say what was seen of the flow, and what most likely made it so."""
        return self.measuring.explain(self)

    def _count(self, name: str, number: float, unit: str = "1") -> Measured:
        return replace(count(name, number, self.measuring.record, unit), explain=self.explain, about=self)

    @property
    def nics(self) -> NicUse:
        """What each NIC carried. Ends the flow where it still runs."""
        self.close()
        ends = {host.name: host for transfer in self.transfers for host in (transfer.source, transfer.target)}
        ways: dict[str, set[str]] = {}
        for transfer in self.transfers:
            ways.setdefault(transfer.source.name, set()).add("tx")
            ways.setdefault(transfer.target.name, set()).add("rx")
        return NicUse(self.series, list(ends.values()), self.measuring.link, self._count, ways, self.beside)

    @property
    def nics_used(self) -> Each:
        """On how many NICs the data travelled, at each end."""
        return self.nics.used_count

    @property
    def _ports(self) -> set[int]:
        return {transfer.load.port for transfer in self.transfers}

    @property
    def _own(self) -> list[tuple[str, int, int]]:
        """The hosts and ports of the connections that carried its data, and how many those are there."""
        return [
            (host.name, one.load.port, one.load.streams) for one in self.transfers for host in (one.source, one.target)
        ]

    def established(self, host: Host) -> Measured:
        """Return how many subflows of the flow were established on a host, one that its kernel reset later included."""
        self.close()
        return self._count(f"subflows at {host.name}", len(self.trace.established(host.name, self._ports)))

    def pairs(self, host: Host) -> set[Pair]:
        """Return the addresses between which a host had established subflows of the flow: its own, and the other end's."""
        self.close()
        return {(one.source, one.destination) for one in self.trace.established(host.name, self._ports)}

    def meshed(self, host: Host, mesh: Collection[Pair]) -> Measured:
        """Return how many of these pairs of addresses, a host's own and another, have an established subflow there."""
        missing = sorted(set(mesh) - self.pairs(host))
        value = self._count(f"address pairs of the mesh at {host.name}", len(set(mesh)) - len(missing))
        words = [f"{host.name}: no subflow from {near} to {far}" for near, far in missing]
        return replace(value, explain=lambda: "\n".join([*words, self.explain()]))

    def subflows(self, host: Host) -> tuple[Subflow, ...]:
        """Return the subflows that a host had just before the traffic was ended, listening sockets left out."""
        self.close()
        return self.trace.subflows(host.name)

    def counted(self, host: Host) -> Counters:
        """Return what a host's protocol counters counted during the flow: those of all its programs. Raises RigError."""
        self.close()
        return self.trace.counted(host.name)

    @property
    def offered(self) -> Measured:
        """What the senders offered, in bit/s. It is the rig's: too little of it is no verdict on a behaviour."""
        self.close()
        offered = sum(transfer.offered for transfer in self.transfers)
        return replace(self._count("offered", offered, "bit/s"), of_rig=True)

    @property
    def lost(self) -> Measured:
        """The share (0 to 1) of UDP datagrams that did not arrive: of all that were sent, one where none arrived."""
        self.close()
        each_lost, each_sent = zip(*(transfer.datagrams for transfer in self.transfers), strict=True)
        return self._count("datagrams lost", sum(each_lost) / sum(each_sent) if sum(each_sent) else 1.0)

    @property
    def fallen_back(self) -> Measured:
        """How many of the flow's own connections are MPTCP no more, or never were, by their sockets at either end."""
        return self._count("connections that fell back to TCP", len(self.fallbacks()))

    def fallbacks(self) -> tuple[str, ...]:
        """Say which MPTCP connections of the flow fell back to TCP, and why, if any did. Raises RigError."""
        self.close()
        return tuple(self.trace.fallen(self._own))

    @classmethod
    def start(
        cls,
        name: str,
        loads: Sequence[tuple[Host, Host, Load]],
        measuring: Measuring,
        watched: Sequence[Host] = (),
    ) -> Flow:
        """Start traffic between pairs of hosts, as one flow. Raises RigError."""
        flow = cls(name, loads[0][2].protocol, measuring, [])
        hosts = {host.name: host for source, target, _ in loads for host in (source, target)}
        hosts |= {host.name: host for host in watched}
        flow.waited = flow._held.enter_context(measuring.turn())
        try:
            each(flow._watch, hosts.values())
            flow._samplers = {host: flow._samplers[host] for host in hosts}
            flow.started = time.monotonic()
            # iperf3 is told to go on for longer: it is ended when the verdict is settled.
            longest = EXTENSION * flow.limit + MOST_WAITING + ENDING
            flow._begin([(source, target, replace(load, limit=longest)) for source, target, load in loads])
            flow._processors = flow._shared_processors()
        except BaseException:
            flow.abandon()
            raise
        for other in measuring.under_way:
            other._anew()
            other.beside.append(name)
            flow.beside.append(other.name)
        measuring.under_way.append(flow)
        measuring.opened(flow)
        return flow


def _end(flows: Sequence[Flow]) -> None:
    """Look at the sockets while the traffic of flows still runs, then end it. Raises RigError, BehaviourFailed."""
    for flow in flows:
        flow._open = False
    try:
        hosts = {host.name: host for flow in flows for host in flow.hosts}
        found = evidence.collect_all(hosts.values())
        for flow in flows:
            flow.trace.evidence = {host.name: found[host.name] for host in flow.hosts}
            for transfer in flow.transfers:
                transfer.take()
        for flow in flows:
            flow._stop()
            flow._gone()
    except BaseException:
        each(Flow._give_up, flows)
        raise
    for flow in flows:
        flow.measuring.progress(flow)
        flow.measuring.closed(flow)
        if not flow.samples():
            raise RigError(f"{flow.name}: the receiver gave no figures in {flow.seconds:.1f} s")


_: type[Source] = Flow
