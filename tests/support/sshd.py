"""A real sshd in a namespace host, whose connections are sockets: a host behind SSH without a machine for it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from channover.hosts.netns.host import NamespaceHost
from channover.hosts.ssh.connection import Login, SshLink


@dataclass
class Server:
    """An sshd of a namespace host that serves one connection at a time, each over a socket of its own."""

    host: NamespaceHost
    folder: Path

    def __post_init__(self) -> None:
        self.keygen("host")
        self.keygen("client")
        for name in ("host", "client.pub"):
            self.host.write(f"{self.host.folder}/{name}", (self.folder / name).read_text(), 0o600)
        config = (
            f"HostKey {self.host.folder}/host\nAuthorizedKeysFile {self.host.folder}/client.pub\nStrictModes no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nUsePAM no\n"
            f"SetEnv HOME={self.host.folder}\n"  # the start-up files of this machine's shells are no part of the host
        )
        self.host.write(f"{self.host.folder}/sshd_config", config)
        key = (self.folder / "host.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"lab {key[0]} {key[1]}\n")
        self.login = Login("lab", key=self.folder / "client", known_hosts=self.folder / "known_hosts")

    def keygen(self, name: str) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
        subprocess.run(command, check=True)

    def sock(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._serve(theirs)
        return ours

    def _serve(self, theirs: socket.socket) -> None:
        with theirs, open("/dev/null", "w") as nowhere:
            number = theirs.fileno()
            command = ("/usr/sbin/sshd", "-i", "-e", "-f", f"{self.host.folder}/sshd_config")
            self.host.lab.start(self.host.name, command, {}, (number, number, nowhere.fileno()))

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Answer on a port of 127.0.0.1, for controllers that are processes of their own; give the port."""
        with socket.create_server(("127.0.0.1", 0)) as door:
            port = int(door.getsockname()[1])
            key = (self.folder / "host.pub").read_text()
            (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}")

            def serve() -> None:
                with contextlib.suppress(OSError):  # the door is shut
                    while True:
                        self._serve(door.accept()[0])

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            yield port
            door.shutdown(socket.SHUT_RDWR)
            thread.join()

    def configure(self, *lines: str) -> None:
        """Add lines to sshd_config(5), before those that are there: the first value of an option counts."""
        file = f"{self.host.folder}/sshd_config"
        self.host.write(file, "\n".join(lines) + "\n" + self.host.read(file))

    def user(self, shell: str, *, name: str = "root", password: str = "") -> None:
        """Give a user of this lab, and no other, a login shell; one who is not root is made, and may log in with the key."""
        folder, number = self.host.folder, 0 if name == "root" else 4242
        made = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True, check=True
        )
        entry = f"{name}:{made.stdout.strip() if password else '*'}:{number}:{number}::{folder}:{shell}"
        others = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith(f"{name}:")]
        self.host.write(f"{folder}/passwd", "\n".join([entry, *others]) + "\n")
        self.host.run("sh", "-ec", 'chmod 755 "$1" "${1%/*}"; chmod 644 "$1/client.pub"', "sh", folder)
        self.host.run("mount", "--bind", f"{folder}/passwd", "/etc/passwd")

    def link(self, **changes: object) -> SshLink:
        return SshLink("left", replace(self.login, **changes), sock=self.sock())  # type: ignore[arg-type]
