"""What target vm makes of a topology, without a machine."""

from __future__ import annotations

import pytest

from channover.hosts.vm.spec import VmSpec
from channover.model.topology import Topology, gateway, pair, trio, two_switches
from channover.targets.vm import inner_nodes


@pytest.mark.parametrize(
    ("topology", "within"),
    [
        (pair(), []),
        (trio(), []),
        (gateway(), []),  # a host beyond the far end forwards nothing, but has a kernel that its tests may look at
        (two_switches(2), ["left1", "left2", "right1", "right2"]),
    ],
    ids=lambda one: one.name if isinstance(one, Topology) else "",
)
def test_hosts_behind_switches_need_no_kernel_of_their_own(topology: Topology, within: list[str]) -> None:
    assert inner_nodes(topology) == within


def test_each_host_within_a_machine_has_one_nic() -> None:
    with pytest.raises(ValueError, match=r"^2 hosts within a machine have a NIC each, not 3$"):
        VmSpec("inner", nics=3, spaces=2)
