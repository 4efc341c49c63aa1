"""Values of one setting with a blank between them are no models."""

import pytest

from weighbridge.faces.cli.menu import run


@pytest.mark.parametrize(
    ("typed", "spelled"),
    [
        ("infer qwen3-0.6b --context 4K 16K", "--context 4K,16K"),
        ("infer --context 4k 16k qwen3-0.6b", "--context 4k,16k"),
        ("train qwen3-0.6b --batch-size 1 2 4", "--batch-size 1,2,4"),
        ("fit qwen3-0.6b --gpu 3060 4090", "--gpu 3060,4090"),
    ],
)
def test_values_behind_a_value_are_refused_with_the_right_spelling(capsys, typed, spelled):
    assert run(typed.split()) == 2
    assert f"with commas between them: {spelled}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed", ["--context 4K 7B", "7B --context 4K", "--context 4K --offline 7B"]
)
def test_a_size_that_is_a_model_is_one(capsys, typed):
    assert run(["infer", *typed.split(), "-q"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
