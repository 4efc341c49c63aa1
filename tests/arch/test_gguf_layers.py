"""What layers remember, from GGUF metadata: the same records as from a config."""

import pytest

from tests.arch.test_cache_layers import firsts, kinds, named
from tests.cases import all_of
from weighbridge.base.errors import BadFileError
from weighbridge.models.arch.gguf_layers import layers_of_gguf
from weighbridge.models.arch.mixers import Attention, Mamba1, Shared
from weighbridge.models.formats.gguf import Array


def gguf(arch, **keys):
    plain = {k.replace("__", "."): v for k, v in keys.items()}
    return {"general.architecture": arch, **{f"{arch}.{k}": v for k, v in plain.items()}}


def array(*values):
    return Array("int32", len(values), values)


QWEN3 = gguf(
    "qwen3",
    block_count=28,
    embedding_length=1024,
    attention__head_count=16,
    attention__head_count_kv=8,
    attention__key_length=128,
    attention__value_length=128,
    rope__scaling__original_context_length=4096,
)


def test_gguf_has_the_config_s_layers():
    """Heads are twice as wide as the embedding over the heads says."""
    assert layers_of_gguf(QWEN3) == named("qwen3-0.6b")


def test_gguf_of_gemma3():
    found = layers_of_gguf(
        gguf(
            "gemma3",
            block_count=62,
            embedding_length=5376,
            attention__head_count=32,
            attention__head_count_kv=16,
            attention__key_length=128,
            attention__value_length=128,
            attention__sliding_window=1024,
        )
    )
    assert found == named("gemma-3-27b")


def test_gguf_of_deepseek():
    keys = {
        "block_count": 61,
        "embedding_length": 7168,
        "attention.head_count": 128,
        "attention.head_count_kv": 1,
        "attention.kv_lora_rank": 512,
        "attention.key_length_mla": 192,
        "attention.value_length_mla": 128,
        "rope.dimension_count": 64,
    }
    assert layers_of_gguf(gguf("deepseek2", **keys)) == named("deepseek-v3")
    old = {k: v for k, v in keys.items() if not k.endswith("_mla")}
    old |= {"attention.head_count_kv": 128, "attention.key_length": 192}
    old |= {"attention.value_length": 128}
    (one,) = set(firsts(layers_of_gguf(gguf("deepseek2", **old))))
    assert (one.key_elements, one.value_elements) == (128 * 192, 128 * 128)


def test_gguf_with_a_list_of_heads():
    lfm2 = gguf(
        "lfm2",
        block_count=3,
        embedding_length=32,
        attention__head_count=4,
        attention__head_count_kv=array(0, 2, 0),
        shortconv__l_cache=3,
    )
    assert kinds(layers_of_gguf(lfm2)) == {("ShortConv",): 2, ("Attention",): 1}


def test_gguf_of_the_delta_net():
    qwen = gguf(
        "qwen3next",
        block_count=48,
        embedding_length=2048,
        attention__head_count=16,
        attention__head_count_kv=2,
        attention__key_length=256,
        attention__value_length=256,
        ssm__conv_kernel=4,
        ssm__state_size=128,
        ssm__group_count=16,
        ssm__time_step_rank=32,
        ssm__inner_size=4096,
    )
    assert layers_of_gguf(qwen) == named("qwen3-next-80b-a3b")


def test_gguf_of_mamba():
    mamba = gguf(
        "mamba",
        block_count=2,
        embedding_length=32,
        attention__head_count=0,
        ssm__conv_kernel=4,
        ssm__state_size=16,
        ssm__inner_size=64,
    )
    assert set(firsts(layers_of_gguf(mamba))) == {Mamba1(inner=64, state=16, kernel=4)}


def test_gguf_with_shared_layers_and_more_tokens_ahead():
    gemma = {
        "block_count": 7,
        "nextn_predict_layers": 1,
        "embedding_length": 32,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.sliding_window": 8,
        "attention.sliding_window_pattern": array(1, 0, 1, 0, 1, 0, 1),
        "attention.shared_kv_layers": 2,
        "attention.key_length": 16,
        "attention.value_length": 16,
        "attention.key_length_swa": 8,
        "attention.value_length_swa": 8,
    }
    found = firsts(layers_of_gguf(gguf("gemma4", **gemma)))
    assert [type(m) for m in found] == [Attention] * 4 + [Shared] * 2
    assert [(m.window, m.key_dim) for m in found[:2]] == [(8, 8), (None, 16)]


def test_a_window_that_llama_cpp_does_not_heed():
    phi = gguf(
        "phi3",
        block_count=2,
        embedding_length=32,
        attention__head_count=4,
        attention__sliding_window=8,
    )
    assert {m.window for m in firsts(layers_of_gguf(phi))} == {None}


@all_of(
    ("metadata", "message"),
    [
        ({}, "general.architecture is missing"),
        (gguf("llama"), "llama.block_count is missing"),
        (gguf("llama", block_count=1 << 30), "the limit is 4,096"),
        (gguf("llama", block_count=array(1)), "must be one number"),
        (
            gguf("llama", block_count=2, attention__head_count_kv=array(1)),
            "has 1 entries for 2 layers",
        ),
    ],
)
def test_metadata_that_says_too_little(metadata, message):
    with pytest.raises(BadFileError, match=message):
        layers_of_gguf(metadata)
