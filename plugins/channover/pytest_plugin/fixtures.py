"""The fixtures that suites are written with: ``lab``, ``lag``, ``switched``, ``multipath``, ``tunnels``, ``tcp``…."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import pytest

from channover.errors import UsageError
from channover.hosts.lab import Lab
from channover.measure import own_values
from channover.measure.file_transfer import Copies
from channover.measure.flow import FlowEvents
from channover.measure.measurement import Measuring
from channover.measure.own_values import Counted, Listing, Observing
from channover.measure.record import Record
from channover.measure.traffic import Traffic
from channover.model.topology import Topology, pair
from channover.network.lag import HashPolicy, Lag
from channover.network.programs.iperf import Protocol
from channover.observe.counters import own_processors
from channover.pytest_plugin.allure import evidence as evidencing
from channover.run.environment import Session
from channover.scenarios import labs as paths
from channover.scenarios.bonds import Bonds
from channover.scenarios.labs import Multipath, Switched
from channover.scenarios.loop_lab import LoopLabs
from channover.scenarios.loop_lab import loop_lab as make_loop_lab
from channover.scenarios.tunnels import Tunnels

SESSION = pytest.StashKey[Session]()
RECORD = pytest.StashKey[Record]()


_Value = TypeVar("_Value")


def marked(item: pytest.Item, name: str, kind: type[_Value]) -> _Value | None:
    """Return what a test's marker of that name holds, None where it has none. Raises UsageError for another kind of thing."""
    mark = item.get_closest_marker(name)
    if mark is None:
        return None
    if not mark.args or not isinstance(mark.args[0], kind):
        raise UsageError(f"{item.nodeid}: the marker {name} takes a {kind.__name__}: see channover.testing")
    return mark.args[0]


@pytest.fixture
def channover_record(request: pytest.FixtureRequest) -> Record:
    """Give the test's record: what it leaves for the report."""
    record: Record = request.node.stash[RECORD]
    return record


@pytest.fixture
def lab(request: pytest.FixtureRequest, channover_record: Record) -> Iterator[Lab]:
    """Bring up a topology: a pair, or what ``@on(…)`` asks for. Hosts have no addresses yet."""
    session = request.config.stash[SESSION]
    topology = marked(request.node, "topology", Topology) or pair()
    with session.target.lab(topology, session.settings.link_for(topology), channover_record.journal) as made:
        yield made
        if channover_record.failed and not channover_record.flows and not session.settings.place.dry_run:
            evidencing.of_lab(made)


@pytest.fixture
def bond(request: pytest.FixtureRequest, lab: Lab, channover_record: Record) -> Iterator[Bonds]:
    """Make LAGs between any two hosts of the lab: ``bond(lab["alpha"], lab["beta"], policy="layer3+4")``."""
    session = request.config.stash[SESSION]
    real = not session.settings.place.dry_run
    made = Bonds(lab, lambda: session.driver, channover_record, real, evidencing.attach_text)
    try:
        yield made
        made.tell()
    finally:
        made.close()


@pytest.fixture
def forming_lag(request: pytest.FixtureRequest, bond: Bonds) -> Lag:
    """Make the cables from client to server, or between two switches, one LAG; LACP may still be at work."""
    return bond.of_topology(marked(request.node, "hash_policy", HashPolicy) or HashPolicy.LAYER2)


@pytest.fixture
def lag(request: pytest.FixtureRequest, forming_lag: Lag, channover_record: Record) -> Lag:
    """Give a LAG on which LACP has converged; where it does not, the rig is broken."""
    if request.config.stash[SESSION].settings.place.dry_run:
        return forming_lag
    with channover_record.converges():
        forming_lag.wait_converged()
    return forming_lag


@pytest.fixture
def switched(lab: Lab, lag: Lag) -> Switched:
    """Hosts behind two switches with a LAG between them (``@on(two_switches(n))``), with an address each."""
    return paths.attach(lab, lag)


@pytest.fixture
def multipath(lab: Lab) -> Multipath:
    """Two multihomed hosts with source rules and MPTCP endpoints on every cable between them."""
    return paths.configure(lab)


@pytest.fixture
def tunnels(multipath: Multipath, channover_record: Record, measuring: Measuring) -> Tunnels:
    """Make tunnels over the paths: ``with tunnels.ssh() as tunnel``."""
    return Tunnels(
        multipath,
        channover_record,
        measuring,
        loaded=lambda one: evidencing.of_load(channover_record, one),
        attach=evidencing.attach_text,
    )


@pytest.fixture
def loop_lab(tunnels: Tunnels) -> LoopLabs:
    """Make tunnels that can be made to feed on themselves, each for the length of a block."""
    return partial(make_loop_lab, tunnels)


@pytest.fixture
def measuring(request: pytest.FixtureRequest, lab: Lab, channover_record: Record) -> Iterator[Measuring]:
    """How this test measures; flows that a test leaves open are ended with it."""
    session = request.config.stash[SESSION]
    progress: Callable[..., None] = request.config.stash[evidencing.LIVE]
    made = Measuring(
        link=lab.link,
        duration=session.settings.duration,
        limit=session.settings.limit,
        native_mptcp=session.native_mptcp,
        processors=own_processors if session.settings.emulated else None,
        on_this_machine=session.settings.emulated and not session.settings.place.dry_run,
        record=channover_record.readings.append,
        progress=lambda one: progress(channover_record, one),
        step=channover_record.journal.scope,
    )
    yield made
    try:
        for flow in channover_record.flows:
            if not channover_record.failed:
                flow.run.leave()
    finally:
        for flow in channover_record.flows:
            flow.run.abandon()


def _traffic(protocol: Protocol, measuring: Measuring, record: Record) -> Traffic:
    events = FlowEvents(record.flows.append, lambda flow: evidencing.of_flow(record, flow), evidencing.explain)
    return Traffic(protocol, measuring, events)


@pytest.fixture
def tcp(measuring: Measuring, channover_record: Record) -> Traffic:
    """Send TCP from one end to another: a flow that is measured while it runs."""
    return _traffic(Protocol.TCP, measuring, channover_record)


@pytest.fixture
def udp(measuring: Measuring, channover_record: Record) -> Traffic:
    """Send UDP at an offered rate (bit/s) from one end to another."""
    return _traffic(Protocol.UDP, measuring, channover_record)


@pytest.fixture
def mptcp(measuring: Measuring, channover_record: Record) -> Traffic:
    """Send over Multipath TCP from one end to another."""
    return _traffic(Protocol.MPTCP, measuring, channover_record)


@pytest.fixture
def counted(channover_record: Record) -> Counted:
    """Make a count a value that the report shows with what was expected: ``counted("ports", 2) == 2``."""
    return own_values.counting(channover_record)


@pytest.fixture
def observe(request: pytest.FixtureRequest, channover_record: Record) -> Observing:
    """Make what was observed a value with a unit: ``observe("temperature", 41.5, "°C") <= 70``; or a function to be sampled."""
    wanted = request.config.stash[SESSION].settings

    def sampled(name: str, unit: str, samples: list[float]) -> None:
        evidencing.attach_text(f"samples of {name} ({unit})", "\n".join(map(repr, samples)))

    return Observing(channover_record, wanted.limit, wanted.duration, sampled)


@pytest.fixture
def listed(channover_record: Record) -> Listing:
    """Make a set a value that the report shows with what was expected: ``listed("address pairs", pairs) == mesh``."""
    return own_values.listing(channover_record)


@pytest.fixture
def copies(measuring: Measuring, channover_record: Record) -> Copies:
    """Copy a file from one end to another, as in ``copies(FileProtocol.HTTP, client, server)``."""
    return Copies(measuring, lambda copied: evidencing.of_copy(channover_record, copied))
