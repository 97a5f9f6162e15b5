"""The first process of a lab: it owns every namespace of the lab, so that the kernel ends the lab when it ends.

The nursery (:mod:`channover.hosts.netns.fork_server`) forks a *lab init* for each lab. A lab init is process 1 of a PID
namespace, and has a mount and a network namespace of its own; hosts are further network namespaces that only its
descriptors (and the processes in them) keep alive. It ends when the controller's end of its socket closes, which the
kernel sees to, and it is killed when the nursery ends (``PR_SET_PDEATHSIG``), which waits no more than its ``GRACE``
for its labs once the controller is gone. With it the kernel kills every process of the PID namespace, and frees the
namespaces, the interfaces in them and the tmpfs on ``/run`` (``pid_namespaces(7)``). The controller does nothing.

Between the one and the other a lab init aborts the lab's connections. A socket whose program has ended goes on by itself
and keeps its namespace: an MPTCP one for 60 s (``mptcp_close_timeout()`` in ``net/mptcp/protocol.c``), a TCP one until its
retransmissions are given up, and since its wire is gone, it never hears that its peer has ended too.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from channover import syscalls as kernel
from channover.hosts.netns import apply as operations
from channover.hosts.netns import netlink, taps
from channover.model.operations.operation import Operation

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/run/home",
    "TMPDIR": "/run/tmp",
    "LC_ALL": "C",
    "LANG": "C",
}
"""All that a lab's process inherits of an environment: nothing of the user's."""

PRIORITY = -10
"""The nice value of a lab: beside work at 0, it gets nine tenths of a core (``sched(7)``)."""
SLICE = 100_000
"""The processor time (nanoseconds) that a lab's programs ask for at once: little, and so they wait little for it."""

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
    """One cable as the panel builds it: for each end the host, the device's name and index there; the rate in bit/s."""

    a_host: str
    a_device: str
    a_index: int
    b_host: str
    b_device: str
    b_index: int
    rate: int


@dataclass
class Lab:
    """What a lab init owns. Each public method is a request that the controller may make."""

    machine: int
    panel: int
    rtnl: netlink.Netlink
    control: socket.socket
    hosts: dict[str, operations.Session] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    ports: int = 0
    used: set[str] = field(default_factory=set)
    taps: dict[int, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def inside(self, host: str | None) -> Iterator[None]:
        """Be in a host's network namespace for a while; None is the panel."""
        if host is None:
            yield
            return
        with self._in(self.hosts[host].namespace):
            yield

    @contextlib.contextmanager
    def _in(self, namespace: int) -> Iterator[None]:
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        try:
            yield
        finally:
            kernel.setns(self.panel, kernel.CLONE_NEWNET)

    def build(self, hosts: list[str], cables: list[PanelCable]) -> list[tuple[int, int]]:
        """Make hosts and the cables between them; return the panel's two port numbers of each cable."""
        try:
            for name in hosts:
                kernel.unshare(kernel.CLONE_NEWNET)
                namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                self.hosts[name] = operations.Session.here(namespace)
                self.hosts[name].route.send([netlink.link_state(1, up=True)])
                os.makedirs(f"/run/{name}", exist_ok=True)
        finally:
            kernel.setns(self.panel, kernel.CLONE_NEWNET)
        return self._cable(cables)

    def _cable(self, cables: list[PanelCable]) -> list[tuple[int, int]]:
        messages: list[bytearray] = []
        quiet: list[tuple[socket.socket, str]] = []
        numbers = []
        for cable in cables:
            ports = []
            for host, device, index in (
                (cable.a_host, cable.a_device, cable.a_index),
                (cable.b_host, cable.b_device, cable.b_index),
            ):
                self.ports += 1
                port = 100 + self.ports
                ports.append(port)
                inside = self.hosts[host]
                messages.append(netlink.veth(index, device, inside.namespace, port, f"port{port}", self.panel))
                messages.append(netlink.link_state(port, up=True))
                quiet += [(self.control, f"port{port}"), (inside.control, device)]
            a, b = ports
            messages += netlink.crossover(a, to=b) + netlink.crossover(b, to=a)
            messages += [netlink.shaper(a, cable.rate), netlink.shaper(b, cable.rate)]
            numbers.append((a, b))
        self.rtnl.send(messages)
        for control, device in quiet:
            netlink.offloads(control, device, ("tx", "tso", "gso", "gro"), on=False)
        return numbers

    def port(self, number: int, up: bool) -> None:
        """Set a panel port up or down: down takes the carrier from the host's NIC, as a pulled cable does."""
        self.rtnl.send([netlink.link_state(number, up)])

    def probe(self, index: int) -> None:
        """Raise OSError where this kernel cannot shape and cross a cable, or where a host's parameters cannot be set."""
        with open("/proc/sys/net/ipv4/ip_forward", "r+") as file:
            value = file.read()
            file.write(value)
        messages = [netlink.veth(index, f"p{index}", self.panel, index + 1, f"q{index}", self.panel)]
        messages += netlink.crossover(index, to=index + 1)
        messages += [netlink.shaper(index, 100_000_000)]
        self.rtnl.send(messages)

    def offloads(self, host: str, device: str, features: tuple[str, ...], on: bool) -> None:
        """Switch a device's offloads."""
        netlink.offloads(self.hosts[host].control, device, features, on)

    def perform(self, host: str, plan: tuple[Operation, ...]) -> tuple[int, str] | None:
        """Apply operations that netlink can do; return the position of the first one refused, and the kernel's words."""
        with self.inside(host):
            for position, operation in enumerate(plan):
                try:
                    operations.perform(operation, self.hosts[host])
                except Exception as error:  # what cannot be told to the kernel is refused as well
                    return position, getattr(error, "strerror", None) or str(error)
        return None

    def spawn(
        self, descriptors: list[int], host: str | None, argv: list[str], environment: dict[str, str]
    ) -> tuple[int, int]:
        """Start a program in a host with the three descriptors as its standard streams; return its pid and pidfd."""
        if host is not None:
            self.used.add(host)
        with self.inside(host):
            return self._start(argv, environment, dict(enumerate(descriptors)))

    def _start(self, argv: list[str], environment: dict[str, str], inherited: dict[int, int]) -> tuple[int, int]:
        """Start a program where one is, with descriptors by the numbers that it knows them by; return its pid and pidfd."""
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in inherited.items()]
        # A program that has ended and been reaped has no pidfd: nothing is reaped between the two calls.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        try:
            pid = os.posix_spawnp(
                argv[0],
                argv,
                ENVIRONMENT | environment,
                file_actions=actions,
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
            )
            return pid, os.pidfd_open(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

    def tap(self, number: int) -> list[int]:
        """Make so many panel ports that are taps, down and without cables; return their port numbers."""
        made = []
        for _ in range(number):
            descriptor, port = taps.tap(f"tap{len(self.taps)}", self.control)
            self.taps[port] = descriptor
            made.append(port)
        return made

    def patch(self, cables: list[tuple[int, int, int]]) -> None:
        """Take every cable from the taps, and lay these: two ports, and the rate between them in bit/s."""
        for port in self.taps:
            taps.unplug(self.rtnl, port)
        for a, b, rate in cables:
            taps.plug(self.rtnl, a, b, rate)

    def emulate(self, descriptors: list[int], argv: list[str], ports: list[int]) -> tuple[int, int]:
        """Start an emulator in the machine's own network, which has these descriptors, and its taps from 10 on."""
        inherited = dict(enumerate(descriptors))
        inherited |= {taps.FIRST_INHERITED + position: self.taps[port] for position, port in enumerate(ports)}
        kernel.prefer(0, 0)  # processors that are emulated would starve the controller
        with self._in(self.machine):
            return self._start(argv, {}, inherited)

    def folder(self, path: str) -> tuple[str, int]:
        """Make a folder for its owner alone, and return its name and a descriptor: it goes with the lab."""
        os.makedirs(path, mode=0o700)
        return path, os.open(path, os.O_PATH | os.O_CLOEXEC)

    def reap(self, pid: int) -> int:
        """Return the exit code of a process that has ended (negative: the signal that ended it)."""
        if pid not in self.statuses:
            self.collect(pid)
        return self.statuses.pop(pid)

    def collect(self, pid: int = -1) -> None:
        """Reap ended processes, orphans included."""
        with contextlib.suppress(ChildProcessError):
            while True:
                found, status = os.waitpid(pid, 0 if pid > 0 else os.WNOHANG)
                if found == 0:
                    return
                self.statuses[found] = os.waitstatus_to_exitcode(status)
                if pid > 0:
                    return

    def kill(self, pid: int, number: int, group: bool) -> None:
        """Send a signal to a process, or to its group; one that has ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(pid, number)

    def end(self) -> None:
        """Kill every program, and abort the connections that they leave: see above. Nothing of the lab works any more."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)  # returns when there is no child left, since none is to be waited for
        for host in self.used:
            with self.inside(host), contextlib.suppress(OSError):
                netlink.abort_connections()

    def read(self, host: str | None, path: str) -> bytes:
        """Return a file's content as the host sees it."""
        with self.inside(host), open(path, "rb") as file:
            return file.read()

    def write(self, host: str | None, path: str, data: bytes, mode: int) -> None:
        """Write a file as the host sees it."""
        with self.inside(host):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with open(descriptor, "wb") as file:
                file.write(data)

    def sparse(self, path: str, size: int) -> None:
        """Make a file of ``size`` zero bytes that takes no memory."""
        with open(path, "wb") as file:
            file.truncate(size)


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


def _made() -> Lab:
    """Turn this process into a lab without hosts. Raises OSError where the kernel refuses."""
    machine = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    _mounts()
    kernel.prefer(PRIORITY, SLICE)  # a lab is an instrument, and goes before what else runs here
    _silence()
    panel = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    lab = Lab(machine, panel, netlink.Netlink(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    signal.signal(signal.SIGCHLD, lambda *_: lab.collect())
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    return lab


def lab_init(nursery: socket.socket) -> None:
    """Make a lab, wait until one is wanted (the nursery hands over the controller's socket), and serve."""
    kernel.die_with_parent()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        made: Lab | BaseException = _made()
    except BaseException as error:
        made = error
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _, descriptors = receive(nursery)
        nursery.close()
        channel = socket.socket(fileno=descriptors[0])
        if isinstance(made, BaseException):
            send(channel, ("error", described(made)))
            return
        send(channel, ("ok", os.getpid()))
        while True:
            _serve(made, channel)
    if isinstance(made, Lab):
        made.end()


def described(error: BaseException) -> tuple[str, int, str]:
    """Return an error as it goes over a socket: the name of its class, its number or 0, its words."""
    number = getattr(error, "errno", 0) or 0
    return type(error).__name__, number, getattr(error, "strerror", None) or str(error)


def _serve(lab: Lab, channel: socket.socket) -> None:
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
