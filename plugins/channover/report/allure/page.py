"""The page of one test in the HTML report: what was stated, on which topology, what was measured, and how it went.

It is HTML without scripts, styles in attributes, pictures as ``data:``: the report's viewer drops all else. Whatever is
said with a colour is said with a word or a mark too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from channover.model.catalogue import Behaviour
from channover.text import printable
from channover.verdict.causes.cause import Cause, besides
from channover.verdict.expectation import quantity
from channover.verdict.measured import Reading
from channover.verdict.notes import Note

PLOT = "plot:"
"""What begins the address of a picture that is an attachment of the test; the report holds it in the page itself."""
RED, GREEN = "light-dark(#b3001b,#ff8a8a)", "light-dark(#1b6e3c,#6fd39a)"
GREY = "var(--color-text-secondary,#555555)"
_CELL = "border:1px solid #8a8a8a;padding:3px 8px;text-align:left;vertical-align:top;white-space:normal"
_NUMBER = f"{_CELL};white-space:nowrap"
_TABLE = "border-collapse:collapse;font-size:12px;margin:4px 0 14px;max-width:100%;overflow-wrap:break-word"
_HEAD = "font-size:15px;margin:14px 0 4px"
_TEXT = (
    "color-scheme:light dark;font-family:sans-serif;font-size:13px;line-height:1.45;color:var(--color-text-primary,#111111);"
    "overflow-wrap:anywhere"
)
"""The viewer's own colours: it may be dark."""
_PICTURE = "max-width:100%;color-scheme:light dark"


@dataclass(frozen=True)
class Plot:
    """A picture of NICs' rates: what it is of, and the attachment that holds it."""

    title: str
    file: str


@dataclass(frozen=True)
class SubflowRow:
    """One subflow: ``connection`` tells its MPTCP connection from others, ``ids`` are those of its addresses.

    ``near`` and ``far`` are its ends as ``address:port``, ``nic`` is what it leaves by. What was ``sent``, ``acked`` by the
    other end and ``received`` is bytes, ``again`` segments that were sent again, ``rtt`` seconds.
    """

    connection: str
    ids: tuple[int, int]
    near: str
    nic: str
    far: str
    state: str
    sent: int
    acked: int
    received: int
    again: int
    rtt: float
    joined: bool
    backup: bool


@dataclass(frozen=True)
class Subflows:
    """The subflows of one host just before a flow was ended."""

    flow: str
    host: str
    rows: Sequence[SubflowRow]


@dataclass(frozen=True)
class MemberRow:
    """One NIC of a LAG: by its ``label`` in the topology, if it has one, and its device; both ends' keys and the partner.

    ``state`` names the bits that are set in the actor's state, lowest first; ``note`` says why it is not used.
    """

    label: str
    device: str
    aggregator: int | None
    keys: tuple[int, int]
    partner: str
    state: Sequence[str]
    linked: bool
    used: bool
    note: str


@dataclass(frozen=True)
class Members:
    """What one end of a LAG said of its members when the test was over."""

    host: str
    policy: str
    rows: Sequence[MemberRow]


@dataclass(frozen=True)
class PageFacts:
    """What a page tells; ``behaviour`` is None of a test that states none.

    ``reason`` is why the test did not pass, empty where it did, ``causes`` what most likely made it so; ``but`` what was
    noted beside the verdict; ``topology`` an SVG
    or empty.
    """

    behaviour: Behaviour | None
    readings: Sequence[Reading] = ()
    topology: str = ""
    plots: Sequence[Plot] = ()
    subflows: Sequence[Subflows] = ()
    members: Sequence[Members] = ()
    reason: str = ""
    causes: Sequence[Cause] = ()
    verdict: str = "passed"
    notes: Sequence[str] = ()
    but: Sequence[Note] = ()


def page(facts: PageFacts) -> str:
    """Return the page as HTML."""
    parts = [*_statement(facts), *_reason(facts), *_but(facts), *_verdicts(facts), *_topology(facts), *_plots(facts)]
    parts += [*_members(facts.members), *(part for found in facts.subflows for part in _subflows(found))]
    parts += [f"<p>{_said(note)}</p>" for note in facts.notes]
    return f'<div style="{_TEXT}">{"".join(parts)}</div>'


def without_headline(html: str, reason: str) -> str:
    """Return a page without the first line of the reason: a report that has that above the page says it once."""
    headline = next(iter(reason.splitlines()), "")
    found = _said(headline)
    place = html.find(found) if headline else -1
    end = place + len(found)
    return html if place < 0 else html[:place] + html[end:].removeprefix("<br>")


def _said(text: object) -> str:
    """Return a text as HTML: the browser finds out its direction, line ends stay."""
    lines = printable(str(text)).split("\n")
    return "<br>".join(f'<bdi dir="auto">{escape(line)}</bdi>' for line in lines)


def _head(text: str) -> str:
    return f'<h4 style="{_HEAD}">{escape(text)}</h4>'


def _statement(facts: PageFacts) -> Iterator[str]:
    one = facts.behaviour
    if one is None:
        return
    yield f'<p style="font-size:15px;margin:4px 0"><b>{escape(one.id)}</b> {_said(one.statement)}</p>'
    article = f"<br>Article: {_said(one.article_note)}" if one.article_note else ""
    yield f'<p style="margin:4px 0 10px;color:{GREY}">Source: {_said(one.source)}{article}</p>'


_KINDS = {
    "failed": "The behaviour did not show",
    "error": "The testbed broke: no verdict on the behaviour",
    "inconclusive": "Inconclusive: neither met nor not met when the time was up",
    "skipped": "Not tried here",
}


def _reason(facts: PageFacts) -> Iterator[str]:
    kind = _KINDS.get(facts.verdict)
    if kind is None:
        return
    rest = besides(facts.reason, facts.causes)
    colour = RED if facts.verdict == "failed" else GREY
    yield f'<div style="border-left:4px solid {colour};padding:2px 10px;margin:8px 0"><b>{kind}.</b><br>'
    yield _said("\n".join(rest))
    yield "</div>"
    if facts.causes:
        yield _head("Most likely causes")
        yield "<ol>" + "".join(map(_cause, facts.causes)) + "</ol>"


def _cause(cause: Cause) -> str:
    evidence = "".join(f"<li>{_said(line)}</li>" for line in cause.evidence)
    remedy = f"<br>Remedy: {_said(cause.remedy)}" if cause.remedy else ""
    kind = f'<span style="color:{GREY}">{escape(cause.id)}, {escape(cause.certainty)}</span>'
    return f"<li><b>{_said(cause.statement)}</b> {kind}<ul>{evidence}</ul>{remedy}</li>"


def _but(facts: PageFacts) -> Iterator[str]:
    if not facts.but:
        return
    kind = "Passed, but" if facts.verdict == "passed" else "Noted beside it"
    yield f'<div style="border-left:4px solid {GREY};padding:2px 10px;margin:8px 0"><b>{kind}:</b><br>'
    yield _said("\n".join(note.text for note in facts.but))
    yield "</div>"


def _verdicts(facts: PageFacts) -> Iterator[str]:
    if not facts.readings:
        return
    yield _head("Measured and expected")
    yield _table("what", "measured", "expected", "why", "article", "margin", "verdict")
    article = facts.behaviour.article if facts.behaviour else None
    for reading in facts.readings:
        shown = ""
        if article is not None and reading.unit == "bit/s":
            shown, article = quantity(article, "bit/s"), None
        yield from _row(reading, shown, no_verdict=bool(reading.undecided))
    yield "</table>"


def _row(reading: Reading, article: str, *, no_verdict: bool) -> Iterator[str]:
    found, expected = reading.estimate, reading.expectation
    measured = quantity(found.mean, reading.unit)
    if 0 < found.half < math.inf:
        measured += f" ± {quantity(found.half, reading.unit)}"
    bare = replace(expected, why="")
    verdict = f'<b style="color:{GREEN}">✓ holds</b>' if reading.held else f'<b style="color:{RED}">✗ does not hold</b>'
    if no_verdict:
        verdict = "– no verdict"
    elif not reading.settled:
        verdict = "≈ inconclusive"
    cells = [(_CELL, _said(reading.name)), (_CELL, measured), (_CELL, bare.text(reading.unit))]
    cells += [(_CELL, _said(expected.why)), (_CELL, article), (_NUMBER, margin(reading)), (_NUMBER, verdict)]
    yield "<tr>" + "".join(f'<td style="{style}">{text}</td>' for style, text in cells) + "</tr>"


def margin(reading: Reading) -> str:
    """Return how far the mean is from the nearer bound, negative beyond it; rates and sizes in per cent of the bound."""
    mean, low, high = reading.estimate.mean, reading.expectation.low, reading.expectation.high
    outside = reading.expectation.rule == "outside"
    rooms = [(mean - low, low)] if math.isfinite(low) else []
    rooms += [(high - mean, high)] if math.isfinite(high) else []
    if not rooms or not math.isfinite(mean) or (low == high and not outside):
        return "" if low != high or mean == low else f"{mean - low:+g}"
    room, bound = min(rooms)
    room = -room if outside else room
    if reading.unit == "1" or bound == 0:
        return f"{room:+g}"
    return f"{100 * room / abs(bound):+.1f} %"


def _table(*heads: str) -> str:
    cells = "".join(
        f'<th style="{_CELL};background:var(--color-control-bg,#eeeeee)">{escape(head)}</th>' for head in heads
    )
    return f'<table style="{_TABLE}"><tr>{cells}</tr>'


def _topology(facts: PageFacts) -> Iterator[str]:
    if facts.topology:
        yield _head("Topology")
        yield f'<img alt="topology" style="{_PICTURE}" src="{data_address(facts.topology)}">'


def _plots(facts: PageFacts) -> Iterator[str]:
    if facts.plots:
        yield _head("Rate of each NIC")
    for plot in facts.plots:
        title = escape(printable(plot.title), quote=True)
        yield f'<p style="margin:2px 0"><img alt="{title}" style="{_PICTURE}" src="{PLOT}{plot.file}"></p>'


def _members(ends: Sequence[Members]) -> Iterator[str]:
    if not ends:
        return
    yield _head("The LAG at the end of the test")
    yield _table("end", "NIC", "aggregator", "keys", "partner", "state of the actor", "used")
    for end in ends:
        for one in end.rows:
            cells = [end.host, f"{one.label} ({one.device})" if one.label else one.device]
            cells += ["none" if one.aggregator is None else str(one.aggregator), " / ".join(map(str, one.keys))]
            cells += [one.partner, ", ".join(one.state)]
            cells += ["✗ no link" if not one.linked else "yes" if one.used else f"✗ no {one.note}"]
            yield "<tr>" + "".join(f'<td style="{_CELL}">{_said(text)}</td>' for text in cells) + "</tr>"
    policies = ", ".join(dict.fromkeys(escape(end.policy) for end in ends))
    yield f"</table><p>Keys: actor / partner. Transmit hash policy: {policies}.</p>"


def _subflows(found: Subflows) -> Iterator[str]:
    yield _head(f"Subflows of {found.flow} at {found.host}")
    yield _table("connection", "from", "NIC of it", "to", "state", "sent", "received", "sent again", "RTT", "kind")
    moved: dict[str, int] = {}
    for one in found.rows:
        moved[one.connection] = moved.get(one.connection, 0) + one.sent + one.received
    order = sorted(moved, key=lambda connection: -moved[connection])
    for one in sorted(found.rows, key=lambda each: (order.index(each.connection), each.ids)):
        kind = "joined" if one.joined else "first"
        kind += ", backup" if one.backup else ""
        cells = [
            (_CELL, str(order.index(one.connection) + 1)),
            (_NUMBER, one.near),
            (_CELL, one.nic),
            (_NUMBER, one.far),
            (_CELL, one.state),
            (_NUMBER, _size(max(one.sent, one.acked))),
            (_NUMBER, _size(one.received)),
            (_NUMBER, f"{one.again} segments"),
            (_NUMBER, f"{one.rtt * 1000:.1f} ms"),
            (_CELL, kind),
        ]
        yield "<tr>" + "".join(f'<td style="{style}">{escape(text)}</td>' for style, text in cells) + "</tr>"
    yield "</table>"


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1_000_000 else f"{size:,} bytes"


_ESCAPES = str.maketrans({character: f"%{ord(character):02X}" for character in "%\"#<>&'\n\r\t\\^`{|}"})


def data_address(svg: str) -> str:
    """Return an SVG as an address that holds it whole (``data:``, RFC 2397), fit for an attribute of HTML."""
    return "data:image/svg+xml;charset=utf-8," + svg.translate(_ESCAPES)
