"""Taps: the panel's ports that micro-VMs' NICs lie on (``Documentation/networking/tuntap.rst``, ``linux/if_tun.h``)."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from channover.hosts.netns import netlink
from channover.hosts.netns.protocol import QUIET

FIRST_INHERITED = 10
"""The descriptor by which a machine's program knows its first tap; the others follow."""

_TUNSETIFF = 0x4004_54CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000
_ABOVE_INHERITED = 200


def tap(name: str, control: socket.socket) -> tuple[int, int]:
    """Make a tap, down and without offloads, and return its descriptor and its interface index. Raises OSError."""
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(opened, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
        netlink.offloads(control, name, QUIET, on=False)
        return fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _ABOVE_INHERITED), socket.if_nametoindex(name)
    finally:
        os.close(opened)


def unplug(rtnl: netlink.Netlink, index: int) -> None:
    """Set a port down and take its shaper and its crossover away, if it has any. Raises OSError."""
    rtnl.send([netlink.link_state(index, up=False)])
    for parent in (netlink.ROOT, netlink.INGRESS):
        netlink.bare(rtnl, index, parent)


def plug(rtnl: netlink.Netlink, a: int, b: int, rate: int) -> None:
    """Join two ports by a cable of ``rate`` bit/s each way, and set them up. Raises OSError."""
    messages = netlink.crossover(a, to=b) + netlink.crossover(b, to=a)
    messages += [netlink.shaper(a, rate), netlink.shaper(b, rate)]
    messages += [netlink.link_state(a, up=True), netlink.link_state(b, up=True)]
    rtnl.send(messages)
