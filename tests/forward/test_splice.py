"""Layers that repeat are not walked again, and nothing in the report says so."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from tests.ask import or_refusal
from tests.cases import each
from tests.tiny import config
from weighbridge.models import catalogue
from weighbridge.training import run as training
from weighbridge.training.forward import splice
from weighbridge.training.run import StageRuns

LLAMA = config("wide", num_hidden_layers=12)
MIXED = {  # one layer of attention in three, and windows
    **LLAMA,
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "head_dim": 64,
    "num_hidden_layers": 21,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 7,
}
SPARSE = {  # a dense layer before those with experts
    **LLAMA,
    "architectures": ["Glm4MoeForCausalLM"],
    "model_type": "glm4_moe",
    "head_dim": 64,
    "first_k_dense_replace": 2,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 128,
}
ENCODER = {
    "architectures": ["BertForMaskedLM"],
    "model_type": "bert",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "vocab_size": 2048,
    "max_position_embeddings": 512,
    "torch_dtype": "float32",
}
SCANS = {  # whose turns are taken together
    "architectures": ["MambaForCausalLM"],
    "model_type": "mamba",
    "hidden_size": 256,
    "state_size": 16,
    "num_hidden_layers": 12,
    "vocab_size": 2048,
    "torch_dtype": "bfloat16",
}
CONFIGS = {"llama": LLAMA, "gemma": MIXED, "glm": SPARSE, "bert": ENCODER, "mamba": SCANS}
ASKED = {
    "full": {},
    "again": {"checkpointing": "full", "gradient_accumulation": 4},
    "away": {"checkpointing": "offload", "precision": "bf16-mixed", "eval_batch_size": 2},
    "lora": {"method": "lora", "checkpointing": "full", "loss": "standard"},
    "qlora": {"method": "qlora", "framework": "trl", "checkpointing": "full"},
    "int8": {"method": "lora", "quantization": "bnb-int8", "gradient_accumulation": 2},
    "layerwise": {"optimizer": "galore_adamw_layerwise", "precision": "bf16"},
    "ddp": {"shard": "ddp", "gpu": "a100-80gb:4"},
    "fsdp1": {"shard": "fsdp1", "gpu": "a100-80gb:4", "gradient_accumulation": 2},
    "held": {
        "shard": "fsdp1",
        "method": "lora",
        "checkpointing": "full",
        "engine_version": "4.45",
        "gpu": "a100-80gb:4",
    },
    "flat": {
        "framework": "litgpt",
        "method": "lora",
        "gradient_accumulation": 4,
        "gpu": "a100-80gb:4",
    },
    "kernels": {"framework": "unsloth", "method": "qlora", "gpu": "a100-80gb"},
    "tokens": {
        "framework": "torchtitan",
        "checkpointing": "selective",
        "tensor_parallel_size": 2,
        "gpu": "a100-80gb:4",
    },
    "fsdp2": {"shard": "fsdp2", "gpu": "a100-80gb:4", "checkpointing": "full"},
    "zero2": {"shard": "zero2", "framework": "deepspeed", "gpu": "a100-80gb:4"},
    "zero3": {"shard": "zero3", "framework": "deepspeed", "gpu": "a100-80gb:4"},
    "stages": {
        "framework": "torchtitan",
        "shard": "fsdp2",
        "pipeline_parallel_size": 2,
        "gradient_accumulation": 4,
        "gpu": "a100-80gb:4",
    },
}


def asked(model, **named):
    return or_refusal(weighbridge.prepare(model).train, remedies=False, **named)


def same(monkeypatch, model, **named):
    """Whether a walk of all layers says what few of them say; and how many were left out."""
    left = []
    monkeypatch.setattr(splice, "_spliced", partial(_noted, left, splice._spliced))
    few = asked(model, **named)
    monkeypatch.setattr(training, "StageRuns", partial(StageRuns, splices=False))
    count = len(left)
    assert few == asked(model, **named)
    assert len(left) == count, "a walk of all layers leaves none out"
    monkeypatch.undo()
    return count


def _noted(left, spliced, *given):
    left.append(1)
    return spliced(*given)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_a_step_of_which_few_layers_are_walked_is_the_whole_step(monkeypatch, name):
    assert same(monkeypatch, {**LLAMA, "num_hidden_layers": 14}, **ASKED[name], seq_len=96)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_layers_of_several_kinds_are_left_out_each_by_its_own(monkeypatch, name):
    assert same(monkeypatch, CONFIGS[name], seq_len=256)


@pytest.mark.slow
def test_what_autocast_keeps_of_a_leaf_stays_kept(monkeypatch):
    """PEFT makes a leaf of what the embedding gives, and the first linear reads it as it is."""
    config = {**LLAMA, "architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2"}
    config |= {"hidden_size": 1024, "intermediate_size": 3072, "vocab_size": 256}
    config |= {"num_attention_heads": 8, "num_key_value_heads": 8, "num_hidden_layers": 14}
    assert same(monkeypatch, config, **ASKED["qlora"], seq_len=2048)


@pytest.mark.slow
def test_layers_that_hand_on_more_than_their_result_are_all_walked(monkeypatch):
    assert not same(monkeypatch, "flan-t5-small")
    assert not same(monkeypatch, "albert-base-v2")


@pytest.mark.slow
def test_layers_of_a_small_decoder_are_not_all_walked(monkeypatch):
    assert same(monkeypatch, {**LLAMA, "num_hidden_layers": 8})


@pytest.mark.slow
def test_layers_that_were_taken_for_alike_and_are_not_are_all_walked(monkeypatch):
    """A block alone does not show that one of the last layers has no positions."""
    config = {**LLAMA, "num_hidden_layers": 16, "no_rope_layers": [1] * 14 + [0, 1]}
    config |= {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3"}
    walks = []

    def bounded(*given, **named):
        walks.append(1)
        return walk(*given, **named)

    walk = training.StageRuns._bounded
    monkeypatch.setattr(training.StageRuns, "_bounded", bounded)
    whole = asked(config)
    assert len(walks) == 1
    monkeypatch.setattr(training, "has_positions", lambda s, number: True)
    assert asked(config) == whole
    assert len(walks) == 3


@pytest.mark.slow
def test_what_nodes_hold_to_the_end_of_the_graph_does_not_make_layers_unlike(monkeypatch):
    """A linear of bitsandbytes' 8 bits has its input as an attribute of its node."""
    walks = []

    def bounded(*given, **named):
        walks.append(1)
        return walk(*given, **named)

    walk = training.StageRuns._bounded
    monkeypatch.setattr(training.StageRuns, "_bounded", bounded)
    assert same(monkeypatch, LLAMA, **ASKED["int8"], seq_len=96)
    assert len(walks) == 2, "one run of few layers, and the one of all that it is compared with"


@pytest.mark.slow
def test_more_layers_than_are_walked_are_followed_where_they_repeat(monkeypatch):
    monkeypatch.setattr("weighbridge.training.run.LAYERS", 20)
    monkeypatch.setattr("weighbridge.training.forward.alike.LAYERS", 20)
    deep = {**LLAMA, "num_hidden_layers": 24}
    assert same(monkeypatch, deep)
    monkeypatch.setattr("weighbridge.training.run.LAYERS", 20)
    monkeypatch.setattr("weighbridge.training.forward.alike.LAYERS", 20)
    windows = [8 * (number + 1) for number in range(24)]
    monkeypatch.setattr(training, "has_positions", lambda s, number: windows[number])
    assert "24 layers that do not repeat each other" in asked(deep)


@pytest.mark.slow
def test_near_the_end_of_the_card_layers_are_walked_anew(monkeypatch):
    """What the run without an end found of a layer does not hold where blocks go back to the
    driver: 10 MiB of 73 GiB."""
    assert same(monkeypatch, "qwen3-14b", **ASKED["stages"], optimizer="adamw_8bit")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name"),
    each(20, ((model, list(ASKED)[i % len(ASKED)]) for i, model in enumerate(catalogue.names()))),
)
def test_of_every_class_few_layers_say_what_all_do(monkeypatch, model, name):
    same(monkeypatch, model, **ASKED[name])


DEEP = given(
    name=st.sampled_from(list(CONFIGS)),
    asked_for=st.sampled_from(list(ASKED)),
    layers=st.integers(1, 40),
    width=st.sampled_from([64, 256, 320, 1024]),
    length=st.integers(1, 700),
    batch=st.integers(1, 5),
    precision=st.sampled_from(["fp32", "bf16", "bf16-mixed"]),
    optimizer=st.sampled_from(["adamw", "sgd", "adafactor", "muon", "adamw_8bit", "lomo"]),
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@DEEP
def test_at_any_depth_and_setting(**asked):
    spliced_alike(**asked)


@pytest.mark.slow
@pytest.mark.nightly
@settings(max_examples=150, deadline=None)
@DEEP
def test_at_many_more_depths_and_settings(**asked):
    spliced_alike(**asked)


def spliced_alike(name, asked_for, layers, width, length, batch, precision, optimizer):
    config = {**CONFIGS[name], "num_hidden_layers": layers, "intermediate_size": width}
    if "layer_types" in config:
        config["layer_types"] = (config["layer_types"] * 2)[:layers]
    more = {"precision": precision, "optimizer": optimizer, **ASKED[asked_for]}
    with pytest.MonkeyPatch.context() as monkeypatch:
        same(monkeypatch, config, seq_len=length, batch_size=batch, **more)
