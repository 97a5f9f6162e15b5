"""What was seen of a lab when a comparison did not hold: plain data, from which causes are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from channover.model.state import State
from channover.verdict.causes.cause import Missed

IDLE_SHARE = 0.02
"""A NIC with less than this share of its host's bytes carried no data."""


@dataclass(frozen=True)
class NicView:
    """What was seen of one NIC: bytes it carried during the traffic, its address (or an empty text)."""

    name: str
    device: str
    carried: int
    address: str = ""

    def __str__(self) -> str:
        return f"NIC {self.name} ({self.device})"


@dataclass(frozen=True)
class HostView:
    """What was seen of one host: its NICs, its state, the sources of the subflows it had."""

    name: str
    nics: Sequence[NicView]
    state: State
    subflow_sources: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Bytes on all NICs."""
        return sum(nic.carried for nic in self.nics)

    def idle(self) -> list[NicView]:
        """NICs that carried no data."""
        return [nic for nic in self.nics if nic.carried < max(self.total, 1) * IDLE_SHARE]

    def __str__(self) -> str:
        parts = [f"{nic.name} ({nic.device}) {nic.carried:,} bytes" for nic in self.nics]
        return f"{self.name}: " + ", ".join(parts)


@dataclass(frozen=True)
class Case:
    """What was seen. Data went from ``sender`` to ``receiver``; ``others`` are hosts on the way, such as switches.

    ``missed`` is how what was measured lay to what was expected, ``fallbacks`` say which connections are MPTCP no more.
    """

    sender: HostView
    receiver: HostView
    mptcp: bool = False
    missed: Missed = "too little"
    fallbacks: Sequence[str] = ()
    others: Sequence[HostView] = ()

    @property
    def hosts(self) -> tuple[HostView, ...]:
        """All hosts."""
        return (self.sender, self.receiver, *self.others)
