"""Pieces of engines that few models meet, by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.cases import all_of
from tests.engines.test_transformers_programs import most, step
from weighbridge.base.dtypes import BFLOAT16, FLOAT16
from weighbridge.base.memory import Bytes
from weighbridge.base.units import KIB
from weighbridge.engines.llama_cpp.graphs import transformer
from weighbridge.engines.llama_cpp.holdings import widest
from weighbridge.engines.sglang import effective
from weighbridge.engines.sglang.caches import _whole
from weighbridge.engines.transformers import formats
from weighbridge.engines.transformers.attention import _hidden_behind, cross, queries_alone
from weighbridge.engines.transformers.caches import TransformersCacheSetting, of_mixer
from weighbridge.engines.transformers.stage import MixerCache
from weighbridge.engines.vllm.weights import AT_ONCE
from weighbridge.memory.components.kv_cache import Lengths
from weighbridge.models.arch.body import LayerBlock
from weighbridge.models.arch.mixers import Attention, Compressed, CrossAttention, Indexer, Shared


@all_of(
    ("way", "packed", "layer", "bounds"),
    [
        # 100 bytes in 16 bits: what is there until they are packed in 50, a layer of 10 at a time
        ("whole", 50, 10, (50, 50, 60)),
        ("both", 50, 10, (50, 100, 100)),
        ("between", 50, 10, (0, 10, 100)),
        ("between", 95, 10, (0, 5, 100)),
        ("streamed", 50, 10, (0, 10, 30)),
        ("streamed", 95, 10, (0, 5, 5)),
        ("streamed", 75, 10, (0, 10, 25)),
        *((way, 120, 10, most) for way, most in (("whole", (0, 0, 10)), ("streamed", (0, 0, 0)))),
    ],
)
def test_weights_that_arrive_in_16_bits(way, packed, layer, bounds):
    assert AT_ONCE[way](packed, 100, layer) == Bytes(*bounds)


MODELOPT = {"quant_method": "modelopt", "kv_cache_scheme": {"type": "float", "num_bits": 8}}


@all_of(
    ("quantization", "form"),
    [
        (MODELOPT, "fp8_e4m3"),
        ({"quant_method": "modelopt_fp4", "kv_cache_quant_algo": "fp8"}, "fp8_e4m3"),
        (MODELOPT | {"quant_method": "compressed-tensors"}, "auto"),
        (MODELOPT | {"kv_cache_scheme": {"type": "float", "num_bits": 4}}, "auto"),
        (MODELOPT | {"kv_cache_scheme": {"type": "int", "num_bits": 8}}, "auto"),
        (MODELOPT | {"kv_cache_scheme": None, "kv_cache_quant_algo": "NVFP4"}, "auto"),
        (None, "auto"),
    ],
)
def test_caches_that_a_checkpoint_asks_sglang_for(quantization, form):
    """model_config.py: of modelopt's checkpoints alone."""
    subject = SimpleNamespace(part=SimpleNamespace(quantization=quantization))
    plain = SimpleNamespace(sparse=False, latent=False)
    usual = SimpleNamespace(kv_cache_dtype=None)
    assert effective._kv(subject, usual, plain) == form
    said = SimpleNamespace(kv_cache_dtype="bfloat16")
    assert effective._kv(subject, said, plain) == "bfloat16"


@pytest.mark.parametrize(
    ("compute", "form"), [((9, 0), "bfloat16"), ((10, 0), "fp8_e4m3"), (None, "bfloat16")]
)
def test_caches_of_sparse_latents(compute, form):
    subject = SimpleNamespace(part=SimpleNamespace(quantization=None))
    sparse = SimpleNamespace(sparse=True, latent=True, compute=compute)
    assert effective._kv(subject, SimpleNamespace(kv_cache_dtype="auto"), sparse) == form


@all_of(("room", "count"), [(0, 0), (6, 0), (7, 1), (20, 2), (-1, 0), (-7, -1)])
def test_whole_tokens_of_a_room(room, count):
    """Python's int() cuts towards nothing."""
    assert _whole(room, 7) == count


# DeepSeek-V4's caches: one vector of 16 for key and value, a window of 32, one of four tokens behind


@all_of(
    ("context", "after", "rate", "indexer", "numbers"),
    [
        (100, "prefill", 1, None, 2 * 100 * 16),
        (100, "decode", 1, None, 2 * 32 * 16),  # a view of what was joined
        # 25 groups, and keys and gates of all tokens of the last step; or of the four to come
        (100, "prefill", 4, None, 100 * 16 + 25 * 16 + 2 * 100 * 16),
        (100, "decode", 4, None, 32 * 16 + 25 * 16 + 2 * 4 * 16),
        (102, "decode", 4, None, 32 * 16 + 25 * 16 + 2 * 2 * 16),  # two wait
        # Groups that overlap are twice as wide, and half of the last is kept; the indexer's too
        (100, "decode", 4, 8, 32 * 16 + 25 * 24 + 4 * 4 * 24 + 2 * 4 * 24),
        (3, "decode", 4, 8, 3 * 16 + 4 * 3 * 24),  # no group yet
    ],
)
def test_compressed_caches(context, after, rate, indexer, numbers):
    index = None if indexer is None else Indexer(heads=2, dim=indexer)
    m = Compressed(heads=4, dim=16, rotary=8, window=32, rate=rate, indexer=index)
    s = TransformersCacheSetting(
        lengths=Lengths(context=context, encoder=0),
        model_type="deepseek_v4",
        batch=3,
        dtype=BFLOAT16,
        version=(5, 23),
        cache="dynamic",
        after=after,
        prompt=context if after == "prefill" else None,
        max_cache_len=None,
    )
    assert of_mixer(m, s).kv == 3 * 2 * numbers


# Attention across, in KiB: 64 tokens of 64 numbers, 128 of the encoder; 4 heads of 16, 2 of keys

ACROSS = CrossAttention(heads=4, kv_heads=2, key_dim=16, value_dim=16, source="image", length=128)


@pytest.mark.parametrize(
    ("s", "peak", "left"),
    [
        # Queries (8), keys and values as they come and in the cache (8 each): repeated for all heads
        # behind that (16 each), scores in 16 bits (64) beside their softmax in 32 (128), a copy (64)
        (step(), 8 + 16 + 2 * 16 + 64 + 128 + 64, 8 + 16 + 64),
        (replace(step(), kernel="sdpa"), 8 + 2 * 16, 8 + 16),
        # 4.50: kept as they are; repeated, queries made contiguous, and so is the output
        (replace(step((4, 50)), kernel="sdpa"), 8 + 16 + 2 * 16 + 8 + 8 + 8, 8 + 16),
    ],
)
def test_attention_across(s, peak, left):
    """Keys and values of an encoder's states are made at the first step."""
    assert most(cross, s, ACROSS, MixerCache()) == (peak * KIB, left * KIB)


def test_who_has_no_keys_makes_queries_alone():
    """A layer of Gemma 3n behind the last that stores keys: queries, turned, the output, what is made
    of it (8 each)."""
    own = Attention(heads=4, kv_heads=2, key_dim=16, value_dim=16)
    plain = replace(step(), style=replace(step().style, rotary=False))
    for block in (LayerBlock(mixers=(own,)), LayerBlock(mixers=(Shared(owner=0),))):
        assert most(queries_alone, step(), block, {}) == (4 * 8 * KIB, 8 * KIB)
        assert most(queries_alone, plain, block, {}) == (3 * 8 * KIB, 8 * KIB)


@all_of(
    ("name", "capability", "stack", "vendor", "lacking"),
    [
        ("T4", (7, 5), "cuda", "NVIDIA", {"bfloat16", "fp8"}),
        ("V100", (7, 0), "cuda", "NVIDIA", {"bfloat16", "fp8", "mxfp4"}),
        ("A100", (8, 0), "cuda", "NVIDIA", {"fp8"}),
        ("L4", (8, 9), "cuda", "NVIDIA", set()),
        ("MI300X", None, "hip", "AMD", set()),  # other makers' are not known
        ("M3 Max", None, "own", "Apple", {"fp8", "mxfp4"}),
    ],
)
def test_units_that_a_card_lacks(name, capability, stack, vendor, lacking):
    """transformers quantizers: FineGrainedFP8Config from 8.9 on, Mxfp4Config from 7.5; torch's
    bfloat16 from 8.0."""
    card = SimpleNamespace(name=name, capability=capability, stack=stack, vendor=vendor)
    said = formats.emulated(card, BFLOAT16)
    assert bool(said) == ("bfloat16" in lacking)
    if said:
        number = "{}.{}".format(*capability)
        assert said.startswith(f"{name} has no bfloat16 hardware (compute capability {number})")
    assert formats.emulated(card, FLOAT16) == ""
    for what, since in formats.NEEDS.values():
        assert formats.lacks(card, since) == (what in lacking)


def test_no_card_lacks_nothing():
    assert formats.emulated(None, BFLOAT16) == ""
    assert not formats.lacks(None, (9, 9))


# llama.cpp, where no model of the catalogue goes


@pytest.mark.parametrize(
    ("mixers", "out"), [("", "x"), ("a", "a"), ("ab", "b+a"), ("abc", "c+b+a")]
)
def test_mixers_side_by_side_are_added(mixers, out, monkeypatch):
    """Falcon-H1 has two in a layer, and Nemotron-NAS layers without any."""
    monkeypatch.setattr(transformer, "mix", lambda b, layer, mixer, x, style: mixer)
    net = SimpleNamespace(layers=[SimpleNamespace(mixers=tuple(mixers))])
    build = SimpleNamespace(net=net, add=lambda a, b: f"{a}+{b}", of=lambda *what: None)
    assert transformer.mixed(build, 0, "x", None) == out


@pytest.mark.parametrize(
    ("ne", "name", "width"),
    [
        ((64, 200, 1, 1), "blk.0.ffn_up.weight", 200),
        ((64, 32, 500, 1), "blk.0.ffn_up_exps.weight", 128),
        ((64, 900, 1, 1), "output.weight", 48),
        ((900, 1), "blk.0.norm", 900),
    ],
)
def test_the_widest_side_of_a_layer(ne, name, width):
    """Two of 500 experts are a token's; a table of words is no layer."""
    weights = {name: SimpleNamespace(name=name, ne=ne)}
    assert widest(SimpleNamespace(weights=weights, top_k=2, hidden=48)) == width


@pytest.mark.parametrize(("turned", "numbers"), [(True, 4 * 16 + 2 * 16), (False, 4 * 16)])
def test_what_cached_views_keep(turned, numbers):
    """The queries of a fused projection, and the keys where rotary positions made new ones."""
    m = Attention(heads=4, kv_heads=2, key_dim=16, value_dim=16)
    s = SimpleNamespace(style=SimpleNamespace(rotary=turned), wide=lambda width: width)
    assert _hidden_behind(s, m) == numbers
