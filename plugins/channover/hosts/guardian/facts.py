"""What is to be known of a host before anything on it is changed, as values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from channover.hosts.change_policy import Management
from channover.model.link import USUAL_MTU

FASTEST = 1_600_000
"""The highest speed of a link in Mbit/s (IEEE 802.3dj). Above is what drivers say who do not know: -1, without its sign."""


@dataclass(frozen=True)
class NicFacts:
    """One network device: ``speed`` is bit/s (None: unknown), ``manager`` is what else configures it."""

    device: str
    mac: str
    up: bool
    carrier: bool
    physical: bool = False
    driver: str = ""
    firmware: str = ""
    speed: int | None = None
    duplex: str = ""
    addresses: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    """The other ends of addresses that have one, in prefix notation."""
    manager: str = ""
    master: str = ""
    below: str = ""
    """The device that it is stacked on: a VLAN's."""
    permanent: str = ""
    """The MAC address that it was made with: a member of a bond shows another one."""
    bus: str = ""
    """What it is plugged into, such as ``pci``; ``emulated pci`` where the device says that an emulator made it."""
    kind: str = ""
    """What makes it, if it is virtual (``vlan``, ``macvlan``), in iproute2's words."""
    port: str = ""
    """What kind of device its master is (``bridge``, ``bond``, ``openvswitch``)."""
    filtering: bool = False
    """Whether it is a bridge that tells VLANs apart."""
    xdp: bool = False
    """Whether an XDP program sees its frames before the kernel does."""
    entries: bool = False
    """Whether somebody has given it neighbours, proxy entries or next hops: they go when it is set down."""
    static: bool = False
    """Whether its bridge has forwarding entries for it that somebody has made."""
    mtu: int = USUAL_MTU

    @property
    def networks(self) -> tuple[str, ...]:
        """What it reaches by itself, in prefix notation; link-local networks are every device's."""
        return tuple(each for each in (*self.addresses, *self.peers) if not each.startswith("fe80"))


@dataclass(frozen=True)
class Facts:
    """One host. ``clock`` is what its time is ahead of the controller's, at least (seconds; below 0: behind)."""

    uid: int
    kernel: str
    clock: float
    bash: tuple[int, int]
    devices: Mapping[str, NicFacts]
    management: Management | None = None
    tables: frozenset[int] = frozenset()
    """Numbers of the routing tables that have routes, but for main, local and default."""
    filters: frozenset[str] = frozenset()
    """Names of the nftables tables of the family ``inet``."""
    endpoints: tuple[int, ...] = ()
    """Numbers of the MPTCP endpoints that somebody has configured."""
    lacks: tuple[str, ...] = ()
    """Programs that the guardian takes, and that the host has not, or only simpler ones of their name."""

    def device(self, name: str) -> NicFacts | None:
        """Return a device by its name or its MAC address."""
        if name in self.devices:
            return self.devices[name]
        wanted, physical = name.lower(), [found for found in self.devices.values() if found.physical]
        same = [found for found in physical if found.permanent == wanted]
        return next(iter(same or [found for found in physical if found.mac == wanted]), None)

    def above(self, name: str) -> tuple[str, ...]:
        """Return what is stacked on a device: VLANs, macvlans, and what is on these."""
        own = [each.device for each in self.devices.values() if each.below == name and each.kind != "veth"]
        return tuple(device for one in own for device in (one, *self.above(one)))

    def beneath(self, names: Collection[str]) -> frozenset[str]:
        """Return these devices with all that carries them: the members of a bond or bridge, the device below a VLAN."""
        return lower_devices(names, {name: (each.master, each.below) for name, each in self.devices.items()})


def lower_devices(names: Collection[str], stacked: Mapping[str, tuple[str, str]]) -> frozenset[str]:
    """Return devices with all that carries them; ``stacked`` has each device's master and the device below it."""
    found: set[str] = set()
    rest = list(names)
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            rest += [each for each, (master, _) in stacked.items() if master == name]
            if name in stacked and (below := stacked[name][1]):
                rest.append(below)
    return frozenset(found)


def speed_of(text: str) -> int | None:
    """Return the speed (bit/s) that sysfs tells of a NIC in Mbit/s; None where the driver does not know it.

    SPEED_UNKNOWN is -1 (``linux/ethtool.h``), and 65535 or 4294967295 with drivers that keep it unsigned.
    """
    known = int(text) if re.fullmatch(r"[0-9]{1,10}", text) else 0
    return known * 1_000_000 if 0 < known <= FASTEST and known != 65535 else None
