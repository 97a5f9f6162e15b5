"""What a run can prove: of its target, and of hardware only where each NIC has a bus, a driver and a speed of its own.

What an emulator copies whole cannot be told from the original: an emulated Intel NIC with its maker's own numbers passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from channover.model.drivers import VIRTUAL
from channover.report.deciding.deviations import in_words
from channover.report.facts import HostFacts, NicFacts
from channover.report.results import Run

BUSES = frozenset(("pci", "usb", "platform", "fsl-mc", "bcma", "ssb"))
"""Buses (``/sys/bus``) that NICs of hardware are plugged into; ``virtio``, ``vmbus``, ``xen`` and ``netdevsim`` are none."""


@dataclass(frozen=True)
class Scope:
    """What a target's runs can prove. ``holds_for`` follows the verdict; ``proves`` is a sentence or two."""

    name: str
    emulated: bool
    holds_for: str
    proves: str


_SCOPES = {
    "netns": Scope(
        "network namespaces",
        True,
        "for the emulated lab only",
        "The hosts were network namespaces of one machine, the cables virtual and shaped to the stated rate. This proves "
        "the method, and the protocol software of this kernel. It proves nothing about NICs, drivers, firmware, cables or "
        "switches.",
    ),
    "vm": Scope(
        "virtual machines",
        True,
        "for the emulated lab only",
        "The hosts were virtual machines with kernels of their own, the cables virtual and shaped to the stated rate. This "
        "proves the method, and the software of the stated kernels. It proves nothing about NICs, their drivers and "
        "firmware, cables or switches.",
    ),
    "physical": Scope(
        "physical hosts",
        False,
        "for the hardware named here",
        "Each NIC that was tested has a bus, a driver and a speed of its own. This holds for the items named here, as they "
        "were at the time of the run.",
    ),
}


def scope(run: Run) -> Scope:
    """Return what a run can prove: of IPv6 where that was its family, and else of IPv4."""
    found = _scope(run)
    return found if run.family == 4 else replace(found, holds_for=f"over IPv{run.family}, {found.holds_for}")


def _scope(run: Run) -> Scope:
    """Return what a target proves; of one that is not known, and of virtual NICs, that is nothing about hardware."""
    if run.target == "physical" and (found := virtual(run)):
        return Scope(
            "hosts behind SSH",
            True,
            "for the emulated hosts only",
            f"Not hardware: {in_words(found, 4)}. This proves the method, and the software of these hosts. It proves nothing "
            "about NICs, drivers, firmware, cables or switches.",
        )
    other = Scope(
        run.target, True, f"for the target '{run.target}' only", "Nothing is known of what this target proves."
    )
    return _SCOPES.get(run.target, other)


def virtual(run: Run) -> list[str]:
    """Return the NICs that nothing shows to be hardware, each with what says so.

    A switch that is no Linux machine says nothing of its ports, and is not asked.
    """
    return [words for host in run.hosts if host.role == "host" or host.machine for words in _of_host(host)]


def _of_host(host: HostFacts) -> Iterator[str]:
    if not host.nics:
        yield f"{host.name} (its NICs were not recorded)"
    for nic in host.nics:
        if found := "; ".join(_against(nic)):
            yield f"{host.name}.{nic.name} ({f'{nic.device}: ' * bool(nic.device)}{found})"


def _against(nic: NicFacts) -> Iterator[str]:
    if nic.driver in VIRTUAL:
        yield f"the driver {nic.driver} is of virtual NICs"
        return
    missing = [f"no {name}" for name, value in (("bus", nic.bus), ("driver", nic.driver)) if not value]
    missing += ["no speed of its own"] * (not nic.speed)
    if missing:
        yield ", ".join(missing)
    if nic.bus and nic.bus not in BUSES:
        yield f"the bus {nic.bus} is of virtual NICs"
