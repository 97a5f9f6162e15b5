"""What a lab's traffic takes of the processors that are its wires, so that what fits side by side is measured side by side."""

from __future__ import annotations

import math

from channover.hosts.lab import Lab
from channover.measure import cpu_lock
from channover.measure.record import Record
from channover.network.tunnel import Tunnel

SWITCHING = "openvswitch"
"""The LAG driver whose packets a program switches."""
SWITCHED = 70e6
"""What a processor carries (bit/s) where a program switches it: a link of 100 Mbit/s takes a processor and a half."""


def taken(lab: Lab, record: Record, offered: float) -> float:
    """Return how many processors the traffic of a lab takes as it now stands; all of them where that is not known.

    ``offered`` is what is sent at most (bit/s), infinite where it is all that the links carry.
    """
    if lab.probe is None:
        return math.inf
    if record.lag_driver == SWITCHING:
        return cpu_lock.PROGRAMS + offered / SWITCHED
    # Cables that are faster than the lab's links lead to hosts behind them, and what they carry has gone by those.
    rates = [rate for rate in map(lab.rate, lab.topology.cables) if rate <= lab.link.rate]
    packed = any(isinstance(one, Tunnel) for one in record.standing)
    return cpu_lock.taken(min(sum(rates), offered)) * (cpu_lock.PACKED if packed else 1.0)
