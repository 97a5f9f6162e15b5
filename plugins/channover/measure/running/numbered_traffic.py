"""Numbered traffic under measurement, in phases that have names: a stream, and flows of datagrams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from channover.hosts.host import Host
from channover.measure.activity import End
from channover.measure.running.phased import Ends, Phased, Phasing
from channover.network.programs import numbered
from channover.network.programs.iperf import Transport

DATAGRAM_PORT, STREAM_PORT = 5900, 5901
"""Of the receivers of numbered traffic: between those of display servers and of X, which no lab's host runs."""


@dataclass(frozen=True)
class NumberedTraffic:
    """What a test calls for numbered traffic: ``with traffic.stream(left, right, mptcp=True) as moving``."""

    phasing: Phasing

    @contextmanager
    def stream(
        self,
        source: End,
        target: End,
        *,
        mptcp: bool,
        size: int = 0,
        limit: float = 120.0,
        watched: Sequence[Host] = (),
        bound: bool = False,
    ) -> Iterator[Phased]:
        """Send bytes over one connection for the length of a block: ``size`` of them, or without an end (0).

        ``limit`` is seconds; ``bound`` binds the connection to the source's address. Raises TestbedError.
        """
        made = numbered.stream(
            source.host,
            target.host,
            str(target.address.ip),
            STREAM_PORT,
            mptcp=mptcp,
            source=str(source.address.ip) if bound else None,
            size=size,
            limit=limit,
        )
        name = f"{'mptcp' if mptcp else 'tcp'} stream {source.host.name}→{target.host.name}"
        transport = Transport.MPTCP if mptcp else Transport.TCP
        with self.phasing(name, made, Ends(source, target, transport, frozenset({STREAM_PORT})), watched) as moving:
            yield moving

    @contextmanager
    def datagrams(
        self,
        source: End,
        target: End,
        *,
        flows: int = 8,
        rate: float = 100.0,
        payload: int = 1000,
        limit: float = 120.0,
        watched: Sequence[Host] = (),
        first_port: int = numbered.FIRST_PORT,
    ) -> Iterator[Phased]:
        """Send flows of numbered datagrams for the length of a block, ``rate`` a second in each, of ``payload`` bytes.

        Flow n has the source port ``first_port`` + n; ``limit`` is seconds. Raises TestbedError.
        """
        made = numbered.datagrams(
            source.host,
            target.host,
            str(source.address.ip),
            str(target.address.ip),
            DATAGRAM_PORT,
            flows=flows,
            rate=rate,
            payload=payload,
            limit=limit,
            first_port=first_port,
        )
        name = f"{flows} flows of datagrams {source.host.name}→{target.host.name}"
        ends = Ends(source, target, Transport.UDP, frozenset({DATAGRAM_PORT}))
        with self.phasing(name, made, ends, watched, 8.0 * flows * rate * payload) as moving:
            yield moving
