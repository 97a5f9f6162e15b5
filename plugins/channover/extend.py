"""What a package imports that adds to channover: its own behaviours, and what they need.

An entry point of the group ``channover`` names a module that does so::

    [project.entry-points.channover]
    acme = "acme_bonds.channover_plugin"

It is imported once in each process that has to do with channover: by pytest, by each of xdist's workers, by
``channover doctor``. What is registered wrongly ends the run before it begins, in one line that names the package.
"""

from __future__ import annotations

from channover.model.catalogue import Behaviour, Part, add_behaviour, add_part
from channover.targets import capabilities as _capabilities
from channover.targets.capabilities import Capability

__all__ = ["Behaviour", "Capability", "behaviours", "capabilities"]


class _Behaviours:
    """The catalogue of behaviours, for whoever adds to it."""

    def part(self, name: str, *, title: str, layer: str) -> None:
        """Add a part of the catalogue, such as ACME: its behaviours are ACME-1 and so on. Raises UsageError.

        ``layer`` is the layer of the OSI model that it is about, as in "2 data link".
        """
        add_part(name, Part(title, layer))

    def add(self, behaviour: Behaviour) -> None:
        """Add a behaviour, after its part. Raises UsageError for an id that is taken or none, and for what is no text."""
        add_behaviour(behaviour)


class _Capabilities:
    """What hosts may be able to do, for whoever adds to it."""

    def add(self, name: str, capability: Capability) -> None:
        """Add a capability; behaviours name it in their ``needs``. Raises UsageError for a name that is taken or none."""
        _capabilities.add(name, capability)


behaviours = _Behaviours()
capabilities = _Capabilities()
