"""Hosts of the fault trials: two micro-VMs that their owner has set up, looked at past channover.

Each host is spoken to by ``ssh`` and heard on its serial console, which needs no network. What it shows of itself, and the
faults that are done in it, are in ``data/trials/guest.sh``.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from channover import syscalls as kernel
from channover.errors import TestbedError
from channover.hosts.guardian.lease import script
from channover.hosts.host import until
from channover.hosts.vm import kernel_images as kernels
from channover.hosts.vm.pool import PatchCable, Vm, VmPool, VmSpec
from channover.model.topology import Cable, Port

DATA = Path(__file__).parent / "data" / "trials"
RATE = 10_000_000
"""Of a cable, in bit/s: what emulated processors can carry, and a speed that the bonding driver knows."""
SSHD_TIMEOUT = 20.0
"""Seconds to wait for a host's sshd."""
_SAID = re.compile(r"^trial: (\w+) (\d+) (\d+\.\d\d)\s*$", re.MULTILINE)
_PLACE = "/root/trial"


@dataclass(frozen=True)
class Event:
    """What a host said on its console: what, of which run, at which uptime (seconds)."""

    what: str
    number: int
    uptime: float


@dataclass
class TrialHost:
    """One host. ``bare`` is what it shows when it has just booted, before its owner sets it up."""

    machine: Vm
    key: Path
    known_hosts: Path
    number: int
    bare: list[str] = field(default_factory=list)
    _booted: int = 0
    _offset: float = 0.0

    @property
    def name(self) -> str:
        return self.machine.name

    def run(self, command: str, input: str = "", timeout: float = 60.0, patience: float = SSHD_TIMEOUT) -> str:
        """Run a command by a connection of its own, and return what it prints. Raises TestbedError."""
        options = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.known_hosts}")
        words = ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.machine.ssh_port), "-o", "ConnectTimeout=20"]
        words += [word for option in options for word in ("-o", option)] + ["root@127.0.0.1", command]
        deadline = time.monotonic() + patience
        while True:
            try:
                done = subprocess.run(words, input=input, capture_output=True, text=True, timeout=timeout, check=False)
            except subprocess.TimeoutExpired:
                raise TestbedError(f"{self.name}: '{command[:60]}' did not end within {timeout:g} s") from None
            if done.returncode != 255 or time.monotonic() > deadline:  # 255 is ssh's own: sshd may just be starting
                break
            time.sleep(0.2)
        if done.returncode != 0:
            raise TestbedError(f"{self.name}: '{command[:60]}' ended with code {done.returncode}: {done.stderr[-400:]}")
        return done.stdout

    def _guest(self, words: str) -> str:
        return self.run(f"bash {_PLACE}/guest.sh {words}")

    def end_fault(self, remedy: str) -> None:
        """Have the host take a fault back. Raises TestbedError."""
        self._guest(f"fault {remedy}")

    def begin_fault(self, kind: str) -> None:
        """Have the host do a fault of its own, by a program that outlives this connection."""
        with contextlib.suppress(TestbedError):  # the connection may break; the host says on its console what was done
            self.run(f"setsid bash {_PLACE}/guest.sh fault {kind} </dev/null >/dev/null 2>&1 &", patience=0)

    def prepare(self) -> None:
        """Bring the trial's script, remember the bare host, set it up as its owner does, and watch it."""
        self._booted = self._boots()
        for name, text in (("guest.sh", (DATA / "guest.sh").read_text()), ("guardian.sh", script())):
            self.run(f"mkdir -p {_PLACE} && cat >{_PLACE}/{name}", text)
        found = self.settled()
        if self.bare:
            for line in differences(self.bare, found):
                raise TestbedError(f"{self.name}: after a reboot it is not as it was when first booted: {line}")
        self.bare = found
        self._guest(f"prepare {self.number}")
        seen = len(self.events())
        self.run(f"setsid bash {_PLACE}/guest.sh watch </dev/null >/dev/null 2>&1 &")
        until(lambda: len(self.events()) > seen, f"{self.name}: its watcher", 20, 0.1)

    def _boots(self) -> int:
        return self.machine.said().count(f"channover: {self.name} is up")

    def synchronize(self, uptime: float) -> None:
        """Note that the host said something just now, at this uptime: told on its console, it is heard within 0.05 s."""
        self._offset = uptime - time.monotonic()

    @property
    def rebooted(self) -> bool:
        """Whether it has booted since it was prepared."""
        return self._boots() > self._booted

    def moment(self, uptime: float) -> float:
        """Return the moment of this machine's monotonic clock at an uptime of the host's, by the last synchronization."""
        return uptime - self._offset

    def snapshot(self) -> list[str]:
        """Return what it shows of itself now. Raises TestbedError."""
        return self._guest("snapshot").splitlines()

    def seen(self) -> list[str]:
        """Return what it showed of itself when it was last set free. Raises TestbedError."""
        return self.run(f"cat {_PLACE}/free").splitlines()

    def settled(self) -> list[str]:
        """Return what it shows once that does not change any more. Raises TestbedError."""
        found = self.snapshot()
        for _ in range(10):
            last, found = found, self.snapshot()
            if last == found:
                return found
        raise TestbedError(f"{self.name} does not come to rest: {'; '.join(differences(last, found))[:600]}")

    def events(self) -> list[Event]:
        """Return what it has said on its console."""
        return [Event(what, int(number), float(up)) for what, number, up in _SAID.findall(self.machine.said())]


def differences(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return what differs, a line each. Kernel parameters that a module brought are no difference."""
    old, new = Counter(before), Counter(after)
    known = {line.partition("=")[0] for line in before}
    came = [
        line for line in (new - old).elements() if not line.startswith("parameter: ") or line.split("=")[0] in known
    ]
    return [f"- {line}" for line in (old - new).elements()] + [f"+ {line}" for line in came]


def room() -> Path:
    """Enter a mount namespace with a memory of its own for files: the kernel frees it when this process ends, however."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("trials", "/mnt", "tmpfs", 0, "mode=700")
    return Path("/mnt")


@contextmanager
def two_hosts(version: str, folder: Path, say: Callable[[str], None]) -> Iterator[tuple[TrialHost, TrialHost]]:
    """Boot two hosts with two cables between them, and write their keys into a folder. Raises TestbedError."""
    found = kernels.find(version)
    if isinstance(found, str):
        raise TestbedError(found)
    with VmPool(found) as vm_pool:
        say(f"booting left and right with Linux {found.release} ({vm_pool.accelerator})")
        made = vm_pool.boot([VmSpec(name, nics=2, speed=RATE) for name in ("left", "right")])
        vm_pool.patch(
            {
                Cable(Port("left", nic), Port("right", nic)): PatchCable("left", number, "right", number, RATE)
                for number, nic in enumerate(("a", "b"))
            }
        )
        for name in ("client", "known_hosts"):
            (folder / name).write_bytes((vm_pool.folder / name).read_bytes())
            (folder / name).chmod(0o600)
        left, right = (
            TrialHost(machine, folder / "client", folder / "known_hosts", number)
            for number, machine in enumerate(made, start=1)
        )
        prepare_all((left, right))
        yield left, right


def prepare_all(hosts: Sequence[TrialHost]) -> None:
    """Prepare hosts side by side. Raises TestbedError."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        for done in [pool.submit(host.prepare) for host in hosts]:
            done.result()


INVENTORY = """\
# Two hosts with two cables between them.
labs:
  trial:
    allows:
      nics_down: true
    hosts:
{hosts}
    cables:
      - ends: [left.a, right.a]
        rate: 10mbit
      - ends: [left.b, right.b]
        rate: 10mbit
"""
HOST = """\
      {name}:
        ssh: {{address: 127.0.0.1, port: {port}, user: {user}, key: client, known_hosts: known_hosts}}
        sudo: {sudo}
        management: mgmt0
        nics: {{a: eth1, b: eth2}}
"""


def inventory(hosts: Sequence[TrialHost], *, sudo: bool) -> str:
    """Return the inventory of the hosts: root logs in, or a user who may use sudo."""
    words = {"user": "lab" if sudo else "root", "sudo": "true" if sudo else "false"}
    return INVENTORY.format(
        hosts="".join(HOST.format(name=host.name, port=host.machine.ssh_port, **words) for host in hosts).rstrip("\n")
    )
