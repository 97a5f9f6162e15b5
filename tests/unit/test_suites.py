"""The suites can be read aloud."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SUITES = Path(__file__).parents[2] / "suites"
MOST = 3
"""Contexts within each other that a reader keeps in mind: the rest is a scenario, which has a name."""


def contexts(node: ast.AST) -> int:
    own = len(node.items) if isinstance(node, ast.With) else 0
    return own + max(map(contexts, ast.iter_child_nodes(node)), default=0)


@pytest.mark.parametrize("path", sorted(SUITES.rglob("test_*.py")), ids=lambda path: path.stem)
def test_no_test_nests_more_contexts_than_a_reader_keeps_in_mind(path: Path) -> None:
    tests = [one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.FunctionDef)]
    assert tests
    assert {one.name: contexts(one) for one in tests if contexts(one) > MOST} == {}
