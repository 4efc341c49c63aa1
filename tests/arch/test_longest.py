"""How many tokens a model was made for, by every spelling."""

import pytest

from tests.cases import all_of
from tests.corpus import configs
from weighbridge.models.arch.longest import longest, longest_of_gguf
from weighbridge.models.catalogue import find

# What each model's card names as its context.
PUBLISHED = {
    "llama-2-7b": 4096,
    "llama-3.1-8b": 131_072,
    "llama-4-scout": 10_485_760,
    "gemma-2-9b": 8192,  # of its class: its config is silent
    "gemma-3-27b": 131_072,  # whose factor of 8 is in its positions already
    "gemma-3-1b": 32_768,
    "deepseek-v3": 163_840,
    "gpt-oss-20b": 131_072,
    "phi-3.5-mini": 131_072,  # longrope
    "qwen3-8b": 40_960,
    "qwen3-vl-8b": 262_144,
    "mixtral-8x22b": 65_536,
    "dbrx": 32_768,
    "mpt-7b": 2048,
    "falcon-7b": 2048,
    "gpt2": 1024,
    "bge-m3": 8192,
    "roberta-base": 512,
    "longformer-base-4096": 4096,
    "all-mpnet-base-v2": 512,
    "whisper-large-v3": 448,
    "clip-vit-large-patch14": 77,
    "llama-3.2-11b-vision": 131_072,
    "t5-small": None,
    "mamba-2.8b": None,
    "rwkv-4-169m": None,
    "bloom": None,
    "vit-base-patch16-224": None,
}


@all_of("name", PUBLISHED)
def test_published(name):
    assert longest(find(name).config) == PUBLISHED[name]


def scaled(kind, factor, **more):
    scaling = {"rope_type": kind, "factor": factor, **more}
    return longest({"max_position_embeddings": 4096, "rope_scaling": scaling})


@all_of(
    ("kind", "factor", "expected"),
    [
        ("default", 8.0, 4096),
        ("llama3", 8.0, 4096),
        ("longrope", 32.0, 4096),
        ("mrope", 2.0, 4096),
        ("linear", 4.0, 16_384),
        ("dynamic", 2.0, 8192),
        ("linear", 0.5, 4096),
        ("linear", None, 4096),
        ("linear", True, 4096),
    ],
)
def test_scaling(kind, factor, expected):
    assert scaled(kind, factor) == expected


@pytest.mark.parametrize(
    ("original", "expected"), [(4096, 16_384), (1024, 4096), (512, 4096), (None, 4096)]
)
def test_yarn_stretches_the_original(original, expected):
    """Configs have the stretched number as their positions, or the original."""
    assert scaled("yarn", 4.0, original_max_position_embeddings=original) == expected


@all_of(
    ("raw", "expected"),
    [
        ({"seq_length": 8192}, 8192),
        ({"max_position_embeddings": 8192, "model_max_length": 131_072}, 131_072),
        ({"model_type": "led"}, 16_384),
        ({"model_type": "RefinedWebModel"}, 2048),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": None}, 512),
        ({"text_config": {"max_position_embeddings": 7}, "max_position_embeddings": 9}, 7),
        ({"text_config": {}, "max_position_embeddings": 9}, 9),
        ({"thinker_config": {"text_config": {"max_position_embeddings": 7}}}, 7),
        ({"decoder": {"model_type": "gpt2"}, "encoder": {"model_type": "vit"}}, 1024),
        ({"model_type": "t5", "n_positions": 512}, None),
        ({"max_position_embeddings": 0}, None),
        ({"max_position_embeddings": "many"}, None),
        ({"max_position_embeddings": 64, "rope_scaling": "yarn"}, 64),
        ({}, None),
    ],
)
def test_spellings(raw, expected):
    assert longest(raw) == expected


def test_scaling_of_the_layers_that_see_all():
    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0},
        "sliding_attention": {"rope_type": "default"},
    }
    assert longest({"max_position_embeddings": 4096, "rope_parameters": rope}) == 32_768
    gemma = {"model_type": "gemma3_text", "max_position_embeddings": 4096, "rope_parameters": rope}
    assert longest(gemma) == 4096


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"general.architecture": "llama", "llama.context_length": 8192}, 8192),
        ({"general.architecture": "llama"}, None),
        ({}, None),
    ],
)
def test_of_gguf(metadata, expected):
    assert longest_of_gguf(metadata) == expected


@pytest.mark.slow
def test_of_real_configs():
    """None is for what has no end, what is silent, and for towers."""
    raws = list(configs())
    if not raws:
        pytest.skip("the corpus of configs is not beside this checkout")
    for file, raw in raws:
        found = longest(raw)
        assert found is None or 16 <= found <= 10_485_760, file
    silent = {raw.get("model_type") for _, raw in raws if longest(raw) is None}
    assert not silent & {"llama", "qwen2", "gemma2", "gemma3", "falcon", "chatglm", "mpt", "dbrx"}
