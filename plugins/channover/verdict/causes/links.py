"""Causes at the NICs and what queues before them: down, without a carrier, of another MTU, shaped, dropping."""

from __future__ import annotations

from collections.abc import Iterator

from channover.verdict.causes.case import Case
from channover.verdict.causes.kind import Found, cause

_SHAPING = frozenset(
    {"tbf", "htb", "hfsc", "netem", "cake", "red", "codel", "pie", "police", "cbq", "qfq", "drr", "sfb"}
)
"""Queueing disciplines that no host of a lab has of itself, and that hold, lose or delay packets."""
_MANY_DROPS = 20
LEAST_OF_IPV6 = 1280
"""Bytes: a device with a smaller MTU has no IPv6 (RFC 8200, 5; ``IPV6_MIN_MTU``)."""


@cause(
    "nic-down",
    "A NIC of the lab is administratively down.",
    shows="the flags of each NIC (`ip link show`)",
    remedy="`ip link set DEVICE up`, and give it back the routes that went with it",
)
def _nic_down(case: Case) -> Iterator[Found]:
    for host in case.hosts:
        for nic in host.nics:
            link = host.state.links.get(nic.device)
            if link is not None and not link.up:
                yield Found(f"{host.name}'s {nic} is down", (str(host),), "shown", f"ip link set {nic.device} up")
            elif link is None and host.state.links:
                yield Found(
                    f"{host.name}'s {nic} is gone", (str(host),), "shown", f"give {nic.device} back to the host"
                )


@cause(
    "no-carrier",
    "A NIC of the lab has no carrier: its cable is pulled, or the other end is off.",
    shows="the flags of each NIC (`ip link show`: NO-CARRIER)",
    remedy="plug in the cable, or bring up the NIC at its other end",
)
def _no_carrier(case: Case) -> Iterator[Found]:
    for host in case.hosts:
        for nic in host.nics:
            link = host.state.links.get(nic.device)
            if link is not None and link.up and not link.carrier:
                yield Found(f"{host.name}'s {nic} has no carrier: its cable is pulled", (str(host),), "shown")


@cause(
    "carrier-flaps",
    "A NIC's carrier came and went during the traffic, though nobody pulled its cable.",
    shows="`carrier_changes` of each NIC (`ip -s -d link show`), before the traffic and after it",
    remedy="look for a loose plug, a bad transceiver, a port that is set down and up, or energy-efficient Ethernet",
)
def _flaps(case: Case) -> Iterator[Found]:
    for host in case.hosts:
        for nic in host.nics:
            link = host.state.links.get(nic.device)
            if nic.flaps and link is not None and link.carrier:
                times = f"{nic.flaps} time{'s' * (nic.flaps != 1)}"
                yield Found(f"the carrier of {host.name}'s {nic} came or went {times}", (str(host),), "shown")


@cause(
    "ipv6-off",
    "A NIC whose path goes by IPv6 has IPv6 switched off, and with it its addresses are gone.",
    shows="`net.ipv6.conf.DEVICE.disable_ipv6` of each NIC, and the MTU, below whose 1280 bytes there is no IPv6 (RFC 8200, 5)",
    remedy="`sysctl net.ipv6.conf.DEVICE.disable_ipv6=0`, and give the NIC its address back",
)
def _ipv6_off(case: Case) -> Iterator[Found]:
    for host in case.hosts:
        for nic in host.nics:
            if ":" not in nic.address:
                continue
            if host.sysctls.get(f"net/ipv6/conf/{nic.device}/disable_ipv6") == "1":
                yield Found(
                    f"{host.name}'s {nic} has IPv6 switched off, and was to have {nic.address}",
                    (f"net.ipv6.conf.{nic.device}.disable_ipv6 = 1", str(host)),
                    "shown",
                    f"sysctl net.ipv6.conf.{nic.device}.disable_ipv6=0",
                )
            elif 0 < nic.mtu < LEAST_OF_IPV6:
                yield Found(
                    f"{host.name}'s {nic} has an MTU of {nic.mtu} bytes, and IPv6 takes {LEAST_OF_IPV6}",
                    (str(host),),
                    "shown",
                    f"ip link set {nic.device} mtu 1500",
                )


@cause(
    "qdisc",
    "A queueing discipline of a host shapes, delays or drops what its NIC sends.",
    shows="`tc -s qdisc show` at each host, with its drops",
    remedy="`tc qdisc del dev DEVICE root`",
)
def _qdisc(case: Case) -> Iterator[Found]:
    for host in case.hosts:
        devices = {nic.device: str(nic) for nic in host.nics}
        for one in host.qdiscs:
            if one.kind in _SHAPING and one.device in devices:
                yield Found(
                    f"{host.name}'s {devices[one.device]} sends through `{one.text}`",
                    (f"it has dropped {one.dropped:,} packets", str(host)),
                    "shown",
                    f"tc qdisc del dev {one.device} root",
                )


@cause(
    "mtu",
    "Two ends of a cable have different MTUs.",
    shows="the MTU of each NIC (`ip link show`), and full echo requests that may not be fragmented",
    remedy="`ip link set DEVICE mtu BYTES`, the same at both ends",
)
def _mtu_differs(case: Case) -> Iterator[Found]:
    for path in case.paths:
        ends = (
            {nic.name: nic for nic in case.client.nics}.get(path.client_nic),
            {nic.name: nic for nic in case.server.nics}.get(path.server_nic),
        )
        one, other = ends
        if one is not None and other is not None and one.mtu and other.mtu and one.mtu != other.mtu:
            yield Found(
                f"{case.client.name}'s {one} has an MTU of {one.mtu} bytes, {case.server.name}'s {other} of {other.mtu}",
                (f"path {path.near} to {path.far}",),
                "shown" if any(way.small and way.full == 0 for way in path.ways) else "likely",
            )


@cause(
    "mtu-blackhole",
    "A path loses full packets and lets small ones through, and nobody says so.",
    shows="echo requests of the full MTU that may not be fragmented, beside small ones",
    remedy="look for a device on the way with a smaller MTU, or a filter of ICMP's `fragmentation needed`",
)
def _mtu_blackhole(case: Case) -> Iterator[Found]:
    for _, way in case.ways():
        if way.small and way.full == 0:
            yield Found(
                f"{way.host}: of {way.sent} full packets from {way} none came back, of small ones {way.small}",
                (),
                "shown",
            )


@cause(
    "nic-drops",
    "A NIC's own counters of drops and errors went up during the traffic.",
    shows="`/proc/net/dev` before and after",
    remedy="look at the NIC's rings, its driver and its cable (`ethtool -S DEVICE`)",
    follows=True,
)
def _nic_drops(case: Case) -> Iterator[Found]:
    for host in case.hosts:
        for nic in host.nics:
            if nic.drops > _MANY_DROPS:
                yield Found(f"{host.name}'s {nic} dropped {nic.drops:,} packets", (str(host),), "possible")
