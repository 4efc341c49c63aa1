"""What changes with each release (changes.toml of an engine): known rules, in order, of their kind."""

from dataclasses import fields

import pytest

from weighbridge.engines.engine import by_release, changes
from weighbridge.engines.ik_llama_cpp import rules as ik
from weighbridge.engines.llama_cpp import rules as llama_cpp
from weighbridge.engines.mlx import rules as mlx
from weighbridge.engines.ollama import rules as ollama
from weighbridge.engines.sglang import rules as sglang
from weighbridge.engines.vllm import rules as vllm

TABLES = {
    "vllm": (vllm.FIRST, vllm.CHANGES),
    "sglang": (sglang.SglangRules(), sglang.CHANGES),
    "llama.cpp": (llama_cpp.LlamaCppRules(), llama_cpp.CHANGES),
    "ik_llama.cpp": (ik.Defaults(), ik.DEFAULTS),
    "graphs of ik_llama.cpp": (ik.BASE, ik.GRAPHS),
    "ollama": (ollama.OllamaRules(), ollama.CHANGES),
    "mlx": (mlx.MlxRules(), mlx.CHANGES),
}
MAY_BE_NONE = {"chunk", "gpu_layers", "context"}


@pytest.mark.parametrize("name", TABLES)
def test_releases_stand_in_order(name):
    _, table = TABLES[name]
    assert list(table) == sorted(table)
    assert len(table) > 3


@pytest.mark.parametrize("name", TABLES)
def test_a_changed_rule_is_one_and_of_its_kind(name):
    first, table = TABLES[name]
    rules = {field.name for field in fields(first)}
    for since, changed in table.items():
        assert changed.keys() <= rules, since
        for rule, value in changed.items():
            usual = getattr(first, rule)
            if value is None or usual is None:
                assert rule in MAY_BE_NONE | {"leaves"}, (since, rule)
            else:
                assert type(value) is type(usual), (since, rule)


@pytest.mark.parametrize("name", TABLES)
def test_every_change_changes_something(name):
    first, table = TABLES[name]
    for since, changed in table.items():
        before = {at: rules for at, rules in table.items() if at < since}
        old = by_release(first, before, since)
        assert all(getattr(old, rule) != value for rule, value in changed.items()), since


def test_values_of_a_table(tmp_path):
    (tmp_path / "changes.toml").write_text(
        '["0.9"]\nsizes = [1, 2]\nmost = ""\n["0.10.1"]\nnames = ["a"]\n'
    )
    read = changes(str(tmp_path / "rules.py"), names=frozenset)
    assert read == {
        (0, 9): {"sizes": (1, 2), "most": None},
        (0, 10, 1): {"names": frozenset({"a"})},
    }
