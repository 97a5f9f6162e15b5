"""What both ends of a flow showed of it when it was ended: its subflows, the kernels' counters, and what fell back to TCP."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from channover.errors import TestbedError
from channover.hosts.host import Host, each
from channover.observe.counters import Counters, counters, fallback_reasons, parse_nstat, refusal_reasons
from channover.observe.own_connections import Own, own_connections
from channover.observe.sockets import Subflow, parse_tcp, subflows

Pair = tuple[str, str]
"""The addresses of a subflow: the host's own, and the other end's."""
LOOK = 0.5
"""Seconds between two looks."""
COST = 50
"""How many times as long as a look took nobody looks again: on a slow host it may not cost what is measured."""

Trip = tuple[float, float]
"""When a round trip was seen (seconds since the traffic's start), and how long (seconds) it took."""


@dataclass
class RoundTrips:
    """Round trips of sockets, by host and both ends' addresses, as the sockets of hosts that send tell now and then.

    iperf3 tells those of a TCP connection ten times a second, and of an MPTCP connection only its first subflow's.
    """

    seen: dict[tuple[str, tuple[str, int, str, int]], list[Trip]] = field(default_factory=dict)
    sockets: dict[tuple[str, tuple[str, int, str, int]], Subflow] = field(default_factory=dict)
    """The sockets themselves, each as it was seen last."""
    _began: float = field(default_factory=time.monotonic)
    _due: float = 0.0

    def look(self, hosts: Collection[Host]) -> None:
        """Look at the subflows of hosts that send, unless that was done lately."""
        now = time.monotonic()
        if now < self._due:
            return
        with suppress(TestbedError):  # a host that does not answer is what the traffic fails of
            for host, found in zip(hosts, each(subflows, hosts), strict=True):
                self.note(host.name, found)
        self._due = now + max(LOOK, COST * (time.monotonic() - now))

    def note(self, host: str, found: Iterable[Subflow]) -> None:
        """Note the round trips that a host's sockets tell now."""
        now = time.monotonic() - self._began
        for one in found:
            if one.state == "ESTAB" and one.rtt:
                self.sockets[host, one.pair] = one
                self.seen.setdefault((host, one.pair), []).append((now, one.rtt))

    def of_host(self, host: str) -> list[Subflow]:
        """Return a host's sockets, each as it was seen last: some may be gone."""
        return [one for (name, _), one in self.sockets.items() if name == host]

    def of(self, host: str, socket: Subflow) -> list[Trip]:
        """Return those of a host's socket."""
        return self.seen.get((host, socket.pair), [])


@dataclass
class Trace:
    """What hosts showed, by their names.

    ``before`` are counters from before the flow, ``joined`` the subflows that its traffic began with, ``trips`` their round
    trips while it ran, ``evidence`` what was there just before it was ended.
    """

    before: dict[str, Counters] = field(default_factory=dict)
    joined: dict[str, tuple[Subflow, ...]] = field(default_factory=dict)
    trips: RoundTrips = field(default_factory=RoundTrips)
    evidence: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def begin(self, host: Host) -> None:
        """Read a host's counters before the flow. Raises TestbedError."""
        self.before[host.name] = counters(host)

    def meet(self, host: Host) -> None:
        """Note a host's subflows, which are not all there at the end where a kernel resets one. Raises TestbedError."""
        found = tuple(one for one in subflows(host) if one.mptcp and one.state == "ESTAB")
        known = {one.pair for one in found}
        self.joined[host.name] = (*found, *(one for one in self.joined.get(host.name, ()) if one.pair not in known))

    def subflows(self, host: str) -> tuple[Subflow, ...]:
        """Return the subflows that a host had at the end, listening sockets left out."""
        text = self.evidence[host].get("sockets", "")
        return tuple(one for one in parse_tcp(text) if one.mptcp and not one.listening)

    def established(self, host: str, ports: set[int]) -> list[Subflow]:
        """Return the subflows of the busiest connection of some ports that were established, one that was reset included."""
        seen = (*self.joined.get(host, ()), *self.subflows(host))
        ready = {one.pair: one for one in seen if one.state == "ESTAB"}.values()  # the later look has all the bytes
        known = {one.token for one in ready if ports & {one.source_port, one.destination_port}}
        data = [one for one in ready if one.token in known]  # a path may lead to another port, which was announced
        # iperf3 has a second connection, which controls the first: it carries no data and so never joins a path.
        moved: dict[str | None, int] = {}
        for one in data:
            moved[one.token] = moved.get(one.token, 0) + one.bytes_sent + one.bytes_received
        busiest = max(moved, key=lambda token: moved[token], default=None)
        return [one for one in data if one.token == busiest]

    def ended(self) -> list[str]:
        """Say which subflows ended before the traffic did, and what the kernels counted that may be why.

        Linux now and then resets an additional subflow whose data mapping it does not expect, without a fault of the
        network's (multipath-tcp/mptcp_net-next, issue 501), and opens it no more.
        """
        found = []
        for name, joined in self.joined.items():
            last = {one.pair for one in parse_tcp(self.evidence[name].get("sockets", ""))}
            found += [f"{name}: {one} had ended before the traffic did" for one in joined if one.pair not in last]
        if found:
            reasons = ((name, refusal_reasons(self.before[name], self.after(name))) for name in self.before)
            found += [f"{name}: {why}" for name, said in reasons for why in said]
        return found

    def after(self, host: str) -> Counters:
        """Return a host's counters at the end. Raises TestbedError where they cannot be read."""
        try:
            return parse_nstat(self.evidence[host].get("counters", ""))
        except (ValueError, IndexError):
            raise TestbedError(f"{host}: its network counters cannot be read at the end of a flow") from None

    def counted(self, host: str) -> Counters:
        """Return what a host counted during the flow. Raises TestbedError where it was not looked at."""
        if host not in self.before:
            raise TestbedError(
                f"{host} was not watched during this flow: name it in watched=[…] where the flow is started"
            )
        return self.after(host) - self.before[host]

    def fallen(self, own: Sequence[tuple[str, int, int]]) -> list[str]:
        """Return, for connections that are MPTCP no more at one end or both, what shows it there, and what may be why.

        ``own`` are a host, a port and how many of its connections carried data. What a host counts is of all its
        programs: it is said only as a hint of why. Raises TestbedError where a host has no such connection to look at.
        """
        found: dict[tuple[int, int], list[str]] = {}
        for host, port, most in own:
            known = own_connections(self.evidence[host], port, most)
            if not known:
                raise TestbedError(
                    f"{host}: no connection of port {port} was left to be looked at when the traffic was ended"
                )
            for one in known:
                if one.fell_back:
                    hint = "; ".join(fallback_reasons(self.before.get(host, Counters()), self.after(host)))
                    words = f"{host}: {one.fell_back}" + (f" ({hint})" if hint else "")
                    found.setdefault(_ends(one, port), []).append(words)
        return ["; ".join(words) for words in found.values()]

    def others_fell_back(self) -> list[str]:
        """Say what hosts have counted of fallbacks: of other programs' connections, where the flow's own did not."""
        reasons = ((name, fallback_reasons(self.before[name], self.after(name))) for name in self.before)
        return [
            f"{name}: a connection of another program was no MPTCP: {why}" for name, said in reasons for why in said
        ]


def _ends(one: Own, port: int) -> tuple[int, int]:
    """Return what both ends of a connection say alike: its server's port, and its client's."""
    first = one.subflows[0]
    return port, first.source_port if first.destination_port == port else first.destination_port
