"""Evidence of a test as it arises: attachments for Allure, the live line, the explanation of a failed comparison."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields, replace
from html import escape
from pathlib import Path
from typing import Any

import allure
import allure_commons

from channover.hosts.host import Host, Step
from channover.hosts.lab import Lab
from channover.measure.file_transfer import Copied
from channover.measure.flow import Flow
from channover.measure.record import Record
from channover.measure.running.phased import Phased
from channover.measure.running.streaming import Played
from channover.measure.running.telephony import Calling
from channover.measure.running.watch import processor_use
from channover.model.link import Link
from channover.network.programs.applications.sip import calls_a_second
from channover.network.programs.iperf_output import SLICE
from channover.observe import evidence
from channover.observe.nics import NicCounters, NicSeries
from channover.report.allure.plot_process import PLACEHOLDER, SAMPLES, Plotter
from channover.report.allure.plots import Phase, Series
from channover.report.facts import NicBytes
from channover.report.signoff.masking import Masker
from channover.scenarios.loop.ways import LOOP_ENDPOINT
from channover.scenarios.tunnels import Loaded
from channover.verdict.causes.cause import Explanation
from channover.verdict.measured import Reading
from channover.verdict.statistics import settled_part


def attach_text(name: str, text: str) -> None:
    """Attach a text to the running test."""
    allure.attach(text, name, allure.attachment_type.TEXT)


def of_lab(lab: Lab) -> None:
    """Attach what every host shows of itself: for a test that failed before any flow."""
    for name, sections in evidence.collect_all(list(lab.hosts.values())).items():
        _attach_sections(name, sections)


def of_flow(record: Record, flow: Flow) -> None:
    """Attach what a flow left: iperf3's JSON, the hosts' sockets and counters, a plot of each NIC's rate."""
    record.traffic += flow.seconds
    record.processors.append(processor_use(flow.name, flow.run.slices.shortage))
    with allure.step("; ".join([f"{flow.name}: {flow.seconds:.1f} s", *flow.programs.notes])):
        for transfer in flow.programs.transfers:
            if transfer.report:
                text = json.dumps(transfer.report, indent=1)
                allure.attach(text, f"iperf3 {transfer.source.name}", allure.attachment_type.JSON)
                record.congestion_control = transfer.congestion_control or record.congestion_control
        _attach_all(record, flow.name, flow.evidence)
        began = time.time() - (time.monotonic() - flow.run.measurement.started)
        warm = max(flow.seconds - len(settled_part(flow.run.samples())) * SLICE, 0.0)
        spans = phases(warm, flow.seconds, began, record.journal.steps)
        _attach_rates(record, flow.name, flow.programs.hosts, flow.programs.series, flow.measuring.link, spans)


def of_copy(record: Record, copied: Copied) -> None:
    """Attach what a file copy left: the hosts' sockets and counters, a plot of each NIC's rate."""
    record.traffic += copied.copy.seconds
    if copied.shortage is not None:
        record.processors.append(processor_use(copied.name, copied.shortage))
    start, end = copied.copy.setup, copied.copy.setup + copied.copy.seconds
    with allure.step(f"{copied.name}: {copied.copy.seconds:.1f} s"):
        _attach_all(record, copied.name, evidence.collect_all(copied.hosts))
        spans = [("set-up", 0.0, start), ("copy", start, end)]
        _attach_rates(record, copied.name, copied.hosts, copied.nics.series, copied.measuring.link, spans)


def of_phased(record: Record, moving: Phased) -> None:
    """Attach what traffic with phases left: what hosts show of themselves, a plot of each NIC's rate with its phases."""
    seconds = moving.series[moving.hosts[0].name].duration
    record.traffic += seconds
    with allure.step(f"{moving.name}: {seconds:.1f} s"):
        _attach_all(record, moving.name, moving.trace.evidence)
        _attach_rates(record, moving.name, moving.hosts, moving.series, moving.measuring.link, moving.bands)


def of_calls(record: Record, calling: Calling) -> None:
    """Attach what sipp wrote of its calls, and a plot of how many a second were placed, and kept to their end."""
    seen, moving = calling.seen, calling.moving
    attach_text(f"sipp, {moving.name}", seen.statistics)
    if seen.sessions:
        attach_text(f"TLS, {moving.name}", "\n".join(seen.sessions))
    rates = calls_a_second(seen.intervals)
    times = [at for at, _, _ in rates]
    series = [
        ("placed", times, [placed for _, placed, _ in rates]),
        ("kept to their end", times, [kept for _, _, kept in rates]),
    ]
    of_course(record, f"calls, {moving.name}", series, "calls a second", moving.bands)


def of_streams(record: Record, streams: Sequence[Played]) -> None:
    """Attach a plot of what players had before them, and what stalled, as text."""
    series = []
    for one in streams:
        points = one.seen.playback.buffer
        series.append((one.moving.ends.transport.value, [at for at, _ in points], [level for _, level in points]))
        stalls = [f"{stall.at:.2f} s: {stall.seconds:.2f} s" for stall in one.seen.playback.stalls]
        attach_text(f"stalls, {one.moving.name}", "\n".join(stalls) or "none")
    first = streams[0].moving
    title = first.name.replace(f" over {first.ends.transport.value}", "")
    stalled = [("stall", one.at, one.at + one.seconds) for stream in streams for one in stream.seen.playback.stalls]
    of_course(record, f"buffer, {title}", series, "seconds of the stream", sorted(stalled, key=lambda one: one[1]))


def of_course(record: Record, title: str, series: Sequence[Series], axis: str, bands: Sequence[Phase] = ()) -> None:
    """Attach a plot of values over time, with what is beside its axis, and what it is drawn from."""
    drawn = {"title": title, "axis": axis, "phases": bands, "series": series}
    if file := _plots.attach(title, drawn):
        record.plots.append((title, file))
    allure.attach(json.dumps(drawn), SAMPLES, allure.attachment_type.JSON)


def told_phases(moving: Phased, missed: Reading) -> Explanation:
    """Say what most likely made a value of traffic not what was expected, and what each NIC carried in each phase."""
    lines = []
    for span in moving.spans:
        for host in moving.hosts:
            sizes = ", ".join(f"{nic} {moving.moved(host, nic, span.name).total_bytes:,} bytes" for nic in host.nics)
            lines.append(f"{span.name}: {host.name}: {sizes}")
    found = moving.measuring.explain(moving, missed)
    return replace(found, seen=(*lines, *found.seen))


def of_load(record: Record, loaded: Loaded) -> None:
    """Attach what the NICs carried under a load: a loop in it is a fault, a guard against that its repair."""
    with allure.step(f"{loaded.title}: {loaded.seconds:.1f} s"):
        spans = phases(0.0, loaded.seconds, loaded.began, record.journal.steps, "load")
        _attach_rates(record, loaded.title, loaded.hosts, loaded.series, loaded.link, spans)


def _attach_rates(
    record: Record,
    title: str,
    hosts: Sequence[Host],
    taken: Mapping[str, NicSeries],
    link: Link,
    spans: Sequence[Phase],
) -> None:
    """Attach a plot of each NIC's rate, and what it is drawn from, and note bytes; of many NICs, the busiest are drawn."""
    record.nics += _carried(title, hosts, taken)
    taken = {name: one.thinned(MOST_SAMPLES) for name, one in taken.items()}
    series = _series(hosts, taken)
    busiest = sorted(series, key=lambda one: -sum(one[2]))[:MOST]
    drawn = {
        "title": title if len(series) <= MOST else f"{title}: the {MOST} busiest of {len(series)} NICs",
        "link_rate": link.rate,
        "phases": spans,
        "series": [one for one in series if one in busiest],
    }
    if file := _plots.attach(title, drawn):
        record.plots.append((title, file))
    allure.attach(json.dumps({**drawn, **_counters(taken)}), SAMPLES, allure.attachment_type.JSON)


def _carried(title: str, hosts: Sequence[Host], taken: Mapping[str, NicSeries]) -> list[NicBytes]:
    found = []
    for host in hosts:
        for nic in host.nics.values():
            if nic.device in taken[host.name].devices:
                moved = taken[host.name].delta(nic.device)
                found.append(NicBytes(title, host.name, nic.name, moved.tx_bytes, moved.rx_bytes))
    return found


def _counters(taken: Mapping[str, NicSeries]) -> dict[str, Any]:
    """Return every sample as plain data: rows of counters in the order of their names, since most of a report is this."""
    hosts = {
        name: {
            "times": [round(time, 6) for time in one.times],
            "samples": {device: [astuple(sample) for sample in samples] for device, samples in one.samples.items()},
        }
        for name, one in taken.items()
    }
    return {"counters": [each.name for each in fields(NicCounters)], "hosts": hosts}


def _attach_all(record: Record, title: str, shown: Mapping[str, Mapping[str, str]]) -> None:
    record.seen.append((title, shown))
    for name, sections in shown.items():
        _attach_sections(name, sections)


def _attach_sections(name: str, sections: Mapping[str, str]) -> None:
    text = "\n\n".join(f"--- {title}\n{body.rstrip()}" for title, body in sections.items() if body.strip())
    attach_text(f"{name}: addresses, routes, rules, sockets, counters", text)


class Plots:
    """Plots as attachments: Allure gets a placeholder, whose file the plotter then overwrites."""

    def __init__(self) -> None:
        self._plotter = Plotter()
        self._written: str | None = None
        self.folder: Path | None = None
        self.masker = Masker()

    def attach(self, title: str, drawn: Mapping[str, Any]) -> str | None:
        """Attach a plot to the running test; return the name of its file, None where nothing is kept."""
        self._written = None
        allure.attach(
            PLACEHOLDER.format(escape(title)),
            f"{'' if 'axis' in drawn else 'NIC rates, '}{title}",
            allure.attachment_type.SVG,
        )
        if self._written is not None and self.folder is not None:
            self._plotter.draw(self.folder / self._written, self.masker.of(drawn))
        return self._written

    @allure_commons.hookimpl(trylast=True)
    def report_attached_data(self, file_name: str) -> None:
        """Learn from Allure by what name it has written an attachment."""
        self._written = file_name

    def finish(self, timeout: float) -> bool:
        """Wait until all plots are drawn, no longer than ``timeout`` (seconds); False where some are not."""
        return self._plotter.finish(timeout)


_plots = Plots()


def plots_into(folder: Path, masker: Masker) -> Plots:
    """Have plots drawn into the folder of Allure's results, without secrets."""
    _plots.folder, _plots.masker = folder, masker
    if not allure_commons.plugin_manager.is_registered(_plots):
        allure_commons.plugin_manager.register(_plots)
    return _plots


MOST = 8
"""NICs in one plot: its key has no room for many more."""


MOST_SAMPLES = 3000
"""Of each NIC in a report, five minutes of ten a second: twenty minutes would be as large as all else of a run."""


def _series(hosts: Sequence[Host], series: Mapping[str, NicSeries]) -> list[Series]:
    found: list[Series] = []
    for host in hosts:
        taken = series[host.name]
        if not taken.times:
            continue
        for nic in host.nics.values():
            if nic.device not in taken.devices:
                continue
            moved = taken.delta(nic.device)
            way = "tx" if moved.tx_bytes >= moved.rx_bytes else "rx"
            times = [round(time - taken.times[0], 4) for time in taken.middles]
            found.append((f"{host.name}.{nic.name} {way}", times, [round(one) for one in taken.rate(nic.device, way)]))
    return found


_FAULT = re.compile(
    rf"pull the cable (?P<what>.+)|ip link set (?:dev )?(?P<device>\S+) down"
    rf"|ip mptcp endpoint add (?P<loop>\S+) id {LOOP_ENDPOINT}\b"
)
_REPAIR = re.compile(r"plug in the cable |ip link set (?:dev )?\S+ up|nft -f ")


def phases(warm: float, end: float, began: float, steps: Sequence[Step], label: str = "measured") -> list[Phase]:
    """Return what a flow went through, in seconds from its start: warm-up, measured, and each fault with its recovery.

    It ``began`` at a moment (seconds since the epoch), was warm after ``warm`` and over after ``end`` seconds. Faults are
    the steps that take a link away, or offer a tunnel's own address as a path, until one that gives a link back, or loads
    a guard.
    """
    found: list[Phase] = [("warm-up", 0.0, warm)] if warm else []
    since = warm
    for step in steps:
        at = step.start - began
        if not since < at < end:
            continue
        if match := _FAULT.match(step.title):
            loop = match["loop"] and f"loop by {match['loop']}"
            if loop and label.startswith("fault: loop"):
                continue  # it has begun already
            what = match["what"] or loop or f"{step.host} {match['device']}"
            following = f"fault: {what}"
        elif _REPAIR.match(step.title) and label.startswith("fault"):
            following = "recovery"
        else:
            continue
        found.append((label, since, at))
        label, since = following, at
    return [*found, (label, since, end)]
