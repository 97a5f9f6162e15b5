"""Looks at switch ports before anything is tried: has each host send and listen by the NICs that face them, and judges."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channover.errors import TestbedError
from channover.hosts.host import Host, Nic, each, python_program
from channover.model.operations.devices import LinkSet
from channover.model.plan import Plan
from channover.model.topology import Port
from channover.observe.proof import schedule as plans
from channover.targets.inventory.wiring import Wiring
from channover.targets.physical.facing import speaker
from channover.targets.physical.facing.judgement import Sights, judge

PATIENCE = 8.0
"""Seconds that hosts listen at most: LACP forms a LAG in two to three, and hosts do not begin at once."""
TREE = 34.0
"""Seconds after which a spanning tree hands on what it is to: twice its forward delay (IEEE 802.1D-2004, 17.14)."""


@dataclass(frozen=True)
class Outlook:
    """A NIC that faces a switch: its name in the inventory, and what it is now."""

    port: Port
    host: Host
    nic: Nic


def prove(
    wiring: Wiring,
    nics: Sequence[Outlook],
    mtu: int,
    patience: float = PATIENCE,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Return what speaks against the switch ports that NICs face, each one line with its remedy. Raises TestbedError.

    A port in no LAG that reaches nobody is asked for LACP too: one that is in a LAG of the switch waits for a partner. Where a
    spanning tree is heard there that does not say whether the port is in its delay, that is waited for. ``say`` is told which
    switch and port each NIC is on, where LLDP tells.
    """
    with ExitStack() as stack:
        for one in nics:
            stack.enter_context(one.host.applied(Plan("prove switch ports", (LinkSet(one.nic.device, mtu=mtu),))))
        return _proved(wiring, nics, plans.full_frame(mtu), patience, say)


def _proved(
    wiring: Wiring, nics: Sequence[Outlook], size: int, patience: float, say: Callable[[str], None]
) -> list[str]:
    sights = Sights(wiring, _heard(wiring, nics, size, patience), size)
    for nic in sights.reports:
        if told := sights.lldp(nic):
            say(f"{nic} is on port {told[1]} of {told[0]}, as LLDP tells")
    found = judge(sights)
    lonely = [one for one in nics if wiring.bundle(one.port) is None and not sights.around(one.port)]
    if not found or not lonely:
        return found
    asked = _heard(wiring, lonely, size, patience / 2, asks=True)
    reports = {
        port: {**seen, "lacp": seen.get("lacp") or asked.get(port, {}).get("lacp")}
        for port, seen in sights.reports.items()
    }
    silent = [one.port for one in lonely if sights.spans(one.port) and reports[one.port]["bpdus"]["forwarding"] is None]
    if silent:
        later = Sights(wiring, _heard(wiring, nics, size, TREE), size)
        for port in silent:
            reports[port]["bpdus"]["forwarding"] = not later.around(port)
    return judge(Sights(wiring, reports, size))


def _heard(
    wiring: Wiring, nics: Sequence[Outlook], size: int, patience: float, *, asks: bool = False
) -> dict[Port, dict[str, Any]]:
    """Return what each NIC heard. ``asks``: speak LACP by ports that stand alone, too. Raises TestbedError."""
    nonce = secrets.token_hex(8)
    by_host: dict[str, list[Outlook]] = {}
    for one in nics:
        by_host.setdefault(one.port.node, []).append(one)
    wanted = []
    for name, some in by_host.items():
        words = {
            "nonce": nonce,
            "host": name,
            "others": [other for other in by_host if other != name],
            "size": size,
            "patience": patience,
            "groups": _groups(wiring, some, nics, size, asks=asks),
        }
        wanted.append((some[0].host, words))
    found: dict[Port, dict[str, Any]] = {}
    for said in each(lambda one: _run(*one), wanted):
        found |= {Port(said["host"], nic): report for nic, report in said["nics"].items()}
    return {one.port: found[one.port] for one in nics}


def _groups(
    wiring: Wiring, own: Sequence[Outlook], nics: Sequence[Outlook], size: int, *, asks: bool
) -> list[dict[str, Any]]:
    """Return what a host's program is told of its NICs: those of one LAG together, and whose frames have to arrive by them."""
    groups: dict[object, list[Outlook]] = {}
    for one in own:
        groups.setdefault(wiring.bundle(one.port) or one.port, []).append(one)
    found = []
    for some in groups.values():
        lacp, domain = wiring.bundle(some[0].port) is not None, wiring.domain(some[0].port)
        expects = [
            f"{other.port.node} {other.port.nic}"
            for other in nics
            if wiring.domain(other.port) == domain
            and (wiring.bundle(other.port) is not None) == lacp
            and (other.port.node != some[0].port.node or (not lacp and other not in some))
        ]
        sizes = plans.sizes(size)
        members = [{"nic": one.port.nic, "device": one.nic.device, "sizes": sizes} for one in some]
        found.append({"nics": members, "expects": [] if asks else expects, "lacp": lacp or asks})
    return found


def _run(host: Host, wanted: dict[str, Any]) -> dict[str, Any]:
    """Have a host's program send and listen. Raises TestbedError."""
    command = python_program(host, Path(speaker.__file__))
    done = host.run(*command, json.dumps(wanted), timeout=60.0 + wanted["patience"], check=False, quiet=True)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        words = " ".join(done.stderr.split())[-200:]
        raise TestbedError(f"{host.name}: the switch ports of its NICs cannot be looked at: {words}") from None
    return found
