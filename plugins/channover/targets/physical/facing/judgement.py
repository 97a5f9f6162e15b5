"""What speaks against switch ports, told from what each host's frames found (:mod:`.speaker`): one line a finding, no host."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from channover.model.topology import Port
from channover.targets.inventory.wiring import Bundle, Wiring

AGGREGATION, SYNCHRONIZED, COLLECTING, DISTRIBUTING = 4, 8, 16, 32
"""State bits of a port (IEEE 802.1AX-2014, 6.4.2.3)."""

Reports = Mapping[Port, Mapping[str, Any]]
"""What each NIC heard, by the inventory's names."""


@dataclass(frozen=True)
class Sights:
    """What NICs that face switches were found to hear, beside what the inventory says of them; ``size`` is of a full frame."""

    wiring: Wiring
    reports: Reports
    size: int

    def title(self, nic: Port) -> str:
        """Return what a reader calls a NIC: with the switch's port, ``left.a (tor.7)``."""
        return f"{nic} ({self.wiring.outlet(nic)})"

    def titles(self, nics: Collection[Port]) -> str:
        """Return several of them."""
        return " and ".join(map(self.title, nics))

    def heard(self, nic: Port) -> dict[Port, int]:
        """Return whose frames arrived at a NIC, and the size of the largest."""
        told = self.reports[nic].get("heard", {})
        return {Port(*name.split(" ", 1)): int(seen["largest"]) for name, seen in told.items()}

    def hears(self, nic: Port, other: Port) -> bool:
        """Say whether another's frames arrived at a NIC."""
        return other in self.heard(nic)

    def around(self, nic: Port) -> set[Port]:
        """Return the NICs that a NIC hears, or is heard by."""
        return {other for other in self.reports if other != nic and (self.hears(nic, other) or self.hears(other, nic))}

    def lacp(self, nic: Port) -> Mapping[str, Any] | None:
        """Return what the last LACP frame that arrived at a NIC said, or None."""
        found: Mapping[str, Any] | None = self.reports[nic].get("lacp")
        return found

    def key(self, nic: Port) -> str:
        """Return the system and key of the switch's LAG that a NIC's port is in, as its LACP frames say."""
        told = self.lacp(nic)
        return f"{told['system']} key {told['key']}" if told else ""

    def lldp(self, nic: Port) -> tuple[str, str] | None:
        """Return the switch and the port that LLDP told at a NIC, as these call themselves; None where none was heard."""
        told = self.reports[nic].get("lldp") or ()
        return (str(told[-1][0]), str(told[-1][1])) if told else None

    def alive(self, nic: Port) -> bool:
        """Say whether anything at all arrived at a NIC."""
        seen = self.reports[nic]
        return bool(seen.get("foreign") or seen.get("lldp") or seen.get("lacp") or self.spans(nic) or self.around(nic))

    def spans(self, nic: Port) -> bool:
        """Say whether a spanning tree's frames arrived at a NIC."""
        return bool(self.reports[nic].get("bpdus", {}).get("count"))


def judge(sights: Sights) -> list[str]:
    """Return what speaks against the ports: the first reason alone where others would follow from it."""
    if found := list(_without_carrier(sights)):
        return found
    wiring = sights.wiring
    alone = [nic for nic in sights.reports if wiring.bundle(nic) is None]
    bundles = dict.fromkeys(bundle for nic in sights.reports if (bundle := wiring.bundle(nic)) is not None)
    groups = {bundle: [nic for nic in sights.reports if wiring.bundle(nic) == bundle] for bundle in bundles}
    lags = list(_exchanged(sights, groups)) or [words for one in groups for words in _lag(sights, one, groups[one])]
    lags = lags or list(_apart(sights, groups))
    paths = list(_paths(sights, alone))
    found = lags + paths
    return list(dict.fromkeys([*_misnamed(sights), *(found or _small(sights))]))


def _without_carrier(sights: Sights) -> Iterator[str]:
    for nic, seen in sights.reports.items():
        if seen.get("error"):
            yield f"{sights.title(nic)} cannot be looked at: {seen['error']}"
        elif not seen["carrier"]:
            yield f"{sights.title(nic)} has no carrier: plug in its cable, and switch the port on"


def _misnamed(sights: Sights) -> Iterator[str]:
    """Yield ports and switches that call themselves by LLDP what the inventory does not (IEEE 802.1AB)."""
    known: dict[str, tuple[str, Port]] = {}
    switches: dict[str, tuple[str, Port]] = {}
    for nic in sights.reports:
        outlet, told = sights.wiring.outlet(nic), sights.lldp(nic)
        if outlet is None or told is None:
            continue
        system, port = told
        before, other = known.setdefault(outlet.node, (system, nic))
        named, first = switches.setdefault(system, (outlet.node, nic))
        if before != system:
            where = f"{nic} is on {system}, and {other} on {before}, as LLDP tells"
            yield f"{where}: the inventory has both on {outlet.node}; correct one of the two"
        elif sights.wiring.system(named) != sights.wiring.system(outlet.node):
            where = f"{nic} and {first} are both on {system}, as LLDP tells"
            yield f"{where}: the inventory has them on {outlet.node} and {named}; correct one of the two"
        elif not _same(outlet.nic, port):
            where = f"{nic} is on port {port} of {system}, as LLDP tells"
            yield f"{where}: the inventory says {outlet}; correct it, or move the cable"


def _same(named: str, told: str) -> bool:
    """Whether a port's name is what the switch calls it, or its number alone: 7 of ge-0/0/7."""
    ours, theirs = named.lower(), told.lower()
    return (
        ours == theirs
        or (theirs.endswith(ours) and not theirs[: -len(ours)][-1:].isalnum())
        or (theirs.lstrip("abcdefghijklmnopqrstuvwxyz- ") == ours)
    )


# LAGs of a switch


def _exchanged(sights: Sights, groups: Mapping[Bundle, Sequence[Port]]) -> Iterator[str]:
    """Yield cables of two hosts that each lead into the other's LAG; of LAGs of two, either pair may be the one."""
    for (one, near), (other, far) in combinations(groups.items(), 2):
        pairs = [(nic, stray) for nic in near for stray in far if _swapped(sights, (nic, near), (stray, far))]
        if pairs:
            nic, stray = pairs[0]
            named = ", or of ".join(f"{sights.title(nic)} and {sights.title(stray)}" for nic, stray in pairs)
            where = f"{nic} is in the LAG of {stray.node}'s other NICs, and {stray} in that of {nic.node}'s"
            yield f"the cables of {named} are swapped between the LAGs '{one[1]}' and '{other[1]}': {where}; swap them back"


def _swapped(sights: Sights, one: tuple[Port, Sequence[Port]], other: tuple[Port, Sequence[Port]]) -> bool:
    """Say whether two NICs, each of a group, are each in the LAG of the other's group."""
    (nic, near), (stray, far) = one, other
    fellows = {sights.key(mate) for mate in near if mate != nic} - {""}
    others = {sights.key(mate) for mate in far if mate != stray} - {""}
    return {sights.key(nic)} == others and {sights.key(stray)} == fellows and others != fellows


def _lag(sights: Sights, bundle: Bundle, nics: Sequence[Port]) -> Iterator[str]:
    """Yield what keeps a switch's LAG from forming with its host."""
    name = f"the LAG '{bundle[1]}' of {bundle[0]}"
    silent = [nic for nic in nics if sights.lacp(nic) is None]
    if silent:
        yield from _silent(sights, name, nics, silent)
        return
    told = {nic: sights.lacp(nic) or {} for nic in nics}
    systems = dict.fromkeys(one["system"] for one in told.values())
    if len(systems) > 1:
        named = ", ".join(f"{sights.title(nic)} {one['system']}" for nic, one in told.items())
        yield (
            f"the members of {name} lead to {len(systems)} LACP systems, which are no stack: {named}; make the switches one "
            "system (MLAG), or lead both cables to one"
        )
        return
    keys = dict.fromkeys(one["key"] for one in told.values())
    if len(keys) > 1:
        named = ", ".join(f"{sights.title(nic)} key {one['key']}" for nic, one in told.items())
        yield f"the members of {name} are in {len(keys)} LAGs of the switch: {named}; put their ports into one"
        return
    for nic, one in told.items():
        if not one["state"] & AGGREGATION:
            yield f"{sights.title(nic)} is individual: its port speaks LACP, and is no member of {name}; add it to that"
            continue
        if sights.reports[nic].get("formed"):
            continue
        bits = {"synchronized": SYNCHRONIZED, "collecting": COLLECTING, "distributing": DISTRIBUTING}
        missing = " or ".join(word for word, bit in bits.items() if not one["state"] & bit)
        why = f"is not {missing}" if missing else "does not know its partner"
        yield f"{sights.title(nic)} is held back by the switch: its port speaks LACP, and {why}; look at what it says of {name}"


def _silent(sights: Sights, name: str, nics: Sequence[Port], silent: Sequence[Port]) -> Iterator[str]:
    """Yield why ports answer no LACP: they stand alone, they are a LAG without it, or nothing passes them."""
    reflecting = [nic for nic in silent if any(mate in sights.around(nic) for mate in nics)]
    for nic in reflecting:
        yield (
            f"{sights.title(nic)} answers no LACP, and hands on by itself what arrives: it is no member of {name}; add the "
            "port to that at the switch"
        )
    if reflecting:
        return
    passing = [nic for nic in silent if sights.around(nic)]
    if passing and len(silent) == len(nics):
        yield (
            f"{sights.titles(nics)} are a LAG without LACP: {name} is static, and hosts speak LACP; set it to active LACP at "
            "the switch"
        )
        return
    for nic in silent:
        live = (
            "though other frames of the switch arrive" if sights.alive(nic) else "and nothing arrives: the port is dead"
        )
        yield f"{sights.title(nic)} answers no LACP and hands nothing on, {live}; look at the port at the switch"


def _apart(sights: Sights, groups: Mapping[Bundle, Sequence[Port]]) -> Iterator[str]:
    """Yield LAGs that are formed, and do not reach each other."""
    for one, near in groups.items():
        for other, far in groups.items():
            if (
                one >= other
                or near[0].node == far[0].node
                or sights.wiring.domain(near[0]) != sights.wiring.domain(far[0])
            ):
                continue
            if not any(sights.hears(a, b) or sights.hears(b, a) for a in near for b in far):
                both = f"the LAGs of {sights.titles(near)}, and of {sights.titles(far)}"
                yield (
                    f"{both} do not reach each other: they are in different VLANs, or the switches between are not joined; "
                    "correct that at the switch, or 'vlans' in the inventory"
                )


# Ports that stand alone


def _paths(sights: Sights, alone: Sequence[Port]) -> Iterator[str]:
    """Yield ports that are not in the broadcast domain that the inventory puts them in."""
    wiring = sights.wiring
    if words := _parted(sights, alone):
        yield words
        return
    stray: dict[Port, set[Port]] = {}
    for nic in alone:
        mates = {other for other in alone if other != nic and wiring.domain(other) == wiring.domain(nic)}
        around = sights.around(nic) & set(alone)
        if mates and not around & mates:
            stray[nic] = around
    swapped = [pair for pair in combinations(stray, 2) if _in_place_of(sights, *pair, alone)]
    named = {nic for pair in swapped for nic in pair}
    if swapped:
        both = ", or of ".join(f"{sights.title(nic)} and {sights.title(twin)}" for nic, twin in swapped)
        yield f"the cables of {both} are swapped: each is in the VLAN of the other; swap them back"
    left = [nic for nic in stray if nic not in named]
    for domain in dict.fromkeys(wiring.domain(nic) for nic in left):
        told = [(nic, _weight(sights, nic, stray[nic])) for nic in left if wiring.domain(nic) == domain]
        for nic, weight in told:
            if weight == max(one for _, one in told):  # who is left alone by these says nothing by that
                yield _astray(sights, nic, stray[nic])
    yield from _joined(sights, [nic for nic in alone if nic not in stray])


def _parted(sights: Sights, alone: Sequence[Port]) -> str:
    """Say that two switches are not joined: NICs reach those at their own, and none of those in the same VLAN at the other."""
    by_switch: dict[str, list[Port]] = {}
    for nic in alone:
        if (outlet := sights.wiring.outlet(nic)) is not None:
            by_switch.setdefault(outlet.node, []).append(nic)
    for (one, near), (other, far) in combinations(by_switch.items(), 2):
        pairs = [(a, b) for a in near for b in far if sights.wiring.domain(a) == sights.wiring.domain(b)]
        if not pairs or any(b in sights.around(a) for a, b in pairs):
            continue
        sides = [some for some in (near, far) if len(some) > 1]
        own = [any(mate in sights.around(nic) for mate in some if mate != nic) for some in sides for nic in some]
        trunk = any({port.node for port in cable.ports} == {one, other} for cable in sights.wiring.lab.cables)
        if all(own) and trunk:
            return (
                f"nothing passes between {one} and {other}, of all that hosts behind each send: is the LAG between them up? "
                "LACP has to be active at one end at least, and the VLAN be carried"
            )
    return ""


def _weight(sights: Sights, nic: Port, around: set[Port]) -> int:
    """Return how much is known of why a port reaches none of those it should."""
    held = sights.lacp(nic) is not None or sights.reports[nic].get("bpdus", {}).get("forwarding") is False
    return 3 if around else 2 if held else 1 if not sights.alive(nic) else 0


def _in_place_of(sights: Sights, nic: Port, other: Port, alone: Sequence[Port]) -> bool:
    """Say whether two NICs, in domains of their own by the inventory, each hear who belongs to the other's."""
    wiring = sights.wiring
    if wiring.domain(nic) == wiring.domain(other):
        return False
    mates = [
        {one for one in alone if one not in (nic, other) and wiring.domain(one) == wiring.domain(each)}
        for each in (nic, other)
    ]
    return bool(sights.around(nic) & mates[1]) and bool(sights.around(other) & mates[0])


def _astray(sights: Sights, nic: Port, around: set[Port]) -> str:
    """Say of a port that reaches none of those it should, where it is instead, or why it reaches nobody."""
    vlan = sights.wiring.vlan(outlet) if (outlet := sights.wiring.outlet(nic)) else ""
    its = f"VLAN {vlan}" if vlan else "the VLAN of the others"
    title = sights.title(nic)
    if around:
        where = sights.titles(sorted(around, key=str))
        return f"{title} is in the wrong VLAN: that of {where}, and not {its}; correct the port's VLAN"
    if told := sights.lacp(nic):
        return (
            f"{title} is unbundled by the switch, which has found no LACP partner there: its port is in a LAG "
            f"({told['system']} key {told['key']}); take it out of that, or name the LAG in the switch's 'lags'"
        )
    if sights.reports[nic].get("bpdus", {}).get("forwarding") is False:
        return (
            f"{title} is held back by the switch's spanning tree, whose delay its port waits for: make it an edge port "
            "(PortFast), or wait half a minute"
        )
    if sights.alive(nic):
        live = "frames of the switch arrive, and none of another NIC"
        return f"{title} is in the wrong VLAN: {live} in {its}; correct the port's VLAN"
    dead = "a dead port, shut off, or alone in another VLAN"
    return f"{title} has a carrier and nothing passes: {dead} than {its}; look at it at the switch"


def _joined(sights: Sights, nics: Sequence[Port]) -> Iterator[str]:
    """Yield two broadcast domains of the inventory's that are one."""
    for number, nic in enumerate(nics):
        for other in nics[:number]:
            if sights.wiring.domain(nic) != sights.wiring.domain(other) and other in sights.around(nic):
                yield (
                    f"{sights.title(other)} and {sights.title(nic)} are in one VLAN, and by the inventory in two: correct the "
                    "ports' VLANs, or 'vlans' in the inventory"
                )
                return


def _small(sights: Sights) -> Iterator[str]:
    """Yield a way by which no full frame passes."""
    for nic in sights.reports:
        for other, largest in sights.heard(nic).items():
            if largest < sights.size:
                refused = sights.reports[other].get("refused") if other in sights.reports else ""
                why = f" ({other.node} cannot send {refused})" if refused else ""
                yield (
                    f"no frame of {sights.size} bytes passes from {sights.title(other)} to {sights.title(nic)}: the largest "
                    f"that arrived had {largest}{why}; raise the MTU of the switch's ports"
                )
                return
