"""Texts that are longer than a learned table of positions."""

import pytest

from weighbridge import infer, train
from weighbridge.base.errors import UsageError


@pytest.mark.parametrize(
    ("name", "most"), [("gpt2", 1024), ("bert-base-uncased", 512), ("roberta-base", 512)]
)
def test_a_learned_table_ends(name: str, most: int) -> None:
    with pytest.raises(UsageError, match=f"a learned table of {most:,}.*at most {most}$"):
        infer(name, context=most + 1)
    assert infer(name, context=most).workload["context"] == most


def test_it_ends_in_training_and_for_prompts() -> None:
    with pytest.raises(UsageError, match=r"at most 512$"):
        train("bert-base-uncased", seq_len=513)
    with pytest.raises(UsageError, match=r"at most 1024$"):
        infer("gpt2", prompt_len=1000, max_new_tokens=100)


def test_rotary_positions_go_on() -> None:
    found = infer("llama-2-7b", context=8192)
    assert any("made for" in w for w in found.warnings)


def test_the_search_for_the_largest_ends_there() -> None:
    found = infer("gpt2", gpu="h100-sxm5-80gb")
    assert found.derived["largest_context"] == 1024
