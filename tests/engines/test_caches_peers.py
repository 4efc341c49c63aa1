"""What other calculators get wrong (hf-mem 0.5.6, llm-analysis, the cookbook, gpu_poor): the bytes
that a request must have in memory, in bfloat16, without any engine's slack."""

import pytest

from tests.cases import all_of
from weighbridge.base.units import GIB, MIB
from weighbridge.memory.components.kv_cache import Formats, Lengths, least
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.gguf_layers import layers_of_gguf
from weighbridge.models.catalogue import find


def held(found, context):
    return least(found, Lengths(context=context), Formats())


def of(name, context):
    return held(layers(Config(find(name).config)), context)


RIGHT = [  # model, tokens, bytes; and what hf-mem says of it
    ("deepseek-v3", 32_768, 61 * 576 * 2 * 32_768),  # 53.4 GiB
    ("qwen3-next-80b-a3b", 262_144, 6 * GIB),  # 24
    ("gpt-oss-20b", 131_072, 3 * GIB + 12 * 128 * 2048),  # 6
    ("gemma-3-1b", 32_768, 139 * MIB),  # 832
    ("gemma-3-27b", 32_768, int(2.90625 * GIB)),  # 15.5
    ("mistral-7b-v0.1", 32_768, GIB // 2),  # 4
    ("falcon-7b", 2_048, 16 * MIB),  # 1,136
    ("qwen3-0.6b", 40_960, int(4.375 * GIB)),  # 2.19 from its GGUF
    ("qwen3-0.6b", 32_768, int(3.5 * GIB)),
    ("llama-3-8b", 32_768, 4 * GIB),  # 16 by those who count query heads
    ("llama-2-7b", 4_096, 2 * GIB),  # 1 by the cookbook
    ("gpt2", 1_024, 12 * 2 * 768 * 2 * 1024),  # none: n_embd
    ("t5-base", 512, 12 * 2 * 768 * 2 * 512),  # none: d_model
]


@all_of(("name", "context", "nbytes"), RIGHT)
def test_bytes(name, context, nbytes):
    assert of(name, context).kv == nbytes


def test_chunks_of_llama_4():
    """36 of 48 layers see 8,192 tokens at most: 4 KiB a token and layer."""
    assert of("llama-4-maverick", 10_485_760).kv == 4096 * (12 * 10_485_760 + 36 * 8192)


@pytest.mark.parametrize("key", ["head_dim", "num_key_value_heads"])
def test_nulls(key):
    raw = {**find("llama-2-7b").config, key: None}
    assert held(layers(Config(raw)), 4096).kv == 2 * GIB


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "mxfp4"])
def test_quantized_weights_say_nothing_of_the_cache(method):
    raw = {**find("llama-2-7b").config, "quantization_config": {"quant_method": method}}
    assert held(layers(Config(raw)), 4096).kv == 2 * GIB


def test_gguf_with_sizes_of_its_own():
    keys = {
        "general.architecture": "qwen3",
        "qwen3.block_count": 28,
        "qwen3.embedding_length": 1024,
        "qwen3.attention.head_count": 16,
        "qwen3.attention.head_count_kv": 8,
        "qwen3.attention.key_length": 128,
        "qwen3.attention.value_length": 128,
    }
    assert held(layers_of_gguf(keys), 40_960).kv == 4.375 * GIB


def test_gguf_of_a_recurrence():
    keys = {
        "general.architecture": "rwkv7",
        "rwkv7.block_count": 2,
        "rwkv7.embedding_length": 128,
        "rwkv7.wkv.head_size": 64,
    }
    found = held(layers_of_gguf(keys), 10_000)
    assert (found.kv, found.state) == (0, 2 * (2 * 128 * 2 + 128 * 64 * 4))
