"""What a test calls to make a flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from channover.errors import BehaviourFailed
from channover.hosts.host import Host
from channover.measure.activity import End
from channover.measure.file_transfer import Copied
from channover.measure.flow import Flow, FlowEvents
from channover.measure.measurement import Measuring
from channover.network.programs.iperf import Load, Transport
from channover.verdict.expectation import exactly


@dataclass(frozen=True)
class TrafficGenerator:
    """What a test calls to make a flow: ``tcp(left, right)``."""

    protocol: Transport
    measuring: Measuring
    events: FlowEvents = field(default=FlowEvents(), repr=False)

    def __call__(
        self,
        source: End,
        target: End,
        *,
        streams: int = 1,
        offered: float = 0.0,
        payload: int | None = None,
        watched: Sequence[Host] = (),
        incompressible: bool = False,
    ) -> Flow:
        """Start a flow from one end to the other; ``offered`` is bit/s in all, ``payload`` bytes a datagram (or the usual)."""
        return self.between(
            [(source, target)],
            streams=streams,
            offered=offered,
            payload=payload,
            watched=watched,
            incompressible=incompressible,
        )

    def between(
        self,
        pairs: Sequence[tuple[End, End]],
        *,
        streams: int = 1,
        offered: float = 0.0,
        payload: int | None = None,
        watched: Sequence[Host] = (),
        incompressible: bool = False,
        first_port: int = 0,
    ) -> Flow:
        """Start flows between several pairs at once, measured as one.

        Stream n of each pair has the source port ``first_port`` + n where one is given, so that a hash can be predicted.
        """
        make = partial(
            Load,
            self.protocol,
            streams=streams,
            offered=offered / streams,
            payload=self.measuring.link.datagram if payload is None else payload,
            incompressible=incompressible,
            first_port=first_port,
        )
        loads = [
            (
                source.host,
                target.host,
                make(target=str(target.address.ip), source=self._bound(source)),
            )
            for source, target in pairs
        ]
        first = f"{pairs[0][0].host.name}→{pairs[0][1].host.name}"
        name = f"{self.protocol.value} {first}" + (f" and {len(pairs) - 1} more" if len(pairs) > 1 else "")
        return Flow.start(name, loads, self.measuring, watched, self.events)

    def _bound(self, source: End) -> str | None:
        # An MPTCP client names one address only, and leaves its own to the kernel (article, stage 2).
        return None if self.protocol is Transport.MPTCP else str(source.address.ip)


def require_multipath(measured: Flow | Copied) -> None:
    """Fail where a connection of a flow or a copy is no MPTCP connection any more. Raises BehaviourFailed, TestbedError."""
    if not measured.fallen_back.compare(exactly(0)).held:
        reasons = "; ".join(measured.fallbacks())
        raise BehaviourFailed(f"{measured.name}: the connection fell back to TCP ({reasons})")
