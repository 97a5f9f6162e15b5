"""Where else than by the target of a run its topologies can be had, and what a lab of real hosts needs for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from channover.errors import ChannoverError
from channover.model.topology import Links, Topology, pair
from channover.run.environment import target_of
from channover.run.settings import Settings
from channover.targets.physical.placement import cabling


def elsewhere(settings: Settings) -> str:
    """Say of each other target whether labs can be had by it from this machine, or why not."""
    found = []
    for name in ("netns", "vm"):
        if name == settings.target:
            continue
        target = target_of(replace(settings, place=replace(settings.place, target=name, lab=None, dry_run=False)))
        try:
            unmet = target.unmet(pair())  # such a target has any topology, or none
        except (ChannoverError, OSError) as error:
            unmet = " ".join(str(error).split())
        finally:
            target.close()
        found.append(f"--target={name}: {'yes' if unmet is None else unmet}")
    if settings.place.lab is None:
        found.append("--target=physical: with the inventory of a lab")
    return "; ".join(found)


def needs(topologies: Sequence[tuple[Topology, Sequence[str]]]) -> list[tuple[str, str, str]]:
    """Return for each topology its name, the behaviours that ask for it, and how a lab of real hosts is cabled for it.

    Whatever they make of the cables: bare ones are for both.
    """
    asked: dict[Topology, list[str]] = {}
    for one, behaviours in topologies:
        asked.setdefault(replace(one, links=Links.EITHER), []).extend(behaviours)
    return [(one.name, ", ".join(behaviours), cabling(one)) for one, behaviours in asked.items()]
