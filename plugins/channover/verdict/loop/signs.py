"""The loop detector: does a tunnel's carrier ride within the tunnel? A pure judgement of sockets and endpoints.

A tunnel whose carrier is MPTCP loops when the path manager takes the tunnel's own addresses for another path. Data that
the scheduler puts on the inner subflow then waits for later data of the very connection that is to carry it. Goodput
often collapses, but not always, so the sign is the subflow itself, in one of these forms:

- *source*: a subflow's local address lies in the tunnel's network,
- *destination*: its remote address does (the side that the article's guard leaves open),
- *device*: it is bound to the tunnel's device,
- *pending*: any of these, not established yet or for ever unanswered (SYN-SENT, SYN-RECV),
- *endpoint*: no subflow yet, but an MPTCP endpoint offers the tunnel: a loop as soon as traffic starts.

States in which the kernel sends no new data (FIN-WAIT, CLOSING, …) are no loop: ``__tcp_can_send()`` in
``net/mptcp/protocol.h`` names ESTABLISHED and CLOSE_WAIT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Protocol

from channover.model.inner_network import Inner
from channover.model.state import Endpoint

SENDING = frozenset({"ESTAB", "CLOSE-WAIT"})
"""States, in ``ss``'s words, in which a subflow takes new data."""
PENDING = frozenset({"SYN-SENT", "SYN-RECV"})


class Form(Enum):
    """How a carrier's loop shows."""

    SOURCE = "source"
    DESTINATION = "destination"
    DEVICE = "device"
    PENDING = "pending"
    ENDPOINT = "endpoint"


class SubflowLike(Protocol):
    """What the detector looks at in a subflow, as ``ss -tin`` shows it on one host."""

    @property
    def source(self) -> str:
        """Local address."""
        ...

    @property
    def source_port(self) -> int:
        """Local port."""
        ...

    @property
    def destination(self) -> str:
        """Remote address."""
        ...

    @property
    def destination_port(self) -> int:
        """Remote port."""
        ...

    @property
    def device(self) -> str | None:
        """Device that the socket is bound to, if any."""
        ...

    @property
    def state(self) -> str:
        """State, in the words of ``ss``, such as ESTAB or SYN-SENT."""
        ...


@dataclass(frozen=True)
class LoopFinding:
    """One subflow or endpoint that puts a tunnel's carrier into the tunnel; ``sentence`` says which and why."""

    form: Form
    tunnel: Inner
    sentence: str

    def __str__(self) -> str:
        return f"{self.form.value}: {self.sentence}"


def loops(
    subflows: Iterable[SubflowLike],
    endpoints: Iterable[Endpoint],
    tunnels: Iterable[Inner],
    routed: Mapping[tuple[str, str], str] | None = None,
) -> tuple[LoopFinding, ...]:
    """Return every sign, on one host, that a tunnel's carrier rides within that tunnel. None: an empty tuple.

    Subflows of other connections than a tunnel's carrier are left alone: an application may use the tunnel as it likes.
    Of those given, the carrier's are the ones with the tunnel's port at either end. ``routed`` is optional: the device
    by which the host sends from a source address to a destination (``ip route get``), for carriers that a route leads
    inside.
    ValueError where an address is none.
    """
    found = []
    flows, offers = tuple(subflows), tuple(endpoints)
    for tunnel in tunnels:
        found += [finding for flow in flows for finding in _flow(flow, tunnel, routed or {})]
        found += [finding for endpoint in offers for finding in _endpoint(endpoint, tunnel)]
    return tuple(found)


def _flow(flow: SubflowLike, tunnel: Inner, routed: Mapping[tuple[str, str], str]) -> Iterator[LoopFinding]:
    if tunnel.port not in (flow.source_port, flow.destination_port) or flow.state not in SENDING | PENDING:
        return
    reasons = list(_reasons(flow, tunnel, routed))
    if not reasons:
        return
    form = reasons[0][0]
    device = f"%{flow.device}" if flow.device else ""
    name = f"{flow.source}{device}:{flow.source_port} to {flow.destination}:{flow.destination_port}"
    because = " and ".join(reason for _, reason in reasons)
    if flow.state in PENDING:
        yield LoopFinding(Form.PENDING, tunnel, f"subflow {name} is trying to join (state {flow.state}): {because}")
    else:
        yield LoopFinding(form, tunnel, f"subflow {name} carries the tunnel within itself: {because}")


def _reasons(flow: SubflowLike, tunnel: Inner, routed: Mapping[tuple[str, str], str]) -> Iterator[tuple[Form, str]]:
    if network := within(flow.source, tunnel):
        yield Form.SOURCE, f"its source lies in the tunnel's network {network}"
    if network := within(flow.destination, tunnel):
        yield Form.DESTINATION, f"its destination lies in the tunnel's network {network}"
    if flow.device == tunnel.device:
        yield Form.DEVICE, f"it is bound to the tunnel's device {tunnel.device}"
    elif flow.device is None and routed.get((flow.source, flow.destination)) == tunnel.device:
        yield Form.DEVICE, f"its destination is routed to the tunnel's device {tunnel.device}"


def _endpoint(endpoint: Endpoint, tunnel: Inner) -> Iterator[LoopFinding]:
    network = within(endpoint.address, tunnel)
    if not network and endpoint.device != tunnel.device:
        return
    because = (
        f"its address lies in the tunnel's network {network}"
        if network
        else f"it belongs to the tunnel's device {tunnel.device}"
    )
    flags = " ".join(endpoint.flags) or "no flags"
    sentence = f"MPTCP endpoint {endpoint.address} (id {endpoint.id}, {flags}) offers the tunnel as a path: {because}"
    yield LoopFinding(Form.ENDPOINT, tunnel, sentence)


def within(address: str, tunnel: Inner) -> IPv4Network | IPv6Network | None:
    """Return the network of a tunnel that an address lies in, if any. ValueError where it is no address."""
    if address in ("", "*"):
        return None
    found = plain(address)
    return next((network for network in tunnel.networks if found in network), None)


def plain(text: str) -> IPv4Address | IPv6Address:
    """Return an address without zone, brackets, or the IPv6 wrapping that a dual-stack socket gives an IPv4 one."""
    address = ip_address(text.strip("[]").partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
