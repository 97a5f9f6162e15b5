"""What a switch says of itself: make and model, ports, bytes, LAGs, neighbours.

It is asked by IF-MIB (RFC 2863), ENTITY-MIB (RFC 6933), IEEE8023-LAG-MIB and LLDP-MIB; what it has not is left out. Bytes are
counted by the 64-bit counters (RFC 2863, 3.1.6). Rates are bit/s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from channover.hosts.snmp.session import Session, Unreadable, octets, text

_SYSTEM = {"description": "1.3.6.1.2.1.1.1.0", "name": "1.3.6.1.2.1.1.5.0"}
_IF = "1.3.6.1.2.1.2.2.1"
_IFX = "1.3.6.1.2.1.31.1.1.1"
_ENTITY = "1.3.6.1.2.1.47.1.1.1.1"
_AGG_PORT = "1.2.840.10006.300.43.1.2.1.1"
_LLDP = "1.0.8802.1.1.2.1"
_UP, _CHASSIS, _STACK = "1", 3, 11
STATE_BITS = (
    "activity", "timeout", "aggregation", "synchronized", "collecting", "distributing", "defaulted", "expired",
)  # fmt: skip
"""A port's state bits, the first of the string (its highest) first (``LacpState`` of IEEE8023-LAG-MIB)."""


@dataclass(frozen=True)
class LagMember:
    """A port's part in a LAG: ``lag`` is the aggregator's name; systems are MAC addresses, keys numbers."""

    lag: str
    system: str
    key: int
    partner: str
    partner_key: int
    state: frozenset[str]
    partner_state: frozenset[str]

    @property
    def carries(self) -> bool:
        """Whether it collects and distributes."""
        return {"collecting", "distributing"} <= self.state


@dataclass(frozen=True)
class SwitchPort:
    """One port; ``speed`` is bit/s, None where unknown. ``rx`` and ``tx`` are bytes; ``neighbour`` is what LLDP heard."""

    index: int
    name: str
    up: bool
    speed: float | None
    rx: int
    tx: int
    member: LagMember | None = None
    neighbour: str = ""


@dataclass(frozen=True)
class SwitchReading:
    """A switch at one moment; ``ports`` are those that the inventory names, by its names."""

    name: str
    system: str
    description: str
    make: str
    model: str
    software: str
    ports: Mapping[str, SwitchPort]
    missing: Sequence[str] = ()
    """Ports of the inventory that the switch has not."""

    @property
    def what(self) -> str:
        """Make and model, or what the switch says instead."""
        return " ".join(filter(None, (self.make, self.model))) or self.description[:80]


@dataclass
class Switch:
    """A switch of the inventory that may be asked. Safe to use from several threads."""

    name: str
    session: Session
    ports: Sequence[str]
    _known: dict[str, int] = field(default_factory=dict, repr=False)
    _about: dict[str, str] = field(default_factory=dict, repr=False)

    def read(self) -> SwitchReading:
        """Return what the switch says now. Raises Unreadable."""
        if not self._about:
            self._about = {**self._system(), **self._chassis()}
            self._known = self._indices()
        columns = {
            "up": f"{_IF}.8", "speed": f"{_IFX}.15", "rx": f"{_IFX}.6", "tx": f"{_IFX}.10", "name": f"{_IFX}.1",
        }  # fmt: skip
        answers = self.session.columns(*columns.values())
        values = {what: {index[-1]: value for index, value in answers[oid]} for what, oid in columns.items()}
        if not values["rx"]:
            raise Unreadable(f"{self.session.address} has no 64-bit counters (IF-MIB, ifHCInOctets)")
        members, heard = self._members(values["name"]), self._neighbours(values["name"])
        found = {}
        for label, index in self._known.items():
            speed = int(values["speed"].get(index, 0)) * 1e6
            found[label] = SwitchPort(
                index,
                text(values["name"].get(index, label)),
                str(values["up"].get(index, "")) == _UP,
                speed or None,
                int(values["rx"].get(index, 0)),
                int(values["tx"].get(index, 0)),
                members.get(index),
                heard.get(index, ""),
            )
        about = self._about
        missing = [label for label in self.ports if label not in self._known]
        return SwitchReading(
            self.name,
            about["name"],
            about["description"],
            about["make"],
            about["model"],
            about["software"],
            found,
            missing,
        )

    def _system(self) -> dict[str, str]:
        answers = self.session.scalars(*_SYSTEM.values())
        return {what: answers[oid] for what, oid in _SYSTEM.items()}

    def _chassis(self) -> dict[str, str]:
        """Return make, model and software of the first chassis or stack (ENTITY-MIB, RFC 6933); what is not there is empty."""
        columns = {
            "class": f"{_ENTITY}.5",
            "software": f"{_ENTITY}.10",
            "make": f"{_ENTITY}.12",
            "model": f"{_ENTITY}.13",
        }
        answers = self.session.columns(*columns.values())
        chassis = [index for index, value in answers[columns["class"]] if int(value) in (_CHASSIS, _STACK)]
        found = dict.fromkeys(("make", "model", "software"), "")
        for what in found:
            rows = dict(answers[columns[what]])
            found[what] = next((text(rows[index]) for index in chassis if index in rows and text(rows[index])), "")
            if not found[what] and what == "software":  # some have it at a module
                found[what] = next((text(value) for value in rows.values() if text(value)), "")
        return found

    def _indices(self) -> dict[str, int]:
        """Return the number of each port of the inventory, by its name, its description or the number itself."""
        columns = (f"{_IFX}.1", f"{_IF}.2", f"{_IFX}.18")
        answers = self.session.columns(*columns)
        named: dict[str, int] = {}
        for column in columns:
            for index, value in answers[column]:
                named.setdefault(text(value).lower(), index[-1])
        numbers = {str(index[-1]): index[-1] for index, _ in answers[columns[1]]}
        found = {label: named.get(label.lower(), numbers.get(label)) for label in self.ports}
        return {label: index for label, index in found.items() if index is not None}

    def _members(self, names: Mapping[int, Any]) -> dict[int, LagMember]:
        numbers = {
            "system": 3, "key": 5, "partner": 9, "partner_key": 11, "lag": 13, "state": 21, "theirs": 23,
        }  # fmt: skip
        columns = {what: f"{_AGG_PORT}.{number}" for what, number in numbers.items()}
        answers = self.session.columns(*columns.values())
        rows = {what: {index[-1]: value for index, value in answers[oid]} for what, oid in columns.items()}
        found = {}
        for index, lag in rows["lag"].items():
            if int(lag):  # 0: it is attached to none
                found[index] = LagMember(
                    text(names.get(int(lag), str(lag))),
                    octets(rows["system"].get(index)).hex(":"),
                    int(rows["key"].get(index, 0)),
                    octets(rows["partner"].get(index)).hex(":"),
                    int(rows["partner_key"].get(index, 0)),
                    _bits(octets(rows["state"].get(index))),
                    _bits(octets(rows["theirs"].get(index))),
                )
        return found

    def _neighbours(self, names: Mapping[int, Any]) -> dict[int, str]:
        """Return what LLDP heard on each port, as ``SYSTEM PORT`` (LLDP-MIB; IEEE 802.1AB)."""
        columns = {"chassis": f"{_LLDP}.4.1.1.5", "port": f"{_LLDP}.4.1.1.7", "system": f"{_LLDP}.4.1.1.9",
                   "ours": f"{_LLDP}.3.7.1.3"}  # fmt: skip
        answers = self.session.columns(*columns.values())
        by_name = {text(value): index for index, value in names.items()}
        ours = {index[-1]: by_name.get(text(value), index[-1]) for index, value in answers[columns["ours"]]}
        rows = {what: dict(answers[columns[what]]) for what in ("chassis", "port", "system")}
        found: dict[int, str] = {}
        for index in rows["port"]:
            local = ours.get(index[1], index[1])  # the time, our port, a number
            who = text(rows["system"].get(index, "")) or text(rows["chassis"].get(index, ""))
            found.setdefault(local, f"{who} {text(rows['port'][index])}".strip())
        return found


def _bits(value: bytes) -> frozenset[str]:
    """Return the names of the bits that are set in the first byte of a string (BITS: the first bit is the highest)."""
    first = value[0] if value else 0
    return frozenset(name for place, name in enumerate(STATE_BITS) if first & 0x80 >> place)
