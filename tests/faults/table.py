"""All rows of the fault matrix, by their ids."""

from __future__ import annotations

from collections.abc import Mapping

from tests.faults import applications, asked, hashing, hosts, lacp, machines, multipath, paths, programs, tunnels, wire
from tests.faults.fault import Fault

ROWS: tuple[Fault, ...] = (
    *wire.FAULTS,
    *lacp.FAULTS,
    *hashing.FAULTS,
    *multipath.FAULTS,
    *paths.FAULTS,
    *hosts.FAULTS,
    *asked.FAULTS,
    *programs.FAULTS,
    *tunnels.FAULTS,
    *applications.FAULTS,
    *machines.FAULTS,
)
FAULTS: Mapping[str, Fault] = {each.id: each for each in ROWS}
