"""Copies of a file by HTTP, FTP and SFTP over a lab's cable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from channover.errors import TestbedError, UsageError
from channover.hosts.host import Journal
from channover.hosts.lab import Lab
from channover.model.link import Link
from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.plan import Plan
from channover.model.topology import Port, parallel
from channover.network.programs.file_servers import FileProtocol, copy, serve, start_copy
from channover.observe.sockets import connections
from channover.targets.netns import NetnsTarget

pytestmark = [pytest.mark.lab, pytest.mark.timed]
LINK = Link(100_000_000)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    target = NetnsTarget()
    if reason := target.unmet(parallel(1)):
        target.close()
        pytest.skip(reason)
    try:
        with target.lab(parallel(1), LINK, Journal()) as found:
            for name in ("left", "right"):
                address = found.address(Port(name, "a"))
                found.hosts[name].apply(Plan("address", (AddressAdd("eth1", str(address)), LinkSet("eth1", up=True))))
            yield found
    finally:
        target.close()


@pytest.fixture
def address(lab: Lab) -> str:
    return str(lab.address(Port("right", "a")).ip)


@pytest.mark.parametrize("protocol", FileProtocol)
def test_a_copy_takes_the_time_that_one_link_needs(lab: Lab, address: str, protocol: FileProtocol) -> None:
    with serve(lab.right, protocol, address, 6_000_000) as server:
        done = copy(lab.left, server, 20)
    assert (done.protocol, done.size) == (protocol, 6_000_000)
    assert done.goodput == pytest.approx(LINK.tcp_goodput, rel=0.06)
    assert done.setup < 2


@pytest.mark.parametrize("protocol", [FileProtocol.HTTP, FileProtocol.SFTP])
def test_the_unchanged_programs_speak_mptcp(lab: Lab, address: str, protocol: FileProtocol) -> None:
    with serve(lab.right, protocol, address, 4_000_000, mptcp=True) as server:
        copying = start_copy(lab.left, server)
        seen = []
        while copying.running:
            seen += [each for each in connections(lab.left) if each.state == "ESTAB"]
        assert copying.wait(10).size == 4_000_000
    assert seen
    assert not any(each.fallback for each in seen)


def test_ftp_over_mptcp_is_refused(lab: Lab, address: str) -> None:
    with pytest.raises(UsageError, match="SO_OOBINLINE"), serve(lab.right, FileProtocol.FTP, address, 1, mptcp=True):
        pass


@pytest.mark.parametrize("protocol", [FileProtocol.HTTP, FileProtocol.SFTP])
def test_a_client_may_stay_with_tcp(lab: Lab, address: str, protocol: FileProtocol) -> None:
    with serve(lab.right, protocol, address, 1000, mptcp=True) as server:
        assert copy(lab.left, server, 10, mptcp=False).size == 1000


@pytest.mark.parametrize("protocol", FileProtocol)
def test_a_copy_that_takes_too_long_is_a_broken_testbed(lab: Lab, address: str, protocol: FileProtocol) -> None:
    with (
        serve(lab.right, protocol, address, 40_000_000) as server,
        pytest.raises(TestbedError, match=r"did not end within 0\.5 s"),
    ):
        copy(lab.left, server, 0.5)


@pytest.mark.parametrize("protocol", FileProtocol)
def test_a_file_that_is_gone_is_a_broken_testbed(lab: Lab, address: str, protocol: FileProtocol) -> None:
    with serve(lab.right, protocol, address, 1000) as server:
        lab.right.run("rm", server.path)
        with pytest.raises(TestbedError, match=r"left: the copy of .* failed with code"):
            copy(lab.left, server, 10)


@pytest.mark.parametrize("protocol", [FileProtocol.HTTP, FileProtocol.FTP])
def test_a_server_that_cannot_listen_says_why(lab: Lab, protocol: FileProtocol) -> None:
    with (
        pytest.raises(TestbedError, match=r"right: .* ended with code"),
        serve(lab.right, protocol, "10.99.99.1", 1000),
    ):
        pass
