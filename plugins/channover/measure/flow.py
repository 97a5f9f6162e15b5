"""A flow, and the values of it that a test compares: its goodput, what the NICs carried, its subflows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from statistics import fmean

from channover.errors import TestbedError, UsageError
from channover.hosts.host import Host
from channover.measure.measurement import Measuring
from channover.measure.nic_usage import NicUse
from channover.measure.running.metrics import FlowMetrics
from channover.measure.running.programs import Loads, Programs
from channover.measure.running.together import FlowRun
from channover.network.flow_hash import TCP, UDP, Conversation
from channover.network.programs.iperf import Transport
from channover.observe.counters import Counters
from channover.observe.sockets import Subflow
from channover.observe.trace import Pair
from channover.verdict.causes.cause import Explanation
from channover.verdict.causes.options import options_lost
from channover.verdict.measured import Measured, Reading, count
from channover.verdict.several import Each


@dataclass(frozen=True)
class FlowEvents:
    """Who is told of a flow when it has begun and when it has ended in good order."""

    opened: Callable[[Flow], None] = lambda _: None
    closed: Callable[[Flow], None] = lambda _: None


@dataclass(eq=False)
class Flow:
    """Traffic between hosts, measured while it runs.

    The first comparison of :attr:`goodput` ends it, as soon as the verdict is settled. What tells of its end, such as
    :attr:`nics_used`, ends it as well, once enough was measured.
    """

    run: FlowRun
    events: FlowEvents = field(default=FlowEvents(), repr=False)

    @classmethod
    def start(
        cls,
        name: str,
        loads: Loads,
        measuring: Measuring,
        watched: Sequence[Host] = (),
        events: FlowEvents = FlowEvents(),
    ) -> Flow:
        """Start traffic between pairs of hosts, as one flow. Raises TestbedError."""
        flow = cls(FlowRun(name, Programs(loads[0][2].protocol, measuring)), events)
        flow.run.closed = partial(events.closed, flow)
        flow.run.begin(loads, watched)
        events.opened(flow)
        return flow

    @property
    def name(self) -> str:
        """What it is, in a few words: ``tcp left→right``."""
        return self.run.name

    @property
    def programs(self) -> Programs:
        """Its programs, and what the hosts showed of it."""
        return self.run.programs

    @property
    def measuring(self) -> Measuring:
        """How its test measures."""
        return self.programs.measuring

    @property
    def seconds(self) -> float:
        """How long it took; 0 while it runs."""
        return self.run.measurement.seconds

    @property
    def evidence(self) -> Mapping[str, Mapping[str, str]]:
        """What each host showed of itself just before the traffic was ended, by sections; empty while it runs."""
        return self.programs.trace.evidence

    @property
    def goodput(self) -> Measured:
        """What the receiving applications get, in bit/s."""
        name = f"goodput, {self.name}" if self.run.beside else "goodput"
        return Measured(
            name, source=self.run.measurement, on_result=self.measuring.on_result, explain=self.explain, about=self
        )

    def explain(self, missed: Reading) -> Explanation:
        """Say what was seen of the flow, and what most likely made a value of it not what was expected."""
        return self.measuring.explain(self, missed)

    def _count(self, name: str, number: float, unit: str = "1") -> Measured:
        return replace(count(name, number, self.measuring.on_result, unit), explain=self.explain, about=self)

    @property
    def nics(self) -> NicUse:
        """What each NIC carried. Ends the flow where it still runs."""
        self.run.close()
        ways: dict[str, set[str]] = {}
        for transfer in self.programs.transfers:
            ways.setdefault(transfer.source.name, set()).add("tx")
            ways.setdefault(transfer.target.name, set()).add("rx")
        ends = list(self.programs.ends.values())
        return NicUse(self.programs.series, ends, self.measuring.link, self._carried, ways, self.run.beside)

    def _carried(self, name: str, number: float, unit: str = "1") -> Measured:
        """Return a value that a flow short of processor time leaves too low."""
        return replace(self._count(name, number, unit), doubt=lambda found: self._short(found, more_is_one_too=False))

    def _short(self, found: Reading, *, more_is_one_too: bool) -> str:
        """Say what the flow was short of where that may have made a value so; a NIC too many it never makes."""
        return self.run.slices.doubt() if more_is_one_too or found.estimate.mean < found.expectation.low else ""

    @property
    def conversations(self) -> list[Conversation]:
        """Its streams as the hash of a LAG sees them, where their source ports were given. Raises UsageError."""
        loads = [transfer.load for transfer in self.programs.transfers]
        if not all(load.source and load.first_port for load in loads):
            raise UsageError(f"{self.name}: give first_port=…, or nobody knows the source ports of its streams")
        protocol = UDP if self.programs.protocol is Transport.UDP else TCP
        return [
            Conversation(load.source or "", load.target, load.first_port + number, load.port, protocol)
            for load in loads
            for number in range(load.streams)
        ]

    @property
    def nics_used(self) -> Each:
        """On how many NICs the data travelled, at each end."""
        return self.nics.used_count

    def established(self, host: Host) -> Measured:
        """Return how many subflows of the flow were established on a host, one that its kernel reset later included."""
        return self._count(f"subflows at {host.name}", len(self._established(host)))

    def _established(self, host: Host) -> list[Subflow]:
        self.run.close()
        return self.programs.trace.established(host.name, self.programs.ports)

    def pairs(self, host: Host) -> set[Pair]:
        """Return the addresses between which a host had established subflows of the flow: its own, and the other end's."""
        return {(one.source, one.destination) for one in self._established(host)}

    def meshed(self, host: Host, mesh: Collection[Pair]) -> Measured:
        """Return how many of these pairs of addresses, a host's own and another, have an established subflow there."""
        missing = sorted(set(mesh) - self.pairs(host))
        value = self._count(f"address pairs of the mesh at {host.name}", len(set(mesh)) - len(missing))
        return self._with_words(value, [f"{host.name}: no subflow from {near} to {far}" for near, far in missing])

    def _with_words(self, value: Measured, words: Sequence[str]) -> Measured:
        def explain(missed: Reading) -> Explanation:
            found = self.explain(missed)
            return replace(found, seen=(*words, *found.seen))

        return replace(value, explain=explain)

    def announced(self, host: Host) -> Measured:
        """Return how many addresses the other end announced to a host during the flow (ADD_ADDR, RFC 8684, 3.4.1)."""
        return self._count(f"addresses announced to {host.name}", self.counted(host)["MPTcpExtAddAddr"])

    def subflows(self, host: Host) -> tuple[Subflow, ...]:
        """Return the subflows that a host had just before the traffic was ended, listening sockets left out."""
        self.run.close()
        return self.programs.trace.subflows(host.name)

    def counted(self, host: Host) -> Counters:
        """Return what a host's protocol counters counted during the flow: those of all its programs. Raises TestbedError."""
        self.run.close()
        return self.programs.trace.counted(host.name)

    @property
    def offered(self) -> Measured:
        """What the senders offered, in bit/s. Too little of it is no verdict on a behaviour: the senders are the test's own."""
        self.run.close()
        offered = sum(transfer.offered for transfer in self.programs.transfers)
        return replace(self._count("offered", offered, "bit/s"), of_testbed=True)

    @property
    def lost(self) -> Measured:
        """The share (0 to 1) of UDP datagrams that did not arrive: of all that were sent, one where none arrived."""
        self.run.close()
        each_lost, each_sent = zip(*(transfer.datagrams for transfer in self.programs.transfers), strict=True)
        found = self._count("datagrams lost", sum(each_lost) / sum(each_sent) if sum(each_sent) else 1.0)
        return replace(found, doubt=lambda reading: self._short(reading, more_is_one_too=True))

    @property
    def fallen_back(self) -> Measured:
        """How many of the flow's own connections are MPTCP no more, or never were, by their sockets at either end."""
        return self._count("connections that fell back to TCP", len(self.fallbacks()))

    @property
    def options_lost(self) -> tuple[str, ...]:
        """What of MPTCP was lost on the way, by both hosts' counters, such as ``MP_CAPABLE of SYNs``. Raises TestbedError."""
        self.run.close()
        first, before = self.programs.transfers[0], self.programs.trace.before
        ends = []
        for host in (first.source, first.target):
            counted = self.counted(host)
            ends.append({name: counted[name] for name in {*before[host.name], *counted}})  # those that are 0 as well
        return options_lost(*ends)

    def lost_of_mptcp(self, what: str) -> Measured:
        """Return 1 where this, and nothing else, was lost of MPTCP on the way (:attr:`options_lost`), else 0."""
        found = self.options_lost
        value = self._count(f"lost on the way: {what}", int(found == (what,)))
        return self._with_words(value, [f"lost on the way, by the counters: {', '.join(found) or 'nothing'}"])

    def to_port(self, host: Host, port: int) -> Measured:
        """Return how many subflows a host had established to a port of the other end."""
        return self._count(
            f"subflows to port {port}", sum(one.destination_port == port for one in self._established(host))
        )

    def round_trip(self, host: Host, address: str) -> Measured:
        """Return the round trip (s) of the flow's subflow from an address of a host, smoothed, just before it was ended."""
        trips = [one.rtt for one in self._established(host) if one.source == address]
        return self._count(f"round trip from {address}", max(trips, default=0.0), "s")

    @cached_property
    def metrics(self) -> FlowMetrics:
        """What stands beside its rate: round trips, what was sent again, loss, jitter, in each direction and together."""
        self.run.close()
        return FlowMetrics(self.name, self.programs, fmean(self.run.samples() or [0.0]))

    def _metric(self, key: str, name: str, unit: str = "1") -> Measured:
        number: float | None = getattr(self.metrics.whole, key)
        if number is None:
            raise TestbedError(f"{self.name}: its {name} is not known: nothing told it before the traffic was ended")
        return replace(self._count(name, number, unit), doubt=lambda found: self._short(found, more_is_one_too=True))

    @property
    def rtt_idle(self) -> Measured:
        """The shortest round trip (s) that its senders' sockets saw, their handshake's included. Raises TestbedError."""
        return self._metric("rtt_idle", "idle round trip", "s")

    @property
    def rtt_loaded(self) -> Measured:
        """The mean round trip (s) while it ran, of several subflows weighted by what each sent. Raises TestbedError."""
        return self._metric("rtt_loaded", "round trip under load", "s")

    @property
    def buffer_delay(self) -> Measured:
        """By how much the loaded round trip is longer than the idle one, as a share of that (RFC 6349, 4.3)."""
        return self._metric("buffer_delay", "buffer delay")

    @property
    def transfer_time_ratio(self) -> Measured:
        """How many times as long it took as framing allows on the NICs that carried it (RFC 6349, 4.1)."""
        return self._metric("transfer_time_ratio", "transfer time ratio")

    @property
    def efficiency(self) -> Measured:
        """The share (0 to 1) of its senders' bytes that were not sent again (RFC 6349, 4.2)."""
        return self._metric("efficiency", "TCP efficiency")

    @property
    def jitter(self) -> Measured:
        """The mean jitter (s) of its datagrams (RFC 3550, 6.4.1). Raises TestbedError."""
        return self._metric("jitter", "jitter", "s")

    @property
    def reordered(self) -> Measured:
        """The share (0 to 1) of its datagrams that arrived out of their order. Raises TestbedError."""
        return self._metric("reordered", "datagrams out of order")

    def fallbacks(self) -> tuple[str, ...]:
        """Say which MPTCP connections of the flow fell back to TCP, and why, if any did. Raises TestbedError."""
        self.run.close()
        return tuple(self.programs.trace.fallen(self.programs.own))
