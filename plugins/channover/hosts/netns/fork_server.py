"""The process that labs are forked from: started once a run, it keeps one lab's first process ready ahead of need.

As root it does just that. Without root it first becomes root of a user namespace (``user_namespaces(7)``), with the user's
subordinate ids where there are any. It ends with the controller: the kernel closes its socket and signals it.

Only :mod:`channover.hosts.netns.client` starts it. It is imported rather than run as ``__main__``: messages name classes of
:mod:`channover.hosts.netns.supervisor`, and a lab that had to import it for the first of them would lose 10 ms.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys

from channover import syscalls as kernel
from channover.hosts.netns.protocol import described, receive, send
from channover.hosts.netns.supervisor import lab_init

GRACE = 2
"""How long (seconds, whole) labs may take to end by themselves once the controller is gone."""

QUIET = 0.1
"""How long (seconds) no lab must have been asked for before one is made ahead of need: a lab that is being built goes first."""


def _enter_user_namespace() -> None:
    """Become root of a new user namespace: with the user's subordinate ids where there are any, else alone."""
    user, group = os.getuid(), os.getgid()
    target = os.getpid()
    ready_read, ready_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(ready_write)
        os.read(ready_read, 1)
        os._exit(0 if _map_ids(target, user, group) else 1)
    os.close(ready_read)
    kernel.unshare(kernel.CLONE_NEWUSER)
    os.write(ready_write, b"1")
    os.close(ready_write)
    if os.waitpid(helper, 0)[1] != 0:
        with open("/proc/self/setgroups", "w") as file:
            file.write("deny")
        for kind, number in (("uid", user), ("gid", group)):
            with open(f"/proc/self/{kind}_map", "w") as file:
                file.write(f"0 {number} 1")


def _enter_pid_namespace() -> None:
    """Go on as process 1 of a PID namespace that the user namespace owns: only there may labs be forked.

    Coming back from ``unshare(CLONE_NEWPID)`` takes privilege over the namespace one came from (``setns(2)``). The process
    that is left outside ends with the one inside, which hears of the controller's end by its socket.
    """
    kernel.unshare(kernel.CLONE_NEWPID)
    child = os.fork()
    if child:
        signal.signal(signal.SIGUSR1, lambda *_: os.kill(child, signal.SIGUSR1))  # the controller is gone: pass it on
        os.waitpid(child, 0)
        os._exit(0)
    kernel.die_with_parent()


def _map_ids(target: int, user: int, group: int) -> bool:
    import pwd

    name = pwd.getpwuid(user).pw_name
    for tool, ids, number in (("newuidmap", "/etc/subuid", user), ("newgidmap", "/etc/subgid", group)):
        try:
            with open(ids) as file:
                ranges = [line.split(":") for line in file if line.startswith((f"{name}:", f"{user}:"))]
            start, count = ranges[0][1:]
            command = [tool, str(target), "0", str(number), "1", "1", start, count.strip()]
            if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0:
                return False
        except (OSError, IndexError, ValueError):
            return False
    return True


def _fork_server(channel: socket.socket) -> None:
    def controller_gone(*_: object) -> None:
        # Not an exception: the end of the channel, which the controller's death brings too, may be what is handled just
        # now, and whoever left that unfinished would end before its labs have ended their connections.
        with contextlib.suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)

    signal.signal(signal.SIGUSR1, controller_gone)
    kernel.die_with_parent(signal.SIGUSR1)
    try:
        if os.getuid() != 0:
            _enter_user_namespace()
            _enter_pid_namespace()
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        kernel.unshare(kernel.CLONE_NEWPID)  # a trial: what is refused here is said where it can be heard
        kernel.setns(own, kernel.CLONE_NEWPID)
    except OSError as error:
        send(channel, ("error", described(error)))
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        send(channel, ("ok", os.getpid()))
        _fork_labs(channel, own)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.alarm(GRACE)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, 0)  # returns when there is no child left, since none is to be waited for


def _fork_labs(channel: socket.socket, own: int) -> None:
    """Fork a lab init whenever one is asked for. Raises EOFError when the controller has gone."""
    spare: socket.socket | None = _fork(channel, own)
    try:
        while True:
            if spare is None and not select.select([channel], [], [], QUIET)[0]:
                spare = _fork(channel, own)
            _, descriptors = receive(channel)
            # Where the init has died, the controller sees its end closed.
            with spare or _fork(channel, own) as init, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                send(init, "lab", (descriptors[0],))
            os.close(descriptors[0])
            spare = None
    finally:
        if spare is not None:
            spare.close()


def _fork(channel: socket.socket, own: int) -> socket.socket:
    """Fork a lab init, and return the socket on which it waits for the controller's."""
    ours, theirs = socket.socketpair()
    kernel.unshare(kernel.CLONE_NEWPID)
    if os.fork() == 0:
        channel.close()
        ours.close()
        os.close(own)
        with contextlib.suppress(BaseException):
            lab_init(theirs)
        os._exit(0)
    kernel.setns(own, kernel.CLONE_NEWPID)
    theirs.close()
    return ours


def main() -> None:
    """Fork labs until the controller is gone; the first argument is the descriptor of its socket."""
    _fork_server(socket.socket(fileno=int(sys.argv[1])))
