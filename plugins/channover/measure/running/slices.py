"""The receivers' goodput of a flow, slice by slice, and what disturbed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean, median

from channover.measure.running.programs import Programs
from channover.model.link import ETHERNET_HEADER, IPV4_HEADER, UDP_HEADER
from channover.network.programs.iperf import Transport
from channover.network.programs.iperf_output import SLICE
from channover.observe.counters import Processors, processors
from channover.verdict.settling import CALM
from channover.verdict.statistics import estimate, settled_part

LOST_WITHIN = 0.005
"""The share of datagrams that a receiver may lose between its NICs and iperf3 before a verdict against it is none."""
MOST_WAITING = 20.0
"""How much longer (seconds) than its limit a flow is measured while its machine's processors are taken away."""
EXACT = 0.005
"""How exact a rate is wanted that nothing was compared with yet: half of what ``near`` gives or takes."""


@dataclass(eq=False)
class Slices:
    """The goodput of a flow's receivers (bit/s), in slices of SLICE seconds, and which slices are to be trusted."""

    programs: Programs
    begun: bool = False
    _seen: int = 0
    _lead: list[int] = field(default_factory=list)
    _stolen: set[int] = field(default_factory=set)
    _looked: Processors | None = None
    _before: Processors | None = None
    _after: Processors | None = None

    def samples(self) -> list[float]:
        """Return the rates, summed over the transfers, slice by slice, from where all had begun."""
        transfers = self.programs.transfers
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
        """Return the samples in which no other machine had the processors."""
        return [rate for number, rate in enumerate(self.samples()) if number not in self._stolen]

    @property
    def disturbed_for(self) -> float:
        """How much longer (seconds) it is measured for the slices that were lost to other machines."""
        return min(SLICE * len(self._stolen), MOST_WAITING)

    @property
    def enough(self) -> bool:
        """Whether a comparison to come will have the samples that it takes: see :mod:`channover.verdict.settling`."""
        calm = self.calm()
        found = estimate(settled_part(calm))
        return len(calm) >= CALM and found.half <= EXACT * found.mean

    def take(self) -> bool:
        """Take note of new slices, and of the subflows as the first comes; False where none is new. Raises TestbedError."""
        found = len(self.samples())
        if found <= self._seen:
            return False
        if not self.begun:
            self.programs.meet()
        self.begun = True
        self._look(found)
        self._seen = found
        return True

    def _look(self, found: int) -> None:
        """Mark the newest slices, and their neighbours, where the processors were somebody else's meanwhile."""
        read = self.programs.measuring.processors
        if read is not None:
            now = read()
            if self._looked is not None and now.stolen_since(self._looked):
                self._stolen.update(range(self._seen - 1, found + 1))
            self._looked = now

    def anew(self) -> None:
        """Let only what comes from now on count: another flow has begun."""
        self._lead = [len(transfer.rates()) for transfer in self.programs.transfers] if self.samples() else []
        self._stolen.clear()
        self._seen = 0

    def begin(self) -> None:
        """Take note of the processors as the traffic begins. Raises TestbedError."""
        self._before = self._processors()

    def end(self) -> None:
        """Take note of the processors as the traffic has ended. Raises TestbedError."""
        if self._before is not None:
            self._after = self._processors()

    def forget_lead(self) -> None:
        """Forget which transfer came first: all are started once more."""
        self._lead.clear()

    def _processors(self) -> Processors:
        """Read the processors that make the wire: this machine's, which all hosts share, or a real host's own."""
        shared = self.programs.measuring.processors
        return shared() if shared is not None else processors(self.programs.transfers[0].source)

    def disturbed(self, settled: bool, *, alone: bool) -> str:
        """Say that the processors were too busy to be a wire while it ran, or nothing; ``alone`` if nothing ran beside it.

        A settled verdict rests on calm samples where there were enough of them: then it stands. None are calm where the
        processors had no pause at all.
        """
        if alone and (lost := self._lost_within()):
            return lost
        if self._before is None or self._after is None:
            return ""
        if busy := self._after.starved_since(self._before, least_idle=0.01, most_stolen=1.0):
            return busy
        stands = settled and (not self._stolen or len(self.calm()) >= CALM)
        return "" if stands else self._after.starved_since(self._before)

    def _lost_within(self) -> str:
        """Say that a receiver got less of its datagrams than its NICs had received, or nothing: no wire has lost those."""
        if self.programs.protocol is not Transport.UDP or len(self.programs.transfers) > 1 or not self.samples():
            return ""
        transfer = self.programs.transfers[0]
        frame = transfer.load.payload + UDP_HEADER + IPV4_HEADER + ETHERNET_HEADER
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
        return (
            f"{transfer.target.name} lost {share:.1%} of the datagrams that its NICs had received: other work took the "
            "processor time that it needed"
        )
