"""Where the community and the users of SNMP are from: a file or the environment, and never a word of them elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from channover.errors import UsageError
from channover.hosts.snmp.credentials import PREFIX, credentials


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "snmp.conf"


def test_a_file_as_net_snmp_has_it(file: Path) -> None:
    file.write_text("# ours\ndefversion 2c\nDEFCOMMUNITY 'two words'\n")
    found = credentials(file)
    assert (found.version, found.community, found.source) == ("v2c", "two words", str(file))
    assert "two words" not in repr(found)
    file.write_text("defSecurityName me\ndefPassphrase 'long enough'\ndefAuthType sha-512\ndefPrivType AES-256\n")
    found = credentials(file)
    assert (found.version, found.user, found.auth, found.priv) == ("v3", "me", "long enough", "long enough")
    assert (found.auth_type, found.priv_type) == ("SHA-512", "AES-256") and "long enough" not in repr(found)


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}COMMUNITY", "quiet")
    assert credentials(None).community == "quiet"
    monkeypatch.setenv(f"{PREFIX}USER", "me")
    assert (credentials(None).version, credentials(None).auth) == ("v3", "")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is no community and no user for SNMP in .*: it needs defCommunity"),
        ("defCommunity 'open", r"snmp\.conf:1: a quotation mark is left open"),
        ("defSecurityName me\ndefAuthPassphrase hunter2", "has at least 8 characters"),
        ("defSecurityName me\ndefPrivPassphrase hunter2222", "no privacy without authentication"),
        ("defSecurityName me\ndefAuthType hunter2", "defAuthType is none of MD5, SHA"),
    ],
)
def test_what_cannot_serve_is_named_without_the_secret(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        credentials(file)
    assert "hunter2" not in str(caught.value)
    file.unlink()
    with pytest.raises(UsageError, match=r"cannot be read: No such file .*see snmp.config"):
        credentials(file)
