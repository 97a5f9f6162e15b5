"""What the first process of a lab owns, and does when it is asked: hosts, cables, taps, programs, files."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from channover import syscalls as kernel
from channover.hosts import prober
from channover.hosts.netns import apply as operations
from channover.hosts.netns import netlink, steering, taps
from channover.hosts.netns.protocol import ENVIRONMENT, QUIET, PanelCable
from channover.model.operations.operation import Operation

RECEIVED = 1 << 20
"""Bytes that a connection may receive before its program reads, to begin with: it waits for a processor now and then."""


def _receive_in_advance() -> None:
    """Let connections of the network namespace that one is in begin with a receive buffer of that size.

    A machine whose hosts share its processors lets a receiving program wait for one. With Linux' 128 KiB to begin with, data
    then arrive beyond MPTCP's window (``MPTcpExtNoDSSInWindow``, counted in ``net/mptcp/protocol.c``). They are dropped, though
    TCP has acknowledged them, and each waits for a time-out of MPTCP's own: a connection stands still for up to seconds.
    """
    path = "/proc/sys/net/ipv4/tcp_rmem"
    with contextlib.suppress(OSError), open(path, "r+", encoding="ascii") as file:
        least, initial, most = map(int, file.read().split())
        file.seek(0)
        file.write(f"{least} {max(initial, RECEIVED)} {max(most, RECEIVED)}")


@dataclass
class NamespaceLab:
    """What a lab init owns. Each public method is a request that the controller may make."""

    machine: int
    panel: int
    rtnl: netlink.Netlink
    control: socket.socket
    hosts: dict[str, operations.Session] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    ports: int = 0
    used: set[str] = field(default_factory=set)
    taps: dict[int, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def inside(self, host: str | None) -> Iterator[None]:
        """Be in a host's network namespace for a while; None is the panel."""
        if host is None:
            yield
            return
        with self._in(self.hosts[host].namespace):
            yield

    @contextlib.contextmanager
    def _in(self, namespace: int) -> Iterator[None]:
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        try:
            yield
        finally:
            kernel.setns(self.panel, kernel.CLONE_NEWNET)

    def build(self, hosts: list[str], cables: list[PanelCable]) -> list[tuple[int, int]]:
        """Make hosts and the cables between them; return the panel's two port numbers of each cable."""
        try:
            for name in hosts:
                kernel.unshare(kernel.CLONE_NEWNET)
                namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                self.hosts[name] = operations.Session.here(namespace)
                self.hosts[name].route.send([netlink.link_state(1, up=True)])
                _receive_in_advance()
                os.makedirs(f"/run/{name}", exist_ok=True)
        finally:
            kernel.setns(self.panel, kernel.CLONE_NEWNET)
        return self._cable(cables)

    def _cable(self, cables: list[PanelCable]) -> list[tuple[int, int]]:
        messages: list[bytearray] = []
        quiet: list[tuple[socket.socket, str]] = []
        numbers = []
        for cable in cables:
            ports = []
            for host, device, index in (
                (cable.a_host, cable.a_device, cable.a_index),
                (cable.b_host, cable.b_device, cable.b_index),
            ):
                self.ports += 1
                port = 100 + self.ports
                ports.append(port)
                inside = self.hosts[host]
                ends = index, device, inside.namespace, port, f"port{port}", self.panel
                messages.append(netlink.veth(*ends, cable.mtu))
                messages.append(netlink.link_state(port, up=True))
                quiet += [(self.control, f"port{port}"), (inside.control, device)]
            a, b = ports
            messages += netlink.crossover(a, to=b) + netlink.crossover(b, to=a)
            messages += [netlink.shaper(port, cable.rate, cable.mtu) for port in ports]
            numbers.append((a, b))
        self.rtnl.send(messages)
        for control, device in quiet:
            netlink.offloads(control, device, QUIET, on=False)
        self._steer(cables, [port for pair in numbers for port in pair])
        return numbers

    def _steer(self, cables: list[PanelCable], ports: list[int]) -> None:
        """Spread what NICs and panel ports receive over the processors."""
        devices: dict[str | None, list[str]] = {None: [f"port{port}" for port in ports]}
        for cable in cables:
            devices.setdefault(cable.a_host, []).append(cable.a_device)
            devices.setdefault(cable.b_host, []).append(cable.b_device)
        for host, names in devices.items():
            with self.inside(host):
                steering.steer(names)

    def prove(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Send frames over cables, and return what arrived: :func:`channover.hosts.prober.probe`."""
        return prober.probe(wanted, self.inside)

    def port(self, number: int, up: bool) -> None:
        """Set a panel port up or down: down takes the carrier from the host's NIC, as a pulled cable does."""
        self.rtnl.send([netlink.link_state(number, up)])

    def cross(self, number: int, to: int | None) -> None:
        """Send what a panel port receives out of another one; None: nowhere, so that frames vanish and the carrier stays."""
        netlink.bare(self.rtnl, number, netlink.INGRESS)
        if to is not None:
            self.rtnl.send(netlink.crossover(number, to=to))

    def probe(self, index: int) -> None:
        """Raise OSError where this kernel cannot shape and cross a cable, or where a host's parameters cannot be set."""
        with open("/proc/sys/net/ipv4/ip_forward", "r+") as file:
            value = file.read()
            file.write(value)
        messages = [netlink.veth(index, f"p{index}", self.panel, index + 1, f"q{index}", self.panel)]
        messages += netlink.crossover(index, to=index + 1)
        messages += [netlink.shaper(index, 100_000_000)]
        self.rtnl.send(messages)

    def offloads(self, host: str, device: str, features: tuple[str, ...], on: bool) -> None:
        """Switch a device's offloads."""
        netlink.offloads(self.hosts[host].control, device, features, on)

    def offloaded(self, host: str, device: str, features: tuple[str, ...]) -> dict[str, bool]:
        """Return which of these offloads of a device are on."""
        return netlink.offloaded(self.hosts[host].control, device, features)

    def perform(self, host: str, plan: tuple[Operation, ...]) -> tuple[int, str] | None:
        """Apply operations that netlink can do; return the position of the first one refused, and the kernel's words."""
        with self.inside(host):
            for position, operation in enumerate(plan):
                try:
                    operations.perform(operation, self.hosts[host])
                except Exception as error:  # what cannot be told to the kernel is refused as well
                    return position, getattr(error, "strerror", None) or str(error)
        return None

    def spawn(
        self, descriptors: list[int], host: str | None, argv: list[str], environment: dict[str, str]
    ) -> tuple[int, int]:
        """Start a program in a host with the three descriptors as its standard streams; return its pid and pidfd."""
        if host is not None:
            self.used.add(host)
        with self.inside(host):
            return self._start(argv, environment, dict(enumerate(descriptors)))

    def _start(self, argv: list[str], environment: dict[str, str], inherited: dict[int, int]) -> tuple[int, int]:
        """Start a program where one is, with descriptors by the numbers that it knows them by; return its pid and pidfd."""
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in inherited.items()]
        # A program that has ended and been reaped has no pidfd: nothing is reaped between the two calls.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        try:
            pid = os.posix_spawnp(
                argv[0],
                argv,
                ENVIRONMENT | environment,
                file_actions=actions,
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
            )
            return pid, os.pidfd_open(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

    def tap(self, number: int) -> list[int]:
        """Make so many panel ports that are taps, down and without cables; return their port numbers."""
        made = []
        for _ in range(number):
            descriptor, port = taps.tap(f"tap{len(self.taps)}", self.control)
            self.taps[port] = descriptor
            made.append(port)
        return made

    def patch(self, cables: list[tuple[int, int, int]]) -> None:
        """Take every cable from the taps, and lay these: two ports, and the rate between them in bit/s."""
        for port in self.taps:
            taps.unplug(self.rtnl, port)
        for a, b, rate in cables:
            taps.plug(self.rtnl, a, b, rate)

    def emulate(self, descriptors: list[int], argv: list[str], ports: list[int]) -> tuple[int, int]:
        """Start an emulator in the machine's own network, which has these descriptors, and its taps from 10 on."""
        inherited = dict(enumerate(descriptors))
        inherited |= {taps.FIRST_INHERITED + position: self.taps[port] for position, port in enumerate(ports)}
        kernel.prefer(0, 0)  # processors that are emulated would starve the controller
        with self._in(self.machine):
            return self._start(argv, {}, inherited)

    def folder(self, path: str) -> tuple[str, int]:
        """Make a folder for its owner alone, and return its name and a descriptor: it goes with the lab."""
        os.makedirs(path, mode=0o700)
        return path, os.open(path, os.O_PATH | os.O_CLOEXEC)

    def reap(self, pid: int) -> int:
        """Return the exit code of a process that has ended (negative: the signal that ended it)."""
        if pid not in self.statuses:
            self.collect(pid)
        return self.statuses.pop(pid)

    def collect(self, pid: int = -1) -> None:
        """Reap ended processes, orphans included."""
        with contextlib.suppress(ChildProcessError):
            while True:
                found, status = os.waitpid(pid, 0 if pid > 0 else os.WNOHANG)
                if found == 0:
                    return
                self.statuses[found] = os.waitstatus_to_exitcode(status)
                if pid > 0:
                    return

    def kill(self, pid: int, number: int, group: bool) -> None:
        """Send a signal to a process, or to its group; one that has ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(pid, number)

    def end(self) -> None:
        """Kill every program, and abort the connections that they leave. Nothing of the lab works any more.

        Why they are aborted stands in :mod:`channover.hosts.netns.supervisor`.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)  # returns when there is no child left, since none is to be waited for
        for host in self.used:
            with self.inside(host), contextlib.suppress(OSError):
                netlink.abort_connections()

    def read(self, host: str | None, path: str) -> bytes:
        """Return a file's content as the host sees it."""
        with self.inside(host), open(path, "rb") as file:
            return file.read()

    def write(self, host: str | None, path: str, data: bytes, mode: int) -> None:
        """Write a file as the host sees it."""
        with self.inside(host):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with open(descriptor, "wb") as file:
                file.write(data)

    def sparse(self, path: str, size: int) -> None:
        """Make a file of ``size`` zero bytes that takes no memory."""
        with open(path, "wb") as file:
            file.truncate(size)
