"""Kernels for micro-VMs: fetched by the real apt from an archive made here, whole or not at all."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import lzma
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from channover.cli import kernel as cli_kernel
from channover.errors import UsageError
from channover.hosts.vm import initramfs as bootfiles
from channover.hosts.vm import kernel_images as kernels
from channover.hosts.vm import kernel_packages

RELEASE = "6.1.0-99-amd64"
MODULES = ("9p", "overlay", "virtio_net", "bonding", "tun")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/channover/kernels"


def image(release: str) -> bytes:
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x100)
    text = f"{release} (builder) #1".encode()
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head)


def build(folder: Path, name: str, depends: str, tree: Path | None) -> Path:
    root = folder / name
    if tree is not None:
        shutil.copytree(tree, root)
    (root / "DEBIAN").mkdir(parents=True)
    lines = [f"Package: {name}", "Version: 6.1.99-1", "Architecture: amd64", "Maintainer: nobody <nobody@example.org>"]
    lines += [f"Depends: {depends}"] if depends else []
    (root / "DEBIAN/control").write_text("\n".join([*lines, "Description: made for a test", ""]))
    made = folder / f"{name}_6.1.99-1_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(made)], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A signed archive with one suite, and the keyring that trusts it."""
    for tool in ("gpg", "apt-get", "dpkg-deb", "depmod"):
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            pytest.skip(f"there is no {tool} here to make an archive with: apt-get install gpg apt dpkg kmod")
    base = tmp_path_factory.mktemp("archive")
    base.chmod(0o755)
    tree = base / "tree"
    (tree / "boot").mkdir(parents=True)
    (tree / f"boot/vmlinuz-{RELEASE}").write_bytes(image(RELEASE))
    folder = tree / "lib/modules" / RELEASE / "kernel"
    (folder / "sound").mkdir(parents=True)
    (folder / "sound/beep.ko").write_bytes(b"")
    for module in MODULES:
        (folder / f"{module}.ko").write_bytes(b"")
    (folder / "tun.ko").unlink()
    (folder / "tun.ko.xz").write_bytes(lzma.compress(b""))
    packages = [build(base, "linux-image-amd64", f"linux-image-{RELEASE}", None)]
    packages.append(build(base, f"linux-image-{RELEASE}", "", tree))
    suite = base / "debian/dists/bookworm"
    index = suite / "main/binary-amd64"
    index.mkdir(parents=True)
    paragraphs = []
    for package in packages:
        content = package.read_bytes()
        package.rename(base / "debian" / package.name)
        control = (base / package.name.split("_")[0] / "DEBIAN/control").read_text()
        paragraphs.append(
            f"{control}Filename: {package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    listing = "\n".join(paragraphs).encode()
    (index / "Packages").write_bytes(listing)
    (suite / "Release").write_text(
        "Suite: bookworm\nCodename: bookworm\nComponents: main\nArchitectures: amd64\nSHA256:\n"
        f" {hashlib.sha256(listing).hexdigest()} {len(listing)} main/binary-amd64/Packages\n"
    )
    home = base / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "archive <archive@example.org>", "ed25519", "sign"], check=True)
    subprocess.run([*gpg, "--output", str(suite / "InRelease"), "--clearsign", str(suite / "Release")], check=True)
    ring = base / "ring.gpg"
    subprocess.run([*gpg, "--output", str(ring), "--export"], check=True)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    return base / "debian", ring


@pytest.fixture
def mirror(archive: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(kernel_packages, "KEYRING", archive[1])
    return f"file://{archive[0]}"


def system_apt() -> list[tuple[str, float]]:
    folders = ("/etc/apt", "/var/lib/apt/lists", "/var/lib/dpkg")
    return sorted((str(path), path.stat().st_mtime) for folder in folders for path in Path(folder).rglob("*"))


def left_over(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if not path.name.endswith(".lock")]


def test_a_kernel_is_fetched_and_found(mirror: str, cache: Path) -> None:
    before = system_apt()
    made = kernel_packages.fetch("6.1", mirror=mirror)
    assert kernels.find("6.1") == made
    assert (made.release, made.package) == (RELEASE, f"linux-image-{RELEASE} 6.1.99-1")
    assert made.image.is_file()
    files = {path.name for path in made.modules.rglob("*.ko*")}
    assert files == {f"{module}.ko" for module in MODULES}  # no sound, nothing packed
    assert left_over(cache) == ["6.1"]
    assert system_apt() == before


def test_what_is_there_needs_no_network(mirror: str) -> None:
    made = kernel_packages.fetch("6.1", mirror=mirror)
    assert kernel_packages.fetch("6.1", mirror="file:///nowhere") == made


def test_two_fetches_at_once_are_one(mirror: str) -> None:
    said: list[str] = []
    threads = [
        threading.Thread(target=kernel_packages.fetch, args=("6.1", said.append), kwargs={"mirror": mirror})
        for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(words.startswith("fetching") for words in said) == 1
    assert not isinstance(kernels.find("6.1"), str)


def test_one_that_is_in_use_is_not_replaced(mirror: str) -> None:
    made = kernel_packages.fetch("6.1", mirror=mirror)
    said: list[str] = []
    with kernels.in_use(made):
        thread = threading.Thread(
            target=kernel_packages.fetch, args=("6.1", said.append), kwargs={"mirror": mirror, "again": True}
        )
        thread.start()
        thread.join(1.5)
        assert thread.is_alive()
        assert said == ["another run fetches it, or boots it: waiting"]
    thread.join()
    assert not isinstance(kernels.find("6.1"), str)


def test_an_archive_that_nobody_trusts_gives_nothing(mirror: str, cache: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "debian"
    shutil.copytree(mirror.removeprefix("file://"), stranger)
    (stranger / "dists/bookworm/InRelease").unlink()
    with pytest.raises(UsageError, match=r"kernel fetch 6.1: no package \(.*bookworm: .*--mirror URL") as raised:
        kernel_packages.fetch("6.1", mirror=f"file://{stranger}")
    assert "\n" not in str(raised.value)
    assert left_over(cache) == []


def test_a_package_that_was_changed_is_refused(mirror: str, cache: Path, tmp_path: Path) -> None:
    forged = tmp_path / "debian"
    shutil.copytree(mirror.removeprefix("file://"), forged)
    package = forged / f"linux-image-{RELEASE}_6.1.99-1_amd64.deb"
    content = bytearray(package.read_bytes())
    content[-1] ^= 1
    package.write_bytes(content)
    with pytest.raises(UsageError, match="no package"):
        kernel_packages.fetch("6.1", mirror=f"file://{forged}")
    assert left_over(cache) == []


def test_a_killed_fetch_leaves_nothing_for_long(mirror: str, cache: Path) -> None:
    (cache / ".6.1.part-dead/tree").mkdir(parents=True)
    kernel_packages.fetch("6.1", mirror=mirror)
    assert left_over(cache) == ["6.1"]


def test_the_disk_is_asked_first(mirror: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_packages, "NEED", 1 << 60)
    with pytest.raises(UsageError, match=f"{cache} has .* MiB free and needs"):
        kernel_packages.fetch("6.1", mirror=mirror)


def test_a_version_that_nobody_has_is_named(cache: Path) -> None:
    assert kernels.find("6.12") == "kernel 6.12 is not here: 'channover kernel fetch 6.12' fetches it"
    with pytest.raises(UsageError, match=r"there is no kernel .5\.4.; there are: 6\.1, 6\.12"):
        kernel_packages.fetch("5.4")
    assert not cache.exists()


def test_a_kernel_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    path = tmp_path / "boot/vmlinuz-7"
    assert "known versions are 6.1, 6.12" in str(kernels.find(str(path)))
    path.write_bytes(b"\x7fELF" * 400)
    assert "it is no Linux image" in str(kernels.find(str(path)))
    path.write_bytes(image("7.0.1"))
    assert f"run 'depmod -b {tmp_path} 7.0.1'" in str(kernels.find(str(path)))
    modules = tmp_path / "lib/modules/7.0.1"
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()
    for name in (path, tmp_path):
        found = kernels.find(str(name))
        assert not isinstance(found, str)
        assert (found.release, found.image, found.modules) == ("7.0.1", path, modules)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli_kernel.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["kernel", *words])
    return int(arguments.run(arguments))


def test_the_commands(mirror: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("list") == 0
    assert "6.1: not here; 'channover kernel fetch 6.1' fetches it" in capsys.readouterr().out
    assert command("fetch", "6.1", "--mirror", mirror) == 0
    assert f"6.1: linux-image-{RELEASE} 6.1.99-1 in " in capsys.readouterr().out
    assert command("list") == 0
    assert f"6.1: linux-image-{RELEASE} 6.1.99-1 in " in capsys.readouterr().out


def test_a_guest_s_files_are_an_archive(tmp_path: Path) -> None:
    busybox = bootfiles.busybox()
    if busybox is None:
        pytest.skip("there is no static busybox here to read the archive with: apt-get install busybox-static")
    made = bootfiles.archive({"etc/odd": (b"12345", 0o600), "init": (b"#!/bin/sh\n", 0o755)})
    subprocess.run([str(busybox), "cpio", "-i"], input=made, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "etc/odd").read_bytes() == b"12345"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/odd").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress])
def test_a_kernel_is_unpacked_where_it_can_be_entered_directly(pack: Callable[[bytes], bytes]) -> None:
    def packed(kernel: bytes) -> bytes:
        payload = pack(kernel)
        head = bytearray(image(RELEASE))
        head[0x1F1] = 1
        struct.pack_into("<II", head, 0x248, 16, len(payload))
        return bytes(head) + b"\0" * 16 + payload + b"size"

    note = struct.pack("<III", 4, 8, 18) + b"Xen\0" + bytes(8)
    assert bootfiles.uncompressed(packed(b"\x7fELF" + note)) == b"\x7fELF" + note
    assert bootfiles.uncompressed(packed(b"\x7fELF" + bytes(64))) is None
    assert bootfiles.uncompressed(b"\x7fELF") is None
