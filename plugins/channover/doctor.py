"""What this machine can and cannot run, and the remedy for each gap: ``channover doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from channover import __version__
from channover.behaviours import CATALOGUE, Behaviour
from channover.errors import ChannoverError, RigError, UsageError
from channover.hosts.base import Host, Journal
from channover.inventory import HostEntry
from channover.report.results import printable
from channover.report.terminal import is_terminal, text_console, written
from channover.session import Session, target_of, versions
from channover.settings import Settings
from channover.targets import survey
from channover.targets.capabilities import CAPABILITIES, OPENVSWITCH, bonding
from channover.targets.physical import PhysicalTarget
from channover.targets.survey import Sight
from channover.topology import Topology, pair, usual
from channover.verdict.expect import quantity

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_LAG_TITLE = "link aggregation with LACP"
HOSTS = ("host", "privileges", "kernel", "tools")
NICS = ("NIC", "device", "driver", "speed", "duplex", "state")


@dataclass(frozen=True)
class Ability:
    """One capability, and what is missing for it with the remedy (None: nothing is)."""

    name: str
    title: str
    missing: str | None


@dataclass(frozen=True)
class Prospect:
    """One behaviour, and the capabilities that it lacks here; ``missing`` says why in words."""

    behaviour: Behaviour
    lacks: tuple[str, ...]
    missing: str | None


@dataclass(frozen=True)
class Findings:
    """All that was found out. ``unmet`` says why no lab can be had here at all, if none can."""

    facts: Mapping[str, str]
    tools: Mapping[str, str]
    unmet: str | None
    abilities: tuple[Ability, ...]
    prospects: tuple[Prospect, ...]
    checks: tuple[str, ...] = ()
    """What the preflight of real hosts found, each with its remedy."""
    broken: bool = False
    """Whether a check forbids a run with the host or the cable that it names."""
    hosts: tuple[tuple[str, ...], ...] = ()
    """Real hosts, as ``HOSTS`` names the columns."""
    nics: tuple[tuple[str, ...], ...] = ()
    """Their NICs, as ``NICS`` names the columns."""

    @property
    def complete(self) -> bool:
        """Whether every behaviour can be tried here."""
        return not self.broken and all(prospect.missing is None for prospect in self.prospects)

    @property
    def closing(self) -> str:
        """One line that sums it up."""
        able = sum(prospect.missing is None for prospect in self.prospects)
        if self.broken:
            left = f"{able} of {len(self.prospects)} behaviours can be tried with what is left"
            return f"What stands above has to be mended before a run can use it; {left}."
        if self.complete:
            return f"All {able} behaviours can be tried here."
        return f"{able} of {len(self.prospects)} behaviours can be tried here; tests of the others are skipped."


def examine(settings: Settings) -> Findings:
    """Find out, by trying on a host of the target, or on each real one, what can be run.

    Raises UsageError where probing itself breaks; what is wrong with real hosts is a finding.
    """
    session = Session(settings, target_of(settings))
    try:
        return _examine(session)
    except (ChannoverError, OSError) as error:
        raise UsageError(f"this machine could not be probed: {' '.join(str(error).split())}") from None
    finally:
        session.target.close()


def _examine(session: Session) -> Findings:
    facts = {
        "channover": f"{__version__}, Python {platform.python_version()}",
        "target": session.settings.target,
        "links": quantity(session.settings.link.rate, "bit/s"),
    }
    if isinstance(session.target, PhysicalTarget):
        return _of_hosts(session, session.target, facts | {"cores": _cores()})
    facts |= {"kernel": session.kernel, "cores": _cores()}
    unmet = session.target_unmet
    if unmet:
        return _without(facts, unmet)
    facts |= _of_host(session) | {"congestion control": session.congestion_control}
    return _tried(session, facts)


def _without(facts: Mapping[str, str], unmet: str) -> Findings:
    return Findings(facts, {}, unmet, (), tuple(Prospect(behaviour, (), unmet) for behaviour in CATALOGUE.values()))


def _tried(session: Session, facts: Mapping[str, str]) -> Findings:
    gaps = session.gaps()
    titles = {name: capability.title for name, capability in CAPABILITIES.items()} | {"lag": _LAG_TITLE}
    return Findings(
        facts,
        session.tools,
        None,
        tuple(Ability(name, titles.get(name, name), missing) for name, missing in gaps.items()),
        tuple(
            Prospect(behaviour, tuple(need for need in behaviour.needs if gaps.get(need)), session.unmet(behaviour))
            for behaviour in CATALOGUE.values()
        ),
    )


def _of_hosts(session: Session, target: PhysicalTarget, facts: dict[str, str]) -> Findings:
    """Examine every host of a lab and every cable between them: what is wrong with one hides nothing of the others."""
    entry = target.entry
    seen = survey.sights(target, versions)
    able = [name for name, sight in seen.items() if not sight.fatal]
    fatal = [line for sight in seen.values() for line in sight.fatal]
    remarks = [line for sight in seen.values() for line in sight.remarks]
    part = survey.whole(entry, able)
    left_out = [cable for cable in survey.whole(entry, entry.hosts).cables if cable not in part.cables]
    if left_out:
        remarks.append(f"not proved, since a host at an end cannot be used: {', '.join(map(str, left_out))}")
    session.topologies = tuple(one for one in usual() if target.unmet(one) is None) or usual()
    session.part, session.probed = part, lambda lab: survey.renewed(lab, seen)
    fitting = survey.fitting(entry, part, session.topologies)
    facts["topologies"] = ", ".join(one.name for one in fitting) or "none"
    unmet = session.target_unmet or (None if fitting else "; ".join(fatal))
    found = _without(facts, unmet or "")
    if able:
        try:
            facts |= {"LAG driver": session.lag[0] or "none", "congestion control": session.congestion_control}
            tried = _tried(session, facts)
            found = replace(found, facts=tried.facts, abilities=tried.abilities) if unmet else tried
        except (ChannoverError, OSError) as error:
            fatal.append(" ".join(str(error).split()))
            found = _without(facts, unmet or fatal[-1])
    fatal += session.miswired
    return replace(
        found,
        checks=tuple(dict.fromkeys([*fatal, *remarks])),
        broken=bool(fatal),
        hosts=tuple(_host_row(name, entry.hosts[name], sight) for name, sight in seen.items()),
        nics=tuple(row for name, sight in seen.items() for row in _nic_rows(name, entry.hosts[name], sight)),
    )


def _host_row(name: str, host: HostEntry, sight: Sight) -> tuple[str, ...]:
    facts = sight.facts
    if facts is None:
        return (name, "unknown", "", "")
    who = (
        ("root" if host.ssh.user == "root" else f"{host.ssh.user} with sudo") if facts.uid == 0 else f"user {facts.uid}"
    )
    return (name, who, facts.kernel, ", ".join(f"{tool} {version}" for tool, version in sight.tools.items()) or "none")


def _nic_rows(name: str, host: HostEntry, sight: Sight) -> Iterator[tuple[str, ...]]:
    for label, device in host.nics.items():
        nic = sight.facts.device(device) if sight.facts else None
        if nic is not None:
            speed = quantity(nic.speed, "bit/s") if nic.speed else "speed unknown"
            state = ("carrier" if nic.carrier else "no carrier") if nic.up else "down"
            duplex = f"{nic.duplex} duplex" if nic.duplex else "duplex unknown"
            yield (f"{name}.{label}", nic.device, nic.driver or "driver unknown", speed, duplex, state)


def _cores() -> str:
    cores = len(os.sched_getaffinity(0))
    slots = max(1, (os.cpu_count() or 2) // 2)
    return f"{cores}: {slots} measurement{'s' if slots > 1 else ''} at a time"


def _of_host(session: Session) -> dict[str, str]:
    topology = Topology("probe", (pair().nodes[0],), ())
    with session.target.lab(topology, session.settings.link, Journal()) as lab:
        return {"privileges": _privileges(lab.left), "LAG driver": _lag_driver(session, lab.left)}


def _privileges(host: Host) -> str:
    """Say as whom labs run: as root, or in a user namespace with one id or many (``user_namespaces(7)``)."""
    try:
        inside = host.read("/proc/self/uid_map")
        with open("/proc/self/uid_map", encoding="ascii") as file:
            outside = file.read()
    except (RigError, OSError):
        return "unknown"
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    if inside.split() == outside.split():
        return who
    ids = sum(int(line.split()[2]) for line in inside.splitlines())
    return f"{who}, in a user namespace with {ids} id{'s' if ids > 1 else ''}"


def _lag_driver(session: Session, host: Host) -> str:
    """Say which driver makes LAGs, and where ``auto`` chose, what keeps the other one from it."""
    taken = session.lag[0]
    if taken is None or session.settings.lag_driver != "auto":
        return taken or "none"
    trials = {"bonding": bonding, "openvswitch": OPENVSWITCH.unmet}
    others = [f"{name}: {reason}" for name, trial in trials.items() if name != taken and (reason := trial(host))]
    return "; ".join([taken, *others])


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
    lines += _aligned([(each.behaviour.id, _verdict(each.missing)) for each in findings.prospects])
    return printable("\n".join([*lines, "", findings.closing])) + "\n"


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    wide = max(len(name) for name, _ in rows)
    return [f"{name:{wide}}  {text}" for name, text in rows]


def _verdict(missing: str | None) -> str:
    return "yes" if missing is None else f"no: {missing}"


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
            can.add_row(ability.name, ability.title, _cell(ability.missing, None))
        console.print(can)
    runs = _table("behaviour", "statement", "can be tried")
    for prospect in findings.prospects:
        lacks = f"no: {', '.join(prospect.lacks)}" if prospect.lacks else None
        runs.add_row(prospect.behaviour.id, prospect.behaviour.statement, _cell(prospect.missing, lacks))
    console.print(runs)
    console.print(Text(findings.closing, style="green" if findings.complete else "yellow"))
    return written(console) + "\n"


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    return table


def _cell(missing: str | None, short: str | None) -> Text:
    from rich.text import Text

    if missing is None:
        return Text("yes", style="green")
    return Text(printable(short or f"no: {missing}"), style="yellow")


def main(settings: Settings, file: TextIO) -> int:
    """Examine, write what was found, and return 0 where every behaviour can be tried here, else 1.

    Raises UsageError where probing breaks, OSError where the file cannot be written.
    """
    findings = examine(settings)
    terminal = is_terminal(file)
    width = min(shutil.get_terminal_size((80, 24)).columns, 140)
    text = render(findings, terminal=terminal, width=width, colour=terminal and not os.environ.get("NO_COLOR"))
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(text.encode(encoding, "replace").decode(encoding))
    file.flush()
    return 0 if findings.complete else 1
