"""Notes: what a statement survives, and a reader wants to know all the same. The test "passed, but …"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Note:
    """One thing that was seen beside a verdict and does not touch it.

    ``id`` names its kind for programs (``retransmissions``), ``text`` is one line for people, with its figures. ``figures``
    are the same as numbers, by name, in bit/s, bytes, seconds, or as plain numbers and shares (0 to 1); one that is not
    finite is left out.
    """

    id: str
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", " ".join(self.text.split()))
        finite = {name: float(value) for name, value in self.figures.items() if math.isfinite(value)}
        object.__setattr__(self, "figures", finite)


def once(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Return notes in their order, each text of a kind once: two flows of a test may see the same."""
    return tuple({(note.id, note.text): note for note in notes}.values())
