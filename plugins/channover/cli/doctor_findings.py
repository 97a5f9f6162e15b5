"""What ``channover doctor`` has found out, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from channover.model.catalogue import Behaviour

HOSTS = ("host", "privileges", "kernel", "tools")
TOPOLOGIES = ("topology", "of", "a lab of real hosts needs")
NICS = ("NIC", "device", "driver", "speed", "duplex", "state")


@dataclass(frozen=True)
class Ability:
    """One capability, and what is missing for it with the remedy (None: nothing is)."""

    name: str
    title: str
    missing: str | None


@dataclass(frozen=True)
class Prospect:
    """One behaviour, and the capabilities that it lacks here; ``missing`` says in words why it cannot be tried."""

    behaviour: Behaviour
    lacks: tuple[str, ...]
    missing: str | None
    in_part: str | None = None
    """Why some of its tests cannot be tried here, where others can."""
    stated: bool = True
    """Whether a test of the suites states it."""

    @property
    def able(self) -> bool:
        """Whether a test of it can be tried here."""
        return self.stated and self.missing is None


@dataclass(frozen=True)
class Findings:
    """All that was found out. ``unmet`` says why no lab can be had here at all, if none can."""

    facts: Mapping[str, str]
    tools: Mapping[str, str]
    unmet: str | None
    abilities: tuple[Ability, ...]
    prospects: tuple[Prospect, ...]
    checks: tuple[str, ...] = ()
    """What the preflight of real hosts found, each with its remedy."""
    broken: bool = False
    """Whether a check forbids a run with the host or the cable that it names."""
    hosts: tuple[tuple[str, ...], ...] = ()
    """Real hosts, as ``HOSTS`` names the columns."""
    nics: tuple[tuple[str, ...], ...] = ()
    """Their NICs, as ``NICS`` names the columns."""
    topologies: tuple[tuple[str, ...], ...] = ()
    """What the suites' tests ask for, as ``TOPOLOGIES`` names the columns."""

    @property
    def complete(self) -> bool:
        """Whether every test of the suites can be tried here."""
        return not self.broken and not any(
            prospect.missing or prospect.in_part for prospect in self.prospects if prospect.stated
        )

    @property
    def closing(self) -> str:
        """One line that sums it up."""
        able = sum(prospect.able for prospect in self.prospects)
        untold = sum(not prospect.stated for prospect in self.prospects)
        others = len(self.prospects) - able - untold
        ending = f"; {untold} {'have' if untold > 1 else 'has'} no test yet" if untold else ""
        if self.broken:
            left = f"{able} of {len(self.prospects)} behaviours can be tried with what is left"
            return f"What stands above has to be mended before a run can use it; {left}{ending}."
        said = f"{able} of {len(self.prospects)} behaviours can be tried here"
        if self.complete:
            return f"{said}: all that have a test{ending}."
        if others:
            return f"{said}; tests of {others} are skipped{ending}."
        return f"{said}, some of them in part: the tests that lack something are skipped{ending}."
