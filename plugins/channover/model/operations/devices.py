"""Devices and their addresses (``ip-link(8)``, ``ip-address(8)``), as they are made, set and given up."""

from __future__ import annotations

from dataclasses import dataclass, replace

from channover.model.operations.operation import Operation
from channover.model.operations.routing import RouteAdd
from channover.model.state import LinkState, Route, State


@dataclass(frozen=True)
class LinkAdd:
    """Create a virtual device (``bond``, ``bridge``); ``options`` are the kind's own, in iproute2's words."""

    device: str
    kind: str
    options: tuple[tuple[str, str | int], ...] = ()

    @property
    def command(self) -> str:
        words = " ".join(f"{key} {value}" for key, value in self.options)
        return f"ip link add name {self.device} type {self.kind} {words}".rstrip()

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return (LinkDelete(self.device),) if self.device not in before.links else ()

    def after(self, before: State) -> State:
        return before.with_link(before.links.get(self.device, LinkState(self.device, False, 1500, "", ())))


@dataclass(frozen=True)
class LinkDelete:
    """Delete a virtual device that this run made. It has no inverse, so nothing else may be deleted by it."""

    device: str

    @property
    def command(self) -> str:
        return f"ip link delete dev {self.device}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return ()

    def after(self, before: State) -> State:
        return before.without_link(self.device)


@dataclass(frozen=True)
class LinkSet:
    """Set a device's administrative state, MTU (bytes) or master (``""``: none). What is None stays."""

    device: str
    up: bool | None = None
    mtu: int | None = None
    master: str | None = None

    @property
    def command(self) -> str:
        words = [f"ip link set dev {self.device}"]
        if self.mtu is not None:
            words.append(f"mtu {self.mtu}")
        if self.master is not None:
            words.append(f"master {self.master}" if self.master else "nomaster")
        if self.up is not None:
            words.append("up" if self.up else "down")
        return " ".join(words)

    def inverse(self, before: State) -> tuple[Operation, ...]:
        link = before.links.get(self.device)
        if link is None:  # a device of this very plan: its LinkAdd undoes it
            return ()
        undo = LinkSet(
            self.device,
            up=link.up if self.up is not None and self.up != link.up else None,
            mtu=link.mtu if self.mtu is not None and self.mtu != link.mtu else None,
            master=link.master if self.master is not None and self.master != link.master else None,
        )
        if undo == LinkSet(self.device):
            return ()
        lost = before.routes_lost_with(self.device) if undo.up else ()
        return (undo, *(RouteAdd.of(route) for route in lost))

    def after(self, before: State) -> State:
        link = before.links.get(self.device)
        if link is None:
            return before
        changed = replace(
            link,
            up=link.up if self.up is None else self.up,
            mtu=link.mtu if self.mtu is None else self.mtu,
            master=link.master if self.master is None else self.master,
        )
        found = before.with_link(changed)
        return found.without_routes(before.routes_lost_with(self.device)) if self.up is False else found


@dataclass(frozen=True)
class AddressAdd:
    """Give a device an address in prefix notation, such as ``10.93.93.1/30`` or ``10.5.0.1 peer 10.5.0.2/32``.

    One of IPv6 can be used at once: nobody is asked whether they have it (``nodad``; RFC 4862, 5.4 takes a second or two).
    """

    device: str
    address: str

    @property
    def command(self) -> str:
        return f"ip address add {self.address} dev {self.device}{' nodad' if ':' in self.address else ''}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        link = before.links.get(self.device)
        if link is None or self.address in link.addresses:
            return ()
        delete = AddressDelete(self.device, self.address)
        lost = delete.lost(before)
        return (delete, *(RouteAdd.of(route) for route in lost))

    def after(self, before: State) -> State:
        link = before.links.get(self.device)
        if link is None or self.address in link.addresses:
            return before
        return before.with_link(replace(link, addresses=(*link.addresses, self.address)))


@dataclass(frozen=True)
class AddressDelete:
    """Take an address from a device."""

    device: str
    address: str

    @property
    def command(self) -> str:
        return f"ip address delete {self.address} dev {self.device}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        link = before.links.get(self.device)
        if link is None or self.address not in link.addresses:
            return ()
        lost = self.lost(before)
        return (AddressAdd(self.device, self.address), *(RouteAdd.of(route) for route in lost))

    def after(self, before: State) -> State:
        link = before.links.get(self.device)
        if link is None:
            return before
        rest = tuple(address for address in link.addresses if address != self.address)
        return before.with_link(replace(link, addresses=rest)).without_routes(self.lost(before))

    def lost(self, before: State) -> tuple[Route, ...]:
        """Return the routes that go with a device's last IPv4 address (``fib_del_ifaddr`` in ``net/ipv4/fib_frontend.c``)."""
        link = before.links.get(self.device)
        others = [address for address in link.addresses if address != self.address] if link else []
        if any(":" not in address for address in others) or ":" in self.address:
            return ()
        return tuple(route for route in before.routes_lost_with(self.device) if ":" not in route.destination)
