"""What is secret stays out of all that a run of pytest writes."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

import channover
from channover.report.results import Results

URL = "postgres://lab:" + quote("gr4nd&secret", safe="") + "@db.example/lab"


SUITE = """
import os
import allure
import pytest
from channover.testing import behaviour

@behaviour("MP-8")
@pytest.mark.parametrize("word", [os.environ["LAB_PASSWORD"]])
def test_fails(word, monkeypatch, tmp_path_factory):
    file = tmp_path_factory.mktemp("f") / "f"
    monkeypatch.setenv("LATE_TOKEN", "only-in-this-test")
    with allure.step(f"log in with {word}"):
        allure.attach(f"sent {word} to {os.environ['LAB_DATABASE']}", "log", allure.attachment_type.TEXT)
        file.write_bytes(b"\\xff" + word.encode())
        allure.attach.file(file, "packets")
    print("printed", word)
    answer = {"password": word, "token": os.environ["LATE_TOKEN"]}
    assert answer == {}, f"{word} and {os.environ['LATE_TOKEN']} refused"

@behaviour("MP-7")
def test_breaks():
    raise RuntimeError("cannot log in: " + os.environ["LAB_DATABASE"])

@behaviour("MP-5")
def test_skips():
    pytest.skip("not with " + os.environ["LAB_PASSWORD"])
"""


@pytest.mark.lab
@pytest.mark.parametrize("options", [("-vv",), ("-n", "2", "--no-report")], ids=["alone", "xdist"])
def test_nothing_that_a_run_writes_has_a_secret(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(channover.__file__).parent.parent))
    monkeypatch.setenv("LAB_PASSWORD", "hunter2-é-hunter2")
    monkeypatch.setenv("LAB_DATABASE", URL)
    pytester.makepyfile(SUITE)
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", *options)
    done.assert_outcomes(failed=1, errors=1, skipped=1)
    folder = pytester.path / "reports" / "latest"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert "results.json" in {path.name for path in files} and len(files) > 6
    words = [
        b"hunter2",
        b"gr4nd",
        b"only-in-this-test",
        b"this-test'",
        base64.b64encode(b"hunter2")[:9],
        quote("gr4nd&secret").encode(),
    ]
    assert [(path.name, word) for path in files for word in words if word in path.read_bytes()] == []
    found = Results.from_json((folder / "results.json").read_text("utf-8"))
    reasons = {test.behaviour: test.reason for test in found.tests}
    assert reasons["MP-8"].startswith("*** and *** refused") and reasons["MP-5"] == "not with ***"
    assert reasons["MP-7"].endswith("cannot log in: postgres://lab:***@db.example/lab")
    assert {test.nodeid for test in found.tests} == {test.nodeid for test in found.run.planned or ()}
