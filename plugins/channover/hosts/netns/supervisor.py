"""The first process of a lab: it owns every namespace of the lab, so that the kernel ends the lab when it ends.

The fork server (:mod:`channover.hosts.netns.fork_server`) forks a *lab init* for each lab. A lab init is process 1 of a PID
namespace, and has a mount and a network namespace of its own; hosts are further network namespaces that only its
descriptors (and the processes in them) keep alive. It ends when the controller's end of its socket closes, which the
kernel sees to, and it is killed when the fork server ends (``PR_SET_PDEATHSIG``), which waits no more than its ``GRACE``
for its labs once the controller is gone. With it the kernel kills every process of the PID namespace, and frees the
namespaces, the interfaces in them and the tmpfs on ``/run`` (``pid_namespaces(7)``). The controller does nothing.

Between the one and the other a lab init aborts the lab's connections. A socket whose program has ended goes on by itself
and keeps its namespace: an MPTCP one for 60 s (``mptcp_close_timeout()`` in ``net/mptcp/protocol.c``), a TCP one until its
retransmissions are given up, and since its wire is gone, it never hears that its peer has ended too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from channover import syscalls as kernel
from channover.hosts.netns import netlink
from channover.hosts.netns.namespace_lab import NamespaceLab
from channover.hosts.netns.protocol import described, receive, send

PRIORITY = -10
"""The nice value of a lab: beside work at 0, it gets nine tenths of a core (``sched(7)``)."""
SLICE = 100_000
"""The processor time (nanoseconds) that a lab's programs ask for at once: little, and so they wait little for it."""


def _mounts() -> None:
    """Give the lab a /run of its own, and a /proc of its own processes where the kernel allows it."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    with contextlib.suppress(OSError):
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        kernel.mount("proc", "/proc", "proc", flags)
    kernel.mount("channover", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=1g")
    for folder in ("/run/sshd", "/run/home", "/run/tmp", "/run/lock"):
        os.mkdir(folder)
    # An sshd without PAM refuses accounts whose password field says that they are locked.
    with open("/run/shadow", "w") as shadow:
        shadow.write("root:*:19000:0:99999:7:::\n")
    os.chmod("/run/shadow", 0o600)
    with contextlib.suppress(OSError):
        kernel.mount("/run/shadow", "/etc/shadow", None, kernel.MS_BIND)


def _silence() -> None:
    """Keep the kernel's own IPv6 off the panel: a wire sends no router solicitations."""
    for name in ("all", "default"):
        with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
            file.write("1")


def _made() -> NamespaceLab:
    """Turn this process into a lab without hosts. Raises OSError where the kernel refuses."""
    machine = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    _mounts()
    kernel.prefer(PRIORITY, SLICE)  # a lab is an instrument, and goes before what else runs here
    _silence()
    panel = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    lab = NamespaceLab(machine, panel, netlink.Netlink(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    signal.signal(signal.SIGCHLD, lambda *_: lab.collect())
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    return lab


def lab_init(fork_server: socket.socket) -> None:
    """Make a lab of namespaces, wait until a test wants one (its controller's socket is handed over then), and serve it."""
    kernel.die_with_parent()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        made: NamespaceLab | BaseException = _made()
    except BaseException as error:
        made = error
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _, descriptors = receive(fork_server)
        fork_server.close()
        channel = socket.socket(fileno=descriptors[0])
        if isinstance(made, BaseException):
            send(channel, ("error", described(made)))
            return
        send(channel, ("ok", os.getpid()))
        while True:
            _serve(made, channel)
    if isinstance(made, NamespaceLab):
        made.end()


def _serve(lab: NamespaceLab, channel: socket.socket) -> None:
    (name, arguments), descriptors = receive(channel)
    passed: tuple[int, ...] = ()
    try:
        if name in ("spawn", "emulate"):
            result, pidfd = getattr(lab, name)(descriptors, *arguments)
            passed = (pidfd,)
        elif name == "folder":
            result, opened = lab.folder(*arguments)
            passed = (opened,)
        else:
            result = getattr(lab, name)(*arguments)
        reply: tuple[str, object] = ("ok", result)
    except Exception as error:
        reply = ("error", described(error))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    send(channel, reply, passed)
    for descriptor in passed:
        os.close(descriptor)
