"""What was asked of a lab is read back from it, and compared, before traffic: what is not in force is said by name.

It is asked for by plans (:class:`channover.model.asked.Asked`), by the lab itself (the MTU of its NICs) and by what
stands in ``lab.asked``: LAGs, tunnels, the cables' own shapers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from channover.errors import TestbedError
from channover.hosts.host import Host, each
from channover.hosts.lab import Asking, Lab, Remembering
from channover.model.asked import Asked
from channover.model.state import State
from channover.model.topology import Port

NOT_AS_ASKED = "not-as-asked"
"""The kind of the error."""
MOST = 6
"""Settings that one error names: the rest is counted."""


@runtime_checkable
class Accountable(Protocol):
    """A host that knows what plans have asked of it, and can tell its offloads."""

    asked: Asked

    def offloaded(self, device: str, features: tuple[str, ...]) -> Mapping[str, bool]:
        """Return which of these offloads of a device are on, as far as they can be switched. Raises TestbedError."""
        ...


@dataclass(frozen=True)
class Readback:
    """What a lab showed of itself when it was read back: each host's state, and the settings that are not in force.

    ``unasked`` are things that nobody asked for, and that may defeat what was.
    """

    states: Mapping[str, State]
    unmet: tuple[str, ...]
    unasked: tuple[str, ...] = ()


def told(unmet: Sequence[str]) -> str:
    """Return in one line the settings that are not in force; empty where all are."""
    more = f"; and {len(unmet) - MOST} more" if len(unmet) > MOST else ""
    return f"not as it was asked for: {'; '.join(unmet[:MOST])}{more}" if unmet else ""


def require(unmet: Sequence[str]) -> None:
    """Raise TestbedError that names the settings which are not in force, if there are any."""
    if words := told(unmet):
        raise TestbedError(words, NOT_AS_ASKED)


def read_back(lab: Lab) -> Readback:
    """Read back all that was asked of a lab, hosts side by side. Raises TestbedError where a host does not answer."""
    hosts, now = list(lab.hosts.values()), states(lab)
    found = each(lambda host: list(_of_host(lab, host, now[host.name])), hosts)
    found += each(lambda one: list(one.unmet(now)), lab.asked)
    if isinstance(lab.cabling, Asking):
        found.append(list(lab.cabling.unmet(now)))
    more = [words for host in hosts for words in _unasked(host, now[host.name])]
    return Readback(now, tuple(dict.fromkeys(words for some in found for words in some)), tuple(more))


def states(lab: Lab) -> dict[str, State]:
    """Return what each host of a lab shows of itself, hosts side by side. Raises TestbedError where one does not answer."""
    hosts = list(lab.hosts.values())
    return dict(zip((host.name for host in hosts), each(_state, hosts), strict=True))


@dataclass(frozen=True)
class Carriers:
    """The carriers of a lab's NICs from a moment on (``since``: seconds since the epoch), as its hosts were then."""

    before: Mapping[str, State]
    since: float = 0.0

    def changes(self, lab: Lab, now: Mapping[str, State]) -> Iterator[tuple[Port, int]]:
        """Yield each NIC whose carrier came or went though nobody pulled its cable or set it down, and how often."""
        pulled = lab.cabling.pulled if isinstance(lab.cabling, Remembering) else lab.topology.cables
        down = [step.title for step in lab.journal.steps if step.start >= self.since]
        for cable in (one for one in lab.topology.cables if one not in pulled):
            for port in cable.ports:
                device = lab.hosts[port.node].nic(port.nic).device
                links = [one[port.node].links.get(device) for one in (self.before, now) if port.node in one]
                if len(links) == 2 and links[0] and links[1] and f"ip link set dev {device} down" not in down:
                    changes = links[1].carrier_changes - links[0].carrier_changes
                    if changes > 0:
                        yield port, changes


def _state(host: Host) -> State:
    keys = host.asked.sysctls if isinstance(host, Accountable) else ()
    try:
        return host.state(keys)
    except TestbedError:  # a parameter that has gone with its device, or a host that does not answer
        values = {}
        for key in keys:
            with suppress(TestbedError):
                values[key] = host.read(f"/proc/sys/{key}").strip()
        return replace(host.state(), sysctls=values)


def _unasked(host: Host, now: State) -> Iterator[str]:
    if isinstance(host, Accountable):
        yield from (f"{host.name} has {words}" for words in host.asked.unasked(now, _names(host)))


def _names(host: Host) -> dict[str, str]:
    return {nic.device: f"NIC {nic.name} ({nic.device})" for nic in host.nics.values()}


def _of_host(lab: Lab, host: Host, now: State) -> Iterator[str]:
    names = _names(host)
    asked = host.asked if isinstance(host, Accountable) else Asked()
    for words in asked.unmet(now, names):
        yield f"{host.name}: {words}"
    for cable in lab.topology.cables:
        for port in cable.ports:
            if port.node == host.name:
                yield from _of_nic(lab, host, port, now, asked)
    if isinstance(host, Accountable):
        yield from _of_offloads(host, host, names)
        yield from _of_tables(host, asked)


def _of_nic(lab: Lab, host: Host, port: Port, now: State, asked: Asked) -> Iterator[str]:
    """Yield what a cabled NIC lacks that every lab asks for, whatever plans do: to be there, and its link's MTU."""
    device = host.nic(port.nic).device
    link = now.links.get(device)
    if link is None:
        yield f"{host.name}: NIC {port.nic} ({device}) is gone"
    elif link.mtu != lab.link.mtu and ("mtu", device) not in asked.settings:
        yield f"{host.name}: the MTU of NIC {port.nic} ({device}) is {link.mtu}, and {lab.link.mtu} was asked for"


def _of_offloads(host: Host, told: Accountable, names: Mapping[str, str]) -> Iterator[str]:
    for device, wanted in told.asked.offloads.items():
        try:
            found = told.offloaded(device, tuple(wanted))
        except TestbedError:
            continue  # its device has gone; whether that is a loss is said elsewhere
        for feature, on in found.items():
            if on != wanted[feature]:
                words = [("off", "on")[one] for one in (on, wanted[feature])]
                yield f"{host.name}: {feature} of {names.get(device, device)} is {words[0]}, and {words[1]} was asked for"


def _of_tables(host: Host, asked: Asked) -> Iterator[str]:
    if not asked.tables:
        return
    said = host.run("nft", "-j", "list", "tables", check=False, quiet=True).stdout
    try:
        listed = json.loads(said)["nftables"]
    except (ValueError, KeyError, TypeError):
        return
    names = {one["table"]["name"] for one in listed if "table" in one}
    for name, there in asked.tables.items():
        if (name in names) != there:
            state = "gone, and was asked for" if there else "there, and was to be gone"
            yield f"{host.name}: the packet filter's table {name} is {state}"
