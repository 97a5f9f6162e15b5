"""Target ``vm``: machines with a kernel of their own, on taps in the same patch panel, reached as physical hosts are.

Machines are booted when a topology first asks for them and kept for the run; between two tests their cables are laid anew.
An inventory is made for each topology, and what follows is :class:`channover.targets.physical.target.PhysicalTarget`,
unchanged.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from channover.errors import ChannoverError, TestbedError
from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.hosts.vm import kernel_images as kernels
from channover.hosts.vm import pool as machines
from channover.hosts.vm.pool import PatchCable, VmPool
from channover.hosts.vm.spec import VmSpec
from channover.hosts.vm.vm import Vm, VmHost
from channover.model.link import Link
from channover.model.topology import Port, Role, Topology
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
SPACES = 8
"""Hosts that are namespaces of one machine: those behind a switch of the largest topology."""


def standard(rate: int) -> int:
    """Return the lowest Ethernet speed (bit/s) that is not below a rate."""
    return next((speed * 1_000_000 for speed in SPEEDS if speed * 1_000_000 >= rate), SPEEDS[-1] * 1_000_000)


MEMORY = 512
"""Memory (MiB) of a machine of several hosts."""


def inner_nodes(topology: Topology) -> list[str]:
    """Return the nodes that need no kernel of their own: behind switches, hosts with one NIC, which only send and receive."""
    roles = {node.role for node in topology.nodes}
    return [node.name for node in topology.hosts if len(node.nics) == 1] if Role.SWITCH in roles else []


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

    def _hosts(self, topology: Topology, speed: int) -> dict[str, VmHost]:
        """Return a host for each node, booting machines that are missing. Raises TestbedError.

        Hosts behind switches need no kernel of their own: they are namespaces, ``SPACES`` of a machine.
        """
        vm_pool = self._started()
        within = inner_nodes(topology)
        free = sorted(vm_pool.machines.values(), key=lambda machine: (machine.spec.nics, machine.number))
        spaces = [host for machine in free if machine.spec.spaces for host in machine.hosts]
        whole = [machine for machine in free if not machine.spec.spaces]
        found: dict[str, VmHost] = dict(zip(within, spaces, strict=False))
        missing = []
        for node in sorted(topology.nodes, key=lambda node: len(node.nics)):
            if node.name in within:
                continue
            fitting = next((machine for machine in whole if machine.spec.nics >= len(node.nics)), None)
            if fitting is None:
                missing.append(node)
            else:
                whole.remove(fitting)
                (found[node.name],) = fitting.hosts
        homeless = within[len(spaces) :]
        self._retire({host.machine.name for host in found.values()}, len(missing) + math.ceil(len(homeless) / SPACES))
        # Only now: a machine's number is the lowest that is free as it is booted, and its name says it.
        numbers = iter(vm_pool.free_numbers(len(missing) + len(homeless)))
        specs = [VmSpec(f"vm{next(numbers)}", max(NICS, len(node.nics)), standard(speed)) for node in missing]
        for _ in range(0, len(homeless), SPACES):
            specs.append(VmSpec(f"vm{next(numbers)}", SPACES, standard(speed), MEMORY, SPACES))
        if specs:
            self.say(f"booting {len(specs)} machine{'s' if len(specs) > 1 else ''} with Linux {vm_pool.kernel.release}")
            booted = self._booted(specs)
            found |= {node.name: machine.hosts[0] for node, machine in zip(missing, booted, strict=False)}
            fresh = [host for machine in booted[len(missing) :] for host in machine.hosts]
            found |= dict(zip(homeless, fresh, strict=False))
        return found

    def _booted(self, specs: list[VmSpec]) -> list[Vm]:
        """Boot machines, and once more those that did not come up: a later test would get them else. Raises TestbedError."""
        vm_pool = self._started()
        try:
            return vm_pool.boot(specs)
        except TestbedError as error:
            stuck = self._discarded(specs)
            self.say(f"{error}; {', '.join(spec.name for spec in stuck)} is booted again")
        try:
            vm_pool.boot(stuck)
        except TestbedError:
            self._discarded(stuck)
            raise
        return [vm_pool.machines[spec.name] for spec in specs]

    def _discarded(self, specs: list[VmSpec]) -> list[VmSpec]:
        """Switch off what did not come up; return it."""
        machines = self._started().machines
        stuck = [spec for spec in specs if spec.name not in machines or not machines[spec.name].is_up]
        self._started().retire([spec.name for spec in stuck if spec.name in machines])
        return stuck

    def _retire(self, needed: set[str], more: int) -> None:
        """Switch off machines that a topology has no use for, so that ``KEPT`` are left with those that are to be booted."""
        vm_pool = self._started()
        spare = [machine for name, machine in vm_pool.machines.items() if name not in needed]
        spare = spare[max(KEPT - len(needed) - more, 0) :]
        for machine in spare:
            self._forget(machine)
        vm_pool.retire([machine.name for machine in spare])

    def _forget(self, machine: Vm) -> None:
        """Give up the leases of a machine, without asking it."""
        for host in machine.hosts:
            self._leases.forget(host.name)

    def _entry(self, topology: Topology, using: dict[str, VmHost], link: Link) -> LabEntry:
        """Return the inventory's lab of a topology."""
        vm_pool = self._started()
        hosts = {}
        for node in topology.nodes:
            host = using[node.name]
            hosts[host.name] = {
                "ssh": {
                    "address": "127.0.0.1",
                    "port": str(host.ssh_port),
                    "key": str(vm_pool.key),
                    "known_hosts": str(vm_pool.known_hosts),
                },
                "role": node.role.value,
                "management": host.management,
                "nics": {nic.device: nic.device for nic in host.nics},
            }
        cables = []
        for cable in topology.cables:
            ends = [f"{using[port.node].name}.{self._nic(topology, using, port)}" for port in cable.ports]
            cables.append({"ends": ends, "rate": f"{int(link.rate * cable.speedup) // 1000}kbit", "mtu": link.mtu})
        return LabEntry.model_validate({"hosts": hosts, "cables": cables})

    @staticmethod
    def _nic(topology: Topology, using: dict[str, VmHost], port: Port) -> str:
        position = topology.node(port.node).nics.index(port.nic)
        return using[port.node].nics[position].device

    def _patched(self, topology: Topology, using: dict[str, VmHost], found: Fit, rate: int) -> machines.Patching:
        """Lay the cables as the hosts were chosen. Raises TestbedError."""
        hosts = {host.name: host for host in using.values()}
        cables = {}
        for cable in topology.cables:
            ends = []
            for end in cable.ports:
                port = found.nics[end]
                host = hosts[port.node]
                ends.append((host.machine.name, host.first + int(port.nic.removeprefix("eth")) - 1))
            (a, a_nic), (b, b_nic) = ends
            cables[cable] = PatchCable(a, a_nic, b, b_nic, int(rate * cable.speedup))
        return self._started().patch(cables)

    @contextmanager
    def lab(self, topology: Topology, link: Link, journal: Journal) -> Iterator[Lab]:
        """Bring a topology up for the length of a block. Raises TestbedError."""
        with journal.step("panel", f"boot and cable {topology.name}"):
            using = self._hosts(topology, link.rate)
            entry = self._entry(topology, using, link)
            found = fit(topology, entry)
            if isinstance(found, str):
                raise TestbedError(found)
            cabling = self._patched(topology, using, found, link.rate)
        proven, measured = self._proven, self._measured  # cables are laid anew, by the same patch panel
        target = PhysicalTarget(
            entry, self._leases, "vm", cabling, ping=not proven, proven=proven, measured=measured, say=self.say
        )
        with target.lab(topology, link, journal) as made:
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
                self._forget(machine)
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
