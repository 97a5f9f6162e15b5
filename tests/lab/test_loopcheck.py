"""``channover loopcheck`` on live hosts: on the host itself, and over SSH; what it says, and that it changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from channover.hosts.host import Host, until
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.model.topology import Port
from channover.network import mptcp
from channover.network.addressing import addresses, source_rules
from channover.network.openvpn import join_listener, openvpn_tunnel
from channover.network.tunnel import Tunnel
from channover.observe.sockets import subflows
from channover.targets.capabilities import CAPABILITIES
from tests.support.sshd import Server

pytestmark = pytest.mark.lab
COMMAND = (sys.executable, "-m", "channover.cli.main", "loopcheck")


@pytest.fixture
def lab(two_hosts: Lab) -> Lab:
    """Return two hosts whose carrier has two paths, where tunnels can be made."""
    for name in ("openvpn", "mptcp"):
        if reason := CAPABILITIES[name].unmet(two_hosts.left):
            pytest.skip(reason)
    for host in two_hosts.hosts.values():
        for plan in (addresses(two_hosts, host), source_rules(two_hosts, host), mptcp.enable()):
            host.apply(plan)
    two_hosts.left.apply(mptcp.client_endpoints(two_hosts, two_hosts.left))
    two_hosts.right.apply(mptcp.server_endpoints(two_hosts, two_hosts.right))
    return two_hosts


@contextmanager
def tunnel(lab: Lab, *, carried_by_mptcp: bool = True) -> Iterator[Tunnel]:
    remote = str(lab.address(Port("right", "a")).ip)
    with openvpn_tunnel(lab.left, lab.right, remote, mptcp=carried_by_mptcp) as up:
        yield up


def checked(host: Host) -> tuple[int, dict[str, Any]]:
    """Run the command on a host; return its exit code and what it says of the one tunnel."""
    done = host.run(*COMMAND, "--json", check=False)
    assert done.stderr == ""
    said = json.loads(done.stdout)["tunnels"]
    return done.returncode, said[0] if said else {}


def offer(host: Host, up: Tunnel, *bound: str) -> None:
    """Add the tunnel's own address as a path, as tools do that add every address, and have the carrier take it up."""
    end = up.end(host)
    host.run("ip", "mptcp", "endpoint", "add", str(end.address.ip), *bound, "subflow", "fullmesh")
    host.run("ping", "-c", "1", "-W", "1", str(up.peer(end).address.ip), check=False)


def within(host: Host, up: Tunnel) -> list[str]:
    return [one.state for one in subflows(host) if one.source == str(up.end(host).address.ip) and one.mptcp]


def test_without_a_tunnel_nothing_feeds_on_itself(lab: Lab) -> None:
    done = lab.left.run(*COMMAND, check=False)
    assert (done.returncode, done.stdout) == (0, "this host: there is no tunnel (no device of the kinds tun and tap)\n")


def test_a_tunnel_goes_from_could_to_trying_to_guarded(lab: Lab) -> None:
    host = lab.left
    with tunnel(lab) as up:
        code, said = checked(host)
        assert (code, said["verdict"], said["device"], said["program"]) == (1, "could", "ptp", "openvpn")
        assert (said["networks"], said["addresses"]) == (["10.96.96.0/30"], ["10.96.96.1"])
        (carrier,) = said["carriers"]
        assert (carrier["protocol"], carrier["port"], carrier["server"]) == ("mptcp", 1200, False)
        assert len(carrier["subflows"]) == 4
        code, there = checked(lab.right)
        assert (code, there["verdict"], there["carriers"][0]["server"]) == (1, "could", True)

        offer(host, up, "dev", "ptp")
        until(lambda: "SYN-SENT" in within(host, up), "a subflow that asks to join within the tunnel", 5.0)
        code, said = checked(host)
        assert (code, said["verdict"]) == (1, "tries")
        assert {sign["form"] for sign in said["signs"]} == {"pending", "endpoint"}

        host.run("nft", "-f", "-", input=said["guard"])
        until(lambda: not within(host, up), "the end of what the guard refuses", 10.0)
        code, said = checked(host)
        assert (code, said["verdict"], said["guard"]) == (0, "cannot", None)
        assert any("a packet filter keeps the carrier out" in reason for reason in said["reasons"])


def test_a_tunnel_that_feeds_on_itself_is_told_at_both_ends_and_its_own_guard_ends_it(lab: Lab) -> None:
    host = lab.left
    with tunnel(lab) as up, join_listener(up):
        offer(host, up)
        until(lambda: "ESTAB" in within(host, up), "the loop's subflow", 5.0)
        code, said = checked(host)
        assert (code, said["verdict"]) == (1, "feeds")
        assert {sign["form"] for sign in said["signs"]} == {"source", "endpoint"}
        code, there = checked(lab.right)
        assert {sign["form"] for sign in there["signs"]} == {"destination"}
        assert (code, there["verdict"]) == (1, "could")
        assert "leaves by eth1 and goes round the tunnel" in " ".join(there["reasons"])
        for end, guard in ((host, said["guard"]), (lab.right, there["guard"])):
            end.run("nft", "-f", "-", input=guard)
        # Idle, it would stay; what it would carry is refused from now on.
        code, said = checked(host)
        assert (code, said["verdict"], bool(said["signs"])) == (0, "cannot", True)


def test_a_plain_carrier_cannot_and_one_that_a_route_leads_inside_does(lab: Lab) -> None:
    host = lab.left
    with tunnel(lab, carried_by_mptcp=False):
        code, said = checked(host)
        assert (code, said["verdict"], said["carriers"][0]["protocol"]) == (0, "cannot", "tcp")
        host.run("ip", "rule", "del", "from", "10.93.93.1")
        host.run("ip", "route", "add", "10.93.93.2/32", "dev", "ptp")
        code, said = checked(host)
        assert (code, said["verdict"]) == (1, "feeds")
        assert "its destination is routed to the tunnel's device ptp" in said["signs"][0]["sentence"]


def test_a_device_in_a_namespace_of_its_own_is_no_path(lab: Lab) -> None:
    host = lab.left
    with tunnel(lab):
        mover = host.spawn("unshare", "-n", "sleep", "60")
        here = host.run("readlink", "/proc/self/ns/net").stdout
        until(lambda: host.run("readlink", f"/proc/{mover.pid}/ns/net").stdout != here, "a namespace", 5.0)
        host.run("ip", "link", "set", "ptp", "netns", str(mover.pid))
        code, said = checked(host)
        assert (code, said["verdict"]) == (0, "cannot")
        assert "ptp is in another network namespace than its carrier" in said["reasons"][0]
        mover.stop()


def everything(host: Host) -> str:
    words = "ip -d addr; ip rule; ip route show table all; ip mptcp endpoint; ip mptcp limits; nft list ruleset; "
    return host.run("sh", "-c", words + "ls -A /root /tmp; sysctl -a 2>/dev/null | grep -e mptcp -e ip_forward").stdout


@pytest.mark.alone  # it looks for files in /tmp, where other tests have theirs
def test_over_ssh_it_says_the_same_and_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    assert isinstance(lab.left, NamespaceHost)
    server = Server(lab.left, tmp_path)
    options = ["--key", str(tmp_path / "client"), "--known-hosts", str(tmp_path / "known_hosts")]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)

    with tunnel(lab), server.listening() as port:
        host = f"root@127.0.0.1:{port}"
        before = everything(lab.left)
        done = run(host, *options)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout.startswith("127.0.0.1: ptp, held by openvpn (pid ")
        assert (
            "could feed on itself\n  carried by MPTCP, port 1200, this host is the client, 4 subflows\n" in done.stdout
        )
        assert "\nnft -f - <<'END'\ntable inet channover_guard_both {\n" in done.stdout
        assert everything(lab.left) == before
        said = json.loads(run(host, *options, "--json").stdout)
        here = checked(lab.left)[1]
        assert said["host"] == "127.0.0.1"
        assert {**said["tunnels"][0], "carriers": None} == {**here, "carriers": None}
        lab.left.run("sh", "-c", f"sed -n '/^table/,/^}}/p' <<'OUT' | nft -f -\n{done.stdout}\nOUT")
        assert run(host, *options).returncode == 0
        (tmp_path / "known_hosts").write_text("")
        done = run(host, *options)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert "the host key of" in done.stderr


def test_whoever_is_not_root_is_told_that_he_sees_too_little(lab: Lab, tmp_path: Path) -> None:
    assert isinstance(lab.left, NamespaceHost)
    server = Server(lab.left, tmp_path)
    server.user("/bin/sh", name="guest")
    with tunnel(lab), server.listening() as port:
        options = ["--key", str(tmp_path / "client"), "--known-hosts", str(tmp_path / "known_hosts")]
        words = [*COMMAND, f"guest@127.0.0.1:{port}", *options]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (2, "")
        assert "127.0.0.1: ptp cannot be judged\n" in done.stdout
        assert "only root may see: run this as root, or with --sudo" in done.stdout


def test_what_is_for_another_host_needs_one() -> None:
    done = subprocess.run([*COMMAND, "--key", "x"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "channover: --key is for a host behind SSH: name one\n")
