"""The examples for continuous integration are what GitHub and GitLab take, by these services' own schemas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def faults(schema: str, file: Path) -> str:
    """Return what the schema, of those that come with check-jsonschema, finds in a file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "schema", "wrong"),
    [
        ("example-workflow.yml", "vendor.github-workflows", ("runs-on:", "runs_on:")),
        ("example-gitlab-ci.yml", "vendor.gitlab-ci", ("when: always", "when: sometimes")),
    ],
)
def test_an_example_of_a_job_fits_its_schema(name: str, schema: str, wrong: tuple[str, str], tmp_path: Path) -> None:
    assert faults(schema, DOCS / name) == ""
    text = (DOCS / name).read_text()
    assert wrong[0] in text
    (tmp_path / name).write_text(text.replace(*wrong))
    assert faults(schema, tmp_path / name), "the schema is no check"
