"""A tunnel's device in a network namespace of its own: its addresses are then no path for whatever carries it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from channover.hosts.host import Process, until
from channover.network.tunnel import TunnelEnd

_HOLD = "ip link set lo up; echo ready; exec sleep 600"
"""What keeps the namespace, which ends with it (``network_namespaces(7)``)."""


@dataclass(frozen=True)
class Apart:
    """The namespace in which a tunnel's device is, and what of it can be asked there."""

    end: TunnelEnd
    peer: TunnelEnd
    holder: Process = field(repr=False)

    def answered(self, count: int = 3) -> int:
        """Return how many echo requests from within the namespace the far end answered."""
        words = ("ping", "-n", "-c", str(count), "-i", "0.2", "-W", "2", str(self.peer.address.ip))
        done = self.end.host.run("nsenter", "-t", str(self.holder.pid), "-n", *words, check=False)
        return done.stdout.count(" bytes from ")


@contextmanager
def separated(end: TunnelEnd, peer: TunnelEnd) -> Iterator[Apart]:
    """Move an end's device into a namespace of its own for the length of a block, and address it there. Raises TestbedError.

    Device and namespace are the run's own, and end with the program that holds the latter.
    """
    host = end.host
    holder = host.spawn("unshare", "--net", "sh", "-c", _HOLD)
    try:
        holder.wait_for("ready", 5.0)
        host.run("ip", "link", "set", end.device, "netns", str(holder.pid))
        commands = (f"link set {end.device} up", f"address add {end.address} dev {end.device}")
        for words in commands:
            host.run("nsenter", "-t", str(holder.pid), "-n", "ip", *words.split())
        until(lambda: f" {end.device}:" not in host.read("/proc/net/dev"), f"{end.device} to leave", 5.0)
        yield Apart(end, peer, holder)
    finally:
        holder.stop()
