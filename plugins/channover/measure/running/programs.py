"""The programs of a flow: iperf3 between pairs of hosts, and what samples the hosts' NICs beside it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from channover.errors import TestbedError
from channover.hosts.host import Host, each
from channover.measure.measurement import Measuring
from channover.network.programs.iperf import Load, Transfer, Transport
from channover.observe.nics import NicSeries, Samplers
from channover.observe.trace import RoundTrips, Trace

Loads = Sequence[tuple[Host, Host, Load]]
"""What is sent, each with the host that sends and the one that receives."""


@dataclass(eq=False)
class Programs:
    """The programs of a flow, and what they and the hosts say of it: its ``trace`` once it has ended, and remarks."""

    protocol: Transport
    measuring: Measuring
    transfers: list[Transfer] = field(default_factory=list)
    series: dict[str, NicSeries] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace, repr=False)
    notes: list[str] = field(default_factory=list)
    samplers: Samplers | None = field(default=None, repr=False)

    @property
    def hosts(self) -> list[Host]:
        """Every host whose NICs are sampled."""
        return list(self.samplers.hosts) if self.samplers is not None else []

    @property
    def ends(self) -> dict[str, Host]:
        """The hosts that send or receive, by name."""
        return {host.name: host for transfer in self.transfers for host in (transfer.source, transfer.target)}

    @property
    def ports(self) -> set[int]:
        """The ports of the receivers."""
        return {transfer.load.port for transfer in self.transfers}

    @property
    def own(self) -> list[tuple[str, int, int]]:
        """The hosts and ports of the connections that carried its data, and how many those are there."""
        return [
            (host.name, one.load.port, one.load.streams) for one in self.transfers for host in (one.source, one.target)
        ]

    def watch(self, hosts: Sequence[Host]) -> None:
        """Sample the NICs of hosts from now on, and read their counters. Raises TestbedError."""
        self.samplers = Samplers(hosts)
        each(self.trace.begin, hosts)

    def begin(self, loads: Loads) -> None:
        """Start iperf3 for each load, on ports of their own. Raises TestbedError."""
        self.trace.trips = RoundTrips()
        placed = [(source, target, replace(load, port=next(self.measuring.ports))) for source, target, load in loads]
        self.transfers += Transfer.start(placed, native_mptcp=self.measuring.native_mptcp)

    def withdraw(self) -> Loads:
        """End iperf3 as it stands; return what it was to send."""
        loads = [(one.source, one.target, one.load) for one in self.transfers]
        each(Transfer.abandon, self.transfers)
        self.transfers.clear()
        return loads

    def running(self) -> bool:
        """Say whether all of it still sends. Raises GaveUp where iperf3 does, and TestbedError."""
        return all([transfer.running for transfer in self.transfers])

    def meet(self) -> None:
        """Note which subflows the traffic begins with, where it is MPTCP. Raises TestbedError."""
        if self.protocol is Transport.MPTCP:
            each(self.trace.meet, self.hosts)

    def look(self) -> None:
        """Note the round trips of the subflows by which the traffic is sent, where it is MPTCP."""
        if self.protocol is Transport.MPTCP:
            self.trace.trips.look(list({one.source.name: one.source for one in self.transfers}.values()))

    def stop_traffic(self) -> None:
        """End the traffic. Raises TestbedError where iperf3 says that it failed."""
        for transfer in self.transfers:
            transfer.stop()

    def stop_sampling(self) -> None:
        """End the samplers, once the traffic has ended, and say what is worth a remark. Raises TestbedError."""
        self.series = self.samplers.stop() if self.samplers is not None else {}
        self.notes += [note for transfer in self.transfers for note in transfer.notes]
        self.notes += self.trace.ended()
        if self.protocol is Transport.MPTCP:
            with suppress(TestbedError):  # who asks for fallbacks is told that there is nothing left to look at
                self.notes += [] if self.trace.fallen(self.own) else self.trace.others_fell_back()

    def abandon(self) -> None:
        """End all of them, whatever state they are in."""
        each(Transfer.abandon, self.transfers)
        if self.samplers is not None:
            self.samplers.abandon()
