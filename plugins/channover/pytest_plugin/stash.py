"""What this room keeps in pytest's stashes, of a run and of a test: the keys, and how a test's marks are read.

Every run of pytest loads this, also one without a test of channover's: what costs time to import is here for types alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import pytest

from channover.errors import UsageError
from channover.pytest_plugin.options import names as words

if TYPE_CHECKING:
    from channover.hosts.lab import Lab
    from channover.measure.record import Record
    from channover.model.topology import Topology
    from channover.observe.captures import Captures
    from channover.report.signoff.masking import Masker

ENVIRONMENT = pytest.StashKey[Mapping[str, str]]()
"""The environment variables with which the run began."""
_MASKER: pytest.StashKey[Masker] = pytest.StashKey()
EXPLAINED = pytest.StashKey[str]()
"""The last explanation of a comparison, whole: pytest cuts long ones short."""

RECORD: pytest.StashKey[Record] = pytest.StashKey()
UNMET = pytest.StashKey[str]()
LAB: pytest.StashKey[Lab] = pytest.StashKey()
MACHINES = pytest.StashKey[Mapping[str, tuple[str, str]]]()
FAULTS = pytest.StashKey[dict[str, str]]()
PHASES = pytest.StashKey[list[pytest.TestReport]]()
CAPTURES: pytest.StashKey[Captures] = pytest.StashKey()

_Value = TypeVar("_Value")


def marked(item: pytest.Item, name: str, kind: type[_Value]) -> _Value | None:
    """Return what a test's marker of that name holds, None where it has none. Raises UsageError for another kind of thing."""
    mark = item.get_closest_marker(name)
    if mark is None:
        return None
    if not mark.args or not isinstance(mark.args[0], kind):
        raise UsageError(f"{item.nodeid}: the marker {name} takes a {kind.__name__}: see channover.testing")
    return mark.args[0]


def topology_of(item: pytest.Item) -> Topology:
    """Return the topology that a test asks for, its LAG with the members that the run does, and what fixtures make of it.

    Raises UsageError.
    """
    from channover.model.topology import Links, Topology, pair, with_members

    fixtures = {*getattr(item, "fixturenames", ())}
    uses = {"bond": Links.LAG, "switched": Links.LAG, "multipath": Links.PATHS}
    made = {links for name, links in uses.items() if name in fixtures}
    asked = marked(item, "topology", Topology) or pair()
    members = str(words.value(item.config, "--members"))
    if members != "2" and {"bond", "forming_lag", "switched"} & fixtures:
        asked = with_members(asked, int(members))
    return replace(asked, links=made.pop() if len(made) == 1 else asked.links)


def masker(config: pytest.Config) -> Masker:
    """Return what takes secrets out of what the run writes: those that it began with, and those that were learnt since."""
    if _MASKER not in config.stash:
        from channover.report.signoff.masking import Masker

        config.stash[_MASKER] = made = Masker()
        made.learn(config.stash[ENVIRONMENT])
    return config.stash[_MASKER]


def is_worker(config: pytest.Config) -> bool:
    """Say whether this process is one of xdist's workers."""
    return hasattr(config, "workerinput")


def shows_fixtures(config: pytest.Config) -> bool:
    """Say whether pytest only lists fixtures."""
    return any(getattr(config.option, option, False) for option in ("showfixtures", "show_fixtures_per_test"))
