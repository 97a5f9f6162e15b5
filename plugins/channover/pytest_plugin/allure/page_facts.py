"""What a test's page is told from: the lab that it had, what was wrong with it, its subflows and the members of its LAG."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import pytest

from channover.errors import TestbedError
from channover.hosts.lab import Lab
from channover.measure.flow import Flow
from channover.measure.nic_usage import used_at
from channover.measure.record import Record
from channover.model.topology import Role
from channover.network.programs.iperf import Transport
from channover.observe.evidence import nics_by_address
from channover.observe.lags.bond import STATE_BITS
from channover.observe.sockets import Subflow
from channover.pytest_plugin.allure import switches
from channover.pytest_plugin.results.outcomes import outcome_of
from channover.pytest_plugin.stash import FAULTS, LAB, PHASES
from channover.report.allure.page import MemberRow, Members, PageFacts, Plot, SubflowRow, Subflows, page
from channover.report.drawing.topology import topology_svg
from channover.report.facts import CableFacts, HostFacts, NicFacts
from channover.verdict.notes import once

_QUIET = "No NIC was watched in this test: there are no rates to show."
_ROWS = 32
"""Subflows of one host that a page shows; the attachments have all."""


def page_of(item: pytest.Item, record: Record) -> str:
    """Return the page, as HTML, of a test that is over."""
    verdict, reason = outcome_of(item.stash[PHASES])
    lab, seen = item.stash.get(LAB, None), item.stash.get(switches.SEEN, None)
    return page(
        PageFacts(
            record.behaviour,
            record.readings,
            drawn(lab, item.stash.get(FAULTS, {}), switches.facts(seen)) if lab is not None else "",
            [Plot(title, file) for title, file in record.plots],
            list(_subflows(record.flows)),
            [*_members(lab, record), *switches.members(seen)] if lab is not None else (),
            reason,
            () if verdict == "passed" else [one for one in record.causes if one.explains],
            verdict,
            () if record.plots or record.flows or lab is None else (_QUIET,),
            once(record.notes),
        )
    )


def machines(lab: Lab) -> dict[str, tuple[str, str]]:
    """Return each host's own name and its kernel's release, as far as they answer."""
    found = {}
    for host in lab.hosts.values():
        with contextlib.suppress(TestbedError, ValueError):
            name, release = host.run("uname", "-nr", quiet=True).stdout.split()
            found[host.name] = name, release
    return found


def lab_facts(
    lab: Lab, found: Mapping[str, tuple[str, str]] = MappingProxyType({}), read: Sequence[HostFacts] = ()
) -> tuple[list[HostFacts], list[CableFacts]]:
    """Return what a lab consists of, as the results hold it; ``found`` is what :func:`machines` returned.

    The switches that its NICs face are a part of it, as ``read`` has them or else by their names. A cable of the topology that
    is a way through them is two cables, each to a switch.
    """
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
    known = {one.name: one for one in read}
    faced = dict.fromkeys(outlet.partition(".")[0] for outlet in lab.facing.values())
    hosts += [known.get(name, HostFacts(name, "switch")) for name in dict.fromkeys([*faced, *known])]
    cables = []
    for one in lab.topology.cables:
        ways = [(port, lab.facing[port]) for port in one.ports if port in lab.facing]
        cables += [CableFacts(str(port), outlet, lab.rate(one)) for port, outlet in ways]
        cables += [] if ways else [CableFacts(str(one.a), str(one.b), lab.rate(one))]
    return hosts, cables


def drawn(lab: Lab, found: dict[str, str], read: Sequence[HostFacts] = ()) -> str:
    """Return a lab's topology as SVG, with what failed; ``read`` are the switches beside it."""
    return topology_svg(*lab_facts(lab, read=read), found)


def faults(lab: Lab, record: Record) -> dict[str, str]:
    """Return what is wrong with a lab, by cable or NIC: links that are down, NICs that stayed idle. Raises TestbedError."""
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
            if unused or (missed and flow.programs.protocol is Transport.MPTCP):
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
                devices = nics_by_address(flow.evidence[host.name], host)
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
