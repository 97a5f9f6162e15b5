"""Which behaviours the suites state, and the topologies that their tests ask for: what a lab is good for is told by these.

Only pytest can ask the suites, and that takes seconds; so it stands here, and a test holds it against what pytest collects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from channover.model.topology import Links, Topology, gateway, pair, trio, two_switches, unequal, unstacked

_DRAWN: Mapping[str, tuple[Topology, ...]] = {
    **{f"LAG-{number}": (pair(),) for number in (1, 2, 3, 4, 5, 8, 9)},
    "LAG-10": (pair(), unstacked()),
    "LAG-6": (two_switches(2),),
    "LAG-7": (two_switches(8),),
    "MP-1": (pair(), trio()),
    "MP-2": (trio(), pair()),
    **{f"MP-{number}": (pair(),) for number in (3, 4, 5, 6, 7, 8, 9, 11)},
    "MP-10": (unequal(),),
    **{f"TUN-{number}": (pair(),) for number in (1, 2, 3, 4, 5, 7)},
    "TUN-6": (gateway(),),
    "APP-1": (unequal(0.2),),
    "APP-2": (pair(),),
    "APP-3": (pair(),),
}


def _made(behaviour: str) -> Links:
    """Return what a behaviour's tests make of the cables."""
    return Links.LAG if behaviour.startswith("LAG-") else Links.PATHS


STATED: Mapping[str, tuple[Topology, ...]] = MappingProxyType(
    {name: tuple(replace(one, links=_made(name)) for one in drawn) for name, drawn in _DRAWN.items()}
)
"""Topologies by the behaviour's id; a behaviour that is not here has no test yet."""


def asked_for() -> tuple[Topology, ...]:
    """Return every topology that the suites ask for, once."""
    return tuple(dict.fromkeys(topology for topologies in STATED.values() for topology in topologies))
