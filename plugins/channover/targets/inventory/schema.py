"""Labs of real hosts, as one YAML file describes them: hosts, their SSH addresses and test NICs, and the cables.

``load`` reads and checks such a file; no host is contacted. ``schema`` is its JSON Schema, for editors. Rates are bit/s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic.config import JsonDict

from channover.errors import UsageError
from channover.model.link import USUAL_MTU
from channover.model.topology import Port, Role
from channover.targets.inventory import strict_yaml as yaml_lines
from channover.targets.inventory.end_faults import CABLES, PATHS, address_faults, end_faults, some
from channover.targets.inventory.faults import Fault, InventoryError, worded
from channover.targets.inventory.fields import (
    Address,
    Device,
    DeviceOrMac,
    End,
    File,
    Gateway,
    JumpHost,
    KeyFile,
    Label,
    Mtu,
    NicAddress,
    Number,
    Rate,
    SwitchPort,
    User,
    Vlan,
    is_mac,
)
from channover.targets.inventory.strict_yaml import Where

_NAMES_ONLY: JsonDict = {"additionalProperties": False}
_STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Ssh(BaseModel):
    """How a host is reached; what is left out, the user's own ~/.ssh/config says. Secrets never stand here."""

    model_config = _STRICT
    address: Address
    """IP address or host name that SSH connects to, or a Host of ~/.ssh/config."""
    port: Number | None = None
    """TCP port of the host's SSH server; without it that of ~/.ssh/config, or 22."""
    user: User | None = None
    """User to log in as; without it that of ~/.ssh/config, or root."""
    key: KeyFile = None
    """Private key's file; a relative path is relative to this file. Without it the SSH agent and the user's own keys serve."""
    known_hosts: File = None
    """File with the host keys that are trusted; without it the user's own known_hosts."""
    jump: JumpHost = None
    """Host to go through, as USER@HOST:PORT; without it those of ProxyJump in ~/.ssh/config."""


class HostEntry(BaseModel):
    """A Linux machine of the lab."""

    model_config = _STRICT
    ssh: Ssh
    """How the host is reached."""
    sudo: bool = False
    """Whether commands need sudo: true where the user is not root."""
    role: Role = Role.HOST
    """host, or switch: a Linux machine that bridges between its NICs."""
    management: Device
    """Interface that carries the SSH connection. It is never changed."""
    nics: Annotated[Mapping[Label, DeviceOrMac], Field(min_length=1, json_schema_extra=_NAMES_ONLY)]
    """Test NICs: a label for each, and its device's name or its MAC address. Nothing else is ever changed."""

    _name: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """The host's name in its lab."""
        return self._name


class _Joining(BaseModel):
    """What joins two ends."""

    model_config = _STRICT
    ends: tuple[End, End]

    @property
    def ports(self) -> tuple[Port, Port]:
        """Both ends."""
        a, b = (Port(*end.split(".", 1)) for end in self.ends)
        return a, b


class CableEntry(_Joining):
    """A cable between two NICs, or between a NIC and a port of a switch."""

    ends: tuple[End, End]
    """Both ends, as HOST.NIC or SWITCH.PORT."""
    rate: Rate
    """Rate of the link, such as 100mbit or 1gbit."""
    mtu: Mtu = USUAL_MTU
    """Largest packet (bytes) that it carries, and whatever lies between its ends: 1500, or 9000 for jumbo frames."""


class PathEntry(_Joining):
    """A routed path between NICs of two hosts, as two uplinks have it: each NIC reaches the other by its gateway."""

    ends: tuple[End, End]
    """Both ends, as HOST.NIC. Their NICs have no cable of this inventory."""
    addresses: tuple[NicAddress, NicAddress]
    """The address of each end in its network, with the prefix, such as 198.51.100.10/24: the run gives it to the NIC."""
    gateways: tuple[Gateway, Gateway]
    """The router in each end's network by which it reaches the other end."""
    rate: Rate
    """Rate of the path: of its slowest link."""
    mtu: Mtu = USUAL_MTU
    """Largest packet (bytes) that crosses unfragmented."""


class Snmp(BaseModel):
    """How a switch is read by SNMP; it is never written. Community and passphrases never stand here."""

    model_config = _STRICT
    address: Address
    """IP address or host name of the switch's agent."""
    port: Number = 161
    """UDP port of the agent."""
    config: File = None
    """File with community or v3 user, in the form of snmp.conf(5); without it CHANNOVER_SNMP_… of the environment."""


class SwitchEntry(BaseModel):
    """A switch that is only cabled: it is not logged in to. What stands here is how its owner has set it up."""

    model_config = _STRICT
    description: str = ""
    """Make, model, place: whatever helps who stands in front of it."""
    snmp: Snmp | None = None
    """How the switch is read, where it may be: its members, states and bytes then stand beside the hosts'."""
    ports: Annotated[tuple[SwitchPort, ...], Field(min_length=1)]
    """Names of the ports that cables end in."""
    vlans: Mapping[Vlan, tuple[SwitchPort, ...]] = Field(default_factory=dict, json_schema_extra=_NAMES_ONLY)
    """The ports of each VLAN, untagged. Ports that are in none here are all in one, and carry every VLAN to other switches."""
    lags: Mapping[Label, Annotated[tuple[SwitchPort, ...], Field(min_length=1)]] = Field(
        default_factory=dict, json_schema_extra=_NAMES_ONLY
    )
    """The ports of each LAG, all with LACP: towards one host, or another switch. Any other port stands alone."""
    mlag: Label | None = None
    """Switches that name the same MLAG act as one LACP system: what they call alike in 'lags' is one LAG of all of them."""


class Allows(BaseModel):
    """What a run may do beside configuring the test NICs."""

    model_config = _STRICT
    nics_down: bool = True
    """Whether test NICs may be set down, as when a cable is pulled."""
    reboot: bool = False
    """Whether hosts may be rebooted."""


class LabEntry(BaseModel):
    """One lab: hosts and the cables between them. One run at a time takes it."""

    model_config = _STRICT
    allows: Allows = Field(default_factory=Allows)
    """What the lab allows."""
    hosts: Annotated[Mapping[Label, HostEntry], Field(min_length=1, json_schema_extra=_NAMES_ONLY)]
    """The hosts by name."""
    cables: tuple[CableEntry, ...] = ()
    """The cables; each NIC has at most one."""
    paths: tuple[PathEntry, ...] = ()
    """Routed paths between NICs that have no cable here; each NIC has at most one."""
    switches: Mapping[Label, SwitchEntry] = Field(default_factory=dict, json_schema_extra=_NAMES_ONLY)
    """Switches that are not logged in to, by name."""

    _name: str = PrivateAttr(default="")

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, data: object) -> object:
        """Leave out what was left empty, so that all of its lines can be comments."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    @property
    def cables_and_paths(self) -> tuple[CableEntry | PathEntry, ...]:
        """The cables, and then the routed paths."""
        return (*self.cables, *self.paths)

    @property
    def name(self) -> str:
        """The lab's name in its inventory."""
        return self._name


class Inventory(BaseModel):
    """Labs of real hosts for channover. Secrets never stand here."""

    model_config = _STRICT
    labs: Annotated[Mapping[Label, LabEntry], Field(min_length=1, json_schema_extra=_NAMES_ONLY)]
    """The labs by name. They share no host."""

    def model_post_init(self, _context: object) -> None:
        """Tell each lab and each host its name."""
        for name, lab in self.labs.items():
            lab._name = name
            for label, host in lab.hosts.items():
                host._name = label


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of an inventory."""
    found = Inventory.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:channover:inventory:1", **found}


def load(path: Path) -> Inventory:
    """Read and check an inventory; no host is contacted.

    Raises InventoryError, a UsageError of one line that names file, line, field and remedy.
    """
    try:
        text = yaml_lines.read(path)
    except yaml_lines.Unreadable as error:
        raise InventoryError.at(path, error.line, error.where, str(error)) from None
    return loaded(text, path)


def loaded(text: str, path: Path) -> Inventory:
    """Check an inventory's text; ``path`` is its name, to whose folder its paths are relative. Raises InventoryError."""
    try:
        document = yaml_lines.parse(text)
    except yaml_lines.Unreadable as error:
        raise InventoryError.at(path, error.line, error.where, str(error)) from None
    if not isinstance(document.value, dict):
        what = "is empty" if document.value is None else "is no mapping of names"
        raise InventoryError.at(path, 0, (), f"{what}; begin with 'labs:', as inventory/example.yaml does")
    try:
        found = Inventory.model_validate(document.value, context={"folder": path.parent})
    except ValidationError as error:
        raise InventoryError.of(path, document, worded(error.errors(include_url=False), _fields)) from None
    faults = list(_faults(found))
    if faults:
        raise InventoryError.of(path, document, faults)
    return found


def ssh_from(text: str, **options: str | None) -> Ssh:
    """Return how to reach what a text such as ``root@host:22`` names. ``options`` are further fields.

    Relative paths are relative to the working folder. Raises UsageError.
    """
    user, at, rest = text.rpartition("@")
    match = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::(.*))?", rest)
    host, port = (match[1], match[2]) if match else (rest, None)
    given = {"address": host, "port": port, "user": user if at else None, **options}
    try:
        data = {name: value for name, value in given.items() if value is not None}
        return Ssh.model_validate(data, context={"folder": Path.cwd()})
    except ValidationError as error:
        (fault, *_) = worded(error.errors(include_url=False), lambda _: tuple(Ssh.model_fields))
        raise UsageError(f"{yaml_lines.shown(fault.where)}: {fault.what}") from None


def _fields(where: Where) -> Sequence[str]:
    """Return the names of the fields that may stand at a place."""
    models: dict[int, Any] = {0: Inventory, 2: LabEntry}
    if len(where) > 2:
        within = {
            "allows": Allows,
            "hosts": HostEntry,
            "cables": CableEntry,
            "paths": PathEntry,
            "switches": SwitchEntry,
        }
        models |= {3: within[str(where[2])], 4: within[str(where[2])], 5: Snmp if where[2] == "switches" else Ssh}
    return tuple(models[len(where)].model_fields)


def _faults(inventory: Inventory) -> Iterator[Fault]:
    """Yield what no single value shows: names, NICs and addresses that stand twice, cables that end nowhere."""
    hosts: dict[tuple[str, int], list[tuple[Where, HostEntry]]] = {}
    macs: dict[str, Where] = {}
    for name, lab in inventory.labs.items():
        top = ("labs", name)
        for clash in lab.hosts.keys() & lab.switches.keys():
            yield Fault((*top, "switches", clash), f"a host of this lab is called '{clash}' too; rename one of them")
        for label, host in lab.hosts.items():
            where = (*top, "hosts", label)
            yield from _nic_faults(where, host, macs)
            yield from _twins(where, host, hosts.setdefault((host.ssh.address.lower(), host.ssh.port or 22), []))
        for label, switch in lab.switches.items():
            yield from _switch_faults((*top, "switches", label), switch)
        yield from _end_faults(top, lab)
        yield from address_faults(top, lab.paths)
        yield from _lag_faults(top, lab)


def _nic_faults(where: Where, host: HostEntry, macs: dict[str, Where]) -> Iterator[Fault]:
    devices: dict[str, str] = {}
    for label, device in host.nics.items():
        place = (*where, "nics", label)
        if device == host.management:
            yield Fault(place, f"{device} is the management interface, which is never a test NIC; name another device")
        elif device in devices:
            yield Fault(place, f"NIC '{devices[device]}' is {device} too; name each device once")
        elif is_mac(device) and device in macs:
            yield Fault(
                place, f"{yaml_lines.shown(macs[device])} has {device} too; a MAC address is one NIC's, correct one"
            )
        devices.setdefault(device, label)
        if is_mac(device):
            macs.setdefault(device, place)


def _twins(where: Where, host: HostEntry, others: list[tuple[Where, HostEntry]]) -> Iterator[Fault]:
    """Yield a fault where an earlier host has the same address and port, unless each is behind a jump host of its own."""
    for other_where, other in others:
        if host.ssh.jump is None or other.ssh.jump is None or host.ssh.jump == other.ssh.jump:
            what = f"is port {host.ssh.port or 22} of {yaml_lines.shown(other_where)} too"
            same_lab = other_where[1] == where[1]
            rule = "name each host once" if same_lab else "a host belongs to one lab: remove it from one of the two"
            yield Fault((*where, "ssh", "address"), f"{host.ssh.address} {what}; {rule}")
            break
    others.append((where, host))


def _switch_faults(where: Where, switch: SwitchEntry) -> Iterator[Fault]:
    for position, port in enumerate(switch.ports):
        if port in switch.ports[:position]:
            yield Fault((*where, "ports", position), f"port '{port}' is there twice; remove one")
    for field, groups in (("vlans", switch.vlans), ("lags", switch.lags)):
        taken: dict[str, str] = {}
        for name, ports in groups.items():
            for position, port in enumerate(ports):
                place = (*where, field, name, position)
                if port not in switch.ports:
                    yield Fault(place, f"the switch has no port '{port}'; it has: {some(switch.ports)}")
                elif port in taken:
                    again = "is there twice" if taken[port] == name else f"is in {taken[port]} too"
                    yield Fault(place, f"port '{port}' {again}; remove one")
                taken.setdefault(port, name)


def _lag_faults(top: Where, lab: LabEntry) -> Iterator[Fault]:
    """Yield LAGs that lead to more than one partner, or that are in more than one VLAN: no LACP makes one of these."""
    far = {one: other for cable in lab.cables for one, other in (cable.ports, cable.ports[::-1])}
    partners: dict[tuple[str, str], tuple[str, str, str]] = {}
    systems = [switch.mlag for switch in lab.switches.values()]
    for label, switch in lab.switches.items():
        if switch.mlag and systems.count(switch.mlag) < 2:
            what = f"no other switch of this lab is of the MLAG '{switch.mlag}'"
            yield Fault((*top, "switches", label, "mlag"), f"{what}; give it to all of its switches, or to none")
        vlans = {port: vlan for vlan, ports in switch.vlans.items() for port in ports}
        for name, ports in switch.lags.items():
            where = (*top, "switches", label, "lags", name)
            if len(found := {vlans.get(port, "none") for port in ports}) > 1:
                yield Fault(where, f"its ports are in several VLANs ({', '.join(sorted(found))}); put them into one")
            for port in ports:
                if (end := far.get(Port(label, port))) is None:
                    continue
                system = lab.switches[end.node].mlag if end.node in lab.switches else None
                known = partners.setdefault((switch.mlag or f".{label}", name), (system or end.node, end.node, port))
                if known[0] != (system or end.node):
                    what = f"port {known[2]} leads to {known[1]} and port {port} to {end.node}"
                    yield Fault(where, f"{what}; a LAG has one partner, or several switches of one 'mlag'")


def _end_faults(top: Where, lab: LabEntry) -> Iterator[Fault]:
    nics = {name: tuple(host.nics) for name, host in lab.hosts.items()}
    ports = {name: switch.ports for name, switch in lab.switches.items()}
    yield from end_faults(top, CABLES, lab.cables, ports | nics)
    cabled = {port for cable in lab.cables for port in cable.ports}
    words = "has a cable in 'cables'; a NIC has that or a path: remove one"
    yield from end_faults(top, PATHS, lab.paths, nics, dict.fromkeys(cabled, words))
