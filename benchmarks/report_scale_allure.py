"""How long the pages of a large run take, and how much memory: ``python benchmarks/report_scale_allure.py [N]``.

The run is made up, N tests of it (1000 unless told otherwise), each with the evidence of a real one, as much of it and in
as many files: sockets of both hosts, iperf3's report, samples of four NICs, a plot, a page. Exit code 1 where it takes
longer than 15 s or more memory than 1 GB, the most that all processes held at once.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).parent.parent / "plugins"))

from channover.model.catalogue import CATALOGUE, Behaviour
from channover.report import front_page
from channover.report.allure import make as allure_report
from channover.report.allure import page as story
from channover.report.allure.config import NODEID
from channover.report.allure.plot_process import SAMPLES
from channover.report.drawing.plots import nic_rates_svg
from channover.report.drawing.topology import topology_svg
from channover.report.facts import Bound, CableFacts, Course, HostFacts, NicBytes, NicFacts, Planned
from channover.report.results import Measurement, Results, Run, TestResult
from channover.report.signoff import certificate
from channover.verdict.expectation import at_least
from channover.verdict.measured import Reading
from channover.verdict.statistics import Estimate

SECONDS, BYTES = 15.0, 1_000_000_000
START = 1_780_000_000


def write_run(folder: Path, tests: int, seed: int = 1) -> Results:
    """Write a run of so many tests as a real one would have left it, and return its results."""
    chance = random.Random(seed)
    raw = folder / "allure-results"
    raw.mkdir(parents=True)
    behaviours = list(CATALOGUE.values())
    found = [_test(raw, number, behaviours[number % len(behaviours)], chance) for number in range(tests)]
    run = Run(
        id=folder.name,
        target="netns",
        kernel="6.18.5 x86_64",
        lag_driver="openvswitch",
        tools={"iperf3": "3.12"},
        link_rate=1e8,
        congestion_control="bbr",
        start="2026-05-28T20:26:40.000Z",
        end="2026-05-28T21:26:40.000Z",
        planned=tuple(Planned(test.nodeid, test.behaviour) for test in found),
    )
    results = Results(run, tuple(found))
    results.write(folder / "results.json")
    return results


def _test(raw: Path, number: int, behaviour: Behaviour, chance: random.Random) -> TestResult:
    nodeid = f"suites/scale/test_scale.py::test_behaviour[{number}]"
    times = [round(0.1 * step, 4) for step in range(60)]
    series = [
        (f"{host}.{nic} {way}", times, [round(chance.gauss(9.4e7, 2e6)) for _ in times])
        for host, way in (("left", "tx"), ("right", "rx"))
        for nic in "ab"
    ]
    svg = nic_rates_svg(
        series, title="tcp left→right", link_rate=1e8, phases=[("warm-up", 0, 0.4), ("measured", 0.4, 4)]
    )
    counters = [[chance.randrange(10**9) for _ in range(8)] for _ in times]
    samples = {
        "series": series,
        "hosts": {
            host: {"times": [START + time for time in times], "samples": {"eth1": counters, "eth2": counters}}
            for host in ("left", "right")
        },
    }
    interval = {name: chance.randrange(10**9) for name in ("socket", "start", "end", "bytes", "bits_per_second", "rtt")}
    sockets = "\n".join(
        f"ESTAB 0 {chance.randrange(10**6)} 10.93.93.1:{port} 10.93.93.2:5201 cubic" for port in range(150)
    )
    attachments = []
    for name, kind, text in (
        ("iperf3 left", "json", json.dumps({"intervals": [{"streams": [interval], "sum": interval}] * 70}, indent=1)),
        ("left: addresses, routes, rules, sockets, counters", "txt", sockets),
        ("right: addresses, routes, rules, sockets, counters", "txt", sockets),
        ("NIC rates, tcp left→right", "svg", svg),
        (SAMPLES, "json", json.dumps(samples)),
    ):
        file = f"{uuid4()}-attachment.{kind}"
        (raw / file).write_text(text, "utf-8")
        media = {"json": "application/json", "txt": "text/plain", "svg": "image/svg+xml"}[kind]
        attachments.append({"name": name, "source": file, "type": media})
    plot = next(str(one["source"]) for one in attachments if one["type"] == "image/svg+xml")
    reading = Reading("goodput", "bit/s", Estimate(9.41e7, 3e5, 40), at_least(9.3e7, "1448 of 1538"), True, True)
    hosts = [HostFacts(name, nics=(NicFacts("a", "eth1"), NicFacts("b", "eth2"))) for name in ("left", "right")]
    cables = [CableFacts(f"left.{nic}", f"right.{nic}", 1e8) for nic in "ab"]
    told = story.PageFacts(behaviour, [reading], topology_svg(hosts, cables), [story.Plot("tcp left→right", plot)])
    start = (START + number) * 1000
    step = {"status": "passed", "start": start, "stop": start + 900}
    labels = {"epic": behaviour.epic, "feature": behaviour.feature, "story": behaviour.story, "target": "netns"}
    uuid = str(uuid4())
    result = {
        "uuid": uuid,
        "name": f"test_behaviour[{number}]",
        "fullName": "suites.scale.test_scale#test_behaviour",
        "testCaseId": "scale",
        "titlePath": ["suites", "scale", "test_scale.py"],
        "status": "passed",
        "descriptionHtml": story.page(told),
        "steps": [
            *({**step, "name": f"left: ip address add 10.0.{n}.1/24 dev eth1"} for n in range(150)),
            {**step, "name": "tcp left→right: 4.0 s", "attachments": attachments},
        ],
        "parameters": [{"name": "number", "value": str(number)}],
        "labels": [{"name": key, "value": value} for key, value in {**labels, NODEID: nodeid}.items()],
        "start": start,
        "stop": start + 900,
    }
    (raw / f"{uuid}-result.json").write_text(json.dumps(result), "utf-8")
    done = {"status": "passed", "start": start, "stop": start}
    changes = [{**done, "name": f"left: ip link set eth{n} up"} for n in range(12)]
    names = ("record", "lab", "lag", "measuring", "tcp", "counted")
    fixtures: list[dict[str, object]] = [{**done, "name": name, "steps": changes} for name in names]
    for fixture in fixtures:
        container = {"uuid": str(uuid4()), "children": [uuid], "befores": [fixture], "afters": []}
        (raw / f"{container['uuid']}-container.json").write_text(json.dumps(container), "utf-8")
    measured = Measurement(
        "goodput", 9.41e7, "bit/s", 9.4e7, 9.3e7, None, behaviour.article, uncertainty=3e5, samples=40
    )
    rates = tuple(float(round(chance.gauss(9.4e7, 2e6))) for _ in range(120))
    course = Course("tcp left→right", "goodput", tuple(n / 10 for n in range(120)), rates, (Bound(0.5, 12.0, 9.3e7),))
    carried = tuple(NicBytes("tcp left→right", host, nic, 10**8, 10**6) for host in ("left", "right") for nic in "ab")
    passed = TestResult(nodeid, behaviour.id, "passed", "", 0.9)
    return replace(passed, measurements=(measured,), courses=(course,), nics=carried)


def memory(process: int) -> int:
    """Return the bytes that a process and its descendants hold now, shared pages counted once (smaps_rollup, Pss)."""
    total = 0
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
        for thread in Path(f"/proc/{process}/task").iterdir():
            total += sum(memory(int(child)) for child in (thread / "children").read_text().split())
    except (OSError, ValueError):
        pass  # it has ended
    return total


def main() -> int:
    """Measure, and say what was measured."""
    tests = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory(prefix="channover-scale-") as place:
        folder = Path(place) / "20260528T202640Z-000000"
        write_run(folder, tests)
        peaks = [0]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                peaks.append(memory(os.getpid()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        start, used = time.monotonic(), sum(os.times()[:4])
        certificate.write(folder, pdf=False)
        front_page.write(folder, report=False)
        made = allure_report.make(folder)
        first = front_page.write(folder, report=True)  # again, with links into the report, as a run does
        seconds, used = time.monotonic() - start, sum(os.times()[:4]) - used
        done.set()
        watcher.join()
        evidence = sum(file.stat().st_size for file in (folder / "allure-results").iterdir())
        size = made.path.stat().st_size
        print(
            f"{tests} tests, {evidence / 1e6:.0f} MB of evidence: certificate, first page of "
            f"{first.stat().st_size / 1e3:.0f} kB, and report of {size / 1e6:.0f} MB, "
            f"in {seconds:.1f} s ({used:.1f} s of processor time), at most {max(peaks) / 1e9:.2f} GB of memory"
        )
        return 0 if seconds <= SECONDS and max(peaks) <= BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
