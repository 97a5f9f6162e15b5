"""Prove a lab's cables: send over each of them, and say what speaks against it once two tries have found the same."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from channover.errors import TestbedError
from channover.hosts import prober
from channover.hosts.host import Host, each, python_program
from channover.hosts.lab import Lab
from channover.model.topology import Cable, Port
from channover.observe.proof import schedule as plans
from channover.observe.proof.findings import Finding, Reports, Stated, beside, judge, name
from channover.observe.proof.schedule import EMULATED, ONE_PROCESS, REAL, Schedule

TRIES = 5
"""How often a cable is tried whose figures do not come out twice alike."""
LONGER = 2.0
"""How much longer the loads of further tries are that look for loss."""
BUSY = 0.01
"""The share of its time that what sends the frames may wait for a processor on a machine that is at leisure."""
COUNTED = ("loss", "overrun", "duplicates", "foreign")
"""What is told by counting frames, best where no queue on the way is full."""
UNCERTAIN = ("overrun", "machine")
"""What says nothing of a cable, however often it is found."""
CERTAIN = ("refused", "carrier", "crossed", "size")
"""What chance does not do: one try is enough."""
QUEUED = 16
"""Full frames that the ends may have under way when they have met."""


def prove(lab: Lab, cables: Iterable[Cable] | None = None, rates: Mapping[Cable, float] | None = None) -> list[Finding]:
    """Return what speaks against cables of a lab (all of them), cable by cable; empty: they are as stated.

    ``rates`` are their rates (bit/s) where they are not those of the lab. Nothing is configured, and nothing changed. What
    one try finds and the next does not, is none. Raises TestbedError where cables cannot be proved.
    """
    wanted = list(lab.topology.cables if cables is None else cables)
    known = {cable: float(rates[cable] if rates is not None else lab.rate(cable)) for cable in wanted}
    proof = _Proof(lab, known)
    first = proof.tried(wanted)
    return [
        finding for cable in wanted for finding in proof.settled(cable, [one for one in first if one.cable == cable])
    ]


class _Proof:
    """The tries of one proof."""

    def __init__(self, lab: Lab, rates: Mapping[Cable, float]) -> None:
        self.lab = lab
        self.rates = rates
        self.pace = ONE_PROCESS if lab.probe is not None else EMULATED if lab.patience > 1 else REAL
        self.size = plans.full_frame(lab.link.mtu)
        self.waited = self.took = 0.0

    def tried(self, cables: list[Cable], **how: Any) -> list[Finding]:
        """Send over cables, and return what one try finds. Raises TestbedError."""
        if not cables:
            return []
        rates = {cable: self.rates[cable] for cable in cables}
        planned = plans.schedule(rates, self.size, self.pace, **how)
        reports, busy, dropped = self._probed(planned)
        tagged = [port for cable in cables for port in cable.ports if self.lab.hosts[port.node].nic(port.nic).tagged]
        stated = Stated(self.lab.topology, rates, self.size, self.pace.trip, busy, dropped, tagged)
        found = judge(stated, reports, planned.spans)
        least = min(self.rates.values())
        return [one for one in found if self._counts(one) and (one.kind not in UNCERTAIN or rates[one.cable] <= least)]

    def _counts(self, finding: Finding) -> bool:
        """Whether it is not what emulated processors feign, nor what a switch sends by itself to whom faces it."""
        if finding.kind == "foreign" and finding.cable.a in self.lab.facing:
            return False
        slow = finding.kind == "rate" and finding.share < 1
        return self.pace.exact or not (slow or finding.kind in ("loss", "overrun", "machine", "duplex"))

    def settled(self, cable: Cable, first: list[Finding]) -> list[Finding]:
        """Try a cable again until two tries agree on a finding, or one finds nothing."""
        tries = [first]
        while len(tries) < TRIES and (tries[-1] or (_faster(tries) and tries.count([]) < 2)):
            if certain := [one for one in tries[-1] if one.kind in CERTAIN]:
                return certain
            counted = any(finding.kind in COUNTED for finding in tries[-1])
            slow = sum(finding.kind == "rate" for finding in tries[-1])
            found = self.tried([cable], gentle=True, longer=LONGER) if counted else []
            if not all(finding.kind in COUNTED for finding in tries[-1]):
                timed = any(
                    finding.kind == "delay" for finding in tries[-1]
                )  # which is compared with the cables beside it
                others = beside(self.lab.topology, cable) if timed else []
                found += [one for one in self.tried([cable, *others], apart=slow > 1) if one.cable == cable]
            confirmed = [one for one in found if any(one.confirms(other) for some in tries for other in some)]
            tries.append(found)
            if confirmed := [one for one in confirmed if self._certain(one, tries)]:
                return confirmed
        return [self._unsettled(cable, tries)] if tries[-1] else []

    @staticmethod
    def _certain(finding: Finding, tries: list[list[Finding]]) -> bool:
        """Whether what two tries found is to be believed: of counted frames, three of them, since a busy machine drops some."""
        if finding.kind in UNCERTAIN:
            return False
        return finding.kind not in COUNTED or sum(any(one.confirms(finding) for one in some) for some in tries) > 2

    def _unsettled(self, cable: Cable, tries: list[list[Finding]]) -> Finding:
        """Return that the tries differ: what the best of them showed."""
        best = max((one for some in tries for one in some), key=lambda one: one.share)
        waited = self.waited / max(self.took, 1e-9)
        title = name(self.lab.topology, cable)
        if all(one.kind == "machine" for some in tries for one in some):
            words = f"no verdict: {title} could not be proved: {best}"
        else:
            words = (
                f"no verdict: {title} could not be proved: no two of {len(tries)} tries found the same, and what sends the "
                f"frames waited {waited:.0%} of the time for a processor; the best of them: {best}"
            )
        return Finding(cable, "machine", "", words, best.share)

    def _probed(self, planned: Schedule) -> tuple[Reports, bool, int]:
        """Return what was seen at each NIC, whether what sends had to wait for processors, and what those have dropped."""
        nonce = secrets.token_hex(8)
        nics = [
            self._wanted(*ends, cable, planned) for cable in planned.spans for ends in (cable.ports, cable.ports[::-1])
        ]
        if self.lab.probe is not None:
            said = [self.lab.probe({"nonce": nonce, "nics": nics})]
        else:
            by_host: dict[str, list[dict[str, Any]]] = {}
            for nic in nics:
                by_host.setdefault(nic["host"], []).append(nic)
            wanted = [(self.lab.hosts[host], {"nonce": nonce, "nics": some}) for host, some in by_host.items()]
            said = each(lambda one: _run(*one), wanted)
        waited, took = max(one["waited"] for one in said), max(one["seconds"] for one in said)
        self.waited += waited
        self.took += took
        dropped = sum(one["dropped"] for one in said)
        busy = waited > BUSY * took or dropped > 0
        return {(nic["host"], nic["nic"]): nic for one in said for nic in one["nics"]}, busy, dropped

    def _wanted(self, port: Port, far: Port, cable: Cable, planned: Schedule) -> dict[str, Any]:
        spans = planned.spans[cable]
        return {
            "host": port.node,
            "nic": port.nic,
            "device": self.lab.hosts[port.node].nic(port.nic).device,
            "peer": [far.node, far.nic],
            "to": self.lab.hosts[far.node].nic(far.nic).mac if far in self.lab.facing else "",
            "rate": self.rates[cable],
            "size": self.size,
            "sizes": plans.sizes(self.size),
            "patience": self.pace.patience,
            "pace": self.pace.hello,
            "meet": self.pace.meet,
            "quiet": self.pace.quiet + QUEUED / plans.frames_per_second(self.rates[cable], self.size),
            "drain": self.pace.drain,
            "ahead": 0.01,
            "tick": self.pace.tick,
            "shortest": min(span.seconds for span in spans),
            "from": min(span.start for span in spans),
            "every": _every(min(span.seconds for span in spans), plans.frames_per_second(self.rates[cable], self.size)),
            "until": max(span.end for span in spans),
            "loads": [(span.start, span.end, span.factor) for span in spans if port in span.senders],
        }


def _faster(tries: list[list[Finding]]) -> bool:
    """Whether a try found a cable faster than stated: another may not have been able to offer it enough."""
    return any(finding.kind == "rate" and finding.share > 1 for some in tries for finding in some)


def _every(seconds: float, frames_per_second: float) -> float:
    """Return after how long (seconds) counters are read again: on slow cables for every frame."""
    return 0.001 if frames_per_second < 4000 else seconds / 60


def _run(host: Host, wanted: dict[str, Any]) -> dict[str, Any]:
    """Have a host of its own probe its NICs. Raises TestbedError."""
    command = python_program(host, Path(prober.__file__))
    done = host.run(*command, json.dumps(wanted), timeout=120.0, quiet=True)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise TestbedError(f"{host.name}: its cables cannot be proved: {done.stderr.strip()[-200:]}") from None
    return found  # type: ignore[no-any-return]
