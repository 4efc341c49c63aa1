"""transformers' caches: published and measured figures, and edges by hand. The laws are in
test_caches_laws.py, real forwards in tests/torch/test_layers_torch.py."""

import pytest

from tests.cases import all_of
from weighbridge.base.dtypes import FLOAT16, FLOAT32
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.transformers.caches import TransformersCacheSetting, caches, sizes
from weighbridge.memory.components.kv_cache import Lengths
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import Attention, Compressed, Indexer, Latent, Layer
from weighbridge.models.catalogue import find


def named(name):
    return layers(Config(find(name).config))


def setting(context, **more):
    return TransformersCacheSetting(
        lengths=Lengths(context=context, encoder=more.pop("encoder", 0)), **more
    )


FIGURES = [  # model, tokens, version, after, GiB
    ("llama-3-8b", 32_768, (5, 23), "decode", 4.00),
    ("llama-2-7b", 4_096, (5, 23), "decode", 2.00),
    ("deepseek-v3", 32_768, (5, 23), "decode", 61 * 576 * 2 * 32_768 / GIB),
    ("deepseek-v3", 32_768, (4, 57), "decode", 152.5),
    ("deepseek-v3", 32_768, (5, 14), "decode", 152.5),
    ("qwen3-next-80b-a3b", 262_144, (5, 23), "decode", 6.0),
    ("qwen3-0.6b", 40_960, (5, 23), "decode", 4.375),
    ("falcon-7b", 2_048, (5, 23), "decode", 16 / 1024),
    ("gemma-3-27b", 32_768, (5, 23), "prefill", 15.5),
    ("gemma-3-27b", 32_768, (5, 23), "decode", 2.90625),
    ("gemma-3-27b", 32_768, (4, 55), "decode", 15.5),
]


@all_of(("name", "context", "version", "after", "gib"), FIGURES)
def test_figures(name, context, version, after, gib):
    found = sizes(named(name), setting(context, version=version, after=after))
    assert found.kv == gib * GIB


def test_states_of_qwen3_next():
    """36 layers: 4 columns of 8,192 channels in bfloat16, 32 x 128 x 128 in float32."""
    found = sizes(named("qwen3-next-80b-a3b"), setting(262_144))
    assert found.state == 36 * (8192 * 4 * 2 + 32 * 128 * 128 * 4) == 74.25 * MIB


@pytest.mark.parametrize(
    ("after", "nbytes"),
    [("prefill", 786_432), ("decode", 172_288)],
)
def test_a_measured_window(after, nbytes):
    """engines.md 3.5: tiny Gemma 3, five sliding layers of 32 tokens and one full, 512 tokens."""
    one = {"heads": 4, "kv_heads": 1, "key_dim": 32, "value_dim": 32}
    tiny = [Layer(mixers=(Attention(**one, window=32),))] * 5 + [Layer(mixers=(Attention(**one),))]
    context = 512 if after == "prefill" else 513
    found = sizes(tiny, setting(context, dtype=FLOAT32, after=after))
    assert found.kv == nbytes


ONE = Attention(heads=4, kv_heads=2, key_dim=8, value_dim=4)


def one(**change):
    from dataclasses import replace

    return (Layer(mixers=(replace(ONE, **change),)),)


@all_of(
    ("change", "more", "tokens"),
    [
        ({"window": 4}, {}, 4),
        ({"window": 10}, {}, 10),
        ({"window": 11}, {}, 10),
        ({"chunk": 4}, {}, 4),
        ({"window": 4}, {"after": "prefill"}, 10),
        ({}, {"cache": "static", "max_cache_len": 32}, 32),
        ({"window": 4}, {"cache": "static", "max_cache_len": 32}, 4),
        ({"window": 64}, {"cache": "static", "max_cache_len": 32}, 32),
        ({}, {"cache": "static"}, 10),
    ],
)
def test_ten_tokens(change, more, tokens):
    """24 elements of two bytes a token, three sequences."""
    assert sizes(one(**change), setting(10, batch=3, dtype=FLOAT16, **more)).kv == 3 * tokens * 48


def test_quantized_caches_by_hand():
    """1,000 tokens of 16 + 8 elements: half a byte each, two scales of two bytes a group of 64."""
    codes, groups = 12_000, 250 + 125
    assert sizes(one(), setting(1000, cache="hqq")).kv == codes + groups * 4
    packed = sizes(one(), setting(1000, cache="quanto", bits=2)).kv
    assert packed == 6_000 + groups * 4
    assert sizes(one(), setting(1000, cache="fp8")).kv == 24_000 + 8


def test_the_last_tokens_of_a_quantized_cache_are_whole():
    """130 written: 128 were packed, two wait."""
    packed = sizes(one(), setting(998, cache="hqq")).kv
    assert sizes(one(), setting(1000, cache="hqq", prompt=870)).kv == packed + 2 * 48


def test_a_quantized_cache_of_windows_is_refused():
    with pytest.raises(UsageError, match="full attention"):
        sizes(one(window=4), setting(10, cache="fp8"))


def test_an_indexer_keeps_a_key_a_token():
    own = Latent(heads=2, rank=8, rotary=4, nope=4, value_dim=4, indexer=Indexer(heads=2, dim=6))
    assert sizes((Layer(mixers=(own,)),), setting(10)).kv == 10 * (8 + 4 + 6) * 2


def test_falcon_40b_stores_all_heads():
    """128 heads of 64 for the 8 that it has; the one of Falcon 7B is stored once."""
    own = setting(100, model_type="falcon")
    assert sizes(named("falcon-40b"), own).kv == 60 * 100 * 128 * 64 * 2 * 2
    assert sizes(named("falcon-7b"), own).kv == 32 * 100 * 64 * 2 * 2


def test_cross_attention_is_kept_whole():
    """Whisper large: 32 layers, 20 heads of 64; 1,500 frames whatever was written."""
    row = 32 * 2 * 20 * 64 * 2
    assert sizes(named("whisper-large-v3"), setting(10)).kv == row * (1500 + 10)
    t5 = 12 * 2 * 12 * 64 * 2
    assert sizes(named("t5-base"), setting(10, encoder=77)).kv == t5 * (77 + 10)


def test_compressed_tokens_by_hand():
    """Ten tokens in groups of four: two groups and two waiting, keys and gates twice as wide, and
    half of the last group; a window of three."""
    own = Compressed(heads=2, dim=8, rotary=4, window=3, rate=4, indexer=Indexer(heads=1, dim=6))
    parts = sum(2 * w + 4 * 2 * w + 2 * 4 * w for w in (8, 6))
    assert sizes((Layer(mixers=(own,)),), setting(10)).kv == 2 * (3 * 8 + parts)


def test_components():
    found = caches(named("qwen3-next-80b-a3b"), setting(4096, batch=2))
    assert [c.name for c in found] == ["kv_cache", "recurrent_state"]
    assert found[0].bytes.expected == 2 * 4096 * 24_576
    assert "4,096 tokens" in found[0].formula
    assert "cache_utils.py" in found[0].source
