"""What keeps somebody from logging in, in one line with its remedy: keys, host keys, algorithms, a server's first words."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from channover.errors import TestbedError
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.ssh.connection import Login, SshLink
from channover.hosts.ssh.keys import KeyFault, opened
from channover.hosts.ssh.process import connection_of
from tests.support.sshd import Server

lab = pytest.mark.lab


@pytest.fixture
def server(two_hosts: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(two_hosts.left, NamespaceHost)
    return Server(two_hosts.left, tmp_path)


def refused(link: SshLink) -> str:
    """Return why a link does not open, which is one line."""
    with pytest.raises(TestbedError) as caught:
        link.open()
    said = str(caught.value)
    assert "\n" not in said and said.startswith("left: ")
    return said


# keys


def keygen(path: Path, *options: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "", "-f", path, *options], check=True)
    return path


KINDS = (["-t", "rsa"], ["-t", "rsa", "-m", "PEM"], ["-t", "rsa", "-m", "PKCS8"], ["-t", "ecdsa"],
         ["-t", "ecdsa", "-m", "PEM"], ["-t", "ed25519"])  # fmt: skip


@lab
@pytest.mark.parametrize("options", KINDS, ids=" ".join)
def test_a_key_that_the_host_refuses_is_named_as_such_and_one_that_it_takes_works(
    server: Server, tmp_path: Path, options: list[str]
) -> None:
    key = keygen(tmp_path / "key", *options)
    said = refused(server.link(key=key))
    assert f"root@lab port 22 refuses the key {key}: ssh-copy-id, or see ssh.user and ssh.key" in said
    server.host.write(f"{server.host.folder}/client.pub", (tmp_path / "key.pub").read_text())
    link = server.link(key=key)
    assert connection_of(link)
    link.close()
    key.chmod(0o644)  # ssh would not take it; it is the user's to say
    link = server.link(key=key)
    link.open()
    link.close()


@lab
def test_without_a_key_in_the_inventory_the_users_own_serve(server: Server, tmp_path: Path) -> None:
    assert "there is no key to log in to lab port 22 with" in refused(server.link(key=None))
    home = tmp_path / ".ssh"
    home.mkdir()
    (home / "id_rsa").write_text("no key at all")
    assert "there is no key to log in to lab" in refused(server.link(key=None))
    keygen(home / "id_ecdsa", "-t", "ecdsa")
    assert "refuses every key of the agent and of ~/.ssh: ssh-copy-id" in refused(server.link(key=None))
    shutil.copy(tmp_path / "client", home / "id_ed25519")
    link = server.link(key=None)
    link.open()
    link.close()


@lab
def test_a_certificate_beside_the_key_is_shown_first(server: Server, tmp_path: Path) -> None:
    authority, key = keygen(tmp_path / "ca", "-t", "ed25519"), keygen(tmp_path / "key", "-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "me", "-n", "root", f"{key}.pub"], check=True)
    server.configure(f"TrustedUserCAKeys {server.host.folder}/ca.pub")
    server.host.write(f"{server.host.folder}/ca.pub", (tmp_path / "ca.pub").read_text())
    link = server.link(key=key)
    link.open()
    link.close()
    server.host.write(
        f"{server.host.folder}/ca.pub", ""
    )  # the authority is another one, and the key is known by itself
    server.host.write(f"{server.host.folder}/client.pub", (tmp_path / "key.pub").read_text())
    link = server.link(key=key)
    link.open()
    link.close()
    with pytest.raises(KeyFault, match=r"key-cert\.pub is a certificate; name the private key's file"):
        opened(tmp_path / "key-cert.pub")


@lab
def test_a_host_that_takes_no_keys_or_wants_more(server: Server) -> None:
    server.configure("PubkeyAuthentication no", "PasswordAuthentication yes")
    assert "it takes no keys, but password" in refused(server.link())


@lab
def test_a_host_that_ends_the_connection_after_some_keys(server: Server, tmp_path: Path) -> None:
    server.configure("MaxAuthTries 2")
    (tmp_path / ".ssh").mkdir()
    for kind in ("rsa", "ecdsa", "ed25519"):
        keygen(tmp_path / ".ssh" / f"id_{kind}", "-t", kind)
    assert "it ended the connection after 2 keys (MaxAuthTries): name the one in ssh.key" in refused(
        server.link(key=None)
    )


def made(private: object, encoding: str, form: str) -> bytes:
    return private.private_bytes(  # type: ignore[attr-defined,no-any-return]
        getattr(serialization.Encoding, encoding),
        getattr(serialization.PrivateFormat, form),
        serialization.NoEncryption(),
    )


def security_key() -> bytes:
    """The form of such a file: it holds no secret, and needs no security key."""

    def text(*parts: bytes) -> bytes:
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)

    public = text(b"sk-ssh-ed25519@openssh.com", b"\x01" * 32, b"ssh:")
    blob = b"openssh-key-v1\0" + text(b"none", b"none", b"") + b"\0\0\0\x01" + text(public, b"\0" * 64)
    body = base64.encodebytes(blob).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}-----END OPENSSH PRIVATE KEY-----\n".encode()


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "DSA": (lambda: made(dsa.generate_private_key(1024), "PEM", "TraditionalOpenSSL"), "is a DSA key, which SSH servers"),
    "DSA, PKCS#8": (lambda: made(dsa.generate_private_key(1024), "PEM", "PKCS8"), r"of a kind \(DSA\) .*ssh-keygen -t ed25519"),
    "Ed448": (lambda: made(ed448.Ed448PrivateKey.generate(), "PEM", "PKCS8"), r"a kind \(Ed448\) .*ssh-keygen -t ed25519"),
    "DER": (lambda: made(rsa.generate_private_key(65537, 2048), "DER", "PKCS8"), "is in DER; convert it: openssl pkey -inform"),
    "DER of its own": (lambda: made(ec.generate_private_key(ec.SECP256R1()), "DER", "TraditionalOpenSSL"), "is in DER"),
    "empty": (lambda: b"", "is empty"),
    "blank": (lambda: b" \n\n", "is empty"),
    "public": (lambda: b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAA me", "is a public key; name the private key's file"),
    "public, PEM": (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is a public key"),
    "public, RFC 4716": (lambda: b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "is a public key"),
    "X.509": (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is an X.509 certificate"),
    "PuTTY": (lambda: b"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "is PuTTY's; convert it: puttygen"),
    "cut off": (
        lambda: made(ed25519.Ed25519PrivateKey.generate(), "PEM", "OpenSSH")[:200],
        "holds no private key that can be read",
    ),
    "cut off, PEM": (
        lambda: made(rsa.generate_private_key(65537, 2048), "PEM", "TraditionalOpenSSL")[:500],
        "holds no private key that can be read",
    ),
    "text": (lambda: b"my key is somewhere else\n", "is in no form that SSH knows"),
    "binary": (lambda: bytes(range(256)) * 10, "is in no form that SSH knows"),
    "a head without a body": (lambda: b"-----BEGIN OPENSSH PRIVATE KEY-----\n!!\n-----END OPENSSH", "holds no"),
    "UTF-16": (lambda: "-----BEGIN OPENSSH PRIVATE KEY-----".encode("utf-16"), "is in no form that SSH knows"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), FILES.values(), ids=FILES.keys())
def test_a_file_that_is_no_key_of_use_is_named_with_the_remedy(
    tmp_path: Path, content: Callable[[], bytes], words: str
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content())
    with pytest.raises(KeyFault, match=f"the key {file} .*{words}"):
        opened(file)
    link = SshLink("left", Login("127.0.0.1", 1, key=file))
    assert f"the key {file} " in refused(link) and "see ssh.key in the inventory" in refused(link)


def test_what_is_no_file_at_all(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "none", "is not there"),
        (Path("/dev/null"), "is no file"),
    ):
        with pytest.raises(KeyFault, match=words):
            opened(path)


def test_a_key_that_only_an_agent_can_use(tmp_path: Path) -> None:
    file = tmp_path / "key"
    for options in (["-t", "ed25519"], ["-t", "rsa", "-m", "PEM"], ["-t", "rsa", "-m", "PKCS8"]):
        file.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-N", "a passphrase", "-f", file, *options], check=True)
        assert opened(file).agents == "has a passphrase"
    file.write_bytes(security_key())
    assert opened(file).agents == "needs its security key"


def test_pkcs8_of_any_kind_is_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    for private in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        file.write_bytes(made(private, "PEM", "PKCS8"))
        assert opened(file).keys
    file.write_bytes(made(ed25519.Ed25519PrivateKey.generate(), "PEM", "PKCS8"))
    assert opened(file).keys


# host keys


@lab
def test_a_file_of_host_keys_with_anything_in_it_serves(server: Server) -> None:
    file = server.folder / "known_hosts"
    good = file.read_bytes()
    bad = (
        b"lab ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ\n# B\xfcro\n|1|nonsense ssh-ed25519 AAAA\n\0\0\r\n"
        + b"x" * 100_000
        + b"\n"
    )
    file.write_bytes(b"\xef\xbb\xbf" + bad + good.replace(b"lab ", b"l?b,!lob "))
    link = server.link()
    link.open()
    link.close()
    file.write_bytes(bad)
    assert "the host key of lab is unknown" in refused(server.link())
    file.write_bytes(good + b"@revoked * " + good.partition(b" ")[2])
    assert "the host key of lab is revoked in" in refused(server.link())
    file.write_bytes(b"@cert-authority l* " + good.partition(b" ")[2])
    assert "a certificate authority in" in refused(server.link())


@lab
def test_of_several_host_keys_the_known_one_is_asked_for(server: Server, tmp_path: Path) -> None:
    for kind in ("rsa", "ecdsa"):
        keygen(tmp_path / kind, "-t", kind)
        server.host.write(f"{server.host.folder}/{kind}", (tmp_path / kind).read_text(), 0o600)
        server.configure(f"HostKey {server.host.folder}/{kind}")
    for kind in ("rsa", "ecdsa", "host"):
        (tmp_path / "known_hosts").write_text(f"lab {(tmp_path / f'{kind}.pub').read_text()}")
        link = server.link()
        link.open()
        link.close()


@pytest.mark.parametrize(("place", "words"), [(".", "Is a directory"), ("none", "No such file")])
def test_a_file_of_host_keys_that_cannot_be_read_is_named(tmp_path: Path, place: str, words: str) -> None:
    keygen(tmp_path / "key", "-t", "ed25519")
    link = SshLink("left", Login("127.0.0.1", 1, key=tmp_path / "key", known_hosts=tmp_path / place))
    assert f"cannot read {tmp_path / place}: {words}" in refused(link)


# algorithms


@lab
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["Ciphers chacha20-poly1305@openssh.com"],
         r"no cipher in common: it offers chacha20-poly1305@openssh.com, and here there is aes.*; add one of these to Ciphers"),
        (["KexAlgorithms sntrup761x25519-sha512@openssh.com"],
         r"no key exchange in common: it offers sntrup761x25519-sha512@openssh.com, and .*curve25519.* to KexAlgorithms in"),
        (["MACs umac-64@openssh.com", "Ciphers aes128-ctr"],
         r"no MAC in common: it offers umac-64@openssh.com, and here there is hmac.*; add one of these to MACs in"),
        (["HostKeyAlgorithms ssh-rsa", "HostKey {folder}/rsa"],
         r"no host key algorithm in common: it offers ssh-rsa, and here there is .*; add one of these to HostKeyAlgorithms"),
    ],
)  # fmt: skip
def test_without_an_algorithm_in_common_both_lists_and_the_option_are_named(
    server: Server, lines: list[str], words: str
) -> None:
    key = keygen(server.folder / "rsa", "-t", "rsa")
    server.host.write(f"{server.host.folder}/rsa", key.read_text(), 0o600)
    server.configure(*(line.format(folder=server.host.folder) for line in lines))
    said = refused(server.link())
    assert re.search(f"cannot reach lab port 22: {words}", said), said


@lab
def test_a_server_without_a_host_key_that_it_may_use_is_up_and_its_port_is_right(server: Server) -> None:
    server.configure("HostKeyAlgorithms rsa-sha2-512")
    said = refused(server.link())
    assert "it speaks SSH, and ends the connection" in said and "HostKeyAlgorithms (ssh-keygen -A)" in said
    assert "is the host up" not in said


# first words


@contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Answer each connection to a port of 127.0.0.1; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            while True:
                try:
                    one, _ = door.accept()
                except OSError:  # the door is shut
                    return
                with one, suppress(OSError):
                    answer(one)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(door.getsockname()[1])
        door.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return keygen(tmp_path / "key", "-t", "ed25519")


def endless(one: socket.socket) -> None:
    while True:
        one.sendall(b"x" * 1000)


def lines(one: socket.socket) -> None:
    for _ in range(5000):
        one.sendall(b"no SSH here\r\n")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda one: one.sendall(b"Exceeded MaxStartups\r\n"), "it says 'Exceeded MaxStartups', and no SSH"),
        (lambda one: one.sendall(b"Not allowed at this time"), "it says 'Not allowed at this time', and no SSH"),
        (lambda one: one.sendall("Büro zu\n".encode("latin-1")), "it says 'B�ro zu', and no SSH"),
        (lambda one: one.sendall(b"\x1b[2J\x07beep\r\n"), "it says '?[2J?beep', and no SSH"),
        (lambda one: one.sendall(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"), "it says 'HTTP/1.1 400 Bad Request Server"),
        (lambda one: one.sendall(b"220 mail.example ESMTP\r\n"), "it says '220 mail.example ESMTP', and no SSH"),
        (lambda one: one.sendall(b"\x16\x03\x01\x02\x00\xff\xfe"), "it says '"),
        (lambda one: one.sendall(b"SSH-1.5-old\n"), "an SSH of before 2006; bring its SSH server up to date"),
        (lambda one: one.shutdown(socket.SHUT_RDWR), "it ends the connection without a word; see MaxStartups"),
        (endless, "it says 'xxxx"),
        (lines, "it says 'no SSH here no SSH here"),
    ],
)  # fmt: skip
def test_what_a_server_says_before_ssh_is_repeated(
    key: Path, answer: Callable[[socket.socket], object], words: str
) -> None:
    start = time.monotonic()
    with answering(answer) as port:
        said = refused(SshLink("left", Login("127.0.0.1", port, key=key)))
    assert f"cannot reach 127.0.0.1 port {port}: {words}" in said or words in said
    assert len(said) < 600 and said.isprintable() and time.monotonic() - start < 15
    assert not [each for each in threading.enumerate() if type(each).__name__ == "Wire" and each.is_alive()], (
        "it goes on"
    )


def test_a_server_that_says_nothing(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channover.hosts.ssh.connection.CONNECT_TIMEOUT", 1.0)
    for start, words in ((b"", "it says nothing within 1 s"), (b"wait", "it says 'wait', and no SSH, within 1 s"),
                         (b"SSH-2.0-slow\r\n", "it agrees on no keys within 1 s")):  # fmt: skip
        gone = threading.Event()
        with answering(lambda one, start=start, gone=gone: (one.sendall(start), gone.wait(20))) as port:  # type: ignore[misc]
            assert words in refused(SshLink("left", Login("127.0.0.1", port, key=key)))
            gone.set()


def test_a_key_that_cannot_be_read_by_who_runs_this(key: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may read every file: run the tests as another user")
    key.chmod(0)
    with pytest.raises(KeyFault, match=r"cannot be read .*see its permissions"):
        opened(key)


@lab
def test_the_command_reads_a_host_whose_files_are_those_of_years(server: Server, tmp_path: Path) -> None:
    host = server.host
    host.write(f"{host.folder}/.bashrc", "echo Welcome; printf more >&2\n")
    for words in ("link set eth1 up", "address add 192.0.2.11/24 dev eth1", "route add default via 192.0.2.1"):
        host.run("ip", *words.split())
    with server.listening() as port:
        known = tmp_path / "known_hosts"
        good = known.read_bytes()
        known.write_bytes(
            b"192.0.2.9 ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ\n# B\xfcro\n|1|nonsense ssh-ed25519 AAAA\n" + good
        )
        command = [sys.executable, "-m", "channover.cli.main", "inventory", "discover", f"root@127.0.0.1:{port}"]
        options = ["--key", str(tmp_path / "client"), "--known-hosts", str(known)]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "management: eth1" in done.stdout
        (tmp_path / "client").write_bytes(made(dsa.generate_private_key(1024), "PEM", "TraditionalOpenSSL"))
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
        assert "is a DSA key" in done.stderr
