"""What plans have asked of a host, and what of it is not in force: settings are read back and compared.

A change that was applied may have taken no effect, and another program may have changed a setting since. Whatever a plan
changes is asked for from then on, until a plan changes it again: an undo is a plan too. What no plan has touched is nobody's
wish: it is worth a note where it can defeat what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from ipaddress import ip_interface, ip_network
from typing import Any

from channover.model.operations import devices, kernel, mptcp, routing
from channover.model.plan import Plan
from channover.model.state import Endpoint, Limits, LinkState, Route, Rule, State

Setting = tuple[object, ...]
"""Names a setting: its kind, of what kind and of what device or key it is."""
BOND_OPTIONS = {"lacp_rate": "ad_lacp_rate"}
"""Options of a bond that ``ip -d link`` shows by another name than it sets them by (``iplink_bond.c`` of iproute2)."""


PLAIN = ("", "noop", "noqueue", "mq", "pfifo_fast", "fq_codel", "fq", "sfq")
"""Queues that a kernel gives a NIC by itself (``net.core.default_qdisc``); others delay, drop or shape."""
_OF_LAGS = ("mode", "lacp_rate", "xmit_hash_policy")
"""Options of a bond that whoever made the LAG compares, for any driver (:meth:`channover.network.lag.LagEnd.unmet`)."""


@dataclass
class Asked:
    """The settings that plans have left on one host, by :data:`Setting`, and the offloads that were switched, by device.

    ``indices`` are those of devices that a plan found there: a tunnel's device of the same name later is another one.
    """

    settings: dict[Setting, Any] = field(default_factory=dict)
    offloads: dict[str, dict[str, bool]] = field(default_factory=dict)
    indices: dict[str, int] = field(default_factory=dict)
    found: State | None = None
    """What was there before the first plan."""

    @property
    def sysctls(self) -> tuple[str, ...]:
        """The kernel parameters among them: :meth:`unmet` wants to know these."""
        return tuple(str(setting[1]) for setting in self.settings if setting[0] == "sysctl")

    @property
    def tables(self) -> dict[str, bool]:
        """The nftables tables that were loaded (True) or deleted (False)."""
        return {str(setting[1]): value for setting, value in self.settings.items() if setting[0] == "table"}

    def note(self, plan: Plan, before: State) -> None:
        """Note that a plan was applied to what was there ``before``."""
        if self.found is None and before.links:
            self.found = before
        self.indices |= {name: link.index for name, link in before.links.items() if link.index}
        for operation in plan:
            _leave(operation, self.settings)

    def switched(self, device: str, features: tuple[str, ...], on: bool) -> None:
        """Note that offloads of a device were switched."""
        self.offloads.setdefault(device, {}).update(dict.fromkeys(features, on))

    def queued(self, device: str, kind: str) -> None:
        """Note that a device was given a queue of a kind; empty: that it was taken away again."""
        self.settings.pop(("qdisc", device), None)
        if kind:
            self.settings["qdisc", device] = kind

    def unmet(self, now: State, nics: Mapping[str, str]) -> Iterator[str]:
        """Yield, in words, the settings that are not in force ``now``; ``nics`` are a host's NICs: how to call each device.

        A device that a program had made, and that has gone with it, is no loss.
        """
        lasting = {*nics, *(str(setting[1]) for setting in self.settings if setting[0] == "kind")}
        gone: set[str] = set()
        for setting, value in self.settings.items():
            kind, *rest = setting
            name = _device_of(setting)
            link = now.links.get(name)
            if name and link is None:  # with it is gone all that was to be gone
                if value is not False and name in lasting and name not in gone:
                    gone.add(name)
                    yield f"{nics.get(name, name)} is gone"
                continue
            if link is not None and name not in lasting and link.index != self.indices.get(name, link.index):
                continue  # a later tunnel's, of the same name
            if words := _COMPARE[str(kind)](now, rest, value):
                yield words.format(name=nics.get(name, name))

    def unasked(self, now: State, nics: Mapping[str, str]) -> Iterator[str]:
        """Yield, in words, what is there ``now`` on the way of the NICs' packets that no plan has made, nor anybody before."""
        before = self.found
        if before is None:
            return
        known = {_rule_key(one) for one in (*before.rules, *self._of_kind("rule"))}
        for rule in now.rules:
            if _rule_key(rule) not in known:
                yield f"a rule 'from {rule.source} table {rule.table}' of priority {rule.priority}"
        routes = {_route_key(one) for one in (*before.routes, *self._of_kind("route"))}
        for route in now.routes:
            if route.device in nics and _route_key(route) not in routes:
                yield f"a route '{routing.RouteAdd.of(route).words}'"
        for number, one in now.endpoints.items():
            if (
                "implicit" not in one.flags
                and number not in before.endpoints
                and ("endpoint", number) not in self.settings
            ):
                yield f"an MPTCP endpoint {number} ({_told(one)})"
        for device, name in nics.items():
            link, former = now.links.get(device), before.links.get(device)
            if link is not None:
                yield from self._on_nic(link, former, name)

    def _on_nic(self, link: LinkState, former: LinkState | None, name: str) -> Iterator[str]:
        known = {_alike(str(one[2])) for one in self.settings if one[:2] == ("address", link.device)}
        known |= {_alike(one) for one in former.addresses} if former else set()
        for address in link.addresses:
            if ":" not in address and _alike(address) not in known:
                yield f"an address {address} of {name}"
        expected = (*PLAIN, self.settings.get(("qdisc", link.device)), former.qdisc if former else "")
        if link.qdisc not in expected:
            yield f"a queue {link.qdisc} at {name}"

    def _of_kind(self, kind: str) -> list[Any]:
        return [setting[1] for setting in self.settings if setting[0] == kind]


def _differs(what: str, found: object, asked: object) -> str:
    return f"{what} is {found}, and {asked} was asked for"


def _there(what: str, found: bool, asked: bool) -> str | None:
    if found == asked:
        return None
    return f"{what} is gone, and was asked for" if asked else f"{what} is there, and was to be gone"


# ------------------------------------------------------------------------------------------- what a change leaves behind


@singledispatch
def _leave(operation: object, settings: dict[Setting, Any]) -> None:
    """Put what an operation asks for among the settings, and take from them what goes with it."""
    raise NotImplementedError(type(operation).__name__)


@_leave.register
def _(operation: devices.LinkAdd, settings: dict[Setting, Any]) -> None:
    settings["kind", operation.device] = operation.kind
    for option, value in operation.options:
        settings["option", operation.device, option] = str(value)


@_leave.register
def _(operation: devices.LinkDelete, settings: dict[Setting, Any]) -> None:
    for setting in [one for one in settings if _device_of(one) == operation.device]:
        del settings[setting]
    for setting in [one for one, value in settings.items() if one[0] == "master" and value == operation.device]:
        del settings[setting]  # its members are free


@_leave.register
def _(operation: devices.LinkSet, settings: dict[Setting, Any]) -> None:
    for name in ("up", "mtu", "master"):
        if (value := getattr(operation, name)) is not None:
            settings[name, operation.device] = value
    if operation.up is False:  # the kernel drops routes, and addresses of IPv6 (addrconf_ifdown)
        for setting in [
            one for one in settings if one[0] in ("route", "address") and _device_of(one) == operation.device
        ]:
            if setting[0] == "route" or ":" in str(setting[2]):
                del settings[setting]


@_leave.register
def _(operation: devices.AddressAdd, settings: dict[Setting, Any]) -> None:
    settings["address", operation.device, operation.address] = True


@_leave.register
def _(operation: devices.AddressDelete, settings: dict[Setting, Any]) -> None:
    settings["address", operation.device, operation.address] = False
    left = [one for one, value in settings.items() if one[:2] == ("address", operation.device) and value]
    if not left:  # routes go with the last address (fib_del_ifaddr)
        for setting in [one for one in settings if one[0] == "route" and _device_of(one) == operation.device]:
            del settings[setting]


@_leave.register
def _(operation: routing.RouteAdd, settings: dict[Setting, Any]) -> None:
    settings["route", Route(operation.destination, operation.device, operation.via, operation.table)] = True


@_leave.register
def _(operation: routing.RouteDelete, settings: dict[Setting, Any]) -> None:
    settings["route", Route(operation.destination, operation.device, operation.via, operation.table)] = False


@_leave.register
def _(operation: routing.RuleAdd, settings: dict[Setting, Any]) -> None:
    settings["rule", Rule(operation.priority, operation.source, operation.table)] = True


@_leave.register
def _(operation: routing.RuleDelete, settings: dict[Setting, Any]) -> None:
    settings["rule", Rule(operation.priority, operation.source, operation.table)] = False


@_leave.register
def _(operation: routing.ProhibitAdd | routing.ProhibitDelete, settings: dict[Setting, Any]) -> None:
    del operation, settings  # a state tells rules by their source alone


@_leave.register
def _(operation: mptcp.LimitsSet, settings: dict[Setting, Any]) -> None:
    settings[("limits",)] = Limits(operation.subflows, operation.add_addr_accepted)


@_leave.register
def _(operation: mptcp.EndpointAdd, settings: dict[Setting, Any]) -> None:
    settings["endpoint", operation.id] = Endpoint(
        operation.id, operation.address, operation.flags, operation.device, operation.port
    )


@_leave.register
def _(operation: mptcp.EndpointDelete, settings: dict[Setting, Any]) -> None:
    settings["endpoint", operation.id] = None


@_leave.register
def _(operation: mptcp.EndpointChange, settings: dict[Setting, Any]) -> None:
    known = settings.get(("endpoint", operation.id))
    if isinstance(known, Endpoint):
        after = operation.after(State(endpoints={operation.id: known}))
        settings["endpoint", operation.id] = after.endpoints[operation.id]


@_leave.register
def _(operation: kernel.SysctlSet, settings: dict[Setting, Any]) -> None:
    settings["sysctl", operation.key] = operation.value


@_leave.register
def _(operation: kernel.TableAdd, settings: dict[Setting, Any]) -> None:
    settings["table", operation.name] = True


@_leave.register
def _(operation: kernel.TableDelete, settings: dict[Setting, Any]) -> None:
    settings["table", operation.name] = False


# ------------------------------------------------------------------------------------------------------------- comparing

_OF_DEVICES = ("kind", "option", "up", "mtu", "master", "address", "qdisc")


def _device_of(setting: Setting) -> str:
    """Return the device that a setting is of; empty where it is of none."""
    kind, *rest = setting
    if isinstance(route := next(iter(rest), None), Route):
        return route.device
    return str(rest[0]) if kind in _OF_DEVICES else ""


def _kind(now: State, rest: list[Any], asked: str) -> str | None:
    found = now.links[rest[0]].kind
    return _differs("{name}", f"a {found}", f"a {asked}") if found and found != asked else None


def _option(now: State, rest: list[Any], asked: str) -> str | None:
    device, option = rest
    if option in _OF_LAGS:
        return None
    found = now.links[device].options.get(BOND_OPTIONS.get(option, option))
    return _differs(f"{{name}}'s {option}", found, asked) if found is not None and found != asked else None


def _up(now: State, rest: list[Any], asked: bool) -> str | None:
    found = now.links[rest[0]].up
    return _differs("{name}", _UP[found], _UP[asked]) if found != asked else None


def _mtu(now: State, rest: list[Any], asked: int) -> str | None:
    found = now.links[rest[0]].mtu
    return _differs("the MTU of {name}", found, asked) if found != asked else None


def _master(now: State, rest: list[Any], asked: str) -> str | None:
    found = now.links[rest[0]].master
    if found == asked:
        return None
    return _differs("{name}", _member(found), _member(asked))


def _member(master: str) -> str:
    return f"a member of {master}" if master else "a NIC by itself"


def _qdisc(now: State, rest: list[Any], asked: str) -> str | None:
    found = now.links[rest[0]].qdisc
    return _differs("the queue of {name}", found, asked) if found != asked else None


def _address(now: State, rest: list[Any], asked: bool) -> str | None:
    device, address = rest
    there = {_alike(one) for one in now.links[device].addresses}
    return _there(f"the address {address} of {{name}}", _alike(address) in there, asked)


def _route(now: State, rest: list[Any], asked: bool) -> str | None:
    (route,) = rest
    if isinstance(route.table, str):
        return None  # the host tells its number
    found = _route_key(route) in {_route_key(one) for one in now.routes}
    return _there(f"the route '{routing.RouteAdd.of(route).words}'", found, asked)


def _rule(now: State, rest: list[Any], asked: bool) -> str | None:
    (rule,) = rest
    if isinstance(rule.table, str):
        return None  # the host tells its number
    found = _rule_key(rule) in {_rule_key(one) for one in now.rules}
    return _there(f"the rule 'from {rule.source} table {rule.table}'", found, asked)


def _route_key(route: Route) -> tuple[object, ...]:
    return _prefix(route.destination), route.device, route.via, route.table


def _rule_key(rule: Rule) -> tuple[object, ...]:
    return rule.priority, rule.source if rule.of_any else _prefix(rule.source), rule.table


def _alike(address: str) -> str:
    """Return an address in prefix notation as the host tells it; one with a peer stays as it is."""
    return address if " " in address else str(ip_interface(address))


def _prefix(text: str) -> str:
    """Return a prefix as the host tells it: a single address without its length, all of them as ``default``."""
    if text in ("all", "default"):
        return text
    network = ip_network(text, strict=False)
    if network.prefixlen == 0:
        return "default"
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _limits(now: State, _: list[Any], asked: Limits) -> str | None:
    found = now.limits
    if found is None or found == asked:
        return None
    words = [f"{one.subflows} subflows and {one.add_addr_accepted} accepted addresses" for one in (found, asked)]
    return f"MPTCP's limits are {words[0]}, and {words[1]} were asked for"


def _endpoint(now: State, rest: list[Any], asked: Endpoint | None) -> str | None:
    found = now.endpoints.get(rest[0])
    if found is not None and "implicit" in found.flags:
        found = None  # the kernel's own: its id was free
    if asked is None or found is None:
        named = asked or found
        return (
            _there(f"MPTCP endpoint {rest[0]} ({named.address})", found is not None, asked is not None)
            if named
            else None
        )
    if not found.address:
        return None
    words = [_told(one) for one in (found, asked)]
    return _differs(f"MPTCP endpoint {rest[0]}", *words) if words[0] != words[1] else None


def _told(one: Endpoint) -> str:
    port = f" port {one.port}" if one.port else ""
    device = f" dev {one.device}" if one.device else ""
    return f"{one.address}{port}{device} {' '.join(sorted(one.flags)) or 'without flags'}"


def _sysctl(now: State, rest: list[Any], asked: str) -> str | None:
    found = now.sysctls.get(rest[0])
    return _differs(rest[0], found, asked) if found is not None and found.split() != asked.split() else None


_UP = {True: "up", False: "down"}
_COMPARE: Mapping[str, Callable[[State, list[Any], Any], str | None]] = {
    "kind": _kind,
    "option": _option,
    "up": _up,
    "mtu": _mtu,
    "master": _master,
    "qdisc": _qdisc,
    "address": _address,
    "route": _route,
    "rule": _rule,
    "limits": _limits,
    "endpoint": _endpoint,
    "sysctl": _sysctl,
    "table": lambda *_: None,
}
"""What compares each kind of setting; tables are read by themselves, since the state has none."""
