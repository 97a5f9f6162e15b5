"""What a run notes about its testbed and its plan, as values: hosts, NICs, cables, planned tests, bytes, moments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal

Role = Literal["host", "switch"]


@dataclass(frozen=True)
class NicFacts:
    """One NIC: its name in the topology, its device, driver, firmware; ``speed`` is bit/s, None where unknown.

    ``bus`` is what it is plugged into, such as ``pci``, as the kernel names it; empty where it has none, or where nobody
    looked (results of former versions).
    """

    name: str
    device: str = ""
    driver: str = ""
    firmware: str = ""
    speed: float | None = None
    bus: str = ""


@dataclass(frozen=True)
class HostFacts:
    """One host or switch, as it was found: ``kernel`` is a release (of a switch: its firmware), empty where unknown.

    ``name`` is its part in the topology, ``machine`` the real machine's own name; empty where the lab was made up.
    """

    name: str
    role: Role = "host"
    kernel: str = ""
    nics: tuple[NicFacts, ...] = ()
    machine: str = ""


@dataclass(frozen=True)
class CableFacts:
    """A cable between two NICs, each as ``host.nic``; ``rate`` is bit/s, None where unknown."""

    a: str
    b: str
    rate: float | None = None


@dataclass(frozen=True)
class Planned:
    """A test that was collected to be run; it stands there as often as it is to be run.

    ``mandatory`` says whether a verdict on the whole depends on it, ``xfail`` whether it is marked as expected to fail.
    """

    nodeid: str
    behaviour: str | None
    mandatory: bool = True
    xfail: bool = False


How = Literal["deselected", "not asked for", "ignored"]


@dataclass(frozen=True)
class LeftOut:
    """A test, or a file of tests, that lay where pytest looked and was not run.

    ``deselected``: collected, and taken out by an option or a hook. ``not asked for``: in a file of which other tests
    were. ``ignored``: a file or folder that pytest was told to pass over.
    """

    nodeid: str
    behaviour: str | None
    how: How


@dataclass(frozen=True)
class Uncollected:
    """A file (or a test) that could not be collected, or skipped itself as a whole: what it holds is not known."""

    nodeid: str
    reason: str
    skipped: bool = False


def host_facts(plain: Mapping[str, Any]) -> HostFacts:
    """Return a host from plain data that fits the results' schema."""
    return HostFacts(**{**plain, "nics": tuple(NicFacts(**nic) for nic in plain.get("nics", ()))})


@dataclass(frozen=True)
class NicBytes:
    """What one NIC carried during ``traffic`` (a flow, a copy, a tunnel's load), as its counters count: bytes each way."""

    traffic: str
    host: str
    nic: str
    tx: int
    rx: int


@dataclass(frozen=True)
class ProcessorUse:
    """How busy the processors were during ``traffic``, which make an emulated lab's wires; shares are 0 to 1.

    ``waited`` is the share of the time that whichever program of the run waited most did, named by ``waiter``, and ``samples``
    the share of the flow's samples that are no evidence for it. ``pressure`` is the share in which anything at all waited,
    None where the kernel does not tell. ``core`` is the fullest processor, ``full`` how busy it was, ``softirq`` its softirqs.
    ``others`` are programs that are not the run's, each with what it used of a processor.
    """

    traffic: str
    waited: float
    waiter: str
    samples: float
    idle: float
    stolen: float
    pressure: float | None
    core: int
    full: float
    softirq: float
    others: Mapping[str, float]


@dataclass(frozen=True)
class PathMetrics:
    """A TCP connection, or one subflow of a Multipath TCP connection, as its sender's own socket saw it.

    ``name`` says whose it is, by which NIC it leaves where that is known, and its addresses. ``rtt_idle`` is the shortest round
    trip (s) that it ever saw, its handshake's included; ``rtt_loaded`` the mean of those seen while data went, ``rtt_most`` the
    longest of these; None where nobody told. ``sent`` are bytes, those sent again included, and ``again`` those alone.
    """

    name: str
    rtt_idle: float | None
    rtt_loaded: float | None
    rtt_most: float | None
    sent: int
    again: int


@dataclass(frozen=True)
class TrafficMetrics:
    """How one direction of something measured fared beside its rate: no verdict rests on it unless a test compares it.

    Of TCP what RFC 6349, 4 asks: ``transfer_time_ratio`` is what the transfer took over what it would have taken at the
    rate that framing allows on the NICs that carried it, ``efficiency`` the share (0 to 1) of bytes that were not sent
    again, ``buffer_delay`` by how much the loaded round trip is longer than the idle one, as a share of that. Round trips
    (s) of several ``paths`` are their mean, weighted by what each sent. Of UDP: the shares (0 to 1) of datagrams that were
    ``lost``, and that were ``reordered``, and the ``jitter`` (s; RFC 3550, 6.4.1). What is not known is None.
    """

    traffic: str
    protocol: str
    source: str
    target: str
    rtt_idle: float | None = None
    rtt_loaded: float | None = None
    buffer_delay: float | None = None
    transfer_time_ratio: float | None = None
    efficiency: float | None = None
    lost: float | None = None
    jitter: float | None = None
    reordered: float | None = None
    paths: tuple[PathMetrics, ...] = ()


def traffic_metrics(plain: Mapping[str, Any]) -> TrafficMetrics:
    """Return what stands beside a rate from plain data that fits the results' schema."""
    return TrafficMetrics(**{**plain, "paths": tuple(PathMetrics(**one) for one in plain["paths"])})


EventKind = Literal["fault", "return", "re-deal", "phase"]
Carried = Literal["goodput", "NICs"]


@dataclass(frozen=True)
class Event:
    """What happened while data flowed, ``at`` so many seconds: a ``fault`` such as a lost link, its ``return``, a ``re-deal``.

    That is flows dealt anew to the links of a LAG. Whatever else began then is a ``phase``.
    """

    what: str
    at: float
    kind: EventKind = "phase"


@dataclass(frozen=True)
class Bound:
    """What was expected of a goodput (bit/s) from ``begin`` to ``end`` (seconds); None leaves a side open.

    ``mean`` is what it was compared with: the mean of that time, None where there was none.
    """

    begin: float
    end: float
    low: float | None = None
    high: float | None = None
    mean: float | None = None


@dataclass(frozen=True)
class Course:
    """How fast data came during ``traffic``, over time: ``rates`` (bit/s) at ``times`` (seconds since its start).

    ``of`` is the ``goodput``, what the receiving applications got, where that was sampled, and else the sum of what the
    receiving ``NICs`` counted. Long ones are thinned to their extremes. Raises ValueError where times and rates are not
    numbers, and equally many.
    """

    traffic: str
    of: Carried
    times: tuple[float, ...]
    rates: tuple[float, ...]
    bounds: tuple[Bound, ...] = ()
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        if len(self.times) != len(self.rates):
            raise ValueError(f"{self.traffic}: {len(self.times)} times and {len(self.rates)} rates")
        if not all(type(one) in (int, float) and math.isfinite(one) for one in (*self.times, *self.rates)):
            raise ValueError(f"{self.traffic}: its times and rates are numbers")


def course(plain: Mapping[str, Any]) -> Course:
    """Return a course from plain data that fits the results' schema. Raises ValueError as :class:`Course` does."""
    lists = {key: tuple(plain[key]) for key in ("times", "rates")}
    bounds = tuple(Bound(**one) for one in plain.get("bounds", ()))
    return Course(
        **{**plain, **lists, "bounds": bounds, "events": tuple(Event(**one) for one in plain.get("events", ()))}
    )


def moment(at: datetime) -> str:
    """Return a moment as results hold it, such as ``2026-01-31T12:00:00.250Z``. Raises ValueError without a zone."""
    return utc(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc(at: datetime) -> datetime:
    """Return a moment in UTC. Raises ValueError where it names no time zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} names no time zone")
    return at.astimezone(timezone.utc)
