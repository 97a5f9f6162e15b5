"""OpenVPN's carrier over Multipath TCP: it has every path, whenever its server looks for the client."""

from __future__ import annotations

import threading

import pytest

from channover.hosts.host import Host
from channover.hosts.lab import Lab
from channover.network.openvpn import PORT, openvpn_tunnel
from channover.observe.sockets import subflows
from channover.scenarios.labs import configure
from channover.targets.capabilities import CAPABILITIES

pytestmark = pytest.mark.lab


def carriers(host: Host) -> set[tuple[str, str]]:
    """Return the pairs of addresses between which a tunnel's carrier has a subflow."""
    found = [one for one in subflows(host) if one.mptcp and one.state == "ESTAB"]
    return {(one.source, one.destination) for one in found if PORT in (one.source_port, one.destination_port)}


def test_the_server_looks_for_its_client_when_all_subflows_have_joined(two_hosts: Lab) -> None:
    lab = two_hosts
    for name in ("openvpn", "tun", "mptcp"):
        if reason := CAPABILITIES[name].unmet(lab.left):
            pytest.skip(reason)
    multipath = configure(lab)
    second = lab.topology.cables[1]
    lab.cabling.mute(second)
    late = threading.Timer(
        2.0, lab.cabling.restore, [second]
    )  # later than OpenVPN's look, which it takes once a second
    late.start()
    try:
        with openvpn_tunnel(lab.left, lab.right, str(multipath.right.address.ip)):
            assert carriers(lab.left) == multipath.mesh(lab.left)
            assert carriers(lab.right) == multipath.mesh(lab.right)
    finally:
        late.join()
