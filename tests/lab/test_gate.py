"""A run's servers answer the lab and nobody else: with real servers, and a caller on an interface that is no test NIC."""

from __future__ import annotations

from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.host import Host, Journal, Process
from channover.hosts.lab import Lab
from channover.model.link import Link
from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.plan import Plan
from channover.model.topology import Cable, Node, Port, Topology, pair
from channover.network import openvpn
from channover.network import ssh_tunnel as ssh
from channover.network.programs import file_servers as files
from channover.network.programs import iperf
from channover.network.programs.file_servers import FileProtocol
from channover.targets.netns import NetnsTarget
from channover.targets.physical.gate import gate, ports, table
from tests.lab.test_physical import Bench

pytestmark = pytest.mark.lab

GATE = Plan("x", (table("run-1", ["eth1"], ["eth2"]),))


def listen(host: Host, *words: str, port: int = openvpn.PORT) -> Process:
    server = host.spawn("iperf3", "-s", "-p", str(port), "--forceflush", *words)
    server.wait_for("Server listening", 10)
    return server


def reaches(host: Host, address: str, *words: str, port: int = openvpn.PORT) -> bool:
    """Whether a server takes what is sent to it; refused is not the same as unanswered."""
    done = host.run(
        "iperf3", "-c", address, "-p", str(port), "-n", "1K", "--connect-timeout", "3000", *words, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode != 0:
        assert "refused" in said or "unreachable" in said or "reset by peer" in said, said
    return done.returncode == 0


@pytest.fixture
def wired(two_hosts: Lab) -> Lab:
    """Two hosts with an address on each NIC; of ``right``, eth1 is the lab's, and eth2 is not."""
    for number, host in enumerate((two_hosts.left, two_hosts.right), start=1):
        operations = [
            step
            for device, network in (("eth1", "10.93.93"), ("eth2", "192.168.77"))
            for step in (LinkSet(device, up=True), AddressAdd(device, f"{network}.{number}/24"))
        ]
        host.apply(Plan.of("addresses", operations))
    two_hosts.right.run("nft", "--version")
    return two_hosts


def test_servers_answer_the_lab_and_nobody_else(wired: Lab) -> None:
    left, right = wired.left, wired.right
    servers = [listen(right), listen(right, "-B", "10.93.93.2", port=4000)]
    with right.applied(GATE):
        assert reaches(left, "10.93.93.2")
        assert reaches(left, "10.93.93.2", port=4000)
        assert not reaches(left, "192.168.77.2"), "a server on every address"
        left.run("ip", "route", "add", "10.93.93.2/32", "via", "192.168.77.2", "dev", "eth2")
        assert not reaches(left, "10.93.93.2"), "the lab's address, asked for by another interface"
        assert not reaches(left, "10.93.93.2", port=4000), "a server that is bound to the lab's address"
        left.run("ip", "route", "del", "10.93.93.2/32", "via", "192.168.77.2", "dev", "eth2")
    assert reaches(left, "192.168.77.2"), "open again when the run has ended"
    assert all(server.poll() is None for server in servers)
    assert "channover" not in right.run("nft", "list", "tables").stdout


def test_a_port_of_the_owner_s_own_server_stays_open(wired: Lab) -> None:
    left, right = wired.left, wired.right
    servers = [listen(right, "-B", "192.168.77.2", port=port) for port in (8080, 5207)]
    with right.applied(gate(right, "run-1", ["eth1"], ["eth2"])):
        assert reaches(left, "192.168.77.2", port=8080)
        assert reaches(left, "192.168.77.2", port=5207)
    assert all(server.poll() is None for server in servers)


@pytest.mark.parametrize("own", ["10.10.0.77/24", "10.101.3.4/16", "10.92.1.1 peer 10.92.1.2/32"])
def test_an_address_of_the_owner_s_in_the_lab_s_ranges_goes_on(wired: Lab, own: str) -> None:
    """The way to a host, of all things, may lie there: 10.10.0.0/24 is many a management network."""
    left, right = wired.left, wired.right
    address = own.split("/")[0].split()[0]
    right.apply(Plan("the owner's", (AddressAdd("eth2", own),)))
    left.run("ip", "route", "replace", f"{address}/32", "via", "192.168.77.2", "dev", "eth2")
    servers = [listen(right, port=4000), listen(right)]
    with right.applied(gate(right, "run-1", ["eth1"], ["eth2"])):
        assert reaches(left, address, port=4000)
        assert reaches(left, "10.93.93.2")
        left.run("ip", "route", "add", "10.93.93.2/32", "via", "192.168.77.2", "dev", "eth2")
        assert not reaches(left, "10.93.93.2", port=4000)
        left.run("ip", "route", "del", "10.93.93.2/32", "via", "192.168.77.2", "dev", "eth2")
    assert all(server.poll() is None for server in servers)


def test_the_owner_s_clients_go_on_whatever_port_they_have(wired: Lab) -> None:
    left, right = wired.left, wired.right
    server = listen(left, port=4000)
    with right.applied(GATE):
        assert reaches(right, "192.168.77.1", "--cport", "5301", port=4000)
        assert reaches(right, "192.168.77.1", "--cport", "2022", port=4000)
    assert server.poll() is None


def test_every_port_of_the_lab_s_servers_is_refused(wired: Lab) -> None:
    known = " ".join(ports())
    for port in (openvpn.PORT, ssh.PORT, *files.PORTS.values()):
        assert str(port) in known.split()
    assert f"{iperf.PORTS[0]}-{iperf.PORTS[-1]}" in known
    left, right = wired.left, wired.right
    with (
        files.serve(right, FileProtocol.HTTP, "10.93.93.2", 1000),
        ssh.ssh_server(right, mptcp=False),
        right.applied(GATE),
    ):
        asked = ("curl", "-q", "-sS", "--connect-timeout", "3", "-o", "/dev/null")
        assert left.run(*asked, "http://10.93.93.2:8080/copy.bin", check=False).returncode == 0
        assert left.run(*asked, "http://192.168.77.2:8080/copy.bin", check=False).returncode == 7
        for address, code in (("10.93.93.2", 0), ("192.168.77.2", 255)):
            found = left.run("ssh-keyscan", "-T", "3", "-p", str(ssh.PORT), address, check=False)
            assert bool(found.stdout) == (code == 0), found


def test_a_device_of_the_owner_s_is_none_of_the_lab_s_by_its_name() -> None:
    assert '"tun0"' in table("r", ["eth1"]).text
    assert '"tun0"' not in table("r", ["eth1"], ["tun0"]).text


def single() -> Topology:
    nodes = tuple(Node(name, ("a",)) for name in ("left", "right"))
    return Topology("single", nodes, (Cable(Port("left", "a"), Port("right", "a")),))


def test_a_real_host_refuses_others_as_long_as_the_run_has_it(netns: NetnsTarget, wired: Lab, tmp_path: Path) -> None:
    with netns.lab(pair(), Link(), Journal()) as other:
        bench = Bench({"left": wired, "right": other}, tmp_path)
        bench.lay(
            (tmp_path / "bench.yaml")
            .read_text()
            .replace(", b: eth2", "")
            .replace("      - {ends: [left.b, right.b], rate: 100mbit}\n", "")
        )
        own, stranger = bench.own, wired.right  # at the other end of a NIC that is not the lab's
        before = own.run("nft", "list", "ruleset").stdout
        target = bench.target()
        try:
            with target.lab(single(), Link(), Journal()) as lab:
                lab.left.apply(Plan("address", (AddressAdd("eth1", "10.93.93.1/30"),)))
                name = f"channover_{target.leases.run_id.replace('-', '_')}"
                assert f"table inet {name}\n" in own.run("nft", "list", "tables").stdout
                server = listen(own)
                assert not reaches(stranger, "192.168.77.1")
                stranger.run("ip", "route", "add", "10.93.93.1/32", "via", "192.168.77.1", "dev", "eth2")
                assert not reaches(stranger, "10.93.93.1")
                stranger.run("ip", "route", "del", "10.93.93.1/32", "via", "192.168.77.1", "dev", "eth2")
                assert reaches(stranger, "10.93.93.1")
            assert own.run("nft", "list", "ruleset").stdout == before
            assert reaches(stranger, "192.168.77.1")
            assert server.poll() is None
        finally:
            target.close()


def test_a_host_without_nft_is_refused_with_the_remedy(two_hosts: Lab) -> None:
    left = two_hosts.left
    left.run("mount", "--bind", "/dev/null", "/usr/sbin/nft")
    try:
        with pytest.raises(TestbedError, match=r"left has no nft.*apt-get install nftables"):
            gate(left, "run-1", ["eth1"], [])
    finally:
        left.run("umount", "/usr/sbin/nft")
