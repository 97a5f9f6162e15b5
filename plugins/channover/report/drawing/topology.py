"""A lab as a drawing: hosts, switches, NICs, cables, rates, and what failed. SVG text that stands alone.

What failed is red, dashed and crossed, so that it is seen in grey as well. No script, no reference to anything outside.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from channover.report.drawing import theme
from channover.report.facts import CableFacts, HostFacts
from channover.text import printable

_BOX, _GAP, _PITCH, _HEAD, _ROW = 132, 136, 22, 34, 20
"""Width of a node, room between columns, height per NIC, of a node's head, between nodes; CSS pixels."""
_CARRIED = 110
"""How much wider the room between columns is where NICs have what they carried beside them."""
_MOST = 12
"""Nodes in a column; the others are counted."""
_INK, _GREY, _PAPER, _RED = "#1a1a1a", "#5a5a5a", "#f4f4f4", "#b00020"
_FONT = "font-family=\"'DejaVu Sans',Verdana,Arial,'Noto Sans',sans-serif\""


@dataclass
class _Box:
    node: HostFacts
    x: float
    left: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    y: float = 0.0

    @property
    def height(self) -> float:
        return _HEAD + _PITCH * max(len(self.left), len(self.right), 1) + 4

    def port(self, nic: str) -> tuple[float, float, int]:
        """Return where a cable to a NIC ends, and towards which side it leaves."""
        names, x, side = (self.right, self.x + _BOX, 1) if nic in self.right else (self.left, self.x, -1)
        return x, self.y + _HEAD + _PITCH * (names.index(nic) + 0.5), side


def topology_svg(
    hosts: Sequence[HostFacts],
    cables: Sequence[CableFacts],
    faults: Mapping[str, str] | None = None,
    carried: Mapping[str, str] | None = None,
) -> str:
    """Return a drawing as an SVG text; an empty text where there are no hosts.

    ``faults`` says what failed, in a few words, by host (``left``), NIC (``left.a``) or cable (``left.a–right.a``),
    ``carried`` what each NIC carried, which stands at its end of the cable. Nodes are placed in columns: hosts, the switches
    between them, hosts. A cable to a node that is not there is left out.
    """
    if not hosts:
        return ""
    faults, carried = faults or {}, carried or {}
    gap = _GAP + (_CARRIED if carried else 0)
    by_name = {host.name: host for host in hosts}
    drawn = [(cable, a, b) for cable in cables if (a := _end(cable.a, by_name)) and (b := _end(cable.b, by_name))]
    columns = _columns(hosts, [(a[0], b[0]) for _, a, b in drawn])
    boxes, hidden = _placed(hosts, columns, gap)
    for _, a, b in drawn:
        for (name, nic), (peer, _) in ((a, b), (b, a)):
            if (box := boxes.get(name)) and nic not in box.left + box.right:
                (box.left if columns[peer] < columns[name] else box.right).append(nic)
    for host in hosts:
        if box := boxes.get(host.name):
            for spare in host.nics:
                if spare.name not in box.left + box.right:
                    (box.left if columns[host.name] else box.right).append(spare.name)
    height = _stack(boxes, hidden)
    width = 8 + (_BOX + gap) * max(columns.values()) + _BOX + 8
    parts = [_cable(cable, boxes, a, b, faults) for cable, a, b in drawn if a[0] in boxes and b[0] in boxes]
    parts += [_node(box, faults) for box in boxes.values()]
    parts += [_beside(box, nic, carried) for box in boxes.values() for nic in box.left + box.right]
    parts += [_text(x, height - 8, f"and {count} more", "start", 11, _GREY) for x, count in hidden.items()]
    said = f"{len(hosts)} nodes, {len(cables)} cables" + ("; " if faults or carried else "")
    said += "; ".join(f"{place}: {what}" for place, what in (*faults.items(), *carried.items()))
    drawn_parts = f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" {_FONT}><title>{_safe(said)}</title>{theme.style(drawn_parts)}{drawn_parts}</svg>'
    )


def _end(port: str, nodes: Mapping[str, HostFacts]) -> tuple[str, str] | None:
    """Return node and NIC: names of nodes may have dots themselves."""
    name, _, nic = port.rpartition(".")
    return (name, nic) if name in nodes else None


def _columns(hosts: Sequence[HostFacts], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return each node's column: switches in the middle by distance, hosts outside; without switches, by distance."""
    near: dict[str, set[str]] = {host.name: set() for host in hosts}
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)
    switches = [host.name for host in hosts if host.role == "switch"]
    if not switches:
        return _distances(hosts[0].name, [host.name for host in hosts], near)
    first = next((host.name for host in hosts if host.role == "host" and near[host.name]), switches[0])
    tier = _distances(first, [host.name for host in hosts], near)
    tiers = sorted({tier[name] for name in switches})
    found = {name: 1 + tiers.index(tier[name]) for name in switches}
    last = max(found.values())
    leaves = [host.name for host in hosts if host.role == "host"]
    ends: list[str] = []
    for name in leaves:
        around = [found[peer] for peer in near[name] if peer in found]
        if last == 1 or not around:
            ends.append(name)
        else:
            found[name] = 0 if min(around) == 1 else max(around) + 1
    for number, name in enumerate(ends):
        found[name] = 0 if 2 * number < len(ends) else last + 1
    used = sorted(set(found.values()))
    return {name: used.index(column) for name, column in found.items()}


def _distances(first: str, names: Sequence[str], near: Mapping[str, set[str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in [first, *names]:
        queue = [start] if start not in found else []
        for name in queue:
            found.setdefault(name, 0)
            for peer in sorted(near[name] - set(found), key=names.index):
                found[peer] = found[name] + 1
                queue.append(peer)
    return found


def _placed(
    hosts: Sequence[HostFacts], columns: Mapping[str, int], gap: int
) -> tuple[dict[str, _Box], dict[float, int]]:
    boxes: dict[str, _Box] = {}
    hidden: dict[float, int] = {}
    count: dict[int, int] = {}
    for host in hosts:
        column = columns[host.name]
        x = 8.0 + column * (_BOX + gap)
        count[column] = count.get(column, 0) + 1
        if count[column] > _MOST:
            hidden[x] = hidden.get(x, 0) + 1
        else:
            boxes[host.name] = _Box(host, x)
    return boxes, hidden


def _stack(boxes: Mapping[str, _Box], hidden: Mapping[float, int]) -> float:
    """Place the nodes of each column, the column in the middle, and return the drawing's height."""
    stacks: dict[float, list[_Box]] = {}
    for box in boxes.values():
        stacks.setdefault(box.x, []).append(box)
    tall = {x: sum(box.height + _ROW for box in stack) - _ROW for x, stack in stacks.items()}
    most = max(tall.values())
    for x, stack in stacks.items():
        y = 8 + (most - tall[x]) / 2
        for box in stack:
            box.y = y
            y += box.height + _ROW
    return most + 16 + (22 if hidden else 0)


def _node(box: _Box, faults: Mapping[str, str]) -> str:
    fault = faults.get(box.node.name)
    dash = ' stroke-dasharray="5 3"' if fault else ""
    corner = 2 if box.node.role == "switch" else 7
    parts = [
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{_BOX}" height="{box.height:g}" rx="{corner}" fill="{_PAPER}" '
        f'stroke="{_RED if fault else _INK}" stroke-width="{2 if fault else 1.2}"{dash}/>',
        _text(box.x + _BOX / 2, box.y + 15, fitted(box.node.name, 15), "middle", 12, _INK, "bold"),
        _text(box.x + _BOX / 2, box.y + 28, fault or box.node.role, "middle", 9, _RED if fault else _GREY),
    ]
    devices = {nic.name: nic.device for nic in box.node.nics}
    for nic in box.left + box.right:
        x, y, side = box.port(nic)
        broken = f"{box.node.name}.{nic}" in faults
        parts.append(
            f'<rect x="{x - 5:g}" y="{y - 5:g}" width="10" height="10" fill="#ffffff" '
            f'stroke="{_RED if broken else _INK}" stroke-width="{2 if broken else 1.2}"/>'
        )
        both = box.left and box.right
        device = devices.get(nic, "")
        label = f"{nic} ({device})" if device and device != nic and not both else nic
        anchor = "end" if side > 0 else "start"
        parts.append(_text(x - side * 10, y + 3.5, fitted(label, 7 if both else 16), anchor, 10, _INK))
    return "".join(parts)


def _beside(box: _Box, nic: str, carried: Mapping[str, str]) -> str:
    """Return what a NIC carried, at its end of the cable."""
    words = carried.get(f"{box.node.name}.{nic}", "")
    x, y, side = box.port(nic)
    return _text(x + side * 8, y - 5, words, "start" if side > 0 else "end", 9, _INK) if words else ""


def _cable(
    cable: CableFacts, boxes: Mapping[str, _Box], a: tuple[str, str], b: tuple[str, str], faults: Mapping[str, str]
) -> str:
    (ax, ay, aside), (bx, by, bside) = boxes[a[0]].port(a[1]), boxes[b[0]].port(b[1])
    places = (f"{cable.a}–{cable.b}", f"{cable.b}–{cable.a}", cable.a, cable.b)
    fault = next((faults[place] for place in places if place in faults), None)
    bend = 44 if aside == bside else 36
    path = f"M{ax:g} {ay:g}C{ax + aside * bend:g} {ay:g} {bx + bside * bend:g} {by:g} {bx:g} {by:g}"
    x, y = (ax + bx) / 2, (ay + by) / 2
    if aside == bside:  # within one column: the cable runs beside it
        x += aside * 36
    colour = _RED if fault else _INK
    dash = ' stroke-dasharray="6 4"' if fault else ""
    parts = [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{2 if fault else 1.4}"{dash}/>']
    if fault:
        parts.append(f'<path d="M{x - 6:g} {y - 6:g}l12 12m0 -12l-12 12" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(_text(x, y - 9, fitted(fault, 22), "middle", 10, colour, "bold"))
    elif cable.rate is not None:
        parts.append(_text(x, y - 4, rate(cable.rate), "middle", 10, _GREY))
    return "".join(parts)


def rate(value: float) -> str:
    """Return a link's rate (bit/s) in words, such as ``100 Mbit/s`` or ``2.5 Gbit/s``."""
    return f"{value / 1e9:.4g} Gbit/s" if value >= 1e9 else f"{value / 1e6:.4g} Mbit/s"


def _text(x: float, y: float, text: str, anchor: str, size: float, colour: str, weight: str = "normal") -> str:
    # white beneath, so that a label is readable where it crosses a line
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size:g}" font-weight="{weight}" fill="{colour}" '
        f'direction="ltr" paint-order="stroke" stroke="#ffffff" stroke-width="3">{_safe(text)}</text>'
    )


def fitted(text: str, cells: int) -> str:
    """Return a text without its middle where it takes more room than so many letters."""
    text = printable(" ".join(text.split()))
    widths = [2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text]
    if sum(widths) <= cells:
        return text
    head = tail = ""
    room = cells - 1
    front, back = 0, len(text) - 1
    while front <= back:
        end = front if len(head) <= len(tail) else back
        if widths[end] > room:
            break
        room -= widths[end]
        if end == front:
            head, front = head + text[front], front + 1
        else:
            tail, back = text[back] + tail, back - 1
    return f"{head}…{tail}"


def _safe(text: str) -> str:
    """Return text for XML; isolates keep a right-to-left name from turning what stands beside it."""
    plain = printable(" ".join(text.split()))
    turned = any(unicodedata.bidirectional(character) in ("R", "AL") for character in plain)
    return escape(f"\u2068{plain}\u2069" if turned else plain)
