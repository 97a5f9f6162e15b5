"""Messages over stream sockets between pytest's process, the one that forks labs, and the first process of each lab."""

from __future__ import annotations

import pickle
import socket
import struct
from dataclasses import dataclass
from typing import Any

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/run/home",
    "TMPDIR": "/run/tmp",
    "LC_ALL": "C",
    "LANG": "C",
}
"""All that a lab's process inherits of an environment: nothing of the user's."""
QUIET = ("tx", "tso", "gso", "gro")
"""Offloads that are off at both ends of an emulated cable: one that shapes frames must see each of them, with its checksum."""
_HEADER = struct.Struct("=I")


def send(channel: socket.socket, message: object, descriptors: tuple[int, ...] = ()) -> None:
    """Send a message with descriptors over a stream socket."""
    body = pickle.dumps(message)
    header = _HEADER.pack(len(body))
    if descriptors:
        socket.send_fds(channel, [header], list(descriptors))
        channel.sendall(body)
    else:
        channel.sendall(header + body)


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """Receive a message with its descriptors. Raises EOFError when the other side is gone."""
    header, descriptors, _, _ = socket.recv_fds(channel, _HEADER.size, 4, socket.MSG_CMSG_CLOEXEC)
    while len(header) < _HEADER.size:
        more = channel.recv(_HEADER.size - len(header)) if header else b""
        if not more:
            raise EOFError
        header += more
    (length,) = _HEADER.unpack(header)
    body = bytearray()
    while len(body) < length:
        part = channel.recv(min(1 << 20, length - len(body)))
        if not part:
            raise EOFError
        body += part
    return pickle.loads(bytes(body)), descriptors


@dataclass(frozen=True)
class PanelCable:
    """One cable as the panel builds it: for each end the host, the device's name and index there; bit/s, and bytes."""

    a_host: str
    a_device: str
    a_index: int
    b_host: str
    b_device: str
    b_index: int
    rate: int
    mtu: int


def described(error: BaseException) -> tuple[str, int, str]:
    """Return an error as it goes over a socket: the name of its class, its number or 0, its words."""
    number = getattr(error, "errno", 0) or 0
    return type(error).__name__, number, getattr(error, "strerror", None) or str(error)
