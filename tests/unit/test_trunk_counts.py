"""What a switch of others counted on the links of a LAG, and what of it is not to be believed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from channover.errors import TestbedError
from channover.hosts.snmp.switch import SwitchPort, SwitchReading
from channover.observe.nics import NicCounters
from channover.scenarios.lags import trunk_counts
from channover.scenarios.lags.trunk_counts import TrunkCounts

PORT = SwitchPort(1, "t1", True, 1e9, 1000, 1000)
BEFORE = SwitchReading("west", "", "", "", "", "", {"t1": PORT, "t2": PORT})


def lab(*readings: dict[str, tuple[int, int]]) -> Any:
    """A lab with one switch that tells of these bytes sent and received since, one reading after the other, the last again."""
    told = list(readings)

    def read() -> SwitchReading:
        moved = told.pop(0) if len(told) > 1 else told[0]
        ports = {port: replace(PORT, tx=1000 + tx, rx=1000 + rx) for port, (tx, rx) in moved.items()}
        return replace(BEFORE, ports=ports)

    return SimpleNamespace(switches=[SimpleNamespace(name="west", read=read)], trunks={"west": ("t1", "t2")})


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk_counts, "LATE", 0.05)
    monkeypatch.setattr(trunk_counts, "AGAIN", 0.001)


def test_it_is_waited_until_a_switch_tells_of_what_the_hosts_sent() -> None:
    late = lab(
        {"t1": (0, 0), "t2": (0, 0)}, {"t1": (400_000, 0), "t2": (0, 9_000)}, {"t1": (1_000_000, 0), "t2": (0, 20_000)}
    )
    (found,) = trunk_counts.counted(late, {"west": BEFORE}, 1_020_000)
    assert found == TrunkCounts("west", {"t1": NicCounters(tx_bytes=1_000_000), "t2": NicCounters(rx_bytes=20_000)})
    assert found.used == ["t1"]  # what came back by the other link are acknowledgements
    assert found.lesser_share == 0.0


def test_two_links_that_carried_are_two() -> None:
    found = TrunkCounts("west", {"t1": NicCounters(tx_bytes=600), "t2": NicCounters(tx_bytes=400, rx_bytes=10)})
    assert (found.used, found.lesser_share) == (["t1", "t2"], 0.4)


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        (
            {"t1": (900_000, 0), "t2": (0, 0)},
            "switch west counts 900,000 bytes on t1 and t2, of 1,000,000 that the hosts sent",
        ),
        (
            {"t1": (1_000_000, 0), "t2": (300_000, 0)},
            "sent and received 1,000,000 across it: somebody else uses the LAG",
        ),
        ({"t1": (1_000_000, 0)}, "switch west does not tell of t2, which the inventory has as links of its LAG"),
    ],
)
def test_counters_that_do_not_fit_are_no_evidence(moved: dict[str, tuple[int, int]], words: str) -> None:
    with pytest.raises(TestbedError, match=words):
        trunk_counts.counted(lab(moved), {"west": BEFORE}, 1_000_000)
