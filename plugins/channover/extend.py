"""What a package imports that adds to channover: behaviours, and what they need; causes; LAG drivers; targets.

An entry point of the group ``channover`` names a module that does so::

    [project.entry-points.channover]
    acme = "acme_bonds.channover_plugin"

It is imported once in each process that has to do with channover: by pytest, by each of xdist's workers, by
``channover doctor``. What is registered wrongly ends the run before it begins, in one line that names the package.
"""

from __future__ import annotations

from collections.abc import Sequence

from channover.errors import NotAllowed, TestbedError, UsageError
from channover.hosts.host import Host, Journal
from channover.hosts.lab import Cabling, Lab
from channover.model.catalogue import Behaviour, Part, add_behaviour, add_part
from channover.model.link import Link
from channover.model.topology import Topology, node
from channover.network import drivers as _drivers
from channover.network.lag import HashPolicy, LacpRate, LagDriver, LagHandle
from channover.observe.lags.bond import LagStatus, MemberStatus, PortInfo
from channover.run import own_targets as _targets
from channover.run.own_targets import Make, Option, OwnTarget
from channover.targets import capabilities as _capabilities
from channover.targets.base import Target
from channover.targets.capabilities import Capability
from channover.targets.netns import NetnsTarget
from channover.verdict.causes import catalogue as _causes
from channover.verdict.causes.case import Case
from channover.verdict.causes.kind import CauseKind, Found, cause

__all__ = [
    "Behaviour",
    "Cabling",
    "Capability",
    "Case",
    "CauseKind",
    "Found",
    "HashPolicy",
    "Host",
    "Journal",
    "Lab",
    "LacpRate",
    "LagDriver",
    "LagHandle",
    "LagStatus",
    "Link",
    "MemberStatus",
    "NetnsTarget",
    "NotAllowed",
    "Option",
    "PortInfo",
    "Target",
    "TestbedError",
    "Topology",
    "UsageError",
    "behaviours",
    "capabilities",
    "cause",
    "causes",
    "drivers",
    "node",
    "targets",
]


class _Behaviours:
    """The catalogue of behaviours, for whoever adds to it."""

    def part(self, name: str, *, title: str, layer: str) -> None:
        """Add a part of the catalogue, such as ACME: its behaviours are ACME-1 and so on. Raises UsageError.

        ``layer`` is the layer of the OSI model that it is about, as in "2 data link".

        >>> behaviours.part("ACME", title="Acme's bonds", layer="2 data link")
        """
        add_part(name, Part(title, layer))

    def add(self, behaviour: Behaviour) -> None:
        """Add a behaviour, after its part. Raises UsageError for an id that is taken or none, and for what is no text.

        >>> behaviours.add(Behaviour("LAG-901", "a bond keeps large frames", source="our specification, 4.2", needs=("lag",)))
        """
        add_behaviour(behaviour)


class _Capabilities:
    """What hosts may be able to do, for whoever adds to it."""

    def add(self, name: str, capability: Capability) -> None:
        """Add a capability; behaviours name it in their ``needs``. Raises UsageError for a name that is taken or none.

        >>> def fan(host: Host) -> str | None:
        ...     return None if "fan" in host.read("/proc/acme") else f"{host.name} has no fan: mount one"
        >>> capabilities.add("fan", Capability("a fan", {"sensors": "lm-sensors"}, trial=fan))
        """
        _capabilities.add(name, capability)


class _Drivers:
    """What makes LAGs, for whoever adds to it."""

    def add(self, name: str, driver: LagDriver) -> None:
        """Add a LAG driver: ``--lag-driver=NAME`` takes it, ``auto`` never does. Raises UsageError for what can be none.

        >>> drivers.add("acme", LagDriver)
        Traceback (most recent call last):
        channover.errors.UsageError: LAG driver 'acme': LagDriver is a class; give an object, as in LagDriver()
        """
        _drivers.add(name, driver)


class _Targets:
    """Where labs come from, for whoever adds to it."""

    def add(
        self,
        name: str,
        make: Make,
        *,
        options: Sequence[Option] = (),
        link_rate: str = "100mbit",
        emulated: bool = True,
    ) -> None:
        """Add a target: ``--target=NAME`` takes it. Raises UsageError for what can be none.

        ``make`` returns a :class:`Target`; it is given the values of the ``options``, by their names. ``link_rate`` (tc's
        notation) is that of the cables where ``--link-rate`` asks for none. ``emulated`` says that the hosts share this
        machine's processors: measurements take turns then, and what disturbs the processors disturbs them.

        >>> def make(values: Mapping[str, str | None]) -> Target:
        ...     return NetnsTarget(f"acme-{values['--acme-pod']}")
        >>> targets.add("acme", make, options=[Option("--acme-pod", "the pod of the labs", "NUMBER", default="1")])
        """
        _targets.add(name, OwnTarget(make, tuple(options), link_rate, emulated))


class _Causes:
    """What may explain a verdict against a behaviour, for whoever adds to it."""

    def add(self, kind: CauseKind) -> None:
        """Add a kind of cause, made by :func:`cause`: it is looked for after channover's own. Raises UsageError."""
        _causes.add(kind)


behaviours = _Behaviours()
capabilities = _Capabilities()
causes = _Causes()
drivers = _Drivers()
targets = _Targets()
