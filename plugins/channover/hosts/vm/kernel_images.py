"""Kernels that micro-VMs can boot: those of the cache, or one that the user names by its image.

Those of the cache are Debian's (:mod:`channover.hosts.vm.kernel_packages`). The plain amd64 flavour has what a guest needs
as modules (9p, overlay, virtio, bonding); the cloud flavour has no 9p.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from channover import ownership
from channover.errors import TestbedError

SUITES = {"6.1": ("bookworm-security", "bookworm"), "6.12": ("bookworm-backports", "trixie")}
"""Debian's suites that have each version, in the order in which they are asked."""

PACKAGE = "package.txt"
OWN_CACHE = "remove it, or set XDG_CACHE_HOME to a folder that only you can write"
"""What to do where the cache may hold what somebody else has put there."""
REQUIRED = ("9p", "overlay", "virtio_net", "bonding", "tun")
"""Modules without which a kernel is of no use here."""


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot: the name it is asked for by, its release (``uname -r``), its image, its modules' folder.

    ``modules`` is the folder that holds ``modules.dep``; ``package`` is Debian's package and version, where it is one.
    """

    name: str
    release: str
    image: Path
    modules: Path
    package: str = ""


def cache() -> Path:
    """Return the folder where kernels are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "channover" / "kernels"


def find(name: str) -> Kernel | str:
    """Return a kernel by its version (6.1, 6.12), its image, or a folder with boot/vmlinuz-* and lib/modules.

    Where there is none, return the reason.
    """
    if name in SUITES:
        if reason := ownership.complaint(cache() / name):
            return f"kernel {name} is not used, since {reason}: {OWN_CACHE}"
        found = unpacked(name, cache() / name)
        return found or f"kernel {name} is not here: 'channover kernel fetch {name}' fetches it"
    path = Path(name)
    if path.is_dir():
        path = max(
            (path / "boot").glob("vmlinuz-*"), key=lambda image: image.stat().st_mtime, default=path / "boot/vmlinuz"
        )
    if not path.is_file():
        known = ", ".join(SUITES)
        return f"--kernel {name}: there is no {path}, and the known versions are {known}: name one, or a vmlinuz's path"
    try:
        release = release_of(path)
    except (OSError, ValueError) as error:
        return f"--kernel {name}: {error}: name a vmlinuz of x86-64"
    root = path.resolve().parent.parent
    for modules in (root / "lib/modules" / release, root / "usr/lib/modules" / release, path.resolve().parent):
        if (modules / "modules.dep").is_file() and os.access(path, os.R_OK):
            return Kernel(name, release, path.resolve(), modules)
    return (
        f"--kernel {name}: its modules are not in {root}/lib/modules/{release} with a modules.dep: "
        f"unpack them there and run 'depmod -b {root} {release}'"
    )


def renewed(kernel: Kernel) -> Kernel:
    """Return a kernel as the cache has it now. Raises TestbedError where it is gone."""
    found = find(kernel.name) if kernel.name in SUITES else kernel
    if isinstance(found, str):
        raise TestbedError(found)
    return found


def fetched() -> list[Kernel]:
    """Return the kernels of the cache."""
    return [kernel for name in SUITES if (kernel := unpacked(name, cache() / name))]


def any_unmet() -> str | None:
    """Say how to get a kernel where the cache has none."""
    return None if fetched() else "there is no kernel for micro-VMs here: 'channover kernel fetch 6.1' fetches one"


@contextlib.contextmanager
def in_use(kernel: Kernel) -> Iterator[None]:
    """Keep a kernel of the cache from being replaced for the length of a block: guests load its modules as they go."""
    if kernel.name not in SUITES:
        yield
        return
    with (cache() / f".{kernel.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def unpacked(name: str, tree: Path) -> Kernel | None:
    """Return the kernel of an unpacked package, if all that is needed is there."""
    for image in sorted((tree / "boot").glob("vmlinuz-*")):
        release = image.name.removeprefix("vmlinuz-")
        modules = (tree / "lib/modules" / release).resolve()
        with contextlib.suppress(OSError):
            index = (modules / "modules.dep").read_text()
            if all(re.search(rf"/{module}\.ko\S*:", index) for module in REQUIRED):
                return Kernel(name, release, image, modules, (tree / PACKAGE).read_text().strip())
    return None


def release_of(image: Path) -> str:
    """Return the release that a bzImage says it is (``Documentation/arch/x86/boot.rst``). Raises OSError, ValueError."""
    with image.open("rb") as file:
        head = file.read(0x210)
        if head[0x202:0x206] != b"HdrS":
            raise ValueError("it is no Linux image")
        (offset,) = struct.unpack_from("<H", head, 0x20E)
        file.seek(0x200 + offset)
        return file.read(256).split(b"\0")[0].split()[0].decode()
