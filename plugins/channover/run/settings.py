"""What a run was asked for on the command line, checked before anything is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from channover.errors import UsageError
from channover.model.link import Link, parse_rate
from channover.model.topology import Topology
from channover.observe.captures import SLICE
from channover.pytest_plugin import option_names as words
from channover.run import target_choice as choices
from channover.run.target_choice import Place

LINK_RATES = {"netns": "100mbit", "vm": "10mbit"}
"""What cables carry where nothing else is asked for: emulated processors cannot be a wire of 100 Mbit/s."""
MACHINES = 4
"""How many micro-VMs one of these rates is for; the cables of more are slower in proportion: they share the processors."""
FASTEST = 34 * 10**9
"""The highest rate (bit/s) of an emulated cable: tbf counts bytes a second in 32 bits (``linux/pkt_sched.h``)."""
LAG_DRIVERS = ("auto", "bonding", "openvswitch")
PCAP = ("never", "on-failure", "always")


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
    pcap: str = "never"
    pcap_size: int = SLICE
    asked: bool = True
    """Whether the link's rate was asked for by name."""

    @property
    def target(self) -> str:
        """The target's name."""
        return self.place.target

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
            return Link(self.link.rate * MACHINES // count // 100_000 * 100_000)
        if self.place.lab is None or not topology.cables:
            return self.link
        from channover.targets.physical.placement import fit  # here, since every run of pytest reads the options

        found = fit(topology, self.place.lab)
        return self.link if isinstance(found, str) else Link(found.rate)


def add_options(parser: pytest.Parser) -> None:
    """Add channover's options to pytest's command line."""
    group = parser.getgroup(words.GROUP, "channover: documented behaviours of aggregated links")
    choices.add_options(group)
    words.add(
        group,
        "--link-rate",
        default=None,
        metavar="RATE",
        help="rate of a lab's cables in tc's notation: 100mbit, 1gbit, … (default: "
        + ", ".join(f"{rate} for {target}" for target, rate in LINK_RATES.items())
        + f" (more than {MACHINES} machines: less in proportion); physical: the inventory's)",
    )
    words.add(
        group,
        "--lag-driver",
        default="auto",
        metavar="NAME",
        help="what makes LAGs: bonding (the kernel's), openvswitch, or auto: bonding where the kernel has it",
    )
    words.add(
        group,
        "--duration",
        default=None,
        metavar="SECONDS",
        help="measure each flow for so long; without it a flow ends when its verdict is settled, at 99 %% confidence",
    )
    words.add(
        group,
        "--measure-limit",
        default="10",
        metavar="SECONDS",
        help="the longest that a flow is measured when its verdict does not settle (default: %(default)s); three times as "
        "long where the verdict would be against the behaviour",
    )
    words.add(group, "--no-skips", action="store_true", help="what cannot be tried here fails instead of being skipped")
    words.add(
        group,
        "--reports",
        default=None,
        metavar="FOLDER",
        help="where runs leave their reports (default: reports/ in pytest's root folder)",
    )
    words.add(
        group,
        "--no-report",
        action="store_true",
        help="end without certificate and HTML report; 'channover report' and 'channover certificate' make them later",
    )
    words.add(
        group,
        "--pcap",
        default="never",
        metavar="WHEN",
        help="attach the packets of every NIC to a test's report: never, on-failure or always (default: %(default)s); "
        "tcpdump runs beside the traffic and costs processor time",
    )
    words.add(
        group,
        "--pcap-size",
        default=str(SLICE),
        metavar="BYTES",
        help="how much of each packet is kept, from its Ethernet header on (default: %(default)s)",
    )


def read(config: pytest.Config) -> Settings:
    """Return the run's settings. Raises UsageError with one clear line."""
    place = choices.read(config)
    driver = str(words.value(config, "--lag-driver"))
    if driver not in LAG_DRIVERS:
        raise UsageError(f"--lag-driver: there is no driver '{driver}'; there are: {', '.join(LAG_DRIVERS)}")
    pcap = str(words.value(config, "--pcap"))
    if pcap not in PCAP:
        raise UsageError(f"--pcap: there is no '{pcap}'; there are: {', '.join(PCAP)}")
    reports = words.value(config, "--reports")
    return Settings(
        place=place,
        link=link_of(words.value(config, "--link-rate"), place),
        asked=words.value(config, "--link-rate") is not None,
        lag_driver=driver,
        duration=_seconds(config, "--duration"),
        limit=_seconds(config, "--measure-limit") or 10.0,
        strict=bool(words.value(config, "--no-skips")),
        reports=Path(str(reports)) if reports else config.rootpath / "reports",
        pcap=pcap,
        pcap_size=_bytes(config, "--pcap-size"),
    )


def link_of(asked: str | None, place: Place) -> Link:
    """Return the link that cables are where no topology is in question: the inventory's slowest, or an emulated one.

    Raises UsageError.
    """
    if place.lab is not None:
        if asked is not None:
            raise UsageError("--link-rate: real cables have the rate that the inventory says")
        return Link(min((cable.rate for cable in place.lab.cables), default=Link().rate))
    try:
        rate = parse_rate(str(asked or LINK_RATES.get(place.target, "100mbit")))
    except UsageError as error:
        raise UsageError(f"--link-rate: {error}") from None
    if rate > FASTEST:
        raise UsageError(
            f"--link-rate: '{asked}' is more than an emulated cable can be held to: up to {FASTEST // 10**9}gbit"
        )
    return Link(rate)


def _seconds(config: pytest.Config, option: str) -> float | None:
    value = words.value(config, option)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(value)) or not 1 <= float(value) <= 86_400:
        raise UsageError(f"{option}: '{value}' is no number of seconds from 1 to 86400")
    return float(value)


def _bytes(config: pytest.Config, option: str) -> int:
    value = str(words.value(config, option))
    if not re.fullmatch(r"[0-9]{1,6}", value) or not 14 <= int(value) <= 262_144:
        raise UsageError(f"{option}: '{value}' is no number of bytes from 14 to 262144")
    return int(value)
