"""The certificate: the decision on one run, on a page that prints well and needs nothing from outside.

The page is HTML without scripts and without references; ``certificate.pdf`` is made of it where Chromium is present.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

from channover import __version__
from channover.errors import UsageError
from channover.model.catalogue import CATALOGUE
from channover.report.deciding.decision import Decision, Judged, decide
from channover.report.deciding.endings import MEANING, SIGNS, STATES, Ended, State
from channover.report.deciding.waivers import Waiver, load
from channover.report.drawing.page import template
from channover.report.drawing.topology import rate, topology_svg
from channover.report.figures import Line, lines_of, main_line
from channover.report.results import Results
from channover.report.signoff import detection_limits
from channover.report.signoff import pdf as printing
from channover.report.signoff.hardware_table import in_short, items, parts
from channover.report.store import write_whole
from channover.text import readable
from channover.verdict.causes.cause import Cause
from channover.verdict.notes import Note, once

NAME, PDF_NAME = "certificate.html", "certificate.pdf"
_LINES, _TESTS, _REASON = 6, 3, 1500
"""Measurements and tests shown per behaviour, characters of a reason: the rest is counted, and is in results.json."""


@dataclass(frozen=True)
class Certificate:
    """A certificate that was written: its id, the decision, the files; ``note`` says why there is no PDF.

    ``kept`` is the former one under its new name, None where there was none, or the same; ``waivers`` are those
    that it rests on.
    """

    id: str
    decision: Decision
    page: Path
    pdf: Path | None
    note: str
    kept: Path | None
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True)
class _Row:
    judged: Judged
    sign: str
    source: str
    article: str
    lines: tuple[Line, ...]
    more: str
    notes: tuple[Note, ...]

    @property
    def main(self) -> Line | None:
        """The one value that the first sheet shows (:func:`channover.report.figures.main_line`)."""
        return main_line(self.lines)

    @property
    def verdict(self) -> str:
        """The state, and by their kinds the notes beside it: ``passed, but: retransmissions``."""
        kinds = ", ".join(dict.fromkeys(note.id for note in self.notes))
        if not kinds:
            return self.judged.state
        return f"{self.judged.state}{', but' if self.judged.state == 'passed' else '; noted'}: {kinds}"


@dataclass(frozen=True)
class _Item:
    behaviour: str
    nodeid: str
    reason: str
    cause: str = ""
    """Why it most likely was so, with the remedy; empty where nothing was found out."""


@dataclass(frozen=True)
class _Group:
    state: State
    meaning: str
    count: int
    items: tuple[_Item, ...]


def identify(results: bytes, waivers: Sequence[Waiver] = ()) -> str:
    """Return a certificate's id: it follows from the results and the waivers, and from nothing else."""
    text = "".join("\0".join(map(str, astuple(each))) + "\0" for each in waivers)
    digest = hashlib.sha256(hashlib.sha256(results).digest() + text.encode("utf-8")).hexdigest().upper()
    return f"CHO-{digest[:4]}-{digest[4:8]}-{digest[8:12]}-{digest[12:16]}"


def read(folder: Path) -> tuple[bytes, Results]:
    """Return a run's results.json as bytes and as results. Raises UsageError in one line."""
    path = folder / "results.json"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: there are no results to certify: {error.strerror or error}") from None
    try:
        return raw, Results.from_json(raw.decode("utf-8"))
    except (UsageError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None


def write(
    folder: Path,
    *,
    waivers: Path | None = None,
    lab: str = "",
    signer: str = "",
    now: datetime | None = None,
    pdf: bool = True,
) -> Certificate:
    """Write the certificate of the run in ``folder`` beside its results, and return it.

    ``waivers`` is a file as :mod:`channover.report.deciding.waivers` describes it; ``lab`` names the lab where the results do
    not; ``signer`` is whoever is about to sign. Raises UsageError, in one line, where there are no results, a waiver is not
    valid, or the page cannot be written. A PDF that cannot be made is no error.
    """
    now = (now or datetime.now(timezone.utc)).astimezone(timezone.utc)
    raw, results = read(folder)
    waived = load(waivers, now.date()) if waivers else ()
    decision = decide(results, waived)
    page = folder / NAME
    html = render(raw, results, decision, waived, lab=lab, signer=signer, now=now)
    try:
        kept = _keep(folder, html)
        write_whole(page, html)
        note = printing.to_pdf(page, folder / PDF_NAME) if pdf else "not asked for"
    except OSError as error:
        raise UsageError(f"{page}: the certificate cannot be written: {error.strerror or error}") from None
    return Certificate(
        identify(raw, waived),
        decision,
        page,
        None if note else folder / PDF_NAME,
        f"no certificate.pdf: {note}" * bool(note),
        kept,
        waived,
    )


def _keep(folder: Path, html: str) -> Path | None:
    """Keep a former certificate, and its PDF, under the next free number; it may have been shown to others. Raises OSError."""
    page, pdf = folder / NAME, folder / PDF_NAME
    former = page.read_bytes() if page.is_file() else b""
    if not former or former == html.encode("utf-8"):
        return None
    names = (page.with_name(f"certificate.{number}.html") for number in count(1))
    kept = next(name for name in names if not name.exists() and not name.with_suffix(".pdf").exists())
    write_whole(kept, former)
    if pdf.is_file():
        pdf.rename(kept.with_suffix(".pdf"))
    return kept


def render(
    raw: bytes,
    results: Results,
    decision: Decision,
    waivers: Sequence[Waiver],
    *,
    lab: str,
    signer: str,
    now: datetime,
) -> str:
    """Return the page. ``raw`` is results.json as it is on disk: its SHA-256 stands on the page."""
    from markupsafe import Markup

    run = results.run
    known = run.confidence is not None and any(m.uncertainty for test in results.tests for m in test.measurements)
    values: dict[str, Any] = {
        "id": identify(raw, waivers),
        "issued": now.strftime("%Y-%m-%d %H:%M UTC"),
        "run": run,
        "lab": lab or run.lab or "not named",
        "began": _day(run.start),
        "ended": _day(run.end),
        "decision": decision,
        "meaning": MEANING,
        "counts": [(s, sum(each.state == s for each in decision.behaviours)) for s in reversed(STATES)],
        "tests": len(results.tests),
        "planned": None if run.planned is None else len(run.planned),
        "drawings": [Markup(topology_svg(hosts, cables)) for hosts, cables in parts(run)],
        "items": (found := items(run)),
        "in_short": in_short(found),
        "machines": any(item.machine for item in found),
        "rate": rate,
        "confidence": f"{run.confidence * 100:g} %" if known and run.confidence else "",
        "rows": (rows := [_row(each) for each in decision.behaviours]),
        "beside": any(line.article for row in rows for line in row.lines),
        "groups": list(_groups(decision)),
        "waivers": waivers,
        "limits": detection_limits.told(),
        "uncovered": [CATALOGUE[each] for each in decision.uncovered],
        "sha256": hashlib.sha256(raw).hexdigest(),
        "size": len(raw),
        "signer": signer,
        "version": __version__,
    }
    return str(template("certificate.html").render(values))


def _day(moment: str) -> str:
    return moment.replace("T", " ").partition(".")[0].removesuffix("Z").removesuffix("+00:00") + " UTC"


def clipped(text: str, most: int = _REASON) -> str:
    """Return a text on one line, its end left out where it is too long: whole words, where it has any."""
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    kept = line[:most].rpartition(" ")[0]
    return f"{kept or line[: most - 1]} …"


def _row(judged: Judged) -> _Row:
    known = CATALOGUE.get(judged.behaviour)
    lines = [line for test in judged.tests if test.result for line in lines_of(test.result)]
    lines.sort(key=lambda line: line.inside)  # what lies outside comes first
    tests, left = len(judged.tests), max(len(lines) - _LINES, 0)
    more = f"{tests} tests" if tests > 1 else ""
    if left:
        more += f"{'; ' if more else ''}{left} more values in results.json"
    return _Row(
        judged,
        SIGNS[judged.state],
        known.source if known else "",
        known.article_note if known else "",
        tuple(lines[:_LINES]),
        more,
        once(note for test in judged.tests if test.result for note in test.result.notes),
    )


def _groups(decision: Decision) -> Iterator[_Group]:
    for state in STATES[:-1]:
        items: list[_Item] = []
        count = 0
        for judged in decision.behaviours:
            tests = [test for test in judged.tests if test.state == state]
            count += len(tests)
            items += _items(judged.behaviour, tests)
        if count:
            yield _Group(state, MEANING[state], count, tuple(items))


def _likeliest(test: Ended) -> Cause | None:
    return next((one for one in test.result.causes if one.explains), None) if test.result else None


def _items(behaviour: str, tests: Sequence[Ended]) -> Iterator[_Item]:
    for test in tests[:_TESTS]:
        why = f"{first.statement} ({first.id}; remedy: {first.remedy})" if (first := _likeliest(test)) else ""
        reason = clipped(test.reason) or "no reason was given"
        yield _Item(behaviour, clipped(readable(test.nodeid), 160), reason, clipped(why))
    if len(tests) > _TESTS:
        yield _Item(behaviour, f"and {len(tests) - _TESTS} more", "see results.json")
