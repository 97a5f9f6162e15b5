"""Hosts as a user's own SSH configuration knows them: names, jump hosts, keys, commands; a real sshd answers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.host import until
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.ssh.connection import SshLink
from channover.hosts.ssh.process import RemoteProcess, connection_of
from channover.hosts.ssh.shell import PATH
from channover.hosts.ssh.user_config import completed
from tests.support.sshd import Server

pytestmark = pytest.mark.lab


@pytest.fixture
def server(two_hosts: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    assert isinstance(two_hosts.left, NamespaceHost)
    two_hosts.left.run("ip", "link", "set", "lo", "up")
    return Server(two_hosts.left, tmp_path)


@pytest.fixture
def gate(server: Server) -> Iterator[int]:
    """The port of an sshd behind which there is another one, on port 2222 of its own loopback device."""
    host, folder = server.host, server.folder
    config = host.read(f"{host.folder}/sshd_config")
    host.write(f"{host.folder}/inner_config", f"{config}Port 2222\nListenAddress 127.0.0.1\nPidFile none\n")
    sshd = host.spawn("/usr/sbin/sshd", "-D", "-f", f"{host.folder}/inner_config")
    until(lambda: "2222" in host.run("ss", "-Hltn", quiet=True).stdout, "the sshd to listen", 10)
    with server.listening() as port:
        (folder / ".ssh" / "known_hosts").write_text(f"lab {(folder / 'host.pub').read_text()}")
        yield port
    sshd.stop()


def configured(server: Server, text: str, port: int = 22) -> None:
    head = f"Host *\n  IdentityFile {server.folder}/client\n  HostKeyAlias lab\n"
    gates = f"Host gate\n  HostName 127.0.0.1\n  Port {port}\nHost inner bench\n  HostName 127.0.0.1\n  Port 2222\n"
    (server.folder / ".ssh" / "config").write_text(f"{text}\n{gates}{head}")


def test_a_chain_of_jump_hosts(server: Server, gate: int) -> None:
    configured(server, "Host bench\n  ProxyJump gate,root@inner", gate)
    link = SshLink("left", completed("bench"))
    assert connection_of(link).split()[2:] == ["127.0.0.1", "2222"] and len(link._gates) == 2
    link.close()
    configured(server, "Host gate\n  User stranger\nHost bench\n  ProxyJump gate,inner", gate)
    words = (
        r"left's jump host: stranger@127.0.0.1 port .*\('gate' in .*\) refuses .*/client: .*or see ProxyJump in ~/.ssh"
    )
    with pytest.raises(TestbedError, match=words):
        SshLink("left", completed("bench")).open()


def test_host_keys_are_refused_all_the_same(server: Server, gate: int) -> None:
    (server.folder / ".ssh" / "known_hosts").write_text("")
    for line in ("StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "StrictHostKeyChecking accept-new"):
        configured(server, f"Host gate\n  {line}\n  StrictHostKeyChecking no", gate)
        with pytest.raises(TestbedError, match=r"the host key of .* is unknown"):
            SshLink("left", completed("gate")).open()


def test_a_command_carries_the_connection(server: Server, gate: int) -> None:
    command = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/%p; cat <&3 & exec cat >&3'"
    configured(server, f"Host far\n  HostName nowhere.invalid\n  Port {gate}\n  ProxyCommand {command}")
    link = SshLink("left", completed("far"))
    assert connection_of(link)
    link.close()
    configured(server, "Host far\n  ProxyCommand echo no way")
    with pytest.raises(
        TestbedError, match=r"cannot reach far port 22 through 'echo no way' \(ProxyCommand\): it says 'no"
    ):
        SshLink("left", completed("far")).open()


def test_of_an_agents_many_keys_the_named_one_comes_first(
    server: Server, gate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.configure("MaxAuthTries 2")
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short (unix(7))
        socket = f"{folder}/agent"
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
        try:
            until(lambda: Path(socket).exists(), "the agent", 10)
            monkeypatch.setenv("SSH_AUTH_SOCK", socket)
            for name in ("one", "two", "three"):
                server.keygen(name)
                subprocess.run(["ssh-add", "-q", server.folder / name], check=True)
            subprocess.run(["ssh-add", "-q", server.folder / "client"], check=True)
            shutil.copy(
                server.folder / "client.pub", server.folder / "named.pub"
            )  # the private key is the agent's alone
            monkeypatch.delenv("SSH_AUTH_SOCK")
            for lines in (
                f"IdentityFile {server.folder}/named\n  IdentityAgent {socket}",
                f"IdentityFile {server.folder}/named.pub\n  IdentityAgent {socket}\n  IdentitiesOnly yes",
            ):
                configured(server, f"Host gate\n  {lines}", gate)
                link = SshLink("left", completed("gate"))
                link.open()
                link.close()
            monkeypatch.setenv("SSH_AUTH_SOCK", socket)
            for word, keys in (("yes", 4), ("no", 0)):
                configured(server, f"Host gate\n  IdentityFile {server.folder}/named\n  ForwardAgent {word}", gate)
                link = SshLink("left", completed("gate"))
                words = ("sh", "-c", "ssh-add -l 2>/dev/null | grep -c SHA256 || :")
                process = RemoteProcess(link, words, {"PATH": PATH}, lambda *_: None, passed=("SSH_AUTH_SOCK",))
                process.begun(30)
                process.wait(30)
                assert process.stdout == f"{keys}\n"
                link.close()
            monkeypatch.delenv("SSH_AUTH_SOCK")
            configured(server, f"Host gate\n  {lines}", gate)
            text = (server.folder / ".ssh" / "config").read_text().replace(f"{server.folder}/client", "none")
            (server.folder / ".ssh" / "config").write_text(text.replace("named.pub", "absent"))
            with pytest.raises(TestbedError, match="there is no key to log in to"):
                SshLink("left", completed("gate")).open()
        finally:
            agent.kill()
            agent.wait()
