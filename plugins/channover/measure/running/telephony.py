"""Telephone calls under measurement, whose phases have names: how many were placed, and how many were kept to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from channover.errors import UsageError
from channover.measure.activity import End
from channover.measure.running.phased import Ends, Phased, Phasing
from channover.network.programs.applications import sip
from channover.network.programs.applications.sip import CallsSeen
from channover.network.programs.iperf import Transport
from channover.verdict.measured import Measured

WORDS = 50_000.0
"""Bits that a call takes at most: its messages, there and back."""


@dataclass(frozen=True)
class Calling:
    """Calls under way: :attr:`moving` has their phases."""

    moving: Phased

    @property
    def seen(self) -> CallsSeen:
        """What became of the calls. Ends them where they still are under way."""
        came = self.moving.came
        if not isinstance(came, CallsSeen):
            raise UsageError(f"{self.moving.name}: there were no calls")
        return came

    @property
    def placed(self) -> Measured:
        """Return how many calls were placed."""
        return self.moving.value("calls placed", self.seen.placed)

    @property
    def kept(self) -> Measured:
        """Return how many calls were kept to their end, by their caller's word."""
        return self.moving.value("calls kept to their end", self.seen.kept)

    @property
    def sessions(self) -> Measured:
        """Return how many sessions of TLS the calls had."""
        return self.moving.value("TLS sessions", len(self.seen.sessions))


@dataclass(frozen=True)
class Telephony:
    """What a test calls for telephone calls by SIP: ``with calls(left, right, 60, rate=20, length=1.0, mptcp=True) as …``."""

    phasing: Phasing
    shown: Callable[[Calling], None] = field(repr=False)

    @contextmanager
    def __call__(
        self, client: End, server: End, number: int, *, rate: int, length: float, mptcp: bool, tls: bool = False
    ) -> Iterator[Calling]:
        """Place ``number`` calls of ``length`` seconds, ``rate`` a second, for the length of a block. Raises TestbedError."""
        transport = Transport.MPTCP if mptcp else Transport.TCP
        name = f"SIP over {'TLS over ' if tls else ''}{transport.value}, {client.host.name}→{server.host.name}"
        address = str(server.address.ip)
        placing = sip.calls(
            client.host, server.host, address, number=number, rate=rate, length=length, mptcp=mptcp, tls=tls
        )
        ends = Ends(client, server, transport, frozenset({sip.TLS_PORT if tls else sip.PORT}))
        with self.phasing(name, placing, ends, offered=WORDS * rate) as moving:
            yield Calling(moving)
        self.shown(Calling(moving))
