"""Flows as tests use them: in any order of lines, several at once, given up, and with programs that die."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from channover.errors import BehaviourFailed, TestbedError
from channover.hosts.host import Journal, until
from channover.measure import cpu_lock as slot
from channover.measure.activity import UnderWay
from channover.measure.cpu_lock import cpu_lock
from channover.measure.flow import Flow
from channover.measure.measurement import Measuring
from channover.measure.running.together import FlowRun
from channover.measure.traffic import TrafficGenerator, require_multipath
from channover.model.link import Link
from channover.model.operations.kernel import TableAdd
from channover.model.operations.mptcp import EndpointDelete
from channover.model.plan import Plan
from channover.model.topology import pair
from channover.network.programs import iperf
from channover.network.programs.iperf import Transport
from channover.report.results import Results
from channover.scenarios import labs as paths
from channover.scenarios.labs import Multipath
from channover.targets.netns import NetnsTarget
from channover.verdict.expectation import at_least, near
from channover.verdict.measured import Reading

ROOT = Path(__file__).parents[2]
SUITE = """\
from channover.testing import FileProtocol, at_least, at_most, behaviour, between, near, require_multipath


@behaviour("LAG-1")
def test_what_tells_of_the_end_comes_first(multipath, tcp):
    flow = tcp(multipath.left, multipath.right)
    assert flow.nics_used == 1
    assert flow.goodput == near(multipath.link.tcp_goodput)


@behaviour("MP-1")
def test_the_last_line_is_the_goodput_s(multipath, mptcp):
    flow = mptcp(multipath.left, multipath.right)
    require_multipath(flow)
    assert flow.established(multipath.left.host) >= 2
    assert flow.goodput == at_least(1.75 * multipath.link.rate, theory=2 * multipath.link.mptcp_goodput)


@behaviour("LAG-2")
def test_both_directions_at_once(multipath, tcp):
    there, back = tcp(multipath.left, multipath.right), tcp(multipath.right, multipath.left)
    for flow in (there, back):
        assert flow.goodput == between(0.8 * multipath.link.rate, multipath.link.rate)
        assert flow.nics_used == 1


@behaviour("LAG-3")
def test_three_at_once(multipath, udp):
    rate = 0.3 * multipath.link.rate
    flows = [udp(multipath.left, multipath.right, offered=rate) for _ in range(3)]
    assert flows[2].lost == at_most(0.01)
    for flow in flows:
        assert flow.goodput == near(rate, 0.05)


@behaviour("LAG-6")
def test_a_copy_beside_a_flow(multipath, udp, copies):
    half = 0.5 * multipath.link.rate
    flow = udp(multipath.left, multipath.right, offered=half)
    copied = copies(FileProtocol.HTTP, multipath.right, multipath.left)
    assert copied.goodput == between(0.3 * multipath.link.rate, half)
    assert flow.goodput == near(half, 0.05)
    assert copied.nics_used == 1


@behaviour("LAG-7")
def test_a_flow_in_the_background(multipath, tcp):
    background = tcp(multipath.left, multipath.right)
    flow = tcp(multipath.right, multipath.left)
    assert flow.goodput == between(0.8 * multipath.link.rate, multipath.link.rate)
    assert background.programs.transfers[0].running
"""
HOLDER = """
import sys
from channover.measure.cpu_lock import cpu_lock
with cpu_lock(processors=float(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

Told = list[UnderWay]


def measuring(**changes: object) -> Measuring:
    return Measuring(Link(), duration=None, limit=5.0, **changes)  # type: ignore[arg-type]


@pytest.fixture
def multipath() -> Iterator[Multipath]:
    target = NetnsTarget()
    try:
        with target.lab(pair(), Link(), Journal()) as lab:
            yield paths.configure(lab)
    finally:
        target.close()


@contextmanager
def started(
    multipath: Multipath, protocol: Transport, with_: Measuring | None = None, **options: Any
) -> Iterator[Flow]:
    """A flow from left to right that has had some slices, and that leaves nothing running."""
    flow = TrafficGenerator(protocol, with_ or measuring())(multipath.left, multipath.right, **options)
    try:
        until(lambda: len(flow.run.samples()) >= 3, "three slices", 20)
        yield flow
    finally:
        flow.run.abandon()


def run(folder: Path, suite: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_stranger.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--reports", "reports", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.lab
@pytest.mark.parametrize("options", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_the_order_of_lines_does_not_matter_and_flows_may_run_at_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = run(tmp_path, SUITE, *options)
    found = Results.from_json((tmp_path / "reports/latest/results.json").read_text())
    assert {test.nodeid.rpartition("::")[2]: (test.outcome, test.reason) for test in found.tests} == {
        name: ("passed", "")
        for name in (
            "test_what_tells_of_the_end_comes_first",
            "test_the_last_line_is_the_goodput_s",
            "test_both_directions_at_once",
            "test_three_at_once",
            "test_a_copy_beside_a_flow",
            "test_a_flow_in_the_background",
        )
    }, done.stdout[-3000:]
    names = {each.name for test in found.tests for each in test.measurements if "both" in test.nodeid}
    assert "goodput, tcp left→right" in names and "goodput, tcp right→left" in names
    assert all("2 at once" in name for name in names if "NICs used" in name)


@pytest.mark.lab
def test_of_flows_at_once_the_time_counts_in_which_all_run(multipath: Multipath) -> None:
    """The first has the link for itself for a second, which is no part of its figure."""
    readings: list[Reading] = []
    shared = measuring(on_result=readings.append)
    make = TrafficGenerator(Transport.UDP, shared)
    first = make(multipath.left, multipath.right, offered=95e6)
    try:
        until(lambda: len(first.run.samples()) >= 10, "a second alone", 20)
        second = make(multipath.left, multipath.right, offered=95e6)
        assert first.nics.carried(multipath.left.host)["a"] > 0
        alone = first.programs.transfers[0].rates()[:10]
        assert max(alone) > 90e6
        assert max(first.run.samples()[3:]) < 85e6, "the second one's datagrams take their share"
        assert abs(len(first.run.samples()) - len(second.run.samples())) < 10
        assert not first.run.is_open and not second.run.is_open
        ports = {one.load.port for one in (*first.programs.transfers, *second.programs.transfers)}
        assert len(ports) == 2
    finally:
        for run in list(shared.under_way):
            assert isinstance(run, FlowRun)
            run.abandon()


def dead(flow: Flow) -> bool:
    return all(one.poll() is not None for each in flow.programs.transfers for one in (each.client, each.server))


@pytest.mark.lab
def test_a_flow_that_is_given_up_leaves_nothing_running(multipath: Multipath) -> None:
    with started(multipath, Transport.TCP) as flow, pytest.raises(ZeroDivisionError):
        flow.programs.transfers[0].client.signal(signal.SIGSTOP)  # one that does not listen is ended all the same
        try:
            raise ZeroDivisionError
        finally:
            flow.run.abandon()
    assert dead(flow)
    assert flow.programs.samplers is not None
    assert all(sampler._process.poll() is not None for sampler in flow.programs.samplers.by_host.values())
    assert not flow.measuring.under_way
    with started(multipath, Transport.TCP) as after:
        assert after.nics.carried(multipath.left.host)["a"] > 100_000


@pytest.mark.lab
def test_a_flow_whose_second_pair_cannot_start_leaves_the_first_one_s_programs_to_nobody(multipath: Multipath) -> None:
    shared = measuring()
    holder = multipath.right.host.spawn("iperf3", "-s", "-p", "5203", "--forceflush")
    holder.wait_for("Server listening", 5)
    with started(multipath, Transport.TCP, shared) as first:
        ends = multipath.left, multipath.right
        with pytest.raises(TestbedError, match="Address already in use"):
            TrafficGenerator(Transport.TCP, shared).between([ends, ends])
        assert shared.under_way == [first.run]
        running = multipath.right.host.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
        assert "-p 5201" in running and "-p 5202" not in running
        assert first.goodput == near(Link().tcp_goodput, 0.05)
    assert dead(first)


@pytest.mark.lab
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("protocol", list(Transport), ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("end", ["client", "server"])
def test_a_program_that_dies_by_a_signal_is_a_broken_testbed(
    multipath: Multipath, protocol: Transport, end: str, number: signal.Signals
) -> None:
    options: dict[str, Any] = {"offered": 50e6, "payload": 2000} if protocol is Transport.UDP else {}
    with started(multipath, protocol, **options) as flow:
        if protocol is Transport.UDP:
            assert "warning" in flow.programs.transfers[0].client.stderr
        getattr(flow.programs.transfers[0], end).signal(number)
        where = "left: iperf3 to" if end == "client" else "right: iperf3's server on"
        with pytest.raises(TestbedError, match=rf"^{where} .*was ended by {number.name}\b[^\n]*$") as raised:
            assert flow.goodput == at_least(1.0)
        assert "warning" not in str(raised.value)
        assert not flow.programs.notes, "it was not started again"


@pytest.mark.lab
def test_a_program_that_dies_beside_the_flow_that_is_compared_is_a_broken_testbed(multipath: Multipath) -> None:
    shared = measuring()
    with (
        started(multipath, Transport.UDP, shared, offered=10e6) as background,
        started(multipath, Transport.TCP, shared) as flow,
    ):
        background.programs.transfers[0].client.signal(signal.SIGKILL)
        with pytest.raises(TestbedError, match="was ended by SIGKILL"):
            assert flow.goodput == at_least(1.0)


@pytest.mark.lab
def test_somebody_else_s_interrupt_is_a_broken_testbed(multipath: Multipath) -> None:
    with started(multipath, Transport.TCP) as flow:
        flow.programs.transfers[0].client.signal(signal.SIGTERM)
        with pytest.raises(TestbedError, match="the client has terminated, by a signal that came from elsewhere"):
            assert flow.goodput == at_least(1.0)


@pytest.mark.lab
@pytest.mark.parametrize("end", ["client", pytest.param("server", marks=pytest.mark.slow)])
def test_a_program_that_stands_still_is_a_broken_testbed(multipath: Multipath, end: str) -> None:
    with started(multipath, Transport.TCP) as flow:
        getattr(flow.programs.transfers[0], end).signal(signal.SIGSTOP)
        with pytest.raises(
            TestbedError, match=r"did not end within \ds: it is stopped, by SIGSTOP or a debugger$".replace("ds", "d s")
        ):
            assert flow.goodput == at_least(1.0)


@pytest.mark.lab
def test_a_tcp_flow_counts_too_and_only_its_own_time(multipath: Multipath) -> None:
    with started(multipath, Transport.TCP) as flow:
        sent = flow.counted(multipath.left.host)["TcpOutSegs"]
        assert sent > 1000
        with started(multipath, Transport.TCP):
            pass
        assert flow.counted(multipath.left.host)["TcpOutSegs"] == sent
        with pytest.raises(TestbedError, match="beyond was not watched during this flow: name it in watched="):
            flow.programs.trace.counted("beyond")


PLAIN_LISTENER = """
import socket
server = socket.create_server(("127.0.0.1", 7000))
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
client.connect(("127.0.0.1", 7000))
server.accept()[0].sendall(b"plain")
print(client.recv(9), flush=True)
"""


@pytest.mark.lab
def test_another_program_s_fallback_is_a_remark_and_no_failure(multipath: Multipath) -> None:
    readings: list[Reading] = []
    with started(multipath, Transport.MPTCP, measuring(on_result=readings.append)) as flow:
        assert "plain" in multipath.left.host.run("python3", "-c", PLAIN_LISTENER).stdout
        assert flow.goodput == at_least(1.75e8, theory=2 * Link().mptcp_goodput)
        require_multipath(flow)
        assert flow.counted(multipath.left.host)["MPTcpExtMPCapableFallbackSYNACK"] == 1
        assert any("left: a connection of another program was no MPTCP" in note for note in flow.programs.notes)
    (reading,) = [one for one in readings if "fell back" in one.name]
    assert (reading.estimate.mean, reading.held) == (0, True)


STRIPPED = "type filter hook output priority mangle; {} reset tcp option mptcp;"


@pytest.mark.lab
@pytest.mark.parametrize("how", ["syn", "syn+ack", "data", "server"])
def test_a_real_fallback_fails_with_its_words(multipath: Multipath, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = multipath.left.host, multipath.right.host
    if how == "server":
        programs = iter([("iperf3",), ("mptcpize", "run", "iperf3")])  # the server's, then the client's
        monkeypatch.setattr(iperf, "_program", lambda *_: next(programs))
    else:
        host = right if how == "syn+ack" else left
        rule = STRIPPED.format("tcp flags & syn != syn" if how == "data" else "")
        host.apply(Plan("a middlebox", (TableAdd("middlebox", f"chain c {{ {rule} }}"),)))
    readings: list[Reading] = []
    with started(multipath, Transport.MPTCP, measuring(on_result=readings.append)) as flow:
        assert flow.goodput == near(Link().tcp_goodput, 0.05)
        with pytest.raises(
            BehaviourFailed, match=r"mptcp left→right: the connection fell back to TCP \(.*left: .* is a fallback"
        ):
            require_multipath(flow)
    assert [(one.estimate.mean, one.held) for one in readings if "fell back" in one.name] == [(1, False)]


@contextmanager
def waiter(processors: float = 1000.0) -> Iterator[subprocess.Popen[str]]:
    """Another process that waits to measure what takes so many processors, and says a line as it does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(processors)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as made:
        try:
            yield made
        finally:
            made.kill()


@contextmanager
def holder(processors: float = 1000.0) -> Iterator[subprocess.Popen[str]]:
    """Another process that measures what takes so many processors: all that there are."""
    with waiter(processors) as made:
        assert made.stdout is not None
        assert made.stdout.readline() == "held\n"
        yield made


@pytest.fixture
def no_other_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots of these tests' own: the machine's are for what measures."""
    monkeypatch.setattr(slot, "NAME", f"channover/tests/{os.getpid()}")
    monkeypatch.setitem(
        globals(),
        "HOLDER",
        f"import channover.measure.cpu_lock\nchannover.measure.cpu_lock.NAME = {slot.NAME!r}\n" + HOLDER,
    )


@pytest.mark.usefixtures("no_other_measures")
def test_who_waits_to_measure_is_told_whom_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "_held", slot._Held())
    told: list[tuple[str, float]] = []
    spent: list[float] = []
    waits = measuring(progress=lambda one: told.append((one.name, one.seconds)), waited=spent.append)
    with holder() as other:
        words = rf"process {other.pid} \(python\S* -c .*\), since \d\d:\d\d:\d\d"
        with (
            pytest.raises(
                TestbedError, match=rf"^waited 1\.5 s for a turn to measure on this machine: {words}, is at it; wait"
            ),
            waits.turn(timeout=1.5),
        ):
            pass
        assert any(name.startswith(f"turn to measure, after process {other.pid}") for name, _ in told)
        assert len("".join(slot.holders().splitlines())) < 200
        began = time.monotonic()
        with measuring(on_this_machine=False, waited=spent.append).turn():
            assert spent == [0.0]
        assert time.monotonic() - began < 0.5
    with waits.turn(), waits.turn():
        _, first, again = spent
        assert first < 1 and again == 0
        assert f"process {os.getpid()} " in slot.holders()
    assert slot.holders() == "a measurement that does not tell its name"


def taking(processors: float) -> Callable[[float], float]:
    """Return what says of any traffic that it takes so many processors."""
    return lambda _: processors


@pytest.mark.usefixtures("no_other_measures")
def test_what_takes_little_is_measured_beside_what_takes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    share = slot.available() * slot.SLOT
    for other, own, together in ((0.4, 0.5, True), (0.6, 0.5, False), (1.0, 0.1, False), (0.1, 1.0, False)):
        monkeypatch.setattr(slot, "_held", slot._Held())
        takes = measuring(processors_taken=taking(own * share))
        with holder(other * share):
            if together:
                with takes.turn(timeout=0.1):
                    pass
            else:
                with (
                    pytest.raises(TestbedError, match=r"^waited 0\.3 s for a turn to measure"),
                    takes.turn(timeout=0.3),
                ):
                    pass
        with takes.turn(timeout=0.3):
            pass


@pytest.mark.usefixtures("no_other_measures")
def test_who_needs_much_is_not_overtaken_by_who_needs_little() -> None:
    with holder(slot.SLOT), waiter():
        name = f"@{slot.NAME}/next"
        until(lambda: name in Path("/proc/net/unix").read_text(), "one who waits", 5)
        with pytest.raises(TestbedError, match=r"^waited 0\.3 s for a turn"), cpu_lock(timeout=0.3, processors=0.1):
            pass


@pytest.mark.usefixtures("no_other_measures")
def test_who_waits_for_processors_too_often_has_the_machine_for_itself_until_it_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot, "_held", slot._Held())
    slot.make_room()
    assert not slot._held.sockets, "who does not measure takes nothing"
    with ExitStack() as stack:
        stack.enter_context(cpu_lock(processors=slot.SLOT))
        with holder(slot.SLOT) as other:
            slot.make_room()
            assert other.poll() is None, "who is at it goes on"
        slot.make_room()
        with waiter(slot.SLOT) as late:
            assert (begins := late.stdout) is not None
            assert not select.select([begins], [], [], 1.0)[0], "nobody begins beside it"
            stack.close()
            assert select.select([begins], [], [], 5.0)[0], "and then who waited does"


@pytest.mark.lab
def test_a_dry_run_does_not_wait(tmp_path: Path) -> None:
    """Whoever measures on this machine now, a stranger or a run of these tests, is not waited for."""
    suite = SUITE.partition('@behaviour("LAG-2")')[0]
    with cpu_lock():
        done = run(tmp_path, suite, "--dry-run")
    assert "iperf3 -c 10.93.93.2" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.lab
def test_paths_without_endpoints_are_no_fallback(multipath: Multipath) -> None:
    for end in (multipath.left, multipath.right):
        end.host.apply(Plan("one path", tuple(EndpointDelete(number) for number in end.host.state().endpoints)))
    with started(multipath, Transport.MPTCP) as flow:
        require_multipath(flow)
        assert flow.pairs(multipath.left.host) == {(str(multipath.left.address.ip), str(multipath.right.address.ip))}
