"""All that a suite imports: ``from channover.testing import behaviour, near, Lag, TrafficGenerator``.

What is expected of a value is said by an expectation, with a reason if you like; what is compared is a row of the results:

>>> near(94.1e6, 0.02).low <= 94.1e6 <= at_most(100e6, "one link").high
True
>>> Topology.of("own", node("alpha", "ab", role="client"), node("beta", "ab"), cables="alpha.a-beta.a alpha.b-beta.b").server
'beta'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from channover.errors import BehaviourFailed, ChannoverError, TestbedError, UsageError
from channover.hosts.host import Host
from channover.hosts.lab import Lab
from channover.measure.file_transfer import Copied, FileTransfer
from channover.measure.flow import Flow
from channover.measure.own_values import Counted, Listing, Observing, Polled
from channover.measure.running.downloads import Downloads
from channover.measure.running.numbered_traffic import NumberedTraffic
from channover.measure.running.phased import Phased
from channover.measure.running.streaming import Played, Sent, Streaming
from channover.measure.running.telephony import Calling, Telephony
from channover.measure.steps import step
from channover.measure.traffic import TrafficGenerator, require_multipath
from channover.model.link import Link
from channover.model.topology import (
    Node,
    Topology,
    gateway,
    node,
    pair,
    parallel,
    trio,
    two_switches,
    unequal,
    unstacked,
)
from channover.network.lag import HashPolicy, LacpRate, Lag, LagEnd, Manner
from channover.network.programs.applications.media import Media
from channover.network.programs.file_servers import FileProtocol
from channover.network.tunnel import Tunnel, TunnelEnd
from channover.observe.captures import LacpFrames, Listening
from channover.observe.lags.bond import LagStatus
from channover.report.facts import PathMetrics, TrafficMetrics
from channover.scenarios.bonds import Apart, Bonds
from channover.scenarios.full_ip import FullIP
from channover.scenarios.labs import HostEnd, Multipath
from channover.scenarios.lags.failover import FlowsOfLinks, SpreadFlows
from channover.scenarios.lags.hashed import HashedFlows, Placed
from channover.scenarios.lags.long_run import LongRun, LongRuns
from channover.scenarios.lags.switched import Switched
from channover.scenarios.lags.trunk_counts import TrunkCounts
from channover.scenarios.loop.guards import Guarded
from channover.scenarios.loop.lab import LoopLab
from channover.scenarios.loop.means import LoopLabs, Means, in_force
from channover.scenarios.loop.ways import Vector
from channover.scenarios.middlebox import Middlebox, Takes
from channover.scenarios.tunnels import LoopSigns, Tunnels
from channover.verdict.expectation import Expectation, anything_but, at_least, at_most, between, exactly, near
from channover.verdict.loop.signs import Form
from channover.verdict.measured import Measured
from channover.verdict.settling import Source

__all__ = [
    "Apart",
    "BehaviourFailed",
    "Bonds",
    "Calling",
    "ChannoverError",
    "Copied",
    "Counted",
    "Downloads",
    "Expectation",
    "FileProtocol",
    "FileTransfer",
    "Flow",
    "FlowsOfLinks",
    "Form",
    "FullIP",
    "Guarded",
    "HashPolicy",
    "HashedFlows",
    "Host",
    "HostEnd",
    "Lab",
    "LacpFrames",
    "LacpRate",
    "Lag",
    "LagEnd",
    "LagStatus",
    "Link",
    "Listening",
    "Listing",
    "LongRun",
    "LongRuns",
    "LoopLab",
    "LoopLabs",
    "LoopSigns",
    "Manner",
    "Means",
    "Measured",
    "Media",
    "Middlebox",
    "Multipath",
    "Node",
    "NumberedTraffic",
    "Observing",
    "PathMetrics",
    "Phased",
    "Placed",
    "Played",
    "Polled",
    "Sent",
    "Source",
    "SpreadFlows",
    "Streaming",
    "Switched",
    "Takes",
    "Telephony",
    "TestbedError",
    "Topology",
    "TrafficGenerator",
    "TrafficMetrics",
    "TrunkCounts",
    "Tunnel",
    "TunnelEnd",
    "Tunnels",
    "UsageError",
    "Vector",
    "anything_but",
    "at_least",
    "at_most",
    "behaviour",
    "between",
    "exactly",
    "gateway",
    "hash_policy",
    "in_force",
    "near",
    "node",
    "on",
    "pair",
    "parallel",
    "require_multipath",
    "step",
    "trio",
    "two_switches",
    "unequal",
    "unstacked",
    "variant",
]

_Test = TypeVar("_Test", bound=Callable[..., object])


def behaviour(identifier: str) -> Callable[[_Test], _Test]:
    """Mark a test as the statement of a behaviour of the catalogue. An id that is not there is an error at collection.

    >>> @behaviour("LAG-1")
    ... def test_one_flow_rides_one_link(lag: Lag, tcp: TrafficGenerator) -> None:
    ...     assert tcp(lag.left, lag.right).goodput == near(lag.link.tcp_goodput, 0.01)
    """
    return _marked(pytest.mark.behaviour(identifier))


def on(topology: Topology) -> Callable[[_Test], _Test]:
    """Ask for a topology; without it a test's lab is a pair.

    >>> @on(trio())
    ... def test_three_nics(lab: Lab, counted: Counted) -> None:
    ...     assert counted("NICs", len(lab.left.nics)) == 3
    """
    return _marked(pytest.mark.topology(topology))


def hash_policy(policy: HashPolicy) -> Callable[[_Test], _Test]:
    """Ask for a transmit hash policy; without it LAGs have the kernel's default, layer2.

    >>> @hash_policy(HashPolicy.LAYER34)
    ... def test_flows_spread(lag: Lag, counted: Counted) -> None:
    ...     assert counted("links", lag.links) == 2
    """
    return _marked(pytest.mark.hash_policy(policy))


def variant(test: _Test) -> _Test:
    """Mark a test of a behaviour as one more variant of it, which is run with ``--variants`` only.

    >>> @behaviour("MP-1")
    ... @variant
    ... def test_it_does_so_with_another_setting(multipath: Multipath, counted: Counted) -> None:
    ...     assert counted("paths", multipath.paths) == 2
    """
    return _marked(pytest.mark.variant)(test)


def _marked(mark: pytest.MarkDecorator) -> Callable[[_Test], _Test]:
    def apply(test: _Test) -> _Test:
        return mark(test)  # type: ignore[no-any-return]

    return apply
