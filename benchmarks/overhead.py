"""Where a test's time goes that is neither traffic nor a protocol converging: a pytest plugin.

    PYTHONPATH=benchmarks pytest -p overhead suites/mptcp [--where]

For each behaviour's test: the wall-clock time of its whole protocol (set-up, call, teardown, reports), less what the
plugin says it spent on traffic, on converging protocols and on waiting for its turn to measure. ``--where`` times the
parts beside it; a part may hold others, and those that run in threads may add up to more than passed.
"""

from __future__ import annotations

import functools
import importlib
import statistics
import time
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest

PARTS = (
    "channover.targets.netns:NetnsTarget.process",
    "channover.hosts.netns.host:LabProcess.build",
    "channover.hosts.netns.host:LabProcess.close",
    "channover.hosts.netns.host:NamespaceHost.state",
    "channover.scenarios.labs:configure",
    "channover.measure.cpu_lock:cpu_lock",
    "channover.observe.nics:Sampler.__init__",
    "channover.observe.nics:Sampler.stop",
    "channover.observe.trace:counters",
    "channover.network.programs.iperf:Transfer.start",
    "channover.network.programs.iperf:Transfer.stop",
    "channover.observe.evidence:collect_all",
    "channover.pytest_plugin.allure.evidence:of_flow",
    "channover.pytest_plugin.allure.evidence:nic_rates_svg",
    "channover.pytest_plugin.allure.evidence:_attach_sections",
    "allure:attach",
)
_spent: dict[str, float] = {}
_total: dict[str, float] = {}
_phases: dict[str, dict[str, float]] = defaultdict(dict)
_parts: dict[str, list[float]] = defaultdict(list)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--where``."""
    parser.addoption("--where", action="store_true", help="time the parts of a test's own time")


def pytest_configure(config: pytest.Config) -> None:
    """Wrap the parts; one that is not there is left out."""
    for part in PARTS if config.option.where else ():
        module, _, path = part.partition(":")
        try:
            owner: Any = importlib.import_module(module)
            *outer, name = path.split(".")
            for step in outer:
                owner = getattr(owner, step)
            found = owner.__dict__[name] if outer else getattr(owner, name)
        except (ImportError, AttributeError, KeyError):
            continue
        inner = found.__func__ if isinstance(found, classmethod) else found
        timed = _timed(path, inner)
        setattr(owner, name, classmethod(timed) if isinstance(found, classmethod) else timed)


def _timed(name: str, function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            _parts[name].append(time.perf_counter() - start)

    return wrapper


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Time a test's whole protocol."""
    start = time.perf_counter()
    result = yield
    _total[item.nodeid] = time.perf_counter() - start
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take what the test says that it spent."""
    from channover.pytest_plugin.results.outcomes import LEFT

    _phases[report.nodeid][report.when or ""] = report.duration
    left = getattr(report, LEFT, None)
    if left is not None and not report.skipped:
        _spent[report.nodeid] = sum(left["spent"].values())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print each test's own time and the median."""
    own = {test: _total[test] - spent for test, spent in _spent.items() if "call" in _phases[test]}
    if not own:
        return
    terminalreporter.section("neither traffic nor converging, ms")
    for test, seconds in own.items():
        phases = _phases[test]
        rest = phases["call"] - _spent[test]
        around = _total[test] - sum(phases.values())
        words = f"set-up {phases['setup'] * 1e3:.0f}, call {rest * 1e3:.0f}, teardown {phases['teardown'] * 1e3:.0f}"
        terminalreporter.write_line(
            f"{seconds * 1e3:6.0f}  ({words}, around {around * 1e3:.0f})  {test.split('::')[-1]}"
        )
    terminalreporter.write_line(f"{statistics.median(own.values()) * 1e3:6.0f}  median of {len(own)}; the aim is 50")
    for name, taken in sorted(_parts.items(), key=lambda part: -sum(part[1])):
        median = statistics.median(taken) * 1e3
        terminalreporter.write_line(f"{sum(taken) / len(own) * 1e3:6.1f} a test  {median:6.1f} × {len(taken)}  {name}")
