"""Guards of a tunnel that may feed on itself: loaded for the length of a block, and what they do to the tunnel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from channover.errors import TestbedError
from channover.hosts.host import Host, until
from channover.network.loop_guard import Guard, hits
from channover.network.tunnel import Tunnel
from channover.scenarios.tunnel_output import TunnelOutput
from channover.scenarios.tunnels import Tunnels, all_applied
from channover.verdict.causes.cause import Explanation
from channover.verdict.measured import Measured, Reading

RECOVERY = 20.0
"""Seconds that a tunnel may take to come back behind its guard, where the loop was shorter."""
STEADY = 2
"""Seconds that a rate has to last before a tunnel counts as recovered."""
REFUSING = 15.0
"""Seconds in which a guard has to meet the carrier: OpenVPN sends something after 10 s of silence (``keepalive``)."""


@dataclass(frozen=True)
class Guarded:
    """A tunnel behind guards, from the moment at which they were loaded."""

    tunnels: Tunnels = field(repr=False)
    tunnel: Tunnel = field(repr=False)
    guards: Sequence[tuple[Host, Guard]] = field(repr=False)
    output: TunnelOutput = field(repr=False)
    longest_timer: float
    """How long (seconds) a retransmission timer may still run that the loop has wound up.

    It doubles each time (RFC 6298, 5.5), so it runs for as long again as the loop has lasted. ``RECOVERY`` at least.
    """

    @property
    def refused(self) -> list[Measured]:
        """How many packets of the carrier each end's guard has refused; waits for the first of each.

        Raises TestbedError where a guard is not loaded.
        """
        return [self._refused(host, guard) for host, guard in self.guards]

    def _refused(self, host: Host, guard: Guard) -> Measured:
        with self.tunnels.record.converges(), suppress(TestbedError):
            until(lambda: hits(host, guard).total > 0, f"the guard of {host.name} to meet the carrier", REFUSING, 0.1)
        met = hits(host, guard)
        value = self.tunnels.counted(f"packets that the guard of {host.name} refused", met.total)
        return replace(value, explain=self._explain)

    def time_to_recover(self, floor: float) -> Measured:
        """Return how long (seconds) after the guards traffic left the tunnel above ``floor``, and did so for two seconds.

        What was queued in the loop comes out in a burst, and the carrier may stall once more behind it. Where it does not
        recover while the longest timer runs, the time is that and a second more.
        """
        longest = self.longest_timer + STEADY + 1
        found = self.output.lasts("recovery", longest, STEADY, lambda rate: rate > floor)
        value = self.tunnels.counted("time to recover", longest - STEADY if found is None else found, "s")
        return replace(value, explain=self._explain)

    def _explain(self, missed: Reading) -> Explanation:
        found = self.tunnels.measuring.explain(self.tunnel, missed)
        met = [f"{host.name}: {guard.name} met {hits(host, guard)}" for host, guard in self.guards]
        signs = str(self.tunnels.signs(self.tunnel)).splitlines()
        return replace(found, seen=(str(self.output), *met, *signs, *found.seen))


@contextmanager
def guarded(tunnels: Tunnels, tunnel: Tunnel, guards: Sequence[tuple[Host, Guard]], lasted: float) -> Iterator[Guarded]:
    """Load guards, each on its host, for the length of a block; a loop may have ``lasted`` for so many seconds before."""
    with tunnels.output(tunnel) as output, ExitStack() as loaded:
        with tunnels.measuring.step("load the guards"):
            loaded.enter_context(all_applied([(host, guard.plan) for host, guard in guards]))
        made = Guarded(tunnels, tunnel, guards, output, max(RECOVERY, lasted))
        tunnels.record.standing.append(made)
        try:
            yield made
        finally:
            tunnels.record.standing.remove(made)
