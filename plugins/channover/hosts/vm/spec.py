"""What a micro-VM is asked to be, and what the micro-VMs of one run have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from channover.hosts.netns.client import LabProcess

MOST_SPACES = 15
"""sshd listens at 16 places at most (``MAX_LISTEN_SOCKS`` in ``sshd.c``), and one leads to the machine itself."""


@dataclass(frozen=True)
class VmSpec:
    """A machine that is wanted: the speed (bit/s) that its test NICs say they have, its memory in MiB."""

    name: str
    nics: int = 3
    speed: int = 100_000_000
    memory: int = 256
    spaces: int = 0
    """How many hosts it is, where they are namespaces of one machine: each has one of the test NICs. 0: it is one itself."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", self.name):
            raise ValueError(f"a machine is named by letters, digits and hyphens, not '{self.name}'")
        if not 0 <= self.nics <= 128:
            raise ValueError(f"a machine has up to 128 NICs, not {self.nics}")
        if self.spaces not in (0, self.nics):
            raise ValueError(f"{self.spaces} hosts within a machine have a NIC each, not {self.nics}")
        if self.spaces > MOST_SPACES:
            raise ValueError(f"a machine can be up to {MOST_SPACES} hosts, not {self.spaces}")


@dataclass(frozen=True)
class VmContext:
    """What the micro-VMs of one run have in common: the lab they live in, the folder that both sides see, what they boot.

    ``inside`` is the folder's path in the lab, ``folder`` its path for the controller.
    """

    lab: LabProcess
    inside: str
    folder: Path
    kernel: Path
    accelerator: str


def mac(number: int, nic: int) -> str:
    """Return the MAC address of a NIC: 0 is the management NIC, test NICs are counted from 1."""
    return f"52:54:00:c0:{number:02x}:{nic:02x}"
