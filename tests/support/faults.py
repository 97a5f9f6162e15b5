"""Labs broken on purpose: a pytest plugin that the fault matrix loads, ``-p tests.support.faults --fault NAME``.

A fault is done to the lab, never to the test or to the verdict: each behaviour's own test must then fail, and say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from channover.hosts.host import Host, Journal
from channover.hosts.lab import Lab
from channover.measure import flow
from channover.measure.file_transfer import FileTransfer
from channover.model.link import Link
from channover.model.operations.devices import AddressAdd
from channover.model.operations.kernel import TableAdd
from channover.model.operations.mptcp import EndpointAdd, EndpointDelete, LimitsSet
from channover.model.operations.routing import RuleDelete
from channover.model.plan import Plan
from channover.model.state import State
from channover.model.topology import Topology
from channover.network.bonding import BondingDriver
from channover.network.lag import LacpRate
from channover.network.loop_guard import Guard, both_guard, source_guard
from channover.network.openvpn import join_listener
from channover.network.openvswitch import OpenVSwitchDriver
from channover.network.tunnel import Tunnel
from channover.scenarios import labs as paths
from channover.scenarios import loop_lab as looplab
from channover.scenarios import proving
from channover.scenarios.loop_guards import Guarded
from channover.targets.netns import NetnsTarget


@dataclass(frozen=True)
class Fault:
    """What is broken: the cables' true rate, what happens at once or before the first traffic, what a context fails to do."""

    rate: float = 1.0
    at_once: Callable[[Lab], None] | None = None
    before_traffic: Callable[[Lab], None] | None = None
    other_contexts: Sequence[tuple[Any, str, Any]] = ()


def _change(host: Host, *operations: Any) -> None:
    host.apply(Plan("a fault", operations))


def _no_endpoints(lab: Lab) -> None:
    for host in (lab.left, lab.right):
        _change(host, *(EndpointDelete(number) for number in host.state().endpoints))


def _rules(state: State) -> list[RuleDelete]:
    return [RuleDelete(rule.source, rule.table, rule.priority) for rule in state.rules if rule.source != "all"]


def _no_rules_one_address(lab: Lab) -> None:
    for host in (lab.left, lab.right):
        _change(host, *_rules(host.state()))
    _change(lab.right, *(EndpointDelete(number) for number in lab.right.state().endpoints))


def _strip_mptcp(lab: Lab) -> None:
    rule = "chain c { type filter hook output priority mangle; reset tcp option mptcp; }"
    _change(lab.left, TableAdd("middlebox", rule))


def _seven_extra_subflows(lab: Lab) -> None:
    _change(lab.left, LimitsSet(7, 8))


def _nine_on_one_path(lab: Lab) -> None:
    """Have three addresses on the first NIC of each host be the mesh: nine subflows, all by one cable."""
    for host, last, flags in ((lab.left, 1, ("subflow", "fullmesh")), (lab.right, 2, ("signal",))):
        extra = [f"10.201.{number}.{last}" for number in (1, 2)]
        device = host.nic("a").device
        _change(host, *(EndpointDelete(number) for number in host.state().endpoints if number != 1))
        _change(host, *(AddressAdd(device, f"{address}/24") for address in extra))
        _change(host, *(EndpointAdd(number, address, flags) for number, address in enumerate(extra, start=2)))


_IN_TURNS = """
while :; do
    for slow in 1 2; do
        tc qdisc replace dev eth$slow root tbf rate 1mbit burst 16k latency 100ms
        tc qdisc del dev eth$((3 - slow)) root
        sleep 0.4
    done
done
"""


def _full_in_turns(lab: Lab) -> None:
    """Have one NIC at a time carry what its cable takes, and the other next to nothing."""
    lab.left.spawn("sh", "-c", _IN_TURNS)


def _own_curl(lab: Lab) -> None:
    """Put a curl in the place of the distribution's that somebody has built anew; it is the lab's own mount."""
    changed = f"{lab.left.folder}/curl"
    script = f'curl=$(readlink -f "$(command -v curl)") && cp "$curl" {changed} && echo >>{changed}'
    lab.left.run("sh", "-c", f'{script} && mount --bind {changed} "$curl"')


def _pull_second_cable(lab: Lab) -> None:
    names = ("west", "east") if "west" in lab.hosts else ("left", "right")
    lab.cabling.cut(list(lab.topology.between(*names))[1])


def _chatter(lab: Lab, size: int = 40, pause: float = 0.05) -> None:
    """Send frames that are no LACP, of so many bytes and so often (seconds), out of every NIC, below the LAG."""
    script = (
        "import socket,time,sys\n"
        "s=[socket.socket(socket.AF_PACKET,socket.SOCK_RAW) for _ in sys.argv[1:]]\n"
        "[one.bind((name,0)) for one,name in zip(s,sys.argv[1:])]\n"
        "while True:\n"
        "    [one.send(b'\\xff'*6+b'\\x02'*6+b'\\x88\\xb5'+b'x'*%d) for one in s]; time.sleep(%g)\n"
    )
    lab.left.spawn("python3", "-c", script % (size, pause), *(nic.device for nic in lab.left.nics.values()))


def _slow(driver: Any) -> Callable[..., Any]:
    """Have a driver ask its partner for a LACP frame every 30 s, whatever it was told."""
    create = driver.create
    return lambda made, *words: create(made, *words[:5], LacpRate.SLOW)


@contextmanager
def _nothing(*_: object, **__: object) -> Iterator[None]:
    yield


@contextmanager
def _closed_as_backup(loop: looplab.LoopLab) -> Iterator[None]:
    """Offer the tunnel's address as a backup path: the subflow is there, and carries nothing."""
    client = loop.tunnel.client
    endpoint = EndpointAdd(40, str(client.address.ip), ("subflow", "backup"))
    with client.host.applied(Plan("a latent loop", (endpoint,))):
        yield


def _without_rules(whole: Guard) -> Guard:
    counters = "\n".join(f"  counter {name} {{ }}" for name in whole.counters)
    return Guard(whole.name, whole.counters, Plan("a guard without rules", (TableAdd(whole.name, counters),)))


def _toothless(tunnel: Tunnel, host: Host, *, option: bool = True) -> Guard:
    """Return the guard without its rules: its table and its counters are there, and nothing is rejected."""
    return _without_rules(both_guard(tunnel, host, option=option))


def _toothless_source(tunnel: Tunnel, host: Host) -> Guard:
    """Return the article's guard without its rule."""
    return _without_rules(source_guard(tunnel, host))


_ADD_ENDPOINT = looplab.LoopLab.add_subflow_endpoint


@contextmanager
def _offered_and_joined(loop: looplab.LoopLab, **_: object) -> Iterator[None]:
    """Offer the tunnel's address to a server that goes on listening: the subflow does not stay pending."""
    with join_listener(loop.tunnel), _ADD_ENDPOINT(loop):
        yield


def _dead_program(loop: looplab.LoopLab, name: str) -> Any:
    """End the tunnel's program at the client before the rate inside the loop is measured: nothing comes out either."""
    if "inside" in name:
        loop.tunnel.client.process.stop()
    return _RATE(loop, name)


_RATE = looplab.LoopLab.rate
_GUARDED = looplab.LoopLab._guarded


@contextmanager
def _guarded_at_the_client(loop: looplab.LoopLab, guards: Sequence[tuple[Host, Guard]]) -> Iterator[Guarded]:
    """Load the guard of the client, and at the server one without rules."""
    (client, guard), *others = guards
    with _GUARDED(loop, [(client, guard), *((host, _without_rules(one)) for host, one in others)]) as guarded:
        yield guarded


FAULTS: Mapping[str, Fault] = {
    "slow-cables": Fault(rate=0.5),
    "fast-cables": Fault(rate=2.0),
    "pulled-cable": Fault(before_traffic=_pull_second_cable),
    "pulled-trunk": Fault(at_once=_pull_second_cable),
    "much-slower-cables": Fault(rate=0.1),
    "nine-on-one-path": Fault(rate=3.0, before_traffic=_nine_on_one_path),
    "full-in-turns": Fault(rate=2.0, before_traffic=_full_in_turns),
    "own-curl": Fault(before_traffic=_own_curl),
    "loud-chatter": Fault(before_traffic=lambda lab: _chatter(lab, 1000, 0.012)),
    "slow-lacp": Fault(other_contexts=[(each, "create", _slow(each)) for each in (OpenVSwitchDriver, BondingDriver)]),
    "chatter": Fault(before_traffic=_chatter),
    "no-endpoints": Fault(before_traffic=_no_endpoints),
    "no-source-rules": Fault(before_traffic=_no_rules_one_address),
    "fast-middlebox": Fault(rate=2.0, before_traffic=_strip_mptcp),
    "middlebox": Fault(before_traffic=_strip_mptcp),
    "seven-extra-subflows": Fault(before_traffic=_seven_extra_subflows),
    "multipath-stays-on": Fault(other_contexts=[(paths.Multipath, "off", _nothing)]),
    "rules-stay": Fault(other_contexts=[(paths.Multipath, "without_source_rules", _nothing)]),
    "latent-loop": Fault(
        other_contexts=[(looplab.LoopLab, "close_loop", _closed_as_backup), (looplab, "COLLAPSES", 1)]
    ),
    "toothless-guard": Fault(other_contexts=[(looplab, "both_guard", _toothless)]),
    "guard-at-the-client-only": Fault(other_contexts=[(looplab.LoopLab, "_guarded", _guarded_at_the_client)]),
    "toothless-source-guard": Fault(other_contexts=[(looplab, "source_guard", _toothless_source)]),
    "joined-loop": Fault(other_contexts=[(looplab.LoopLab, "add_subflow_endpoint", _offered_and_joined)]),
    "crashed-tunnel": Fault(other_contexts=[(looplab.LoopLab, "rate", _dead_program)]),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault", choices=sorted(FAULTS), required=False)


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--fault")
    if name:
        _break(FAULTS[name])


def _break(fault: Fault) -> None:
    current: list[Lab] = []
    build = NetnsTarget.lab
    start = flow.Flow.start
    copy = FileTransfer.__call__

    @contextmanager
    def lab(self: NetnsTarget, topology: Topology, link: Link, journal: Journal) -> Iterator[Lab]:
        true_link = replace(link, rate=int(link.rate * fault.rate))
        with build(self, topology, true_link, journal) as made:
            current[:] = [replace(made, link=link)]
            if fault.at_once and topology.cables:  # not in a lab that is only there to probe
                fault.at_once(current[0])
            yield current[0]

    def once() -> None:
        if fault.before_traffic and current:
            fault.before_traffic(current.pop())

    def broken_start(*args: Any, **kwargs: Any) -> flow.Flow:
        once()
        return start(*args, **kwargs)

    def broken_copy(self: FileTransfer, *args: Any, **kwargs: Any) -> Any:
        once()
        return copy(self, *args, **kwargs)

    patches: list[tuple[Any, str, Any]] = [
        (NetnsTarget, "lab", lab),
        (flow.Flow, "start", staticmethod(broken_start)),
        (FileTransfer, "__call__", broken_copy),
        *fault.other_contexts,
    ]
    if fault.rate != 1 or fault.at_once:  # what the proof of the cables would find: here a test's own words are wanted
        patches.append((proving, "prove", lambda *_: []))
    for owner, attribute, value in patches:
        setattr(owner, attribute, value)
