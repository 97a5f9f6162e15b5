"""What controllers of the fault trials run: tests that keep changing their hosts, with plans and past them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from channover.hosts.host import Host
from channover.model.operations.devices import AddressAdd, LinkAdd, LinkSet
from channover.model.operations.kernel import SysctlSet, TableAdd
from channover.model.operations.mptcp import LimitsSet
from channover.model.operations.operation import Operation
from channover.model.operations.routing import RouteAdd, RuleAdd
from channover.model.plan import Plan
from channover.testing import Counted, Lag, Multipath, behaviour

SECONDS = float(os.environ.get("TRIAL_SECONDS", "60"))
END: list[float] = []
"""When no more tests are begun, once the first one was (monotonic)."""
STUBBORN = 'trap "" TERM INT HUP; sleep 600 & wait; wait'
TABLE = "chain out { type filter hook output priority 0; tcp dport 9 reject; }"


@pytest.fixture(autouse=True, scope="module", params=range(50))
def turn(request: pytest.FixtureRequest) -> Iterator[int]:
    number: int = request.param
    yield number


@pytest.fixture(autouse=True)
def in_time() -> None:
    if not END:
        END.append(time.monotonic() + SECONDS)
    if time.monotonic() > END[0]:
        pytest.skip("the trial's time is over")


def unrest(number: int, device: str) -> Plan:
    """Changes of every kind that a plan knows."""
    steps: list[Operation] = [
        LinkSet(device, mtu=1300 + number),
        AddressAdd(device, f"10.77.{number}.1/24"),
        RouteAdd(f"10.78.{number}.0/24", device, table=178),
        RuleAdd(f"10.77.{number}.0/24", 178, 700 + number),
        SysctlSet("net/mptcp/add_addr_timeout", str(10 + number)),
        SysctlSet(f"net/ipv4/conf/{device}/rp_filter", "2"),
        LimitsSet(5, 5),
        TableAdd(f"trial{number}", TABLE),
        LinkAdd(f"trial{number}", "bridge"),
    ]
    return Plan.of("unrest", steps)


def restless(host: Host, device: str) -> None:
    """Keep a host changing for some seconds, with programs that run beside."""
    host.spawn("sh", "-c", STUBBORN)
    host.spawn("sleep", "600")
    host.write(f"{host.folder}/notes", "x" * 100_000)
    for number in (1, 2):
        with host.applied(unrest(number, device)):
            host.offloads(device, ("gro",), on=False)
            host.offloads(device, ("gro",), on=True)


@behaviour("MP-2")
def test_paths(multipath: Multipath, counted: Counted) -> None:
    for end in (multipath.left, multipath.right):
        device = end.host.nic(multipath.nics[1]).device
        restless(end.host, device)
        end.host.apply(unrest(3, device))  # it stands until the lab is given back
    with multipath.off(multipath.nics), multipath.without_source_rules():
        multipath.left.host.run("sleep", "0.5")
    assert counted("ends", len((multipath.left, multipath.right))) == 2


@behaviour("LAG-4")
def test_bond(lag: Lag, counted: Counted) -> None:
    for end in lag.ends:
        restless(end.host, end.device)
    assert counted("ends", len(lag.ends)) == 2
