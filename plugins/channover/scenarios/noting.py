"""What a test's lab is looked at for beside what it compares: settings before whatever is measured, and notes after it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from channover.errors import TestbedError
from channover.hosts.host import Host
from channover.hosts.lab import Lab
from channover.hosts.readback import Carriers, Readback, read_back, require
from channover.measure.file_transfer import Copied
from channover.measure.flow import Flow
from channover.measure.record import Record
from channover.network.programs.iperf import Transfer, Transport
from channover.observe.counters import Counters, counters
from channover.observe.nics import NicSeries
from channover.verdict import notes
from channover.verdict.notes import Note

PLATEAU = 0.9
"""The share of slices that lie below what a NIC is taken to carry: schedulers of MPTCP leave it idle now and then."""


@dataclass
class Noting:
    """Reads a lab back before whatever is measured, and notes what was seen when it is over."""

    lab: Lab
    record: Record

    def ready(self) -> None:
        """Raise TestbedError that names what was asked of the lab and is not in force, if there is any."""
        found = read_back(self.lab)
        self.record.carriers = Carriers(found.states, time.time())
        require(found.unmet)
        self._note(self._of_cables(found))
        self._note(_unasked(found))

    def of_flow(self, flow: Flow) -> None:
        """Note what was seen of a flow that has ended in good order."""
        trace = flow.programs.trace
        senders = list({one.source.name: one.source for one in flow.programs.transfers}.values())
        self._note(_again(flow.name, {host.name: trace.counted(host.name) for host in senders}))
        for transfer in flow.programs.transfers:
            self._note(notes.reordered(flow.name, transfer.target.name, *transfer.out_of_order))
        self._note(Note("remark", f"{flow.name}: {words}") for words in flow.programs.notes)
        self._note(_of_nics(flow.name, flow.programs.hosts, flow.programs.series))
        if flow.programs.protocol is Transport.MPTCP and not flow.run.beside:
            self._note(_paths(flow.name, flow.programs.transfers, flow.programs.series))
        self._after(flow.name)

    def of_copy(self, copied: Copied) -> None:
        """Note what was seen of a file copy."""
        with suppress(TestbedError):  # what cannot be read any more is not worth the copy
            _, server = copied.nics.ends
            self._note(_again(copied.name, {server.name: counters(server) - copied.trace.before[server.name]}))
        self._note(_of_nics(copied.name, copied.hosts, copied.nics.series))
        self._after(copied.name)

    def _note(self, found: Iterator[Note]) -> None:
        self.record.notes += found

    def _after(self, what: str) -> None:
        """Look once more, now that it is over: at carriers, and at settings that another program changed meanwhile."""
        with suppress(TestbedError):  # a host that is gone is what the test fails of
            now = read_back(self.lab)
            self._note(Note("changed", f"changed while {what} ran: {words}") for words in now.unmet)
            changes = self.record.carriers.changes(self.lab, now.states)
            self._note(notes.flapped(what, port.node, port.nic, number) for port, number in changes)
            self._note(_unasked(now))
            self.record.carriers = Carriers(now.states, time.time())

    def _of_cables(self, now: Readback) -> Iterator[Note]:
        for cable in self.lab.topology.cables:
            mtus = [
                now.states[port.node].links[self.lab.hosts[port.node].nic(port.nic).device].mtu for port in cable.ports
            ]
            yield from notes.unlike_mtus(f"the cable {cable}", (mtus[0], mtus[1]))


def _unasked(now: Readback) -> Iterator[Note]:
    for words in now.unasked:
        yield Note("unasked", f"{words} that nobody asked for")


def _again(what: str, counted: Mapping[str, Counters]) -> Iterator[Note]:
    segments = {host: (one["TcpRetransSegs"], one["TcpOutSegs"]) for host, one in counted.items()}
    yield from notes.retransmissions(what, segments)


def _of_nics(what: str, hosts: Sequence[Host], series: Mapping[str, NicSeries]) -> Iterator[Note]:
    for host in hosts:
        for nic in host.nics.values():
            if nic.device not in series[host.name].devices:
                continue
            moved = series[host.name].delta(nic.device)
            counted = {
                "receive_drops": (moved.rx_drops, moved.rx_packets),
                "receive_errors": (moved.rx_errors, moved.rx_packets),
                "send_drops": (moved.tx_drops, moved.tx_packets),
                "send_errors": (moved.tx_errors, moved.tx_packets),
            }
            yield from notes.dropped(what, host.name, nic.name, counted)


def _paths(what: str, transfers: Sequence[Transfer], series: Mapping[str, NicSeries]) -> Iterator[Note]:
    """Yield that the receivers' NICs are not equally fast, of those that carry data: by what each carries when it is full."""
    for host in {one.target.name: one.target for one in transfers}.values():
        rates = {}
        for nic in host.nics.values():
            if nic.device in series[host.name].devices:
                slices = sorted(series[host.name].rate(nic.device, "rx"))
                rates[nic.name] = slices[int(PLATEAU * (len(slices) - 1))] if slices else 0.0
        most = max(rates.values(), default=0.0)
        yield from notes.unequal_paths(what, host.name, {name: rate for name, rate in rates.items() if rate > most / 2})
