"""Micro-VMs side by side: machines with a kernel of their own over this machine's root file system, joined by a patch panel.

The pool is a lab (:mod:`channover.hosts.netns.supervisor`): its emulators are processes of the lab's PID namespace, so
that they die with the controller however it ends; its files lie on the lab's tmpfs, which the kernel frees with the
lab, and the controller reaches them by a descriptor, ``/proc/PID/fd/N``. Nothing is left on a disk. A guest sees the
root read-only, and writes into its own memory.

A test NIC is a tap in the panel. A cable is a crossover of two taps with a shaper each way, as between namespaces; emulated
NICs have no offloads, so that each frame is counted by itself. Management is user networking of the emulator, cut off from
the world, with one port on 127.0.0.1 that leads to the guest's sshd.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType

from channover import isolated
from channover.errors import ChannoverError, TestbedError
from channover.hosts import privileges
from channover.hosts.lab import CableEnd, mutes
from channover.hosts.netns.client import ForkServer, LabProcess
from channover.hosts.netns.protocol import ENVIRONMENT
from channover.hosts.readback import Accountable
from channover.hosts.vm import accelerators
from channover.hosts.vm import initramfs as bootfiles
from channover.hosts.vm.initramfs import BootFiles
from channover.hosts.vm.kernel_images import Kernel, in_use, renewed
from channover.hosts.vm.spec import VmContext, VmSpec
from channover.hosts.vm.vm import QEMU, Vm
from channover.model.topology import Cable, Port

__all__ = ["PatchCable", "Patching", "Vm", "VmPool", "VmSpec", "unmet"]

BOOT = 60.0
"""How long (seconds) a machine may take to boot; with several, a third of it more for each one beyond the processors."""

HELD_BACK = 10_000
"""Frames that a kernel may hold back at once: a gigabit's of 120 ms."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PatchCable:
    """A cable between two machines: at each end its name and the position of the test NIC (from 0); the rate in bit/s."""

    a: str
    a_nic: int
    b: str
    b_nic: int
    rate: int

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Both ends."""
        return (self.a, self.a_nic), (self.b, self.b_nic)


def unmet() -> str | None:
    """Say why no micro-VM can be had here, with the remedy, if so; the kernel apart."""
    if os.geteuid() != 0:
        return "micro-VMs need root (taps, and a management port beside namespaces): run as root"
    if reason := privileges.lacking(privileges.status(), root=True):
        return f"micro-VMs cannot be had: {reason}"
    if shutil.which(QEMU, path=ENVIRONMENT["PATH"]) is None:
        return f"there is no {QEMU} here: apt-get install qemu-system-x86"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "micro-VMs need /dev/net/tun: modprobe tun"
    if shutil.which("sshd", path="/usr/sbin:/usr/local/sbin") is None:
        return "there is no sshd here for the guests: apt-get install openssh-server"
    return bootfiles.unmet()


@dataclass
class Patching:
    """Cables between micro-VMs as they lie (:class:`channover.hosts.lab.Cabling`), by their names in a topology."""

    vm_pool: VmPool
    cables: Mapping[Cable, PatchCable]
    muted: set[Cable] = field(default_factory=set)
    pulled: set[Cable] = field(default_factory=set)
    delayed: dict[Cable, list[CableEnd]] = field(default_factory=dict)

    def cut(self, cable: Cable) -> None:
        """Pull a cable: both ends lose their carrier. Raises TestbedError."""
        self.pulled.add(cable)
        self._set(cable, up=False)

    def mute(self, cable: Cable, sender: Port | None = None) -> None:
        """Lead what one port of a cable, or each, receives from its machine to nowhere. Raises TestbedError."""
        taps = self._taps(cable)
        for end in mutes(cable, sender):
            self.vm_pool.lab.call("cross", taps[cable.ports.index(end)], None)
        self.muted.add(cable)

    def delay(self, cable: Cable, seconds: float, ends: Sequence[CableEnd]) -> None:
        """Have the kernels at both ends hold back what they send (``tc-netem(8)``). Raises TestbedError."""
        for host, device in ends:
            words = f"tc qdisc add dev {device} root netem delay {seconds * 1e3:g}ms limit {HELD_BACK}"
            host.run(*words.split())
            self.delayed.setdefault(cable, []).append((host, device))
            if isinstance(host, Accountable):
                host.asked.queued(device, "netem")

    def restore(self, cable: Cable) -> None:
        """Plug it in again, and let frames through again, without delay. Raises TestbedError."""
        for host, device in self.delayed.pop(cable, ()):
            host.run("tc", "qdisc", "delete", "dev", device, "root")
            if isinstance(host, Accountable):
                host.asked.queued(device, "")
        if cable in self.muted:
            a, b = self._taps(cable)
            self.vm_pool.lab.call("cross", a, b)
            self.vm_pool.lab.call("cross", b, a)
            self.muted.discard(cable)
        self._set(cable, up=True)

    def _taps(self, cable: Cable) -> list[int]:
        return [self.vm_pool.machines[name].ports[nic] for name, nic in self.cables[cable].ends]

    def _set(self, cable: Cable, up: bool) -> None:
        for name, nic in self.cables[cable].ends:
            machine = self.vm_pool.machines[name]
            if up:
                self.vm_pool.lab.call("port", machine.ports[nic], True)
            machine.link(nic, up)
            if not up:
                self.vm_pool.lab.call("port", machine.ports[nic], False)


@dataclass
class VmPool:
    """Micro-VMs of one kernel, for the length of a block. ``accelerator`` is kvm, tcg, or None: find out.

    ``key`` is the client's private key, ``known_hosts`` what its SSH client should know: both are files that are gone
    with the pool. Log in as root on 127.0.0.1 at a machine's ``ssh_port``.
    """

    kernel: Kernel
    accelerator: str | None = None
    machines: dict[str, Vm] = field(default_factory=dict)
    _fork_server: ForkServer | None = None
    _lab: LabProcess | None = None
    _folder: int = -1
    _frame: VmContext | None = None
    _host_keys: dict[str, bytes] = field(default_factory=dict)
    _files: BootFiles | None = None
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def lab(self) -> LabProcess:
        """The lab that the machines live in."""
        assert self._lab is not None
        return self._lab

    @property
    def folder(self) -> Path:
        """The folder of the micro-VMs' files, as the controller and its children see it."""
        return Path(f"/proc/{os.getpid()}/fd/{self._folder}")

    @property
    def key(self) -> Path:
        """The client's private key."""
        return self.folder / "client"

    @property
    def known_hosts(self) -> Path:
        """The machines' host keys, as ``ssh -o UserKnownHostsFile`` reads them."""
        return self.folder / "known_hosts"

    def __enter__(self) -> VmPool:
        """Make ready, without a machine yet. Raises TestbedError."""
        if reason := unmet():
            raise TestbedError(reason)
        try:
            self._held.enter_context(in_use(self.kernel))
            self.kernel = renewed(self.kernel)
            self._fork_server = ForkServer()
            self._lab = self._fork_server.lab()
            self._folder = self._lab.folder("/run/pool")
            self._keygen("client")
            self.known_hosts.touch(0o600)
            self._files = files = bootfiles.boot_files(self.kernel)
            if self.accelerator is None:
                self.accelerator = accelerators.remembered(self.kernel.release) or self._trial()
            self._frame = VmContext(self._lab, "/run/pool", self.folder, files.kernel, self.accelerator)
        except OSError as error:
            self.close()
            raise TestbedError(f"cannot make a pool of micro-VMs: {error}") from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """Switch every machine off: the kernel kills their emulators and frees all that they had."""
        self.machines.clear()
        if self._lab is not None:
            self._lab.close()
            self._lab = None
        if self._fork_server is not None:
            self._fork_server.close()
            self._fork_server = None
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
        self._held.close()

    def boot(
        self, specs: Sequence[VmSpec], progress: Progress = lambda _: None, timeout: float | None = None
    ) -> list[Vm]:
        """Boot machines side by side and wait until their sshds answer. Raises TestbedError with what a console said last.

        A machine that did not boot stays in the pool, to be looked at or rebooted.
        ``timeout`` (seconds) is for all of them together; without it, see ``BOOT``.
        """
        assert self._frame is not None
        return self._boot(self._frame, specs, progress, timeout)

    def _boot(self, frame: VmContext, specs: Sequence[VmSpec], progress: Progress, timeout: float | None) -> list[Vm]:
        for spec in specs:
            if spec.name in self.machines:
                raise TestbedError(f"there is a machine {spec.name} already")
        for spec in specs:
            self._keygen(f"{spec.name}.key")
            self._host_keys[spec.name] = (self.folder / f"{spec.name}.key").read_bytes()
        assert self._files is not None
        client = (self.folder / "client.pub").read_bytes()
        fresh = self.folder / "initrd.new"
        fresh.write_bytes(bootfiles.initrd(self._files, self.kernel, client, self._host_keys))
        fresh.replace(self.folder / "initrd")
        started = time.monotonic()
        extra = max(0, len(specs) - (os.cpu_count() or 1))
        deadline = started + (timeout if timeout is not None else BOOT + extra * BOOT / 3)
        made = []
        for spec in specs:
            machine = Vm(spec, self.free_numbers(1)[0], frame, self.lab.call("tap", spec.nics))
            self.machines[spec.name] = machine
            made.append(machine)
        progress(f"booting {len(made)} machines with Linux {self.kernel.release} ({frame.accelerator})")

        def up(machine: Vm) -> None:
            machine.start()
            machine.wait(deadline)
            progress(f"{machine.name} is up after {time.monotonic() - started:.1f} s")

        with ThreadPoolExecutor(max(1, len(made))) as pool:
            done = [pool.submit(up, machine) for machine in made]
        self.record_hosts()
        for result in done:
            result.result()
        return made

    def free_numbers(self, count: int) -> list[int]:
        """Return the lowest numbers that no machine has, from 1."""
        taken = {machine.number for machine in self.machines.values()}
        return list(islice((number for number in itertools.count(1) if number not in taken), count))

    def retire(self, names: Iterable[str]) -> None:
        """Switch off machines that are not needed any more. Even an idle one takes processor time."""
        for name in list(names):
            self.machines.pop(name).stop()
            self._host_keys.pop(name)
            for file in (f"{name}.key", f"{name}.key.pub"):
                (self.folder / file).unlink(missing_ok=True)

    def record_hosts(self) -> None:
        """Write ``known_hosts`` anew."""
        lines = []
        for name, machine in self.machines.items():
            kind, value = (self.folder / f"{name}.key.pub").read_text().split()[:2]
            lines += [f"[127.0.0.1]:{port} {kind} {value}\n" for port in machine.ssh_ports]
        self.known_hosts.write_text("".join(lines))

    def patch(self, cables: Mapping[Cable, PatchCable]) -> Patching:
        """Take all cables away and lay these. A NIC without one has no carrier. Raises TestbedError."""
        ends = [end for cable in cables.values() for end in cable.ends]
        for name, nic in ends:
            if name not in self.machines or not 0 <= nic < self.machines[name].spec.nics:
                raise TestbedError(f"no cable can end in NIC {nic} of {name}: there is none")
            if ends.count((name, nic)) > 1:
                raise TestbedError(f"NIC {nic} of {name} has more than one cable")
        self._links((end for end in self._all_ends() if end not in ends), up=False)
        panel = [
            (self.machines[cable.a].ports[cable.a_nic], self.machines[cable.b].ports[cable.b_nic], cable.rate)
            for cable in cables.values()
        ]
        try:
            self.lab.call("patch", panel)
        except OSError as error:
            raise TestbedError(f"the panel refused a cable: {error.strerror}") from None
        self._links(ends, up=True)
        return Patching(self, dict(cables))

    def _all_ends(self) -> list[tuple[str, int]]:
        return [(name, nic) for name, machine in self.machines.items() for nic in range(machine.spec.nics)]

    def _links(self, ends: Iterable[tuple[str, int]], up: bool) -> None:
        for name, nic in ends:
            self.machines[name].link(nic, up)

    def _keygen(self, name: str) -> None:
        path = self.folder / name
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "channover", "-f", str(path)]
        environment = isolated.environment()
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment
        )
        if done.returncode != 0:
            raise TestbedError(f"ssh-keygen made no key: {done.stderr.strip()[-200:]}")

    def _trial(self) -> str:
        """Find out, by booting once, whether KVM boots this kernel here, and remember it until this machine reboots."""
        found = "tcg"
        if accelerators.kvm_is_there():
            assert self._files is not None
            frame = VmContext(self.lab, "/run/pool", self.folder, self._files.kernel, "kvm")
            with contextlib.suppress(ChannoverError):
                self._boot(frame, [VmSpec("trial", nics=0)], lambda _: None, accelerators.TRIAL)
                found = "kvm"
            if trial := self.machines.pop("trial", None):
                trial.stop()
            self._host_keys.clear()
        accelerators.remember(self.kernel.release, found)
        return found
