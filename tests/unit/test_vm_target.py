"""What target vm makes of a topology, without a machine."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from channover.hosts.vm.pool import VmPool
from channover.hosts.vm.spec import VmSpec
from channover.model.topology import Topology, gateway, pair, trio, two_switches
from channover.targets.vm import VmTarget, inner_nodes


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


class Names:
    """What a pool knows of its machines, without any of them: names, numbers, NICs."""

    kernel = SimpleNamespace(release="6.1.0")

    def __init__(self) -> None:
        self.machines: dict[str, Any] = {}

    def free_numbers(self, count: int) -> list[int]:
        return VmPool.free_numbers(self, count)  # type: ignore[arg-type]

    def boot(self, specs: list[VmSpec]) -> list[Any]:
        made = []
        for spec in specs:
            number = self.free_numbers(1)[0]
            assert spec.name == f"vm{number}" and spec.name not in self.machines
            machine = SimpleNamespace(name=spec.name, number=number, spec=spec, is_up=True)
            machine.hosts = [SimpleNamespace(machine=machine, name=spec.name) for _ in range(max(spec.spaces, 1))]
            self.machines[spec.name] = machine
            made.append(machine)
        return made

    def retire(self, names: list[str]) -> None:
        for name in names:
            del self.machines[name]


@pytest.mark.parametrize("order", list(permutations([pair(), trio(), two_switches(2), two_switches(8)])))
def test_a_machine_is_named_by_its_number_whatever_topologies_a_run_has_had(order: tuple[Topology, ...]) -> None:
    target = VmTarget("6.1", say=lambda _: None)
    target._vm_pool = pool = Names()  # type: ignore[assignment]
    for topology in order:
        hosts = target._hosts(topology, 10_000_000)
        assert set(hosts) == {node.name for node in topology.nodes}
        assert all(len(node.nics) <= hosts[node.name].machine.spec.nics for node in topology.nodes)
        assert len(pool.machines) <= 4
