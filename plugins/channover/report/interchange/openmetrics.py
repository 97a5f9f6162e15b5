"""Results as OpenMetrics, the text that Prometheus, VictoriaMetrics and the like read, and Grafana draws from these.

Each sample has the time at which its run ended, so that former runs can be loaded too (``promtool tsdb create-blocks-from
openmetrics``). A measured value is one of ``channover_measured_bits_per_second``, ``…_seconds``, ``…_bytes``, or
``channover_measured`` with its unit as a label; what is known of it beside are families of their own with the same labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from channover.report.deciding.decision import decide
from channover.report.deciding.endings import STATES, ended
from channover.report.interchange.rows import numbered
from channover.report.results import Measurement, Results
from channover.text import printable

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_UNITS = {"bit/s": "bits_per_second", "s": "seconds", "bytes": "bytes"}
_PARTS: Mapping[str, tuple[str, Callable[[Measurement], float | None]]] = {
    "measured": ("A measured value.", lambda one: one.value),
    "uncertainty": ("Half the width of its 99 % interval; 0 of what is known exactly.", lambda one: one.uncertainty),
    "lowest": ("The least that is expected of it.", lambda one: one.low),
    "highest": ("The most that is expected of it.", lambda one: one.high),
}
_RUN = ("run", "target", "lab")
_TEST = (*_RUN, "behaviour", "test")
_VALUE = (*_TEST, "name", "number")


def to_openmetrics(runs: Sequence[Results]) -> str:
    """Return runs as a text of OpenMetrics 1.0."""
    from prometheus_client.openmetrics.exposition import generate_latest  # here, since --help does not need it
    from prometheus_client.registry import Collector, CollectorRegistry

    class Given(Collector):
        def collect(self) -> Iterable[Metric]:
            return _families(runs)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given())
    text: bytes = generate_latest(registry)
    return text.decode("utf-8")


def _families(runs: Sequence[Results]) -> Iterator[Metric]:
    from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, StateSetMetricFamily

    about = InfoMetricFamily("channover_run", "What a run was of, and what was decided on it.", labels=_RUN)
    states = StateSetMetricFamily("channover_test_state", "How a planned test ended.", labels=_TEST)
    lasted = GaugeMetricFamily("channover_test_duration_seconds", "How long a test took.", labels=_TEST)
    values = {
        (part, unit): GaugeMetricFamily(
            "_".join(filter(None, ("channover", part, _UNITS.get(unit, "")))),
            words,
            labels=_VALUE if unit else (*_VALUE, "unit"),
        )
        for part, (words, _) in _PARTS.items()
        for unit in (*_UNITS, "")
    }
    for results in runs:
        run, at = results.run, _seconds(results.run.end)
        place = _labels(run.id, run.target, run.lab)
        facts = {
            "kernel": run.kernel,
            "family": f"IPv{run.family}",
            "lag_driver": run.lag_driver or "",
            "revision": run.revision,
            "congestion_control": run.congestion_control,
            "decision": decide(results).verdict,
        }
        about.add_metric(place, {name: printable(text) for name, text in facts.items()}, timestamp=at)
        for plan, end in ended(results).values():
            labels = [*place, *_labels(plan.behaviour or "", end.nodeid)]
            states.add_metric(labels, {state: state == end.state for state in STATES}, timestamp=at)
            if end.result is None:
                continue
            lasted.add_metric(labels, end.result.duration, timestamp=at)
            for number, each in numbered(end.result):
                unit = each.unit if each.unit in _UNITS else ""
                named = [*labels, printable(each.name), str(number), *([] if unit else [printable(each.unit)])]
                for part, (_, of) in _PARTS.items():
                    if (found := of(each)) is not None:
                        values[part, unit].add_metric(named, found, timestamp=at)
    yield from (family for family in (about, states, lasted, *values.values()) if family.samples)


def _labels(*texts: str) -> list[str]:
    return [printable(text) for text in texts]


def _seconds(moment: str) -> float:
    """Return a moment of results as seconds since the epoch."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
