"""The proof of a lab's cables as a run makes it: before a test, and after a verdict against."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from channover.errors import TestbedError
from channover.hosts.lab import Lab
from channover.hosts.readback import Carriers, states
from channover.measure.cpu_lock import Progress, cpu_lock, taken
from channover.model.processors import strain
from channover.observe.processors import OwnMachine
from channover.observe.proof.account import Account, account, lost
from channover.observe.proof.findings import Finding, name
from channover.observe.proof.prove import prove
from channover.verdict.notes import Note
from channover.verdict.shortage import Shortage, suggested

OF_TCP = 0.25
"""What share of bare frames a machine carries as TCP, whose segments are acknowledged and go through two programs."""
QUEUED = 0.3
"""Seconds in which a cable's queue is empty that nobody fills any more: it holds what is sent in a tenth of that."""
SHOWN = 4
"""Findings that an error names."""


def require(lab: Lab, progress: Progress = lambda _: None) -> float:
    """Prove the cables that the target has not proved, routed paths apart; return how long (seconds) was waited for a turn to.

    Raises TestbedError that names what speaks against them.
    """
    cables = [one for one in lab.topology.cables if one not in lab.proved and not lab.uplinks.keys() & {*one.ports}]
    if not cables:
        return 0.0
    with cpu_lock(progress, processors=_taken(lab)) as waited, lab.journal.step("panel", f"prove {len(cables)} cables"):
        found = prove(lab, cables)
        if any(one.kind == "machine" for one in found):
            found = _explained(lab, found)
    if found:
        raise unfit(found)
    return waited


def _taken(lab: Lab) -> float:
    """Return how many processors a proof takes: every cable both ways at once."""
    return taken(2 * sum(map(lab.rate, lab.topology.cables)))


def _explained(lab: Lab, found: Sequence[Finding]) -> list[Finding]:
    """Prove cables once more that this machine could not prove; say what its processors did meanwhile, and what would do."""
    machine = OwnMachine()
    before = machine()
    again = prove(lab, [one.cable for one in found if one.kind == "machine"])
    machine.scan()
    busy = Shortage(strain(before, machine()), share=1.0)
    rest = [one for one in found if one.kind != "machine"]
    return rest + [_with_reason(lab, one, busy) if one.kind == "machine" else one for one in again]


def _with_reason(lab: Lab, finding: Finding, busy: Shortage) -> Finding:
    rate = lab.rate(finding.cable)
    if busy.by_others:
        return replace(finding, statement=f"{finding}; {busy.reason(finding.share * rate * OF_TCP, 1, rate)}")
    filled = f"processor {busy.strain.core} was {busy.strain.full:.0%} busy over the proof as a whole"
    less = suggested(rate, finding.share * rate * OF_TCP)
    return replace(finding, statement=f"{finding}; {filled}{f': --link-rate {less} works' if less else ''}")


def after_a_verdict(lab: Lab, waited: Callable[[float], None] = lambda _: None) -> list[Finding]:
    """Prove all cables again, and return what speaks against them.

    A cable that is pulled is none: a test may do that. Nor is one that this machine is too busy to prove.
    ``waited`` is told how long (seconds) a turn was waited for.
    """
    cables = lab.topology.cables if lab.probe is not None else [one for one in lab.topology.cables if one in lab.proved]
    held = cpu_lock(processors=_taken(lab)) if lab.probe is not None else nullcontext(0.0)
    with held as seconds, lab.journal.step("panel", f"prove {len(cables)} cables again"):
        waited(seconds)
        carriers = Carriers(states(lab))
        found = [one for one in prove(lab, cables) if one.kind not in ("carrier", "machine")]
        return list(_flapping(lab, carriers, found)) if found else []


def _flapping(lab: Lab, carriers: Carriers, found: Sequence[Finding]) -> Iterator[Finding]:
    """Yield what speaks against cables; where a carrier came and went meanwhile it is that, and not what was lost by it."""
    changes = list(carriers.changes(lab, states(lab)))
    for one in found:
        seen = [f"{port.node}'s NIC {port.nic} {number} times" for port, number in changes if port in one.cable.ports]
        if seen:
            words = (
                f"{name(lab.topology, one.cable)} loses its carrier and gets it back: that of {' and of '.join(seen)}"
            )
            one = Finding(one.cable, "carrier", "", words)
        yield one


@contextmanager
def accounted(lab: Lab, notes: Callable[[Note], None]) -> Iterator[None]:
    """Count the frames that a test sends in the block at both ends of each cable, and note what a cable lost of them.

    A cable that was pulled meanwhile, or whose frames were made to vanish, is left out, and so is a way through switches: by
    which NIC a frame arrives is theirs to choose. So is a routed path.
    """
    before = _account(lab)
    yield
    if before is None or (after := _account(lab)) is None:
        return
    done = [step.title for step in lab.journal.steps if "cable" in step.title or "vanish" in step.title]
    bare = [one for one in lab.topology.cables if not (lab.facing.keys() | lab.uplinks.keys()) & {*one.ports}]
    whole = [one for one in bare if not any(str(port) in title for title in done for port in one.ports)]
    if any(lost(whole, before, after)):  # or it is in a cable's queue still: programs that are ended leave theirs full
        time.sleep(QUEUED)
        if (after := _account(lab)) is None:
            return
    dropped = after.dropped - before.dropped
    why = f"; meanwhile this machine's processors dropped {dropped:,} that came too fast for them" if dropped else ""
    for one in lost(whole, before, after):
        figures = {"frames": one.frames, "sent": one.sent, "share": one.frames / one.sent, "dropped": dropped}
        notes(Note("lost-frames", one.text(lab.topology) + why, figures))


def _account(lab: Lab) -> Account | None:
    """Return what NICs have counted; None where a host does not answer: what it failed of says the test itself."""
    try:
        return account(lab)
    except TestbedError:
        return None


def unfit(found: Sequence[Finding]) -> TestbedError:
    """Return findings as an error of the testbed, of the first one's kind."""
    kind = found[0].kind
    return TestbedError(words(found), "processors" if kind in ("machine", "overrun") else f"cable-{kind}")


def words(found: Sequence[Finding]) -> str:
    """Return findings as one line."""
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(map(str, found[:SHOWN])) + more
