"""Has hosts hear, all at the same time, what is at the other end of their NICs (:mod:`.program`)."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources

from channover.errors import TestbedError
from channover.hosts.host import Host
from channover.targets.inventory.fields import named


@dataclass(frozen=True)
class Neighbour:
    """What is at the other end of a NIC: a host that was asked as well, or a switch; ``port`` is its device or port.

    ``lag`` tells by LACP that it is a port of a LAG: the switch's system, a MAC address, and the LAG's key.
    """

    name: str
    port: str
    is_host: bool = False
    description: str = ""
    lag: tuple[str, str] | None = None


@dataclass(frozen=True)
class Heard:
    """What one host heard, by device; ``note`` says why it could not listen, where that is so."""

    by: Mapping[str, Neighbour]
    note: str = ""


def hear(hosts: Mapping[str, tuple[Host, Sequence[str]]], seconds: float) -> dict[str, Heard]:
    """Have each host listen by its devices for ``seconds`` at most, and return what each heard."""
    nonce = secrets.token_hex(8)
    with ThreadPoolExecutor(max(len(hosts), 1)) as pool:
        done = pool.map(lambda name: _heard(name, *hosts[name], nonce, seconds), hosts)
        return dict(zip(hosts, done, strict=True))


def _heard(name: str, host: Host, devices: Sequence[str], nonce: str, seconds: float) -> Heard:
    if not devices:
        return Heard({})
    source = (resources.files("channover") / "targets" / "physical" / "neighbours" / "program.py").read_text("utf-8")
    wanted = {"nonce": nonce, "host": name, "devices": list(devices), "seconds": seconds}
    try:
        done = host.run(
            "python3", "-I", "-S", "-c", source, json.dumps(wanted), timeout=seconds + 30, check=False, quiet=True
        )
        found = json.loads(done.stdout)
    except ValueError:
        return Heard(
            {}, "its NICs were not listened by: " + (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]
        )
    except TestbedError as error:
        return Heard({}, f"its NICs were not listened by: {error}")
    refused = {words for one in found.values() if (words := one.get("refused"))}
    note = (
        f"its NICs were not listened by: {'; '.join(sorted(refused))}; log in as root, or give --sudo"
        if refused
        else ""
    )
    return Heard({device: one for device in devices if (one := _neighbour(found.get(device, {}))) is not None}, note)


def _neighbour(said: Mapping[str, object]) -> Neighbour | None:
    match said.get("host"):
        case [str(name), str(device)]:
            return Neighbour(name, device, is_host=True)
    lldp = said.get("lldp")
    if not isinstance(lldp, dict) or not lldp:
        return None
    by_mac = lldp.get("port is a MAC address") and lldp.get("port description")
    return Neighbour(
        _label(str(lldp.get("system") or lldp["chassis"])),
        str(lldp["port description"] if by_mac else lldp["port"]),
        description=str(lldp.get("system description", "")),
        lag=_lag(said.get("lacp")),
    )


def _lag(said: object) -> tuple[str, str] | None:
    match said:
        case [str(system), str(key)]:
            return system, key
    return None


def _label(text: str) -> str:
    """Return a switch's name as an inventory may have it: of a name with a domain the first part."""
    plain = text if re.fullmatch(r"[0-9a-f:]+", text) else text.partition(".")[0]
    label = re.sub(r"[^A-Za-z0-9_-]", "-", plain)[:32].lstrip("-")
    return label if named(label) else "switch"
