"""What ``channover inventory discover`` writes of one host that listens by none of its NICs."""

from __future__ import annotations

from channover.hosts.host import Host
from channover.targets.physical.discovery import Login, document, read
from channover.targets.physical.neighbours.hearing import Heard


def discovered(host: Host, address: str, user: str, port: int, *, connection: str = "") -> str:
    one = read(host, Login(address, user, port), connection)
    return document([one], {one.label: Heard({})})
