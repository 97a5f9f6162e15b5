"""How the facts of a host are read: in one round trip, by one script for any POSIX shell that changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from channover.hosts.change_policy import Management
from channover.hosts.guardian.facts import Facts, NicFacts, speed_of
from channover.model.link import USUAL_MTU

SCRIPT = r"""
echo "@id"; id -u
echo "@uname"; uname -rm
echo "@clock"; date +%s.%N
echo "@bash"; bash --version 2>&1 | head -n 1
echo "@lacks"
ip -N link show lo >/dev/null 2>&1 || echo ip
for p in awk sed grep setsid; do command -v $p >/dev/null || echo $p; done
flock -s -w 1 /run true 2>/dev/null || echo flock
echo "@addresses"; ip -j -d address show
echo "@route"; [ -z "$1" ] || ip -j route get "$1"
echo "@routing"; ip -N route show table all 2>/dev/null | sed -n 's/.* table \([0-9]*\).*/\1/p' | sort -un
echo "@nft"; command -v nft >/dev/null && nft list tables inet 2>/dev/null | awk '{print $3}'
echo "@entries"
{ ip neigh show nud permanent; ip neigh show proxy; ip neigh show nud noarp | grep -v ' lladdr .[13579bdf]:'
  ip nexthop show; } 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | sort -u
echo "@static"; { bridge fdb show; bridge mdb show; } 2>/dev/null |
    sed -n 's/.* dev \([^ ]*\).* static.*/\1/p; s/.* port \([^ ]*\).* permanent.*/\1/p' | sort -u
echo "@endpoints"; ip mptcp endpoint show 2>/dev/null | grep -v ' implicit' | sed -n 's/.* id \([0-9]*\).*/\1/p'
echo "@managers"
for d in $(grep -hosE '^ *iface +[^ ]+' /etc/network/interfaces /etc/network/interfaces.d/* | awk '{print $2}'); do
    echo "ifupdown $d"
done
command -v nmcli >/dev/null && nmcli -t -f DEVICE,STATE device 2>/dev/null | sed 's/^/nm /'
command -v networkctl >/dev/null && networkctl --no-legend --no-pager list 2>/dev/null | awk '{print "networkd " $2 " " $5}'
echo "@nics"
linked() { [ ! -e "$1" ] || basename "$(readlink -f "$1")"; }
for n in /sys/class/net/*; do
    [ -e "$n/device" ] || continue
    printf '%s|' "${n##*/}" "$(linked "$n/device/driver")" "$(cat "$n/speed" 2>/dev/null)" \
        "$(cat "$n/duplex" 2>/dev/null)" "$(cat "$n/carrier" 2>/dev/null)" \
        "$(ethtool -i "${n##*/}" 2>/dev/null | sed -n 's/^firmware-version: //p')" \
        "$(linked "$n/device/subsystem")" "$(cat "$n/device/subsystem_vendor" 2>/dev/null)"
    echo
done
"""
"""For any POSIX shell. Its argument is the controller's address as the host sees it, or nothing."""


def _ahead(text: str, asked: float, answered: float) -> float:
    """Return what a clock is ahead of ours at least; BusyBox's ``date`` knows no fraction of a second."""
    match = re.match(r"([0-9]+)(\.[0-9]+)?", text)
    if match is None:
        raise Unusable("'date +%s' does not tell the time there: install coreutils")
    first = float(match[0])
    last = first if match[2] else first + 1
    return first - answered if first > answered else min(last - asked, 0.0)


class Unusable(ValueError):
    """A host lacks what its facts are read with: which program, and the package."""


def parse(text: str, asked: float, answered: float, controller: str) -> Facts:
    """Return the facts that SCRIPT printed between two moments of our clock (seconds since the epoch). Raises ValueError."""
    parts = {head: body.strip() for head, _, body in (part.partition("\n") for part in re.split(r"(?m)^@", text)[1:])}
    if not parts.get("addresses", "[").startswith("["):
        raise Unusable("'ip' does not answer in JSON there: install iproute2 5.0 or newer")
    try:
        addresses: list[dict[str, Any]] = json.loads(parts["addresses"])
        nics = {line.split("|")[0]: line.split("|")[1:8] for line in parts["nics"].splitlines()}
        devices = {}
        managed = _managed(parts["managers"])
        for entry in addresses:
            if entry:
                found = _device(entry, nics.get(entry["ifname"]), managed)
                entries, static = (found.device in parts.get(what, "").split() for what in ("entries", "static"))
                devices[found.device] = replace(found, entries=entries, static=static)
        devices = {name: _of_nic(device, devices) for name, device in devices.items()}
        route = json.loads(parts["route"] or "[]")
        version = re.search(r"version (\d+)\.(\d+)", parts["bash"])
        return Facts(
            uid=int(parts["id"]),
            kernel=parts["uname"],
            clock=_ahead(parts["clock"], asked, answered),
            bash=(int(version[1]), int(version[2])) if version else (0, 0),
            devices=devices,
            management=_management(route, devices, controller),
            tables=frozenset(map(int, parts["routing"].split())) - _COMMON_TABLES,
            filters=frozenset(parts["nft"].split()),
            endpoints=tuple(map(int, parts.get("endpoints", "").split())),
            lacks=tuple(parts["lacks"].split()),
        )
    except Unusable:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"the host's answer is not understood ({error!r}): {text[-300:]!r}") from error


_EMULATORS = {"0x1af4", "0x15ad", "0x1414", "0x1ab8", "0x80ee", "0x5853"}
"""Subsystem vendors (PCI) of QEMU, VMware, Hyper-V, Parallels, VirtualBox and Xen."""


_COMMON_TABLES = {253, 254, 255}
"""default, main and local: ``RT_TABLE_*`` in ``linux/rtnetlink.h``."""


def _managed(text: str) -> dict[str, str]:
    """Return who configures which device: NetworkManager, systemd-networkd or ifupdown."""
    found = {}
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if words[:1] == ["ifupdown"] and len(words) == 2:
            found[words[1]] = "ifupdown"
        elif words[:1] == ["nm"] and len(words) > 2 and words[2] != "unmanaged":
            found[words[1]] = "NetworkManager"
        elif words[:1] == ["networkd"] and len(words) > 2 and words[2] != "unmanaged":
            found[words[1]] = "systemd-networkd"
    return found


def _device(entry: Mapping[str, Any], nic: list[str] | None, managed: Mapping[str, str]) -> NicFacts:
    driver, speed, duplex, carrier, firmware, bus, vendor = (nic or [])[:7] + [""] * (7 - len(nic or []))
    made = entry.get("linkinfo", {})
    return NicFacts(
        device=entry["ifname"],
        mac=entry.get("address", ""),
        up="UP" in entry["flags"],
        carrier=carrier == "1" if nic else "LOWER_UP" in entry["flags"],
        physical=nic is not None,
        driver=driver,
        firmware=firmware if firmware != "N/A" else "",
        speed=speed_of(speed),
        duplex=duplex if duplex != "unknown" else "",
        addresses=tuple(f"{a['local']}/{a['prefixlen']}" for a in entry.get("addr_info", []) if "local" in a),
        peers=tuple(f"{a['address']}/{a['prefixlen']}" for a in entry.get("addr_info", []) if "address" in a),
        manager=managed.get(entry["ifname"], ""),
        master=entry.get("master", ""),
        below=entry.get("link") or "",
        permanent=entry.get("permaddr") or entry.get("address", ""),
        kind=made.get("info_kind", ""),
        port=made.get("info_slave_kind", ""),
        filtering=bool(made.get("info_data", {}).get("vlan_filtering")),
        xdp="xdp" in entry,
        mtu=entry.get("mtu", USUAL_MTU),
        bus=f"emulated {bus}" if vendor in _EMULATORS else bus,
    )


def _of_nic(device: NicFacts, devices: Mapping[str, NicFacts]) -> NicFacts:
    """Return a VLAN's device with what is its NIC's: driver, firmware, speed, duplex, and what that is plugged into."""
    below = devices.get(device.below)
    if device.kind != "vlan" or below is None:
        return device
    nic = _of_nic(below, devices)
    return replace(device, driver=nic.driver, firmware=nic.firmware, speed=nic.speed, duplex=nic.duplex, bus=nic.bus)


def _management(route: list[dict[str, Any]], devices: Mapping[str, NicFacts], controller: str) -> Management | None:
    if not route or "dev" not in route[0]:
        return None
    name = route[0]["dev"]
    networks = devices[name].networks if name in devices and name != "lo" else ()
    peers = tuple(address for address in (controller, route[0].get("gateway")) if address)
    return Management(name, networks, peers)
