"""What a run could leave behind on a machine, found out from outside of it.

Three means. :func:`snapshot` and :func:`diff` compare all that a machine shows: mounts, files, interfaces, routes, rules,
nftables, MPTCP endpoints, kernel parameters. :class:`Watch` follows the processes that descend from one run and the network
namespaces that they use, so that other runs on the same machine do not count. :func:`enter_view` moves this process into
a mount and a network namespace of its own whose folders record each file that is changed, so that whatever a snapshot
finds there is this process's own doing. Root is needed for the last two.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from channover import syscalls as kernel

WATCHED = ("/etc", "/home", "/root", "/run", "/tmp", "/var")
"""Folders that programs write to without being told."""
_ROOM = Path("/mnt")
_QUESTIONS = (
    ("interface", "ip -o link show"),
    ("address", "ip -o address show"),
    ("rule", "ip -4 rule show"),
    ("rule", "ip -6 rule show"),
    ("route", "ip -4 route show table all"),
    ("route", "ip -6 route show table all"),
    ("qdisc", "tc qdisc show"),
    ("nftables line", "nft list ruleset"),
    ("MPTCP endpoint", "ip mptcp endpoint show"),
    ("MPTCP limits", "ip mptcp limits show"),
)
_FICKLE = re.compile(r"(valid_lft|preferred_lft|expires|age) \S+|\w+/nf_conntrack_count=.*")
_NAMESPACES = ("net", "pid", "mnt", "user", "uts", "ipc")


@dataclass(frozen=True)
class Snapshot:
    """What a machine shows, by kind of thing."""

    things: Mapping[str, frozenset[str]]


def _output(command: str) -> list[str]:
    try:
        found = subprocess.run(command.split(), capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return []
    return [_FICKLE.sub("", line).strip() for line in found.stdout.splitlines() if line.strip()]


def _files(shown: str, folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                mode = os.lstat(path).st_mode
                if "/pytest-of-" in path:
                    continue  # pytest's own, which it keeps for three runs (tmp_path_retention_count)
                kind = "removed " if stat.S_ISCHR(mode) and folder != Path(shown) else ""
                yield kind + shown + path[len(str(folder)) :] + ("/" if stat.S_ISDIR(mode) else "")


def _parameters() -> Iterator[str]:
    for place, _, files in os.walk("/proc/sys/net"):
        for name in files:
            path = os.path.join(place, name)
            if not os.stat(path).st_mode & 0o200:
                continue  # the whole machine's, which another network namespace may read and not change
            with contextlib.suppress(OSError), open(path, errors="replace") as file:
                yield _FICKLE.sub("", f"{path}={file.read().strip()}")
    yield f"hostname={socket.gethostname()}"


def snapshot(folders: Mapping[str, Path], *, processes: bool = False) -> Snapshot:
    """Return what this process's machine shows. ``folders`` maps a folder's name to where its files are looked for.

    With ``processes``, every process and namespace of the machine is part of it: of use only where nothing else runs.
    """
    things: dict[str, set[str]] = {}
    for kind, command in _QUESTIONS:
        things.setdefault(kind, set()).update(_output(command))
    things["kernel parameter"] = set(_parameters())
    with open("/proc/self/mountinfo") as mounts:
        things["mount"] = {" ".join(line.split()[3:5] + line.split(" - ")[1].split()[:2]) for line in mounts}
    things["file"] = {each for name, folder in folders.items() for each in _files(name, folder)}
    if processes:
        table = {pid: each for pid, each in process_table().items() if each.parent != 2 and pid != os.getpid()}
        things["process"] = {f"{pid} {each.name}" for pid, each in table.items() if each.alive}
        things["namespace"] = {link for pid in table for kind in _NAMESPACES if (link := _link(pid, f"ns/{kind}"))}
    return Snapshot({kind: frozenset(found - {""}) for kind, found in things.items()})


def diff(before: Snapshot, after: Snapshot) -> list[str]:
    """Return what differs between two snapshots, a sentence each."""
    sentences = []
    for kind, found in after.things.items():
        sentences += [f"{kind} that was not there: {thing}" for thing in sorted(found - before.things[kind])]
        sentences += [f"{kind} that has gone: {thing}" for thing in sorted(before.things[kind] - found)]
    return sentences


def enter_view() -> dict[str, Path]:
    """Move this process into its own view of the machine; return the folders for :func:`snapshot`.

    Its network namespace is a new one, and its folders are overlays whose upper layers hold all that is changed in them
    (kernel, Documentation/filesystems/overlayfs.rst). Raises OSError where the kernel has no overlays.
    """
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("leaks", str(_ROOM), "tmpfs", 0, "mode=755")
    folders = {"/dev/shm": Path("/dev/shm")}
    for name in WATCHED:
        upper, work = (_ROOM / kind / name[1:] for kind in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        shutil.copystat(name, upper)
        kernel.mount("leaks", name, "overlay", 0, f"lowerdir={name},upperdir={upper},workdir={work}")
        folders[name] = upper
    kernel.mount("leaks", "/dev/shm", "tmpfs", 0, "mode=1777")
    return folders


def room() -> Path:
    """Return a folder within the view that no snapshot looks into."""
    return _ROOM


@dataclass(frozen=True)
class Entry:
    """A process: its parent, when it was started (ticks since boot), its name and state."""

    parent: int
    start: int
    name: str
    state: str

    @property
    def alive(self) -> bool:
        """Whether it is more than a record for its parent."""
        return self.state not in "ZX"


def process_table() -> dict[int, Entry]:
    """Return this machine's processes by pid."""
    table = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", errors="replace") as file:
                text = file.read()
                title, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
                table[int(name)] = Entry(int(rest[1]), int(rest[19]), title, rest[0])
    return table


def _link(pid: int, path: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{path}")
    except OSError:
        return ""


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (``PR_SET_CHILD_SUBREAPER``): none gets lost."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class _Names:
    """Numbers that this process's network namespace gives to others: the kernel drops one with the namespace itself.

    Such a number (``RTM_NEWNSID``, ``rtnetlink(7)``) holds no reference, so that watching keeps nothing alive.
    """

    _NEW, _GET, _DUMP, _ACK = 88, 90, 0x300, 0x4

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._last = 1000

    def _ask(self, kind: int, flags: int, attributes: bytes) -> Iterator[tuple[int, bytes]]:
        body = b"\0\0\0\0" + attributes
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, 1 | flags, 1, 0) + body)
        while True:
            data = self._socket.recv(1 << 16)
            while data:
                length, answer = struct.unpack_from("=IH", data)
                yield answer, data[16:length]
                if answer in (2, 3) or not flags & self._DUMP:
                    return
                data = data[(length + 3) & ~3 :]

    def give(self, descriptor: int) -> int | None:
        """Number the network namespace of a descriptor; None where it has a number, or is gone."""
        self._last += 1
        attributes = struct.pack("=HHiHHi", 8, 1, self._last, 8, 3, descriptor)
        ((_, body),) = self._ask(self._NEW, self._ACK, attributes)
        return self._last if struct.unpack_from("=i", body)[0] == 0 else None

    def living(self) -> set[int]:
        """Return the numbers whose namespaces are there."""
        return {
            int(struct.unpack_from("=i", body, 8)[0])
            for answer, body in self._ask(self._GET, self._DUMP, b"")
            if answer == self._NEW
        }


@dataclass
class Watch:
    """One run: every process that descends from ``root``, and every network namespace that one of them has used."""

    root: int
    strangers: frozenset[int] = frozenset()
    """Children of this process that belong to others."""
    processes: dict[tuple[int, int], str] = field(default_factory=dict)
    namespaces: dict[str, int] = field(default_factory=dict)
    spaces: set[str] = field(default_factory=set)
    _names: _Names = field(default_factory=_Names)

    def poll(self) -> dict[int, Entry]:
        """Look at the run as it is now; return its living processes. To be called all the time while it lives."""
        table = process_table()
        children: dict[int, list[int]] = {}
        for pid, entry in table.items():
            children.setdefault(entry.parent, []).append(pid)
        waiting = [pid for pid, start in self.processes if pid in table and table[pid].start == start]
        # The root too is a child of this process while it lives: its number alone may be another's by now.
        waiting += [pid for pid in children.get(os.getpid(), ()) if pid not in self.strangers]
        found: dict[int, Entry] = {}
        while waiting:
            pid = waiting.pop()
            if pid in table and pid not in found:
                found[pid] = table[pid]
                self.processes.setdefault((pid, table[pid].start), table[pid].name)
                waiting += children.get(pid, ())
        for pid, entry in found.items():
            if not entry.alive and entry.parent == os.getpid() and pid != self.root:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        living = {pid: entry for pid, entry in found.items() if entry.alive}
        self._number(living)
        return living

    def _number(self, living: Iterable[int]) -> None:
        there = self._names.living()
        own = {kind: _link(os.getpid(), f"ns/{kind}") for kind in _NAMESPACES}
        for pid in living:
            spaces = {kind: _link(pid, f"ns/{kind}") for kind in _NAMESPACES}
            self.spaces |= {link for link in spaces.values() if link}
            places = {f"/proc/{pid}/ns/net": spaces["net"]}
            with contextlib.suppress(OSError):
                if spaces["net"] != own["net"]:
                    places |= {
                        f"/proc/{pid}/fd/{name}": _link(pid, f"fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")
                    }
                if spaces["mnt"] != own["mnt"]:
                    for file in os.scandir(f"/proc/{pid}/root/run/netns"):
                        places[file.path] = f"net:[{os.stat(file.path).st_ino}]"
            for place, link in places.items():
                if not link.startswith("net:") or link == own["net"] or self.namespaces.get(link) in there:
                    continue
                with contextlib.suppress(OSError):
                    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
                    if (number := self._names.give(descriptor)) is not None:
                        self.namespaces[link] = number
                        there.add(number)
                    os.close(descriptor)

    def left(self) -> list[str]:
        """Return what is left of the run, a sentence each."""
        sentences = [f"process {pid} ({entry.name}) lives" for pid, entry in self.poll().items()]
        there = self._names.living()
        return sentences + [f"{link} is there" for link, number in self.namespaces.items() if number in there]

    def interfaces_freed(self, timeout: float) -> bool:
        """Wait until the interfaces of all ended namespaces are freed as well. Raises OSError.

        The kernel ends namespaces on one ordered work queue (``net/core/net_namespace.c``): when a namespace that was
        let go later has ended, so have those before it.
        """
        descriptor = kernel.new_network_namespace()
        number = self._names.give(descriptor)
        os.close(descriptor)
        return wait(lambda: number not in self._names.living(), timeout) is not None

    def end(self) -> None:
        """Kill what is left, and nothing that has since been given the number of one of its processes."""
        for pid, entry in self.poll().items():
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                again = process_table().get(pid)
                if again is not None and again.start == entry.start:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                os.close(descriptor)


def wait(condition: Callable[[], object], timeout: float) -> float | None:
    """Return how long (seconds) it took until the condition held, or None."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout:
            return None
        time.sleep(0.01)
    return time.monotonic() - start
