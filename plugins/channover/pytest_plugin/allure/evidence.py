"""Evidence of a test as it arises: attachments for Allure, the live line, the explanation of a failed comparison."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from html import escape
from pathlib import Path
from typing import Any

import allure
import allure_commons

from channover.hosts.host import Host
from channover.hosts.lab import Lab
from channover.measure.file_transfer import Copied
from channover.measure.flow import Flow
from channover.measure.record import Record, Sampled
from channover.measure.running.phased import Phased
from channover.measure.running.streaming import Played
from channover.measure.running.telephony import Calling
from channover.measure.running.watch import processor_use
from channover.model.link import Link
from channover.network.programs.applications.sip import calls_a_second
from channover.network.programs.iperf_output import SLICE
from channover.network.programs.numbered import SLICE as STREAM_SLICE
from channover.network.programs.numbered import StreamSeen
from channover.observe import evidence
from channover.observe.nics import NicSeries
from channover.pytest_plugin.allure import rates
from channover.pytest_plugin.results.courses import bounded
from channover.report.allure.plot_process import PLACEHOLDER, SAMPLES, Plotter
from channover.report.drawing.plots import Phase, Series
from channover.report.signoff.masking import Masker
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
        spans = rates.phases(warm, flow.seconds, began, record.journal.steps)
        samples = flow.run.samples()
        middles = [flow.seconds - (len(samples) - number - 0.5) * SLICE for number in range(len(samples))]
        seen = flow.programs
        goodput = ([round(at, 3) for at in middles], samples)
        _attach_rates(record, flow, flow.name, seen.hosts, seen.series, flow.measuring.link, spans, goodput)


def of_copy(record: Record, copied: Copied) -> None:
    """Attach what a file copy left: the hosts' sockets and counters, a plot of each NIC's rate."""
    record.traffic += copied.copy.seconds
    if copied.shortage is not None:
        record.processors.append(processor_use(copied.name, copied.shortage))
    start, end = copied.copy.setup, copied.copy.setup + copied.copy.seconds
    with allure.step(f"{copied.name}: {copied.copy.seconds:.1f} s"):
        _attach_all(record, copied.name, evidence.collect_all(copied.hosts))
        spans = [("set-up", 0.0, start), ("copy", start, end)]
        _attach_rates(record, copied, copied.name, copied.hosts, copied.nics.series, copied.measuring.link, spans)


def of_phased(record: Record, moving: Phased) -> None:
    """Attach what traffic with phases left: what hosts show of themselves, a plot of each NIC's rate with its phases."""
    seconds = moving.series[moving.hosts[0].name].duration
    record.traffic += seconds
    with allure.step(f"{moving.name}: {seconds:.1f} s"):
        _attach_all(record, moving.name, moving.trace.evidence)
        link, spans = moving.measuring.link, moving.bands
        _attach_rates(record, moving, moving.name, moving.hosts, moving.series, link, spans, _of_stream(moving, spans))


def _of_stream(moving: Phased, spans: Sequence[Phase]) -> tuple[Sequence[float], Sequence[float]]:
    """Return what the receiver of a stream got, as times (s) by its hosts' clock and bit/s; nothing of other traffic."""
    if not isinstance(moving.came, StreamSeen) or not spans:
        return (), ()
    ahead = spans[0][1] - moving.spans[0].begin.receiver
    sizes = moving.stream.slices
    return [round(ahead + (number + 0.5) * STREAM_SLICE, 3) for number in range(len(sizes))], [
        size * 8 / STREAM_SLICE for size in sizes
    ]


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
        _plots.draw(file, drawn)
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
        spans = rates.phases(0.0, loaded.seconds, loaded.began, record.journal.steps, "load")
        _attach_rates(record, loaded, loaded.title, loaded.hosts, loaded.series, loaded.link, spans)


def _attach_rates(
    record: Record,
    about: object,
    title: str,
    hosts: Sequence[Host],
    taken: Mapping[str, NicSeries],
    link: Link,
    spans: Sequence[Phase],
    goodput: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> None:
    """Attach a plot of each NIC's rate, and what it is drawn from; of many NICs, the busiest are drawn.

    The plot is drawn when the test is over (:func:`draw`): it shows what was expected, too. Note bytes, and the rates over
    time: of the ``goodput``, as times and bit/s, where it was sampled.
    """
    record.nics += rates.carried(title, hosts, taken)
    taken = {name: one.thinned(MOST_SAMPLES) for name, one in taken.items()}
    series = rates.lines(hosts, taken)
    busiest = sorted(series, key=lambda one: -sum(one[2]))[:MOST]
    total = rates.together(series, rates.receivers(hosts, taken))
    drawn = {
        "title": title if len(series) <= MOST else f"{title}: the {MOST} busiest of {len(series)} NICs",
        "link_rate": link.rate,
        "phases": spans,
        "series": [one for one in series if one in busiest],
        "sum": total,
        "goodput": goodput,
    }
    file = _plots.attach(title, drawn)
    if file:
        record.plots.append((title, file))
    allure.attach(json.dumps({**drawn, **rates.counters(taken)}), SAMPLES, allure.attachment_type.JSON)
    course = rates.course(title, "goodput" if goodput[0] else "NICs", *(goodput if goodput[0] else total), spans)
    record.sampled.append(Sampled(about, course, spans, file, drawn))


def draw(record: Record) -> None:
    """Have the plots of NICs' rates drawn, with what the test expected in them."""
    for one in record.sampled:
        if one.plot is not None:
            _plots.draw(one.plot, {**one.drawn, "bounds": [asdict(each) for each in bounded(record, one).bounds]})


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
            return self._written
        return None

    def draw(self, file: str, drawn: Mapping[str, Any]) -> None:
        """Have a plot drawn into an attachment, without secrets."""
        if self.folder is not None:
            self._plotter.draw(self.folder / file, self.masker.of(drawn))

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
