"""Every engine knows every mixer and feed-forward, or refuses it by name: mypy finds a new one."""

import ast
import typing
from pathlib import Path

import pytest
from tools.syntax import nodes

from weighbridge.models.arch.body import Feed
from weighbridge.models.arch.mixers import Mixer

pytestmark = pytest.mark.house

ROOT = Path(__file__).parents[2] / "src" / "weighbridge"
KINDS = {kind.__name__ for union in (Mixer, Feed) for kind in typing.get_args(union)}


def classes(pattern):
    return {n.cls.id for n in ast.walk(pattern) if isinstance(n, ast.MatchClass)}


def ends_in_assert_never(match):
    last = match.cases[-1]
    return ast.unparse(last.pattern) == "_" and ast.unparse(last.body[0]).startswith("assert_never")


def matches(text):
    """The matches over mixers or feed-forwards, and the mappings by them."""
    for node in nodes(text, ast.Match, ast.Dict):
        if isinstance(node, ast.Match) and any(classes(c.pattern) & KINDS for c in node.cases):
            yield node, ends_in_assert_never(node)
        if isinstance(node, ast.Dict):
            keys = {ast.unparse(k) for k in node.keys if k is not None} & KINDS
            if len(keys) > 1:
                yield node, keys >= KINDS - {"Dense", "Experts"}


def test_every_match_over_mixers_is_whole():
    found = [
        (f"{path.relative_to(ROOT)}:{node.lineno}", whole)
        for path in sorted(ROOT.rglob("*.py"))
        if "weighbridge.models.arch." in (text := path.read_text())
        for node, whole in matches(text)
    ]
    assert found
    assert [at for at, whole in found if not whole] == []


def test_the_test_can_fail():
    left = "match m:\n    case Latent():\n        ...\n    case _:\n        return 0"
    assert [whole for _, whole in matches(left)] == [False]
    assert [whole for _, whole in matches("{Latent: 1, Attention: 2}")] == [False]
