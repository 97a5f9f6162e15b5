"""Certificates that a run of pytest or a browser makes."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

import channover
from channover.model.catalogue import CATALOGUE
from channover.report.facts import HostFacts, NicFacts
from channover.report.results import Outcome, Results
from channover.report.signoff import certificate
from channover.report.signoff import pdf as printing
from tests.support import runs
from tests.support.certificates import written

NOW = datetime(2026, 2, 1, 9, 30, tzinfo=timezone.utc)


@pytest.mark.skipif(printing.browser() is None, reason="no Chromium here: install the package chromium")
def test_the_pdf_is_a4_and_a_broken_browser_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.saved(runs.four_states(), tmp_path)
    made = certificate.write(tmp_path, now=NOW)
    assert made.pdf is not None, made.note
    data = made.pdf.read_bytes()
    boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", data)}
    assert {(round(box[2]), round(box[3])) for box in boxes} == {(595, 842)}
    fake = tmp_path / "bin" / "chromium"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho 'no display' >&2; exit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/bin:/usr/bin")
    made = certificate.write(tmp_path, now=NOW)
    assert made.pdf is None and "ended with code 3: no display" in made.note
    assert sorted(path.name for path in tmp_path.glob("*.pdf*")) == []


@pytest.mark.skipif(printing.browser() is None, reason="no Chromium here: install the package chromium")
@pytest.mark.parametrize("name", ["odd", "physical"])
def test_no_row_is_wider_than_its_page(tmp_path: Path, name: str) -> None:
    results = {"odd": runs.odd, "physical": runs.physical}[name]()
    html = written(results, tmp_path)[1]
    probe = tmp_path / "probe.html"
    script = (
        "<script>const w=document.documentElement.clientWidth;"
        "const bad=[...document.querySelectorAll('body *')].filter(e=>!e.closest('svg')&&"
        "e.getBoundingClientRect().right>w+1).length;document.title='overflowing:'+bad</script></body>"
    )
    probe.write_text(re.sub("<meta http-equiv[^>]*>", "", html).replace("</body>", script), "utf-8")
    path = printing.browser()
    assert path is not None
    command = [
        path,
        *printing.FLAGS,
        "--no-sandbox",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=794,1123",
    ]
    done = subprocess.run([*command, "--dump-dom", probe.as_uri()], capture_output=True, timeout=120)
    assert b"overflowing:0<" in done.stdout


def worst() -> Results:
    """Every behaviour of the catalogue, none passed, two tests each, on 21 hosts."""
    low = replace(runs.RATE, value=61.2e6, uncertainty=1.1e6)
    ways: tuple[Outcome, ...] = ("failed", "error", "skipped")
    tests = [
        runs.test(each, ways[number % 3], "why " * 80, name=f"t.py::test_{each}[{one}]", measurements=[low, runs.NICS])
        for number, each in enumerate(CATALOGUE)
        for one in ("one", "other")
    ]
    hosts = tuple(HostFacts(f"h{n}", kernel=f"6.{n}", nics=(NicFacts("a", "eth1"),)) for n in range(21))
    return runs.results(*tests, hosts=hosts, interrupted=True, revision="v1-dirty")


@pytest.mark.skipif(printing.browser() is None, reason="no Chromium here: install the package chromium")
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext here: install the package poppler-utils")
@pytest.mark.parametrize("name", ["accepted", "four", "physical", "odd", "large", "worst"])
def test_the_first_sheet_has_all_that_decides(tmp_path: Path, name: str) -> None:
    results = {
        "accepted": lambda: runs.results(*(runs.test(each) for each in CATALOGUE)),
        "four": runs.four_states,
        "physical": runs.physical,
        "odd": runs.odd,
        "large": runs.large,
        "worst": worst,
    }[name]()
    made = certificate.write(runs.saved(results, tmp_path), now=NOW)
    assert made.pdf is not None, made.note
    done = subprocess.run(["pdftotext", "-l", "1", "-layout", made.pdf, "-"], capture_output=True, check=True)
    sheet = " ".join(done.stdout.decode("utf-8").split())
    digest = hashlib.sha256((tmp_path / "results.json").read_bytes()).hexdigest()
    wanted = [made.id, made.decision.verdict, "Rule:", digest, "Tested by", "Reviewed by", "Approved by"]
    wanted += [f"{each.behaviour} " for each in made.decision.behaviours]
    wanted += ["2026-01-31 12:00:00 UTC", "Item under test", "Set-up", "Method", "Deviations", "Waivers"]
    assert [words for words in wanted if words not in sheet] == []


@pytest.mark.lab
def test_a_lost_worker_leaves_a_test_without_a_verdict(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(channover.__file__).parent.parent))
    pytester.makepyfile(
        """
        import os
        from channover.testing import behaviour

        @behaviour("MP-8")
        def test_dies():
            os._exit(1)

        @behaviour("MP-7")
        def test_lives(counted):
            assert counted("paths", 1) == 1
        """
    )
    pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "-n", "1")
    text = (pytester.path / "reports" / "latest" / "results.json").read_text("utf-8")
    tests = {test.nodeid.rpartition("::")[2]: test for test in Results.from_json(text).tests}
    assert tests["test_dies"].lost and "crashed" in tests["test_dies"].reason
    assert not tests["test_lives"].lost and tests["test_lives"].outcome == "passed"
