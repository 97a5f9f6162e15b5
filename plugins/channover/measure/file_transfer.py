"""File copies under measurement: real servers and clients, the NICs sampled beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace

from channover.errors import TestbedError
from channover.hosts.host import Host, each
from channover.measure.activity import End, Waiting
from channover.measure.measurement import Measuring
from channover.measure.nic_usage import USED_SHARE, NicUse
from channover.measure.running.metrics import carrying, ideal, of_tcp, paths
from channover.measure.running.watch import HostsWatch, ProcessorWatch
from channover.network.programs.file_servers import Copy, Copying, FileProtocol, FileServer, serve, start_copy
from channover.network.programs.iperf import PORTS, Transport
from channover.network.programs.provenance import Program, running
from channover.observe.counters import counters
from channover.observe.nics import Sampler, Samplers
from channover.observe.own_connections import own_connections
from channover.observe.sockets import MPTCP_COMMAND, TCP_COMMAND, Subflow, parse_tcp, subflows
from channover.observe.trace import Trace
from channover.report.facts import TrafficMetrics
from channover.verdict.causes.cause import Explanation, said
from channover.verdict.measured import Measured, Reading, count
from channover.verdict.several import Each
from channover.verdict.shortage import Shortage
from channover.verdict.statistics import Estimate

TYPICAL = 1.5
"""How long (seconds) a copy over one link should take: long enough that its start does not show."""
SMALLEST = 5_000_000
"""Bytes of the smallest file: a shaper's bucket lets 16 kB through at once (``tc-tbf(8)``), which must not show."""


LOOK = 0.3
"""Seconds between two looks at the sockets of a copy."""
LONGEST = 10.0
"""Seconds that a copy may go on while the processors have more to do than they can: it would not get any faster."""


@dataclass(frozen=True)
class Copied:
    """A copy that has ended. ``trace`` is what the last look at its sockets showed, ``programs`` are client and server."""

    copy: Copy
    nics: NicUse
    measuring: Measuring = field(repr=False)
    hosts: Sequence[Host] = field(repr=False)
    port: int = 0
    mptcp: bool = False
    addresses: tuple[str, str] = ("", "")
    """The client's and the server's."""
    trace: Trace = field(default_factory=Trace, repr=False)
    programs: Sequence[Program] = ()
    shortage: Shortage | None = field(default=None, repr=False)
    """How the processors were meanwhile; None where they are not this machine's."""

    @property
    def name(self) -> str:
        """What was copied, in a few words: ``copy by HTTP, right→left``."""
        client, server = self.nics.ends
        return _title(self.copy.protocol, client, server)

    @property
    def goodput(self) -> Measured:
        """The file's bytes over the time from the request to the last byte, in bit/s."""
        known = Estimate(self.copy.goodput, 0.0, 1)
        name = f"{self.copy.protocol.name} goodput"
        found = Measured(name, known=known, on_result=self.measuring.on_result, explain=self._explain, about=self)
        return replace(found, doubt=self._short)

    def _short(self, found: Reading) -> str:
        """Say what it was short of, where that may have made a value too low; or nothing."""
        if self.shortage is None or found.estimate.mean >= found.expectation.low:
            return ""
        used = max(len(self.nics.used(host)) for host in self.nics.ends)
        wanted = max(used, 1) * self.measuring.link.tcp_goodput
        return self.shortage.reason(self.copy.goodput, max(used, 1), self.measuring.chosen_rate, wanted)

    @property
    def metrics(self) -> tuple[TrafficMetrics, ...]:
        """What stands beside its rate: the round trips of its server's sockets, and what was sent again (RFC 6349, 4)."""
        client, server = self.nics.ends
        transport = Transport.MPTCP if self.mptcp else Transport.TCP
        own, trips = carrying(self.trace.trips.of_host(server.name), self._own), self.trace.trips
        found = [one.metrics for one in paths(server, own, {}, {one.pair: trips.of(server.name, one) for one in own})]
        best = ideal(self.measuring, self.nics.series, self.hosts, ({server.name}, {client.name}), mptcp=self.mptcp)
        ratio = best / self.copy.goodput if best and self.copy.goodput else None
        return (of_tcp(self.name, transport, server.name, client.name, found, ratio),)

    def _own(self, one: Subflow) -> bool:
        if one.source_port == self.port:
            return True
        between = (one.destination, one.source) == self.addresses and not {one.source_port, one.destination_port} & {
            *PORTS
        }
        return (
            self.copy.protocol is FileProtocol.FTP and between
        )  # its data have a connection of their own (RFC 959, 3.2)

    @property
    def nics_used(self) -> Each:
        """On how many NICs the file travelled, at each end."""
        each_end = self.nics.used_count
        return Each([replace(one, doubt=self._short) for one in each_end.parts])

    def _count(self, name: str, number: float, unit: str = "1") -> Measured:
        return replace(count(name, number, self.measuring.on_result, unit), explain=self._explain)

    @property
    def fallen_back(self) -> Measured:
        """How many of its own connections are MPTCP no more, or never were, by their sockets at either end."""
        return self._count("connections that fell back to TCP", len(self.fallbacks()))

    def fallbacks(self) -> tuple[str, ...]:
        """Say which of its connections fell back to TCP, and why, if any did. Raises TestbedError where none was seen."""
        if not self.trace.evidence:
            raise TestbedError(
                f"{self.name}: its connection was not looked at, as it was no copy by MPTCP, or a very short one"
            )
        return tuple(self.trace.fallen([(host.name, self.port, 1) for host in self.nics.ends]))

    @property
    def packaged(self) -> Measured:
        """How many of its two programs are files of their distribution's packages, unchanged. Raises TestbedError."""
        names = [program.package() for program in self._seen]
        found = self._count("programs as their distribution made them", sum(map(bool, names)))
        return replace(found, explain=lambda _: said(map(_told, self._seen, names)))

    @property
    def mptcp_words(self) -> Measured:
        """How many words of its programs' command lines and settings ask for MPTCP."""
        words = [word for program in self._seen for word in program.about_mptcp]
        return replace(
            self._count("words for MPTCP in commands and settings", len(words)), explain=lambda _: said(words)
        )

    @property
    def addresses_named(self) -> Measured:
        """How many addresses its client's command line names."""
        named = self._seen[0].addresses
        return replace(self._count("addresses that the client names", len(named)), explain=lambda _: said(named))

    @property
    def _seen(self) -> Sequence[Program]:
        if not self.programs:
            raise TestbedError(
                f"{self.name}: its programs were not looked at, as it was no copy by MPTCP, or a very short one"
            )
        return self.programs

    def _explain(self, missed: Reading) -> Explanation:
        return self.measuring.explain(self, missed)


def _title(protocol: FileProtocol, client: Host, server: Host) -> str:
    return f"copy by {protocol.name}, {server.name}→{client.name}"


def _told(program: Program, package: str) -> str:
    return f"{program.host.name}: {program.path} is " + (
        f"of {package}" if package else "of no package, or was changed"
    )


@dataclass(frozen=True)
class FileTransfer:
    """What a test calls to copy a file: ``copies(FileProtocol.HTTP, client, server)``."""

    measuring: Measuring
    closed: Callable[[Copied], None] = field(repr=False)

    def __call__(
        self, protocol: FileProtocol, client: End, server: End, *, mptcp: bool = False, watched: Sequence[Host] = ()
    ) -> Copied:
        """Copy a file from server to client, to its end; both speak MPTCP if asked to. Raises TestbedError."""
        links = 4 if mptcp else 1  # two links, for twice as long: the start of an MPTCP connection is slower
        rate = self.measuring.link.rate
        seconds = self.measuring.duration or max(TYPICAL, SMALLEST * 8 / rate)
        size = int(rate * links * seconds / 8)
        hosts = {host.name: host for host in (client.host, server.host, *watched)}
        trace = Trace()
        with (
            serve(server.host, protocol, str(server.address.ip), size, mptcp=mptcp) as serving,
            self.measuring.turn(),
            ExitStack() as stack,
        ):
            each(trace.begin, [client.host, server.host])
            samplers = stack.enter_context(Samplers(hosts.values()))
            with self.measuring.step(
                f"copy {size:,} bytes by {protocol.name} from {server.host.name} to {client.host.name}"
            ):
                copying = start_copy(client.host, serving)
                stack.callback(copying.abandon)
                watch = ProcessorWatch(self.measuring.processors) if self.measuring.processors else None
                waiting = Waiting(f"copy by {protocol.name}", size * 8 / rate * 5 + 10)
                waiting.receiver = samplers.by_host[client.host.name]
                own = HostsWatch([client.host, server.host] if watch is None and not self.measuring.rehearsed else [])
                own.begin()
                programs = self._watch(copying, waiting, trace, watch)
                own.end()
                self._require_time(copying, watch, samplers.by_host[client.host.name])
                done = copying.wait(1.0)
            series = samplers.stop()
        for flow in self.measuring.under_way:
            flow.beside.append(_title(protocol, client.host, server.host))
        use = NicUse(
            series,
            [client.host, server.host],
            self.measuring.link,
            lambda name, number, unit: count(name, number, self.measuring.on_result, unit),
            {client.host.name: ["rx"], server.host.name: ["tx"]},
            [flow.name for flow in self.measuring.under_way],
        )
        pair = str(client.address.ip), str(server.address.ip)
        short = watch.shortage if watch else own.shortage if own.watches else None
        listed = list(hosts.values())
        copied = Copied(
            done,
            use,
            self.measuring,
            listed,
            serving.port,
            mptcp,
            pair,
            trace,
            programs,
            short,
        )
        self.closed(copied)
        return copied

    def _require_time(self, copying: Copying, watch: ProcessorWatch | None, sampler: Sampler) -> None:
        """Raise TestbedError where a copy goes on since the processors cannot do more than it asks of them."""
        if watch is None or not copying.running or not watch.shortage.full:
            return
        seen = sampler.so_far()
        rates = [seen.mean(device, "rx") for device in seen.devices]
        links = max(sum(rate > sum(rates) * USED_SHARE for rate in rates), 1)
        link = self.measuring.link
        words = watch.shortage.reason(sum(rates), links, self.measuring.chosen_rate, links * link.tcp_goodput)
        title = _title(copying.server.protocol, copying.client, copying.server.host)
        raise TestbedError(f"{title}: not done after {LONGEST:g} s: no verdict: {words}")

    def _watch(self, copying: Copying, waiting: Waiting, trace: Trace, watch: ProcessorWatch | None) -> list[Program]:
        """Wait for a copy's end, and look at its sockets meanwhile, and at its programs where it is by MPTCP.

        It is not waited for where the processors have more to do than they can.
        """
        server: FileServer = copying.server
        hosts = [copying.client, server.host]
        programs: list[Program] = []
        looked = 0.0
        if watch is not None:
            watch.begin()
        while copying.running and waiting.elapsed < waiting.limit:
            self.measuring.progress(waiting)
            if watch is not None:
                watch.look(len(watch.looks), len(watch.looks) + 1)
                if waiting.elapsed > LONGEST and watch.shortage.full:
                    break
            if waiting.elapsed > looked + LOOK:
                looked = waiting.elapsed
                if not server.mptcp:
                    trace.trips.note(server.host.name, subflows(server.host))
                    continue
                seen = dict(zip((host.name for host in hosts), each(_look, hosts), strict=True))
                trace.trips.note(server.host.name, parse_tcp(seen[server.host.name]["sockets"]))
                if all(own_connections(sections, server.port, 1) for sections in seen.values()):
                    trace.evidence = seen
                if not programs:
                    with suppress(TestbedError):  # it has just begun, or just ended: whoever asks for them is told
                        programs = [
                            running(copying.client, copying.process, command=copying.command),
                            running(server.host, server.process, server.settings),
                        ]
            time.sleep(0.05)
        waiting.seconds = waiting.elapsed
        self.measuring.progress(waiting)
        return programs


def _look(host: Host) -> dict[str, str]:
    """Return what a host says of its sockets now, and has counted, as the sections of its evidence. Raises TestbedError."""
    counted = "\n".join(f"{name} {value}" for name, value in counters(host).items())
    tcp, mptcp = (host.run(*command, quiet=True).stdout for command in (TCP_COMMAND, MPTCP_COMMAND))
    return {"sockets": tcp, "connections": mptcp, "counters": counted}
