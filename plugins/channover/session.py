"""One run (or one worker's part of it): its settings, its target, what can be had here, what tools it has."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from channover.behaviours import Behaviour
from channover.choices import Place
from channover.errors import ChannoverError, RigError, UsageError
from channover.hosts.base import Host, Journal
from channover.network.bonding import BondingDriver
from channover.network.lag import LagDriver
from channover.network.openvswitch import OpenVSwitchDriver
from channover.settings import Settings
from channover.targets.base import Target
from channover.targets.capabilities import CAPABILITIES, lag_driver
from channover.targets.dry import DryTarget
from channover.targets.netns import NetnsTarget
from channover.topology import Topology, pair

DRIVERS: Mapping[str, LagDriver] = {"bonding": BondingDriver(), "openvswitch": OpenVSwitchDriver()}

_VERSIONS = {
    "iperf3": ("iperf3", "--version"),
    "iproute2": ("ip", "-V"),
    "mptcpize": ("mptcpize", "--version"),
    "openssh": ("ssh", "-V"),
    "openvpn": ("openvpn", "--version"),
    "openvswitch": ("ovs-vswitchd", "--version"),
    "nginx": ("nginx", "-v"),
    "vsftpd": ("vsftpd", "-v", "0>&1"),
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
        from channover.targets.physical import PhysicalTarget
        from channover.targets.seats import Seats

        return PhysicalTarget(place.lab, Seats(place.lease_wait))
    if place.target == "vm":
        from channover.targets.vm import VmTarget

        return VmTarget(place.kernel)
    return NetnsTarget()


@dataclass
class Session:
    """What a run knows of the place where it runs. The answers are looked up once."""

    settings: Settings
    target: Target
    _answers: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def target_unmet(self) -> str | None:
        """Why no lab at all can be had here, or None."""
        return self.target.unmet(pair())

    def ready(self) -> None:
        """Raise UsageError, in one line, where the run as it was asked for cannot be had here; RigError where hosts fail."""
        if self.target_unmet:
            raise UsageError(f"--target={self.settings.target}: {self.target_unmet}")
        if self.settings.target != "netns" and isinstance(self._outcome, Exception):
            raise RigError(f"--target={self.settings.target}: the hosts could not be probed: {self._outcome}")
        if self.settings.lag_driver != "auto" and self.lag[0] is None:
            raise UsageError(f"--lag-driver={self.settings.lag_driver}: {self.lag[1]}")

    @cached_property
    def _outcome(self) -> dict[str, str | None] | ChannoverError | OSError:
        """What probing found, or what it failed of: it takes a lab, and so is done once."""
        try:
            return self._probe()
        except (ChannoverError, OSError) as error:
            return error

    @property
    def _probed(self) -> dict[str, str | None]:
        """What a host of this target lacks, by capability. Raises what probing failed of."""
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def _probe(self) -> dict[str, str | None]:
        """Find out what a host of this target lacks; on one host, all at once."""
        found: dict[str, str | None] = {}
        if isinstance(self.target, DryTarget):
            wish = self.settings.lag_driver
            self._tools: dict[str, str] = {}
            self._driver: str | None = "bonding" if wish == "auto" else wish
            self._kernel, self._congestion_control = "", ""
            return dict.fromkeys([*CAPABILITIES, "lag"])
        # Hosts of one machine are alike; real ones may differ, and each has to be able.
        topology = pair() if self.settings.place.lab else Topology("probe", (pair().nodes[0],), ())
        with self.target.lab(topology, self.settings.link, Journal()) as lab:
            for name, capability in CAPABILITIES.items():
                gaps = [gap for host in lab.hosts.values() if (gap := capability.unmet(host))]
                found[name] = "; ".join(gaps) or None
            drivers = [lag_driver(host, self.settings.lag_driver) for host in lab.hosts.values()]
            names = {driver for driver, _ in drivers}
            found["lag"] = "; ".join(reason for _, reason in drivers if reason) or None
            if len(names) > 1 and found["lag"] is None:
                found["lag"] = "the hosts have different LAG drivers: choose one with --lag-driver"
            self._driver = None if found["lag"] else names.pop()
            self._tools = _versions(lab.left)
            self._kernel = lab.left.run("uname", "-rm", quiet=True).stdout.strip()
            self._congestion_control = lab.left.read("/proc/sys/net/ipv4/tcp_congestion_control").strip()
        return found

    @cached_property
    def lag(self) -> tuple[str | None, str | None]:
        """The LAG driver's name, or None and what is missing."""
        reason = self._probed["lag"]
        return self._driver, reason

    @property
    def driver(self) -> LagDriver:
        """The LAG driver. Raises UsageError where there is none."""
        name, reason = self.lag
        if name is None:
            raise UsageError(f"no LAG can be had: {reason}")
        return DRIVERS[name]

    @property
    def tools(self) -> Mapping[str, str]:
        """Versions of the tools that a host of this target has."""
        return self._tools if self._probed else {}

    @property
    def congestion_control(self) -> str:
        """The TCP congestion control that hosts of this target have by default."""
        return self._congestion_control if self._probed else ""

    @property
    def native_mptcp(self) -> bool:
        """Whether iperf3 speaks MPTCP by itself (3.19 and later)."""
        version = re.match(r"(\d+)\.(\d+)", self.tools.get("iperf3", ""))
        return version is not None and (int(version[1]), int(version[2])) >= (3, 19)

    def unmet(self, behaviour: Behaviour) -> str | None:
        """Say what is missing here for a behaviour, with the remedy; None where nothing is."""
        if self.target_unmet:
            return self.target_unmet
        try:
            reasons = [reason for need in behaviour.needs if (reason := self._probed.get(need))]
        except (ChannoverError, OSError) as error:
            return f"this machine could not be probed: {error}"
        return "; ".join(dict.fromkeys(reasons)) or None

    def lacks(self, topology: Topology) -> str | None:
        """Say why this topology cannot be had here, or None."""
        if self.target_unmet:
            return self.target_unmet
        if self.settings.place.lab is None:
            return None  # namespaces and machines are made as they are wanted
        if topology.name not in self._answers:
            self._answers[topology.name] = self.target.unmet(topology)
        return self._answers[topology.name]

    def gaps(self) -> dict[str, str | None]:
        """Return every capability with what is missing for it."""
        return dict(self._probed)

    @property
    def kernel(self) -> str:
        """The release and architecture of the hosts' kernel; of this machine's where no host can be asked."""
        with contextlib.suppress(ChannoverError, OSError):
            if self.target_unmet is None and self._probed:
                return self._kernel
        return f"{os.uname().release} {os.uname().machine}"


def _versions(host: Host) -> dict[str, str]:
    """Return the tools' versions, asked for in one go."""
    script = "; ".join(f'echo "@{name}"; {" ".join(words)} 2>&1 | head -n 3' for name, words in _VERSIONS.items())
    found = host.run("sh", "-c", script, check=False, quiet=True).stdout
    versions = {}
    for part in found.split("@")[1:]:
        name, _, rest = part.partition("\n")
        match = re.search(r"\d+\.\d+(?:\.\d+)*(?:p\d+)?", rest)
        if match and "not found" not in rest:
            versions[name] = match[0]
    return versions
