"""Does one fault beside a run of the suites: a pytest plugin, ``-p tests.faults.injection --fault ID --fault-log FILE``.

The suites run word for word. The log is JSON: for each test the evidence that the fault was in force, or why it was not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from channover.hosts import readback
from channover.hosts.host import Host, Journal
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.measure import flow
from channover.measure.file_transfer import FileTransfer
from channover.measure.running.phased import Phasing
from channover.model.link import Link
from channover.model.topology import Topology
from channover.network import lag
from channover.network.bonding import BondingDriver
from channover.network.openvswitch import OpenVSwitchDriver
from channover.scenarios import proving
from channover.scenarios.tunnels import Tunnels
from channover.targets.netns import NetnsTarget, Panel
from channover.targets.vm import VmTarget
from tests.faults.bench import Bench, NotInForce
from tests.faults.fault import Evidence, Fault, When
from tests.faults.table import FAULTS

INTO = {When.MID: 0.5, When.LATE: 5.0}
"""Seconds into the first traffic after which a fault of these moments is done."""


@dataclass
class Case:
    """One lab and the fault in it. Whatever goes wrong with the fault is noted, and never reaches the test."""

    fault: Fault
    test: str
    bench: Bench
    done: bool = False
    told: Evidence = ""
    void: str = ""
    _timer: threading.Timer | None = field(default=None, repr=False)
    _found: dict[str, str] | None = field(default=None, repr=False)

    def at(self, when: When) -> None:
        """Do the fault where this is its moment, once a lab."""
        if self.fault.when is when and not self.done and self.fault.do is not None:
            self.done = True
            try:
                self.told = self.fault.do(self.bench)
            except Exception as error:
                self.void = f"it could not be done: {type(error).__name__}: {error}"

    def traffic(self) -> None:
        """Do what is to be done as the first traffic begins, or soon after."""
        self.at(When.TRAFFIC)
        if self.fault.when in INTO and self._timer is None:
            self._timer = threading.Timer(INTO[self.fault.when], self.at, [self.fault.when])
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> dict[str, str]:
        """Return what shows that the fault was in force, while what it was done to still stands. The first look counts."""
        if self._found is None:
            self._found = self._look()
        return self._found

    def _look(self) -> dict[str, str]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join(10.0)
        found = {"test": self.test, "evidence": "", "void": self.void}
        if self.fault.do is not None and not self.done:
            found["void"] = f"its moment never came: {self.fault.when.value}"
        if self.done and not self.void:
            try:
                found["evidence"] = self.told if isinstance(self.told, str) else self.told()
            except NotInForce as error:
                found["void"] = f"not in force: {error}"
            except Exception as error:
                found["void"] = f"its evidence could not be had: {type(error).__name__}: {error}"
        return found


def _all_met(read_back: Callable[[Lab], readback.Readback], lab: Lab) -> readback.Readback:
    """Read a lab back, and miss nothing."""
    return replace(read_back(lab), unmet=())


def _unseen(host: Host) -> Host:
    """Return the host as somebody else would use it: what is done to it is no wish of the lab's, and is in no report."""
    if isinstance(host, NamespaceHost):
        return NamespaceHost(host.name, host.nics, host.lab, Journal())
    return cast(Host, replace(cast(Any, host), journal=Journal()))


class Injection:
    """The run's hooks, and what is put around what makes labs, LAGs and traffic."""

    def __init__(self, fault: Fault, log: Path) -> None:
        self.fault, self.log = fault, log
        self.case: Case | None = None
        self.test = ""
        self.ended: list[dict[str, str]] = []
        self.used: dict[str, int] = {}

    def install(self) -> None:
        """Put it around the product's own acts."""
        put: list[tuple[Any, str, Any]] = [(one, "lab", self._lab(one.lab)) for one in (NetnsTarget, VmTarget)]
        for driver in (OpenVSwitchDriver, BondingDriver):
            names = ("create", "create_passive", "create_switch")
            put += [(driver, name, self._made(getattr(driver, name))) for name in names if hasattr(driver, name)]
        put += [
            (flow.Flow, "start", staticmethod(self._traffic(flow.Flow.start))),
            (FileTransfer, "__call__", self._traffic(FileTransfer.__call__)),
            (Tunnels, "load", self._traffic(Tunnels.load)),
            (Phasing, "__call__", self._traffic(Phasing.__call__)),
        ]
        put.append((Lab, "lost", self._lost(Lab.lost)))
        if self.fault.blind:
            put += [
                (proving, "prove", lambda *_: []),
                (readback, "read_back", partial(_all_met, readback.read_back)),
                (lag.Lag, "_require", lambda _: None),
            ]
        for owner, name, value in put:
            setattr(owner, name, value)
        for owner, attribute, make in self.fault.patches:
            name = f"{getattr(owner, '__name__', owner)}.{attribute}"
            setattr(owner, attribute, make(getattr(owner, attribute), partial(self._use, name)))

    def _use(self, name: str) -> None:
        self.used[name] = self.used.get(name, 0) + 1

    def _lab(self, build: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def lab(target: object, topology: Topology, link: Link, journal: Journal) -> Iterator[Lab]:
            with build(target, topology, link, journal) as made:
                if not self.test or not topology.cables:  # a lab that is only there to probe
                    yield made
                    return
                hosts = {name: _unseen(host) for name, host in made.hosts.items()}
                asking = {name: replace(cast(Any, host), journal=Journal()) for name, host in made.hosts.items()}
                panel = made.cabling  # that of micro-VMs keeps no journal
                cabling = replace(panel, journal=Journal()) if isinstance(panel, Panel) else panel
                self.used.clear()
                case = self.case = Case(
                    self.fault, self.test, Bench(replace(made, hosts=hosts, cabling=cabling), asking)
                )
                case.at(When.BUILT)
                try:
                    yield made
                finally:
                    self._end(case)

        return lab

    def _end(self, case: Case) -> None:
        self.case = None
        found = case.end()
        if self.fault.patches and not found["void"]:
            unused = [name for name, *_ in self._patched() if name not in self.used]
            if unused:
                found["void"] = f"never used: {', '.join(unused)}"
            words = ", ".join(f"{name} replaced, used {count} times" for name, count in self.used.items())
            found["evidence"] = "; ".join(filter(None, [words, found["evidence"]]))
        self.ended.append(found)
        self.log.write_text(json.dumps(self.ended, indent=1))

    def _patched(self) -> Iterator[tuple[str]]:
        for owner, attribute, _ in self.fault.patches:
            yield (f"{getattr(owner, '__name__', owner)}.{attribute}",)

    def _made(self, create: Callable[..., Any]) -> Callable[..., Any]:
        def made(*words: Any, **named: Any) -> Any:
            end = create(*words, **named)
            if self.case is not None:
                self.case.bench.lags.append(end)
                if len(self.case.bench.lags) == 2:
                    self.case.at(When.BONDED)
            return end

        return made

    def _traffic(self, begin: Callable[..., Any]) -> Callable[..., Any]:
        def begun(*words: Any, **named: Any) -> Any:
            if self.case is not None:
                self.case.traffic()
            return begin(*words, **named)

        return begun

    def _lost(self, lose: Callable[..., Any]) -> Callable[..., Any]:
        def lost(*words: Any, **named: Any) -> Any:
            if self.case is not None:
                self.case.at(When.LOST)
            return lose(*words, **named)

        return lost

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.test = nodeid

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> None:  # noqa: ARG002
        if self.case is not None:
            self.case.at(When.READY)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:  # noqa: ARG002
        if self.case is not None:
            self.case.end()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault", choices=sorted(FAULTS), required=True)
    parser.addoption("--fault-log", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    made = Injection(FAULTS[config.getoption("--fault")], config.getoption("--fault-log"))
    made.install()
    config.pluginmanager.register(made, "tests_faults_injection")
