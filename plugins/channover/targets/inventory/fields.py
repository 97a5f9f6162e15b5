"""What a single value of an inventory may be: names, devices, addresses, jump hosts, keys, rates.

Each check raises ValueError with what is wrong and the remedy. None contacts anything or looks for a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationInfo, WithJsonSchema

from channover.errors import UsageError
from channover.model.link import MTUS, parse_mtu, parse_rate
from channover.targets.inventory.strict_yaml import quoted

LABEL = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}$"
PORT = r"^[A-Za-z0-9_][A-Za-z0-9_/:.-]{0,47}$"
"""A port as switches call theirs: 7, ge-0/0/7, Ethernet1/7, 1:7."""
END = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}\.[A-Za-z0-9_][A-Za-z0-9_/:.-]{0,47}$"
SECRET = re.compile(
    r"pass|secret|token|credential|private|(^|[_-])(pw|pwd|pin)($|[_-])|(key|pem)[_-]?(data|text)", re.I
)
"""Names of fields that people keep secrets in."""

_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9][A-Za-z0-9_-]{0,62})*\.?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\\-]{0,63}\$?")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MAC_FORMS = re.compile(
    r"([0-9a-f]{1,2})([:-])([0-9a-f]{1,2})"
    + r"\2([0-9a-f]{1,2})" * 4  # also without leading zeros
    + r"|[0-9a-f]{4}([.:-])[0-9a-f]{4}\8[0-9a-f]{4}|[0-9a-f]{6}[:-]?[0-9a-f]{6}"
)
"""A MAC address as IEEE 802 (hyphens), Linux (colons), Cisco (dots), H3C, HPE and Aruba write it, or as twelve digits."""
_MAC_PART = re.compile(r"([0-9A-Fa-f]{2,4}[:.-]){2,}[0-9A-Fa-f]{1,4}")
"""Some digits of a MAC address, as it seems: no device is called so."""
_NO_PASSWORD = "seems to hold a password, and an inventory holds no secrets; leave it out, and use an SSH key or agent"


def named(text: str) -> bool:
    """Say whether a text may be the name of a lab, a host, a NIC or a switch."""
    return re.fullmatch(LABEL, text) is not None and not text.endswith("\n")


def is_mac(device: str) -> bool:
    """Say whether a NIC is named by its MAC address, and not by its device."""
    return _MAC.fullmatch(device) is not None


def device(text: str) -> str:
    """Return the name of a network device as it is (``dev_valid_name()`` in ``net/core/dev.c``: up to 15 characters)."""
    if not _DEVICE.fullmatch(text) or mac_of(text) or _MAC_PART.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no name of a network device; write it as 'ip link' shows it, such as eth1")
    return text


def mac_of(text: str) -> str:
    """Return a MAC address, however it is written, in lower case with colons; nothing where it is none."""
    plain = text.lower()
    if not _MAC_FORMS.fullmatch(plain):
        return ""
    parts = re.split(r"[:.-]", plain)
    digits = "".join(part.zfill(2) for part in parts)
    return ":".join(digits[place : place + 2] for place in range(0, 12, 2))


def device_or_mac(text: str) -> str:
    """Return a device's name as it is, or a MAC address in lower case with colons."""
    mac = mac_of(text)
    if not mac:
        if not _DEVICE.fullmatch(text) or _MAC_PART.fullmatch(text):
            raise ValueError(
                f"{quoted(text)} is neither a device nor a MAC address; write one such as eth1 or 52:54:00:12:34:56"
            )
        if text == "lo":
            raise ValueError("lo is the loopback device, which has no cable; name a NIC")
        return text
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":  # IEEE 802, clause 8.2: the I/G bit
        raise ValueError(f"{mac} is no MAC address of a NIC; write the one that 'ip link' shows")
    return mac


def address(text: str) -> str:
    """Return an IP address in its canonical form, or a host name as it is: names in ~/.ssh/config tell case."""
    if "@" in text and ":" in text.rpartition("@")[0]:
        raise ValueError(_NO_PASSWORD)
    if "@" in text:
        raise ValueError(f"{quoted(text)} is no address; write the user in 'user'")
    try:
        found = ip_address(text.strip("[]"))
    except ValueError:
        numbers = re.fullmatch(r"[0-9.]+", text)
        if numbers or not _HOST_NAME.fullmatch(text):
            hint = "the port in 'port'" if ":" in text else "an IP address or a host name"
            raise ValueError(f"{quoted(text)} is neither an IP address nor a host name; write {hint}") from None
        return text.rstrip(".")
    if found.is_link_local:
        raise ValueError(f"{found} is a link-local address, which says nothing without an interface; write another one")
    if found.is_multicast or found.is_unspecified:
        raise ValueError(f"{found} is no address of a host; write the one that SSH connects to")
    return str(found)


def nic_address(text: str) -> str:
    """Return a NIC's address with the length of its network's prefix, in canonical form, such as 198.51.100.10/24."""
    try:
        found = ip_interface(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is no address with its network; write one such as 198.51.100.10/24") from None
    if "/" not in text:
        raise ValueError(
            f"{quoted(text)} says nothing of its network; write the length of its prefix too, such as {text}/24"
        )
    if found.is_link_local or found.is_multicast or found.is_unspecified or found.is_loopback:
        raise ValueError(f"{found.ip} is no address that routers carry packets to; write the one that this NIC has")
    return str(found)


def gateway(text: str) -> str:
    """Return a gateway's address in its canonical form."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{quoted(text)} is no address; write the gateway's, such as 198.51.100.1") from None


def user(text: str) -> str:
    """Return a user's name as it is. A text with a colon is not repeated: it may hold a password."""
    if ":" in text:
        raise ValueError(_NO_PASSWORD)
    if not _USER.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no name of a user; write the name alone, such as root")
    return text


@dataclass(frozen=True)
class Jump:
    """A host through which SSH goes to another."""

    user: str
    address: str
    port: int = 22

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{host}:{self.port}"


def jump(text: object) -> Jump | None:
    """Return the host that a text such as ``lab@gate.example:2222`` names; the port is 22 where none is named."""
    if text is None or isinstance(text, Jump):
        return text
    if not isinstance(text, str):
        raise ValueError("is no text; write USER@HOST or USER@HOST:PORT")
    name, at, host = text.rpartition("@")
    if ":" in name:
        raise ValueError(_NO_PASSWORD)
    match = re.fullmatch(r"(\[[^]]+\]|[^:]+)(?::([0-9]{1,5}))?", host)
    if not at or match is None:
        raise ValueError(f"{quoted(text)} is no jump host; write USER@HOST or USER@HOST:PORT, an IPv6 HOST in brackets")
    port = int(match[2] or 22)
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is none; write one from 1 to 65535")
    return Jump(user(name), address(match[1]), port)


def file(value: object, info: ValidationInfo) -> Path | None:
    """Return a path, ``~`` expanded; a relative one is relative to the inventory's folder (the context's ``folder``)."""
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\n" in value:
        hold = "holds a key's text, and an inventory holds no secrets" if "PRIVATE KEY" in str(value) else "is no path"
        raise ValueError(f"{hold}; write the path of a file")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{quoted(value)}: there is no such user's home; write the whole path") from None
    folder = (info.context or {}).get("folder", Path())
    return Path(folder, path)


def private_key(path: Path | None) -> Path | None:
    """Return the path of a private key as it is."""
    if path is not None and path.suffix == ".pub":
        raise ValueError(f"{quoted(path.name)} is a public key; name the private key's file, without .pub")
    return path


def vlan(text: str) -> str:
    """Return a VLAN's number as it is (IEEE 802.1Q, 9.6: 0 and 4095 are none)."""
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > 4094:
        raise ValueError(f"{quoted(text)} is no VLAN; write its number, from 1 to 4094")
    return text


def rate(value: object) -> int:
    """Return a rate in bit/s."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value is None:
        raise ValueError("is empty; write a rate such as 100mbit or 1gbit")
    try:
        found = parse_rate(value if isinstance(value, str) else "")
    except UsageError:
        raise ValueError(
            f"{quoted(value)} is no rate from 1mbit to 800gbit; write one such as 100mbit or 1gbit"
        ) from None
    return found


def mtu(value: object) -> int:
    """Return an MTU in bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value in MTUS:
        return value
    try:
        return parse_mtu(value if isinstance(value, str) else "")
    except UsageError:
        shown = quoted(value) if isinstance(value, str | int) else "this"
        raise ValueError(f"{shown} is no MTU; write bytes from {MTUS[0]} to {MTUS[-1]}, such as 1500 or 9000") from None


Label = Annotated[str, Field(pattern=LABEL)]
SwitchPort = Annotated[str, Field(pattern=PORT)]
Vlan = Annotated[str, AfterValidator(vlan)]
Device = Annotated[str, AfterValidator(device)]
DeviceOrMac = Annotated[str, AfterValidator(device_or_mac)]
Address = Annotated[str, AfterValidator(address)]
NicAddress = Annotated[str, AfterValidator(nic_address)]
Gateway = Annotated[str, AfterValidator(gateway)]
User = Annotated[str, AfterValidator(user)]
Number = Annotated[int, Field(ge=1, le=65535)]
JumpHost = Annotated[
    Jump | None,
    BeforeValidator(jump),
    PlainSerializer(lambda value: value and str(value), return_type=str | None),
    WithJsonSchema({"type": ["string", "null"], "pattern": r"^[^@:]+@.+$"}),
]
KeyFile = Annotated[
    Path | None, AfterValidator(private_key), BeforeValidator(file), WithJsonSchema({"type": ["string", "null"]})
]
File = Annotated[Path | None, BeforeValidator(file), WithJsonSchema({"type": ["string", "null"]})]
Rate = Annotated[
    int,
    BeforeValidator(rate),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(k|m|g)?bit$", "examples": ["100mbit", "1gbit"]}),
]
Mtu = Annotated[
    int,
    BeforeValidator(mtu),
    WithJsonSchema({"type": "integer", "minimum": MTUS[0], "maximum": MTUS[-1], "examples": [1500, 9000]}),
]
End = Annotated[str, Field(pattern=END)]
