"""What a step computes, from a GGUF file's tensors: the same as from the model's config."""

import pytest

from tests.arch.test_bodies import LLAMA, of
from tests.arch.test_gguf_layers import array, gguf
from tests.torch import cases_moe
from weighbridge.base.dtypes import FLOAT16
from weighbridge.models.arch.bodies import body
from weighbridge.models.arch.body import Dense
from weighbridge.models.arch.gguf_layers import layers_of_gguf
from weighbridge.models.checkpoint import loading
from weighbridge.models.checkpoint.inventory import StoredModel
from weighbridge.models.tensors import CheckpointTensor

HEADS = {
    "attention.head_count": 6,
    "attention.head_count_kv": 6,
    "attention.key_length": 8,
    "attention.value_length": 8,
}


def stored(metadata, *, blocks, whole):
    """A file's body. `blocks`: of each layer, name -> shape; `whole`: of the rest."""
    shapes = dict(whole)
    for i, block in enumerate(blocks):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in block.items()}
    tensors = tuple(CheckpointTensor(f"{name}.weight", FLOAT16, s, 0) for name, s in shapes.items())
    part = StoredModel(library="gguf", config={"gguf": metadata}, tensors=tensors)
    plan = loading.from_stored(part, "a file", [])
    return body(plan, None, layers_of_gguf(metadata), metadata=metadata)


def attention(width=48, heads=6, size=8):
    names = ("attn_q", "attn_k", "attn_v")
    return dict.fromkeys(names, (heads * size, width)) | {"attn_output": (width, heads * size)}


def dense(inner, width=48):
    up = dict.fromkeys(("ffn_gate", "ffn_up"), (inner, width))
    return {**up, "ffn_down": (width, inner), "ffn_norm": (width,)}


def sparse(count, inner, width=48, shared=0):
    found = {f"ffn_{name}_exps": (count, inner, width) for name in ("gate", "up")}
    found |= {"ffn_down_exps": (count, width, inner), "ffn_gate_inp": (count, width)}
    if shared:
        found |= {f"ffn_{name}_shexp": (shared, width) for name in ("gate", "up")}
        found["ffn_down_shexp"] = (width, shared)
    return found


WHOLE = {"token_embd": (97, 48), "output_norm": (48,), "output": (97, 48)}


def keys(arch, count, **more):
    plain = {name.replace("__", "."): value for name, value in more.items()}
    return gguf(arch, block_count=count, embedding_length=48, **HEADS, **plain)


def test_llama():
    file = stored(keys("llama", 3), blocks=[attention() | dense(56)] * 3, whole=WHOLE)
    assert file == of(LLAMA)


def test_a_tied_head_is_not_stored():
    whole = {name: shape for name, shape in WHOLE.items() if name != "output"}
    file = stored(keys("llama", 3), blocks=[attention() | dense(56)] * 3, whole=whole)
    assert file == of({**LLAMA, "tie_word_embeddings": True})


def test_gate_and_up_in_one():
    """llama.cpp keeps Phi-3's fused matrix as ffn_up."""
    block = {"attn_qkv": (144, 48), "attn_output": (48, 48)}
    block |= {"ffn_up": (112, 48), "ffn_down": (48, 56)}
    file = stored(keys("phi3", 3), blocks=[block] * 3, whole=WHOLE)
    assert file == of({**LLAMA, "model_type": "phi3", "pad_token_id": 0, "sliding_window": None})


def test_experts():
    raw = {**cases_moe.QWEN, "num_key_value_heads": 6, "model_type": "qwen3_moe", "head_dim": 8}
    metadata = keys("qwen3moe", 4, expert_count=4, expert_used_count=2)
    file = stored(metadata, blocks=[attention() | sparse(4, 20)] * 4, whole=WHOLE)
    assert file == of(raw)


def test_deepseek():
    """Latents, a dense layer first, a shared expert, and a layer that guesses further tokens."""
    raw = {**cases_moe.LATENT, "model_type": "deepseek_v3"}
    metadata = gguf(
        "deepseek2",
        **{
            "block_count": 5,
            "nextn_predict_layers": 1,
            "embedding_length": 48,
            "expert_count": 4,
            "expert_used_count": 2,
            "attention.head_count": 6,
            "attention.head_count_kv": 1,
            "attention.kv_lora_rank": 12,
            "attention.key_length_mla": 16,
            "attention.value_length_mla": 14,
            "rope.dimension_count": 6,
        },
    )
    mla = {"attn_q_a": (20, 48), "attn_q_b": (96, 20), "attn_kv_a_mqa": (18, 48)}
    mla |= {"attn_k_b": (6, 12, 10), "attn_v_b": (6, 14, 12), "attn_output": (48, 84)}
    blocks = [mla | dense(56), *([mla | sparse(4, 20, shared=20)] * 4)]
    assert stored(metadata, blocks=blocks, whole=WHOLE) == of(raw)


def test_stacks_with_biases():
    """gpt-oss: three stacks in a file, two with biases in a checkpoint."""
    raw = {**cases_moe.BASE, "model_type": "gpt_oss", "num_key_value_heads": 6, "head_dim": 8}
    raw |= {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16}
    metadata = keys("gpt-oss", 4, expert_count=4, expert_used_count=2, attention__sliding_window=16)
    block = attention() | sparse(4, 56) | {"attn_sinks": (6,), "ffn_gate_exps_b": (4, 56)}
    assert stored(metadata, blocks=[block] * 4, whole=WHOLE) == of(raw)


def test_an_encoder():
    whole = {"token_embd": (97, 48), "position_embd": (64, 48), "token_types": (2, 48)}
    block = attention() | {"ffn_up": (56, 48), "ffn_down": (48, 56)}
    file = stored(keys("bert", 2), blocks=[block] * 2, whole=whole)
    raw = {**LLAMA, "model_type": "bert", "num_hidden_layers": 2}
    assert file == of(raw, "BertModel")


def test_an_encoder_with_windows():
    """ModernBERT: every third layer sees all; gate and up in one."""
    block = {"attn_qkv": (144, 48), "attn_output": (48, 48)}
    block |= {"ffn_up": (112, 48), "ffn_down": (48, 56)}
    window = {"attention.sliding_window": 128, "attention.sliding_window_pattern": 3}
    metadata = keys("modern-bert", 4, **window)
    file = stored(metadata, blocks=[block] * 4, whole={"token_embd": (97, 48)})
    raw = {**LLAMA, "model_type": "modernbert", "num_hidden_layers": 4}
    assert file == of(raw, "ModernBertModel")


def test_recurrences_and_layers_without_a_feed_forward():
    """Mamba has nothing else; of LFM 2 all layers are fed."""
    metadata = gguf(
        "mamba",
        block_count=2,
        embedding_length=48,
        ssm__conv_kernel=4,
        ssm__state_size=16,
        ssm__inner_size=96,
    )
    block = {"ssm_in": (192, 48), "ssm_out": (48, 96), "ssm_x": (35, 96)}
    found = stored(metadata, blocks=[block] * 2, whole=WHOLE)
    assert [b.feeds for b in found.blocks] == [(), ()]
    assert (found.hidden, found.vocab, found.causal) == (48, 97, True)
    lfm2 = gguf(
        "lfm2",
        block_count=2,
        embedding_length=48,
        attention__head_count=6,
        attention__head_count_kv=array(0, 6),
        shortconv__l_cache=3,
    )
    short = {"shortconv.in_proj": (144, 48), "shortconv.out_proj": (48, 48)}
    mixed = stored(lfm2, blocks=[short | dense(56), attention() | dense(56)], whole=WHOLE)
    assert {b.feeds for b in mixed.blocks} == {(Dense(width=56),)}


@pytest.mark.parametrize(("pooling", "embeds"), [(0, False), (3, True)])
def test_a_pooling_makes_an_embedder(pooling, embeds):
    """attention stays causal: Qwen3-Embedding takes the last token."""
    metadata = keys("qwen3", 3, pooling_type=pooling)
    found = stored(metadata, blocks=[attention() | dense(56)] * 3, whole=WHOLE)
    assert (found.embeds, found.vocab, found.causal) == (embeds, 0 if embeds else 97, True)


def test_headers_alone():
    """Without config and metadata: the feed-forwards, and nothing guessed of what mixes."""
    tensors = tuple(
        CheckpointTensor(name, FLOAT16, shape, 0)
        for name, shape in {
            "embed.weight": (97, 48),
            "layers.0.mlp.gate_proj.weight": (56, 48),
            "layers.0.mlp.up_proj.weight": (56, 48),
            "layers.0.mlp.down_proj.weight": (48, 56),
        }.items()
    )
    found = body(loading.from_stored(StoredModel(tensors=tensors), "unknown class", []), None, ())
    assert [(b.mixers, b.feeds) for b in found.blocks] == [((), (Dense(width=56),))]
