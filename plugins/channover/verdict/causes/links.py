"""Causes at the NICs: one that is down, one whose cable is pulled."""

from __future__ import annotations

from collections.abc import Iterator

from channover.verdict.causes.case import Case
from channover.verdict.causes.kind import Found, cause


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
                yield Found(
                    f"{host.name}'s {nic} is down", (str(host),), "shown", remedy=f"ip link set {nic.device} up"
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
