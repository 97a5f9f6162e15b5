"""Receive packet steering: what a lab's devices receive is spread over the processors, a flow always on the same one.

A veth hands what it sends to the processor that sent it, and so one processor does all the work of a cable from end to end,
and of both cables that one program fills, while the others are idle. Steering chooses by the hash of addresses and ports:
nothing is reordered within a flow. On two processors a lab carries nearly twice as much with it.

Source: ``Documentation/networking/scaling.rst``, RPS; ``net/core/net-sysfs.c``, ``store_rps_map()``, which takes
CAP_NET_ADMIN in the machine's own user namespace.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

from channover import syscalls as kernel

_PLACE = "/run/sys"


def mask(processors: Collection[int]) -> str:
    """Return a set of processors as the kernel reads it: hexadecimal, in groups of 32 bits (``bitmap_parse()``)."""
    digits = f"{sum(1 << number for number in processors):x}"
    groups = [digits[max(end - 8, 0) : end] for end in range(len(digits), 0, -8)]
    return ",".join(reversed(groups))


def steer(devices: Collection[str]) -> None:
    """Spread what devices of the network namespace that one is in receive over the processors that one may use.

    Where there is only one, where the user may not, or where the kernel cannot (no CONFIG_RPS), nothing happens. The
    caller has a mount namespace of its own: devices are those of the namespace in which sysfs is mounted.
    """
    processors = os.sched_getaffinity(0)
    if len(processors) < 2:
        return
    with contextlib.suppress(OSError):
        os.makedirs(_PLACE, exist_ok=True)
        kernel.mount("sysfs", _PLACE, "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        try:
            for device in devices:
                with open(f"{_PLACE}/class/net/{device}/queues/rx-0/rps_cpus", "w", encoding="ascii") as file:
                    file.write(mask(processors))
        finally:
            kernel.unmount(_PLACE)
