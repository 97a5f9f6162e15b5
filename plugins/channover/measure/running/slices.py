"""The receivers' goodput of a flow, slice by slice, and what disturbed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, median

from channover.measure.running.programs import Programs
from channover.measure.running.watch import HostsWatch, ProcessorWatch
from channover.model.link import ETHERNET_HEADER, UDP_HEADER
from channover.model.processors import Processors
from channover.network.programs.iperf import Transport
from channover.network.programs.iperf_output import SLICE
from channover.verdict import shortage
from channover.verdict.settling import CALM, SURE
from channover.verdict.shortage import Shortage
from channover.verdict.statistics import estimate, settled_part

LOST_WITHIN = 0.005
"""The share of datagrams that a receiver may lose between its NICs and iperf3 before a verdict against it is none."""
ALL = 0.01
"""The share by which something may fall short of all."""
MOST_WAITING = 20.0
"""How much longer (seconds) than its limit a flow is measured while its machine's processors are taken away."""
LEAST_CARRIED = 0.1
"""The share of a host's bytes from which on a link counts that a tunnel's carrier goes by."""
EXACT = 0.0075
"""How exact a rate is wanted that nothing was compared with yet: as sure as a look at it will be, within what ``near`` gives or
takes, less a little by which its mean may be beside what is expected."""


def short_offer(offered: float, asked: float, lost: float) -> str:
    """Say that less was offered (bit/s) than was asked for, and that no wire is to blame: of it, only a share was ``lost``."""
    if offered >= (1 - ALL) * asked or lost > ALL:
        return ""
    return f"the senders offered {offered / 1e6:.1f} of {asked / 1e6:.1f} Mbit/s, and {1 - lost:.1%} of it arrived"


@dataclass(eq=False)
class Slices:
    """The goodput of a flow's receivers (bit/s), in slices of SLICE seconds, and which slices are to be trusted."""

    programs: Programs
    begun: bool = False
    silent: bool = False
    """Whether it has ended and nothing had arrived at all: then each of its slices is 0."""
    _seen: int = 0
    watch: ProcessorWatch = field(init=False, repr=False)
    _lead: list[int] = field(default_factory=list)

    _hosts: HostsWatch | None = field(default=None, repr=False)
    """Of hosts that have processors of their own."""

    def __post_init__(self) -> None:
        self.watch = ProcessorWatch(self.programs.measuring.processors or (lambda: Processors(())))

    def samples(self) -> list[float]:
        """Return the rates, summed over the transfers, slice by slice, from where all had begun."""
        if self.silent:
            return [0.0] * CALM
        transfers = self.programs.transfers
        if len(transfers) == 1:
            return transfers[0].rates()[self._ahead()[0] :]
        rates = [transfer.rates()[ahead:] for transfer, ahead in zip(transfers, self._ahead(), strict=True)]
        return [sum(row) for row in zip(*rates, strict=False)]

    def _ahead(self) -> list[int]:
        """Return how many slices each transfer had behind it when the last one's first came: they were not at one time."""
        if not self._lead:
            lengths = [len(transfer.rates()) for transfer in self.programs.transfers]
            if not all(lengths):
                return [0] * len(lengths)
            self._lead = [length - min(lengths) for length in lengths]
        return self._lead

    def calm(self) -> list[float]:
        """Return the samples in which none of the run's programs waited for a processor, and those that it left no mark on."""
        marked = self.marked()
        return [rate for number, rate in enumerate(self.samples()) if number not in marked]

    def marked(self) -> set[int]:
        """Return the numbers of the other samples: a program waited, and it may have made them what they are."""
        if not self.watch.waited:
            return set()
        return self.watch.waited - shortage.plateau(self.samples(), self._levels())

    def _levels(self) -> list[float]:
        """Return what one link carries of the flow (bit/s): so exact a rate is no shortage's."""
        link = self.programs.measuring.link
        if self.programs.protocol is Transport.UDP:
            return [link.udp_goodput(transfer.load.payload) for transfer in self.programs.transfers[:1]]
        return [link.mptcp_goodput if self.programs.protocol is Transport.MPTCP else link.tcp_goodput]

    @property
    def shortage(self) -> Shortage:
        """How the processors were so far, and the share of the samples that had waited for one."""
        if self._hosts is not None:
            return self._hosts.shortage
        waited = [number for number in self.watch.waited if 0 <= number < self._seen]
        return Shortage(self.watch.whole, len(waited) / max(self._seen, 1))

    @property
    def disturbed_for(self) -> float:
        """How much longer (seconds) it is measured for the slices in which other work had the processors."""
        if not self.watch.waited or not self.shortage.by_others or self.hopeless:
            return 0.0
        return min(SLICE * len(self.watch.waited), MOST_WAITING)

    @property
    def hopeless(self) -> bool:
        """Whether more time changes nothing: the lab's own work is more than the processors can do."""
        if self._seen < CALM or not self.shortage.full:
            return False
        return self.shortage.hopeless(fmean(settled_part(self.samples())), self._wanted())

    @property
    def overloaded(self) -> bool:
        """Whether the lab's own work fills the processors: that does not pass, and what has not settled will not."""
        return self._seen >= CALM and self.shortage.full and not self.shortage.by_others

    def _wanted(self) -> float:
        """Return what the wires would carry of the flow at least (bit/s)."""
        (level,) = self._levels()
        if self.programs.protocol is Transport.UDP:
            loads = [transfer.load for transfer in self.programs.transfers]
            return min(level, sum(load.offered * load.streams for load in loads))
        return level * self._links

    @property
    def _links(self) -> int:
        """The links that the flow goes by: an MPTCP connection takes all, a tunnel those that carried, several flows two."""
        target = self.programs.transfers[0].target
        if self.programs.protocol is Transport.MPTCP:
            return len(target.nics)
        if len(self.programs.transfers) > 1 or target.name not in self.programs.series:
            return min(len(self.programs.transfers), 2)
        series = self.programs.series[target.name]
        sizes = [series.delta(device).rx_bytes for device in series.devices]
        return max(sum(size > LEAST_CARRIED * sum(sizes) for size in sizes), 1)

    @property
    def enough(self) -> bool:
        """Whether a comparison to come will have the samples that it takes: see :mod:`channover.verdict.settling`."""
        calm = self.calm()
        found = estimate(settled_part(calm), SURE)
        return len(calm) >= CALM and found.half <= EXACT * found.mean

    def take(self) -> bool:
        """Take note of new slices, and of the subflows as the first comes; False where none is new. Raises TestbedError."""
        found = len(self.samples())
        if found <= self._seen:
            return False
        if not self.begun:
            self.programs.meet()
            if self._hosts is not None:  # the connections are there: what their making took says nothing of the flow
                self._hosts.begin()
        self.begun = True
        self.programs.look()
        if self.programs.measuring.processors is not None:
            self.watch.look(self._seen, found)
        self._seen = found
        return True

    def anew(self) -> None:
        """Let only what comes from now on count: another flow has begun."""
        self._lead = [len(transfer.rates()) for transfer in self.programs.transfers] if self.samples() else []
        self.watch.waited.clear()
        self._seen = 0

    def begin(self) -> None:
        """Take note of the processors as the traffic begins. Raises TestbedError."""
        if self.programs.measuring.processors is not None:
            self.watch.begin()
        elif not self.programs.measuring.rehearsed:
            self._hosts = HostsWatch(list(self.programs.ends.values()))
            self._hosts.begin()

    def end(self) -> None:
        """Take note of the processors as the traffic is about to end. Raises TestbedError."""
        if self._hosts is not None:
            self._hosts.end()

    def forget_lead(self) -> None:
        """Forget which transfer came first: all are started once more."""
        self._lead.clear()

    def disturbed(self, settled: bool, *, alone: bool) -> str:
        """Say that the processors were too busy to be a wire while it ran, or nothing; ``alone`` if nothing ran beside it.

        A settled verdict stands where it rests on enough samples that waited for nothing, and no processor was full, nor did
        most samples wait; and where they are as steady as a wire alone lets them be.
        """
        short, calm = self.shortage, self.calm()
        if alone and (lost := self._lost_within()):
            return f"{lost}: {self.short_of(short) or 'it had no time for more'}"
        if little := self._little_offered():
            return f"{little}; {words}" if (words := self.short_of(short)) else little
        stands = settled and len(calm) >= CALM
        if self._hosts is not None and short.full and not shortage.plateau(calm, self._levels()):
            stands = False  # however steady: a real host's processor limits it, or its rate were a wire's
        if stands and (shortage.narrow(settled_part(calm)) or not (short.full or short.mostly)):
            return ""
        return self.short_of(short)

    def doubt(self) -> str:
        """Say what was short of processor time, so that what a NIC carried shows nothing; nothing where the wire was full."""
        rates = settled_part(self.samples())
        full = shortage.narrow(rates) or shortage.plateau(rates, self._levels())
        return "" if full else self.short_of(self.shortage)

    def short_of(self, short: Shortage) -> str:
        """Say what was short of processor time, and what would do; or nothing."""
        rate = fmean(settled_part(self.samples()) or [0.0])
        measuring = self.programs.measuring
        return short.reason(rate, self._links, measuring.chosen_rate, self._wanted())

    def _little_offered(self) -> str:
        """Say that senders of datagrams offered less than they were told to, and nearly all of it arrived, or nothing."""
        transfers = self.programs.transfers if self.programs.protocol is Transport.UDP else ()
        if not transfers or not self.samples():
            return ""
        asked = sum(one.load.offered * one.load.streams for one in transfers)
        lost, sent = (sum(numbers) for numbers in zip(*(one.datagrams for one in transfers), strict=True))
        return short_offer(sum(one.offered for one in transfers), asked, lost / sent if sent else 0.0)

    def _lost_within(self) -> str:
        """Say that a receiver got less of its datagrams than its NICs had received, or nothing: no wire has lost those."""
        if self.programs.protocol is not Transport.UDP or len(self.programs.transfers) > 1 or not self.samples():
            return ""
        transfer = self.programs.transfers[0]
        frame = transfer.load.payload + UDP_HEADER + self.programs.measuring.link.ip_header + ETHERNET_HEADER
        series = self.programs.series[transfer.target.name]
        arrived = 0.0
        for device in series.devices:
            moved = series.delta(device)
            size = moved.rx_bytes / moved.rx_packets if moved.rx_packets else 0.0
            if abs(size - frame) < 0.005 * frame:  # the datagrams themselves: a tunnel's segments have other sizes
                arrived += median(series.rate(device, "rx")) * transfer.load.payload / frame
        share = 1 - fmean(settled_part(self.samples())) / arrived if arrived else 0.0
        if share < LOST_WITHIN:
            return ""
        return f"{transfer.target.name} lost {share:.1%} of the datagrams that its NICs had received"
