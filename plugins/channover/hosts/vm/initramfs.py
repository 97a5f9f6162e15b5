"""What a micro-VM boots from: the kernel without its decompressor, and an initramfs that finds the root by itself.

virtme-ng makes the initramfs: busybox, and the modules that it takes to mount a root over 9p. Its own init would start
udev and a session, 10 s under emulation; ``guest.sh`` takes its place, by a second archive behind the first (the kernel
unpacks both, ``Documentation/driver-api/early-userspace/buffer-format.rst``).

A kernel that is not compressed is entered directly (PVH, ``CONFIG_PVH``), which saves the guest some seconds of unpacking.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import lzma
import os
import re
import shlex
import shutil
import struct
import subprocess
import tempfile
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from channover import isolated, ownership
from channover.errors import TestbedError
from channover.hosts.vm.kernel_images import OWN_CACHE, Kernel, cache

GUEST = Path(__file__).with_name("guest.sh")
KEPT = 3 * 86400
"""How long (seconds) boot files stay after others have taken their place: a machine that was booted from them may reboot."""
_PVH_NOTE = re.compile(rb"\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0")


@dataclass(frozen=True)
class BootFiles:
    """The kernel as qemu takes it, and virtme-ng's initramfs."""

    kernel: Path
    initramfs: Path


def busybox() -> Path | None:
    """Return a busybox that needs no library, if there is one."""
    for name in ("busybox-static", "busybox"):
        found = shutil.which(name, path=isolated.search_path())
        if found and b"/lib64/ld-" not in Path(found).read_bytes()[:8192]:
            return Path(found)
    return None


def unmet() -> str | None:
    """Say what is missing for boot files, with the remedy."""
    try:
        version("virtme-ng")
    except PackageNotFoundError:
        return "virtme-ng is not installed: pip install 'channover[vm]'"
    missing = {"modprobe": "kmod", "file": "file", "ssh-keygen": "openssh-client"}
    packages = [package for tool, package in missing.items() if shutil.which(tool, path=_path()) is None]
    if busybox() is None:
        packages.append("busybox-static")
    return (
        f"missing are the programs of {', '.join(packages)}: apt-get install {' '.join(packages)}" if packages else None
    )


def boot_files(kernel: Kernel) -> BootFiles:
    """Return a kernel's boot files, made if they are not in the cache. Raises TestbedError."""
    tool = busybox()
    assert tool is not None
    parts = [version("virtme-ng")]
    for path in (kernel.image, kernel.modules / "modules.dep", tool):
        status = path.stat()
        parts.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
    place = cache().parent / "boot"
    place.mkdir(parents=True, exist_ok=True)
    ownership.check(place, OWN_CACHE)
    made = place / f"{kernel.release}-{digest}"
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            for left in (*place.glob(".part-*"), *place.glob(f"{kernel.release}-*")):
                if time.time() - left.stat().st_mtime > KEPT:
                    shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=place, prefix=".part-") as folder:
                part = Path(folder) / "files"
                part.mkdir()
                _initramfs(kernel, tool, part / "initramfs")
                if (plain := uncompressed(kernel.image.read_bytes())) is not None:
                    (part / "vmlinux").write_bytes(plain)
                part.rename(made)
    plain_file = made / "vmlinux"
    return BootFiles(plain_file if plain_file.exists() else kernel.image, made / "initramfs")


def _path() -> str:
    return isolated.search_path("/usr/sbin", "/sbin")


def _initramfs(kernel: Kernel, tool: Path, path: Path) -> None:
    # The module names of virtme-run's --kimg come from the image's place: a tree with boot/ and lib/modules/.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        tree = Path(folder)
        (tree / "boot").mkdir()
        (tree / "lib/modules").mkdir(parents=True)
        (tree / "lib/modules" / kernel.release).symlink_to(kernel.modules)
        image = tree / "boot" / f"vmlinuz-{kernel.release}"
        try:
            os.link(kernel.image, image)
        except OSError:  # another file system
            shutil.copy(kernel.image, image)
        words = ["--kimg", str(image), "--mods", "auto", "--overlay-rwdir", "/etc", "--force-9p", "--disable-kvm"]
        words += ["--busybox", str(tool), "--save-initramfs", str(path), "--dry-run"]
        done = subprocess.run(
            isolated.python("virtme.commands.run", *words),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=isolated.environment(PATH=_path(), LC_ALL="C"),
        )
    if done.returncode != 0 or not path.exists():
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise TestbedError(f"virtme-ng made no initramfs for {kernel.image}: {said}")


def uncompressed(image: bytes) -> bytes | None:
    """Return the ELF kernel within a bzImage, or None where it cannot be had or entered directly.

    ``payload_offset`` and ``payload_length`` are those of ``Documentation/arch/x86/boot.rst``.
    """
    if image[0x202:0x206] != b"HdrS":
        return None
    start = ((image[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[start + offset : start + offset + length]
    plain = b""
    with contextlib.suppress(lzma.LZMAError, zlib.error, OSError, subprocess.CalledProcessError):
        if payload.startswith(b"\xfd7zXZ\0"):
            plain = lzma.LZMADecompressor().decompress(payload)
        elif payload.startswith(b"\x1f\x8b"):
            plain = zlib.decompressobj(31).decompress(payload)
        elif payload.startswith(b"\x28\xb5\x2f\xfd"):
            # The image's size stands behind the frame: zstd complains of it after it has written all.
            done = subprocess.run(
                ["zstd", "-dcq"],
                input=payload,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=False,
                env=isolated.environment(),
            )
            plain = done.stdout
    return plain if plain.startswith(b"\x7fELF") and _PVH_NOTE.search(plain) else None


def archive(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """Return a cpio archive (newc) of files in one folder level: name → content and mode."""
    names = {name.rsplit("/", 1)[0] for name in files if "/" in name}
    entries = [_entry(name, b"", 0o040755) for name in sorted(names)]
    entries += [_entry(name, content, 0o100000 | mode) for name, (content, mode) in files.items()]
    return b"".join([*entries, _entry("TRAILER!!!", b"", 0)])


def _entry(name: str, content: bytes, mode: int) -> bytes:
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)


def initrd(files: BootFiles, kernel: Kernel, client_key: bytes, host_keys: Mapping[str, bytes]) -> bytes:
    """Return the initrd of machines with these names, each with its host key."""
    tool = busybox()
    assert tool is not None
    settings = f"modules={shlex.quote(str(kernel.modules))}\nbusybox={shlex.quote(str(tool))}\n".encode()
    script = GUEST.read_bytes()
    ours = {
        "channover/settings": (settings, 0o644),
        "channover/guest.sh": (script, 0o755),
        "channover/client.pub": (client_key, 0o600),
        "init": (script, 0o755),
    }
    ours |= {f"channover/{name}.key": (key, 0o600) for name, key in host_keys.items()}
    base = files.initramfs.read_bytes()
    return base + b"\0" * (-len(base) % 4) + archive(ours)
