"""A disk that is full, a folder that cannot be written or is gone: one line, and what was measured is saved if it can be."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import channover
from channover.report.results import Results
from tests.support import runs

PLUGINS = str(Path(channover.__file__).parent.parent)
SUITE = """
import os
import shutil
from pathlib import Path
import allure
from channover.testing import behaviour

REPORTS = Path(os.environ["REPORTS"])

def trouble():
    kind = os.environ["TROUBLE"]
    if kind == "full":
        with open(REPORTS / "ballast", "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
    elif kind == "gone":
        shutil.rmtree((REPORTS / "latest").resolve())
    elif kind == "read-only":
        os.system(f"mount -o remount,ro {REPORTS}")

@behaviour("MP-8")
def test_before(counted):
    assert counted("paths", 1) == 1

@behaviour("MP-7")
def test_while_it_happens(counted):
    assert counted("paths", 1) == 1
    trouble()
    allure.attach("x" * 100_000, "much")

@behaviour("MP-5")
def test_after(counted):
    assert counted("paths", 1) == 1
"""


def on_small_disk(place: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script while a disk of 1 MiB is mounted, in a mount namespace of its own; what it holds is copied out."""
    place.mkdir()
    whole = (
        f"mount -t tmpfs -o size=1m none {place} && {script}; code=$?; "
        f"mount -o remount,rw {place}; rm -f {place}/ballast; cp -a {place} {place}.saved; exit $code"
    )
    environment = {**os.environ, "PYTHONPATH": PLUGINS, **variables}
    environment["PYTEST_ADDOPTS"] = "-p no:hypothesispytest"  # half a second in each process
    words = ["unshare", "--mount", "sh", "-c", whole]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)


def left_in(place: Path) -> list[Path]:
    """Return the files that a disk held at the end; none of them is half-made."""
    found = [path for path in place.with_name(f"{place.name}.saved").rglob("*") if path.is_file()]
    assert [path.name for path in found if path.name.endswith(".tmp") or path.name.startswith(".")] == []
    return found


ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a disk of a test's own is mounted: run as root")


@ROOT
@pytest.mark.lab
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("full", "No space left on device"),
        ("gone", "No such file or directory"),
        ("read-only", "Read-only file system"),
    ],
)
def test_results_that_cannot_be_kept_are_one_line_and_saved_elsewhere(
    tmp_path: Path, trouble: str, words: str, workers: tuple[str, ...]
) -> None:
    (tmp_path / "test_it.py").write_text(SUITE)
    (tmp_path / "tmp").mkdir()
    pytest_words = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "channover.pytest_plugin.hooks",
        f"--rootdir={tmp_path}",
        *workers,
    ]
    script = f"cd {tmp_path} && {shlex.join(pytest_words)}"
    reports = tmp_path / "reports"
    done = on_small_disk(reports, script, TROUBLE=trouble, REPORTS=str(reports), TMPDIR=str(tmp_path / "tmp"))
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "INTERNALERROR" not in said and "Traceback" not in said
    lines = [line for line in said.splitlines() if "cannot be kept" in line]
    results = [line for line in lines if line.startswith("results cannot be kept in ")]
    evidence = [line for line in lines if line.startswith("evidence cannot be kept in ")]
    assert len(results) == 1 and words in results[0] and len(evidence) == 1 and words in evidence[0]
    assert sorted(lines) == sorted([*results, *evidence])
    (rescued,) = (tmp_path / "tmp").glob("channover-2*/results.json")
    assert str(rescued) in results[0]
    assert {test.outcome for test in Results.from_json(rescued.read_text("utf-8")).tests} == {"passed"}
    assert len(Results.from_json(rescued.read_text("utf-8")).tests) == 3
    left = left_in(reports)
    assert not {"report.html", "certificate.html"} & {path.name for path in left}
    for path in left:
        if path.name == "results.json":  # of before the trouble, and whole
            assert Results.from_json(path.read_text("utf-8")).run.interrupted


@ROOT
def test_commands_that_find_no_room_are_one_line_and_leave_what_was_there(tmp_path: Path) -> None:
    run = runs.saved(runs.results(runs.test()), tmp_path / "run")
    (run / "certificate.html").write_text("<p>the former one</p>")
    (run / "allure-results").mkdir()
    (run / "allure-results" / "x-attachment.txt").write_bytes(os.urandom(200_000))
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    place, program = tmp_path / "disk", Path(sys.executable).with_name("channover")
    fill = f"dd if=/dev/zero of={place}/ballast bs=4k 2>/dev/null"
    script = "; ".join(
        [
            f"cp -a {run} {place}/run; {fill}",
            f"{program} certificate {place}/run --no-pdf; echo code $?",
            f"{program} sign-off {place}/run --key {key} --no-pdf; echo code $?",
            f"{program} report {place}/run; echo code $?",
            # room for a certificate, and not for a bundle
            f"rm {place}/ballast; dd if=/dev/zero of={place}/ballast bs=4k count=175 2>/dev/null",
            f"{program} sign-off {place}/run --key {key} --no-pdf; echo code $?",
        ]
    )
    done = on_small_disk(place, script)
    assert done.stdout.splitlines() == ["code 2"] * 4, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 4 and all("no space left on device" in line.lower() for line in lines), lines
    assert "the certificate cannot be written" in lines[0] and "the bundle cannot be written" in lines[3]
    left = {path.name: path.read_bytes() for path in left_in(place)}
    assert {*left} == {"results.json", "certificate.html", "certificate.1.html", "x-attachment.txt"}
    assert left["certificate.1.html"] == b"<p>the former one</p>" and left["certificate.html"].rstrip().endswith(
        b"</html>"
    )
