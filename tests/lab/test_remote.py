"""A host behind SSH: a real sshd in a namespace host, its streams carried by a socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from channover.errors import NotAllowed, TestbedError, UsageError
from channover.hosts.change_policy import ChangePolicy, Management
from channover.hosts.host import Journal, Nic, until
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.ssh.connection import Login, SshLink
from channover.hosts.ssh.host import RemoteHost
from channover.hosts.ssh.process import connection_of
from channover.model.operations.devices import AddressAdd, LinkAdd, LinkSet
from channover.model.operations.kernel import SysctlSet, TableAdd, TableDelete
from channover.model.operations.mptcp import EndpointAdd, LimitsSet
from channover.model.operations.operation import Operation
from channover.model.operations.routing import RouteAdd, RuleAdd
from channover.model.plan import Plan
from tests.support.sshd import Server

pytestmark = pytest.mark.lab
RUN = f"trial-{os.getpid()}"
"""Its control group is the machine's, and other workers have theirs."""
GROUPS = [Path(base, f"channover-{RUN}") for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")]


@pytest.fixture
def server(two_hosts: Lab, tmp_path: Path) -> Server:
    assert isinstance(two_hosts.left, NamespaceHost)
    return Server(two_hosts.left, tmp_path)


@pytest.fixture
def host(server: Server) -> Iterator[RemoteHost]:
    policy = ChangePolicy(
        "left",
        frozenset({"eth1", "eth3"}),
        frozenset({"lo", "eth2"}),
        Management("eth2", ("192.0.2.7/24",), ("198.51.100.9",), frozenset({"eth3"})),
        tables=frozenset({77}),
        filters=frozenset({"owners"}),
    )
    link = server.link()
    server.host.run("mkdir", "-p", "/run/home/left")
    yield RemoteHost("left", {"a": Nic("a", "eth1")}, link, RUN, "/run/home", policy, Journal())
    link.close()
    for group in GROUPS:  # the machine's, and the guardian's to take away, which is not here
        if (events := group / "cgroup.events").exists():
            (group / "cgroup.kill").write_text("1")
            until(partial(_empty, events), "the programs to end", 5)
            group.rmdir()


def _empty(events: Path) -> bool:
    return "populated 0" in events.read_text()


def test_a_program_joins_a_control_group_and_makes_no_plain_folder(host: RemoteHost) -> None:
    host.run("true")
    assert not any(group.exists() for group in GROUPS), "there is no guardian to take it away"
    joined = replace(host, lease="/run/home").run("cat", "/proc/self/cgroup").stdout
    made = [group for group in GROUPS if group.exists()]
    assert all((group / "cgroup.events").exists() for group in made)
    assert len(made) == joined.count(f"/channover-{RUN}\n")


def test_a_program_runs_with_its_input_its_words_and_its_code(host: RemoteHost) -> None:
    done = host.run("sh", "-c", "cat; echo 'a b' >&2; exit 3", input="§ 'quoted' $HOME\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("§ 'quoted' $HOME\n", "a b\n", 3)
    assert host.run("printf", "%s|", "a b", "$(id)", "'", "").stdout == "a b|$(id)|'||"


def test_what_fails_says_so(host: RemoteHost) -> None:
    with pytest.raises(TestbedError, match=r"left: 'false' ended with code 1"):
        host.run("false")
    with pytest.raises(TestbedError, match=r"cannot run 'no-such-program'"):
        host.spawn("no-such-program")
    with pytest.raises(TestbedError, match=r"'sleep 60' did not end within 0\.3 s"):
        host.run("sleep", "60", timeout=0.3)
    assert "sleep 60" not in host.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


def test_a_login_shell_that_waits_is_named_with_where_to_look(server: Server, host: RemoteHost) -> None:
    server.host.write(f"{server.host.folder}/.bashrc", "sleep 60\n")
    words = (
        r"left: 'true' did not start within 1 s: the login shell .*~/\.bashrc.*'ssh -p 22 root@lab true' ends at once"
    )
    with pytest.raises(TestbedError, match=words):
        replace(host, patience=1 / 30).run("true")


def test_a_program_in_the_background(host: RemoteHost) -> None:
    process = host.spawn("sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    assert process.wait_for("^ready$", 5)
    assert process.poll() is None
    assert process.stop() == 5
    assert process.lines == ["ready", "bye"]
    killed = host.spawn("sleep", "60")
    killed.signal(signal.SIGKILL)
    assert killed.wait(5) == -signal.SIGKILL


def test_a_program_sees_nothing_of_the_controllers_environment(host: RemoteHost) -> None:
    names = {line.partition("=")[0] for line in host.run("env").stdout.splitlines()}
    assert names <= {"PATH", "HOME", "TMPDIR", "LC_ALL", "LANG", "CHANNOVER_RUN", "PWD", "SHLVL", "_", "OLDPWD"}


def test_files(host: RemoteHost) -> None:
    host.write("/run/home/x y", "text §\n", 0o640)
    assert host.read("/run/home/x y") == "text §\n"
    assert host.run("stat", "-c", "%a", "/run/home/x y").stdout == "640\n"
    host.sparse("/run/home/big", 1 << 30)
    assert host.run("stat", "-c", "%s", "/run/home/big").stdout == f"{1 << 30}\n"
    with pytest.raises(TestbedError, match="cannot read /nowhere"):
        host.read("/nowhere")


PLAN = Plan(
    "all kinds of change",
    (
        LinkSet("eth1", up=True, mtu=1400),
        AddressAdd("eth1", "10.93.93.1/30"),
        AddressAdd("eth1", "fd00:93::1/64"),
        RuleAdd("fd00:93::1", 101, 1001),
        RouteAdd("default", "eth1", "fd00:93::2", 101),
        SysctlSet("net/ipv4/conf/all/rp_filter", "2"),
        RuleAdd("10.93.93.1", 101, 1001),
        RouteAdd("10.93.93.0/30", "eth1", None, 101),
        LimitsSet(8, 8),
        EndpointAdd(1, "10.93.93.1", ("subflow", "fullmesh"), "eth1"),
        TableAdd("trial", "chain c { type filter hook output priority 0; }"),
        LinkAdd("br0", "bridge"),
        LinkSet("br0", up=True),
    ),
)


def test_a_plan_is_made_and_undone_as_through_netlink(host: RemoteHost, two_hosts: Lab) -> None:
    keys = PLAN.sysctl_keys
    before, twin = host.state(keys), two_hosts.right
    host.apply(PLAN)
    twin.apply(PLAN)
    here, there = host.state(keys), twin.state(keys)
    assert (here.rules, here.routes, here.endpoints, here.limits) == (
        there.rules, there.routes, there.endpoints, there.limits,
    )  # fmt: skip
    assert here.links["eth1"].mtu == 1400
    assert here.sysctls == there.sysctls == {"net/ipv4/conf/all/rp_filter": "2"}
    assert before != here


def test_the_inverse_leads_back(host: RemoteHost) -> None:
    keys = PLAN.sysctl_keys
    before = host.state(keys)
    with host.applied(PLAN):
        assert "br0" in host.state().links
    assert host.state(keys) == before


@pytest.mark.parametrize("position", [0, 1, 2, 3, 6, 8])
def test_a_refused_change_is_named_and_those_before_it_are_taken_back(host: RemoteHost, position: int) -> None:
    bad = AddressAdd("eth1", "10.93.93.999/30") if position % 2 else SysctlSet("net/ipv4/ip_forward", "x")
    if position % 2:
        host.policy = replace(host.policy, management=Management("eth2"))
    before = host.state(PLAN.sysctl_keys)
    operations = (*PLAN.operations[:position], _Unchecked(bad), *PLAN.operations[position:])
    with pytest.raises(TestbedError, match=r"the host refused '.*(999|ip_forward)"):
        host.apply(Plan("fails", operations))  # type: ignore[arg-type]
    assert host.state(PLAN.sysctl_keys) == before


@dataclass(frozen=True)
class _Unchecked:
    """An operation of which the permission sees nothing."""

    operation: Operation

    @property
    def command(self) -> str:
        return self.operation.command

    def after(self, before: object) -> object:
        return before

    def inverse(self, _before: object) -> tuple[()]:
        return ()


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (LinkSet("eth2", up=False), "eth2 is the management interface"),
        (LinkSet("lo", up=False), "lo is no test NIC"),
        (LinkSet("eth1", master="eth2"), "eth2 is the management interface"),
        (AddressAdd("eth1", "192.0.2.99/25"), r"covers the way to the host \(192.0.2.7/24\)"),
        (RouteAdd("default", "eth1"), "covers the way to the host"),
        (RouteAdd("198.51.100.0/24", "eth1"), "covers the way to the host"),
        (RuleAdd("all", 101, 5), "covers the way to the host"),
        (RuleAdd("192.0.2.7", 101, 5), "covers the way to the host"),
        (EndpointAdd(1, "192.0.2.7", ("subflow",)), "is the management interface's"),
        (SysctlSet("net/ipv4/conf/eth2/rp_filter", "1"), "eth2 is the management interface"),
        (SysctlSet("kernel/sysrq", "1"), "no parameter that a lab may set"),
        (SysctlSet("net/ipv4/tcp_ecn", "1"), "no parameter that a lab may set"),
        (SysctlSet("net/ipv4/conf/all/arp_ignore", "8"), "no parameter that a lab may set"),
        (SysctlSet("net/ipv4/conf/all/forwarding", "0"), "no parameter that a lab may set"),
        (SysctlSet("net/ipv6/conf/all/disable_ipv6", "1"), "no parameter that a lab may set"),
        (SysctlSet("net/ipv4/conf/all/rp_filter", "1"), "strict reverse path filtering"),
        (LinkSet("eth3", up=True), "eth3 carries the management interface eth2"),
        (RouteAdd("default", "eth1", table=77), "covers the way to the host"),
        (TableAdd("owners", ""), "the table owners was there before the run"),
        (TableDelete("owners"), "the table owners was there before the run"),
        (
            TableAdd("strict", "chain c { type filter hook input priority 0; policy drop; }"),
            "drops what it does not know",
        ),
        (LinkAdd("eth1", "bridge"), "can be neither made nor deleted"),
    ],
)
def test_the_way_to_the_host_is_never_touched(host: RemoteHost, operation: Operation, words: str) -> None:
    before = host.state()
    with pytest.raises(UsageError, match=f"refused .*{words}"):
        host.apply(Plan("forbidden", (LinkSet("eth1", up=True), operation)))
    assert host.state() == before


def test_what_was_done_to_a_device_that_ended_with_its_holder_needs_no_undo(host: RemoteHost) -> None:
    host.run("ip", "link", "add", "name", "gone0", "type", "bridge")
    host.apply(Plan("address", (AddressAdd("gone0", "10.93.93.1/30"), LinkSet("gone0", up=True))))
    host.run("ip", "link", "delete", "dev", "gone0")
    host.unwind()
    host.apply(Plan("address", (AddressAdd("eth1", "10.93.93.1/30"),)))
    host.run("ip", "address", "flush", "dev", "eth1")
    with pytest.raises(TestbedError, match="undo: address"):
        host.unwind()


def test_an_owner_who_forbids_it_has_no_nic_set_down(host: RemoteHost) -> None:
    host.apply(Plan("up", (LinkSet("eth1", up=True),)))
    host.policy.nics_down = False
    with pytest.raises(NotAllowed, match=r"'ip link set dev eth1 down' is not allowed: .* allows\.nics_down: false"):
        host.apply(Plan("down", (LinkSet("eth1", up=False),)))
    assert host.state().links["eth1"].up


def test_an_unknown_host_key_is_refused_with_the_remedy(server: Server, tmp_path: Path) -> None:
    (tmp_path / "none").write_text("")
    with pytest.raises(
        TestbedError, match=r"host key of lab is unknown \(ssh-ed25519 SHA256:.*ssh-keyscan -p 22 lab >>"
    ):
        server.link(known_hosts=tmp_path / "none").open()


def test_a_changed_host_key_is_refused_with_the_remedy(server: Server) -> None:
    server.keygen("other")
    kind, key, *_ = (server.folder / "other.pub").read_text().split()
    (server.folder / "known_hosts").write_text(f"lab {kind} {key}\n")
    with pytest.raises(TestbedError, match=r"has changed: .*ssh-keygen -R 'lab'"):
        server.link().open()


def test_a_refused_key_and_a_missing_one(server: Server) -> None:
    server.keygen("stranger")
    with pytest.raises(TestbedError, match=r"refuses the key .*stranger: ssh-copy-id"):
        server.link(key=server.folder / "stranger").open()
    with pytest.raises(TestbedError, match=r"the key /nowhere is not there; correct its path; see ssh.key"):
        server.link(key=Path("/nowhere")).open()


@pytest.fixture
def locked(server: Server) -> Path:
    """The client's key, behind a passphrase."""
    key = server.folder / "locked"
    for end in ("", ".pub"):
        shutil.copy(server.folder / f"client{end}", f"{key}{end}")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "a passphrase", "-f", key], check=True)
    return key


def test_a_key_with_a_passphrase_is_the_agents(server: Server, locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short (unix(7))
        monkeypatch.setenv("SSH_AUTH_SOCK", f"{folder}/agent")
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", f"{folder}/agent"], stdout=subprocess.DEVNULL)
        try:
            until(lambda: Path(f"{folder}/agent").exists(), "the agent", 10)
            with pytest.raises(
                TestbedError, match=r"the key .*locked has a passphrase, .*: ssh-add .*locked, or leave ssh.key"
            ):
                server.link(key=locked).open()
            server.keygen("stranger")
            subprocess.run(["ssh-add", "-q", server.folder / "stranger"], check=True)
            with pytest.raises(
                TestbedError, match=r"the key .*locked has a passphrase, and the SSH agent has no key that root"
            ):
                server.link(key=locked).open()
            subprocess.run(["ssh-add", "-q", server.folder / "client"], check=True)
            assert connection_of(server.link(key=locked))
            with pytest.raises(
                TestbedError, match=r"refuses the key .*stranger: ssh-copy-id"
            ):  # not the agent's other key
                server.link(key=server.folder / "stranger").open()
        finally:
            agent.kill()
            agent.wait()


@pytest.fixture
def beyond(server: Server) -> Iterator[Login]:
    """How to log in to an sshd that only the server's host can reach, with a host key of its own."""
    host, folder = server.host, server.folder
    server.keygen("inner")
    host.write(f"{host.folder}/inner", (folder / "inner").read_text(), 0o600)
    config = host.read(f"{host.folder}/sshd_config").replace(f"{host.folder}/host", f"{host.folder}/inner")
    host.write(f"{host.folder}/inner_config", f"{config}Port 2222\nListenAddress 127.0.0.1\nPidFile none\n")
    host.run("ip", "link", "set", "lo", "up")
    sshd = host.spawn("/usr/sbin/sshd", "-D", "-f", f"{host.folder}/inner_config")
    until(lambda: "2222" in host.run("ss", "-Hltn", quiet=True).stdout, "the sshd to listen", 10)
    with (folder / "known_hosts").open("a") as known:
        known.write(f"[127.0.0.1]:2222 {(folder / 'inner.pub').read_text()}")
    yield replace(server.login, address="127.0.0.1", port=2222, jump=server.login)
    sshd.stop()


def test_a_host_behind_a_jump_host(server: Server, beyond: Login) -> None:
    link = SshLink("left", beyond, sock=server.sock())
    assert connection_of(link).split()[2:] == ["127.0.0.1", "2222"]
    (gate,) = link._gates
    link.close()
    assert not gate.is_connected


@pytest.mark.parametrize(
    ("known", "changes", "words"),
    [
        ("inner", {}, r"left's jump host: the host key of lab is unknown .*trust it: ssh-keyscan -p 22 lab >> /"),
        ("inner lab=inner", {}, r"left's jump host: the host key of lab port 22 has changed: .*ssh-keygen -R 'lab'"),
        ("lab", {}, r"left: .*\[127.0.0.1\]:2222 is unknown .*: ssh -p 22 root@lab ssh-keyscan -p 2222 127.0.0.1 >> /"),
        ("lab inner=host", {}, r"left: the host key of 127.0.0.1 port 2222 has changed: .*-R '\[127.0.0.1\]:2222'"),
        (
            "lab inner",
            {"jump.user": "stranger"},
            r"left's jump host: stranger@lab port 22 refuses the key .*client: ssh-copy-id, or see ssh.jump",
        ),
        (
            "lab inner",
            {"user": "stranger"},
            r"left: stranger@127.0.0.1 port 2222 refuses the key .*: ssh-copy-id -o ProxyJump=root@lab:22, or see ssh.user",
        ),
        (
            "lab inner",
            {"port": 2223},
            r"left: cannot reach 127.0.0.1 port 2223 through root@lab:22: .*are ssh.address and ssh.port right",
        ),
    ],
)
def test_of_two_hosts_the_one_that_refuses_is_named(
    server: Server, beyond: Login, known: str, changes: dict[str, Any], words: str
) -> None:
    names = {"lab": ("lab", "host"), "inner": ("[127.0.0.1]:2222", "inner")}
    lines = []
    for entry in known.split():
        name, _, key = entry.partition("=")
        lines.append(f"{names[name][0]} {(server.folder / f'{key or names[name][1]}.pub').read_text()}")
    (server.folder / "known_hosts").write_text("".join(lines))
    assert beyond.jump is not None
    jump = replace(beyond.jump, user=changes.pop("jump.user", "root"))
    with pytest.raises(TestbedError, match=words):
        SshLink("left", replace(beyond, jump=jump, **changes), sock=server.sock()).open()


def test_a_jump_host_that_forwards_nothing(server: Server, beyond: Login) -> None:
    config = f"{server.host.folder}/sshd_config"
    server.host.write(config, f"{server.host.read(config)}AllowTcpForwarding no\n")
    with pytest.raises(TestbedError, match=r"left: cannot reach 127.0.0.1 .*through root@lab:22: .*AllowTcpForwarding"):
        SshLink("left", beyond, sock=server.sock()).open()


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TestbedError, match=rf"cannot reach 127.0.0.1 port {port}: .*is the host up"):
        SshLink("left", Login("127.0.0.1", port)).open()


def test_a_lost_connection_is_a_broken_testbed(host: RemoteHost, server: Server) -> None:
    process = host.spawn("sleep", "30")
    host.link.close()
    with pytest.raises(TestbedError, match="connection"):
        process.wait(5)
    host.link.sock = server.sock()
    assert host.run("echo", "again").stdout == "again\n"


def test_one_plan_costs_one_channel(host: RemoteHost) -> None:
    opened: list[str] = []
    channel = host.link.channel
    host.link.channel = lambda command: opened.append(command) or channel(command)  # type: ignore[method-assign,func-returns-value]
    host.apply(PLAN)
    assert len(opened) == 1
