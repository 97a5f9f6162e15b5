"""Target ``vm``: machines with a kernel of their own, on taps in the same patch panel, reached as physical hosts are.

Machines are booted when a topology first asks for them and kept for the run; between two tests their cables are laid anew.
An inventory is made for each topology, and what follows is :class:`channover.targets.physical.target.PhysicalTarget`,
unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from channover.errors import ChannoverError, TestbedError
from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.hosts.vm import kernel_images as kernels
from channover.hosts.vm import pool as machines
from channover.hosts.vm.pool import PatchCable, Vm, VmPool, VmSpec
from channover.model.link import Link
from channover.model.topology import Port, Topology
from channover.targets.inventory.schema import LabEntry
from channover.targets.physical.lease_pool import LeasePool
from channover.targets.physical.placement import Fit, fit
from channover.targets.physical.target import PhysicalTarget

SPEEDS = (10, 100, 1_000, 2_500, 5_000, 10_000, 25_000, 40_000, 50_000, 100_000, 200_000, 400_000)
"""Speeds (Mbit/s) that the bonding driver knows: at any other a port takes no part in LACP (``drivers/net/bonding``)."""
TTL = 600
"""Seconds that a machine's lease lasts without a sign of life: eighteen machines on two processors are slow to give one."""
EMULATED = 6.0
"""By what the times are multiplied that programs may take in machines without KVM: eighteen share two processors."""
KEPT = 4
"""Machines that are kept for later tests; more are switched off once a topology needs fewer."""
NICS = 3
"""Test NICs of an ordinary machine."""


def standard(rate: int) -> int:
    """Return the lowest Ethernet speed (bit/s) that is not below a rate."""
    return next((speed * 1_000_000 for speed in SPEEDS if speed * 1_000_000 >= rate), SPEEDS[-1] * 1_000_000)


def _say(text: str) -> None:
    print(f"channover: {text}", file=sys.stderr, flush=True)


@dataclass
class VmTarget:
    """Labs of virtual machines (:class:`channover.targets.base.Target`). ``kernel``: one that was fetched, or a folder."""

    kernel: str
    name: str = "vm"
    say: Callable[[str], None] = _say
    remarks: list[str] = field(default_factory=list)
    _vm_pool: VmPool | None = None
    _leases: LeasePool = field(default_factory=lambda: LeasePool(ttl=TTL, shared=False))
    _proven: set[tuple[Port, Port]] = field(default_factory=set)
    _measured: set[tuple[Port, Port]] = field(default_factory=set)

    def unmet(self, topology: Topology) -> str | None:  # noqa: ARG002 - any topology can be had, or none
        """Say why no virtual machine can be had here, if so."""
        found = kernels.find(self.kernel)
        return found if isinstance(found, str) else machines.unmet()

    def _started(self) -> VmPool:
        if self._vm_pool is None:
            found = kernels.find(self.kernel)
            if isinstance(found, str):
                raise TestbedError(found)
            vm_pool = VmPool(found)
            vm_pool.__enter__()
            self._vm_pool = vm_pool
            self._leases.patience = EMULATED if vm_pool.accelerator == "tcg" else 1.0
        return self._vm_pool

    def _machines(self, topology: Topology, speed: int) -> dict[str, Vm]:
        """Return a machine for each node, booting those that are missing. Raises TestbedError."""
        vm_pool = self._started()
        for name in vm_pool.retire(max(KEPT, len(topology.nodes))):
            self._leases.forget(name)
        free = sorted(vm_pool.machines.values(), key=lambda machine: (machine.spec.nics, machine.number))
        found: dict[str, Vm | None] = {}
        for node in sorted(topology.nodes, key=lambda node: len(node.nics)):
            fitting = next((machine for machine in free if machine.spec.nics >= len(node.nics)), None)
            if fitting is not None:
                free.remove(fitting)
            found[node.name] = fitting
        missing = [node for node in topology.nodes if found[node.name] is None]
        specs = [
            VmSpec(f"vm{len(vm_pool.machines) + number}", max(NICS, len(node.nics)), standard(speed))
            for number, node in enumerate(missing, start=1)
        ]
        if specs:
            self.say(f"booting {len(specs)} machine{'s' if len(specs) > 1 else ''} with Linux {vm_pool.kernel.release}")
            for node, machine in zip(missing, vm_pool.boot(specs), strict=True):
                found[node.name] = machine
        return {name: machine for name, machine in found.items() if machine is not None}

    def _entry(self, topology: Topology, using: dict[str, Vm], rate: int) -> LabEntry:
        """Return the inventory's lab of a topology."""
        vm_pool = self._started()
        hosts = {}
        for node in topology.nodes:
            machine = using[node.name]
            hosts[machine.name] = {
                "ssh": {
                    "address": "127.0.0.1",
                    "port": str(machine.ssh_port),
                    "key": str(vm_pool.key),
                    "known_hosts": str(vm_pool.known_hosts),
                },
                "role": node.role.value,
                "management": machine.management.device,
                "nics": {nic.device: nic.device for nic in machine.nics},
            }
        cables = []
        for cable in topology.cables:
            ends = [f"{using[port.node].name}.{self._nic(topology, using, port)}" for port in cable.ports]
            cables.append({"ends": ends, "rate": f"{int(rate * cable.speedup) // 1000}kbit"})
        return LabEntry.model_validate({"hosts": hosts, "cables": cables})

    @staticmethod
    def _nic(topology: Topology, using: dict[str, Vm], port: Port) -> str:
        position = topology.node(port.node).nics.index(port.nic)
        return using[port.node].nics[position].device

    def _patched(self, topology: Topology, found: Fit, rate: int) -> machines.Patching:
        """Lay the cables as the hosts were chosen. Raises TestbedError."""
        vm_pool = self._started()
        cables = {}
        for cable in topology.cables:
            (a, a_nic), (b, b_nic) = (
                (port.node, int(port.nic.removeprefix("eth")) - 1) for port in (found.nics[end] for end in cable.ports)
            )
            cables[cable] = PatchCable(a, a_nic, b, b_nic, int(rate * cable.speedup))
        return vm_pool.patch(cables)

    @contextmanager
    def lab(self, topology: Topology, link: Link, journal: Journal) -> Iterator[Lab]:
        """Bring a topology up for the length of a block. Raises TestbedError."""
        with journal.step("panel", f"boot and cable {topology.name}"):
            using = self._machines(topology, link.rate)
            entry = self._entry(topology, using, link.rate)
            found = fit(topology, entry)
            if isinstance(found, str):
                raise TestbedError(found)
            cabling = self._patched(topology, found, link.rate)
        target = PhysicalTarget(entry, self._leases, "vm", cabling, prove=not self._proven, say=self.say)
        with target.lab(topology, link, journal) as made:
            self._proven |= target.proven
            yield made

    def dead(self) -> list[str]:
        """Say which machines have died, and of what: a broken pool, and no verdict on a behaviour."""
        if self._vm_pool is None:
            return []
        words = []
        for machine in self._vm_pool.machines.values():
            if failure := machine.failure():
                words.append(f"{failure}\nconsole of {machine.name}:\n{machine.said()[-20_000:]}")
        return words

    def revive(self) -> None:
        """Boot again what has died. Raises TestbedError."""
        assert self._vm_pool is not None
        for machine in self._vm_pool.machines.values():
            if not machine.alive():
                self.say(f"{machine.name} died and is booted again")
                self._leases.forget(machine.name)
                machine.reboot()
        self._vm_pool.record_hosts()

    def interrupt(self) -> None:
        """Note that Ctrl-C ends the run."""
        self._leases.interrupted = True

    def close(self) -> None:
        """Release the machines and switch them off."""
        try:
            self.remarks += self._leases.end()
        except ChannoverError as error:
            self.remarks.append(str(error))
        if self._vm_pool is not None:
            self._vm_pool.close()
            self._vm_pool = None
