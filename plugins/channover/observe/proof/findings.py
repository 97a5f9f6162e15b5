"""What speaks against a cable, told from what its two ends saw of each other's frames: pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from channover.model.link import ETHERNET_HEADER, VLAN_TAG, WIRE_OVERHEAD
from channover.model.topology import Cable, Port, Role, Topology
from channover.observe.proof.schedule import Span

Kind = Literal[
    "refused",
    "overrun",
    "carrier",
    "crossed",
    "unheard",
    "size",
    "delay",
    "rate",
    "machine",
    "duplex",
    "loss",
    "duplicates",
    "foreign",
]
HELLOS = 3
"""So many frames by which both ends agree to begin may still be on a cable that delays them as its counters are read."""
TOLERANCE = 0.01
"""How much (share of the rate) a cable may carry less, or more, than is stated of it."""
WANDERS = 0.5
"""The share of the longest round trip that every other one may take at most on a machine at leisure."""
BESIDE = 10
"""How many times as long as on a cable beside it a typical round trip takes that is not the machine's doing, busy as it is."""
SETTLED = 0.15
"""The share of a load after which queues on the way are full, and what arrives is what the cable carries."""
WINDOWS = 6
"""How many windows of a span do not overlap."""
SHORT = 0.1
"""Seconds below which a span's windows are too short to look at one by one: what a shaper makes up for shows in them."""
COVERED = 0.6
"""The share of a span that its samples have to cover."""
UNKNOWN = 0.0
"""The share of its rate that a cable carries of which too little was seen."""
LEAST = 6
"""Samples that tell what a cable carries."""
PUSHED = 0.2
"""Where a NIC refused this share of the frames, it was the cable that carried no more, and not the sender that sent no more."""


@dataclass(frozen=True)
class Finding:
    """Something that a cable does and should not: which cable and which way, its kind, and a line that says it with figures.

    ``share`` is the figure that a repetition must come near to: what it carries, of its rate. 0 where there is none.
    """

    cable: Cable
    kind: Kind
    way: str
    statement: str
    share: float = 0.0

    def __str__(self) -> str:
        return self.statement

    def confirms(self, other: Finding) -> bool:
        """Whether two tries found the same."""
        same = (self.cable, self.kind, self.way) == (other.cable, other.kind, other.way)
        faster = self.share > 1 and other.share > 1  # than it is stated to be, however much of that could be offered
        return same and (faster or abs(self.share - other.share) <= TOLERANCE / 2)


@dataclass(frozen=True)
class Stated:
    """What is stated of cables: their rates (bit/s), the full frame (bytes), the longest round trip (seconds)."""

    topology: Topology
    rates: Mapping[Cable, float]
    size: int
    trip: float
    busy: bool = False
    """Whether what sent the frames had to wait for processors."""
    dropped: int = 0
    """Frames that the processors dropped meanwhile, whosever they were, since they came too fast (/proc/net/softnet_stat)."""
    tagged: Collection[Port] = ()
    """The NICs that are devices of VLANs: of what they receive they do not count the Ethernet header (``vlan_do_receive``)."""

    def tag(self, cable: Cable) -> int:
        """Return the bytes of a VLAN's tag in the frames on a cable: none where it has none."""
        return VLAN_TAG if any(port in self.tagged for port in cable.ports) else 0


Reports = Mapping[tuple[str, str], Mapping[str, Any]]
"""What was seen at each NIC (:func:`channover.hosts.prober.probe`), by host and NIC."""


def name(topology: Topology, cable: Cable) -> str:
    """Return what a reader calls a cable: "cable b" where both ends and nobody else say so, else its ends."""
    alike = [one for one in topology.cables if one.a.nic == one.b.nic == cable.a.nic]
    return f"cable {cable.a.nic}" if alike == [cable] else f"cable {cable}"


def figures(carried: float, stated: float) -> str:
    """Return a rate and what it should be (bit/s): "90.0 of 100 Mbit/s"."""
    digits = 2 if stated < 20e6 else 1
    return f"{carried / 1e6:.{digits}f} of {stated / 1e6:g} Mbit/s"


def judge(stated: Stated, reports: Reports, spans: Mapping[Cable, Sequence[Span]]) -> list[Finding]:
    """Return what speaks against each cable, of one try: the first reason alone where others would follow from it."""
    found: list[Finding] = []
    for cable in spans:
        found += next((some for some in _reasons(stated, cable, reports, spans[cable]) if some), [])
    return found


def _reasons(stated: Stated, cable: Cable, reports: Reports, spans: Sequence[Span]) -> Iterator[list[Finding]]:
    ends = _ends(cable, reports)
    title = name(stated.topology, cable)
    ways = [_Way(stated, cable, title, *pair, reports) for pair in (cable.ports, cable.ports[::-1])]
    yield [
        Finding(cable, "refused", str(port), f"{port.node}'s NIC {port.nic} ({end['device']}): {end['error']}")
        for port, end in zip(cable.ports, ends, strict=True)
        if end["error"]
    ]
    bare = [port.node for port, end in zip(cable.ports, ends, strict=True) if not end["carrier"]]
    yield [Finding(cable, "carrier", "", f"{title} has no carrier at {' and '.join(bare)}")] if bare else []
    yield [finding for way in ways for finding in way.crossed()]
    yield [finding for way in ways for finding in way.unheard()]
    yield [finding for way in ways for finding in way.too_large()]
    yield _delay(stated, cable, title, reports)
    rates = [finding for way in ways for finding in way.rate(spans)]
    yield _duplex(stated, cable, title, ways, spans, rates) + [
        finding for way in ways for finding in (*way.loss(spans), *way.more(spans))
    ]


def _ends(cable: Cable, reports: Reports) -> list[Mapping[str, Any]]:
    return [reports[port.node, port.nic] for port in cable.ports]


def _delay(stated: Stated, cable: Cable, title: str, reports: Reports) -> list[Finding]:
    ends = _ends(cable, reports)
    trips = [end["trip"] for end in ends if end["trip"] is not None]
    if not trips:
        return []
    if min(trips) <= stated.trip:
        return _wandering(stated, cable, title, ends, _typical_beside(stated.topology, cable, reports))
    words = (
        f"{title} takes {min(trips) * 1e3:.3g} ms there and back while it is idle, of {stated.trip * 1e3:g} ms at most"
    )
    return [Finding(cable, "delay", "", words)]


def _typical(ends: Iterable[Mapping[str, Any]]) -> float:
    """Return what every other round trip takes at least (seconds), at the end that saw less; 0 where neither saw any."""
    return min((end["typical"] for end in ends if end["typical"] is not None), default=0.0)


def beside(topology: Topology, cable: Cable) -> list[Cable]:
    """Return the other cables between the same hosts.

    The same programs time all of these, and so what they have to wait for a processor shows in each.
    """
    hosts = {port.node for port in cable.ports}
    return [one for one in topology.cables if one != cable and {port.node for port in one.ports} == hosts]


def _typical_beside(topology: Topology, cable: Cable, reports: Reports) -> float | None:
    """Return the typical round trip (seconds) of the slowest cable beside one; None where none was tried with it."""
    tried = [one for one in beside(topology, cable) if all((port.node, port.nic) in reports for port in one.ports)]
    return max((_typical(_ends(one, reports)) for one in tried), default=None)


def _wandering(
    stated: Stated, cable: Cable, title: str, ends: Sequence[Mapping[str, Any]], others: float | None
) -> list[Finding]:
    """Return that every other round trip takes much longer than the shortest: frames wait for each other, or overtake.

    On a busy machine that is said of a cable alone whose neighbour takes a small part of it at the same time.
    """
    typical = _typical(ends)
    excused = stated.busy and (others is None or typical < BESIDE * others)
    if excused or typical <= WANDERS * stated.trip:
        return []
    shortest = min(end["trip"] for end in ends if end["trip"] is not None)
    words = (
        f"{title} takes between {shortest * 1e3:.3g} and more than {typical * 1e3:.3g} ms there and back while it is idle, of "
        f"{stated.trip * 1e3:g} ms at most"
    )
    return [Finding(cable, "delay", "", words)]


def _duplex(
    stated: Stated, cable: Cable, title: str, ways: Sequence[_Way], spans: Sequence[Span], rates: list[Finding]
) -> list[Finding]:
    """Return half duplex in the place of two rates, where each way alone is as fast as stated."""
    alone = [span for span in spans if len(span.senders) == 1]
    at_once = [span for span in spans if len(span.senders) == 2]
    short = [one for one in rates if one.kind == "rate" and one.share < 1]
    if not (alone and at_once and short) or any(list(way.rate(alone)) for way in ways):
        return rates
    one, other = (
        figures(found.mean if (found := way.carried(at_once[0])) else 0.0, stated.rates[cable]) for way in ways
    )
    there, back = (way.words for way in ways)
    words = f"{title} carries {one} {there} and {other} {back} when both send, and each way alone its rate: half duplex"
    return [Finding(cable, "duplex", "", words)]


@dataclass(frozen=True)
class _Way:
    """One direction of a cable: from a port to another."""

    stated: Stated
    cable: Cable
    title: str
    source: Port
    target: Port
    reports: Reports

    @property
    def words(self) -> str:
        """The direction in words."""
        return f"{self.source.node} to {self.target.node}"

    @property
    def _sender(self) -> Mapping[str, Any]:
        return self.reports[self.source.node, self.source.nic]

    @property
    def _receiver(self) -> Mapping[str, Any]:
        return self.reports[self.target.node, self.target.nic]

    def _finding(self, kind: Kind, statement: str, share: float = 0.0) -> Finding:
        return Finding(self.cable, kind, self.words, statement, share)

    def _heard_by(self) -> list[Port]:
        """Return the ports at which frames of the source arrived."""
        own = f"{self.source.node} {self.source.nic}"
        return [Port(*key) for key, seen in self.reports.items() if own in seen.get("heard", {})]

    def crossed(self) -> Iterable[Finding]:
        """Yield that frames arrive elsewhere."""
        others = [port for port in self._heard_by() if port != self.target]
        if others:
            where = " and ".join(f"{port.node}'s NIC {port.nic}" for port in others)
            too = "too" if self.target in self._heard_by() else f"and not at {self.target.node}'s NIC {self.target.nic}"
            yield self._finding(
                "crossed", f"{self.title}: frames of {self.source.node}'s NIC {self.source.nic} arrive at {where} {too}"
            )

    def unheard(self) -> Iterable[Finding]:
        """Yield that nothing arrives."""
        if self.target not in self._heard_by():
            refused = self._sender["refused"]
            why = f" ({self.source.node} cannot send: {refused})" if refused else ""
            yield self._finding("unheard", f"{self.title} carries nothing, {self.words}{why}")

    def too_large(self) -> Iterable[Finding]:
        """Yield that a full frame does not arrive."""
        largest = self._receiver["largest"]
        if largest < self.stated.size:
            refused = self._sender["refused"]
            why = f" ({self.source.node} cannot send {refused})" if refused else ""
            yield self._finding(
                "size",
                f"{self.title} carries no frame of {self.stated.size} bytes, {self.words}: the largest that arrived had "
                f"{largest}{why}",
                largest / self.stated.size,
            )

    def carried(self, span: Span) -> Carried | None:
        """Return what arrived while the source sent; None where it was not seen often enough."""
        header = ETHERNET_HEADER if self.target in self.stated.tagged else 0
        return carried(self._receiver["samples"], span, WIRE_OVERHEAD + header + self.stated.tag(self.cable))

    def rate(self, spans: Sequence[Span]) -> Iterator[Finding]:
        """Yield that it carries less, or more, than is stated, in the worst of the spans."""
        stated = self.stated.rates[self.cable]
        found: list[tuple[float, int, Span]] = []
        for number, span in enumerate(one for one in spans if self.source in one.senders):
            if span.factor >= 1:
                arrived = self.carried(span)
                found.append((arrived.share(stated, self.stated.busy) if arrived else UNKNOWN, number, span))
        if not (found := [one for one in found if abs(one[0] - 1) > TOLERANCE]):
            return
        share, number, span = max(found, key=lambda one: abs(one[0] - 1))
        said = f"{figures(share * stated, stated)}, {self.words}"
        offered = _offered(self._sender["samples"], span, self.stated.size + self.stated.tag(self.cable))
        pushed = self._sender["loads"][number]["full"] >= PUSHED
        if share > UNKNOWN and (
            pushed or (span.seconds >= SHORT and (share > 1 or offered > (1 - TOLERANCE) * stated))
        ):
            more = "at least " if share >= span.factor * (1 - TOLERANCE) else ""
            yield self._finding("rate", f"{self.title} carries {more}{said}", share)
        else:
            yield self._finding("machine", f"this machine could send {said}, over {self.title}", share)

    def _unaccounted(self) -> tuple[int, int]:
        """Return how many frames the source sent, and how many fewer arrived."""
        ends = (self._sender, self._receiver)
        if any(end["before"] is None or end["after"] is None for end in ends):
            return 0, 0
        sent = ends[0]["after"][3] - ends[0]["before"][3]
        return sent, sent - (ends[1]["after"][1] - ends[1]["before"][1])

    def loss(self, spans: Sequence[Span]) -> Iterator[Finding]:
        """Yield that frames get lost."""
        sent, lost = self._unaccounted()
        if lost > 0:
            words = f"{self.title} loses {lost} of {sent:,} frames ({lost / sent:.2%}), {self.words}"
            yield self._finding("overrun" if self._overrun(spans) else "loss", words)

    def _overrun(self, spans: Sequence[Span]) -> bool:
        """Whether frames were lost to this machine, or by a NIC that holds no sender back where more comes than fits."""
        if self.stated.dropped:
            return True
        offered = [one for one in spans if self.source in one.senders]
        pushed = [load["full"] >= PUSHED for load in self._sender["loads"]]
        return any(one.factor > 1 and not held for one, held in zip(offered, pushed, strict=False))

    def more(self, spans: Sequence[Span]) -> Iterator[Finding]:
        """Yield that more arrives than was sent, frames twice or others'; or that the sender's NIC sends for another.

        Where more was offered than a cable carries, its full queue drops about as many frames as come twice: there the least
        surplus is told, for a gentle try to confirm.
        """
        sent, lost = self._unaccounted()
        twice = self._receiver["duplicates"]
        full = any(one.factor > 1 for one in spans if self.source in one.senders)
        mac = self._sender["mac"]
        foreign = {what: count for what, count in self._receiver["foreign"].items() if not what.startswith(mac)}
        if lost > 0 or (lost == 0 and not (full and twice)):
            yield from self._strangers(foreign)
            return
        if not twice and not foreign and not full and -lost <= HELLOS:
            return
        if twice or not foreign:
            words = f"{self.title} delivers frames twice, {self.words}: {-lost} more arrived than the {sent:,} that were sent"
            yield self._finding("duplicates", words)
            return
        words = (
            f"somebody else sends on {self.title}: {self.target.node} got {-lost} frames that {self.source.node} did not "
            f"send, from {_whose(foreign)}"
        )
        yield self._finding("foreign", words)

    def _strangers(self, foreign: Mapping[str, int]) -> Iterator[Finding]:
        """Yield that a host's NIC sends what is not of the host's own addresses, as that of a switch does rightly."""
        own = {seen["mac"] for (node, _), seen in self.reports.items() if node == self.source.node}
        others = {what: count for what, count in foreign.items() if what.split()[0] not in own}
        many = sum(others.values())
        if many > HELLOS and self.stated.topology.node(self.source.node).role is not Role.SWITCH:
            words = (
                f"somebody else sends on {self.title}: {self.target.node} got {many} frames by {self.source.node}'s NIC "
                f"{self.source.nic} that bear no address of {self.source.node}'s, from {_whose(others)}"
            )
            yield self._finding("foreign", words)


def _whose(foreign: Mapping[str, int]) -> str:
    """Return who sent frames, and of which type, the most first."""
    most = sorted(foreign, key=lambda one: -foreign[one])[:3]
    return ", ".join("{} (type {})".format(*what.split()) for what in most)


@dataclass(frozen=True)
class Carried:
    """What a cable carried in a span (bit/s, as the wire counts): the mean, and of shorter windows the median and the best.

    A machine that is busy elsewhere for some milliseconds takes from the mean and from few windows. The best is the one that a
    fifth of the windows exceed: after a pause a shaper sends a little more for a while.
    """

    mean: float
    median: float
    best: float
    short: bool = False
    """Whether a window is so short that what a shaper makes up for after a pause shows in it."""

    def share(self, stated: float, busy: bool) -> float:
        """Return it as a share of the stated rate; of a busy machine, what it was while that left it alone."""
        if not busy or (self.short and self.mean > stated):
            return self.mean / stated
        if self.median > stated:
            return self.median / stated
        return max(self.mean, min(self.best, stated)) / stated


def carried(samples: Sequence[Sequence[float]], span: Span, uncounted: int = WIRE_OVERHEAD) -> Carried | None:
    """Return what arrived in a span, from where queues are full; None where too few samples tell.

    Samples are moments (seconds), each with bytes and packets received; of each frame so many bytes are ``uncounted``.
    """
    inside = [one for one in samples if span.start + SETTLED * span.seconds <= one[0] <= span.end]
    kept = [other for one, other in pairwise(inside) if other[2] != one[2]]  # a frame has just arrived
    if len(kept) < LEAST or kept[-1][0] - kept[0][0] < COVERED * span.seconds:
        return None
    apart = zip(kept, kept[len(kept) // WINDOWS :], strict=False)
    rates = sorted(_between(one, other, uncounted) for one, other in apart)
    mean = _between(kept[0], kept[-1], uncounted)
    return Carried(mean, rates[len(rates) // 2], rates[len(rates) * 4 // 5], span.seconds < SHORT)


def _between(one: Sequence[float], other: Sequence[float], uncounted: int) -> float:
    return 8 * (other[1] - one[1] + uncounted * (other[2] - one[2])) / (other[0] - one[0])


def _offered(samples: Sequence[Sequence[float]], span: Span, size: int) -> float:
    """Return the rate (bit/s, as the wire counts) at which a NIC sent frames of a size in a span."""
    kept = [one for one in samples if span.start + SETTLED * span.seconds <= one[0] <= span.end]
    if len(kept) < 3:
        return 0.0
    return 8 * (size + WIRE_OVERHEAD) * (kept[-1][3] - kept[0][3]) / (kept[-1][0] - kept[0][0])
