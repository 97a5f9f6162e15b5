"""Changes of a host's network state as data: each operation knows its command, what it needs to read, and its inverse.

An inverse restores *what was there before*, never a default: it is computed from a :class:`State` read from the host
before the change. The same operations go through netlink in a namespace and as one script over SSH, so that neither
way can drift from the other. Sources: ``ip-link(8)``, ``ip-address(8)``, ``ip-route(8)``, ``ip-rule(8)``,
``ip-mptcp(8)``, ``nft(8)``.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Protocol, runtime_checkable

from channover.model.state import ENDPOINT_FLAGS, Endpoint, Limits, LinkState, Route, Rule, State

MAIN_TABLE = 254
CHANGEABLE = ("backup", "fullmesh")
"""The flags of an MPTCP endpoint that can be changed while it stands (``ip-mptcp(8)``)."""


@runtime_checkable
class Operation(Protocol):
    """One change. ``command`` is what a person would type, ``inverse`` is what undoes it, ``after`` is what it leads to."""

    @property
    def command(self) -> str: ...

    def inverse(self, before: State) -> tuple[Operation, ...]: ...

    def after(self, before: State) -> State: ...


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
    """Give a device an address in prefix notation, such as ``10.93.93.1/30`` or ``10.5.0.1 peer 10.5.0.2/32``."""

    device: str
    address: str

    @property
    def command(self) -> str:
        return f"ip address add {self.address} dev {self.device}"

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


@dataclass(frozen=True)
class RouteAdd:
    """Add a route; ``via`` is the next hop, ``table`` a number (254: main), or a name that the host knows."""

    destination: str
    device: str
    via: str | None = None
    table: int | str = MAIN_TABLE

    @classmethod
    def of(cls, route: Route) -> RouteAdd:
        """Return the operation that makes this route."""
        return cls(route.destination, route.device, route.via, route.table)

    @property
    def words(self) -> str:
        """The route in iproute2's words."""
        via = f" via {self.via}" if self.via else ""
        table = f" table {self.table}" if self.table != MAIN_TABLE else ""
        return f"{self.destination}{via} dev {self.device}{table}"

    @property
    def command(self) -> str:
        return f"ip route add {self.words}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        if any(RouteAdd.of(route) == self for route in before.routes):
            return ()
        return (RouteDelete(self.destination, self.device, self.via, self.table),)

    def after(self, before: State) -> State:
        route = Route(self.destination, self.device, self.via, self.table)
        return replace(before, routes=(*before.without_routes((route,)).routes, route))


@dataclass(frozen=True)
class RouteDelete:
    """Delete a route."""

    destination: str
    device: str
    via: str | None = None
    table: int | str = MAIN_TABLE

    @property
    def command(self) -> str:
        return f"ip route delete {RouteAdd(self.destination, self.device, self.via, self.table).words}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        route = RouteAdd(self.destination, self.device, self.via, self.table)
        return (route,) if any(RouteAdd.of(known) == route for known in before.routes) else ()

    def after(self, before: State) -> State:
        return before.without_routes((Route(self.destination, self.device, self.via, self.table),))


@dataclass(frozen=True)
class RuleAdd:
    """Add a policy rule: packets from ``source`` (a prefix or an address) look up ``table``."""

    source: str
    table: int | str
    priority: int

    @property
    def command(self) -> str:
        return f"ip rule add from {self.source} table {self.table} priority {self.priority}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        known = Rule(self.priority, self.source, self.table) in before.rules
        return () if known else (RuleDelete(self.source, self.table, self.priority),)

    def after(self, before: State) -> State:
        rule = Rule(self.priority, self.source, self.table)
        return replace(before, rules=(*(known for known in before.rules if known != rule), rule))


@dataclass(frozen=True)
class RuleDelete:
    """Delete a policy rule."""

    source: str
    table: int | str
    priority: int

    @property
    def command(self) -> str:
        return f"ip rule delete from {self.source} table {self.table} priority {self.priority}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        known = Rule(self.priority, self.source, self.table) in before.rules
        return (RuleAdd(self.source, self.table, self.priority),) if known else ()

    def after(self, before: State) -> State:
        rule = Rule(self.priority, self.source, self.table)
        return replace(before, rules=tuple(known for known in before.rules if known != rule))


@dataclass(frozen=True)
class SysctlSet:
    """Set a kernel parameter, named by its path below ``/proc/sys`` (``net/mptcp/enabled``)."""

    key: str
    value: str

    @property
    def path(self) -> str:
        """Its file."""
        return f"/proc/sys/{self.key}"

    @property
    def command(self) -> str:
        return f"printf %s {shlex.quote(self.value)} > {self.path}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        value = before.sysctls.get(self.key)
        return () if value is None or value == self.value else (SysctlSet(self.key, value),)

    def after(self, before: State) -> State:
        return replace(before, sysctls={**before.sysctls, self.key: self.value})


@dataclass(frozen=True)
class LimitsSet:
    """Set the MPTCP path manager's limits: extra subflows (0 to 8) and accepted ADD_ADDRs (0 to 8)."""

    subflows: int
    add_addr_accepted: int

    @property
    def command(self) -> str:
        return f"ip mptcp limits set subflows {self.subflows} add_addr_accepted {self.add_addr_accepted}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        wanted = Limits(self.subflows, self.add_addr_accepted)
        if before.limits is None or before.limits == wanted:
            return ()
        return (LimitsSet(before.limits.subflows, before.limits.add_addr_accepted),)

    def after(self, before: State) -> State:
        return replace(before, limits=Limits(self.subflows, self.add_addr_accepted))


@dataclass(frozen=True)
class EndpointAdd:
    """Add an MPTCP endpoint; ``flags`` from signal, subflow, backup, fullmesh; ``device`` binds its subflows to a NIC.

    ``port`` is one that the host listens on for this endpoint alone (with signal only).
    """

    id: int
    address: str
    flags: tuple[str, ...]
    device: str | None = None
    port: int | None = None

    @classmethod
    def of(cls, known: Endpoint) -> EndpointAdd:
        """Return the operation that makes this endpoint."""
        return cls(known.id, known.address, known.flags, known.device, known.port)

    @property
    def command(self) -> str:
        port = f" port {self.port}" if self.port else ""
        device = f" dev {self.device}" if self.device else ""
        return f"ip mptcp endpoint add {self.address} id {self.id}{port}{device} {' '.join(self.flags)}".rstrip()

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return () if self.id in before.endpoints else (EndpointDelete(self.id),)

    def after(self, before: State) -> State:
        endpoint = Endpoint(self.id, self.address, self.flags, self.device, self.port)
        return replace(before, endpoints={**before.endpoints, self.id: endpoint})


@dataclass(frozen=True)
class EndpointDelete:
    """Delete an MPTCP endpoint by its id; the kernel closes the subflows that it made."""

    id: int

    @property
    def command(self) -> str:
        return f"ip mptcp endpoint delete id {self.id}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        known: Endpoint | None = before.endpoints.get(self.id)
        if known is None or not known.address or "implicit" in known.flags:  # an implicit one is the kernel's to make
            return ()
        return (EndpointAdd.of(known),)

    def after(self, before: State) -> State:
        rest = {number: known for number, known in before.endpoints.items() if number != self.id}
        return replace(before, endpoints=rest)


@dataclass(frozen=True)
class EndpointChange:
    """Make an MPTCP endpoint a backup, full mesh, both or neither; its subflows' peers are told (RFC 8684, 3.3.8)."""

    id: int
    flags: tuple[str, ...]

    @property
    def command(self) -> str:
        words = " ".join(flag if flag in self.flags else f"no{flag}" for flag in CHANGEABLE)
        return f"ip mptcp endpoint change id {self.id} {words}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        known: Endpoint | None = before.endpoints.get(self.id)
        flags = tuple(flag for flag in known.flags if flag in CHANGEABLE) if known else ()
        return () if known is None or set(flags) == set(self.flags) else (EndpointChange(self.id, flags),)

    def after(self, before: State) -> State:
        known: Endpoint | None = before.endpoints.get(self.id)
        if known is None:
            return before
        kept = {flag for flag in known.flags if flag not in CHANGEABLE} | set(self.flags)
        changed = replace(known, flags=tuple(flag for flag in ENDPOINT_FLAGS if flag in kept))
        return replace(before, endpoints={**before.endpoints, self.id: changed})


@dataclass(frozen=True)
class TableAdd:
    """Load an nftables table of our own; ``text`` is what stands between its braces. Other tables stay untouched."""

    name: str
    text: str

    @property
    def ruleset(self) -> str:
        """The table as ``nft -f`` takes it."""
        return f"table inet {self.name} {{\n{self.text}\n}}\n"

    @property
    def command(self) -> str:
        return f"nft -f - <<'END'\n{self.ruleset}END"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return (TableDelete(self.name),)

    def after(self, before: State) -> State:
        return before


@dataclass(frozen=True)
class TableDelete:
    """Delete an nftables table of our own."""

    name: str

    @property
    def command(self) -> str:
        return f"nft delete table inet {self.name}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return ()

    def after(self, before: State) -> State:
        return before


@dataclass(frozen=True)
class Plan:
    """Operations in the order in which they are applied, and what they are for."""

    purpose: str
    operations: tuple[Operation, ...] = field(default=())

    @classmethod
    def of(cls, purpose: str, operations: Iterable[Operation]) -> Plan:
        """Return a plan of these operations."""
        return cls(purpose, tuple(operations))

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __add__(self, other: Plan) -> Plan:
        return Plan(f"{self.purpose}; {other.purpose}", self.operations + other.operations)

    @property
    def sysctl_keys(self) -> tuple[str, ...]:
        """The kernel parameters whose former values the inverse needs."""
        return tuple(operation.key for operation in self if isinstance(operation, SysctlSet))

    @property
    def script(self) -> str:
        """The plan as one POSIX shell script that stops at the first refused change."""
        return "\n".join(["set -e", *(operation.command for operation in self), ""])

    def inverse(self, before: State) -> Plan:
        """Return the plan that leads back from this plan's outcome to ``before``: last change first.

        Each change is undone against the state in which it was made, so a plan may change the same thing twice. What a
        plan does to a device of its own needs no undo but the device's end.
        """
        states = list(accumulate(self.operations, lambda state, operation: operation.after(state), initial=before))
        made = {operation.device for operation in self if isinstance(operation, LinkAdd)} - before.links.keys()
        undo = [
            step
            for operation, state in reversed(list(zip(self.operations, states, strict=False)))
            for step in operation.inverse(state)
            if not (isinstance(step, (LinkSet, AddressDelete)) and step.device in made)
        ]
        return Plan(f"undo: {self.purpose}", tuple(undo))
