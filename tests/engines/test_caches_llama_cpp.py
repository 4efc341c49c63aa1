"""llama.cpp's buffers: logged sizes, published figures, edges by hand."""

import pytest

from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.llama_cpp.caches import LlamaCppCacheSetting, buffers, cells, sizes
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    GatedDelta,
    Indexer,
    KimiDelta,
    Layer,
    Mamba1,
    Rwkv,
    ShortConv,
)
from weighbridge.models.catalogue import find


def named(name):
    return layers(Config(find(name).config))


@pytest.mark.parametrize(("slots", "near", "gib"), [(4, 1872, 4.33), (1, 624, 3.11)])
def test_gemma_3_27b(slots, near, gib):
    """10 full layers of 32,768 cells; 52 of 4,608 or 1,536."""
    own = LlamaCppCacheSetting(context=32_768, slots=slots, model_type="gemma3")
    found = buffers(named("gemma-3-27b"), own)
    assert (found[""].kv, found["sliding"].kv) == (2560 * MIB, near * MIB)
    assert round(sizes(named("gemma-3-27b"), own).kv / GIB, 2) == gib


LOGGED = [  # model, context, types, MiB as logged
    ("llama-3.1-8b", 8_192, "f16", 1024),
    ("llama-3.1-8b", 8_192, "q8_0", 544),
    ("llama-3.1-8b", 8_192, "q4_0", 288),
    ("qwen3-0.6b", 4_096, "f16", 448),
    ("qwen3-32b", 8_192, "f16", 2048),
    ("qwen3-32b", 16_896, "q8_0", 2244),
    ("qwen3-32b", 40_960, "f16", 10_240),
    ("qwen3-vl-8b", 8_192, "f16", 1152),
    ("qwen3-vl-8b", 8_192, "q8_0", 612),
    ("deepseek-v3", 32_768, "q8_0", 1166.62),
    ("deepseek-v3", 32_768, "f16", 2196),
    ("deepseek-v3", 16_896, "q8_0", 601.54),
    ("deepseek-r1", 163_840, "f16", 10_980),
]


@all_of(("name", "context", "kind", "mib"), LOGGED)
def test_logged_buffers(name, context, kind, mib):
    """ "KV self size = ... MiB", printed to 0.01; the latent alone where there is one."""
    own = LlamaCppCacheSetting(context=context, type_k=kind, type_v=kind)
    assert abs(sizes(named(name), own).kv / MIB - mib) <= 0.006


def test_latents_in_files_of_before():
    """512 tokens of DeepSeek-V3 without latents: K 1,464 MiB, V 976."""
    old = [Layer(mixers=(m.mixers[0].expanded,)) for m in named("deepseek-v3")]
    assert sizes(old, LlamaCppCacheSetting(context=512)).kv == 2440 * MIB
    mixed = LlamaCppCacheSetting(context=8192, type_k="q8_0", type_v="f16")
    assert sizes(old, mixed).kv == 28_060 * MIB


def test_logged_gemma_4():
    """E4B: four full layers of 2 x 512 and twenty sliding of 2 x 256 store; 32,768 cells are 512
    MiB, 1,024 are 40."""
    full = Attention(heads=8, kv_heads=2, key_dim=512, value_dim=512)
    near = Attention(heads=8, kv_heads=2, key_dim=256, value_dim=256, window=512)
    model = [Layer(mixers=(full,))] * 4 + [Layer(mixers=(near,))] * 20
    found = buffers(model, LlamaCppCacheSetting(context=32_768, model_type="gemma4"))
    assert (found[""].kv, found["sliding"].kv) == (512 * MIB, 40 * MIB)


ONE = Attention(heads=4, kv_heads=2, key_dim=32, value_dim=64)
NEAR = Attention(heads=4, kv_heads=2, key_dim=32, value_dim=64, window=100)


@all_of(
    ("more", "count"),
    [
        ({"context": 1}, 256),
        ({"context": 256}, 256),
        ({"context": 257}, 512),
        ({"context": 1024, "slots": 4}, 1024),
        ({"context": 1024, "slots": 4, "unified": False}, 1024),
        ({"context": 1024, "slots": 3, "unified": False}, 3 * 512),
    ],
)
def test_cells(more, count):
    assert cells(ONE, LlamaCppCacheSetting(**more)) == count


@all_of(
    ("more", "count"),
    [
        ({}, 768),  # 100 + 512
        ({"ubatch": 100}, 256),
        ({"slots": 4}, 1024),  # 400 + 512
        ({"slots": 4, "unified": False}, 4 * 768),
        ({"swa_full": True}, 8192),
        ({"model_type": "mistral"}, 8192),  # a window that llama.cpp does not heed
        ({"model_type": "gemma3"}, 768),
    ],
)
def test_cells_of_a_window(more, count):
    context = 32_768 if more.get("unified") is False else 8192
    assert cells(NEAR, LlamaCppCacheSetting(context=context, **more)) == count


def test_values_take_the_widest_without_flash_attention():
    wide = Attention(heads=4, kv_heads=2, key_dim=32, value_dim=128)
    model = (Layer(mixers=(ONE,)), Layer(mixers=(wide,)))
    assert sizes(model, LlamaCppCacheSetting(context=256)).kv == 256 * 2 * (64 + 128 + 64 + 256)
    off = LlamaCppCacheSetting(context=256, flash_attention=False)
    assert sizes(model, off).kv == 256 * 2 * (64 + 256 + 64 + 256)


def test_keys_and_values_of_other_types():
    own = LlamaCppCacheSetting(context=256, type_k="q8_0", type_v="q5_1")
    assert sizes((Layer(mixers=(ONE,)),), own).kv == 256 * (64 // 32 * 34 + 128 // 32 * 24)


def test_an_unknown_type_is_an_error():
    with pytest.raises(UsageError, match="--cache-type-v 'q9_9'"):
        sizes((Layer(mixers=(ONE,)),), LlamaCppCacheSetting(context=256, type_v="q9_9"))


STATES = [  # float32, whatever the types of keys are
    (Mamba1(inner=8, state=4, kernel=4), 8 * 3 + 32),
    (GatedDelta(key_heads=2, value_heads=4, key_dim=8, value_dim=8, kernel=4), 64 * 3 + 256),
    (KimiDelta(heads=2, dim=4, kernel=4), 24 * 3 + 32),
    (ShortConv(width=16, kernel=3), 32),
    (Rwkv(width=16, inner=16, head_dim=8), 32 + 128),
]


@all_of(("record", "elements"), STATES)
def test_states(record, elements):
    own = LlamaCppCacheSetting(context=999, slots=3, rollback=1)
    assert sizes((Layer(mixers=(record,)),), own).state == 3 * 2 * elements * 4


COMPRESSED = Compressed(heads=2, dim=8, rotary=4, window=4, rate=1)
INDEXER = Indexer(heads=2, dim=4)


@all_of(
    ("layer", "kept", "waiting"),
    [  # cells and the numbers of each; rows and the numbers of each, of keys and of scores
        (COMPRESSED, 256 * 8, 0),
        (replace(COMPRESSED, rate=4, indexer=INDEXER), 256 * 8 + 512 * (8 + 4), 8 * 2 * (8 + 4)),
        (replace(COMPRESSED, rate=128), 256 * 8 + 256 * 8, 128 * 8),
    ],
)
def test_compressed(layer, kept, waiting):
    """Of three slots that share a cache each has its own, and one more of what waits."""
    own = LlamaCppCacheSetting(context=1100, slots=3, ubatch=16, rollback=1)
    found = sizes((Layer(mixers=(layer,)),), own)
    assert (found.kv, found.state) == (3 * 2 * kept, 3 * 2 * 2 * 4 * waiting)


def test_windows_of_deepseek_v4():
    """ggml-org/llama.cpp#27680 logs 182.75 MiB for 43 layers of 4,352 cells."""
    windows = [
        Layer(mixers=tuple(replace(m, rate=1, indexer=None) for m in layer.mixers))
        for layer in named("deepseek-v4-flash")
    ]
    own = LlamaCppCacheSetting(context=64_000, ubatch=4096)
    assert sizes(windows, own).kv == 182.75 * MIB
