"""Runs for tests of what is made from results: plain ones, odd ones, large ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from channover.model.catalogue import CATALOGUE
from channover.report.facts import CableFacts, HostFacts, NicFacts, Planned
from channover.report.results import Measurement, Outcome, Results, Run, TestResult

RUN = Run(
    id="20260131T120000Z-0a1b2c",
    target="netns",
    kernel="6.18.5 x86_64",
    lag_driver="openvswitch",
    tools={"iperf3": "3.12", "iproute2": "6.1.0", "openvpn": "2.6.14"},
    link_rate=1e8,
    congestion_control="bbr",
    start="2026-01-31T12:00:00.000Z",
    end="2026-01-31T12:01:00.000Z",
    command=("pytest", "suites", "--target=netns"),
    lab="Bilbao 2",
    revision="v0.1.0-12-g919fa06",
    hosts=tuple(
        HostFacts(name, "host", "6.18.5", tuple(NicFacts(nic, f"eth{nic}", "veth", "", 1e8) for nic in "ab"))
        for name in ("left", "right")
    ),
    cables=(CableFacts("left.a", "right.a", 1e8), CableFacts("left.b", "right.b", 1e8)),
    confidence=0.99,
    durations={"each flow at most": 10.0},
)
RATE = Measurement(
    "goodput", 94.1e6, "bit/s", 94.15e6, 93.2e6, 95.1e6, 94.3e6, uncertainty=3e4, samples=40, why="1448 of 1538 bytes"
)
NICS = Measurement("NICs used", 1.0, "1", 1.0, 1.0, 1.0, uncertainty=0.0, samples=1)


def test(
    behaviour: str | None = "LAG-1",
    outcome: Outcome = "passed",
    reason: str = "",
    *,
    name: str = "",
    measurements: Sequence[Measurement] = (RATE, NICS),
    lost: bool = False,
) -> TestResult:
    nodeid = name or f"suites/test_any.py::test_{(behaviour or 'none').lower().replace('-', '_')}"
    return TestResult(nodeid, behaviour, outcome, reason, 2.5, tuple(measurements), lost)


test.__test__ = False  # type: ignore[attr-defined]


def results(*tests: TestResult, more_planned: Sequence[Planned] = (), **changes: Any) -> Results:
    """Return the results of a run that planned its tests, and perhaps more."""
    planned = (*(Planned(each.nodeid, each.behaviour) for each in tests), *more_planned)
    return Results(replace(RUN, **{"planned": planned, **changes}), tests)


def four_states() -> Results:
    """A failure, a skip, an error of the testbed, a lost worker, a test that never ran; and one that passed."""
    low = replace(RATE, value=61.2e6, uncertainty=1.1e6)
    return results(
        test("LAG-1"),
        test("LAG-2", "failed", "goodput of 61.2 Mbit/s ± 1.1 Mbit/s, expected 93.2 to 95.1", measurements=[low, NICS]),
        test("LAG-6", "skipped", "no FTP server: install vsftpd", measurements=[]),
        test("MP-1", "error", "left: iperf3 died with signal 9 after 1.2 s", measurements=[]),
        test("MP-2", "error", "worker 'gw1' crashed while running 'suites/test_any.py::test_mp_2'", lost=True),
        more_planned=[Planned("suites/test_any.py::test_mp_3", "MP-3")],
    )


def physical(**changes: Any) -> Results:
    """A run over two switches, with all that can be known of the hardware."""

    def host(name: str) -> HostFacts:
        nics = [
            NicFacts(nic, f"enp{n}s0f0", "ice", "4.40 0x8001c967 1.3534.0", 2.5e10, "pci")
            for n, nic in enumerate("ab", 65)
        ]
        return HostFacts(name, "host", "6.12.48+deb13-amd64", tuple(nics))

    def switch(name: str) -> HostFacts:
        return HostFacts(name, "switch", "EOS 4.32.2F", tuple(NicFacts(nic, f"Et{nic}") for nic in ("1", "2", "peer")))

    hosts = (host("bilbao-7"), host("gasteiz-3"), switch("tor-1"), switch("tor-2"))
    cables = [
        CableFacts(f"{h}.{n}", f"{s}.{p}", 2.5e10)
        for h, p in (("bilbao-7", 1), ("gasteiz-3", 2))
        for n, s in (("a", "tor-1"), ("b", "tor-2"))
    ]
    cables.append(CableFacts("tor-1.peer", "tor-2.peer", 1e11))
    fast = replace(RATE, value=23.51e9, expected=23.54e9, low=23.3e9, high=23.8e9, article=None, uncertainty=2.1e7)
    tests = [test(each, measurements=[fast, NICS]) for each in CATALOGUE]
    tests[7] = test(
        "LAG-8", "failed", "traffic came back after 31 s, expected at most 3 s (fast LACP timer)", measurements=[]
    )
    facts: dict[str, Any] = {
        "target": "physical",
        "hosts": hosts,
        "cables": tuple(cables),
        "link_rate": 2.5e10,
        "lag_driver": "bonding",
        "kernel": "6.12.48+deb13-amd64",
    }
    return results(*tests, **{**facts, **changes})


ODD = (
    "مضيف المختبر رقم ٧ ‮evil‬ end",
    "スイッチ二号機の非常に長い名前" * 4,
    "🧪🔥 " * 20,
    "<script>alert(1)</script><img src=https://example.net/x onerror=alert(2)>",
    "x" * 900,
    "{{ 7 * 7 }} {% raw %} \x1b[31m \x00 \udcff &amp; ]]> \" ' `",
)


def odd() -> Results:
    """Names and texts in any script, of any length, and hostile ones."""
    behaviours = list(CATALOGUE)
    tests = []
    for number, text in enumerate(ODD):
        outcome: Outcome = ("failed", "error", "skipped")[number % 3]
        wild = replace(RATE, name=text, why=text)
        tests.append(test(behaviours[number], outcome, text * 3, name=f"suites/{text}", measurements=[wild]))
    hosts = tuple(HostFacts(text, "host", text, (NicFacts("a", text, text, text, 1e10),)) for text in ODD)
    return results(
        *tests,
        hosts=hosts,
        cables=(CableFacts(f"{ODD[0]}.a", f"{ODD[1]}.a", 1e10),),
        lab=ODD[0],
        kernel=ODD[2],
        tools={text: text for text in ODD},
        command=ODD,
        revision=ODD[4],
        congestion_control=ODD[3],
    )


def large(count: int = 1000) -> Results:
    """Many tests over the whole catalogue, each with values, one in a hundred not passed."""
    behaviours = list(CATALOGUE)
    outcomes: list[Outcome] = ["failed", "error", "skipped"]
    tests = []
    for number in range(count):
        outcome: Outcome = outcomes[number // 100 % 3] if number % 100 == 99 else "passed"
        identifier = behaviours[number % len(behaviours)]
        reason = "" if outcome == "passed" else "the reason, in words that take some room. " * 20
        tests.append(test(identifier, outcome, reason, name=f"suites/test_many.py::test_one[{number}-señal-信号]"))
    return results(*tests)


def saved(found: Results, folder: Path) -> Path:
    """Write a run's results into a folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found.write(folder / "results.json")
    return folder
