"""The first page and the certificate as people see them: on a desk, on a phone, on a dark screen, on paper."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tools import axe, look_report

from channover.model.catalogue import CATALOGUE
from channover.report import front_page
from channover.report.allure import generator
from channover.report.allure import make as allure_report
from channover.report.allure import page as pages
from tests.plugin.test_allure_report import allure_result
from tests.support import runs
from tests.support.certificates import written
from tests.unit.test_front_page import CAUSE, COURSE, NICS, failing

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no browser here: apt-get install chromium chromium-driver fonts-dejavu",
)
needs_axe = pytest.mark.skipif(axe.script() is None, reason="no axe-core here: .venv/bin/python -m tools.axe")
needs_pdftotext = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="no pdftotext here: install the package poppler-utils"
)
DARK_ON_DARK = """const lum = c => { const v = c.match(/[\\d.]+/g).map(Number); return .2126*v[0] + .7152*v[1] + .0722*v[2] };
    return lum(getComputedStyle(document.body).backgroundColor)"""
WIDE = """const w = document.documentElement.clientWidth;
    return [...document.querySelectorAll('body *')].filter(e => !e.closest('svg, thead')
        && e.getBoundingClientRect().right > w + 1).map(e => e.outerHTML.slice(0, 120))"""
LETTERS = """return [...document.querySelectorAll('td, th, dd, p')].filter(e => !e.closest('thead') && e.innerText.length > 3
    && e.getBoundingClientRect().width < 24).map(e => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def window() -> Iterator[look_report.Browser]:
    with look_report.browser() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the whole catalogue, with pictures, a failure, an error, a skip."""
    whole = failing()
    others = [replace(runs.test(one), courses=(COURSE,), nics=NICS) for one in list(CATALOGUE)[8:]]
    error = runs.test("MP-2", "error", "left: iperf3 died with signal 9 after 1.2 s", measurements=[])
    made = runs.results(*whole.tests, error, *(one for one in others if one.behaviour not in ("MP-1", "MP-2")))
    place = tmp_path_factory.mktemp("run")
    written(made, place)
    front_page.write(place)
    return place


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("odd")
    written(runs.odd(), place)
    front_page.write(place)
    return place


@pytest.mark.parametrize("name", ["index.html", "certificate.html"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_off_the_page_and_no_column_is_a_letter_wide(
    window: look_report.Browser, folder: Path, odd: Path, name: str, width: int
) -> None:
    for place in (folder, odd):
        window.look_like(width, dark=False)
        window.open((place / name).as_uri())
        assert window.run(WIDE) == []
        assert window.run(LETTERS) == []
        assert "NOT ACCEPTED" in window.run(
            "return document.elementFromPoint(innerWidth / 2, 100).closest('body').innerText"
        )
        assert window.run("return document.querySelector('.verdict').getBoundingClientRect().bottom") < 400
    assert look_report.outside(window.log("performance")) == []
    assert look_report.errors(window.log("browser")) == []


@needs_axe
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "certificate.html"])
def test_nothing_serious_keeps_people_from_reading_it(
    window: look_report.Browser, folder: Path, name: str, dark: bool
) -> None:
    script = axe.script()
    assert script is not None
    copy = folder / f"with-axe-{name}"  # the page itself lets no script run
    html = (folder / name).read_text("utf-8")
    policy = html[html.index("<meta http-equiv") : html.index(">", html.index("<meta http-equiv")) + 1]
    copy.write_text(html.replace(policy, "", 1).replace("</body>", f"<script>{script.read_text()}</script></body>"))
    for width in (1280, 390):
        window.look_like(width, dark=dark)
        window.open(copy.as_uri())
        assert (window.run(DARK_ON_DARK) < 60) == dark, "no white block on a dark screen"
        window.run("window.found = null; axe.run().then(found => { window.found = found })")
        window.wait("return window.found !== null")
        found: Any = window.run("return window.found.violations")
        bad = [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found]
        assert [one for one in bad if one[1] in ("serious", "critical")] == []


@needs_pdftotext
@pytest.mark.parametrize("name", ["index.html", "certificate.html"])
def test_it_prints_whole(window: look_report.Browser, folder: Path, tmp_path: Path, name: str) -> None:
    window.look_like(1280, dark=True)
    window.open((folder / name).as_uri())
    sheets = _sheets(window.pdf(), tmp_path)
    words = " ".join(" ".join(sheets).split())
    assert all(sheet.strip() for sheet in sheets), "no sheet is empty"
    for said in ("NOT ACCEPTED", CAUSE.id, "no FTP server: install vsftpd", *CATALOGUE):
        assert said in words
    if name == "index.html":
        for said in (*CAUSE.evidence, CAUSE.remedy):
            assert said in words


def _sheets(pdf: bytes, place: Path) -> list[str]:
    file = place / "page.pdf"
    file.write_bytes(pdf)
    done = subprocess.run(["pdftotext", "-layout", file, "-"], capture_output=True, check=True)
    return done.stdout.decode("utf-8").split("\f")[:-1]


@needs_pdftotext
@pytest.mark.skipif(generator.unmet() is not None, reason=f"{generator.unmet()} (or: make setup)")
def test_a_test_s_page_in_the_report_prints_whole_and_is_dark_on_a_dark_screen(
    window: look_report.Browser, tmp_path: Path
) -> None:
    results = failing()
    (failed,) = [one for one in results.tests if one.outcome == "failed"]
    long = [replace(CAUSE, statement=f"cause {number} of many", evidence=("seen " * 40,)) for number in range(40)]
    facts = pages.PageFacts(CATALOGUE["MP-1"], reason=failed.reason, causes=[CAUSE, *long], verdict="failed")
    run = runs.saved(results, tmp_path / "r" / results.run.id)
    trace = (
        "self = <object>\n\n>       assert flow.goodput\nE       assert goodput\nE         remedy: ip ru...\n\nt.py:3"
    )
    details = {"message": "AssertionError", "trace": trace}
    allure_result(run, failed.nodeid, status="failed", descriptionHtml=pages.page(facts), statusDetails=details)
    made = allure_report.make(run)
    window.look_like(1280, dark=True)
    window.open(made.path.as_uri())
    window.wait("return document.querySelector('#app')?.innerText.length > 100")
    (one,) = [test for test in window.run(look_report._TESTS) if test["status"] == "failed"]
    window.open("about:blank")
    window.open(f"{made.path.as_uri()}#{one['id']}")
    window.wait("return [...document.querySelectorAll('iframe')].some(f => f.offsetHeight > 0)")
    ground = (
        "getComputedStyle(document.querySelector('iframe').contentDocument.querySelector('body > *')).backgroundColor"
    )
    assert window.run(f"return {ground}") in ("rgba(0, 0, 0, 0)", "transparent"), "the viewer's own ground"
    sheets = _sheets(window.pdf(), tmp_path)
    words = " ".join(" ".join(sheets).split())
    assert all(sheet.strip() for sheet in sheets), "no sheet is empty"
    assert all(f"cause {number} of many" in words for number in range(40)), "the whole page"
    said = words.count("goodput of 93.2 Mbit/s, expected at least 175 Mbit/s")
    assert said == 2, "at the head, and as the name that the viewer gives the step that failed"
    assert words.count(CAUSE.evidence[0]) == 1, "the reason once"
    assert "ip ru..." not in words and "self = <object>" not in words, "nothing of it cut, and no arguments of Python's"
