"""``channover doctor`` beside runs of pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from channover.cli.stated import STATED

PLUGINS = Path(__file__).parents[2] / "plugins"


COLLECTED = """
import json
from pathlib import Path

from channover.pytest_plugin.stash import topology_of

def pytest_collection_finish(session):
    asked = []
    for item in session.items:
        behaviour = item.get_closest_marker("behaviour")
        if behaviour is not None:  # rivals are measured, and state none
            topology = topology_of(item)
            asked.append((behaviour.args[0], f"{topology.name} as {topology.links.value}"))
    Path("collected.json").write_text(json.dumps(asked))
"""


def test_what_the_suites_state_is_what_the_doctor_knows_of_them(tmp_path: Path) -> None:
    (tmp_path / "collecting.py").write_text(COLLECTED)
    environment = {**os.environ, "PYTHONPATH": f"{PLUGINS}:{tmp_path}"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "channover.pytest_plugin.hooks",
        "-p",
        "collecting",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, "--collect-only", str(PLUGINS.parent / "suites")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked: dict[str, set[str]] = {}
    for behaviour, topology in json.loads((tmp_path / "collected.json").read_text()):
        asked.setdefault(behaviour, set()).add(topology)
    assert {
        name: {f"{one.name} as {one.links.value}" for one in topologies} for name, topologies in STATED.items()
    } == asked
