"""A flow that falls short says so itself, to whoever runs pytest; here, since it measures and wants a machine of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.lab
def test_a_flow_that_falls_short_explains_itself(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "plugins"))
    pytester.makepyfile(
        """
        from channover.testing import Multipath, TrafficGenerator, at_least, behaviour

        @behaviour("MP-1")
        def test_too_much_is_expected(multipath: Multipath, tcp: TrafficGenerator) -> None:
            flow = tcp(multipath.left, multipath.right)
            assert flow.goodput == at_least(150e6, "more than a link carries")
        """
    )
    done = pytester.runpytest_subprocess("-p", "channover.pytest_plugin.hooks", "--no-report", "--measure-limit", "6")
    done.assert_outcomes(failed=1)
    (one,) = json.loads((pytester.path / "reports" / "latest" / "results.json").read_text())["tests"]
    reason = one["reason"]
    assert one["outcome"] == "failed"
    assert re.search(
        r"goodput of 9\d\.?\d* Mbit/s ± .* Mbit/s, expected at least 150 Mbit/s \(more than a link carries\)", reason
    )
    assert re.search(r"left: a \(eth1\) [\d,]+ bytes, b \(eth2\) [\d,]+ bytes", reason)
