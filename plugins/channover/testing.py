"""All that a suite imports: ``from channover.testing import behaviour, near, Lag, TrafficGenerator``."""

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
from channover.measure.running.phased import NumberedTraffic, Phased
from channover.measure.steps import step
from channover.measure.traffic import TrafficGenerator, require_multipath
from channover.model.catalogue import behaviour as find
from channover.model.link import Link
from channover.model.registry import fault
from channover.model.topology import Node, Topology, gateway, node, pair, parallel, trio, two_switches
from channover.network.lag import HashPolicy, LacpRate, Lag
from channover.network.programs.file_servers import FileProtocol
from channover.network.tunnel import Tunnel, TunnelEnd
from channover.observe.bond import LagStatus
from channover.observe.captures import Listening
from channover.scenarios.bonds import Bonds
from channover.scenarios.labs import HostEnd, Multipath, Switched
from channover.scenarios.loop_guards import Guarded
from channover.scenarios.loop_lab import LoopLab, LoopLabs
from channover.scenarios.tunnels import LoopSigns, Tunnels
from channover.verdict.expectation import Expectation, anything_but, at_least, at_most, between, exactly, near
from channover.verdict.loop import Form
from channover.verdict.measured import Measured
from channover.verdict.settling import Source

__all__ = [
    "BehaviourFailed",
    "Bonds",
    "ChannoverError",
    "Copied",
    "Counted",
    "Expectation",
    "FileProtocol",
    "FileTransfer",
    "Flow",
    "Form",
    "Guarded",
    "HashPolicy",
    "Host",
    "HostEnd",
    "Lab",
    "LacpRate",
    "Lag",
    "LagStatus",
    "Link",
    "Listening",
    "Listing",
    "LoopLab",
    "LoopLabs",
    "LoopSigns",
    "Measured",
    "Multipath",
    "Node",
    "NumberedTraffic",
    "Observing",
    "Phased",
    "Polled",
    "Source",
    "Switched",
    "TestbedError",
    "Topology",
    "TrafficGenerator",
    "Tunnel",
    "TunnelEnd",
    "Tunnels",
    "UsageError",
    "anything_but",
    "at_least",
    "at_most",
    "behaviour",
    "between",
    "exactly",
    "gateway",
    "hash_policy",
    "near",
    "node",
    "on",
    "pair",
    "parallel",
    "require_multipath",
    "step",
    "trio",
    "two_switches",
]

_Test = TypeVar("_Test", bound=Callable[..., object])


def behaviour(identifier: str) -> Callable[[_Test], _Test]:
    """Mark a test as the statement of a behaviour of the catalogue. Raises UsageError for an unknown id."""
    if fault():
        return _marked(pytest.mark.behaviour(identifier))  # the run says in one line what is wrong, and does not begin
    return _marked(pytest.mark.behaviour(find(identifier).id))


def on(topology: Topology) -> Callable[[_Test], _Test]:
    """Ask for a topology; without it a test's lab is a pair."""
    return _marked(pytest.mark.topology(topology))


def hash_policy(policy: HashPolicy) -> Callable[[_Test], _Test]:
    """Ask for a transmit hash policy; without it LAGs have the kernel's default, layer2."""
    return _marked(pytest.mark.hash_policy(policy))


def _marked(mark: pytest.MarkDecorator) -> Callable[[_Test], _Test]:
    def apply(test: _Test) -> _Test:
        return mark(test)  # type: ignore[no-any-return]

    return apply
