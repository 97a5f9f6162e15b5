"""Downloads under measurement, whose phases have names: what came of the file, and how long its reader waited."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from channover.measure.activity import End
from channover.measure.running.phased import Ends, Phased, Phasing
from channover.network.programs.applications.download import PORT, download, served
from channover.network.programs.iperf import Transport


@dataclass(frozen=True)
class Downloads:
    """What a test calls for a download by HTTP: ``with downloads(left, right, size, mptcp=True) as moving``."""

    phasing: Phasing

    @contextmanager
    def __call__(self, client: End, server: End, size: float, *, mptcp: bool) -> Iterator[Phased]:
        """Download a file of ``size`` bytes from server to client for the length of a block. Raises TestbedError."""
        transport = Transport.MPTCP if mptcp else Transport.TCP
        name = f"{transport.value} download {server.host.name}→{client.host.name}"
        with served(server.host, str(server.address.ip), int(size), mptcp=mptcp) as (serving, digest):
            ends = Ends(client, server, transport, frozenset({PORT}), upload=False)
            with self.phasing(name, download(client.host, serving, digest), ends) as moving:
                yield moving
