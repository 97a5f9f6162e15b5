"""What a run leaves for the report, hook by hook: each test's page, its packets, and at the end the report itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import allure
import pytest

from channover.errors import ChannoverError, RigError
from channover.hosts.lab import Lab
from channover.measure.flow import Flow
from channover.measure.nic_usage import used_at
from channover.measure.record import Record
from channover.model.topology import Role
from channover.network.programs.iperf import Protocol
from channover.observe.bond import STATE_BITS
from channover.observe.captures import LIMIT, Captures
from channover.observe.sockets import Subflow
from channover.pytest_plugin import option_names as words
from channover.pytest_plugin.allure import evidence as evidencing
from channover.pytest_plugin.fixtures import RECORD, SESSION
from channover.pytest_plugin.results import collector as collecting
from channover.pytest_plugin.results import marks
from channover.pytest_plugin.results.collector import Collected
from channover.report.allure import make as allure_report
from channover.report.allure import page as story
from channover.report.allure.generator import GeneratorMissing
from channover.report.allure.page import MemberRow, Members, Plot, Story, SubflowRow, Subflows
from channover.report.facts import CableFacts, HostFacts, NicFacts
from channover.report.signoff import certificate
from channover.report.topology_diagram import topology_svg

LAB = pytest.StashKey[Lab]()
MACHINES = pytest.StashKey[Mapping[str, tuple[str, str]]]()
FAULTS = pytest.StashKey[dict[str, str]]()
PHASES = pytest.StashKey[list[pytest.TestReport]]()
CAPTURES = pytest.StashKey[Captures]()
PATIENCE, HURRIED = 120.0, 5.0
"""Seconds that the report may take at the end of a run, and of a run that somebody wants to end."""
_QUIET = "No NIC was watched in this test: there are no rates to show."
_ROWS = 32
"""Subflows of one host that a page shows; the attachments have all."""


class Reporting:
    """Writes each test's page of the report as it ends, and makes the report at the end of the run."""

    def __init__(self, config: pytest.Config, collected: pytest.StashKey[Collected], *, reports: bool) -> None:
        self._config = config
        self._collected = collected
        self._reports = reports
        self._said: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Learn of the test's lab, and start to capture its packets where that is asked for. Raises RigError."""
        made = yield
        if fixturedef.argname == "lab" and isinstance(made, Lab) and isinstance(request.node, pytest.Item):
            request.node.stash[LAB] = made
            wanted = self._config.stash[SESSION].settings
            if wanted.target == "physical" and not wanted.place.dry_run:
                request.node.stash[MACHINES] = machines(made)
            if wanted.pcap != "never":
                request.node.stash[CAPTURES] = Captures(made.hosts.values(), wanted.pcap_size)
        return made

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Look at what failed, and take the captures, while the lab is still there. Raises RigError when it is gone."""
        refused: RigError | None = None
        record = item.stash.get(RECORD, None)
        lab = item.stash.get(LAB, None)
        if record is not None and lab is not None:
            if record.failed:
                with contextlib.suppress(RigError):  # a host that does not answer is what the test has failed of
                    item.stash[FAULTS] = faults(lab, record)
            try:
                self._attach(item, record)
            except RigError as error:
                refused = error
        done = yield
        if refused is not None:
            raise refused
        return done

    def _attach(self, item: pytest.Item, record: Record) -> None:
        captures = item.stash.get(CAPTURES, None)
        if captures is None:
            return
        always = self._config.stash[SESSION].settings.pcap == "always"
        for one in captures.stop(keep=always or record.failed):
            name = f"packets of {one.host}.{one.nic}" + (f", the first {LIMIT >> 20} MiB" if one.cut else "")
            allure.attach(one.content, name, allure.attachment_type.PCAP)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Write the test's page when it is over."""
        report = yield
        record = item.stash.get(RECORD, None)
        if record is not None and marks.takes_part(item):
            item.stash.setdefault(PHASES, []).append(report)
            if report.when == "teardown":
                self._tell(item, record)
        return report

    def _tell(self, item: pytest.Item, record: Record) -> None:
        verdict, reason = collecting.outcome_of(item.stash[PHASES])
        lab = item.stash.get(LAB, None)
        dynamic: Any = allure.dynamic
        dynamic.description_html(
            story.page(
                Story(
                    record.behaviour,
                    record.readings,
                    drawn(lab, item.stash.get(FAULTS, {})) if lab is not None else "",
                    [Plot(title, file) for title, file in record.plots],
                    list(_subflows(record.flows)),
                    list(_members(lab, record)) if lab is not None else (),
                    reason,
                    verdict,
                    () if record.plots or record.flows or lab is None else (_QUIET,),
                )
            )
        )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Make the certificate and the report. A second Ctrl-C ends that too, and leaves nothing half-made."""
        collected = self._config.stash.get(self._collected, None)
        if not self._reports or collected is None or not collected.opened or words.value(self._config, "--no-report"):
            return
        if collected.fault:
            return  # there is nothing whole that they could be made of, and no room for them
        shown = os.path.relpath(collected.folder, self._config.invocation_params.dir)
        try:
            if collected.plan and any(test.behaviour for test in collected.plan.planned):
                self._certificate(collected)
            self._report(collected, shown, exitstatus)
        except KeyboardInterrupt:
            self._said += [f"report: stopped; channover report {shown} makes it"]

    def _certificate(self, collected: Collected) -> None:
        try:
            decided = certificate.write(collected.folder, pdf=False)
            page = os.path.relpath(decided.page, self._config.invocation_params.dir)
            found = decided.decision
            self._said += [f"certificate: {page}: {found.text}"]
            self._said += [f"  {words}" for words in (*found.incomplete, found.others) if words]
        except (ChannoverError, OSError) as error:
            self._said += [f"certificate: not made: {' '.join(str(error).split())}"]

    def _report(self, collected: Collected, shown: str, exitstatus: int) -> None:
        told = getattr(self._config.option, "allure_report_dir", None)
        try:
            made = allure_report.make(
                collected.folder, Path(told) if told else None, PATIENCE if exitstatus in (0, 1) else HURRIED
            )
        except GeneratorMissing as error:
            self._said += [f"report: not made: {' '.join(str(error).split())}"]
        except (ChannoverError, OSError) as error:
            self._said += [f"report: not made: {' '.join(str(error).split())}; channover report {shown} tries again"]
        else:
            self._said += [*made.notes, f"report: {os.path.join(shown, made.path.name)}"]

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where the report is, or in one line why there is none."""
        for line in self._said:
            terminalreporter.write_line(line)


def machines(lab: Lab) -> dict[str, tuple[str, str]]:
    """Return each host's own name and its kernel's release, as far as they answer."""
    found = {}
    for host in lab.hosts.values():
        with contextlib.suppress(RigError, ValueError):
            name, release = host.run("uname", "-nr", quiet=True).stdout.split()
            found[host.name] = name, release
    return found


def rig_of(
    lab: Lab, found: Mapping[str, tuple[str, str]] = MappingProxyType({})
) -> tuple[list[HostFacts], list[CableFacts]]:
    """Return what a lab consists of, as the results hold it; ``found`` is what :func:`machines` returned."""
    hosts = [
        HostFacts(
            node.name,
            "switch" if node.role is Role.SWITCH else "host",
            found.get(node.name, ("", ""))[1],
            machine=found.get(node.name, ("", ""))[0],
            nics=tuple(
                NicFacts(one.name, one.device, one.driver, one.firmware, one.speed, one.bus)
                for one in (lab.hosts[node.name].nic(nic) for nic in node.nics)
            ),
        )
        for node in lab.topology.nodes
    ]
    return hosts, [CableFacts(str(one.a), str(one.b), lab.rate(one)) for one in lab.topology.cables]


def drawn(lab: Lab, found: dict[str, str]) -> str:
    """Return a lab's topology as SVG, with what failed."""
    return topology_svg(*rig_of(lab), found)


def faults(lab: Lab, record: Record) -> dict[str, str]:
    """Return what is wrong with a lab, by cable or NIC: links that are down, NICs that stayed idle. Raises RigError."""
    found: dict[str, str] = {}
    for host in lab.hosts.values():
        links = host.state().links
        for nic in host.nics.values():
            link = links.get(nic.device)
            if link is None or not link.up or not link.carrier:
                found[f"{host.name}.{nic.name}"] = "gone" if link is None else "no carrier" if link.up else "down"
    missed = {reading.name for reading in record.readings if not reading.held}
    for flow in record.flows:
        # of one flow on a LAG, a NIC that stays idle is what is to be expected
        for host in flow.nics.ends if flow.programs.series else ():
            unused = any(name.startswith(used_at(host)) for name in missed)
            if unused or (missed and flow.programs.protocol is Protocol.MPTCP):
                used = flow.nics.used(host)
                for name in flow.nics.carried(host):
                    if name not in used:
                        found.setdefault(f"{host.name}.{name}", "idle")
    return found


def _members(lab: Lab, record: Record) -> Iterator[Members]:
    several = [host for host, _ in record.lags]
    for (name, device), status in record.lags.items():
        labels = {nic.device: nic.name for nic in lab.hosts[name].nics.values()}
        rows = [
            MemberRow(
                label=labels.get(one.device, ""),
                device=one.device,
                aggregator=one.aggregator,
                keys=(one.actor.key, one.partner.key),
                partner=one.partner.system,
                state=[bit for bit in STATE_BITS if bit in one.actor.state],
                linked=one.mii_up,
                used=one.enabled,
                note=one.note,
            )
            for one in status.members
        ]
        yield Members(f"{name}: {device}" if several.count(name) > 1 else name, status.policy, rows)


def _subflows(flows: list[Flow]) -> Iterator[Subflows]:
    for flow in flows:
        for host in flow.programs.hosts if flow.evidence else ():
            rows = [one for one in flow.subflows(host) if one.state != "CLOSE"]
            if rows:
                devices = evidencing.addresses(flow, host)
                shown = [_subflow(one, one.device or devices.get(one.source, "")) for one in rows[:_ROWS]]
                yield Subflows(flow.name, host.name, shown)


def _subflow(one: Subflow, nic: str) -> SubflowRow:
    return SubflowRow(
        connection=one.token or "",
        ids=(one.local_id, one.remote_id),
        near=f"{one.source}:{one.source_port}",
        nic=nic,
        far=f"{one.destination}:{one.destination_port}",
        state=one.state,
        sent=one.bytes_sent,
        acked=one.bytes_acked,
        received=one.bytes_received,
        again=one.retransmissions,
        rtt=one.rtt,
        joined=one.join,
        backup=one.backup,
    )
