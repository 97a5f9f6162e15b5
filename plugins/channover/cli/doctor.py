"""What this machine can and cannot run, and the remedy for each gap: ``channover doctor``."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TextIO

from channover import __version__
from channover.cli.doctor_findings import Ability, Findings, Prospect
from channover.cli.doctor_text import render
from channover.cli.stated import STATED, asked_for
from channover.errors import ChannoverError, TestbedError, UsageError
from channover.hosts.host import Host, Journal
from channover.measure.cpu_lock import SLOT, available
from channover.model.catalogue import CATALOGUE, Behaviour
from channover.model.topology import Topology, pair
from channover.observe.processors import Glance
from channover.report.terminal import is_terminal
from channover.run.elsewhere import elsewhere, needs
from channover.run.environment import Environment, target_of, versions
from channover.run.settings import Settings
from channover.targets.capabilities import CAPABILITIES, OPENVSWITCH, bonding
from channover.targets.inventory.schema import HostEntry
from channover.targets.physical import cabling_check as survey
from channover.targets.physical.cabling_check import Sight
from channover.targets.physical.placement import fit
from channover.targets.physical.target import PhysicalTarget
from channover.verdict import shortage
from channover.verdict.expectation import quantity

_LAG_TITLE = "link aggregation with LACP"


def examine(settings: Settings) -> Findings:
    """Find out, by trying on a host of the target, or on each real one, what can be run.

    Raises UsageError where probing itself breaks; what is wrong with real hosts is a finding.
    """
    environment = Environment(settings, target_of(settings))
    stated = [(one, [name for name, asked in STATED.items() if one in asked]) for one in asked_for()]
    try:
        return replace(_examine(environment), topologies=tuple(needs(stated)))
    except (ChannoverError, OSError) as error:
        raise UsageError(f"this machine could not be probed: {' '.join(str(error).split())}") from None
    finally:
        environment.target.close()


def _examine(environment: Environment) -> Findings:
    facts = {
        "channover": f"{__version__}, Python {platform.python_version()}",
        "target": environment.settings.target,
        "elsewhere": elsewhere(environment.settings),
        "links": quantity(environment.settings.link.rate, "bit/s"),
    }
    if isinstance(environment.target, PhysicalTarget):
        return _of_hosts(environment, environment.target, facts | {"cores": _cores()})
    facts |= {"kernel": environment.kernel, "cores": _cores()}
    if environment.settings.emulated:
        facts |= {"other work": shortage.busy(Glance().taken(), os.cpu_count() or 1) or "none that would show"}
    unmet = environment.target_unmet
    if unmet:
        return _without(facts, unmet)
    facts |= _of_host(environment) | {"congestion control": environment.congestion_control}
    return _tried(environment, facts)


def _without(facts: Mapping[str, str], unmet: str) -> Findings:
    prospects = (Prospect(each, (), unmet, stated=each.id in STATED) for each in CATALOGUE.values())
    return Findings(facts, {}, unmet, (), tuple(prospects))


def _tried(
    environment: Environment, facts: Mapping[str, str], forbids: Callable[[Topology], str | None] = lambda _: None
) -> Findings:
    """Say what was found out by trying; ``forbids`` says what of real hosts keeps a topology's tests from being run."""
    gaps = environment.gaps()
    titles = {name: capability.title for name, capability in CAPABILITIES.items()} | {"lag": _LAG_TITLE}
    return Findings(
        facts,
        environment.tools,
        None,
        tuple(Ability(name, titles.get(name, name), missing) for name, missing in gaps.items()),
        tuple(_prospect(environment, behaviour, gaps, forbids) for behaviour in CATALOGUE.values()),
    )


def _prospect(
    environment: Environment,
    behaviour: Behaviour,
    gaps: Mapping[str, str | None],
    forbids: Callable[[Topology], str | None],
) -> Prospect:
    """Say whether a behaviour's tests can be tried, by what a run would skip or be refused for."""
    lacks = tuple(need for need in behaviour.needs if gaps.get(need))
    asked = STATED.get(behaviour.id, ())
    if not asked:
        return Prospect(behaviour, lacks, environment.unmet(behaviour), stated=False)
    unlaid = [environment.lacks(topology) or forbids(topology) or environment.driver_refused for topology in asked]
    reasons = [why or environment.unmet(behaviour, topology) for why, topology in zip(unlaid, asked, strict=True)]
    words = "; ".join(dict.fromkeys(filter(None, reasons))) or None
    if not all(reasons):
        return Prospect(behaviour, (), None, in_part=words)
    return Prospect(behaviour, () if any(unlaid) else lacks, words)


def _of_hosts(environment: Environment, target: PhysicalTarget, facts: dict[str, str]) -> Findings:
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
    environment.topologies = tuple(one for one in asked_for() if target.unmet(one) is None) or asked_for()
    environment.part, environment.probed = part, lambda lab: survey.renewed(lab, seen)
    facts["topologies"] = _named(survey.fitting(entry, part, environment.topologies)) or "none"
    found = _unprobed(environment, facts, lambda topology: _forbidden(environment, target, seen, topology))
    if able:
        try:
            facts |= {"LAG driver": environment.lag[0] or "none", "congestion control": environment.congestion_control}
            found = _tried(environment, facts, lambda topology: _forbidden(environment, target, seen, topology))
        except (ChannoverError, OSError) as error:
            fatal.append(" ".join(str(error).split()))
            found = _unprobed(environment, facts, lambda _: fatal[-1])
    fatal += environment.miswired if able else []
    return replace(
        found,
        checks=tuple(dict.fromkeys([*fatal, *remarks])),
        broken=bool(fatal),
        hosts=tuple(_host_row(name, entry.hosts[name], sight) for name, sight in seen.items()),
        nics=tuple(row for name, sight in seen.items() for row in _nic_rows(name, entry.hosts[name], sight)),
    )


def _named(topologies: Sequence[Topology]) -> str:
    """Return what topologies are called, each with what its links are for where that is not both a LAG and paths."""
    links: dict[str, dict[str, None]] = {}
    for one in topologies:
        links.setdefault(one.name, {})[one.links.value] = None
    asked = {name: {one.links.value for one in asked_for() if one.name == name} for name in links}
    alone = {name: f" ({', '.join(some)})" if some.keys() != asked[name] else "" for name, some in links.items()}
    return ", ".join(f"{name}{alone[name]}" for name in links)


def _unprobed(
    environment: Environment, facts: Mapping[str, str], forbids: Callable[[Topology], str | None]
) -> Findings:
    """Say of each behaviour what keeps it from being tried, where on no host anything could be tried."""
    found = _without(facts, "")

    def why(prospect: Prospect) -> str:
        reasons = [environment.lacks(one) or forbids(one) for one in STATED.get(prospect.behaviour.id, ())]
        return "; ".join(dict.fromkeys(filter(None, reasons)))

    return replace(found, prospects=tuple(replace(each, missing=why(each)) for each in found.prospects))


def _forbidden(
    environment: Environment, target: PhysicalTarget, seen: Mapping[str, Sight], topology: Topology
) -> str | None:
    """Say what is wrong with a host or a cable that a run lays a topology on: it does not begin then."""
    found = fit(topology, target.entry)
    if isinstance(found, str):
        return found
    for name in found.nodes.values():
        if seen[name].fatal:
            return seen[name].fatal[0]
    for cable in found.seen(topology).cables:
        ends = found.nics[cable.a], found.nics[cable.b]
        if environment.miswired and not target.is_proven(*ends):
            named = [words for words in environment.miswired if any(f"{end} " in words for end in ends)]
            return (named or environment.miswired)[0]
    return None


def _host_row(name: str, host: HostEntry, sight: Sight) -> tuple[str, ...]:
    facts = sight.facts
    if facts is None:
        return (name, "unknown", "", "")
    who = ("root by sudo" if host.sudo else "root") if facts.uid == 0 else f"user {facts.uid}"
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
    return f"{cores}: what is measured at once may take {available() * SLOT:g} of them"


def _of_host(environment: Environment) -> dict[str, str]:
    topology = Topology("probe", (pair().nodes[0],), ())
    with environment.target.lab(topology, environment.settings.link, Journal()) as lab:
        return {"privileges": _privileges(lab.left), "LAG driver": _lag_driver(environment, lab.left)}


def _privileges(host: Host) -> str:
    """Say as whom labs run: as root, or in a user namespace with one id or many (``user_namespaces(7)``)."""
    try:
        inside = host.read("/proc/self/uid_map")
        with open("/proc/self/uid_map", encoding="ascii") as file:
            outside = file.read()
    except (TestbedError, OSError):
        return "unknown"
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    if inside.split() == outside.split():
        return who
    ids = sum(int(line.split()[2]) for line in inside.splitlines())
    return f"{who}, in a user namespace with {ids} id{'s' if ids > 1 else ''}"


def _lag_driver(environment: Environment, host: Host) -> str:
    """Say which driver makes LAGs, and where ``auto`` chose, what keeps the other one from it."""
    taken = environment.lag[0]
    if taken is None or environment.settings.lag_driver != "auto":
        return taken or "none"
    trials = {"bonding": bonding, "openvswitch": OPENVSWITCH.unmet}
    others = [f"{name}: {reason}" for name, trial in trials.items() if name != taken and (reason := trial(host))]
    return "; ".join([taken, *others])


def main(settings: Settings, file: TextIO) -> int:
    """Examine, write what was found, and return 0 where all that have a test can be tried here, else 1.

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
