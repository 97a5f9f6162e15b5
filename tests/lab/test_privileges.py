"""Root that is none: containers without capabilities, without a device, with a read-only /proc/sys."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from channover.hosts import privileges

BIN = Path(sys.executable).parent
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("setpriv") is None, reason="drops root's capabilities: run as root"
    ),
]


def without(*options: str, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["setpriv", *options, *words], capture_output=True, text=True, check=False, timeout=60)


DOCTOR = (str(BIN / "channover"), "doctor", "--target", "netns")
DROPPED = {
    "-sys_admin": ("CAP_SYS_ADMIN",),
    "-net_admin": ("CAP_NET_ADMIN",),
    "-sys_admin,-net_admin": ("CAP_SYS_ADMIN", "CAP_NET_ADMIN"),
    "-all": ("CAP_SYS_ADMIN", "CAP_NET_ADMIN"),
}


@pytest.mark.parametrize("dropped", DROPPED)
def test_a_capability_that_root_lacks_is_named(dropped: str) -> None:
    done = without("--bounding-set", dropped, "--inh-caps", dropped, words=DOCTOR)
    assert done.stderr == ""
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("MP-1 ")]
    assert all(name in line for name in DROPPED[dropped]), line
    assert "--cap-add" in line
    for wrong in ("run as root", "CONFIG_", *{"CAP_SYS_ADMIN", "CAP_NET_ADMIN"} - set(DROPPED[dropped])):
        assert wrong not in line.partition("docker")[0], line


@pytest.mark.parametrize("dropped", DROPPED)
def test_a_run_says_it_too(dropped: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from channover.testing import behaviour\n@behaviour('MP-1')\ndef test_it(multipath): pass\n"
    )
    command = (
        str(BIN / "pytest"),
        "-p",
        "no:cacheprovider",
        "-rs",
        "-n0",
        "--reports",
        str(tmp_path / "r"),
        str(tmp_path),
    )
    done = without("--bounding-set", dropped, "--inh-caps", dropped, words=command)
    assert all(name in done.stdout + done.stderr for name in DROPPED[dropped]), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("options", [("--no-new-privs",), ("--bounding-set", "-sys_module,-sys_time")])
def test_what_labs_do_not_need_may_be_missing(options: tuple[str, ...]) -> None:
    done = without(*options, words=DOCTOR)
    assert "namespaces are refused" not in done.stdout, done.stdout
    assert done.stderr == ""


def test_a_container_without_tun_is_told_how_to_get_it() -> None:
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh", *DOCTOR)
    done = without(words=hidden)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("tun ")]
    assert "/dev/net/tun" in line and "docker run --device /dev/net/tun" in line


def test_a_kernel_that_says_nothing_is_not_guessed_at() -> None:
    assert privileges.lacking({}, root=True) is None
    assert privileges.lacking({"CapEff": "0"}, root=False) is None
    assert "CAP_SYS_ADMIN" in (privileges.lacking({"CapEff": "0000000000001000"}, root=True) or "")
    assert privileges.lacking({"CapEff": "000001ffffffffff"}, root=True) is None
