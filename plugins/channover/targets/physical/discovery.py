"""Writes the beginning of an inventory from a live host: its NICs, what they are, and the interface that SSH came by.

Everything is read with ``ip`` (iproute2) and from ``/sys/class/net`` (kernel, Documentation/ABI/testing/sysfs-class-net);
nothing is changed, and no privilege is needed. A NIC is a device that sysfs ties to a device of a bus.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from string import ascii_lowercase
from typing import Any

from channover.errors import TestbedError
from channover.hosts.guardian.facts import lower_devices, speed_of
from channover.hosts.host import Host
from channover.targets.inventory.fields import LABEL, device_or_mac
from channover.targets.physical.neighbours.hearing import Heard

_FACTS = r"""
cd /sys/class/net || exit 1
for device in *; do
    [ -e "$device/device" ] || continue
    driver=$(readlink "$device/device/driver")
    driver=${driver##*/}
    speed=$(cat "$device/speed" 2> /dev/null)
    duplex=$(cat "$device/duplex" 2> /dev/null)
    kind=wired
    if [ -e "$device/wireless" ] || [ -e "$device/phy80211" ]; then kind=wireless; fi
    printf '%s %s %s %s %s\n' "$device" "${driver:-unknown}" "${speed:--1}" "${duplex:-unknown}" "$kind"
done
"""


@dataclass(frozen=True)
class _Device:
    """A NIC as the host shows it; ``speed`` is bit/s, None where it is not known."""

    name: str
    driver: str
    speed: int | None
    duplex: str
    wireless: bool


@dataclass(frozen=True)
class _Interface:
    """What ``ip`` tells of any interface."""

    name: str
    mac: str
    up: bool
    carrier: bool
    kind: str
    master: str
    below: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Login:
    """How a host is reached, as far as that was given; it is written down as it is."""

    address: str
    user: str | None = None
    port: int | None = None
    key: str = ""
    known_hosts: str = ""
    jump: str = ""


@dataclass(frozen=True)
class Found:
    """What was read of one host: its lines of an inventory, and its free NICs by label."""

    label: str
    lines: Sequence[str]
    free: Mapping[str, str]
    """Devices, by the label that the inventory gives each."""
    listening: Sequence[str]
    """Those of them that have a carrier."""
    rates: Mapping[str, str]
    """What each label's link has agreed on, in tc's notation; empty where that is not known."""


def read(host: Host, login: Login, connection: str = "") -> Found:
    """Return what one host shows of itself. Raises TestbedError where it does not answer, or shows nothing.

    ``connection`` is what sshd sets as SSH_CONNECTION (``ssh(1)``): the client's address and port, the server's address and
    port. It tells the management interface; without it that is the one with the login's address, or else the one of the
    default route. That the login needs sudo is written down where it is not root's.
    """
    interfaces = {each.name: each for each in _interfaces(host)}
    devices = [device for device in _devices(host) if device.name in interfaces]
    devices.sort(key=lambda device: list(interfaces).index(device.name))
    defaults = _default_devices(host)
    management = _management(host, interfaces, login.address, connection, defaults)
    stacked = {name: (each.master, each.below) for name, each in interfaces.items()}
    kept = lower_devices({management, *defaults}, stacked)
    ours = [device for device in devices if device.name not in kept and not device.wireless]
    busy = [device for device in ours if _uses(interfaces[device.name], interfaces)]
    free = [device for device in ours if device not in busy]
    label = re.sub(r"[^A-Za-z0-9_-]", "-", host.name)[:32]
    label = label if re.match(LABEL, label) else "left"
    options = {"key": login.key, "known_hosts": login.known_hosts, "jump": login.jump}
    lines = [
        f"      {label}: # the host's name; nodes of topologies are called left, right, beyond, …",
        "        ssh:",
        f"          address: {_scalar(login.address)}",
        *([f"          port: {login.port}"] if login.port else []),
        *([f"          user: {_scalar(login.user)}"] if login.user else []),
        *(f"          {name}: {_scalar(value)}" for name, value in options.items() if value),
        *([] if _is_root(host) else ["        sudo: true # becomes root for what takes root"]),
        f"        management: {_scalar(management)} # carries the SSH connection; never changed",
        "        # Remove what must not be touched: each NIC that stands here may be taken down and given other addresses.",
        *(["        # Those that the host uses are comments."] if busy else []),
        "        nics:",
        *_nic_lines(free, busy, interfaces),
        *_left_out(interfaces, devices, kept, management),
    ]
    labels = dict(zip(_labels(len(free)), (device.name for device in free), strict=True))
    carrier = [device.name for device in free if interfaces[device.name].up and interfaces[device.name].carrier]
    rates = {name: _rate(device.speed) for name, device in zip(labels, free, strict=True)}
    return Found(label, lines, labels, carrier, rates)


def document(found: Sequence[Found], heard: Mapping[str, Heard]) -> str:
    """Return commented YAML of a lab of hosts, and of the cables and switches that these heard of by their NICs."""
    ends, switches = _cables(found, heard)
    whose = ", ".join(_printable(one.label) for one in found)
    todo = "the other hosts, and the cables" if len(found) == 1 else "see that the cables are all, and as you know them"
    lines = [
        "# yaml-language-server: $schema=inventory.schema.json",
        f"# Read from {whose} by 'channover inventory discover'. Still to do: {todo}.",
        "# Then: channover inventory validate FILE. Every field is explained in inventory/example.yaml.",
        "labs:",
        "  lab: # the lab's name",
        "    hosts:",
        *(line for one in found for line in one.lines),
        *(f"    # {one.label}: {_printable(heard[one.label].note)}" for one in found if heard[one.label].note),
    ]
    if switches:
        lines.append("    # What LLDP told of switches, and LACP of their LAGs. Of VLANs they tell nothing: see vlans.")
        lines.append("    switches:")
        for name, switch in switches.items():
            lines.append(f"      {name}:")
            lines += [f"        description: {_scalar(_printable(switch.about[:120]))}"] if switch.about else []
            lines.append(f"        ports: [{', '.join(map(_scalar, switch.ports))}]")
            lines += ["        lags:"] if switch.lags else []
            lines += [f"          {lag}: [{', '.join(map(_scalar, ports))}]" for lag, ports in switch.lags.items()]
            lines += [f"        mlag: {_scalar(mlag)}"] if (mlag := _mlag(name, switches)) else []
    lines.append("    # One entry a cable: its two ends, and the rate of its link.")
    lines.append("    cables:" if ends else "    # cables:")
    for (near, far), rate in ends.items():
        lines.append(f"      - ends: [{_scalar(near)}, {_scalar(far)}]")
        lines.append(f"        rate: {rate or 'RATE # not known: write it, such as 1gbit'}")
    known = {end for pair in ends for end in pair}
    for one in found:
        for label in one.free:
            if f"{one.label}.{label}" not in known:
                lines += [
                    f"    #   - ends: [{one.label}.{label}, HOST.NIC]",
                    f"    #     rate: {one.rates[label] or 'RATE'}",
                ]
    return "\n".join(lines) + "\n"


_Ends = dict[tuple[str, str], str]


@dataclass
class _Switch:
    """A switch as its neighbours heard of it: its LAGs by the host that they lead to, its LACP systems."""

    about: str
    ports: list[str] = field(default_factory=list)
    lags: dict[str, list[str]] = field(default_factory=dict)
    systems: set[str] = field(default_factory=set)


_Switches = dict[str, _Switch]


def _mlag(name: str, switches: _Switches) -> str:
    """Return a name for the switches that act as one LACP system with this one; empty where it is alone."""
    own = switches[name].systems
    shared = any(own & one.systems for at, one in switches.items() if at != name)
    return "stack-" + min(own).replace(":", "") if shared else ""


def _cables(found: Sequence[Found], heard: Mapping[str, Heard]) -> tuple[_Ends, _Switches]:
    """Return the cables, each with its rate, and the switches that they lead to, each with what it is and its ports."""
    labels = {(one.label, device): label for one in found for label, device in one.free.items()}
    ends: _Ends = {}
    switches: _Switches = {}
    hosts = {one.label for one in found}
    for one in found:
        for label, device in one.free.items():
            other = heard[one.label].by.get(device)
            near = f"{one.label}.{label}"
            if other is None or any(near in pair for pair in ends):
                continue
            if other.is_host:
                far = labels.get((other.name, other.port))
                if far is not None:
                    theirs = next(each for each in found if each.label == other.name)
                    ends[near, f"{other.name}.{far}"] = one.rates[label] or theirs.rates[far]
                continue
            name = f"{other.name}-switch"[:32] if other.name in hosts else other.name
            switch = switches.setdefault(name, _Switch(other.description))
            switch.ports += [other.port] * (other.port not in switch.ports)
            if other.lag is not None:
                switch.systems.add(other.lag[0])
                keys = list(dict.fromkeys(each.lag for each in heard[one.label].by.values() if each.lag))
                number = keys.index(other.lag)
                switch.lags.setdefault(one.label + (f"-{number + 1}" if number else ""), []).append(other.port)
            ends[near, f"{name}.{other.port}"] = one.rates[label]
    return ends, switches


def _nic_lines(free: Sequence[_Device], busy: Sequence[_Device], interfaces: Mapping[str, _Interface]) -> Iterator[str]:
    macs = [interface.mac for interface in interfaces.values()]
    for label, device in zip(_labels(len(free) + len(busy)), (*free, *busy), strict=True):
        interface = interfaces[device.name]
        unique = _usable(interface.mac) and macs.count(interface.mac) == 1
        named, also = (interface.mac, device.name) if unique else (device.name, interface.mac)
        about = [also, device.driver, _link(device, interface), *_uses(interface, interfaces)]
        mark = "# " if device in busy else ""
        yield f"          {mark}{label}: {_scalar(named)} # {_printable(', '.join(about))}"
    if not free:
        yield "          # No NIC is free on this host: it needs one beside the management interface."


def _uses(interface: _Interface, interfaces: Mapping[str, _Interface]) -> list[str]:
    """Return what else the host uses a NIC for."""
    above = sorted(other.name for other in interfaces.values() if other.below == interface.name)
    found = [f"in use: it belongs to {interface.master}"] if interface.master else []
    found += [f"in use: it has {', '.join(interface.addresses)}"] if interface.addresses else []
    return found + ([f"in use: {', '.join(above)} is on it"] if above else [])


def _left_out(
    interfaces: Mapping[str, _Interface], devices: Sequence[_Device], kept: frozenset[str], management: str
) -> Iterator[str]:
    wireless = {device.name for device in devices if device.wireless}
    real = {device.name for device in devices}
    for name, interface in interfaces.items():
        if name == "lo" or (name in real and name not in kept | wireless):
            continue
        if name == management:
            why = "the management interface"
        elif name in kept:
            why = f"the management interface {management} or a default route needs it"
        else:
            why = "wireless" if name in wireless else f"no NIC: {interface.kind or 'virtual'}"
        yield f"        # left out: {_printable(name)}, {_printable(why)}"


def _labels(number: int) -> list[str]:
    return [ascii_lowercase[each] if each < 26 else f"n{each + 1}" for each in range(number)]


def _link(device: _Device, interface: _Interface) -> str:
    if not interface.up:
        return "set down: carrier and speed are not known"
    if not interface.carrier:
        return "no carrier"
    return (
        f"carrier, {_rate(device.speed)} {device.duplex} duplex" if _rate(device.speed) else "carrier, speed not known"
    )


def _rate(speed: int | None) -> str:
    """Return a speed (bit/s) as a rate in tc's notation, or nothing where it is not known."""
    if speed is None:
        return ""
    return f"{speed / 10**9:g}gbit" if speed >= 10**9 else f"{speed // 10**6}mbit"


def _usable(mac: str) -> bool:
    try:
        return ":" in device_or_mac(mac)
    except ValueError:
        return False


def _scalar(text: str) -> str:
    """Return a text as it may stand in YAML: quoted unless it is a word in every version of it."""
    plain = re.fullmatch(r"[A-Za-z~/][A-Za-z0-9_./@-]*", text) and text.lower() not in _RESERVED
    return text if plain else json.dumps(text)


_RESERVED = frozenset(("y", "n", "yes", "no", "true", "false", "on", "off", "null", "~"))


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _management(
    host: Host, interfaces: Mapping[str, _Interface], address: str, connection: str, defaults: Sequence[str]
) -> str:
    """Return the interface with the address that SSH came to, or the one that answers leave by."""
    words = connection.split()
    for own in (*words[2:3], address):
        for interface in interfaces.values():
            if interface.name != "lo" and any(_same(own, each.partition("/")[0]) for each in interface.addresses):
                return interface.name
    if words and _is_address(words[0]):
        routes = _json(host, "ip", "-j", "route", "get", words[0].partition("%")[0], check=False)
        for route in routes:
            if route.get("dev") in interfaces and route["dev"] != "lo":
                return str(route["dev"])
    if defaults:
        return defaults[0]
    raise TestbedError(
        f"{host.name}: no interface has the address {address}, and there is no default route: "
        "name the management interface in an inventory written by hand"
    )


def _is_address(text: str) -> bool:
    return _same(text, text)


def _same(one: str, other: str) -> bool:
    try:
        return ip_address(one.partition("%")[0]) == ip_address(other.partition("%")[0])
    except ValueError:
        return False


def _is_root(host: Host) -> bool:
    return host.run("id", "-u", quiet=True).stdout.strip() == "0"


def _default_devices(host: Host) -> list[str]:
    """Return the devices of the default routes, IPv4's first."""
    routes = _json(host, "ip", "-j", "route", "show", "default") + _json(
        host, "ip", "-j", "-6", "route", "show", "default", check=False
    )
    hops = [hop for route in routes for hop in (route, *route.get("nexthops", ()))]
    return list(dict.fromkeys(str(hop["dev"]) for hop in hops if "dev" in hop))


def _interfaces(host: Host) -> Iterator[_Interface]:
    for entry in _json(host, "ip", "-j", "-d", "address", "show"):
        flags = entry.get("flags", ())
        yield _Interface(
            name=entry["ifname"],
            mac=str(entry.get("permaddr") or entry.get("address", "")).lower(),
            up="UP" in flags,
            carrier="LOWER_UP" in flags,
            kind=entry.get("linkinfo", {}).get("info_kind", ""),
            master=entry.get("master", ""),
            below=entry.get("link") or "",
            addresses=tuple(
                f"{each['local']}/{each['prefixlen']}"
                for each in entry.get("addr_info", ())
                if each.get("scope") != "link" and "local" in each
            ),
        )


def _devices(host: Host) -> Iterator[_Device]:
    for line in host.run("sh", "-c", _FACTS, quiet=True).stdout.splitlines():
        match line.split():
            case [name, driver, speed, duplex, kind]:
                yield _Device(name, driver, speed_of(speed), duplex, kind == "wireless")


def _json(host: Host, *argv: str, check: bool = True) -> list[dict[str, Any]]:
    done = host.run(*argv, check=False, quiet=True)
    words = " ".join(done.stderr.split())[:200]
    if check and done.returncode != 0 and "-j" not in words and "BusyBox" not in words:
        raise TestbedError(f"{host.name}: '{' '.join(argv)}' ended with code {done.returncode}: {words}")
    try:
        found = json.loads(done.stdout or ("[]" if done.returncode == 0 or not check else ""))
    except ValueError:
        raise TestbedError(
            f"{host.name}: '{' '.join(argv)}' did not answer in JSON: install iproute2 5.0 or newer"
        ) from None
    return [entry for entry in found if isinstance(entry, dict) and entry]
