"""One run (or one worker's part of it): its settings, its target, what can be had here, what tools it has."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

from channover.errors import ChannoverError, TestbedError, UsageError
from channover.hosts.host import Host, Journal
from channover.hosts.lab import Lab
from channover.model.catalogue import Behaviour
from channover.model.topology import Topology, pair
from channover.network.drivers import DRIVERS
from channover.network.lag import LagDriver
from channover.run import own_targets
from channover.run.defaults import TARGETS
from channover.run.settings import Settings
from channover.run.target_choice import Place
from channover.targets.base import Target
from channover.targets.capabilities import CAPABILITIES, lag_driver, likely_lag_driver
from channover.targets.dry_run import DryTarget
from channover.targets.netns import NetnsTarget

_PROBE = Topology("probe", (pair().nodes[0],), ())

_VERSIONS = {
    "iperf3": ("iperf3", "--version"),
    "iproute2": ("ip", "-V"),
    "mptcpize": ("mptcpize", "--version"),
    "openssh": ("ssh", "-V"),
    "openvpn": ("openvpn", "--version"),
    "openvswitch": ("ovs-vswitchd", "--version"),
    "nginx": ("nginx", "-v"),
    "vsftpd": ("vsftpd", "-v", "0>&1"),
    "ffmpeg": ("ffmpeg", "-version"),
    "sipp": ("sipp", "-v"),
    "stunnel": ("stunnel", "-version"),
    "nftables": ("nft", "--version"),
}


def target_of(settings: Settings) -> Target:
    """Return the target that the settings name; of a dry run, one that only takes notes."""
    place = settings.place
    if place.dry_run:
        return DryTarget(place.target, _real(place) if place.lab is not None else None)
    return _real(place)


def _real(place: Place) -> Target:
    if place.lab is not None:
        from channover.targets.physical.lease_pool import LeasePool
        from channover.targets.physical.target import PhysicalTarget

        return PhysicalTarget(place.lab, LeasePool(place.lease_wait))
    if place.target == "vm":
        from channover.targets.vm import VmTarget

        return VmTarget(place.kernel)
    return NetnsTarget() if place.target == "netns" else own_targets.made(place.target, place.options)


Gaps = Mapping[str, Mapping[str, str]]
"""What is missing, with its remedy, by capability and host."""


@dataclass
class Environment:
    """What a run knows of the place where it runs. The answers are looked up once."""

    settings: Settings
    target: Target
    topologies: tuple[Topology, ...] = (pair(),)
    """What the tests ask for; to be set before anything is looked up."""
    part: Topology | None = None
    """The part of a real lab that is probed; None: what the topologies are laid on."""
    miswired: list[str] = field(default_factory=list)
    """Cables of that part that do not lie as the inventory says, once it was probed."""
    probed: Callable[[Lab], None] = lambda _: None
    """Is called with the hosts that were probed."""
    _answers: dict[Topology, str | None] = field(default_factory=dict)
    _laid: dict[Topology, frozenset[str] | None] = field(default_factory=dict)

    @cached_property
    def target_unmet(self) -> str | None:
        """Why none of the topologies can be had here, or None."""
        reasons = []
        for topology in self.topologies:
            reason = self.target.unmet(topology)
            if reason is None:
                return None
            reasons.append(reason)
        return "; ".join(dict.fromkeys(reasons))

    def ready(self) -> None:
        """Raise UsageError where the run as it was asked for cannot be had here; TestbedError where hosts fail."""
        if self.target_unmet:
            raise UsageError(f"--target={self.settings.target}: {self.target_unmet}")
        if self.settings.target != "netns" and isinstance(self._outcome, Exception):
            raise TestbedError(f"--target={self.settings.target}: the hosts could not be probed: {self._outcome}")
        if self.miswired:
            others = len(self.miswired) - 1
            more = f" (and {others} more: 'channover doctor --target physical' lists them)" if others else ""
            raise TestbedError(f"--target={self.settings.target}: {self.miswired[0]}{more}")
        if self.driver_refused:
            raise UsageError(self.driver_refused)

    @property
    def driver_refused(self) -> str | None:
        """Why the LAG driver that was asked for by name cannot be had at all, or None: no run begins then."""
        if self.settings.lag_driver == "auto":
            return None
        gaps = [self._missing("lag", topology) for topology in self.topologies]
        reasons = dict.fromkeys(gap for each in gaps for gap in each)
        return f"--lag-driver={self.settings.lag_driver}: {'; '.join(reasons)}" if all(gaps) else None

    @cached_property
    def _outcome(self) -> Gaps | ChannoverError | OSError:
        """What probing found, or what it failed of: it takes a lab, and so is done once."""
        try:
            return self._probe()
        except (ChannoverError, OSError) as error:
            return error

    @property
    def _probed(self) -> Gaps:
        """What hosts of this target lack. Raises what probing failed of."""
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def _probe(self) -> Gaps:
        """Find out what the hosts lack; on one host, all at once."""
        if isinstance(self.target, DryTarget):
            wish = self.settings.lag_driver
            self._driver: str | None = self._would_use(self.target) if wish == "auto" else wish
            self._versions: dict[str, dict[str, str]] = {}
            self._kernel, self._congestion_control = "", ""
            return {name: {} for name in [*CAPABILITIES, "lag"]}
        if self.settings.place.lab is None:  # hosts of one machine are alike; of another package's target, who knows
            fits = (
                one for one in self.topologies if self.settings.target not in TARGETS and self.target.unmet(one) is None
            )
            with self.target.lab(next(fits, _PROBE), self.settings.link, Journal()) as lab:
                return self._tried(lab)
        from channover.targets.physical import cabling_check as survey
        from channover.targets.physical.target import PhysicalTarget

        assert isinstance(self.target, PhysicalTarget)
        part = self.part or survey.used(self.target.entry, self.topologies)
        with survey.opened(self.target, part) as lab:  # real ones may differ, and each has to be able
            found = self._tried(lab)
            self.miswired = survey.miswired(self.target, lab, part)
            self.probed(lab)
        return found

    def _would_use(self, target: DryTarget) -> str:
        """Return the LAG driver that a run would use here; where it would have none, the commands shown are bonding's."""
        found: list[str | None] = []
        with contextlib.suppress(ChannoverError, OSError):
            if target.source is not None:
                fits = [topology for topology in self.topologies if target.unmet(topology) is None]
                found = [driver for one in fits[:1] for driver in target.likely(one, likely_lag_driver)]
            elif target.name == "netns":  # a lab that is gone at once, as doctor makes it
                namespaces = NetnsTarget()
                with contextlib.closing(namespaces), namespaces.lab(_PROBE, self.settings.link, Journal()) as lab:
                    found = [lag_driver(lab.left, "auto")[0]]
        return found[0] if found and found[0] is not None and len(set(found)) == 1 else "bonding"

    def _tried(self, lab: Lab) -> Gaps:
        """Try everything on each host of a lab, on several side by side."""
        hosts = list(lab.hosts.values())
        with ThreadPoolExecutor(len(hosts)) as pool:
            tried = list(pool.map(self._tried_on, hosts) if len(hosts) > 1 else map(self._tried_on, hosts))
        found: dict[str, dict[str, str]] = {name: {} for name in [*CAPABILITIES, "lag"]}
        for host, (gaps, _, _) in zip(hosts, tried, strict=True):
            for name, gap in gaps.items():
                found[name][host.name] = gap
        drivers = {driver for _, driver, _ in tried if driver}
        if len(drivers) > 1:
            words = "the hosts have different LAG drivers: choose one with --lag-driver"
            found["lag"] = {host.name: words for host in hosts}
        self._driver = drivers.pop() if len(drivers) == 1 else None
        self._versions = {host.name: known for host, (_, _, known) in zip(hosts, tried, strict=True)}
        self._kernel = hosts[0].run("uname", "-rm", quiet=True).stdout.strip()
        self._congestion_control = hosts[0].read("/proc/sys/net/ipv4/tcp_congestion_control").strip()
        return found

    def _tried_on(self, host: Host) -> tuple[dict[str, str], str | None, dict[str, str]]:
        """Return what a host lacks, its LAG driver and the versions of its tools."""
        gaps = {name: gap for name, capability in CAPABILITIES.items() if (gap := capability.unmet(host))}
        driver, reason = lag_driver(host, self.settings.lag_driver)
        return gaps | ({"lag": reason} if reason else {}), driver, versions(host)

    @cached_property
    def lag(self) -> tuple[str | None, str | None]:
        """The LAG driver's name, or None and what is missing."""
        reasons = self._probed["lag"].values()
        return self._driver, None if self._driver else "; ".join(dict.fromkeys(reasons))

    @property
    def driver(self) -> LagDriver:
        """The LAG driver. Raises UsageError where there is none."""
        name, reason = self.lag
        if name is None:
            raise UsageError(f"no LAG can be had: {reason}")
        return DRIVERS[name]

    @property
    def tools(self) -> Mapping[str, str]:
        """Versions of the tools that a host of this target has: the first one, where hosts differ."""
        return next(iter(self._versions.values()), {}) if self._probed else {}

    @property
    def congestion_control(self) -> str:
        """The TCP congestion control that hosts of this target have by default."""
        return self._congestion_control if self._probed else ""

    @property
    def native_mptcp(self) -> bool:
        """Whether iperf3 speaks MPTCP by itself (3.19 and later)."""
        version = re.match(r"(\d+)\.(\d+)", self.tools.get("iperf3", ""))
        return version is not None and (int(version[1]), int(version[2])) >= (3, 19)

    def unmet(self, behaviour: Behaviour, topology: Topology | None = None) -> str | None:
        """Say what is missing for a behaviour, with the remedy; None where nothing is.

        Of real hosts, only those that the topology is laid on have to be able.
        """
        if self.target_unmet:
            return self.target_unmet
        try:
            reasons = [reason for need in behaviour.needs for reason in self._missing(need, topology)]
        except (ChannoverError, OSError) as error:
            return f"this machine could not be probed: {error}"
        return "; ".join(dict.fromkeys(reasons)) or None

    def lacks_ipv6(self, topology: Topology | None) -> str | None:
        """Say what is missing for a run with IPv6, or None."""
        return "; ".join(dict.fromkeys(self._missing("ipv6", topology))) or None

    def _missing(self, need: str, topology: Topology | None) -> list[str]:
        if need not in self._probed:
            return [
                f"nobody knows how to find out whether a host has '{need}': no such need in channover's capabilities"
            ]
        hosts = self._hosts(topology)
        return [gap for host, gap in self._probed[need].items() if hosts is None or host in hosts]

    def _hosts(self, topology: Topology | None) -> frozenset[str] | None:
        """Return the real hosts that a topology is laid on; None: any host."""
        lab = self.settings.place.lab
        if lab is None or topology is None:
            return None
        if topology not in self._laid:
            from channover.targets.physical.placement import fit

            found = fit(topology, lab)
            self._laid[topology] = None if isinstance(found, str) else frozenset(found.nodes.values())
        return self._laid[topology]

    def lacks(self, topology: Topology) -> str | None:
        """Say why this topology cannot be had here, or None."""
        if self.settings.place.lab is None:
            return self.target_unmet  # namespaces and machines are made as they are wanted
        if topology not in self._answers:
            self._answers[topology] = self.target.unmet(topology)
        return self._answers[topology]

    def gaps(self) -> dict[str, str | None]:
        """Return every capability with what is missing for it."""
        return {name: "; ".join(dict.fromkeys(gaps.values())) or None for name, gaps in self._probed.items()}

    @property
    def kernel(self) -> str:
        """The release and architecture of the hosts' kernel; of this machine's where no host can be asked."""
        with contextlib.suppress(ChannoverError, OSError):
            if self.target_unmet is None and self._probed:
                return self._kernel
        return f"{os.uname().release} {os.uname().machine}"


def versions(host: Host) -> dict[str, str]:
    """Return the tools' versions, asked for in one go."""
    script = "; ".join(f'echo "@{name}"; {" ".join(words)} 2>&1 | head -n 3' for name, words in _VERSIONS.items())
    found = host.run("sh", "-c", script, check=False, quiet=True).stdout
    known = {}
    for part in found.split("@")[1:]:
        name, _, rest = part.partition("\n")
        match = re.search(r"\d+\.\d+(?:\.\d+)*(?:p\d+)?", rest)
        if match and "not found" not in rest:
            known[name] = match[0]
    return known
