"""A flow under measurement: iperf3 at work, the NICs sampled beside it, and values that settle as they are compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import fmean, median

from channover.errors import RigError
from channover.hosts.base import Host
from channover.measuring import EXTENSION, Measuring
from channover.nicuse import NicUse
from channover.observe import evidence
from channover.observe.counters import Counters, Processors, counters, fallback_reasons, processors, refusal_reasons
from channover.observe.nics import NicSeries, Sampler
from channover.observe.sockets import Subflow, parse_tcp, subflows
from channover.slot import measuring_slot
from channover.traffic.iperf import SLICE, Load, Protocol, Transfer
from channover.verdict.expect import Measured, Source, count
from channover.verdict.statistics import settled_part
from channover.wire import ETHERNET_HEADER, IPV4_HEADER, UDP_HEADER

LOST_WITHIN = 0.005
"""The share of datagrams that a receiver may lose between its NICs and iperf3 before a verdict against it is none."""
ENDING = 60.0
"""How much longer than it is measured iperf3 would go on: the evidence of eighteen emulated hosts takes half a minute."""
MOST_WAITING = 20.0
"""How much longer (seconds) than its limit a flow is measured while its machine's processors are taken away."""


@dataclass
class Flow:
    """Traffic between hosts, measured while it runs (:class:`channover.verdict.expect.Source`).

    The first comparison of :attr:`goodput` ends it, as soon as the verdict is settled.
    """

    name: str
    protocol: Protocol
    measuring: Measuring
    transfers: list[Transfer]
    series: dict[str, NicSeries] = field(default_factory=dict)
    evidence: dict[str, Mapping[str, str]] = field(default_factory=dict)
    waited: float = 0.0
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)
    _samplers: dict[str, Sampler] = field(default_factory=dict, repr=False)
    _before: dict[str, Counters] = field(default_factory=dict, repr=False)
    _held: ExitStack = field(default_factory=ExitStack, repr=False)
    _processors: Processors | None = field(default=None, repr=False)
    _looked: Processors | None = field(default=None, repr=False)
    _stolen: set[int] = field(default_factory=set, repr=False)
    _starved: str = ""
    _busy: str = ""
    _open: bool = True
    _extended: bool = False
    _seen: int = 0
    _joined: dict[str, tuple[Subflow, ...]] = field(default_factory=dict, repr=False)
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
        """Seconds since it was started."""
        return self.seconds or time.monotonic() - self.started

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
        """Say that the host's processors were too busy to be a wire, or nothing.

        A settled verdict rests on calm samples where there were enough of them: then it stands. None are calm where the
        processors had no pause at all.
        """
        if lost := self._lost_within():
            return lost
        if self._busy:
            return self._busy
        return "" if settled and (not self._stolen or len(self.calm()) >= 30) else self._starved

    def _lost_within(self) -> str:
        """Say that a receiver got less of its datagrams than its NICs had received, or nothing: no wire has lost those."""
        if self.protocol is not Protocol.UDP or len(self.transfers) > 1 or not self.samples():
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
            try:
                if self.elapsed > self.limit or not all(transfer.running for transfer in self.transfers):
                    return False
            except RigError as error:
                self._again(error)
            found = len(self.samples())
            if found > self._seen:
                if not self._seen and self.protocol is Protocol.MPTCP:
                    self._meet()
                self._look(found)
                self._seen = found
                return True
            time.sleep(0.03)
        return False

    def _meet(self) -> None:
        """Note the subflows that traffic begins with, which are not all there at its end where a kernel resets one."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            for host, found in zip(self.hosts, pool.map(subflows, self.hosts), strict=True):
                self._joined[host.name] = tuple(one for one in found if one.mptcp and one.state == "ESTAB")

    def extend(self) -> bool:
        """Allow the time of an unsettled verdict, once; False where it was allowed, or the traffic has ended."""
        if self._extended or not self._open or not all(transfer.running for transfer in self.transfers):
            return False
        self._extended = True
        return True

    def _again(self, error: RigError) -> None:
        """Start the traffic once more where iperf3 gave up before any of it. Raises the error otherwise.

        iperf3's control connection does not bear a message that comes in two parts, as MPTCP may deliver it.
        """
        if self._seen or self.notes:
            raise error
        self.notes.append(f"iperf3 was started again: {error}")
        loads = [(one.source, one.target, replace(one.load, port=one.load.port + 100)) for one in self.transfers]
        for transfer in self.transfers:
            transfer.abandon()
        self.transfers.clear()
        self._lead.clear()
        self.started = time.monotonic()
        self._begin(loads)

    def _begin(self, loads: Sequence[tuple[Host, Host, Load]]) -> None:
        self.transfers += Transfer.start(loads, native_mptcp=self.measuring.native_mptcp)

    def finish(self) -> None:
        """Look at the sockets while the traffic still runs, then end it. Raises RigError, BehaviourFailed."""
        if not self._open:
            return
        self._open = False
        with self._held:
            self.evidence = evidence.collect_all(self.hosts)
            for transfer in self.transfers:
                transfer.stop()
            self.seconds = time.monotonic() - self.started
            if self._processors is not None:
                now = self._shared_processors()
                self._starved = now.starved_since(self._processors)
                self._busy = now.starved_since(self._processors, least_idle=0.01, most_stolen=1.0)
            with ThreadPoolExecutor(len(self._samplers)) as pool:
                taken = pool.map(Sampler.stop, self._samplers.values())
                self.series = dict(zip(self._samplers, taken, strict=True))
        self.notes += self._ended()
        self.measuring.progress(self)
        self.measuring.closed(self)
        if not self.samples():
            raise RigError(f"{self.name}: the receiver gave no figures in {self.seconds:.1f} s")

    def abandon(self) -> None:
        """End it at the end of a test that broke off."""
        if self._open:
            self._open = False
            self._held.close()

    @property
    def goodput(self) -> Measured:
        """What the receiving applications get, in bit/s."""
        return Measured("goodput", source=self, record=self.measuring.record, explain=self.explain)

    def explain(self) -> str:
        """Say what was seen of the flow, and what most likely made it so."""
        return self.measuring.explain(self)

    def _count(self, name: str, number: float, unit: str = "1") -> Measured:
        return replace(count(name, number, self.measuring.record, unit), explain=self.explain)

    @property
    def nics(self) -> NicUse:
        """What each NIC carried. Ends the flow where it still runs."""
        self.finish()
        ends = {host.name: host for transfer in self.transfers for host in (transfer.source, transfer.target)}
        return NicUse(self.series, list(ends.values()), self.measuring.link, self._count)

    @property
    def nics_used(self) -> Measured:
        """On how many NICs the data travelled: the larger number of the two ends."""
        return self.nics.used_count

    def established(self, host: Host) -> Measured:
        """Return how many subflows of the flow were established on a host, one that its kernel reset later included."""
        ports = {transfer.load.port for transfer in self.transfers}
        seen = (*self._joined.get(host.name, ()), *self.subflows(host))
        ready = {one.pair: one for one in seen if one.state == "ESTAB"}.values()  # the later look has all the bytes
        data = [one for one in ready if ports & {one.source_port, one.destination_port}]
        # iperf3 has a second connection, which controls the first: it carries no data and so never joins a path.
        return self._count("subflows", len([one for one in data if one.token == _busiest(data)]))

    def _ended(self) -> list[str]:
        """Say which subflows ended before the traffic did, and what the kernels counted that may be why.

        Linux now and then resets an additional subflow whose data mapping it does not expect, without a fault of the
        network's (multipath-tcp/mptcp_net-next, issue 501), and opens it no more.
        """
        ended = []
        for name, joined in self._joined.items():
            last = {one.pair for one in parse_tcp(self.evidence[name].get("sockets", ""))}
            ended += [f"{name}: {one} had ended before the traffic did" for one in joined if one.pair not in last]
        return [*ended, *self._reasons(refusal_reasons)] if ended else []

    def subflows(self, host: Host) -> tuple[Subflow, ...]:
        """Return the subflows that a host had just before the traffic was ended, listening sockets left out."""
        self.finish()
        text = self.evidence[host.name].get("sockets", "")
        return tuple(one for one in parse_tcp(text) if one.mptcp and not one.listening)

    def counted(self, host: Host) -> Counters:
        """Return what a host's protocol counters counted during the flow."""
        self.finish()
        return counters(host) - self._before[host.name]

    @property
    def lost(self) -> Measured:
        """The share (0 to 1) of UDP datagrams that did not arrive."""
        self.finish()
        return self._count("datagrams lost", max(transfer.lost_share for transfer in self.transfers))

    def fallbacks(self) -> tuple[str, ...]:
        """Say why MPTCP connections of the flow fell back to TCP, if any did."""
        self.finish()
        return tuple(self._reasons(fallback_reasons))

    def _reasons(self, said: Callable[[Counters, Counters], tuple[str, ...]]) -> list[str]:
        """Return what each host's counters say since the flow was started."""
        known = [host for host in self.hosts if host.name in self._before]
        return [f"{host.name}: {why}" for host in known for why in said(self._before[host.name], counters(host))]

    @classmethod
    def start(
        cls,
        name: str,
        loads: Sequence[tuple[Host, Host, Load]],
        measuring: Measuring,
        watched: Sequence[Host] = (),
    ) -> Flow:
        """Start traffic between pairs of hosts, as one flow. Raises RigError."""
        protocol = loads[0][2].protocol
        flow = cls(name, protocol, measuring, [])
        hosts = {host.name: host for source, target, _ in loads for host in (source, target)}
        hosts |= {host.name: host for host in watched}
        flow.waited = flow._held.enter_context(measuring_slot())
        try:
            with ThreadPoolExecutor(len(hosts)) as pool:
                flow._samplers = dict(zip(hosts, pool.map(Sampler, hosts.values()), strict=True))
            for host in hosts.values():
                if protocol is Protocol.MPTCP:
                    flow._before[host.name] = counters(host)
            flow.started = time.monotonic()
            # iperf3 is told to go on for longer: it is ended when the verdict is settled.
            longest = EXTENSION * flow.limit + MOST_WAITING + ENDING
            flow._begin([(source, target, replace(load, limit=longest)) for source, target, load in loads])
            flow._processors = flow._shared_processors()
        except BaseException:
            flow._held.close()
            raise
        measuring.opened(flow)
        return flow


def _busiest(subflows: Sequence[Subflow]) -> str | None:
    """Return the token of the connection that moved most bytes."""
    moved: dict[str | None, int] = {}
    for one in subflows:
        moved[one.token] = moved.get(one.token, 0) + one.bytes_sent + one.bytes_received
    return max(moved, key=lambda token: moved[token], default=None)


_: type[Source] = Flow
