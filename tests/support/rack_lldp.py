"""What a rack's switches tell of themselves by LLDP (IEEE 802.1AB), by lldpd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.rack import Switch, daemon

SETTINGS = """configure system hostname {name}
configure lldp portidsubtype ifname
configure lldp tx-interval 300ms
"""
INSIDE = """
mount -t tmpfs none /run
mkdir /run/lldpd
printf %s "$1" >/run/lldpd.conf
shift
"$@"
"""
"""Where lldpd keeps its socket and its chroot, and reads its settings as a user of its own: the machine may have another one.

The shell stays: as it is killed, all in its process namespace are.
"""


@contextmanager
def speaking(switch: Switch, name: str, ports: Sequence[str]) -> Iterator[None]:
    """Have a switch tell its name and its port by LLDP on some of its ports, three times a second."""
    program = daemon("lldpd", "lldpd becomes a user of its own")
    inside = ("nsenter", f"--net=/proc/{switch.pid}/ns/net")
    alone = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", INSIDE, "sh")
    words = (SETTINGS.format(name=name), program, "-d", "-u", "/run/lldpd.socket")
    options = ("-I", ",".join(ports), "-O", "/run/lldpd.conf")
    process = subprocess.Popen(
        [*inside, *alone, *words, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
