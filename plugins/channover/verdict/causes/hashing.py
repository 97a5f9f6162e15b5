"""Causes between the ends of a LAG: flows by another link than their sender's hash says, LACP frames changed on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from channover.verdict.causes.case import Case, LagView
from channover.verdict.causes.kind import Found, cause

_SEEN = "`tcpdump -Q out` at the sender's NICs, `tcpdump -Q in` at the receiver's"
_STATUS = "`/proc/net/bonding/DEVICE`, or `ovs-appctl lacp/show`, at both ends"
_MOST = 6
"""How many flows an explanation names."""
_SAID = frozenset({"activity", "timeout", "aggregation"})
"""State bits that an end sets once: the others change as LACP goes on, and are heard up to half a minute later."""


def _any(case: Case) -> bool:
    return bool(case.hashed)


def _lags(case: Case) -> bool:
    return bool(case.lags)


def _few(words: Sequence[str]) -> tuple[str, ...]:
    more = (f"and {len(words) - _MOST} more",) if len(words) > _MOST else ()
    return (*words[:_MOST], *more)


@cause(
    "flows-astray",
    "Flows arrive by another cable of a LAG than that by which they were sent.",
    shows=_SEEN,
    remedy="look at what lies between both ends: a switch, a patch panel, or cables that were swapped",
    applies=_any,
)
def _astray(case: Case) -> Iterator[Found]:
    for one in case.hashed:
        if one.astray:
            words = f"{len(one.astray)} flows of {one.name} arrived by another cable than that by which {one.host} sent them"
            yield Found(words, _few(one.astray), "shown")


@cause(
    "flows-moved",
    "A LAG's end moves flows from one link to another while they run: it rebalances, or its hash was changed.",
    shows=_SEEN,
    remedy="`ovs-vsctl set port BOND other_config:bond-rebalance-interval=0`; leave the hash alone under traffic",
    applies=_any,
)
def _moved(case: Case) -> Iterator[Found]:
    for one in case.hashed:
        if one.moved:
            yield Found(f"{one.host} moved {len(one.moved)} flows of {one.name} in mid-flow", _few(one.moved), "shown")


@cause(
    "flows-elsewhere",
    "A LAG's end sends flows by other links than its hash says.",
    shows=_SEEN,
    remedy="look at the driver's hash policy, and at the order and number of its active members",
    applies=_any,
    follows=True,
)
def _elsewhere(case: Case) -> Iterator[Found]:
    for one in case.hashed:
        if one.elsewhere:
            words = f"{one.host} sent {len(one.elsewhere)} flows of {one.name} by another link than its hash says"
            yield Found(words, _few(one.elsewhere), "shown")


@cause(
    "lacp-active",
    "An end of a LAG that was to be passive sends LACP frames by itself.",
    shows=_STATUS,
    remedy="make it passive: `bond lacp_active off`, or `ovs-vsctl set port BOND lacp=passive`",
    applies=_lags,
)
def _active(case: Case) -> Iterator[Found]:
    for end in case.lags:
        if end.asked_passive and any("activity" in one.actor for one in end.members):
            yield Found(f"{end.host}'s {end.device} is active, and passive was asked of it", (), "shown")


def _pairs(case: Case) -> Iterator[tuple[LagView, LagView]]:
    for at in range(0, len(case.lags) - 1, 2):
        one, other = case.lags[at], case.lags[at + 1]
        yield one, other
        yield other, one


@cause(
    "lacp-altered",
    "What an end of a LAG says of itself is not what its partner hears: LACP frames are changed on the way.",
    shows=_STATUS,
    remedy="look at what lies between both ends: nothing there may answer for an end, or change its LACP frames",
    applies=_lags,
)
def _altered(case: Case) -> Iterator[Found]:
    for end, far in _pairs(case):
        for one, heard in zip(end.members, far.members, strict=False):
            if not heard.heard or "expired" in heard.actor or heard.partner_system != one.actor_system:
                continue
            said = f"key {one.actor_key}, {_bits(one.actor)}"
            told = f"key {heard.partner_key}, {_bits(heard.partner)}"
            if said != told:
                words = f"{end.host} says of {one.device}: {said}; {far.host} hears by {heard.device}: {told}"
                yield Found(f"{end.host}'s LACP frames are changed on their way to {far.host}", (words,), "shown")


def _bits(bits: frozenset[str]) -> str:
    return ", ".join(sorted(bits & _SAID)) or "neither active, nor fast, nor to be aggregated"
