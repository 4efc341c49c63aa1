"""Configs that say what no model can be, and configs that do not say what decides."""

from itertools import product
from pathlib import Path

import pytest

import weighbridge
from tests.cases import all_of
from tests.sparse import write_repo
from weighbridge.base.errors import BadFileError
from weighbridge.models.arch.config import has_sizes
from weighbridge.models.arch.mixers import Attention, Layer
from weighbridge.models.arch.possible import HEAD, impossible
from weighbridge.models.checkpoint import model

DENSE = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "dtype": "bfloat16",
}
SPARSE = DENSE | {
    "model_type": "qwen3_moe",
    "architectures": ["Qwen3MoeForCausalLM"],
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
}
LLAMA = {k: v for k, v in DENSE.items() if k != "head_dim"} | {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
}
ASKS = (weighbridge.load, weighbridge.infer, weighbridge.train, weighbridge.fit)

CONTRADICTIONS = {
    "more of keys than heads": (DENSE | {"num_key_value_heads": 16}, "16 of keys and values, more"),
    "heads over 3": (DENSE | {"num_key_value_heads": 3}, "8 heads over 3"),
    "width over heads": (LLAMA | {"num_attention_heads": 12}, "64 is no multiple of"),
    "width of a head": (DENSE | {"head_dim": 10**6}, "1,000,000 numbers wide"),
    "experts": (SPARSE | {"num_experts_per_tok": 5}, "cannot use 5 of 4 experts"),
    "no position": (DENSE | {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
    "positions below zero": (DENSE | {"max_position_embeddings": -1}, "embeddings is -1"),
    "groups of experts": (SPARSE | {"n_group": 3}, "4 experts are no multiple of n_group 3"),
    "more groups": (SPARSE | {"n_group": 2, "topk_group": 9}, "topk_group 9 is more than n_group"),
    "kinds of too few layers": (DENSE | {"layer_types": ["full_attention"]}, "1 entries for 2"),
    "kinds unheard of": (DENSE | {"layer_types": ["banana"] * 2}, "'banana' is no kind"),
}


@pytest.mark.parametrize(("raw", "said"), CONTRADICTIONS.values(), ids=list(CONTRADICTIONS))
@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.__name__)
def test_every_question_refuses_what_no_model_can_be(ask, raw, said) -> None:
    card = {"gpu": "h100"} if ask is weighbridge.fit else {}
    with pytest.raises(BadFileError, match=said):
        ask(raw, **card)


@pytest.mark.parametrize("raw", [DENSE, SPARSE, LLAMA])
def test_what_can_be_is_answered_without_a_doubt(raw) -> None:
    assert weighbridge.load(raw).warnings == weighbridge.infer(raw).warnings == ()


@all_of(
    ("heads", "kv_heads", "dim", "fine"),
    [
        (8, 8, 64, True),
        (8, 1, HEAD, True),
        (8, 8, HEAD + 1, False),
        (8, 3, 64, False),
        (4, 8, 64, False),
    ],
)
def test_one_rule_for_layers_however_they_were_read(heads, kv_heads, dim, fine) -> None:
    one = Attention(heads=heads, kv_heads=kv_heads, key_dim=dim, value_dim=64)
    usual = Attention(heads=8, kv_heads=8, key_dim=64, value_dim=64)
    found = impossible([Layer(mixers=(usual,)), Layer(mixers=(one,))])
    assert (found is None) == fine
    assert fine or found.startswith("layer 1 has ")


def test_two_dtypes_that_disagree_are_told_with_the_one_taken() -> None:
    report = weighbridge.load(DENSE | {"torch_dtype": "float32"})
    (said,) = report.warnings
    assert "dtype is 'bfloat16' and torch_dtype 'float32': the first is taken" in said
    assert report.peak == weighbridge.load(DENSE).peak
    assert not weighbridge.load(DENSE | {"torch_dtype": "bfloat16"}).warnings


def scaled(**scaling):
    return DENSE | {"rope_scaling": scaling}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (scaled(rope_type="yarn"), "yarn has no factor"),
        (scaled(rope_type="magic", factor=2.0), "'magic' is no way of stretching"),
        (
            scaled(rope_type="yarn", factor=2.0, original_max_position_embeddings=257),
            "original_max_position_embeddings is 257, more than the 256",
        ),
        (DENSE | {"dtype": "complex64"}, "dtype is 'complex64': nobody computes"),
        (
            DENSE | {"text_config": {"num_hidden_layers": 3}},
            "num_hidden_layers is 2, and 3 in text_config",
        ),
    ],
)
def test_what_a_config_says_that_no_class_is_made_of_is_told(raw, words) -> None:
    (told,) = weighbridge.load(raw).warnings
    assert words in told


@pytest.mark.parametrize(
    "raw",
    [
        scaled(rope_type="yarn", factor=2.0, original_max_position_embeddings=256),
        scaled(type="mrope", mrope_section=[1, 1, 2]),
        DENSE | {"text_config": {"num_hidden_layers": 2}},
        SPARSE | {"n_group": 2, "topk_group": 2},
        SPARSE | {"n_group": 4, "topk_group": None},
    ],
)
def test_what_agrees_is_not_told(raw) -> None:
    assert weighbridge.load(raw).warnings == ()


@pytest.mark.parametrize("raw", [{"model_type": "llama"}, {"model_type": "gpt2", "n_ctx": 1024}])
@pytest.mark.parametrize("ask", ASKS[:3], ids=lambda ask: ask.__name__)
def test_a_class_without_any_size_is_no_model(ask, raw) -> None:
    assert not has_sizes(raw)
    with pytest.raises(BadFileError, match="has no size of a model of type"):
        ask(raw)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "default"), [("num_hidden_layers", 32), ("vocab_size", 151_936)])
def test_a_size_that_the_file_lacks_is_named_with_the_default(name, default) -> None:
    raw = {key: value for key, value in DENSE.items() if key != name}
    for ask in ASKS[:3]:
        (said,) = (line for line in ask(raw).warnings if "does not say all sizes" in line)
        assert f"{name} {default:,} is the default" in said


def test_keys_and_values_of_every_head_are_told_where_the_file_does_not_say_it() -> None:
    raw = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert "num_key_value_heads 8" in weighbridge.infer(raw).warnings[0]
    assert not weighbridge.infer(raw | {"num_key_value_heads": None}).warnings


def test_tensors_that_agree_with_the_default_need_no_word(tmp_path: Path) -> None:
    raw = {key: value for key, value in DENSE.items() if key != "vocab_size"}
    plan = weighbridge.prepare(raw).model().parts[0].blueprint
    write_repo(tmp_path, raw, {p.name: ("BF16", p.shape) for p in plan.params})
    assert not weighbridge.load(tmp_path).warnings


def test_a_name_of_the_catalogue_is_not_doubted() -> None:
    assert not any("does not say" in w for w in weighbridge.load("gemma-3-4b").warnings)


@all_of(("factor", "kind"), product([1e308, float("inf"), -3, 0, 1 << 21], ["yarn", "linear"]))
def test_positions_cannot_be_stretched_without_end(kind, factor) -> None:
    scaling = {"rope_type": kind, "factor": factor, "original_max_position_embeddings": 4096}
    for ask in ASKS[1:3]:
        with pytest.raises(BadFileError, match="factor"):
            ask(DENSE | {"rope_scaling": scaling})


@pytest.mark.slow
def test_more_layers_than_are_built_are_refused() -> None:
    assert weighbridge.load(DENSE | {"num_hidden_layers": 1024}).model.parameters
    with pytest.raises(BadFileError, match="asks for 1,025 layers; the limit is 1,024"):
        weighbridge.load(DENSE | {"num_hidden_layers": 1025})


def test_parameters_that_are_unlike_are_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(model, "MOST_UNLIKE", 3)
    raw = {"model_type": "never_heard_of", "architectures": ["Own"]}
    write_repo(tmp_path / "a", raw, {f"a{i}.weight": ("BF16", (2, 2)) for i in range(3)})
    assert weighbridge.load(tmp_path / "a").model.parameters == 12
    write_repo(tmp_path / "b", raw, {f"a{i}.weight": ("BF16", (2, 2)) for i in range(4)})
    with pytest.raises(BadFileError, match="4 parameters that are unlike"):
        weighbridge.load(tmp_path / "b")
