"""Equal-cost multipath routes between two hosts, kept by BIRD with BFD: a route's next hops go as soon as one is silent.

Each host is reached by an address that lies on no cable, over every cable at once. The kernel deals flows to next hops by
their addresses and ports (``fib_multipath_hash_policy`` 1, ``Documentation/networking/ip-sysctl.rst``); BFD (RFC 5880) tells
a path that is silent within three of its intervals. Sources: BIRD 2.0, User's Guide, 6.2 and 6.14; ``birdc(8)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Interface

from channover.hosts.host import Host, until
from channover.hosts.lab import Lab
from channover.model.operations.devices import AddressAdd, LinkSet
from channover.model.operations.kernel import SysctlSet
from channover.model.plan import Plan
from channover.network.addressing import addresses, cabled

ADDRESSES = ("10.200.0.1", "10.200.0.2")
"""By which the hosts are reached, whichever cable carries a flow: the client's, and the server's."""
INTERVAL, MISSED = 100, 3
"""Milliseconds between BFD's packets, and how many may be missed before a path is down."""
CONVERGED = 20.0
"""Seconds that BFD's sessions may take: at first each sends one packet a second (RFC 5880, 6.8.3)."""

_CONFIGURATION = """\
router id {own};
protocol device {{ }}
protocol bfd {{
    interface "*" {{ min rx interval {interval} ms; min tx interval {interval} ms; multiplier {missed}; }};
}}
protocol static {{
    ipv4;
    route {other}/32 {hops};
}}
protocol kernel {{
    merge paths on;
    ipv4 {{ export filter {{ if source = RTS_STATIC then {{ krt_prefsrc = {own}; accept; }} reject; }}; }};
}}
"""


@contextmanager
def multipath_routes(lab: Lab, timeout: float = CONVERGED) -> Iterator[tuple[IPv4Interface, IPv4Interface]]:
    """Have two hosts reach each other over all cables for the length of a block; gives the client's address and the server's.

    Raises TestbedError where a host has not as many next hops as cables within ``timeout`` seconds.
    """
    pairs = ((lab.left, lab.right, *ADDRESSES), (lab.right, lab.left, *ADDRESSES[::-1]))
    with ExitStack() as stack:
        for host, _, own, _ in pairs:
            policy = SysctlSet("net/ipv4/fib_multipath_hash_policy", "1")
            extra = (LinkSet("lo", up=True), AddressAdd("lo", f"{own}/32"), policy)
            stack.enter_context(host.applied(addresses(lab, host) + Plan("an address on no cable", extra)))
        for host, peer, own, other in pairs:
            hops = [str(lab.address(port).ip) for port in cabled(lab, peer)]
            words = " ".join(f"via {hop} bfd" for hop in hops)
            text = _CONFIGURATION.format(own=own, other=other, hops=words, interval=INTERVAL, missed=MISSED)
            host.write(f"{host.folder}/bird.conf", text)
            files = ("-c", f"{host.folder}/bird.conf", "-s", f"{host.folder}/bird.ctl", "-P", f"{host.folder}/bird.pid")
            stack.callback(host.spawn("bird", "-f", *files).stop)
        for host, peer, _, other in pairs:
            _wait_for_hops(host, other, len(list(cabled(lab, peer))), timeout)
        yield IPv4Interface(ADDRESSES[0]), IPv4Interface(ADDRESSES[1])


def _wait_for_hops(host: Host, address: str, wanted: int, timeout: float) -> None:
    until(lambda: hops_to(host, address) == wanted, f"{wanted} next hops of {host.name} to {address}", timeout, 0.1)


def hops_to(host: Host, address: str) -> int:
    """Return how many next hops a host's route to an address has. Raises TestbedError."""
    return host.run("ip", "route", "show", address, quiet=True).stdout.count("via ")
