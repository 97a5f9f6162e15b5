"""A dry run of pytest leaves nothing that can be signed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import channover
from tests.support import keys
from tests.support.commands import command

key = keys.key

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen: install openssh-client")


@pytest.mark.lab
def test_a_dry_run_cannot_be_signed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(channover.__file__).parent.parent))
    pytester.makepyfile(
        """
        from channover.testing import behaviour, near

        @behaviour("LAG-1")
        def test_one(lag, tcp):
            assert tcp(lag.left, lag.right).goodput == near(lag.link.tcp_goodput)
        """
    )
    pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--dry-run", "--no-report")
    capsys.readouterr()
    assert command("sign-off", pytester.path / "reports" / "latest", "--key", key, "--anyway") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and ("no results.json" in said.err or "no test was run" in said.err)
    assert not list(pytester.path.rglob("*.zip"))
