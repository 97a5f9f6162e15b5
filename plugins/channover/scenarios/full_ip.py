"""A tunnel as a wire for any IP: a packet of every protocol each way, and packets of sizes that fit, that do not, in parts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from channover.measure.own_values import Counted, Listing
from channover.model.inner_network import inner_network
from channover.model.operations.devices import AddressAdd
from channover.model.plan import Plan
from channover.network import openvpn
from channover.network.programs.packets import exchange
from channover.network.tunnel import Tunnel, TunnelEnd

TRIES = 3


@dataclass(frozen=True)
class FullIP:
    """What crosses a tunnel, and how: values to compare. Made by the fixture ``full_ip``."""

    counted: Counted = field(repr=False)
    listed: Listing = field(repr=False)

    @contextmanager
    def addressed(self, tunnel: Tunnel) -> Iterator[None]:
        """Give both ends an address of the other family within the tunnel for the length of a block. Raises TestbedError."""
        client, server = tunnel.ends
        with (
            client.host.applied(self._plan(tunnel, client)),
            server.host.applied(self._plan(tunnel, server)),
        ):
            yield

    def _plan(self, tunnel: Tunnel, end: TunnelEnd) -> Plan:
        other = 10 - tunnel.network.version
        length = inner_network(*openvpn.ADDRESSES[other]).prefixlen
        address = AddressAdd(end.device, f"{self._inside(tunnel, end, other)}/{length}")
        return Plan.of("the other family within the tunnel", [address])

    def _inside(self, tunnel: Tunnel, end: TunnelEnd, version: int) -> str:
        """Return an end's address of a family: the tunnel's own, or the one that it was given."""
        if end.address.version == version:
            return str(end.address.ip)
        return openvpn.ADDRESSES[version][0 if end is tunnel.client else 1]

    def require_unchanged(self, tunnel: Tunnel) -> None:
        """Send a packet of every protocol each way, and compare which arrived as they were sent with all that were."""
        for source in tunnel.ends:
            target = tunnel.peer(source)
            seen = exchange(
                source.host,
                target.host,
                (source.device, target.device),
                (self._inside(tunnel, source, 4), self._inside(tunnel, target, 4)),
                (self._inside(tunnel, source, 6), self._inside(tunnel, target, 6)),
            )
            way = f"{source.host.name}→{target.host.name}"
            assert self.listed(f"protocols that arrived unchanged, {way}", seen.unchanged) == seen.sent

    def answered(self, tunnel: Tunnel, payload: int, *, whole: bool = False, ipv6: bool = False) -> int:
        """Return how many of TRIES echo requests of ``payload`` bytes the far end answered; ``whole`` forbids fragments."""
        far = self._inside(tunnel, tunnel.server, 6 if ipv6 else 4)
        words = ["ping", "-n", "-c", str(TRIES), "-i", "0.2", "-W", "2", "-s", str(payload)]
        done = tunnel.client.host.run(*words, *(["-M", "do"] if whole else []), far, check=False, timeout=20.0)
        found = re.search(r"(\d+) (?:packets )?received", done.stdout)
        return int(found[1]) if found else 0
