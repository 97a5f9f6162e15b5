"""A LAG as the diagnosis sees it: what was asked of each end, and what it says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Protocol, runtime_checkable

from channover.errors import TestbedError
from channover.network.lag import Lag, LagEnd
from channover.observe.lags.bond import MemberStatus
from channover.observe.nics import NicSeries
from channover.scenarios.lags.hashed import Placed
from channover.verdict.causes.case import HashedView, LagView, MemberView


@runtime_checkable
class _Placing(Protocol):
    """A handle of a driver that tells which member each hash bucket is on."""

    def placement(self) -> Mapping[int, str]: ...


def views(lag: Lag, series: Mapping[str, NicSeries]) -> list[LagView]:
    """Return both ends of a LAG; ``series`` are what NICs carried, by host, where they were watched."""
    return [_view(lag, end, series.get(end.host.name)) for end in lag.ends]


def _view(lag: Lag, end: LagEnd, series: NicSeries | None) -> LagView:
    blank = LagView(end.host.name, end.device, end.policy.value, "", end.rate.value, "", lag.links)
    try:
        status = end.status()
    except (TestbedError, ValueError) as error:
        return LagView(**{**vars(blank), "refused": str(error)})
    buckets: Mapping[str, int] = {}
    if isinstance(end.handle, _Placing):
        try:
            buckets = Counter(end.handle.placement().values())
        except TestbedError:
            buckets = {}
    lost: tuple[str, ...] = ()
    with suppress(TestbedError):
        lost = end.lost()
    return LagView(
        end.host.name,
        end.device,
        end.policy.value,
        status.policy,
        end.rate.value,
        status.lacp_rate,
        lag.links,
        [_member(one, series) for one in status.members],
        status.unconverged() or "",
        "",
        status.ports,
        status.text,
        buckets,
        lost,
        end.passive,
    )


def _member(one: MemberStatus, series: NicSeries | None) -> MemberView:
    moved = series.delta(one.device).total_bytes if series and one.device in series.devices else 0
    return MemberView(
        one.device,
        one.mii_up,
        one.aggregator,
        one.actor.state,
        one.partner.state,
        one.partner.system,
        one.actor.key,
        one.partner.key,
        one.enabled,
        one.note,
        one.heard,
        moved,
        one.actor.system,
    )


def hashed(placed: Placed) -> HashedView:
    """Return flows over a LAG as the diagnosis sees them."""
    said: Mapping[int, str] = {} if isinstance(placed.said, str) else placed.said
    moved, elsewhere, astray = [], [], []
    for port, nics in sorted(placed.sent.items()):
        by, came = _named(nics), _named(placed.arrived.get(port, frozenset()))
        if len(nics) > 1:
            moved.append(f"port {port} by {by}")
        elif port in said and nics != {said[port]}:
            elsewhere.append(f"port {port} by {by}, where its hash says {said[port]}")
        if came and came != by:
            astray.append(f"port {port} sent by {by}, arrived by {came}")
    return HashedView(placed.name, placed.host, moved, elsewhere, astray)


def _named(nics: Iterable[str]) -> str:
    return " and ".join(sorted(nics))
