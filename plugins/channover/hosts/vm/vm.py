"""One micro-VM: the command line that emulates it, its start, its death, its NICs' carrier."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from channover.errors import TestbedError
from channover.hosts.host import Nic
from channover.hosts.netns.taps import FIRST_INHERITED
from channover.hosts.vm.qmp import Monitor
from channover.hosts.vm.spec import VmContext, VmSpec, mac

QEMU = "qemu-system-x86_64"
MANAGEMENT = "mgmt0"
"""The management NIC in every machine."""

_DEAD = re.compile(r"^.*(?:Kernel panic - not syncing|channover: \S+ is stuck).*$", re.MULTILINE)
_TAKEN = "Could not set up host forwarding rule"
_PORTS_TRIED = 8
_NO_OFFLOADS = ",".join(
    f"{name}=off"
    for name in (
        [
            "csum",
            "gso",
            "host_tso4",
            "host_tso6",
            "host_ecn",
            "host_ufo",
            "guest_csum",
            "guest_tso4",
            "guest_tso6",
            "guest_ecn",
            "guest_ufo",
        ]
    )
)
_BOARDS = {
    "kvm": ("-accel", "kvm", "-cpu", "host,arch_capabilities=off"),
    "tcg": ("-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max,la57=off"),
}
# Without no_timer_check a kernel whose emulator gets no processor for a moment takes its timer for broken, and stays there.
_OPTIONS = "console=ttyS0 loglevel=4 net.ifnames=0 panic=0 mitigations=off nowatchdog tsc=reliable no_timer_check"


@dataclass(frozen=True)
class VmHost:
    """A host that a machine is, or one of several: ``space`` 0 is the machine itself, 1 its first namespace."""

    machine: Vm
    space: int = 0

    @property
    def name(self) -> str:
        """Its host name."""
        return f"{self.machine.name}-{self.space}" if self.space else self.machine.name

    @property
    def nics(self) -> tuple[Nic, ...]:
        """Its test NICs, in order: ``eth1`` and so on."""
        if not self.space:
            return self.machine.nics
        return (Nic("eth1", "eth1", mac(self.machine.number, self.space)),)

    @property
    def first(self) -> int:
        """The position (from 0) of its first test NIC among the machine's."""
        return max(self.space - 1, 0)

    @property
    def management(self) -> str:
        """The device that SSH comes in by; a namespace has only its loopback device."""
        return "lo" if self.space else MANAGEMENT

    @property
    def ssh_port(self) -> int:
        """The port on 127.0.0.1 that leads to it."""
        return self.machine.ssh_ports[self.space]


@dataclass
class Vm:
    """A micro-VM. ``nics`` are its test NICs in order, ``console`` what it has said.

    ``ssh_ports`` on 127.0.0.1 lead to it, and to each of the namespaces that are hosts.
    """

    spec: VmSpec
    number: int
    frame: VmContext
    ports: list[int]
    ssh_ports: list[int] = field(default_factory=list)
    _pid: int = 0
    _pidfd: int = -1
    _monitor: Monitor | None = None
    _linked: set[int] = field(default_factory=set)
    _started: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """Its name, which is its host name too."""
        return self.spec.name

    @property
    def ssh_port(self) -> int:
        """The port on 127.0.0.1 that leads to the machine itself."""
        return self.ssh_ports[0]

    @property
    def hosts(self) -> tuple[VmHost, ...]:
        """The hosts that it is for a lab."""
        numbers = range(1, self.spec.spaces + 1) if self.spec.spaces else (0,)
        return tuple(VmHost(self, number) for number in numbers)

    @property
    def nics(self) -> tuple[Nic, ...]:
        """Its test NICs, in order."""
        return tuple(Nic(f"eth{n}", f"eth{n}", mac(self.number, n)) for n in range(1, self.spec.nics + 1))

    @property
    def management(self) -> Nic:
        """The NIC that SSH comes in by."""
        return Nic(MANAGEMENT, MANAGEMENT, mac(self.number, 0))

    @property
    def console(self) -> Path:
        """The file with all that its serial console has said."""
        return self.frame.folder / f"{self.name}.console"

    def said(self) -> str:
        """Return what its console has said since it was last started."""
        with self.console.open("rb") as file:
            file.seek(self._started)
            return file.read().decode(errors="replace")

    def tail(self) -> str:
        """Return the console's last words, in one line."""
        return " / ".join(line.strip() for line in self.said().splitlines()[-12:] if line.strip())[-900:]

    def failure(self) -> str | None:
        """Say what it died of, if it did."""
        if self._pidfd < 0 or select.select([self._pidfd], [], [], 0)[0]:
            return f"{self.name}: its emulator has ended: {self._log().strip()[-300:] or 'without a word'}"
        if found := _DEAD.search(self.said()):
            return f"{self.name}: {found[0].strip()}; its console is {self.console}"
        return None

    def alive(self) -> bool:
        """Whether it runs: its emulator does, and its kernel has not panicked."""
        return self.failure() is None

    @property
    def is_up(self) -> bool:
        """Whether it has said that it is up since it was last started."""
        return self.alive() and self._mark in self.said()

    @property
    def _mark(self) -> str:
        return f"channover: {self.name} is up"

    def start(self) -> None:
        """Start its emulator, with no NIC's cable plugged in but those that were. Raises TestbedError."""
        with self._lock:
            self._started = self.console.stat().st_size if self.console.exists() else 0
            for _ in range(_PORTS_TRIED):
                self.ssh_ports = self.ssh_ports or [_free_port() for _ in range(1 + self.spec.spaces)]
                self._launch()
                try:
                    assert self._monitor is not None
                    self._monitor.greet()
                    break
                except TestbedError as error:
                    self._ended()
                    said = self._log().strip()
                    if _TAKEN not in said:
                        raise TestbedError(f"{error}: {said[-400:]}") from None
                    self.ssh_ports = []  # somebody was faster
            else:
                raise TestbedError(f"{self.name}: no free port on 127.0.0.1 in {_PORTS_TRIED} attempts")
            for nic in range(self.spec.nics):
                if nic not in self._linked:
                    self._set_link(nic, up=False)

    def link(self, nic: int, up: bool) -> None:
        """Plug a NIC's cable in, or pull it: the guest sees its carrier come or go. Raises TestbedError."""
        with self._lock:
            if up != (nic in self._linked):
                self._set_link(nic, up)
                (self._linked.add if up else self._linked.discard)(nic)

    def reachable(self, up: bool) -> None:
        """Plug the management NIC's cable in, or pull it: a network that is cut. Raises TestbedError."""
        with self._lock:
            self._set_link(-1, up)

    def wait(self, deadline: float) -> None:
        """Wait until its sshd answers. Raises TestbedError with the console's last words, at ``deadline`` (monotonic) too."""
        start = time.monotonic()
        while self._mark not in self.said():
            if failure := self.failure():
                raise TestbedError(failure)
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"{self.name}: it was not up after {deadline - start:.0f} s; its console ends: {self.tail()}"
                )
            time.sleep(0.02)
        while not self._banner(max(deadline - time.monotonic(), 1.0)):
            if failure := self.failure():
                raise TestbedError(failure)
            if time.monotonic() > deadline:
                raise TestbedError(f"{self.name}: its sshd does not answer; its console ends: {self.tail()}")
            time.sleep(0.1)

    def reboot(self, timeout: float = 60.0) -> None:
        """Switch it off and on, dead or alive, and wait until its sshd answers. Raises TestbedError."""
        self.stop()
        self.start()
        self.wait(time.monotonic() + timeout)

    def stop(self) -> None:
        """Switch it off."""
        with self._lock:
            if self._pidfd >= 0:
                self.frame.lab.call("kill", self._pid, signal.SIGKILL, False)
                self._ended()

    def _ended(self) -> None:
        """Take leave of an emulator that ends."""
        if not select.select([self._pidfd], [], [], 10)[0]:
            self.frame.lab.call("kill", self._pid, signal.SIGKILL, False)
        self.frame.lab.call("reap", self._pid)
        os.close(self._pidfd)
        self._pidfd = -1
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None

    def _log(self) -> str:
        path = self.frame.folder / f"{self.name}.emulator"
        return path.read_text(errors="replace") if path.exists() else ""

    def _set_link(self, nic: int, up: bool) -> None:
        if self._monitor is None:
            raise TestbedError(f"{self.name}: its emulator does not run")
        self._monitor.execute("set_link", name=f"nic{nic + 1}", up=up)

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        log = os.open(self.frame.folder / f"{self.name}.emulator", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self._pid, self._pidfd = self.frame.lab.emulate(
                self.command(), self.ports, (nothing, log, log, theirs.fileno())
            )
        except OSError as error:
            ours.close()
            raise TestbedError(f"{self.name}: cannot run {QEMU}: {error.strerror}") from None
        finally:
            theirs.close()
            os.close(log)
            os.close(nothing)
        self._monitor = Monitor(ours, self.name)

    def command(self) -> tuple[str, ...]:
        """Return the emulator's command line."""
        frame, spec = self.frame, self.spec
        words = [QEMU, "-name", spec.name, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]
        words += [*_BOARDS[frame.accelerator], "-smp", "1", "-m", f"{spec.memory}M"]
        words += ["-kernel", str(frame.kernel), "-initrd", f"{frame.inside}/initrd"]
        words += ["-append", f"{_OPTIONS} channover={spec.name} spaces={spec.spaces}"]
        words += ["-chardev", f"file,id=console,path={frame.inside}/{spec.name}.console,append=on"]
        words += ["-serial", "chardev:console"]
        words += ["-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control"]
        words += ["-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"]
        words += ["-device", "virtio-9p-pci,fsdev=root,mount_tag=/dev/root,addr=2"]
        leads = ((port, 2200 + number if number else 22) for number, port in enumerate(self.ssh_ports))
        forward = "".join(f",hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:{to}" for port, to in leads)
        words += ["-netdev", f"user,id=net0,restrict=on{forward}"]
        words += ["-device", f"virtio-net-pci,id=nic0,netdev=net0,mac={mac(self.number, 0)},romfile=,addr=3"]
        for nic in range(1, spec.nics + 1):
            slot = f"addr={4 + (nic - 1) // 8:x}.{(nic - 1) % 8},multifunction=on"
            link = f"speed={max(1, spec.speed // 1_000_000)},duplex=full"
            words += ["-netdev", f"tap,id=net{nic},fd={FIRST_INHERITED + nic - 1}"]
            words += [
                "-device",
                f"virtio-net-pci,id=nic{nic},netdev=net{nic},mac={mac(self.number, nic)},{link},{slot}",
            ]
            words[-1] += f",romfile=,{_NO_OFFLOADS}"
        return tuple(words)

    def _banner(self, timeout: float) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.ssh_port), timeout) as asked:
                asked.settimeout(timeout)
                return asked.recv(64).startswith(b"SSH-")
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
