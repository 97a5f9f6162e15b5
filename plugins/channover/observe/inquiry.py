"""What a host is asked after a verdict against a behaviour: settings, neighbours, what the kernel chooses, what gets through.

One round trip a host, a second or two in all: the probes run side by side. Sources: ``ip-route(8)``, ``ip-neighbour(8)``,
``ping(8)``, ``tc(8)``, ``proc(5)``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from channover.hosts.host import Host

PINGS = 3
"""Echo requests of each size that go each way."""
_MARK = "\036"
_SCRIPT = r"""
exec 2>&1
mark() { printf '\n\036%s\n' "$1"; }
devices=$1; shift
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
number=0
for way in "$@"; do
    IFS=, read -r source target size <<END
$way
END
    {
        ip route get "$target" from "$source" >"$folder/$number.get" 2>&1
        [ -n "$size" ] || exit
        LC_ALL=C ping -n -q -c 3 -i 0.2 -W 1 -I "$source" "$target" >"$folder/$number.small" 2>&1 &
        LC_ALL=C ping -n -q -c 3 -i 0.2 -W 1 -M do -s "$size" -I "$source" "$target" >"$folder/$number.full" 2>&1 &
        wait
    } &
    number=$((number + 1))
done
mark sysctls; cd /proc/sys && grep -s . net/mptcp/* net/ipv4/conf/*/rp_filter net/ipv4/conf/*/arp_ignore \
    net/ipv4/conf/*/arp_filter net/ipv4/ip_forward net/ipv4/tcp_[rw]mem net/ipv4/tcp_mem net/core/[rw]mem_max \
    net/ipv4/tcp_congestion_control net/ipv4/tcp_window_scaling net/ipv4/tcp_sack net/ipv4/tcp_timestamps \
    net/ipv4/tcp_mtu_probing net/ipv4/tcp_moderate_rcvbuf net/ipv4/tcp_base_mss net/ipv4/icmp_echo_ignore_all \
    net/ipv6/conf/*/disable_ipv6 net/ipv6/conf/all/forwarding net/ipv4/tcp_retries2
mark links; ip -j -d -s link show
for device in $devices; do
    mark "filters $device"; tc -s filter show dev "$device" ingress; tc -s filter show dev "$device"
    mark "features $device"; ethtool -k "$device" | grep -E '^(tx-checksumming|rx-checksumming|tcp-seg|generic-)'
done
wait
mark neighbours; ip -j neigh show
at=0
while [ $at -lt $number ]; do
    mark "get $at"; cat "$folder/$at.get"
    mark "small $at"; cat "$folder/$at.small" 2>/dev/null
    mark "full $at"; cat "$folder/$at.full" 2>/dev/null
    at=$((at + 1))
done
"""


@dataclass(frozen=True)
class Asked:
    """A way that a host is asked about: packets from a source to a destination address, ``mtu`` bytes the largest."""

    source: str
    destination: str
    mtu: int = 1500
    probed: bool = True
    """Whether something is sent; else only the kernel's choice is asked for."""

    @property
    def payload(self) -> int:
        """Bytes of an echo request that fills the MTU, less the headers of IP and ICMP (RFC 791, RFC 8200, RFC 4443)."""
        return self.mtu - (48 if ":" in self.destination else 28)


@dataclass(frozen=True)
class Told:
    """What came of a way: the device that the kernel chose, or why it refused; echo requests answered, small and full.

    Counts are None where ``ping`` could not be run.
    """

    asked: Asked
    device: str = ""
    refused: str = ""
    small: int | None = None
    full: int | None = None
    round_trip: float = 0.0
    """Of small ones, mean, in seconds."""


@dataclass(frozen=True)
class Inquiry:
    """What a host told."""

    ways: Sequence[Told] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    links: Sequence[Mapping[str, Any]] = ()
    neighbours: Sequence[Mapping[str, Any]] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)


def inquire(host: Host, ways: Sequence[Asked] = (), devices: Collection[str] = (), timeout: float = 15.0) -> Inquiry:
    """Ask a host, about its devices and ways too. Raises TestbedError where it does not answer."""
    words = [f"{way.source},{way.destination},{way.payload if way.probed else ''}" for way in ways]
    done = host.run("sh", "-c", _SCRIPT, "inquiry", " ".join(devices), *words, check=False, quiet=True, timeout=timeout)
    return parse(done.stdout, ways)


def parse(answer: str, ways: Sequence[Asked] = ()) -> Inquiry:
    """Return what a host's answer tells, as far as it goes."""
    parts = {name: text for name, _, text in (part.partition("\n") for part in answer.split(_MARK)[1:])}
    told = [
        _told(way, parts.get(f"get {n}", ""), parts.get(f"small {n}", ""), parts.get(f"full {n}", ""))
        for n, way in enumerate(ways)
    ]
    return Inquiry(
        told,
        dict(_sysctls(parts.get("sysctls", ""))),
        _documents(parts.get("links", "")),
        _documents(parts.get("neighbours", "")),
        {name.partition(" ")[2]: text for name, text in parts.items() if name.startswith("filters ")},
        {name.partition(" ")[2]: text for name, text in parts.items() if name.startswith("features ")},
    )


def _sysctls(text: str) -> list[tuple[str, str]]:
    return [
        (name, " ".join(value.split())) for name, colon, value in (x.partition(":") for x in text.splitlines()) if colon
    ]


def _documents(text: str) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [one for one in found if one] if isinstance(found, list) else []


def _told(way: Asked, get: str, small: str, full: str) -> Told:
    device = re.search(r"\bdev (\S+)", get)
    refused = "" if device else " ".join(get.split())[:200]
    if re.match(r"\s*(unreachable|blackhole|prohibit)", get):
        refused, device = " ".join(get.split())[:200], None
    trip = re.search(r"= [\d.]+/([\d.]+)/", small)
    return Told(
        way,
        device[1] if device else "",
        refused,
        _received(small),
        _received(full),
        float(trip[1]) / 1000 if trip else 0.0,
    )


def _received(text: str) -> int | None:
    match = re.search(r"(\d+) received", text)
    return int(match[1]) if match else 0 if "ping: " in text and "not found" not in text else None
