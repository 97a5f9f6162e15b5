"""The container's file: what it installs is tools/setup's to say, so that the two cannot drift apart."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
STEPS = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE))
BEFORE = {"ca-certificates", "git", "make"}
"""What tools/setup needs itself in a Debian that has nothing."""


def steps(word: str) -> list[str]:
    return [line.removeprefix(word).strip() for line in STEPS.splitlines() if line.startswith(f"{word} ")]


def packages() -> set[str]:
    """The packages that tools/setup names, whatever its options."""
    text = (ROOT / "tools/setup").read_text()
    (function,) = re.findall(r"^needs\(\) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    return {words[1] for line in function.splitlines() if len(words := line.split()) == 2 and not line.startswith(" ")}


def test_it_installs_what_setup_says_and_names_no_package_of_setup_s_itself() -> None:
    assert steps("FROM") == ["debian:12-slim"], "no registry by its name"
    first, programs, all_ = steps("RUN")
    assert set(re.findall(r"install -y --no-install-recommends ([a-z -]+) &&", first)[0].split()) == BEFORE
    assert programs.split(" && ")[0] == "tools/setup --programs" and all_ == "tools/setup"
    assert len(packages()) > 15 and "iperf3" in packages()
    assert "docs/container.md" in (ROOT / "Containerfile").read_text() and (ROOT / "docs/container.md").is_file()
    assert not packages() & set(STEPS.replace("/", " ").split())


def test_programs_alone_are_set_up_without_python_s_packages() -> None:
    script = (ROOT / "tools/setup").read_text()
    assert script.index('if [ "$programs" = yes ]; then exit; fi') < script.rindex("virtual_environment\n")
    refused = subprocess.run(["bash", "tools/setup", "--odd"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "[--programs]" in refused.stderr


def test_what_it_copies_is_there_and_what_this_machine_made_stays_out() -> None:
    assert steps("COPY") == ["tools/setup tools/setup", ". ."] and (ROOT / "tools/setup").is_file()
    assert steps("CMD") == ['["make", "lab"]']
    lines = (ROOT / ".containerignore").read_text().splitlines()
    ignored = [line for line in lines if line and not line.startswith(("#", "!"))]
    made = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith(".")]
    assert made and all(any(fnmatch(name, line) for line in ignored) for name in made)
