"""Target ``netns``: hosts are network namespaces, cables are a patch panel outside them.

A cable is two veth pairs that meet in the panel, a network namespace of its own: what port A receives leaves by port B
through a token bucket that counts as Ethernet does, and the reverse. So a host's NIC is a plain device whose qdisc is the
host's own, every frame crosses (LACP included), and setting a port down takes the carrier away: a cable pulled.
"""

from __future__ import annotations

import errno
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from channover.errors import ChannoverError, TestbedError
from channover.hosts import privileges
from channover.hosts.host import Journal, Nic, finished
from channover.hosts.lab import CableEnd, Lab, mutes
from channover.hosts.netns import delay_line
from channover.hosts.netns.client import ForkServer, LabProcess
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.netns.process import NamespaceProcess
from channover.hosts.netns.protocol import ENVIRONMENT, QUIET, PanelCable
from channover.model.link import Link
from channover.model.state import State
from channover.model.topology import Cable, Port, Topology

FIRST_INDEX = 10
"""Interface index of a host's first NIC; those below are left to the kernel (loopback, tunnels)."""


READY = 10.0
"""Seconds that a program of the panel may take to begin."""


def device_name(position: int) -> str:
    """Return the device of a host's NIC by its position: the first is eth1."""
    return f"eth{position + 1}"


@dataclass
class Panel:
    """The patch panel's ports of each cable (:class:`channover.hosts.lab.Cabling`)."""

    process: LabProcess
    journal: Journal
    ports: Mapping[Cable, tuple[int, int]]
    rates: Mapping[Cable, int]
    """What each cable was to carry, in bit/s."""
    muted: set[Cable] = field(default_factory=set)
    pulled: set[Cable] = field(default_factory=set)
    delayed: dict[Cable, list[NamespaceProcess]] = field(default_factory=dict)

    def cut(self, cable: Cable) -> None:
        """Set both ports of a cable down."""
        self.pulled.add(cable)
        self._set(cable, up=False)

    def mute(self, cable: Cable, sender: Port | None = None) -> None:
        """Lead what one port of a cable, or each, receives from its host to nowhere."""
        ends = mutes(cable, sender)
        with self.journal.step("panel", f"let frames from {' and '.join(map(str, ends))} vanish"):
            for end in ends:
                self.process.call("cross", self.ports[cable][cable.ports.index(end)], None)
            self.muted.add(cable)

    def delay(self, cable: Cable, seconds: float, ends: Sequence[CableEnd]) -> None:  # noqa: ARG002 - the panel does it
        """Lead what each port of a cable receives to a program that sends it out of the other one after so long."""
        with self.journal.step("panel", f"let frames of the cable {cable} take {seconds * 1e3:g} ms each way"):
            lines = self.delayed.setdefault(cable, [])
            for into, out in (self.ports[cable], self.ports[cable][::-1]):
                self.process.call("cross", into, None)
                words = (sys.executable, "-I", "-S", delay_line.__file__, f"port{into}", f"port{out}", repr(seconds))
                lines.append(NamespaceProcess(self.process, None, words, {}))
            for line in lines:
                line.wait_for("ready", READY)

    def restore(self, cable: Cable) -> None:
        """Set both ports of a cable up, and lead each one's frames to the other at once."""
        if cable in self.muted or cable in self.delayed:
            a, b = self.ports[cable]
            with self.journal.step("panel", f"let frames through the cable {cable} again"):
                for line in self.delayed.pop(cable, []):
                    line.stop(1.0)
                self.process.call("cross", a, b)
                self.process.call("cross", b, a)
                self.muted.discard(cable)
        self._set(cable, up=True)

    def _set(self, cable: Cable, up: bool) -> None:
        with self.journal.step("panel", f"{'plug in' if up else 'pull'} the cable {cable}"):
            for port in self.ports[cable]:
                self.process.call("port", port, up)

    def unmet(self, states: Mapping[str, State]) -> Iterator[str]:  # noqa: ARG002 - no host shows the panel
        """Yield the cables that are not shaped to their rate any more, or are shaped by something else."""
        found = self._queues()
        shapers: dict[str, list[Mapping[str, Any]]] = {}
        for one in found:
            if one.get("kind") != "ingress":
                shapers.setdefault(one.get("dev", ""), []).append(one)
        for cable, numbers in self.ports.items():
            for number, port in zip(numbers, cable.ports, strict=True):
                if words := _shaped(shapers.get(f"port{number}", []), self.rates[cable]):
                    yield f"the cable {cable}, towards {port}: {words}"

    def refused(self) -> dict[Port, int]:
        """Return how many frames the shaper towards each port has refused. Raises TestbedError."""
        drops = {
            str(one.get("dev")): int(one.get("drops", 0)) for one in self._queues("-s") if one.get("kind") == "tbf"
        }
        pairs = [pair for cable, numbers in self.ports.items() for pair in zip(cable.ports, numbers, strict=True)]
        return {port: drops.get(f"port{number}", 0) for port, number in pairs}

    def _queues(self, *options: str) -> list[dict[str, Any]]:
        """Return every qdisc of the panel, as tc shows it. Raises TestbedError."""
        program = NamespaceProcess(self.process, None, ("tc", *options, "-j", "qdisc", "show"), {})
        program.close_input()
        try:
            return list(json.loads(finished("panel", program, 10.0, check=True).stdout or "[]"))
        except ValueError:
            raise TestbedError("panel: 'tc -j qdisc show' does not answer in JSON: it needs iproute2 4.20") from None


@dataclass
class NetnsTarget:
    """Labs of network namespaces (:class:`channover.targets.base.Target`)."""

    name: str = "netns"
    remarks: list[str] = field(default_factory=list)
    _fork_server: ForkServer | None = field(default=None)

    def start(self) -> None:
        """Start what labs are forked from, so that it is ready when the first lab is wanted."""
        if self._fork_server is None:
            self._fork_server = ForkServer()

    def close(self) -> None:
        """End it."""
        if self._fork_server is not None:
            self._fork_server.close()
            self._fork_server = None

    def process(self) -> LabProcess:
        """Fork an empty lab, for a lab or for a probe. Raises TestbedError."""
        self.start()
        assert self._fork_server is not None
        return self._fork_server.lab()

    def unmet(self, topology: Topology) -> str | None:  # noqa: ARG002 - any topology can be had, or none
        """Say why namespaces cannot be had here, or their tools are missing, if so."""
        missing = [name for name in ("bash", "ip", "ss") if shutil.which(name, path=ENVIRONMENT["PATH"]) is None]
        if missing:
            return f"there is no {', '.join(missing)} here: apt-get install bash iproute2"
        try:
            probe = self.process()
        except (ChannoverError, OSError) as error:
            return privileges.refusal(str(error))
        try:
            probe.call("probe", 900)
        except OSError as error:
            if error.errno == errno.EROFS:
                return (
                    "kernel parameters cannot be set here, not even in a network namespace (/proc/sys is read-only): in a "
                    "container, docker run --privileged or --security-opt systempaths=unconfined"
                )
            if error.errno in (errno.EPERM, errno.EACCES):
                return privileges.refusal(str(error.strerror))
            return (
                f"the kernel cannot shape a wire ({error.strerror}): it needs CONFIG_VETH, CONFIG_NET_SCH_TBF, "
                "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED"
            )
        finally:
            probe.close()
        return None

    @contextmanager
    def lab(self, topology: Topology, link: Link, journal: Journal) -> Iterator[Lab]:
        """Bring a topology up for the length of a block."""
        process = self.process()
        try:
            with journal.step("panel", f"build {topology.name}"):
                yield _build(process, topology, link, journal)
        finally:
            process.close()


def _shaped(shapers: Sequence[Mapping[str, Any]], rate: int) -> str:
    """Say what a panel's port has in place of its one shaper of a rate (bit/s), or nothing."""
    kinds = ", ".join(str(one.get("kind")) for one in shapers)
    if kinds != "tbf":
        return f"its queue is {kinds or 'unshaped'}, and a shaper of {rate / 1e6:g} Mbit/s was asked for"
    found = float(shapers[0].get("options", {}).get("rate", 0)) * 8
    if abs(found - rate) > rate / 1000:
        return f"it is shaped to {found / 1e6:g} Mbit/s, and {rate / 1e6:g} Mbit/s was asked for"
    return ""


def _build(process: LabProcess, topology: Topology, link: Link, journal: Journal) -> Lab:
    positions = {(node.name, nic): position for node in topology.nodes for position, nic in enumerate(node.nics)}
    wanted = []
    for cable in topology.cables:
        a, b = (positions[port.node, port.nic] for port in cable.ports)
        wanted.append(
            PanelCable(
                cable.a.node,
                device_name(a),
                FIRST_INDEX + a,
                cable.b.node,
                device_name(b),
                FIRST_INDEX + b,
                int(link.rate * cable.speedup),
                link.mtu,
            )
        )
    try:
        ports = process.build([node.name for node in topology.nodes], wanted)
    except OSError as error:
        raise TestbedError(f"cannot build the topology {topology.name}: {error.strerror}") from None
    hosts = {
        node.name: NamespaceHost(
            node.name,
            {nic: Nic(nic, device_name(position)) for position, nic in enumerate(node.nics)},
            process,
            journal,
        )
        for node in topology.nodes
    }
    for port in (port for cable in topology.cables for port in cable.ports):
        host = hosts[port.node]
        host.asked.switched(host.nic(port.nic).device, QUIET, on=False)
    rates = {cable: int(link.rate * cable.speedup) for cable in topology.cables}
    panel = Panel(process, journal, dict(zip(topology.cables, ports, strict=True)), rates)
    return Lab(topology, hosts, link, panel, journal, probe=process.prove)
