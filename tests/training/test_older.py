"""Steps of classes of transformers 4 beside their own, as tests/torch/older.py recorded them."""

import json
from pathlib import Path

import pytest

from tests.torch.training_oracle import stepped

RECORDED = Path(__file__).with_name("older.jsonl")
SIZES = {
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "vocab_size": 1000,
}
WIDE = {**SIZES, "head_dim": 64}
FEW = {"num_local_experts": 8, "num_experts_per_tok": 2}
FINE = {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 192}
SHARED = {
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 192,
    "first_k_dense_replace": 1,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
}
LATENT = {
    **SIZES,
    **SHARED,
    "num_key_value_heads": 4,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
}
OLD = {"n_embd": 256, "n_layer": 3, "n_head": 4, "n_positions": 512, "vocab_size": 1000}
ATTENTION = {"precision": "bf16", "lora_targets": "q_proj,v_proj"}
PLAIN = {"precision": "bf16"}
MIXED = {"precision": "bf16-mixed"}
AGAIN = {**ATTENTION, "checkpointing": True}
OF_EXPERTS = {"precision": "bf16", "lora_targets": "gate_proj,up_proj,down_proj"}
LOOPS = (ATTENTION, AGAIN)
INSIDE = {"head_reads": "model"}  # its class is its own base model
# (config, (experts, those of a token), settings)
CASES = {
    "llama": (SIZES, (0, 0), (PLAIN, MIXED)),
    "gpt2": (OLD, (0, 0), (PLAIN, MIXED)),
    "gpt_neox": ({**SIZES, "rotary_pct": 0.25}, (0, 0), (PLAIN, MIXED)),
    "mixtral": ({**SIZES, **FEW}, (8, 2), (*LOOPS, PLAIN)),
    "qwen2_moe": ({**SIZES, **FINE, "shared_expert_intermediate_size": 256}, (16, 4), LOOPS),
    "qwen3_moe": ({**WIDE, **FINE, "norm_topk_prob": True}, (16, 4), (*LOOPS, OF_EXPERTS)),
    "hunyuan_v1_moe": (
        {**WIDE, "num_experts": 16, "moe_topk": 4, "pad_token_id": 0},
        (16, 4),
        LOOPS,
    ),
    "flex_olmo": (
        {**SIZES, "num_experts": 16, "num_experts_per_tok": 4, "pad_token_id": 0},
        (16, 4),
        LOOPS,
    ),
    "granitemoeshared": (
        {**SIZES, **FEW, "shared_intermediate_size": 320},
        (8, 2),
        (*LOOPS, PLAIN),
    ),
    "qwen3_next": (
        {
            **WIDE,
            **FINE,
            "shared_expert_intermediate_size": 256,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
            "num_hidden_layers": 4,
        },
        (16, 4),
        (ATTENTION,),
    ),
    "olmoe": (
        {**SIZES, "num_experts": 16, "num_experts_per_tok": 4},
        (16, 4),
        LOOPS,
    ),
    "deepseek_v2": (
        {**LATENT, "topk_method": "greedy"},
        (16, 4),
        ({**PLAIN, "lora_targets": "o_proj"},),
    ),
    "deepseek_v3": (LATENT, (16, 4), ({**PLAIN, "lora_targets": "o_proj"},)),
    "glm4_moe": ({**WIDE, **SHARED}, (16, 4), LOOPS),
    "dots1": ({**WIDE, **SHARED}, (16, 4), LOOPS),
    "phimoe": ({**SIZES, **FEW}, (8, 2), LOOPS),
    "ernie4_5_moe": (
        {
            **SIZES,
            "moe_intermediate_size": 192,
            "moe_num_experts": 16,
            "moe_k": 4,
            "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
        },
        (16, 4),
        LOOPS,
    ),
    "granitemoe": ({**SIZES, **FEW}, (8, 2), (PLAIN, MIXED)),
    "dbrx": (
        {
            "d_model": 256,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": 512,
            "vocab_size": 1000,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0},
            "ffn_config": {"ffn_hidden_size": 384, "moe_num_experts": 8, "moe_top_k": 2},
        },
        (8, 2),
        (
            PLAIN,
            MIXED,
            {**PLAIN, "lora_targets": "Wqkv,out_proj"},
            {**PLAIN, "lora_targets": "Wqkv,out_proj", "checkpointing": True},
        ),
    ),
    "longcat_flash": (
        {
            "hidden_size": 256,
            "ffn_hidden_size": 384,
            "expert_ffn_hidden_size": 192,
            "num_layers": 2,
            "num_attention_heads": 4,
            "n_routed_experts": 12,
            "zero_expert_num": 4,
            "moe_topk": 4,
            "q_lora_rank": 96,
            "kv_lora_rank": 64,
            "qk_rope_head_dim": 32,
            "qk_nope_head_dim": 64,
            "v_head_dim": 64,
            "head_dim": 32,
            "max_position_embeddings": 512,
            "vocab_size": 1000,
        },
        (16, 4),
        (
            {**PLAIN, "lora_targets": "o_proj"},
            {**PLAIN, "lora_targets": "o_proj", "checkpointing": True},
        ),
    ),
    "jetmoe": (
        {
            "hidden_size": 256,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_key_value_heads": 2,
            "kv_channels": 64,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 512,
            "vocab_size": 1000,
        },
        (8, 2),
        (
            {**PLAIN, **INSIDE},
            {**MIXED, **INSIDE},
            {**PLAIN, **INSIDE, "lora_targets": "kv_proj"},
        ),
    ),
    "gpt_oss": ({**WIDE, **FEW, "sliding_window": 64}, (8, 2), (PLAIN, ATTENTION)),
}


def recorded():
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def named(x):
    said = "-".join(str(v) for v in x["settings"].values())
    return f"{x['transformers']}-{x['config']['model_type']}-{said}"


# `off` is how far our peaks were from the class's when it was recorded. Where it is much: stacks
# stand for experts that the class has one by one, whose gradients are there at once, and blocks of
# more than a mebibyte are not split to the end (forward/parts/one_by_one.py); older classes
# held buffers in each layer that are not counted in training yet, masks of GPT-NeoX, and cosines and
# sines of all positions; Granite's attention came to the common one after 4.48.
# Of each program one runs with every test
FAST = ("gpt_oss", "ernie4_5_moe", "dots1", "hunyuan_v1_moe", "deepseek_v2", "granitemoe", "dbrx")


def ours(x):
    """Our moments of the same two steps."""
    said = {k: v for k, v in x["settings"].items() if k not in INSIDE}
    if said.pop("checkpointing", False):
        said["checkpointing"] = "full"
    if "lora_targets" in said:
        said |= {
            "method": "lora",
            "lora_r": 8,
            "lora_targets": tuple(said["lora_targets"].split(",")),
        }
    return stepped(x["config"], engine_version=x["transformers"], **said).moments


def off(x):
    """How far our peaks and what is left behind them are from the class's."""
    pairs = zip(x["moments"], ours(x), strict=True)
    return max(abs(b / a - 1) for x, y in pairs for a, b in zip(x[1:3], y[1:3], strict=True))


def chosen():
    """Lines for `parametrize`, of which the fast suite has each sixth, and one of each of FAST."""
    lines, seen = recorded(), set()
    for i, x in enumerate(lines):
        kind = x["config"]["model_type"]
        newest = x["transformers"] == lines[-1]["transformers"]
        first = kind in FAST and newest and kind not in seen
        seen.update([kind] if first else ())
        yield x if first or i % 6 == 0 else pytest.param(x, marks=[pytest.mark.slow])


@pytest.mark.slow
@pytest.mark.parametrize("x", list(chosen()), ids=named)
def test_a_step_takes_what_the_class_of_that_release_took(x, all_read, fits):
    found = ours(x)
    assert [name for name, *_ in found] == [name for name, *_ in x["moments"]]
    for (name, *ends, _), (_, *seen) in zip(found, x["moments"], strict=True):
        assert ends == pytest.approx(seen, rel=x["off"]), name
