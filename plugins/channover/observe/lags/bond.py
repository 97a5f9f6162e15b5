"""What a link aggregation group says of itself, and why it has not converged.

Source: IEEE 802.1AX-2020, clause 6.4 (actor, partner, aggregator, the eight state bits).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

STATE_BITS = (
    "activity",
    "timeout",
    "aggregation",
    "synchronized",
    "collecting",
    "distributing",
    "defaulted",
    "expired",
)
"""Names of a port's state bits, lowest bit first (IEEE 802.1AX-2020, 6.4.2.3; ``LACP_STATE_*`` in ``bond_3ad.h``)."""
NO_MAC = "00:00:00:00:00:00"
"""The partner's address where there is no partner."""
LagId = tuple[str, str]
"""Both ends of a LAG, each by its system and its key: the same seen from either of them (IEEE 802.1AX-2014, 6.3.6)."""


def working_state(fast: bool, active: bool = True) -> frozenset[str]:
    """Return the state bits of a port that carries frames, with a partner that it hears; ``fast`` is its timeout.

    Each has a meaning (IEEE 802.1AX-2014, 6.4.2.3): what is not here, *defaulted* and *expired*, must not be set.
    """
    bits = {"aggregation", "synchronized", "collecting", "distributing"}
    return frozenset(bits | ({"timeout"} if fast else set()) | ({"activity"} if active else set()))


@dataclass(frozen=True)
class PortInfo:
    """One end of a member as LACP tells it: system address and priority, operational key, the state bits that are set."""

    system: str = NO_MAC
    key: int = 0
    state: frozenset[str] = frozenset()
    priority: int = 0

    def __str__(self) -> str:
        return f"{self.system} priority {self.priority} key {self.key}"


def lag_id(one: PortInfo, other: PortInfo) -> LagId:
    """Return the LAG ID of two ends. Keys have a meaning at their own end only (6.3.5): they need not be equal."""
    first, second = sorted((str(one), str(other)))
    return first, second


@dataclass(frozen=True)
class MemberStatus:
    """One NIC of a LAG. ``aggregator`` is None where it is in none (Open vSwitch has one, number 1).

    ``enabled`` is whether the driver uses it, after its own delays; ``note`` what else the driver says of it: of the
    kernel's bonding its speed and duplex. ``told`` is whether actor and partner are known; ``churned`` are the ends that
    have not been synchronized for a minute (IEEE 802.1AX-2020, 6.4.17). ``losses`` counts how often it has lost its link or
    its partner, as far as its driver counts that.
    """

    device: str
    mii_up: bool
    aggregator: int | None = None
    actor: PortInfo = PortInfo()
    partner: PortInfo = PortInfo()
    enabled: bool = True
    note: str = ""
    told: bool = True
    churned: frozenset[str] = frozenset()
    losses: int = 0

    @property
    def collecting(self) -> bool:
        """Whether it hands received frames on."""
        return "collecting" in self.actor.state

    @property
    def distributing(self) -> bool:
        """Whether frames are sent by it."""
        return "distributing" in self.actor.state

    @property
    def synchronized(self) -> bool:
        """Whether it is attached to the aggregator that it should be attached to."""
        return "synchronized" in self.actor.state

    @property
    def heard(self) -> bool:
        """Whether a partner's LACP frames have told who it is."""
        return self.partner.system not in ("", NO_MAC) and "defaulted" not in self.actor.state

    def unheard(self) -> str | None:
        """Say that this member knows no partner, or not any more; None where it hears one."""
        if not self.heard:
            passive = self.actor.state and "activity" not in self.actor.state
            words = ", and sends nothing by itself: LACP is passive here, and has to be active at one end"
            return f"{self.device} has heard of no partner{words if passive else ''}"
        if "expired" in self.actor.state:
            return f"{self.device} has lost its partner {self.partner.system}: its LACP frames have stopped"
        return None

    def detached(self) -> str | None:
        """Say why this member is in no aggregator with others, or None."""
        for who, port in (("actor", self.actor), ("partner", self.partner)):
            if "aggregation" not in port.state:
                return f"{self.device} is individual: the {who} does not let it be aggregated"
        return f"{self.device} is in no aggregator" if self.aggregator is None else None

    def idle(self) -> str | None:
        """Say why this member, which has its place, does not carry frames both ways, or None where it does."""
        for who, port in (("actor", self.actor), ("partner", self.partner)):
            missing = [bit for bit in ("synchronized", "collecting", "distributing") if bit not in port.state]
            if missing:
                churned = " (churned: not synchronized for a minute)" if who in self.churned else ""
                return f"{self.device}: the {who} is not {' or '.join(missing)}{churned}"
        return None if self.enabled else f"{self.device} is not used by the driver: {self.note}"


@dataclass(frozen=True)
class LagStatus:
    """A LAG at one moment. ``text`` is what the driver printed, ``ports`` the members in the active aggregator.

    ``policy`` is the transmit hash policy in the bonding driver's words, ``lacp_rate`` ``slow`` or ``fast``.
    """

    driver: str
    policy: str
    lacp_rate: str
    aggregator: int | None
    ports: int
    actor_key: int
    partner_key: int
    partner_mac: str
    members: tuple[MemberStatus, ...]
    text: str = ""

    @property
    def aggregators(self) -> frozenset[int]:
        """The aggregators that members are in."""
        return frozenset(member.aggregator for member in self.members if member.aggregator is not None)

    @property
    def own(self) -> PortInfo:
        """What this end says of itself: system and key, which all its members must share."""
        return self.members[0].actor if self.members else PortInfo()

    @property
    def lag_ids(self) -> frozenset[LagId]:
        """The LAG IDs that members have: one where all lead to the same partner."""
        return frozenset(lag_id(member.actor, member.partner) for member in self.members)

    @property
    def states(self) -> frozenset[str]:
        """Each member with each state bit that it has set, such as ``eth1 collecting``."""
        return frozenset(f"{member.device} {bit}" for member in self.members for bit in member.actor.state)

    @property
    def working(self) -> tuple[str, ...]:
        """The members with a link, in use, that collect and distribute: a driver may keep those bits of a dead one."""
        return tuple(
            member.device
            for member in self.members
            if member.mii_up and member.enabled and member.collecting and member.distributing
        )

    def member(self, device: str) -> MemberStatus:
        """Return a member by its device. Raises KeyError."""
        for member in self.members:
            if member.device == device:
                return member
        raise KeyError(device)

    def unconverged(self) -> str | None:
        """Say why LACP has not converged, or None where it has.

        Converged is: a partner, one aggregator with every member in it, one actor key and one partner key among them,
        and each member synchronized, collecting and distributing, as its own side and its partner's last LACP frame
        say (IEEE 802.1AX-2020, 6.4). The two keys need not equal each other.
        """
        if not self.members:
            return "the LAG has no member"
        return next((reason for reason in self._reasons() if reason), None)

    def _reasons(self) -> Iterator[str | None]:
        """Yield what speaks against it, the most telling first: a cause before what follows from it."""
        for member in self.members:
            yield None if member.mii_up else f"{member.device} has no link"
        if not all(member.told for member in self.members):
            yield "the driver does not tell LACP's state: old kernel, or no CAP_NET_ADMIN"
        yield self._partners()
        yield from (member.unheard() for member in self.members)
        yield self._speeds()
        yield from (member.detached() for member in self.members)
        if len(self.aggregators) > 1:
            yield f"the members are in {len(self.aggregators)} aggregators: {self._by(_aggregator)}"
        for what, read in _AGREED.items():
            if len({read(member) for member in self.members}) > 1:
                yield f"the members differ in {what}: {self._by(read)}"
        yield from (member.idle() for member in self.members)
        if self.aggregator is None or self.partner_mac in ("", NO_MAC):
            yield "no aggregator is active"
        if self.ports != len(self.members):
            yield f"aggregator {self.aggregator} has {self.ports} of {len(self.members)} ports"

    def _partners(self) -> str | None:
        """Say that the members lead to different systems: cables that went astray, or switches that are not stacked."""
        heard = [member for member in self.members if member.heard]
        systems = dict.fromkeys(member.partner.system for member in heard)
        if len(systems) < 2:
            return None
        parts = f", and are in {len(self.aggregators)} aggregators: {self._by(_aggregator)}"
        named = ", ".join(f"{member.device} {member.partner.system}" for member in heard)
        return f"the members have {len(systems)} partners: {named}{parts if len(self.aggregators) > 1 else ''}"

    def _speeds(self) -> str | None:
        """Say which members cannot be aggregated for their speed or duplex: their keys are made of these (``bond_3ad.c``)."""
        if self.driver != "bonding":
            return None
        for member in self.members:
            if "half" in member.note.lower():
                return f"{member.device} runs at half duplex: LACP aggregates full duplex links only"
        known = {member.note for member in self.members if member.note and "unknown" not in member.note.lower()}
        named = "; ".join(f"{member.device} {member.note}" for member in self.members)
        return f"the members differ in speed: {named}" if len(known) > 1 else None

    def _by(self, read: _Reading) -> str:
        return ", ".join(f"{member.device} {read(member)}" for member in self.members)


class _Reading:
    """A value that all members must agree in."""

    def __init__(self, end: str, name: str) -> None:
        self._end, self._name = end, name

    def __call__(self, member: MemberStatus) -> object:
        return getattr(getattr(member, self._end) if self._end else member, self._name)


_aggregator = _Reading("", "aggregator")
_AGREED = {"actor key": _Reading("actor", "key"), "partner key": _Reading("partner", "key")}
