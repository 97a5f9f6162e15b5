"""From what was seen of a flow to the most likely cause of its shape, in sentences that name the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from channover.model.state import State

IDLE_SHARE = 0.02
"""A NIC with less than this share of its host's bytes carried no data."""


@dataclass(frozen=True)
class NicView:
    """What was seen of one NIC: bytes it carried during the flow, its address (or an empty text)."""

    name: str
    device: str
    carried: int
    address: str = ""


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


def per_nic(view: HostView) -> str:
    """Return one line with what each NIC carried."""
    parts = [f"{nic.name} ({nic.device}) {nic.carried:,} bytes" for nic in view.nics]
    return f"{view.name}: " + ", ".join(parts)


def causes(
    sender: HostView,
    receiver: HostView,
    *,
    mptcp: bool,
    fallbacks: Sequence[str] = (),
    others: Sequence[HostView] = (),
) -> list[str]:
    """Return what most likely kept NICs idle or links unused, the likeliest first. Empty: nothing stands out.

    ``others`` are hosts on the way, such as switches.
    """
    found = [f"the connection fell back to TCP: {reason}" for reason in fallbacks]
    for view in (sender, receiver, *others):
        for nic in view.nics:
            link = view.state.links.get(nic.device)
            if link is not None and not link.up:
                found.append(f"{view.name}'s NIC {nic.name} ({nic.device}) is down")
            elif link is not None and not link.carrier:
                found.append(f"{view.name}'s NIC {nic.name} ({nic.device}) has no carrier: its cable is pulled")
    if mptcp:
        found += _mptcp(sender, receiver)
    return found


def _mptcp(sender: HostView, receiver: HostView) -> list[str]:
    found = []
    for nic in sender.idle():
        if not nic.address:
            continue
        endpoint = next((e for e in sender.state.endpoints.values() if e.address == nic.address), None)
        ruled = any(rule.source in (nic.address, f"{nic.address}/32") for rule in sender.state.rules)
        subflows = sender.subflow_sources.get(nic.address, 0)
        what = f"NIC {nic.name} carried {nic.carried:,} bytes"
        if endpoint is None and subflows == 0:
            found.append(
                f"{what} and {sender.name} has no MPTCP endpoint {nic.address}: no subflow starts there "
                f"(ip mptcp endpoint add {nic.address} dev {nic.device} subflow fullmesh)"
            )
        elif not ruled and (endpoint is None or endpoint.device is None):
            busy = ", ".join(other.name for other in sender.nics if other not in sender.idle()) or "another"
            found.append(
                f"{what} and {sender.name} has no rule `from {nic.address}`: the {subflows} subflow(s) with that "
                f"address left by NIC {busy}"
            )
        elif endpoint is not None and "backup" in endpoint.flags:
            found.append(f"{what}: its endpoint {nic.address} is a backup")
        elif subflows == 0:
            limits = sender.state.limits
            allowed = f"{limits.subflows} extra subflows" if limits else "an unknown number of extra subflows"
            found.append(f"{what} and no subflow has its address: {sender.name} allows {allowed}")
    limits = receiver.state.limits
    if found and limits is not None and limits.subflows == 0:
        found.append(f"{receiver.name} accepts no extra subflow (ip mptcp limits set subflows 8)")
    return found
