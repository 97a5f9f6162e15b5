"""Kernels for micro-VMs from Debian's own packages: fetched into a cache and unpacked there. Nothing is installed.

apt does the fetching, so that its mirror, proxy and trust in keys hold, with lists and sources of its own: the system's are
neither used nor changed (``apt-get(8)``, ``apt.conf(5)``).
"""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from channover import isolated
from channover.errors import UsageError
from channover.hosts.vm.kernel_images import PACKAGE, REQUIRED, SUITES, Kernel, cache, unpacked

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEED = 700_000_000
"""Bytes of disk that a fetch needs: the package, what is in it, and what is made of it."""
UNWANTED = ("sound", *(f"drivers/{name}" for name in ("gpu", "media", "iio", "staging", "scsi", "usb", "hid", "input")))
"""Modules for devices that no guest has."""
Progress = Callable[[str], None]


def fetch(version: str, progress: Progress = lambda _: None, *, mirror: str = "", again: bool = False) -> Kernel:
    """Fetch a kernel into the cache unless it is there (``again``: even so), whole or not at all. Raises UsageError.

    ``mirror`` is the address of a Debian mirror; without it, the one that this system's apt is configured with.
    """
    if version not in SUITES:
        raise UsageError(f"kernel fetch: there is no kernel '{version}'; there are: {', '.join(SUITES)}")
    place = cache()
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not again and (there := unpacked(version, place / version)):
            return there
        with _locked(place / f".{version}.lock", progress):
            if not again and (there := unpacked(version, place / version)):
                return there  # another run has fetched it by now
            return _fetch(version, place, mirror, progress)
    except OSError as error:
        raise UsageError(f"kernel fetch {version}: {error.filename or place}: {error.strerror}") from None


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another run fetches it, or boots it: waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(version: str, place: Path, mirror: str, progress: Progress) -> Kernel:
    for tool, brought_by in (("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("depmod", "kmod")):
        if shutil.which(tool, path=_path()) is None:
            raise UsageError(f"kernel fetch: there is no {tool} here: install {brought_by}, or give --kernel a vmlinuz")
    for left in place.glob(f".{version}.part-*"):  # of a fetch that was killed: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    free = shutil.disk_usage(place).free
    if free < NEED:
        raise UsageError(f"kernel fetch: {place} has {free >> 20} MiB free and needs {NEED >> 20} MiB")
    with tempfile.TemporaryDirectory(dir=place, prefix=f".{version}.part-") as folder:
        part = Path(folder)
        package, title = _downloaded(version, part, mirror or _mirror(), progress)
        tree = part / "tree"
        progress(f"unpacking {title}")
        _run("dpkg-deb", "-x", str(package), str(tree))
        (tree / PACKAGE).write_text(f"{title}\n")
        if not (tree / "lib").exists():  # merged /usr: modprobe -d looks in lib
            (tree / "lib").symlink_to("usr/lib")
        release = next((found.name.removeprefix("vmlinuz-") for found in (tree / "boot").glob("vmlinuz-*")), "")
        if not release:
            raise UsageError(f"kernel fetch {version}: {package.name} has no boot/vmlinuz")
        _plain_modules((tree / "lib/modules" / release / "kernel").resolve())
        _run("depmod", "-b", str(tree), release)
        made = unpacked(version, tree)
        if made is None:
            raise UsageError(f"kernel fetch {version}: {package.name} lacks one of the modules {', '.join(REQUIRED)}")
        tree.chmod(0o755)
        old = part / "old"
        if (place / version).exists():
            (place / version).rename(old)
        tree.rename(place / version)
    kept = unpacked(version, place / version)
    assert kept is not None
    return kept


def _plain_modules(folder: Path) -> None:
    """Leave out what no guest has a device for, and unpack the rest: a guest under emulation is slow at it."""
    for name in UNWANTED:
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in folder.rglob("*.ko.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()


def _downloaded(version: str, folder: Path, mirror: str, progress: Progress) -> tuple[Path, str]:
    """Fetch the package; return its file, and its name and version."""
    failures = []
    for suite in SUITES[version]:
        address = mirror
        if suite.endswith("-security"):
            address = re.sub(r"/debian/?$", "/debian-security", mirror)
            if address == mirror:
                continue
        configuration = _configuration(folder / suite, address, suite)
        progress(f"asking {suite} for linux-image-{version}")
        asked = _apt(configuration, folder, "apt-get", "-q", "update", "--error-on=any")
        if asked.returncode != 0:
            failures.append(f"{suite}: {_last_words(asked)}")
            continue
        depends = _apt(configuration, folder, "apt-cache", "depends", "linux-image-amd64").stdout
        found = re.search(rf"Depends: (linux-image-{re.escape(version)}\.\S+)", depends)
        if not found:
            failures.append(f"{suite} has another version")
            continue
        progress(f"fetching {found[1]} (about 100 MB)")
        done = _apt(configuration, folder, "apt-get", "-q", "download", found[1])
        packages = list(folder.glob("linux-image-*.deb"))
        if done.returncode == 0 and packages:
            number = packages[0].name.split("_")[1].replace("%3a", ":")
            return packages[0], f"{found[1]} {number}"
        failures.append(f"{suite}: {_last_words(done)}")
    raise UsageError(
        f"kernel fetch {version}: no package ({'; '.join(failures)}): check the network and apt's sources, name another "
        "mirror with --mirror URL, or give --kernel the path of a vmlinuz"
    )


def _mirror() -> str:
    """Return the address of the Debian archive that this system's apt is configured with. Raises UsageError."""
    done = _run("apt-get", "indextargets", "--format", "$(CREATED_BY) $(RELEASE) $(REPO_URI)", check=False)
    suites = {suite for names in SUITES.values() for suite in names} | {"sid", "forky", "stable", "testing"}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "Packages" and words[1] in suites and not words[1].endswith("-security"):
            return words[2]
    raise UsageError(
        "kernel fetch: this system's apt knows no Debian archive: name a mirror with --mirror URL (on Ubuntu also: "
        "apt-get install debian-archive-keyring), or give --kernel the path of a vmlinuz"
    )


def _configuration(folder: Path, mirror: str, suite: str) -> Path:
    """Write what apt needs to look into one suite and nowhere else; return its configuration file."""
    for name in ("lists/partial", "cache/archives/partial", "empty"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    signed = f" signed-by={KEYRING}" if KEYRING.exists() else ""
    (folder / "sources.list").write_text(f"deb [arch=amd64{signed}] {mirror} {suite} main\n")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": folder / "empty",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": folder / "empty",
        "Dir::State": folder,
        "Dir::State::Lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Architecture": "amd64",
        "APT::Default-Release": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": 2,
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
    lines += [f"#clear {name};" for name in (*hooks, "Acquire::IndexTargets::deb::DEP-11", "APT::Architectures")]
    path = folder / "apt.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


def _path() -> str:
    return isolated.search_path("/usr/sbin", "/sbin")


def _apt(configuration: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return _run(words[0], "-c", str(configuration), *words[1:], check=False, folder=folder)


def _run(*words: str, check: bool = True, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = isolated.environment(LC_ALL="C", PATH=_path())
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, cwd=folder, env=environment, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise UsageError(f"kernel fetch: there is no {words[0]} here") from None
    if check and done.returncode != 0:
        raise UsageError(f"kernel fetch: {words[0]} failed: {_last_words(done)}")
    return done


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")] or lines or [f"code {done.returncode}"]
    return errors[0].removeprefix("E: ")[:300]
