"""What the program that guards a lab's host (``guardian.sh``) says, in words for people: states compared, leases, ends of runs.

The guardian (``guardian.sh``, package data) writes a host's state as lines of text, one a setting, such as
``link eth1 up=yes mtu=1500 ...``. Everything here is a function of such text; nothing contacts a host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

SCRIPT: bytes = resources.files("channover.hosts.guardian").joinpath("guardian.sh").read_bytes()
"""The guardian, to be written to a host as a file, or passed to ``bash -c``."""

GRACE = 5.0
"""How long (seconds) a lease lasts after the controller's signs of life have ended."""


@dataclass(frozen=True)
class Setting:
    """One setting of a host: of what (``eth1``, or the host itself: empty), its name, its value.

    A value of None stands for a setting that is simply there, such as a route.
    """

    of: str
    name: str
    value: str | None = None


_FIELDS = {
    "mtu": "MTU",
    "master": "master",
    "mac": "MAC address",
    "qlen": "transmit queue length",
    "promisc": "promiscuous mode",
    "arp": "ARP",
    "addrgenmode": "IPv6 address generation",
}


def parse(text: str) -> tuple[Setting, ...]:
    """Return the settings that a state's lines give, in their order. Raises ValueError that quotes the line it cannot read."""
    return tuple(setting for line in text.splitlines() if line.strip() for setting in _settings(line))


def _settings(line: str) -> Iterable[Setting]:
    kind, _, rest = line.strip().partition(" ")
    first, _, after = rest.partition(" ")
    if not rest:
        raise ValueError(f"no line of a host's state: {line!r}")
    match kind:
        case "link":
            yield Setting(first, "device")
            for word in after.split():
                key, _, value = word.partition("=")
                name = _FIELDS.get(key, key)
                yield Setting(
                    first, name, {"no": "down", "yes": "up"}.get(value, value) if key == "up" else value or "none"
                )
        case "address":
            family, _, words = after.partition(" ")
            address, _, options = words.partition(" ")
            peer = options.split()[1] if options.startswith("peer ") else ""
            yield Setting(first, f"address {address}{f' peer {peer}' if peer else ''}", f"{family} {options}".strip())
        case "route" | "route6":
            yield Setting("", f"{'IPv6 ' if kind == 'route6' else ''}route '{rest}'")
        case "port":
            sort, *pairs = after.split()
            for key, value in zip(pairs[::2], pairs[1::2], strict=False):
                yield Setting(first, f"{sort.removesuffix('_slave')} port's {key}", value)
        case "neighbour" | "proxy":
            address, _, options = after.partition(" ")
            yield Setting(first, f"{'proxy entry' if kind == 'proxy' else 'neighbour'} {address}", options or None)
        case "ipv6mtu":
            yield Setting(first, "MTU of IPv6", after)
        case "nexthop":
            yield Setting("", f"next hop {first} {after.split()[0]}", " ".join(after.split()[1:]))
        case "rule" | "rule6":
            yield Setting("", f"{'IPv6 ' if kind == 'rule6' else ''}rule '{rest}'")
        case "endpoint":
            yield Setting("", f"MPTCP endpoint {first}", after)
        case "limits":
            pairs = rest.split()
            for key, value in zip(pairs[::2], pairs[1::2], strict=False):
                yield Setting("", f"MPTCP limit {key}", value)
        case "sysctl":
            key, _, value = rest.partition("=")
            yield Setting("", key, value)
        case "offload":
            key, _, value = after.partition("=")
            yield Setting(first, f"offload {key}", value)
        case "qdisc":
            yield _qdisc(first, after)
        case "classes" | "filters":
            yield Setting(first, f"number of {'qdisc classes' if kind == 'classes' else 'filters'}", after)
        case "device":
            yield Setting(rest, "device")
        case "unread":  # the host could not tell: no setting
            return
        case "record":
            yield Setting("", f"the readable record of run {rest}")
        case "table":
            yield Setting("", f"nftables table {rest}")
        case _:
            raise ValueError(f"no line of a host's state: {line!r}")


def _qdisc(device: str, words: str) -> Setting:
    place, _, rest = words.partition(" ")
    if place == "parent":
        parent, _, rest = rest.partition(" ")
        return Setting(device, f"qdisc at {parent}", rest)
    return Setting(device, "root qdisc", rest) if place == "root" else Setting(device, f"qdisc {place}")


def differences(before: str, after: str) -> list[str]:
    """Return what differs between two states, field by field: ``eth1: MTU is 1400, was 1500``. Raises ValueError."""
    was, now = _keyed(parse(before)), _keyed(parse(after))
    gone, new = ({of for of, name in a.keys() - b.keys() if name == "device"} for a, b in ((was, now), (now, was)))
    moved = {of for of, name in was.keys() & now.keys() if name == "master" and was[of, name] != now[of, name]}
    told = []
    for key in [*was, *(key for key in now if key not in was)]:
        of, name = key
        if (name != "device" and of in gone | new) or (" port's " in name and of in moved):
            continue
        if words := _change(name, was.get(key, ()), now.get(key, ())):
            told += [f"{of}: {one}" if of else one for one in words]
    return told


def _keyed(settings: Iterable[Setting]) -> Mapping[tuple[str, str], tuple[str | None, ...]]:
    found: dict[tuple[str, str], tuple[str | None, ...]] = {}
    for setting in settings:
        key = (setting.of, setting.name)
        found[key] = (*found.get(key, ()), setting.value)
    return found


def _change(name: str, was: tuple[str | None, ...], now: tuple[str | None, ...]) -> list[str]:
    lost, got = (sorted(value or "" for value in a if value not in b) for a, b in ((was, now), (now, was)))
    subject = "" if name == "up" else f"{name} "
    if not was or not now:
        values = [f" ({value})" if value else "" for value in (got or lost)]
        return [f"{name} {'was added' if now else 'is gone'}{value}" for value in values]
    if lost and got:
        return [f"{subject}is {', '.join(got)}, was {', '.join(lost)}"]
    return [f"{name} ({value}) is gone" for value in lost] + [f"{name} ({value}) was added" for value in got]


def changes(lines: Iterable[str]) -> list[str]:
    """Return in words what lines of the guardian's ``diff`` say (``- `` was and is not, ``+ `` is and was not).

    Raises ValueError.
    """
    sides: dict[str, list[str]] = {"-": [], "+": []}
    for line in lines:
        sign, _, text = line.partition(" ")
        if sign not in sides:
            raise ValueError(f"no line of a difference: {line!r}")
        sides[sign].append(text)
    return differences("\n".join(sides["-"]), "\n".join(sides["+"]))


@dataclass(frozen=True)
class Ending:
    """How a run's end went: what had to be put back, and what could not be, in words."""

    changed: tuple[str, ...]
    left: tuple[str, ...]


def parse_end(text: str) -> Ending:
    """Return what the guardian's ``end``, ``finish`` or ``restore`` printed. Other lines do not count. Raises ValueError."""
    found: dict[str, list[str]] = {"changed": [], "left": []}
    for line in text.splitlines():
        word, colon, rest = line.partition(": ")
        if colon and word in found:
            found[word].append(rest)
    return Ending(tuple(changes(found["changed"])), tuple(changes(found["left"])))


@dataclass(frozen=True)
class Lease:
    """A run's lease of a host, as ``show`` tells it.

    ``state`` is ``held``, ``restoring`` (its end is under way), ``lapsed`` (it died, and nobody has put the host back),
    ``unreadable`` (its record is damaged or another's: no reason to act) or
    ``unrestored`` (it ended, and ``differences`` could not be put back). ``ttl`` and ``left`` are seconds.
    """

    run: str
    state: str
    who: str
    since: str
    ttl: float
    left: float
    nics: tuple[str, ...]
    watched: bool
    folder: str
    differences: tuple[str, ...] = ()


def parse_show(text: str) -> tuple[Lease, ...]:
    """Return the leases that the guardian's ``show`` printed; none where the host is free. Raises ValueError."""
    return tuple(_lease(block) for block in text.strip().split("\n\n") if block.strip() != "state=free")


def _lease(block: str) -> Lease:
    fields: dict[str, str] = {}
    differing = []
    for line in block.splitlines():
        key, _, value = line.partition("=")
        if key == "difference":
            differing.append(value)
        else:
            fields[key] = value
    try:
        return Lease(
            run=fields["run"],
            state=fields["state"],
            who=fields["who"],
            since=fields["since"],
            ttl=float(fields["ttl"]) if fields["ttl"].isdigit() else 0.0,
            left=float(fields["left"]),
            nics=tuple(fields["nics"].split()),
            watched=fields["watcher"] == "alive",
            folder=fields["folder"],
            differences=tuple(changes(differing)),
        )
    except KeyError as missing:
        raise ValueError(f"no answer of 'show' ({missing} is missing): {block[:200]!r}") from None
