"""Routes and policy rules (``ip-route(8)``, ``ip-rule(8)``)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from channover.model.operations.operation import Operation
from channover.model.state import Route, Rule, State

MAIN_TABLE = 254
"""The routing table that the kernel looks up last but one: ``main`` (``ip-route(8)``)."""


EVERYWHERE = {4: "default", 6: "::/0"}
"""The destination of a default route, by the version of IP: the word alone does not tell which it is of."""


@dataclass(frozen=True)
class RouteAdd:
    """Add a route; ``via`` is the next hop, ``table`` a number (254: main), or a name that the host knows.

    ``window`` is the largest that TCP offers to what sends from there (bytes; ``ip-route(8)``); None: no limit of the route's.
    ``quick_ack`` has TCP acknowledge what comes from there at once (``quickack``), and not up to 40 ms later.
    """

    destination: str
    device: str
    via: str | None = None
    table: int | str = MAIN_TABLE
    window: int | None = None
    quick_ack: bool = False

    @classmethod
    def of(cls, route: Route) -> RouteAdd:
        """Return the operation that makes this route."""
        return cls(route.destination, route.device, route.via, route.table)

    @property
    def words(self) -> str:
        """The route in iproute2's words."""
        via = f" via {self.via}" if self.via else ""
        table = f" table {self.table}" if self.table != MAIN_TABLE else ""
        window = f" window {self.window}" if self.window else ""
        quick_ack = " quickack 1" if self.quick_ack else ""
        return f"{self.destination}{via} dev {self.device}{table}{window}{quick_ack}"

    @property
    def command(self) -> str:
        return f"ip route add {self.words}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        if any(RouteAdd.of(route) == replace(self, window=None, quick_ack=False) for route in before.routes):
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


def _ip(source: str) -> str:
    """Return the program with the family of a rule, which it does not tell by the address."""
    return "ip -6" if ":" in source else "ip"


@dataclass(frozen=True)
class RuleAdd:
    """Add a policy rule: packets from ``source`` (a prefix or an address) look up ``table``."""

    source: str
    table: int | str
    priority: int

    @property
    def command(self) -> str:
        return f"{_ip(self.source)} rule add from {self.source} table {self.table} priority {self.priority}"

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
        return f"{_ip(self.source)} rule delete from {self.source} table {self.table} priority {self.priority}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        known = Rule(self.priority, self.source, self.table) in before.rules
        return (RuleAdd(self.source, self.table, self.priority),) if known else ()

    def after(self, before: State) -> State:
        rule = Rule(self.priority, self.source, self.table)
        return replace(before, rules=tuple(known for known in before.rules if known != rule))


@dataclass(frozen=True)
class ProhibitAdd:
    """Add a policy rule, for a version of IP, that refuses what carries a mark and leaves by a socket bound to a device.

    A rule's ``oif`` is the device that the socket is bound to, and none that a route leads to (``ip-rule(8)``).
    """

    mark: int
    device: str
    priority: int
    version: int = 4

    @property
    def command(self) -> str:
        return _prohibit(self, "add")

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return (ProhibitDelete(self.mark, self.device, self.priority, self.version),)

    def after(self, before: State) -> State:
        return before


@dataclass(frozen=True)
class ProhibitDelete:
    """Delete such a rule."""

    mark: int
    device: str
    priority: int
    version: int = 4

    @property
    def command(self) -> str:
        return _prohibit(self, "delete")

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return ()

    def after(self, before: State) -> State:
        return before


def _prohibit(rule: ProhibitAdd | ProhibitDelete, verb: str) -> str:
    family = "ip -6" if rule.version == 6 else "ip"
    return f"{family} rule {verb} fwmark {rule.mark} oif {rule.device} prohibit priority {rule.priority}"
