"""The few system calls that the namespaces of a lab rest on.

Python 3.11 and older has no :func:`os.unshare`, :func:`os.setns` or ``mount``, so this module calls the C library.
Sources: ``unshare(2)``, ``setns(2)``, ``mount(2)``, ``prctl(2)``, ``user_namespaces(7)``, ``pid_namespaces(7)``, ``sched(7)``,
``sched_setattr(2)``, ``include/uapi/linux/sched/types.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000

_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}.get(platform.machine())
"""The number of the system call: glibc has a function for it from 2.41 on."""
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``, first version: size, policy, flags, nice, priority, runtime, deadline, period."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move the calling process into new namespaces (``unshare(2)``). Raises OSError."""
    _call("unshare", flags)


def setns(descriptor: int, kind: int) -> None:
    """Move the calling thread into the namespace that a descriptor stands for (``setns(2)``). Raises OSError."""
    _call("setns", descriptor, kind)


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """Mount a file system (``mount(2)``) in the caller's mount namespace. Raises OSError."""
    _call(
        "mount",
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )


def unmount(target: str) -> None:
    """Take a file system away, at the latest when its last user has ended (``umount2(2)``, MNT_DETACH). Raises OSError."""
    _call("umount2", target.encode(), _MNT_DETACH)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask the kernel to send a signal to this process as soon as its parent thread ends (``PR_SET_PDEATHSIG``).

    The kernel forgets the wish when the process changes its credentials: call it after entering a user namespace.
    """
    _call("prctl", _PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0)


def prefer(nice: int, slice: int) -> None:
    """Give this process, and all that it starts in its session, a nice value and a slice of processor time (nanoseconds).

    A program that asks for a short slice, 0.1 ms at least, gets the processor from another at once when it wakes, from
    Linux 6.12 on; 0 is the kernel's own. A nice value below 0 takes root, and without it this changes the slice alone.

    Where the kernel groups processes by session, nice values count within a session, and the sessions have values of
    their own (``sched(7)``, the autogroup feature): a program that starts a session leaves that group.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, 0, 0, os.getpriority(os.PRIO_PROCESS, 0), 0, slice, 0, 0)
    if _SCHED_SETATTR is not None:
        _libc.syscall(_SCHED_SETATTR, 0, attributes, 0)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as file:
        file.write(str(nice))


def new_network_namespace() -> int:
    """Make a network namespace that no process lives in and return a descriptor that keeps it alive.

    The calling thread is back in its own namespace when the function returns. The kernel frees the namespace, with
    every interface in it, when the last descriptor and the last process are gone. Raises OSError.
    """
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(CLONE_NEWNET)
        made = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        setns(here, CLONE_NEWNET)
    finally:
        os.close(here)
    return made
