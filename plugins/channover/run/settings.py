"""What a run was asked for: rates, durations, drivers, and where it reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from channover.errors import UsageError
from channover.model import registry
from channover.model.link import USUAL_MTU, Link, parse_mtu, parse_rate
from channover.model.topology import Topology
from channover.run.defaults import FAMILIES, LAG_DRIVERS, LINK_RATES, MACHINES, PACKET_HEAD, TARGETS
from channover.run.own_targets import OWN_TARGETS
from channover.run.target_choice import Place


@dataclass(frozen=True)
class Settings:
    """The options of a run: rates in bit/s, times in seconds, ``pcap_size`` in bytes of each packet."""

    place: Place
    link: Link
    lag_driver: str
    duration: float | None
    limit: float
    strict: bool
    reports: Path
    soak: float | None = None
    pcap: str = "never"
    pcap_size: int = PACKET_HEAD
    asked: bool = True
    """Whether the link's rate was asked for by name."""

    @property
    def family(self) -> int:
        """The version of IP that labs have."""
        return 6 if self.link.ipv6 else 4

    @property
    def target(self) -> str:
        """The target's name."""
        return self.place.target

    @property
    def emulated(self) -> bool:
        """Whether the lab's hosts share this machine's processors."""
        if self.target in TARGETS:
            return self.target != "physical"
        return OWN_TARGETS[self.target].emulated

    @property
    def rates(self) -> tuple[int, ...]:
        """The rates (bit/s) that cables have, from the slowest; emulated ones have one."""
        real = {cable.rate for cable in self.place.lab.cables} if self.place.lab else set[int]()
        return tuple(sorted(real)) or (self.link.rate,)

    def link_for(self, topology: Topology) -> Link:
        """Return the link that a topology's cables are: of a real lab, that of the cables that it is laid on.

        Micro-VMs without a rate that was asked for have slower cables where there are more than ``MACHINES`` of them.
        """
        if self.target == "vm" and not self.asked and (count := len(topology.nodes)) > MACHINES:
            return replace(self.link, rate=self.link.rate * MACHINES // count // 100_000 * 100_000)
        if self.place.lab is None or not topology.cables:
            return self.link
        from channover.targets.physical.placement import fit  # here, since every run of pytest reads the options

        found = fit(topology, self.place.lab)
        return self.link if isinstance(found, str) else found.link(self.link)


def require_driver(name: str) -> None:
    """Raise UsageError where there is no LAG driver of that name, or a package registers what cannot be."""
    if name not in LAG_DRIVERS:
        registry.load()
        from channover.network.drivers import DRIVERS  # here, since every run of pytest reads the options

        if name not in DRIVERS:
            raise UsageError(f"--lag-driver: there is no driver '{name}'; there are: {', '.join(('auto', *DRIVERS))}")


def _usual_rate(target: str) -> str:
    return LINK_RATES["netns"] if target == "physical" else LINK_RATES.get(target) or OWN_TARGETS[target].link_rate


def link_of(asked: str | None, place: Place, *, family: str = FAMILIES[0], mtu: str | None = None) -> Link:
    """Return the link that cables are where no topology is in question: the inventory's slowest, or an emulated one.

    ``family`` is the version of IP, ``mtu`` was asked for in bytes. Raises UsageError.
    """
    if family not in FAMILIES:
        raise UsageError(f"--family: there is no IPv{family}; there are: {', '.join(FAMILIES)}")
    return replace(_rated(asked, place), mtu=_mtu(mtu, place), ipv6=family == "6")


def _mtu(asked: str | None, place: Place) -> int:
    if place.lab is not None:
        if asked is not None:
            raise UsageError("--mtu: real cables have the MTU that the inventory says")
        return min((cable.mtu for cable in place.lab.cables), default=USUAL_MTU)
    try:
        return USUAL_MTU if asked is None else parse_mtu(str(asked))
    except UsageError as error:
        raise UsageError(f"--mtu: {error}") from None


def _rated(asked: str | None, place: Place) -> Link:
    if place.lab is not None:
        if asked is not None:
            raise UsageError("--link-rate: real cables have the rate that the inventory says")
        return Link(min((cable.rate for cable in place.lab.cables), default=Link().rate))
    try:
        rate = parse_rate(asked or _usual_rate(place.target))
    except UsageError as error:
        raise UsageError(f"--link-rate: {error}") from None
    return Link(rate)
