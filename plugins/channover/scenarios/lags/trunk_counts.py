"""What switches of others counted on the links of the LAG between them while hosts sent across it, by SNMP.

A switch tells its counters as late as it likes (net-snmp's agent keeps them for up to 15 s). What the hosts sent is known, and
nothing else crosses the LAG of a lab: the counters are up to date once they tell of as much.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from channover.errors import TestbedError
from channover.hosts.host import each
from channover.hosts.lab import Lab
from channover.hosts.snmp.switch import SwitchReading
from channover.measure.nic_usage import carriers, lesser_share
from channover.observe.nics import NicCounters

LATE = 60.0
"""Seconds that a switch may take to tell of what it has carried."""
AGAIN = 1.0
"""Seconds between two questions."""
LEAST, MOST = 0.98, 1.1
"""The share of the hosts' bytes that the links must have counted, and may have: a switch may count the FCS too."""
CHATTER = 100_000
"""Bytes that the links may carry besides, however little the hosts sent."""


@dataclass(frozen=True)
class TrunkCounts:
    """The links of a LAG as the switch at one of its ends counted them: bytes by port."""

    switch: str
    moved: Mapping[str, NicCounters]

    @property
    def used(self) -> list[str]:
        """The ports that carried data in some direction, and not acknowledgements or chatter alone."""
        return carriers(self.moved)

    @property
    def lesser_share(self) -> float:
        """The share (0 to 0.5) of the bytes, in the data's direction, that the least loaded of two links carried."""
        return lesser_share(self.moved.values())

    @property
    def total(self) -> int:
        """The bytes of all links, both directions together."""
        return sum(port.total_bytes for port in self.moved.values())


def read(lab: Lab) -> dict[str, SwitchReading]:
    """Return a reading of each switch that may be read and has a trunk, side by side. Raises TestbedError."""
    switches = [one for one in lab.switches if one.name in lab.trunks]
    return {one.name: one for one in each(lambda switch: switch.read(), switches)}


def counted(lab: Lab, before: Mapping[str, SwitchReading], sent: int) -> list[TrunkCounts]:
    """Return what each trunk has carried since a reading, once switches tell of the bytes that hosts have sent across.

    Raises TestbedError where they tell of less for ``LATE`` seconds, or of more: then others use the LAG, or the counters of
    the reading before were old.
    """
    until = time.monotonic() + LATE
    found = _since(lab, before)
    while any(one.total < LEAST * sent for one in found) and time.monotonic() <= until:
        time.sleep(AGAIN)
        found = _since(lab, before)
    for one in found:
        ports = " and ".join(one.moved)
        if one.total < LEAST * sent:
            raise TestbedError(
                f"switch {one.switch} counts {one.total:,} bytes on {ports}, of {sent:,} that the hosts sent and received "
                f"across it: what its agent says is not of these ports, or older than {LATE:g} s"
            )
        if one.total > MOST * sent + CHATTER:
            raise TestbedError(
                f"switch {one.switch} counts {one.total:,} bytes on {ports}, and the hosts sent and received {sent:,} across "
                "it: somebody else uses the LAG"
            )
    return found


def _since(lab: Lab, before: Mapping[str, SwitchReading]) -> list[TrunkCounts]:
    return [_moved(name, lab.trunks[name], before[name], now) for name, now in read(lab).items()]


def _moved(name: str, ports: Sequence[str], before: SwitchReading, now: SwitchReading) -> TrunkCounts:
    missing = [port for port in ports if port not in before.ports or port not in now.ports]
    if missing:
        raise TestbedError(
            f"switch {name} does not tell of {', '.join(missing)}, which the inventory has as links of its LAG"
        )
    return TrunkCounts(
        name,
        {
            port: NicCounters(
                tx_bytes=now.ports[port].tx - before.ports[port].tx, rx_bytes=now.ports[port].rx - before.ports[port].rx
            )
            for port in ports
        },
    )
