"""The item under test in few rows: NICs that are alike in one, and hosts that are alike where none is a real machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from channover.report.drawing.topology import rate
from channover.report.facts import CableFacts, HostFacts, NicFacts
from channover.report.results import Run

_NAMED = 4
"""Hosts of a row that are named; of more, the first ones and the last."""


@dataclass(frozen=True)
class Item:
    """One row: hosts, and NICs of theirs that are alike. What is not known is empty."""

    names: str
    machine: str
    role: str
    kernel: str
    nics: str
    count: int
    driver: str
    firmware: str
    speed: str


_Alike = tuple[str, str, str]
_Group = tuple[_Alike, tuple[tuple[str, str], ...]]


def items(run: Run) -> list[Item]:
    """Return the rows, in the order in which hosts were met."""
    shaped = run.cables if run.target != "physical" else ()  # a real NIC says its speed itself, or nobody knows it
    rates = {end: cable.rate for cable in shaped for end in (cable.a, cable.b)}
    rows: dict[tuple[str, str, str, _Group], list[str]] = {}
    for host in run.hosts:
        kernel = host.kernel or (run.kernel if host.role == "host" or run.target != "physical" else "")
        for group in _groups(host, rates):
            rows.setdefault((host.machine, host.role, kernel, group), []).append(host.name)
    return [
        Item(_named(names), machine, role, kernel, _labels(nics), len(nics), *alike)
        for (machine, role, kernel, (alike, nics)), names in rows.items()
    ]


def in_short(rows: Sequence[Item]) -> list[str]:
    """Return the rows in a few words each; a kernel that is that of all is said once, at the end."""
    kernels = list(dict.fromkeys(row.kernel for row in rows if row.kernel))
    found = [_short(row, row.kernel if len(kernels) > 1 else "") for row in rows]
    return [*found, f"kernel {kernels[0]}"] if len(kernels) == 1 else found


def _short(row: Item, kernel: str) -> str:
    kind = " ".join(part for part in (row.driver, row.speed) if part)
    words = [f"{row.count} NIC{'s' if row.count != 1 else ''}" + (f" ({kind})" if kind else "")]
    words += [f"firmware {row.firmware}"] * bool(row.firmware) + [kernel] * bool(kernel)
    names = f"{row.names} = {row.machine}" if row.machine else row.names
    return f"{names}{', switch' if row.role == 'switch' else ''}: {', '.join(words)}"


def _groups(host: HostFacts, rates: dict[str, float | None]) -> Iterator[_Group]:
    """Yield a host's NICs by driver, firmware and speed; a host without NICs is one group without any."""
    found: dict[_Alike, list[tuple[str, str]]] = {}
    for nic in host.nics:
        found.setdefault((nic.driver, nic.firmware, _speed(host, nic, rates)), []).append((nic.name, nic.device))
    for alike, nics in found.items():
        yield alike, tuple(nics)
    if not found:
        yield ("", "", ""), ()


def _speed(host: HostFacts, nic: NicFacts, rates: dict[str, float | None]) -> str:
    speed = nic.speed or rates.get(f"{host.name}.{nic.name}")
    return rate(speed) if speed else ""


def _named(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: _NAMED - 2])}, … {names[-1]} ({len(names)} alike)"


def _labels(nics: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({device})" if device and device != name else name for name, device in nics)


def parts(run: Run) -> list[tuple[list[HostFacts], list[CableFacts]]]:
    """Return hosts and cables by the labs that hang together: tests of one run may have used several."""
    home = {host.name: host.name for host in run.hosts}

    def root(name: str) -> str:
        while home[name] != name:
            name = home[name]
        return name

    joined = [(cable, a, b) for cable in run.cables if (a := _node(cable.a)) in home and (b := _node(cable.b)) in home]
    for _, a, b in joined:
        home[root(b)] = root(a)
    found: dict[str, tuple[list[HostFacts], list[CableFacts]]] = {}
    for host in run.hosts:
        found.setdefault(root(host.name), ([], []))[0].append(host)
    for cable, a, _ in joined:
        found[root(a)][1].append(cable)
    return list(found.values())


def _node(end: str) -> str:
    return end.rpartition(".")[0]
