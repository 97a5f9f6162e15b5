"""Cables of living labs that are not as stated: each is found by name, with its figure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.change_policy import ChangePolicy, Management
from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.netns.process import NamespaceProcess
from channover.hosts.ssh.host import RemoteHost
from channover.model.link import Link
from channover.model.operations.devices import LinkSet
from channover.model.plan import Plan
from channover.model.topology import Topology, gateway, pair, trio, two_switches
from channover.observe.proof.prove import prove
from channover.scenarios import proving
from channover.targets.netns import NetnsTarget, Panel
from channover.targets.physical import preflight
from channover.verdict.notes import Note
from tests.support.sshd import Server

pytestmark = pytest.mark.lab
RATE = 100_000_000
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def target() -> Iterator[NetnsTarget]:
    made = NetnsTarget()
    yield made
    made.close()


@contextmanager
def made(target: NetnsTarget, topology: Topology, rate: int = RATE) -> Iterator[Lab]:
    with target.lab(topology, Link(rate), Journal()) as lab:
        yield lab


def in_the_panel(lab: Lab, script: str, lasting: bool = False) -> None:
    """Run a script in the patch panel; ``$left`` and ``$right`` are its ports at the ends of the lab's second cable."""
    assert isinstance(lab.left, NamespaceHost) and isinstance(lab.cabling, Panel)
    left, right = lab.cabling.ports[lab.topology.cables[1]]
    words = f"left=port{left} right=port{right}\n{script}"
    process = NamespaceProcess(lab.left.lab, None, ("sh", "-ec", words), {})
    if lasting:
        process.wait_for("ready", 5.0)
    else:
        assert process.wait(10.0) == 0, process.stderr


def shaped(port: str, rate: float) -> str:
    return (
        f"tc qdisc replace dev {port} root tbf rate {rate:.0f}bit burst 16k latency 20ms overhead 24 linklayer ethernet"
    )


FORWARD = r"""
import collections, contextlib, random, select, socket, sys, time
source, target, what, size = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
ins = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
ins.setsockopt(263, 23, 1)
ins.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
ins.bind((source, 3))
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((target, 0))
out.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)
random.seed(1)
held = collections.deque()
print("ready", flush=True)
while True:
    wait = max(0.0, held[0][0] - time.monotonic()) if held else 1.0
    if select.select([ins], [], [], wait)[0]:
        frame = ins.recv(2048)
        if what == "lose" and random.random() < size:
            continue
        if what == "double" and random.random() < size:
            held.append((0.0, frame))
        held.append((time.monotonic() + (size if what == "delay" else 0.0), frame))
    while held and held[0][0] <= time.monotonic():
        with contextlib.suppress(OSError):
            out.send(held.popleft()[1])
"""
"""A wire of its own between two ports of the panel, one way, that loses, doubles or delays frames."""


def worse(what: str, size: float) -> str:
    return f"tc qdisc del dev $left ingress\nexec python3 -I -S -c '{FORWARD}' $left $right {what} {size:g}"


FOREIGN = r"""
import socket, sys, time
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind((sys.argv[1], 0))
print("ready", flush=True)
while True:
    out.send(b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x99" + b"\x08\x00" + bytes(46))
    time.sleep(0.02)
"""


@pytest.mark.parametrize("topology", [pair(), trio(), gateway(), two_switches(1)], ids=lambda one: one.name)
def test_nothing_is_found_of_a_sound_lab(target: NetnsTarget, topology: Topology) -> None:
    with made(target, topology) as lab:
        assert list(map(str, prove(lab))) == []


FAULTS = {
    "slow": (shaped("$right", 0.9 * RATE), r"cable b carries (89\.\d|90\.\d) of 100 Mbit/s, left to right"),
    "a little slow": (shaped("$left", 0.97 * RATE), r"cable b carries (96\.\d|97\.\d) of 100 Mbit/s, right to left"),
    "1.5 % slow": (shaped("$left", 0.985 * RATE), r"cable b carries 98\.[0-8] of 100 Mbit/s, right to left"),
    "fast": (shaped("$right", 1.1 * RATE), r"cable b carries (109\.\d|110\.\d) of 100 Mbit/s, left to right"),
    "small frames": (
        "ip link set $left mtu 1400",
        r"cable b carries no frame of 1514 bytes, left to right: the largest that arrived had 1414",
    ),
    "dead one way": ("tc qdisc del dev $left ingress", "cable b carries nothing, left to right$"),
    "pulled": ("ip link set $left down", "cable b has no carrier at left$"),
}


@pytest.mark.parametrize(("script", "words"), list(FAULTS.values()), ids=list(FAULTS))
def test_a_fault_of_a_cable_is_found_by_name(target: NetnsTarget, script: str, words: str) -> None:
    with made(target, pair()) as lab:
        in_the_panel(lab, script)
        said = list(map(str, prove(lab)))
    assert len(said) == 1 and re.match(words, said[0]), said


LASTING = {
    "1 % lost": (worse("lose", 0.01), r"cable b loses \d+ of [\d,]+ frames \([01]\.\d+%\), left to right"),
    "0.2 % lost": (worse("lose", 0.002), r"cable b loses \d+ of [\d,]+ frames \(0\.\d+%\), left to right"),
    "1 % twice": (worse("double", 0.01), r"cable b delivers frames twice, left to right: \d+ more arrived than"),
    "50 ms": (worse("delay", 0.05), r"cable b takes 5\d\.\d ms there and back while it is idle, of 5 ms at most"),
    "foreign": (
        f"exec python3 -I -S -c '{FOREIGN}' $right",
        r"somebody else sends on cable b: right got \d+ frames that left did not send, from 02:00:00:00:00:99 \(type 0x0800\)",
    ),
}


@pytest.mark.parametrize(("script", "words"), list(LASTING.values()), ids=list(LASTING))
def test_what_a_cable_does_to_frames_is_found_by_name(target: NetnsTarget, script: str, words: str) -> None:
    with made(target, pair()) as lab:
        in_the_panel(lab, script, lasting=True)
        said = list(map(str, prove(lab)))
    assert said and re.match(words, said[0]), said


def test_crossed_cables_are_named_with_where_they_end(target: NetnsTarget) -> None:
    crossing = "\n".join(
        f"tc filter replace dev port{near} ingress prio 1 protocol all u32 match u32 0 0 "
        f"action mirred egress redirect dev port{far}"
        for near, far in ((101, 104), (104, 101), (102, 103), (103, 102))
    )
    removed = "\n".join(f"tc filter del dev port{port} ingress" for port in (101, 102, 103, 104))
    with made(target, pair()) as lab:
        in_the_panel(lab, f"{removed}\n{crossing}")
        said = list(map(str, prove(lab)))
    assert "cable a: frames of left's NIC a arrive at right's NIC b and not at right's NIC a" in said, said
    assert all("arrive at" in words for words in said)


def test_a_host_that_holds_its_own_nic_back_is_found(target: NetnsTarget) -> None:
    with made(target, pair()) as lab:
        lab.right.run("sh", "-c", shaped("eth1", 0.95 * RATE))
        said = list(map(str, prove(lab)))
    assert len(said) == 1 and re.match(r"cable a carries 9[45]\.\d of 100 Mbit/s, right to left", said[0]), said


def test_a_machine_that_is_too_slow_for_its_cables_says_so_and_what_would_do(target: NetnsTarget) -> None:
    words = r"no verdict: cable a could not be proved: this machine could send [\d.]+ of 30000 Mbit/s, .*; "
    with made(target, pair(), 30 * 10**9) as lab, pytest.raises(TestbedError) as raised:
        proving.require(lab)
    assert re.match(words, str(raised.value)), raised.value
    remedy = r"processor \d+ was \d+% busy over the proof as a whole: --link-rate \d+[mg]bit works|other work took"
    assert re.search(remedy, str(raised.value))


SEND = r"""
import socket, time
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("eth2", 0))
for number in range(20000):
    out.send(b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb6" + bytes(100))
    if number % 40 == 0:
        time.sleep(0.001)
time.sleep(0.2)
"""


FILL = (
    SEND.partition("for number")[0]
    + """
out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
out.setblocking(False)
until = time.monotonic() + 0.4
while time.monotonic() < until:
    try:
        out.send(b"\\xff" * 6 + b"\\x02" * 6 + b"\\x88\\xb6" + bytes(1500))
    except BlockingIOError:
        time.sleep(0.0005)
"""
)


def test_what_a_cable_s_queue_still_holds_is_not_lost(target: NetnsTarget) -> None:
    notes: list[Note] = []
    with made(target, pair()) as lab, proving.accounted(lab, notes.append):
        lab.left.run("python3", "-I", "-S", "-c", FILL)
    assert not notes


@pytest.mark.parametrize(
    ("script", "words"), [("", ""), (worse("lose", 0.003), r"cable b lost \d+ of the 20,0\d\d frames")]
)
def test_what_a_cable_loses_of_a_test_s_own_frames_is_noted(target: NetnsTarget, script: str, words: str) -> None:
    notes: list[Note] = []
    with made(target, pair()) as lab:
        if script:
            in_the_panel(lab, script, lasting=True)
        with proving.accounted(lab, notes.append):
            lab.left.run("python3", "-I", "-S", "-c", SEND)
    assert (not notes and not words) or re.match(words, notes[0].text), notes


@contextmanager
def behind_ssh(lab: Lab, folder: Path) -> Iterator[Lab]:
    """The lab with each host behind an sshd of its own, as a real one is."""
    with ExitStack() as stack:
        hosts = {}
        for name, host in lab.hosts.items():
            assert isinstance(host, NamespaceHost)
            (folder / name).mkdir()
            link = Server(host, folder / name).link()
            stack.callback(link.close)
            policy = ChangePolicy(name, frozenset({"eth1", "eth2"}), frozenset(), Management(""))
            hosts[name] = RemoteHost(name, host.nics, link, "trial", f"/run/home/{name}", policy, Journal())
            hosts[name].run("mkdir", "-p", hosts[name].folder)
        yield Lab(lab.topology, hosts, lab.link, lab.cabling)


def test_hosts_behind_ssh_prove_their_cables_each_with_a_program_of_its_own(
    target: NetnsTarget, tmp_path: Path
) -> None:
    with made(target, pair()) as lab, behind_ssh(lab, tmp_path) as remote:
        assert list(map(str, prove(remote))) == []
        in_the_panel(lab, shaped("$right", 0.9 * RATE))
        said = list(map(str, prove(remote)))
        assert len(said) == 1 and re.match(r"cable b carries (89|90)\.\d of 100 Mbit/s, left to right", said[0]), said


SLOWED = '''
from channover.testing import Multipath, TrafficGenerator, behaviour, near

def slow(lab):
    """Have the cable end in something slow, which the shaper that was asked for does not tell."""
    words = "tc qdisc replace dev eth1 root tbf rate 50mbit burst 16k latency 20ms overhead 24 linklayer ethernet"
    lab.left.run("sh", "-c", words)
'''
BEFORE = (
    SLOWED
    + """
import contextlib
import pytest
from channover.targets.netns import NetnsTarget

build = NetnsTarget.lab

@contextlib.contextmanager
def slowed(self, topology, *words):
    with build(self, topology, *words) as lab:
        if topology.cables:
            slow(lab)
        yield lab

NetnsTarget.lab = slowed

@behaviour("MP-1")
def test_it(multipath: Multipath, tcp: TrafficGenerator) -> None:
    raise AssertionError("it was run")
"""
)
MEANWHILE = (
    SLOWED
    + """
@behaviour("MP-1")
def test_it(multipath: Multipath, tcp: TrafficGenerator) -> None:
    flow = tcp(multipath.left, multipath.right)
    slow(multipath.lab)
    assert flow.goodput == near(multipath.link.tcp_goodput)
"""
)
UNASSERTED = MEANWHILE.replace("    assert flow", "    flow")


@pytest.mark.parametrize(
    ("suite", "readings"), [(BEFORE, 0), (MEANWHILE, 1), (UNASSERTED, 1)], ids=["before", "meanwhile", "not asserted"]
)
def test_a_cable_is_a_broken_testbed_and_no_failed_behaviour(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, suite: str, readings: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "plugins"))
    pytester.makepyfile(suite)
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--no-report", "--measure-limit", "6")
    done.assert_outcomes(errors=1)
    (one,) = json.loads((pytester.path / "reports" / "latest" / "results.json").read_text())["tests"]
    assert one["outcome"] == "error"
    assert re.match(r"cable a carries (49|50)\.\d of 100 Mbit/s, left to right", one["reason"]), one["reason"]
    assert len(one["measurements"]) == readings
    done.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize("carried", [9000, 4000])
def test_a_jumbo_frame_proves_what_a_cable_carries(target: NetnsTarget, carried: int) -> None:
    """A frame cannot be fragmented: it arrives whole, or the cable does not carry its size."""
    if reason := target.unmet(pair()):
        pytest.skip(reason)
    with target.lab(pair(), Link(10**8, 9000), Journal()) as lab:
        states = [lab.hosts[name].state().links for name in ("left", "right")]
        assert [links["eth1"].mtu for links in states] == [9000, 9000]
        if carried < 9000:
            lab.right.apply(Plan("a port that carries less", (LinkSet("eth2", mtu=carried),)))
        found = [finding for finding in prove(lab) if finding.kind == "size"]
    if carried == 9000:
        assert found == []
    else:
        assert {str(one.cable) for one in found} == {"left.b–right.b"}
        assert "carries no frame of 9014 bytes" in str(found[0])


@pytest.mark.parametrize("carried", [1500, 9000])
def test_a_packet_that_must_not_be_fragmented_proves_the_mtu(target: NetnsTarget, carried: int) -> None:
    """What lies between two real NICs may be a switch, which takes the proof's own frames for itself."""
    if reason := target.unmet(pair()):
        pytest.skip(reason)
    with target.lab(pair(), Link(10**8, carried), Journal()) as lab:
        cable = lab.topology.cables[0]
        for host in lab.hosts.values():
            assert isinstance(host, NamespaceHost)
            links = host.state().links
            host.nics = {label: replace(nic, mac=links[nic.device].mac) for label, nic in host.nics.items()}
        assert preflight.prove(lab, cable, 0) is None
        if carried == 9000:
            assert preflight.prove(lab, cable, 0, mtu=9000) is None
        else:
            words = (
                r"packets of 9000 bytes that must not be fragmented do not cross from left's NIC a \(eth1\) to right's"
            )
            with pytest.raises(TestbedError, match=words):
                preflight.prove(lab, cable, 0, mtu=9000)
        assert lab.left.state().links["eth1"].mtu == carried


@pytest.mark.parametrize("rate", [10**9, 25 * 10**8, 10**10, 25 * 10**9, 40 * 10**9, 10**11, 2 * 10**11, 4 * 10**11])
def test_a_cable_of_any_rate_is_shaped_to_it(target: NetnsTarget, rate: int) -> None:
    """Its rate is in force, whether or not this machine could carry as much."""
    if reason := target.unmet(pair()):
        pytest.skip(reason)
    with target.lab(pair(), Link(rate), Journal()) as lab:
        assert isinstance(lab.cabling, Panel)
        assert list(lab.cabling.unmet({})) == []
        for one in lab.cabling._queues():
            if one.get("kind") == "tbf":
                assert one["options"]["rate"] * 8 == rate
