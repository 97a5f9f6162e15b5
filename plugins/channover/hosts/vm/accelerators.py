"""What runs a micro-VM's instructions: KVM where it truly boots, emulation (TCG) elsewhere.

That /dev/kvm is there proves little: on some machines a stock kernel hangs in it. One boot is tried, and its outcome
kept until this machine reboots.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from channover import ownership
from channover.hosts.vm.kernel_images import cache

TRIAL = 15.0
"""How long (seconds) the trial boot may take: with KVM it takes about two."""


def kvm_is_there() -> bool:
    """Whether there is a /dev/kvm to try."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK)


def _file(release: str) -> Path:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return cache().parent / "accelerators" / f"{boot}-{release}"


def remembered(release: str) -> str | None:
    """Return what the trial found for a kernel since this machine booted: kvm, tcg, or None."""
    if ownership.complaint(_file(release)):
        return None
    try:
        found = _file(release).read_text().strip()
    except OSError:
        return None
    return found if found in ("kvm", "tcg") else None


def remember(release: str, found: str) -> None:
    """Keep what the trial found, and forget what was found before this machine booted."""
    path = _file(release)
    boot = path.name[:36]
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if ownership.complaint(path):
            return
        for old in path.parent.iterdir():
            if not old.name.startswith(boot):
                old.unlink(missing_ok=True)
        path.write_text(found)
