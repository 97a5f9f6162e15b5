"""A lab of IPv6: whatever gives hosts addresses, or serves and calls at them, does so with addresses of that family."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.model.link import Link
from channover.model.topology import pair, two_switches
from channover.network import lag
from channover.network.drivers import DRIVERS
from channover.network.loop_guard import source_guard
from channover.network.openvpn import openvpn_tunnel
from channover.network.programs.file_servers import FileProtocol, copy, serve
from channover.network.ssh_tunnel import ssh_login, ssh_server, ssh_tunnel
from channover.network.tunnel import Tunnel, through
from channover.scenarios.labs import configure
from channover.targets.capabilities import CAPABILITIES, lag_driver
from channover.targets.netns import NetnsTarget

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def six() -> Iterator[Lab]:
    """Two hosts with IPv6 alone."""
    target = NetnsTarget()
    if reason := target.unmet(pair()):
        pytest.skip(reason)
    with target.lab(pair(), Link(ipv6=True), Journal()) as lab:
        if reason := CAPABILITIES["ipv6"].unmet(lab.left):
            pytest.skip(reason)
        configure(lab)
        yield lab
    target.close()


def require(lab: Lab, *names: str) -> None:
    for name in names:
        if reason := CAPABILITIES[name].unmet(lab.left):
            pytest.skip(reason)


def far(lab: Lab) -> str:
    return str(lab.address(lab.topology.cables[0].b).ip)


def test_each_address_leaves_by_its_nic_and_rules_come_back(six: Lab) -> None:
    require(six, "policy-routing")
    addresses = [six.address(cable.a).ip for cable in six.topology.cables]
    assert [address.version for address in addresses] == [6, 6]
    rules = [rule for rule in six.left.state().rules if not rule.of_any]
    assert [rule.source for rule in rules] == [str(address) for address in addresses]
    for address, device in zip(addresses, ("eth1", "eth2"), strict=True):
        said = six.left.run("ip", "route", "get", far(six), "from", str(address)).stdout
        assert f" dev {device} " in said
    from channover.network.addressing import no_source_rules

    with six.left.applied(no_source_rules(six, six.left)):
        assert [rule for rule in six.left.state().rules if not rule.of_any] == []
    assert [rule for rule in six.left.state().rules if not rule.of_any] == rules, "an undo that knew no rule of IPv6"


@pytest.mark.parametrize("kind", ["openvpn", "ssh"])
def test_a_tunnel_has_addresses_of_the_family_outside_and_inside(six: Lab, kind: str) -> None:
    require(six, "tun", "openvpn" if kind == "openvpn" else "openssh", "ping", "nftables", "mptcp")
    with ExitStack() as stack:
        if kind == "openvpn":
            tunnel: Tunnel = stack.enter_context(openvpn_tunnel(six.left, six.right, far(six)))
        else:
            server = stack.enter_context(ssh_server(six.right, version=6))
            tunnel = stack.enter_context(ssh_tunnel(ssh_login(six.left, server, far(six))))
        near, other = (str(end.address.ip) for end in tunnel.ends)
        assert tunnel.network.version == 6
        assert "3 received" in six.left.run("ping", "-c", "3", "-i", "0.2", "-I", near, other).stdout
        guard = source_guard(tunnel, six.left)
        with six.left.applied(guard.plan):
            assert f"ip6 saddr {near} " in six.left.run("nft", "list", "table", "inet", guard.name).stdout
        ways = through(tunnel, tunnel.server, "fd00:93:5::/64")
        assert "net/ipv6/conf/all/forwarding" in ways["right"].sysctl_keys


@pytest.mark.parametrize("protocol", list(FileProtocol), ids=lambda one: one.name)
def test_a_file_is_served_and_fetched(six: Lab, protocol: FileProtocol) -> None:
    require(six, {FileProtocol.SFTP: "openssh"}.get(protocol, protocol.value))
    with serve(six.right, protocol, far(six), 200_000) as server:
        assert f"[{far(six)}]:{server.port}/" in server.url
        assert copy(six.left, server).size == 200_000


def test_lags_and_hosts_behind_switches_have_addresses_of_the_family() -> None:
    near, other = lag.addresses(0, ipv6=True)
    assert (near.version, near.network) == (6, other.network)
    assert lag.addresses(1, ipv6=True)[0].network != near.network
    assert str(lag.addresses(0)[0]) == "10.92.92.1/30"
    assert len(two_switches(8).hosts) == 16


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_jumbo_frames_cross_lags_and_tunnels_whole(ipv6: bool) -> None:
    target, link = NetnsTarget(), Link(mtu=9000, ipv6=ipv6)
    if reason := target.unmet(pair()):
        pytest.skip(reason)
    size = str(9000 - link.ip_header - 8)
    with target.lab(pair(), link, Journal()) as lab:
        require(lab, "ping", "tun", "openvpn", "openssh", "mptcp")
        driver = lag_driver(lab.left, "auto")[0]
        if driver is not None:
            with lag.between_hosts(DRIVERS[driver], lab.left, lab.right, lab.topology.cables, link) as made:
                made.wait_converged()
                assert made.unmet({host.name: host.state() for host in lab.hosts.values()}) == []
                assert answered(lab, size, str(made.right.address.ip))
        multipath = configure(lab)
        remote = str(multipath.right.address.ip)
        with openvpn_tunnel(lab.left, lab.right, remote, mtu=9000) as tunnel:
            assert answered(lab, size, str(tunnel.server.address.ip))
        with ExitStack() as stack:
            server = stack.enter_context(ssh_server(lab.right, version=multipath.right.address.version))
            tunnel = stack.enter_context(ssh_tunnel(ssh_login(lab.left, server, remote), mtu=9000))
            assert answered(lab, size, str(tunnel.server.address.ip))
    target.close()


def answered(lab: Lab, size: str, address: str) -> bool:
    """Whether packets of a size are answered that must not be fragmented."""
    words = ("ping", "-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", size, address)
    return "3 received" in lab.left.run(*words, check=False).stdout
