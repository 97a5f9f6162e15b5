"""Ways into a tunnel's loop, one at a time: what is changed, at which end, and how it then shows."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from ipaddress import ip_network

from channover.hosts.host import Host
from channover.model.operations.mptcp import EndpointAdd
from channover.model.operations.operation import Operation
from channover.model.operations.routing import EVERYWHERE, RouteAdd, RuleAdd
from channover.model.plan import Plan
from channover.network.tunnel import Tunnel, TunnelEnd
from channover.scenarios.tunnels import OWN_TABLE
from channover.verdict.loop.signs import Form

LOOP_ENDPOINT = 40
"""The id of the endpoint that a tool adds for the tunnel's address: above those of the lab's NICs."""


class Vector(Enum):
    """One way into the loop."""

    OWN_ADDRESS = "the client's own address as a path"
    BOUND = "the client's own address as a path, bound to the device"
    BACKUP = "the client's own address as a backup path"
    ANNOUNCED = "the server's own address announced"
    ROUTED = "a path's route into the tunnel"
    DEFAULT = "the client's own address as a path, its default route through the tunnel"

    @property
    def shows(self) -> tuple[Form, ...]:
        """How it shows at both ends together."""
        return {
            Vector.OWN_ADDRESS: (Form.SOURCE, Form.DESTINATION, Form.ENDPOINT),
            # OpenVPN drops what is for the very address that its carrier goes to ("Recursive routing detected").
            Vector.BOUND: (Form.PENDING, Form.ENDPOINT),
            Vector.BACKUP: (Form.SOURCE, Form.DESTINATION, Form.ENDPOINT),
            Vector.ANNOUNCED: (Form.SOURCE, Form.DESTINATION, Form.ENDPOINT),
            Vector.ROUTED: (Form.DEVICE,),
            Vector.DEFAULT: (Form.PENDING, Form.ENDPOINT),
        }[self]


def into(end: TunnelEnd, *, bound: bool) -> Sequence[Operation]:
    """Return what has all leave through the tunnel that leaves with its own address at an end.

    With IPv4 a socket that is ``bound`` to a device needs no route; IPv6 takes no address for a neighbour's unless a route says
    so (``ip_route_output_key_hash_rcu`` in ``net/ipv4/route.c``; ``ip6_pol_route`` in ``net/ipv6/route.c``).
    """
    if bound and end.address.version == 4:
        return ()
    everywhere = EVERYWHERE[end.address.version]
    return RouteAdd(everywhere, end.device, table=OWN_TABLE), RuleAdd(str(end.address.ip), OWN_TABLE, OWN_TABLE)


def plans(vector: Vector, tunnel: Tunnel, asked: str) -> Sequence[tuple[Host, Plan]]:
    """Return what closes the loop by a vector; ``asked`` is the server's address that the carrier was opened to.

    Raises TestbedError.
    """
    client, server = tunnel.ends
    own = str(client.address.ip)
    if vector is Vector.ANNOUNCED:
        endpoint = EndpointAdd(LOOP_ENDPOINT, str(server.address.ip), ("signal",))
        return [(server.host, Plan(vector.value, (endpoint,)))]
    if vector is Vector.ROUTED:
        table = max((rule.table for rule in client.host.state().rules if not rule.of_any), key=str)
        return [(client.host, Plan(vector.value, (RouteAdd(str(ip_network(asked)), client.device, table=table),)))]
    flags = ("subflow", "backup") if vector is Vector.BACKUP else ("subflow", "fullmesh")
    device = client.device if vector is Vector.BOUND else None
    changes: list[Operation] = [EndpointAdd(LOOP_ENDPOINT, own, flags, device)]
    if vector is Vector.DEFAULT or device:
        changes[:0] = into(client, bound=bool(device))
    return [(client.host, Plan.of(vector.value, changes))]
