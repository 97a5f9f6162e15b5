"""What the user's own SSH configuration adds to an inventory: ``ssh`` itself reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.ssh.connection import Login
from channover.hosts.ssh.user_config import Hop, completed

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh: apt-get install openssh-client")

CONFIG = """
Include more
Host Bench
  HostName 192.0.2.11
  Port 2201
  User lab
  IdentityFile "~/.ssh/%h key"
  IdentitiesOnly yes
  IdentityAgent ~/agent.sock
  UserKnownHostsFile ~/.ssh/benches
  HostKeyAlias bench-key
  ProxyJump me@gate:2200,inner
Host inner
  HostName 10.0.0.1
  ProxyJump never-asked
Host gate
  ProxyJump outer
Host outer
  HostName 203.0.113.1
Host commanded
  ProxyCommand connect %h %p %r 100%%
Match host matched exec "true"
  Port 77
Host round
  ProxyJump about
Host about
  ProxyJump round
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    file = tmp_path / ".ssh" / "config"
    file.write_text(CONFIG.replace("Include more", f"Include {tmp_path}/more"))
    (tmp_path / "more").write_text("Host included\n  HostName 192.0.2.99\n")
    return file


def test_what_is_left_out_is_the_configurations(config: Path) -> None:
    home, found = config.parent.parent, completed("Bench")
    assert (found.address, found.port, found.user) == ("192.0.2.11", 2201, "lab")
    assert found.own.identities == (home / ".ssh" / "192.0.2.11 key",) and found.own.identities_only
    assert found.own.agent.endswith("/agent.sock") and found.own.key_alias == found.name_of_key == "bench-key"
    assert found.own.known_hosts[0].name == "benches" and found.where.endswith("('Bench' in ~/.ssh/config)")
    assert found.way == "root@203.0.113.1:22,me@gate:2200,root@10.0.0.1:22", "the first hop's own way, then the list"
    assert found.jump is not None and found.jump.own.jumped
    assert completed("included").address == "192.0.2.99"
    assert (completed("matched").port, completed("bench").address) == (77, "bench"), "names tell case, as ssh does"


@pytest.mark.usefixtures("config")
def test_what_the_inventory_names_counts(tmp_path: Path) -> None:
    key = tmp_path / "key"
    found = completed("Bench", 22, "root", key=key, known_hosts=key, jump=Hop("outer", 1022, "me"), sudo=True)
    assert (found.address, found.port, found.user, found.sudo) == ("192.0.2.11", 22, "root", True)
    assert found.way == "me@203.0.113.1:1022", "the host on the way is looked up too"
    assert found.jump is not None
    assert (found.jump.key, found.jump.known_hosts, found.jump.sudo) == (key, key, False)
    assert not found.jump.own.jumped


def test_without_a_word_of_it_all_is_as_it_was(config: Path) -> None:
    for text in (CONFIG.replace("Include more", ""), None):
        config.write_text(text) if text else config.unlink()
        found = completed("192.0.2.1")
        assert (found.address, found.port, found.user, found.jump) == ("192.0.2.1", 22, "root", None)
        assert found.known_file == config.parent / "known_hosts"
        assert found.where == "192.0.2.1 port 22"


@pytest.mark.usefixtures("config")
def test_a_command_that_carries_the_connection() -> None:
    assert completed("commanded").own.command == "connect commanded 22 root 100%"
    assert completed("commanded", jump=Hop("gate")).own.command == "", "the inventory's own way counts"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Host x\n  Nonsense yes\n", r"~/.ssh/config cannot be read: .*[Bb]ad configuration option: nonsense"),
        ("Host x\n  Port many\n", r"~/.ssh/config cannot be read: .*line 2: Bad port 'many'"),
        (CONFIG.replace("Include more", ""), r"ProxyJump in ~/.ssh/config leads in a circle: x by way of round by way"),
    ],
)
def test_a_configuration_that_is_wrong_is_one_line(config: Path, text: str, words: str) -> None:
    config.write_text(text + "Host x\n  ProxyJump round\n")
    with pytest.raises(TestbedError, match=words) as caught:
        completed("x")
    assert "\n" not in str(caught.value)


def test_without_ssh_the_configuration_is_not_passed_over(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TestbedError, match=r"cannot be read without .*install openssh-client"):
        completed("Bench")
    config.unlink()
    assert completed("Bench") == Login("Bench")
