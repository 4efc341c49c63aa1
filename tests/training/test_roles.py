"""A tree with one output by hand: what goes with the head, and what stays."""

import pytest

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import replace
from weighbridge.models.arch.blueprint import CountedParams
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.training.roles import with_one_output

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}


def tree(**more):
    raw = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], **SHAPE, **more}
    return blueprint(Config(raw))


@pytest.mark.parametrize("tied", [False, True])
def test_the_head_goes_and_one_output_comes(tied):
    """A head of its own takes 64,000 numbers along; one that is the embedding takes none."""
    plan = tree(tie_word_embeddings=tied)
    one = with_one_output(plan)
    assert one.cls == "Qwen2ForSequenceClassification"
    assert one.parameters == plan.parameters - (0 if tied else 1000 * 64) + 64
    assert [p.shape for p in one.params if p.name == "score.weight"] == [(1, 64)]
    assert not [p for p in one.params if "lm_head" in p.name]


def test_what_has_one_output_stays_as_it_is():
    one = with_one_output(tree())
    assert with_one_output(one) is one


def test_a_tree_without_words_is_refused():
    plan = tree()
    wordless = CountedParams(tuple(p for p in plan.counted if p.kind != "embedding"))
    with pytest.raises(UnsupportedError, match="Qwen2ForCausalLM"):
        with_one_output(replace(plan, params=wordless))
