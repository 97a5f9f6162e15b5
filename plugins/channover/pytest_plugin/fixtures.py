"""The fixtures that suites are written with: ``lab``, ``lag``, ``switched``, ``multipath``, ``tunnels``, ``tcp`` and more.

Every run of pytest loads this, also one without a test of channover's. So what a fixture gives is imported by the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from channover.pytest_plugin import phases
from channover.pytest_plugin.live.line import LIVE
from channover.pytest_plugin.stash import marked, topology_of
from channover.pytest_plugin.testbed import TESTBED

if TYPE_CHECKING:
    from channover.hosts.lab import Lab
    from channover.measure.file_transfer import Copied, FileTransfer
    from channover.measure.flow import Flow
    from channover.measure.measurement import Measuring
    from channover.measure.own_values import Counted, Listing, Observing
    from channover.measure.record import Record
    from channover.measure.running.downloads import Downloads
    from channover.measure.running.numbered_traffic import NumberedTraffic
    from channover.measure.running.phased import Phasing
    from channover.measure.running.streaming import Streaming
    from channover.measure.running.telephony import Telephony
    from channover.measure.traffic import TrafficGenerator
    from channover.network.lag import LacpRate, Lag
    from channover.scenarios.bonds import Bonds
    from channover.scenarios.full_ip import FullIP
    from channover.scenarios.labs import Multipath
    from channover.scenarios.lags.failover import SpreadFlows
    from channover.scenarios.lags.hashed import HashedFlows
    from channover.scenarios.lags.long_run import LongRuns
    from channover.scenarios.lags.switched import Switched
    from channover.scenarios.loop.means import LoopLabs
    from channover.scenarios.noting import Noting
    from channover.scenarios.tunnels import Tunnels


@pytest.fixture
def channover_record(request: pytest.FixtureRequest) -> Record:
    """Give the test's record: what it leaves for the report."""
    return phases.record_of(request.node)


@pytest.fixture
def lab(request: pytest.FixtureRequest, channover_record: Record) -> Iterator[Lab]:
    """Bring up a topology: a pair, or what ``@on(…)`` asks for. Hosts have no addresses yet."""
    from channover.pytest_plugin.allure import evidence
    from channover.scenarios import proving

    session = request.config.stash[TESTBED].session
    topology = topology_of(request.node)
    live = request.config.stash[LIVE]
    with ExitStack() as stack:
        with _building(request, channover_record):
            place = session.target.lab(topology, session.settings.link_for(topology), channover_record.journal)
            made = stack.enter_context(place)
            if made.probe is not None:
                channover_record.waits(proving.require(made, lambda one: live.tell(channover_record, one)))
        if session.settings.place.dry_run:
            yield made
            return
        with proving.accounted(made, channover_record.notes.append):
            yield made
        if channover_record.failed and not channover_record.flows:
            evidence.of_lab(made)


@contextmanager
def _building(request: pytest.FixtureRequest, record: Record) -> Iterator[None]:
    """Make something of a lab of namespaces beside what other tests measure, where the processors have room for both."""
    from channover.measure.cpu_lock import BUILDING, cpu_lock

    settings, live = request.config.stash[TESTBED].session.settings, request.config.stash[LIVE]
    if not settings.emulated or settings.place.dry_run:
        yield
        return
    with cpu_lock(lambda one: live.tell(record, one), processors=BUILDING) as waited:
        record.waits(waited)
        yield


@pytest.fixture
def bond(request: pytest.FixtureRequest, lab: Lab, channover_record: Record) -> Iterator[Bonds]:
    """Make LAGs between any two hosts of the lab: ``bond(lab["alpha"], lab["beta"], policy="layer3+4")``."""
    from channover.pytest_plugin.allure import evidence
    from channover.scenarios.bonds import Bonds

    session = request.config.stash[TESTBED].session
    real = not session.settings.place.dry_run
    made = Bonds(lab, lambda: session.driver, channover_record, real, evidence.attach_text)
    try:
        yield made
        made.tell()
    finally:
        made.close()


@pytest.fixture
def forming_lag(request: pytest.FixtureRequest, bond: Bonds, channover_record: Record) -> Lag:
    """Make the cables from client to server, or between two switches, one LAG; LACP may still be at work."""
    from channover.network.lag import HashPolicy

    with _building(request, channover_record):
        return bond.of_topology(marked(request.node, "hash_policy", HashPolicy) or HashPolicy.LAYER2)


@pytest.fixture
def lag(request: pytest.FixtureRequest, forming_lag: Lag, channover_record: Record) -> Lag:
    """Give a LAG on which LACP has converged; where it does not, the testbed is broken."""
    if request.config.stash[TESTBED].settings.place.dry_run:
        return forming_lag
    with channover_record.converges():
        forming_lag.wait_converged()
    return forming_lag


@pytest.fixture
def switched(request: pytest.FixtureRequest, lab: Lab) -> Switched:
    """Hosts behind two switches with a LAG between them (``@on(two_switches(n))``), with an address each.

    Switches of others have made the LAG themselves.
    """
    from channover.scenarios.lags.switched import attach

    return attach(lab, None if lab.behind else request.getfixturevalue("lag"))


@pytest.fixture
def multipath(lab: Lab) -> Multipath:
    """Two multihomed hosts with source rules and MPTCP endpoints on every cable between them."""
    from channover.scenarios.labs import configure

    return configure(lab)


@pytest.fixture
def tunnels(multipath: Multipath, channover_record: Record, measuring: Measuring) -> Tunnels:
    """Make tunnels over the paths: ``with tunnels.ssh() as tunnel``."""
    from channover.pytest_plugin.allure import evidence
    from channover.scenarios.tunnels import Tunnels

    return Tunnels(
        multipath,
        channover_record,
        measuring,
        loaded=lambda one: evidence.of_load(channover_record, one),
        attach=evidence.attach_text,
    )


@pytest.fixture
def full_ip(counted: Counted, listed: Listing) -> FullIP:
    """Send IP of every protocol and size through a tunnel: ``full_ip.require_unchanged(tunnel)``."""
    from channover.scenarios.full_ip import FullIP

    return FullIP(counted, listed)


@pytest.fixture
def hashed(
    lab: Lab, channover_record: Record, numbered: NumberedTraffic, counted: Counted, listed: Listing
) -> HashedFlows:
    """Send flows over a LAG, and look for each on the link on which the hash puts it: ``hashed(lag)``."""
    from channover.scenarios.lags.hashed import HashedFlows

    return HashedFlows(lab, channover_record, numbered, counted, listed)


@pytest.fixture
def loop_lab(tunnels: Tunnels) -> LoopLabs:
    """Make tunnels that can be made to feed on themselves, each for the length of a block."""
    from channover.scenarios.loop.means import loop_lab as make

    return partial(make, tunnels)


@pytest.fixture
def channover_noting(lab: Lab, channover_record: Record) -> Noting:
    """Give what reads the lab back before whatever is measured, and notes what was seen beside a verdict."""
    from channover.scenarios.noting import Noting

    return Noting(lab, channover_record)


@pytest.fixture
def measuring(
    request: pytest.FixtureRequest, lab: Lab, channover_record: Record, channover_noting: Noting
) -> Iterator[Measuring]:
    """How this test measures; flows that a test leaves open are ended with it."""
    from channover.measure.measurement import EXTENSION, WANDERS, Measuring
    from channover.observe.processors import OwnMachine
    from channover.scenarios import loads
    from channover.scenarios.diagnosis.asking import Diagnosis

    session = request.config.stash[TESTBED].session
    live = request.config.stash[LIVE]
    made = Measuring(
        link=lab.link,
        duration=session.settings.duration,
        limit=session.settings.limit,
        extension=EXTENSION * (WANDERS if lab.patience > 1 else 1.0),
        native_mptcp=session.native_mptcp,
        processors=OwnMachine() if session.settings.emulated else None,
        rehearsed=session.settings.place.dry_run,
        processors_taken=partial(loads.taken, lab, channover_record),
        on_this_machine=session.settings.emulated and not session.settings.place.dry_run,
        on_result=channover_record.readings.append,
        progress=lambda one: live.tell(channover_record, one),
        step=channover_record.journal.scope,
        waited=channover_record.waits,
        cables={str(port): lab.rate(cable) for cable in lab.topology.cables for port in cable.ports},
        ready=(lambda: None) if session.settings.place.dry_run else channover_noting.ready,
        explain=Diagnosis(lab, channover_record).explain,
    )
    yield made
    try:
        for flow in channover_record.flows:
            if not channover_record.failed:
                flow.run.leave()
    finally:
        for flow in channover_record.flows:
            flow.run.abandon()


def _traffic(protocol: str, measuring: Measuring, record: Record, noting: Noting) -> TrafficGenerator:
    from channover.measure.flow import FlowEvents
    from channover.measure.traffic import TrafficGenerator
    from channover.network.programs.iperf import Transport
    from channover.pytest_plugin.allure import evidence, metrics

    def closed(flow: Flow) -> None:
        noting.of_flow(flow)
        evidence.of_flow(record, flow)
        metrics.attach(record, flow.metrics.directions, [path for _, paths in flow.metrics.paths for path in paths])

    events = FlowEvents(record.flows.append, closed)
    return TrafficGenerator(Transport[protocol], measuring, events)


@pytest.fixture
def tcp(measuring: Measuring, channover_record: Record, channover_noting: Noting) -> TrafficGenerator:
    """Send TCP from one end to another: a flow that is measured while it runs."""
    return _traffic("TCP", measuring, channover_record, channover_noting)


@pytest.fixture
def udp(measuring: Measuring, channover_record: Record, channover_noting: Noting) -> TrafficGenerator:
    """Send UDP at an offered rate (bit/s) from one end to another."""
    return _traffic("UDP", measuring, channover_record, channover_noting)


@pytest.fixture
def mptcp(measuring: Measuring, channover_record: Record, channover_noting: Noting) -> TrafficGenerator:
    """Send over Multipath TCP from one end to another."""
    return _traffic("MPTCP", measuring, channover_record, channover_noting)


@pytest.fixture
def channover_phasing(measuring: Measuring, channover_record: Record) -> Phasing:
    """Give what lets traffic through phases that have names, and attaches what it leaves."""
    from channover.measure.running.phased import Phased, Phasing
    from channover.pytest_plugin.allure import evidence, metrics

    def closed(moving: Phased) -> None:
        evidence.of_phased(channover_record, moving)
        metrics.attach(channover_record, moving.metrics)

    return Phasing(measuring, closed, evidence.told_phases)


@pytest.fixture
def numbered(channover_phasing: Phasing) -> NumberedTraffic:
    """Send numbered traffic: ``with numbered.stream(left, right, mptcp=True) as moving: moving.phase("before", 2.0)``."""
    from channover.measure.running.numbered_traffic import NumberedTraffic

    return NumberedTraffic(channover_phasing)


@pytest.fixture
def downloads(channover_phasing: Phasing) -> Downloads:
    """Have a file come by HTTP from one end to another, in phases that have names, for the length of a block."""
    from channover.measure.running.downloads import Downloads

    return Downloads(channover_phasing)


@pytest.fixture
def calls(channover_phasing: Phasing, channover_record: Record) -> Telephony:
    """Place telephone calls by SIP from one end to another, in phases that have names, for the length of a block."""
    from channover.measure.running.telephony import Telephony
    from channover.pytest_plugin.allure import evidence

    return Telephony(channover_phasing, partial(evidence.of_calls, channover_record))


@pytest.fixture
def streaming(channover_phasing: Phasing, channover_record: Record) -> Streaming:
    """Play streams from one end to another, as in ``streaming.play(client, server, media, mptcp=True)``."""
    from channover.measure.running.streaming import Streaming
    from channover.pytest_plugin.allure import evidence

    return Streaming(channover_phasing, partial(evidence.of_streams, channover_record))


@pytest.fixture
def lacp_rate(request: pytest.FixtureRequest) -> LacpRate:
    """How often LACP frames are asked for: every second; with ``--soak`` a test that takes this runs with both rates."""
    from channover.network.lag import LacpRate

    return getattr(request, "param", LacpRate.FAST)


@pytest.fixture
def long_run(request: pytest.FixtureRequest, tcp: TrafficGenerator) -> LongRuns:
    """Have a TCP flow run for ``--soak`` seconds, or 20, from one end to another, to judge its whole series."""
    from channover.scenarios.lags.long_run import LongRuns

    return LongRuns(tcp, request.config.stash[TESTBED].settings.soak)


@pytest.fixture
def spread(lab: Lab, numbered: NumberedTraffic) -> SpreadFlows:
    """Send flows of which each link of a LAG carries some, so that one can be lost under them: ``flows.lose(…)``."""
    from channover.scenarios.lags.failover import SpreadFlows

    return SpreadFlows(lab, numbered)


@pytest.fixture
def counted(channover_record: Record) -> Counted:
    """Make a count a value that the report shows with what was expected: ``counted("ports", 2) == 2``."""
    from channover.measure import own_values

    return own_values.counting(channover_record)


@pytest.fixture
def observe(request: pytest.FixtureRequest, channover_record: Record) -> Observing:
    """Make what was observed a value with a unit: ``observe("temperature", 41.5, "°C") <= 70``; or a function to be sampled."""
    from channover.measure.own_values import Observing
    from channover.pytest_plugin.allure import evidence

    wanted = request.config.stash[TESTBED].settings

    def sampled(name: str, unit: str, samples: list[float]) -> None:
        evidence.attach_text(f"samples of {name} ({unit})", "\n".join(map(repr, samples)))

    return Observing(channover_record, wanted.limit, wanted.duration, sampled)


@pytest.fixture
def listed(channover_record: Record) -> Listing:
    """Make a set a value that the report shows with what was expected: ``listed("address pairs", pairs) == mesh``."""
    from channover.measure import own_values

    return own_values.listing(channover_record)


@pytest.fixture
def copies(measuring: Measuring, channover_record: Record, channover_noting: Noting) -> FileTransfer:
    """Copy a file from one end to another, as in ``copies(FileProtocol.HTTP, client, server)``."""
    from channover.measure.file_transfer import FileTransfer
    from channover.pytest_plugin.allure import evidence, metrics

    def closed(copied: Copied) -> None:
        channover_noting.of_copy(copied)
        evidence.of_copy(channover_record, copied)
        metrics.attach(channover_record, copied.metrics)

    return FileTransfer(measuring, closed)
