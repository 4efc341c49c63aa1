"""What the files hold beside what the class has: which tensors it loads, and what is not there."""

import pytest

import weighbridge
from tests import packings
from tests.packings import CONFIG, HIDDEN, PARAMETERS, VOCAB
from tests.sparse import as_tensors, write_repo
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}


def warnings(folder, tensors, config=CONFIG):
    report = weighbridge.load(write_repo(folder, config, tensors))
    return report.model.parameters, report.warnings


def test_a_whole_checkpoint_has_no_warning(tmp_path):
    assert warnings(tmp_path, packings.plain()) == (PARAMETERS, ())


@pytest.mark.parametrize("prefix", ["model.", "language_model.", "transformer."])
def test_names_may_differ_by_what_contains_the_model(tmp_path, prefix):
    renamed = {name.replace("model.", prefix, 1): t for name, t in packings.plain().items()}
    assert warnings(tmp_path, renamed) == (PARAMETERS, ())


def test_older_names_are_the_same_parameters(tmp_path):
    """bert-base-uncased stores LayerNorm.gamma and LayerNorm.beta."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {}
    for name, tensor in as_tensors(blueprint(Config(BERT)), "F32").items():
        end = ".".join(name.split(".")[-2:])
        tensors[name.removesuffix(end) + old.get(end, end)] = tensor
    assert any(name.endswith("gamma") for name in tensors)
    assert warnings(tmp_path, tensors, BERT)[1] == ()


def test_a_head_that_is_not_stored(tmp_path):
    tensors = {name: t for name, t in packings.plain().items() if name != "lm_head.weight"}
    count, (warning,) = warnings(tmp_path, tensors)
    assert count == PARAMETERS
    assert "LlamaForCausalLM" in warning
    assert f"lm_head.weight (0 of {VOCAB * HIDDEN:,} values)" in warning


def test_a_tied_head_need_not_be_stored_but_may(tmp_path):
    config = CONFIG | {"tie_word_embeddings": True}
    tied = {name: t for name, t in packings.plain().items() if name != "lm_head.weight"}
    assert warnings(tmp_path / "a", tied, config) == (PARAMETERS - VOCAB * HIDDEN, ())
    by_head = {
        name: t for name, t in packings.plain().items() if name != "model.embed_tokens.weight"
    }
    _, said = warnings(tmp_path / "b", by_head, config)
    assert not any("do not hold all" in line for line in said)


@pytest.mark.parametrize("rows", [VOCAB - 8, VOCAB + 8])
def test_a_vocabulary_of_another_size(tmp_path, rows):
    tensors = packings.plain() | {"model.embed_tokens.weight": ("BF16", (rows, HIDDEN))}
    _, (warning,) = warnings(tmp_path, tensors)
    assert f"({rows * HIDDEN:,} of {VOCAB * HIDDEN:,} values)" in warning


def test_many_are_counted_and_three_are_named(tmp_path):
    first = {name: t for name, t in packings.plain().items() if "layers.1." not in name}
    _, (warning,) = warnings(tmp_path, first)
    assert warning.count(" values)") == 3
    assert "and 6 more" in warning
