"""What a host looks like at one moment, in the words of its own tools: one round trip, for report and diagnosis.

Sections that a host cannot give (no MPTCP, no nftables, no bond) are absent or hold the tool's refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from channover.errors import TestbedError
from channover.hosts.host import Host
from channover.observe import sockets
from channover.observe.counters import parse_netstat

SECTIONS: Mapping[str, str] = {
    "addresses": "ip address show",
    "rules": "ip rule show",
    "endpoints": "ip mptcp endpoint show",
    "limits": "ip mptcp limits show",
    "routes": "ip route show table all",
    "sockets": " ".join(sockets.TCP_COMMAND),
    "connections": " ".join(sockets.MPTCP_COMMAND),
    "counters": "nstat -as",
    "nics": "cat /proc/net/dev",
    "qdiscs": "tc -s qdisc show",
    "ruleset": "nft list ruleset",
    "bonds": "cat /proc/net/bonding/*",
}
"""The sections by name, each with the command that would show the same."""

_ADDRESS = re.compile(r"^\d+: (?P<device>[^:@\s]+)|^\s+inet6? (?P<address>[^/\s]+)", re.MULTILINE)
_MARK = "\036"
_BATCH = "address show\nrule show\nmptcp endpoint show\nmptcp limits show\nroute show table all\n"
_SCRIPT = rf"""
mark() {{ printf '\n\036%s\n' "$1"; }}
exec 2>&1
{{
    mark sockets; ss -tMainH
    if command -v nft >/dev/null; then mark ruleset; nft list ruleset; fi
}} | {{
    mark ip; ip -force -batch - <<'END'
{_BATCH}END
    mark qdiscs; tc -s qdisc show
    for bond in /proc/net/bonding/*; do
        if [ -f "$bond" ]; then mark bonds; cat /proc/net/bonding/*; break; fi
    done
    mark proc; cat /proc/net/netstat /proc/net/snmp /proc/net/dev -
}}
"""
"""Both halves run at once; the last ``cat`` hands on what the first one said."""
_BATCH_LINES = (
    ("addresses", re.compile(r"\d+: \S|\s")),
    ("rules", re.compile(r"\d+:\s+(?:not )?from ")),
    ("endpoints", re.compile(r"\S+( port \d+)? id \d+")),
    ("limits", re.compile(r"add_addr_accepted \d+ subflows \d+")),
    ("routes", re.compile(r"")),
)
"""What the answers to ``_BATCH`` begin with, in its order: iproute2 puts nothing between them."""


def collect(host: Host, timeout: float = 10.0) -> dict[str, str]:
    """Return the host's evidence by the names of ``SECTIONS``. Raises TestbedError where the host does not answer."""
    answer = host.run("sh", "-c", _SCRIPT, check=False, quiet=True, timeout=timeout).stdout
    try:
        found = parse(answer)
    except ValueError as error:
        raise TestbedError(f"{host.name}: no evidence could be taken: {error}") from None
    return found


def parse(answer: str) -> dict[str, str]:
    """Return the sections in what the host answered. Raises ValueError where essential ones are missing."""
    raw = {name: text for name, _, text in (part.partition("\n") for part in answer.split(_MARK)[1:])}
    if not {"sockets", "ip", "proc"} <= raw.keys():
        raise ValueError(f"no sockets, addresses and counters in {answer.strip()[-200:]!r}")
    counters, heading, nics = raw.pop("proc").partition("Inter-|")
    found = raw | _batched(raw.pop("ip")) | _by_kind(raw.pop("sockets"))
    found |= {"counters": _nonzero(counters), "nics": heading + nics}
    return {name: found[name].strip("\n") for name in SECTIONS if name in found}


def collect_all(hosts: Iterable[Host]) -> dict[str, Mapping[str, str]]:
    """Return each host's evidence by its name; the hosts are asked at the same time. Raises TestbedError."""
    asked = list(hosts)
    if not asked:
        return {}
    with ThreadPoolExecutor(max_workers=min(len(asked), 16), thread_name_prefix="evidence") as pool:
        return dict(zip((host.name for host in asked), pool.map(collect, asked), strict=True))


def nics_by_address(sections: Mapping[str, str], host: Host) -> dict[str, str]:
    """Return the label, or else the device, of the NIC that had each address of a host, as its evidence tells."""
    labels = {nic.device: nic.name for nic in host.nics.values()}
    found, device = {}, ""
    for match in _ADDRESS.finditer(sections.get("addresses", "")):
        device = match["device"] or device
        if match["address"]:
            found[match["address"]] = labels.get(device, device)
    return found


def _batched(text: str) -> dict[str, str]:
    """Split the answers to ``_BATCH``: each section goes on until a line fits a later one only."""
    found: dict[str, list[str]] = {name: [] for name, _ in _BATCH_LINES}
    at = 0
    for line in text.splitlines():
        while not _BATCH_LINES[at][1].match(line):
            at += 1
        found[_BATCH_LINES[at][0]].append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def _by_kind(text: str) -> dict[str, str]:
    """Split the answer of ``ss -tM``, which names each socket's kind in a column of its own."""
    found: dict[str, list[str]] = {"sockets": [], "connections": []}
    kind = "sockets"
    for line in text.splitlines():
        if not line.startswith(("\t", " ")):
            first, _, rest = line.partition(" ")
            kind = {"tcp": "sockets", "mptcp": "connections"}.get(first, kind)
            line = rest.lstrip() if first in ("tcp", "mptcp") else line
        found[kind].append(line.rstrip())
    return {kind: "\n".join(lines) for kind, lines in found.items()}


def _nonzero(text: str) -> str:
    """Return counters as ``nstat`` prints them, those that are 0 left out."""
    try:
        counted = parse_netstat(text).changed()
    except ValueError:
        return text
    return "\n".join(f"{name:<32} {value}" for name, value in counted.items())
