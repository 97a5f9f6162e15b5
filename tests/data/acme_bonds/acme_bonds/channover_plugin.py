"""What Acme adds to channover."""

from __future__ import annotations

from channover.extend import Behaviour, Capability, behaviours, capabilities

behaviours.part("ACME", title="Acme's bonds", layer="2 data link")
behaviours.add(Behaviour("ACME-1", "the desk has four legs", source="Acme's specification, 4.2", needs=("floor",)))
behaviours.add(Behaviour("ACME-2", "the desk flies", source="Acme's specification, 4.3", needs=("wings",)))
capabilities.add("floor", Capability("a floor", {"sh": "dash"}))
capabilities.add("wings", Capability("wings", {}, trial=lambda host: f"{host.name} has no wings: buy some"))
