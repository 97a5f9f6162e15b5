"""What switches beside a lab's hosts counted and said during a test: read before and after it, and shown beside the hosts'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from channover.hosts.host import each
from channover.hosts.snmp.session import Unreadable
from channover.hosts.snmp.switch import STATE_BITS, SwitchReading
from channover.pytest_plugin.allure.evidence import attach_text
from channover.report.allure.page import MemberRow, Members
from channover.report.facts import HostFacts, NicBytes, NicFacts

if TYPE_CHECKING:
    from channover.hosts.lab import Lab
    from channover.hosts.snmp.switch import Switch
    from channover.measure.record import Record

TRAFFIC = "the whole test, as the switch counts"
"""What the bytes of a switch's ports are of."""


@dataclass
class Seen:
    """Readings of each switch as the test got its lab, and when it was over; one that fell silent is not there."""

    before: Mapping[str, SwitchReading]
    after: Mapping[str, SwitchReading]


SEEN = pytest.StashKey[Seen]()


def meet(item: pytest.Item, lab: Lab) -> None:
    """Read the switches as a test gets its lab."""
    if lab.switches:
        now = _readings(lab)
        item.stash[SEEN] = Seen(now, now)


def look(item: pytest.Item, lab: Lab, record: Record) -> None:
    """Read the switches again, while the lab is there, and keep what they counted meanwhile."""
    seen = item.stash.get(SEEN, None)
    if seen is None:
        return
    seen.after = _readings(lab)
    for name, now in seen.after.items():
        if (then := seen.before.get(name)) is not None:
            record.nics += carried(then, now)
            attach_text(f"switch {name}: its ports, by SNMP", told(then, now))


def _readings(lab: Lab) -> dict[str, SwitchReading]:
    def read(switch: Switch) -> SwitchReading | None:
        with suppress(Unreadable):
            return switch.read()
        return None

    return {reading.name: reading for reading in each(read, lab.switches) if reading is not None}


def carried(then: SwitchReading, now: SwitchReading) -> list[NicBytes]:
    """Return what each port carried between two readings (bytes), as the switch sees it: ``tx`` is what it sent."""
    return [
        NicBytes(TRAFFIC, now.name, label, port.tx - then.ports[label].tx, port.rx - then.ports[label].rx)
        for label, port in now.ports.items()
        if label in then.ports and port.tx >= then.ports[label].tx and port.rx >= then.ports[label].rx  # not begun anew
    ]


def told(then: SwitchReading, now: SwitchReading) -> str:
    """Return two readings as text, a line a port."""
    moved = {one.nic: one for one in carried(then, now)}
    lines = [f"{now.system or now.name}: {now.what} {now.software}".rstrip(), now.description]
    for label, port in now.ports.items():
        one = moved.get(label)
        words = [f"{label} ({port.name}): {'up' if port.up else 'down'}"]
        words += [f"sent {one.tx:,} bytes, received {one.rx:,}"] if one else []
        if port.member is not None:
            member = port.member
            words.append(f"in {member.lag}, key {member.key}, partner {member.partner} key {member.partner_key}")
            words.append(" ".join(name for name in STATE_BITS if name in member.state) or "no state")
        words += [f"neighbour {port.neighbour}"] if port.neighbour else []
        lines.append("; ".join(words))
    lines += [f"{label}: the switch has no such port" for label in now.missing]
    return "\n".join(lines)


def members(seen: Seen | None) -> Iterator[Members]:
    """Yield each switch's members of LAGs, as a page shows those of hosts."""
    for name, reading in (seen.after if seen else {}).items():
        rows = [
            MemberRow(
                label=label,
                device=port.name,
                aggregator=None,
                keys=(member.key, member.partner_key),
                partner=member.partner,
                state=[bit for bit in STATE_BITS if bit in member.state],
                linked=port.up,
                used=member.carries,
                note=f"in {member.lag}",
            )
            for label, port in reading.ports.items()
            if (member := port.member) is not None
        ]
        if rows:
            yield Members(f"{name}, by SNMP", "", rows)


def facts(seen: Seen | None) -> list[HostFacts]:
    """Return the switches as the results hold them: what they are stands where a host has its kernel's release."""
    return [
        HostFacts(
            reading.name,
            "switch",
            " ".join(filter(None, (reading.what, reading.software))),
            tuple(NicFacts(label, port.name, speed=port.speed) for label, port in reading.ports.items()),
        )
        for reading in (seen.after if seen else {}).values()
    ]
