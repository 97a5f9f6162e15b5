"""What a file of trusted host keys says of a host: OpenSSH's own programs make the files, and are asked the same."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from channover.hosts.ssh.known_hosts import known, like


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a public key, kind and all."""
    file = tmp_path_factory.mktemp("keys") / "host"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file], check=True)
    return file.with_suffix(".pub").read_text().strip()


def vouched(file: Path, key: str, address: str = "192.0.2.9", port: int = 22) -> bool:
    """Whether a file vouches for a key."""
    return known(address, port, file).vouches(base64.b64decode(key.split()[1]))


BAD = {
    "cut off": b"192.0.2.9 ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ",
    "cut off in its kind": b"192.0.2.9 ssh-ed25519 AAAAC3Nz",
    "cut off before its key": b"192.0.2.9 ssh-ed25519",
    "a lone word": b"192.0.2.9",
    "a comment in Latin-1": "# Büro, Gerät im Keller".encode("latin-1"),
    "a name in Latin-1": "büro ssh-ed25519 AAAA".encode("latin-1"),
    "a hash that is none": b"|1|nonsense ssh-ed25519 AAAA",
    "a hash of two parts": b"|1|bm9uc2Vuc2U= ssh-ed25519 AAAA",
    "a hash of another version": b"|2|bm9uc2U=|bm9uc2U= ssh-ed25519 AAAA",
    "no base64": b"192.0.2.9 ssh-ed25519 !!!!",
    "another kind than it says": b"192.0.2.9 ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "an unknown kind": b"192.0.2.9 ssh-new AAAAC3Nz",
    "SSH 1": b"192.0.2.9 1024 35 1234567890",
    "an unknown marker": b"@unknown 192.0.2.9 ssh-ed25519 AAAA",
    "a marker alone": b"@revoked",
    "bytes": bytes(range(1, 10)) + bytes(range(11, 256)),
    "NUL": b"\0" * 100,
    "a very long line": b"x" * 3_000_000,
    "many stars": b"*a" * 40 + b"b ssh-ed25519 AAAA",
    "spaces": b" \t  ",
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_that_cannot_be_read_is_passed_over(tmp_path: Path, key: str, line: bytes, end: bytes) -> None:
    file = tmp_path / "known"
    file.write_bytes(line + end + f"192.0.2.9 {key} somebody@somewhere".encode() + end)
    assert vouched(file, key)
    file.write_bytes(line)
    assert not vouched(file, key)


@pytest.mark.parametrize(
    ("hosts", "means"),
    [
        ("192.0.2.9", True),
        ("192.0.2.9,lab.example", True),
        ("192.0.2.?", True),
        ("192.0.?.2", False),
        ("192.0.*", True),
        ("*", True),
        ("192.0.2.?,!192.0.2.9", False),
        ("!192.0.2.9,192.0.2.?", False),
        ("192.0.2.?,!192.0.2.8", True),
        ("!192.0.2.8", False),
        ("[192.0.2.9]:22", False),
        ("[192.0.2.9]:2222", False),
        ("lab", False),
    ],
)
def test_patterns_count(tmp_path: Path, key: str, hosts: str, means: bool) -> None:
    file = tmp_path / "known"
    file.write_text(f"{hosts} {key}\n")
    assert vouched(file, key) == means
    asked = subprocess.run(["ssh-keygen", "-F", "192.0.2.9", "-f", file], capture_output=True, check=False)
    assert (asked.returncode == 0) == means, "OpenSSH says otherwise"


def test_a_port_of_its_own_and_names_in_any_case(tmp_path: Path, key: str) -> None:
    file = tmp_path / "known"
    file.write_text(f"[Lab.Example]:2222,[192.0.2.*]:2222 {key}\n")
    assert vouched(file, key, "lab.EXAMPLE", 2222) and vouched(file, key, "192.0.2.9", 2222)
    assert not vouched(file, key, "lab.example") and not vouched(file, key, "lab.example", 2223)
    file.write_text(f"lab.example {key}\n")
    assert vouched(file, key, "lab.example", 2223), "as ssh: the host, at a port that nobody has named"
    assert known("lab.example", 2223, file).keys == []


def test_hashed_names(tmp_path: Path, key: str) -> None:
    file = tmp_path / "known"
    file.write_text(f"192.0.2.9 {key}\n[192.0.2.10]:2222 {key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "192.0.2" not in file.read_text()
    assert vouched(file, key) and vouched(file, key, "192.0.2.10", 2222)
    assert not vouched(file, key, "192.0.2.10") and not vouched(file, key, "192.0.2.8")


def test_a_revoked_key_is_refused_whatever_else_vouches_for_it(tmp_path: Path, key: str) -> None:
    file = tmp_path / "known"
    for lines in (f"192.0.2.9 {key}\n@revoked * {key}\n", f"@revoked 192.0.2.9 {key}\n192.0.2.9 {key}\n"):
        file.write_text(lines)
        assert not vouched(file, key)
        assert known("192.0.2.9", 22, file).revoked
    file.write_text(f"192.0.2.9 {key}\n@revoked 192.0.2.8 {key}\n")
    assert vouched(file, key)


def test_an_authoritys_key_is_no_hosts_key(tmp_path: Path, key: str) -> None:
    file = tmp_path / "known"
    file.write_text(f"@cert-authority *.0.2.9 {key}\n")
    assert not vouched(file, key)
    assert known("192.0.2.9", 22, file).authority


def test_a_mark_of_byte_order_and_a_comment_after_nul(tmp_path: Path, key: str) -> None:
    file = tmp_path / "known"
    file.write_bytes(b"\xef\xbb\xbf" + f"192.0.2.9 {key}".encode() + b" me\0\xff\r\n")
    assert known("192.0.2.9", 22, file).keys


def test_what_is_no_file_is_said_and_dev_null_knows_nobody(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        known("192.0.2.9", 22, tmp_path)
    with pytest.raises(FileNotFoundError):
        known("192.0.2.9", 22, tmp_path / "none")
    assert known("192.0.2.9", 22, Path("/dev/null")).keys == []


def test_the_usual_files_may_be_missing_or_folders(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh" / "known_hosts").mkdir(parents=True)
    (tmp_path / ".ssh" / "known_hosts2").write_text(f"192.0.2.9 {key}\n")
    assert known("192.0.2.9", 22).kinds == ["ssh-ed25519"]


@pytest.mark.parametrize(
    ("pattern", "name", "alike"),
    [
        ("", "", True),
        ("*", "", True),
        ("?", "", False),
        ("a*b*c", "abxbc", True),
        ("a*b*c", "abxb", False),
        ("[a]", "a", False),
    ],
)
def test_wildcards(pattern: str, name: str, alike: bool) -> None:
    assert like(pattern, name) is alike
