"""What ``channover doctor`` has found out, as text: tables for a terminal, plain lines for files and pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channover.cli.doctor_findings import HOSTS, NICS, TOPOLOGIES, Findings, Prospect
from channover.report.terminal import text_console, written
from channover.text import printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def render(findings: Findings, *, terminal: bool, width: int = 80, colour: bool = False) -> str:
    """Return the findings as text: tables where they go to a terminal of ``width`` columns, else plain lines."""
    return _tables(findings, width, colour) if terminal else _plain(findings)


def _plain(findings: Findings) -> str:
    """Return lines for files and pipes, each complete in itself: ``TUN-1  no: left has no openvpn: …``."""
    rows = [(name, value) for name, value in findings.facts.items()]
    if not findings.hosts:
        rows.append(("tools", ", ".join(f"{name} {version}" for name, version in findings.tools.items()) or "unknown"))
    lines = [*_aligned(rows), ""]
    for table in (findings.hosts, findings.nics):
        if table:
            lines += [*_aligned([(row[0], ", ".join(filter(None, row[1:]))) for row in table]), ""]
    if findings.checks:
        lines += [*findings.checks, ""]
    if findings.abilities:
        lines += _aligned([(each.name, f"{_verdict(each.missing)}  ({each.title})") for each in findings.abilities])
        lines.append("")
    lines += _aligned([(each.behaviour.id, _prospect(each)) for each in findings.prospects])
    if findings.topologies:
        rows = [(name, f"{of}; a lab of real hosts needs {needs}") for name, of, needs in findings.topologies]
        lines += ["", *_aligned(rows)]
    return printable("\n".join([*lines, "", findings.closing])) + "\n"


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    wide = max(len(name) for name, _ in rows)
    return [f"{name:{wide}}  {text}" for name, text in rows]


def _verdict(missing: str | None) -> str:
    return "yes" if missing is None else f"no: {missing}"


def _prospect(prospect: Prospect, missing: str = "") -> str:
    """Say whether a behaviour can be tried; ``missing`` is in place of why not."""
    if not prospect.stated:
        return "has no test yet"
    if prospect.in_part:
        return f"yes, in part: {prospect.in_part}"
    return f"no: {missing}" if missing else _verdict(prospect.missing)


def _tables(findings: Findings, width: int, colour: bool) -> str:
    from rich.text import Text

    console = text_console(max(width, 60), colour)
    tools = ", ".join(f"{name} {version}" for name, version in findings.tools.items())
    about = _table("this machine", "")
    for name, value in {**findings.facts, **({} if findings.hosts else {"tools": tools or "unknown"})}.items():
        about.add_row(name, Text(printable(value)))
    console.print(about)
    for headings, rows in ((HOSTS, findings.hosts), (NICS, findings.nics)):
        if rows:
            table = _table(*headings)
            for row in rows:
                table.add_row(*(Text(printable(cell)) for cell in row))
            console.print(table)
    for check in findings.checks:
        console.print(Text(f"• {printable(check)}", style="yellow"))
    if findings.abilities:
        can = _table("capability", "for", "here")
        for ability in findings.abilities:
            can.add_row(ability.name, ability.title, _cell(_verdict(ability.missing)))
        console.print(can)
    runs = _table("behaviour", "statement", "can be tried")
    for prospect in findings.prospects:
        can_be = _cell(_prospect(prospect, ", ".join(prospect.lacks)))
        runs.add_row(prospect.behaviour.id, prospect.behaviour.statement, can_be)
    console.print(runs)
    if findings.topologies:
        laid = _table(*TOPOLOGIES)
        for row in findings.topologies:
            laid.add_row(*map(Text, row))
        console.print(laid)
    console.print(Text(findings.closing, style="green" if findings.complete else "yellow"))
    return written(console) + "\n"


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    return table


def _cell(words: str) -> Text:
    from rich.text import Text

    return Text(printable(words), style="green" if words == "yes" else "yellow")
