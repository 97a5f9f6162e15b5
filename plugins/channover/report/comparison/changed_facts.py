"""What of the testbed is not the same in other runs: kernels, drivers, firmware, tools, suites, and what was noted of tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from channover.report.results import Results, Run
from channover.text import readable


@dataclass(frozen=True)
class Fact:
    """Something about the testbed or the plan that is not the same on both sides; what varied within one, all of it."""

    name: str
    before: str
    after: str


def changed_facts(before: Sequence[Results], after: Sequence[Results]) -> Iterator[Fact]:
    """Yield what differs between the runs of two sides; each run of a side counts."""
    old, new = ([dict(_flat(results.run)) for results in side] for side in (before, after))
    yield from _differing(old, new)
    yield from _noted(before, after)


def _differing(old: Sequence[dict[str, str]], new: Sequence[dict[str, str]]) -> Iterator[Fact]:
    for name in dict.fromkeys(name for facts in (*old, *new) for name in facts):
        sides = [list(dict.fromkeys(facts.get(name) or "–" for facts in side)) for side in (old, new)]
        if set(sides[0]) != set(sides[1]):
            yield Fact(name, ", ".join(sides[0]), ", ".join(sides[1]))


def _noted(before: Sequence[Results], after: Sequence[Results]) -> Iterator[Fact]:
    """Yield the tests whose notes are of other kinds now; their figures differ from run to run."""
    old, new = ({test.nodeid: test for results in side for test in results.tests} for side in (before, after))
    for nodeid in (nodeid for nodeid in old if nodeid in new):
        kinds = [
            dict.fromkeys(
                note.id for results in side for test in results.tests if test.nodeid == nodeid for note in test.notes
            )
            for side in (before, after)
        ]
        if kinds[0].keys() != kinds[1].keys():
            said = [", ".join(each) or "–" for each in kinds]
            yield Fact(f"{new[nodeid].behaviour or readable(nodeid)}: noted", *said)


def _flat(run: Run) -> Iterator[tuple[str, str]]:
    yield "lab", run.lab
    yield "kernel", run.kernel
    yield "link rate, bit/s", f"{run.link_rate:g}"
    yield "MTU, bytes", f"{run.mtu}"
    yield "LAG driver", run.lag_driver or ""
    yield "congestion control", run.congestion_control
    yield "suites", run.revision
    for name, seconds in run.durations.items():
        yield f"{name}, s", f"{seconds:g}"
    yield from run.tools.items()
    for host in run.hosts:
        yield f"{host.name}: machine", host.machine
        yield f"{host.name}: kernel or firmware", host.kernel
        for nic in host.nics:
            place = f"{host.name}.{nic.name}"
            yield f"{place}: device", nic.device
            yield f"{place}: driver", nic.driver
            yield f"{place}: firmware", nic.firmware
            yield f"{place}: speed, bit/s", "" if nic.speed is None else f"{nic.speed:g}"
    if run.cables:
        yield "cables", ", ".join(sorted(f"{cable.a}–{cable.b}" for cable in run.cables))
