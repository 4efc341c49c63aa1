"""mlx-lm: peaks that it printed on Macs, its caches by hand, laws, and what it refuses."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import weighbridge
from tests.ask import usual
from tests.cases import all_of
from tests.engines.answers import answer, of_config, part
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.engines.launch import parse
from weighbridge.engines.mlx.caches import PAGE, MlxCacheSetting, cells, of_mixer, paged
from weighbridge.engines.mlx.rules import mlx_rules
from weighbridge.engines.mlx.step import Moment, Operation, flight, operations, temporaries
from weighbridge.memory.components.kv_cache import CacheBytes
from weighbridge.models import catalogue
from weighbridge.models.arch.body import Dense, Experts, LayerBlock
from weighbridge.models.arch.mixers import (
    Attention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.models.arch.model_types import facts

FOUR = "mlx-4bit-g64"


asked = usual(answer, "llama-3.1-8b", engine="mlx", quantization=FOUR)


def allocated(found):
    """What mlx-lm prints as its peak memory: the fullest phase, in bytes."""
    return max((p.at("allocated") for p in found.devices[0].phases), key=lambda b: b.expected)


def computing(found):
    return part(found.devices[0].phases[1], "activations")


# Peaks in GB that mlx-lm's people published


BENCHMARK = {"prompt_len": 2048, "max_new_tokens": 128, "engine_version": "0.28.2"}
PUBLISHED = [
    # mlx_lm/BENCHMARKS.md: mlx_lm.benchmark -p 2048 -g 128 on a 64 GB M4 Max
    ("qwen3-4b", None, BENCHMARK, 9.02),
    ("qwen3-4b", "mlx-8bit-g64", BENCHMARK, 5.254),
    ("qwen3-4b", "mlx-6bit-g64", BENCHMARK, 4.25),
    ("qwen3-4b", "mlx-5bit-g32", BENCHMARK, 4.00),
    ("qwen3-4b", "mlx-5bit-g64", BENCHMARK, 3.86),
    ("qwen3-4b", "mlx-4bit-g32", BENCHMARK, 3.603),
    ("qwen3-4b", FOUR, BENCHMARK, 3.35),
    ("qwen3-30b-a3b", "mlx-8bit-g64", BENCHMARK, 33.46),
    ("qwen3-30b-a3b", "mlx-6bit-g64", BENCHMARK, 25.82),
    ("qwen3-30b-a3b", "mlx-5bit-g64", BENCHMARK, 22.01),
    ("qwen3-30b-a3b", FOUR, BENCHMARK, 18.20),
    # pull request 396, whose last piece of a prompt has all of its logits (Llama-3.2-3B, 4 bits)
    ("llama-3.2-3b", FOUR, BENCHMARK | {"engine_version": "0.27.0"}, 3.285),
    # pull request 478: 128 tokens in, 128 out, alone and 16 at once
    (
        "qwen3-next-80b-a3b",
        FOUR,
        {"prompt_len": 128, "max_new_tokens": 128, "engine_version": "0.28.0"},
        45.090,
    ),
    (
        "qwen3-next-80b-a3b",
        FOUR,
        {"prompt_len": 128, "max_new_tokens": 128, "engine_version": "0.28.0", "batch_size": 16},
        46.885,
    ),
    # pull request 40, before and after: an array as mask, and scores that are stored
    (
        "mistral-7b-v0.3",
        FOUR,
        {"prompt_len": 33_898, "max_new_tokens": 100, "engine_version": "0.22.1"},
        12.257,
    ),
    (
        "mistral-7b-v0.3",
        FOUR,
        {"prompt_len": 33_898, "max_new_tokens": 100, "engine_version": "0.22.2"},
        9.111,
    ),
]


@pytest.mark.parametrize(("name", "form", "workload", "gb"), PUBLISHED)
def test_published_peaks(name, form, workload, gb):
    found = allocated(asked(name, quantization=form, **workload))
    assert found.low <= gb * 1e9 <= found.high
    assert found.expected == pytest.approx(gb * 1e9, rel=0.07)


# Weights


def test_four_bits_are_four_and_a_half():
    """A scale and a bias of 16 bits for 64 weights (mlx nn/layers/quantized.py); norms are not
    packed. Llama 3.1 8B: 8,030,261,248 parameters, of which 266,240 are norms'."""
    weights = part(asked().devices[0].phases[0], "weights")
    assert weights == (8_030_261_248 - 266_240) * 9 // 16 + 2 * 266_240


def test_towers_are_not_loaded():
    """mlx-lm's classes drop them (models/gemma3.py, sanitize): 4.30 of 4.97 billion stay."""
    found = asked("gemma-3-4b", quantization=None)
    assert part(found.devices[0].phases[0], "weights") < 2 * 4.31e9


def test_checkpoints_that_are_packed_already():
    """gpt-oss keeps its experts in mxfp4 (utils.py, load_model); DeepSeek's float8 becomes bfloat16
    (models/deepseek_v3.py, sanitize)."""
    oss = part(asked("gpt-oss-20b", quantization=None).devices[0].phases[0], "weights")
    assert 13e9 < oss < 14.5e9
    deep = part(asked("deepseek-v3", quantization=None).devices[0].phases[0], "weights")
    assert deep > 2 * 670e9


def test_a_checkpoint_of_mlx_lm_declares_itself():
    """`quantization` in its config.json: packed, and loaded as it is."""
    raw = dict(catalogue.find("llama-3.2-3b").config)
    raw["quantization"] = raw["quantization_config"] = {"group_size": 64, "bits": 4}
    own = answer(of_config(raw), engine="mlx")
    assert part(own.devices[0].phases[0], "weights") == part(
        asked("llama-3.2-3b").devices[0].phases[0], "weights"
    )


# Caches


def setting(**more):
    usual = {"prompt": 1000, "tokens": 1000, "batch": 1, "piece": 2048, "dtype": BFLOAT16}
    return MlxCacheSetting(**usual | more)


LLAMA = Attention(heads=32, kv_heads=8, key_dim=128, value_dim=128)
NEAR = Attention(heads=32, kv_heads=8, key_dim=128, value_dim=128, window=1024)


@all_of(("tokens", "held"), [(1, 256), (256, 256), (257, 512), (8192, 8192), (8193, 8448)])
def test_caches_grow_by_256(tokens, held):
    assert cells(None, setting(tokens=tokens)) == held
    assert of_mixer(LLAMA, setting(tokens=tokens)) == CacheBytes(kv=held * 2 * 8 * 128 * 2)


@all_of(
    ("prompt", "tokens", "reading", "held"),
    [
        (4096, 4096, True, 1023 + 2048),  # every token of a piece sees a whole window
        (4096, 4096, False, 1024),  # cut when the first token is written
        (1500, 1600, True, 1499),  # one piece: whatever it is
        (100, 200, False, 99 + 256),  # grows by steps up to the window
        (100, 5000, False, 1024),
    ],
)
def test_windows(prompt, tokens, reading, held):
    found = setting(prompt=prompt, tokens=tokens, reading=reading, windows=True)
    assert cells(1024, found) == held
    plain = setting(prompt=prompt, tokens=tokens, reading=reading)
    assert cells(1024, plain) == cells(None, plain)


def test_a_rotating_cache_has_a_bound():
    found = setting(prompt=10_000, tokens=12_000, most=4096)
    assert cells(None, found) == 4096


def test_packed_caches_have_scales_and_biases():
    """8 bits in words of 32, and two numbers of 16 bits for 64 values: 8.5 bits a value."""
    plain, packed = (of_mixer(LLAMA, setting(bits=bits)).kv for bits in (None, 8))
    assert packed * 16 == plain * 8.5


def test_latents_and_states():
    latent = Latent(heads=128, rank=512, rotary=64, nope=128, value_dim=128)
    assert of_mixer(latent, setting()).kv == 1024 * (512 + 64) * 2
    assert of_mixer(latent, setting(expanded=True)).kv == 1024 * 128 * (192 + 128) * 2
    delta = GatedDelta(key_heads=16, value_heads=32, key_dim=128, value_dim=128, kernel=4)
    assert of_mixer(delta, setting(batch=2)).state == 2 * (8192 * 3 * 2 + 32 * 128 * 128 * 4)
    old, new = (
        Mamba1(inner=4096, state=16, kernel=4),
        Mamba2(inner=4096, heads=64, groups=1, state=128, kernel=4),
    )
    assert of_mixer(old, setting()).state == 4096 * 3 * 2 + 4096 * 16 * 2
    assert of_mixer(new, setting()).state == (4096 + 256) * 3 * 2 + 4096 * 128 * 4
    assert of_mixer(Shared(owner=0), setting()) == CacheBytes()


@pytest.mark.slow
@given(
    m=st.sampled_from((LLAMA, NEAR)),
    tokens=st.integers(2, 50_000),
    more=st.integers(0, 5000),
    batch=st.integers(1, 8),
    windows=st.booleans(),
    reading=st.booleans(),
)
@settings(deadline=None)
def test_laws_of_caches(m, tokens, more, batch, windows, reading):
    """Longer texts take no less, a batch takes each request's, a window never takes more."""
    at = {"windows": windows, "reading": reading}
    one = of_mixer(m, setting(prompt=tokens, tokens=tokens, **at)).kv
    longer = of_mixer(m, setting(prompt=tokens + more, tokens=tokens + more, **at)).kv
    assert one <= longer
    many = of_mixer(m, setting(prompt=tokens, tokens=tokens, batch=batch, **at)).kv
    assert abs(batch * one - many) <= 2 * batch * PAGE
    whole = of_mixer(m, setting(prompt=tokens, tokens=tokens, reading=reading)).kv
    assert one <= whole + 2 * 256 * 8 * 128 * 2


@pytest.mark.parametrize(("nbytes", "held"), [(1, 1), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)])
def test_buffers_are_whole_pages(nbytes, held):
    assert paged(nbytes) == held


# What is under way


def test_eleven_command_buffers():
    """More than 50 Mi elements go through each operation, so each is a command buffer of its own:
    ten that run, and the one that is made."""
    assert flight((Operation(51 << 20, 7),) * 20, 50) == 11 * 7


def test_small_operations_share_a_command_buffer():
    """51 of them, or 41 on a chip that is neither Max nor Ultra (device.cpp, `arch`)."""
    assert flight((Operation(1, 1),) * 1000, 50) == 11 * 51
    assert flight((Operation(1, 1),) * 1000, 40) == 11 * 41


def test_what_comes_out_counts_as_what_goes_in():
    """set_output_array calls set_input_array: 26 Mi in and as many out are more than 50."""
    assert flight((Operation(26 << 20, 26 << 20),) * 20, 50) == 11 * (26 << 20)


def test_what_a_cache_is_a_slice_of_stays():
    step = (Operation(0, 0, keeps=5), Operation(0, 3)) * 100
    assert flight(step, 50) == 100 * 5 + flight((Operation(0, 0), Operation(0, 3)) * 100, 50)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 1 << 27), st.integers(0, 1 << 20)), min_size=1))
@settings(deadline=None)
def test_laws_of_flight(pairs):
    """No more than all make, no less than one operation does; what reads more is committed sooner,
    and never holds more."""
    step = tuple(Operation(*pair) for pair in pairs)
    found = flight(step, 50)
    assert max(op.makes for op in step) <= found <= sum(op.makes for op in step)
    assert flight(tuple(op._replace(reads=1 << 30) for op in step), 50) <= found


def test_all_layers_of_a_small_prompt_are_walked():
    """Layers of few operations: more than eight of them are under way at once."""
    thin = LayerBlock(mixers=(), feeds=(Dense(width=64, gated=True),))
    at = Moment(tokens=8, cells=8)
    eight, all_of_them = (temporaries((thin,) * n, 64, at, 2).expected for n in (8, 200))
    assert all_of_them > 2 * eight


def test_the_input_of_a_convolution_stays_in_every_layer():
    """Qwen3.5 27B, 48 layers of 10,240 channels in 16 bits (models/qwen3_5.py, `conv_input`)."""
    m = GatedDelta(key_heads=16, value_heads=48, key_dim=128, value_dim=128, kernel=4)
    at = Moment(tokens=2048, cells=2048)
    kept = sum(op.keeps for op in operations(LayerBlock(mixers=(m,)), 5120, at))
    assert kept == 2048 * 10_240


# Operations of one layer, worked by hand: (read, made), and what is kept


def of_layer(*mixers, hidden=7, feeds=(), query_rank=0, **more):
    block = LayerBlock(mixers=mixers, feeds=feeds, query_rank=query_rank)
    at = Moment(**{"tokens": 4, "cells": 8} | more)
    return [tuple(op)[: 3 if op.keeps else 2] for op in operations(block, hidden, at)]


IN_PLACE = (0, 0)


def test_operations_of_attention_whose_scores_are_stored():
    """models/llama.py: two heads of 3 and 5 numbers, one of keys and values, 4 tokens, 8 cells."""
    m = Attention(heads=2, kv_heads=1, key_dim=3, value_dim=5)
    into = [(0, 28), (42, 24), (21, 12), (35, 20), (0, 24), (0, 12), (64, 0)]
    scores = [(0, 16), (0, 64), IN_PLACE, IN_PLACE, (0, 40)]
    out = [(0, 40), (70, 28), (28, 0)]
    assert of_layer(m, stored=True) == into + scores + out
    assert of_layer(m) == into + out


def test_operations_of_latents():
    """models/deepseek_v3.py: scores of positions are the mask; keys and values are made of every
    cell for a prompt alone."""
    m = Latent(heads=2, rank=6, rotary=3, nope=5, value_dim=7)
    into = [(0, 40), (40, 16), (64, 64), (90, 36), (72, 64)]
    made, out = [(0, 80), (0, 112)], [(0, 56), (0, 56), (140, 40), (40, 0)]
    assert of_layer(m, hidden=10, query_rank=4) == into + made + out
    straight = of_layer(m, hidden=10, tokens=1)
    assert straight[:4] == [(0, 10), (160, 16), (90, 9), (72, 16)]
    assert straight[4:] == [(0, 14), (0, 14), (140, 10), (10, 0)]


def test_operations_of_a_gated_delta_net():
    """gated_delta.py: states, decays and what is written in 32 bits, twice the numbers."""
    m = GatedDelta(key_heads=1, value_heads=2, key_dim=3, value_dim=5, kernel=4)
    into = [(0, 28), (112, 64), (70, 40), (14, 8), (14, 8), (0, 0, 64), (0, 64), IN_PLACE]
    normed = [(0, 12), IN_PLACE] * 2
    state = [(0, 16), (0, 8), (0, 40), (60, 100)]
    assert of_layer(m) == into + normed + state + [(0, 40), (0, 40), (70, 28), (28, 0)]


def test_operations_of_a_short_convolution():
    """models/lfm2.py: one linear makes three widths."""
    made = [(0, 20), (0, 0, 20), (0, 20), (0, 20)]
    assert of_layer(ShortConv(width=5, kernel=3)) == [
        *((0, 28), (105, 60)),
        *made,
        *((35, 28), (28, 0)),
    ]


@all_of(
    ("m", "projected", "given"),
    [
        (Mamba1(inner=5, state=4, kernel=4), 10, 5),
        (GatedRecurrence(width=5, kernel=4), 10, 5),
        (KimiDelta(heads=2, dim=3, kernel=4), 24, 12),
        (LinearAttention(heads=2, dim=3), 24, 12),
        (Rwkv(width=7, inner=5, head_dim=5), 20, 5),
    ],
)
def test_operations_of_other_recurrences(m, projected, given):
    """A projection of so many numbers a token, a convolution, the recurrence, the way back."""
    into = [(0, 28), (7 * projected, 4 * projected), (0, 4 * projected)]
    assert of_layer(m) == [*into, *[(0, 4 * given)] * 2, (7 * given, 28), (28, 0)]


@pytest.mark.parametrize(("scanned", "scores"), [(2, 16), (3, 24), (256, 32)])
def test_operations_of_mamba_2(scanned, scores):
    """Twelve channels of a convolution beside six inner; and four matrices in 32 bits of two heads
    x 4 tokens x as many as a piece has."""
    m = Mamba2(inner=6, heads=2, groups=1, state=3, kernel=4)
    plain = [(0, 28), (126, 72), (0, 72), (0, 24), (0, 24), (42, 28), (28, 0)]
    assert of_layer(m, scanned=scanned) == plain + [(0, 2 * scores)] * 4


def test_operations_of_feed_forwards():
    """Experts of 5: two of eight for each of four tokens; all eight matrices are read."""
    up, down = (35, 20), (35, 28)
    gated = [(0, 28), up, up, IN_PLACE, down, (28, 0)]
    assert of_layer(feeds=(Dense(width=5, gated=True),)) == gated
    assert of_layer(feeds=(Dense(width=5, gated=False),)) == gated[:1] + gated[2:]
    into = [(0, 28), (56, 32), (0, 56)]
    out = [IN_PLACE, (280, 56), (0, 56), (0, 28)]
    shared = [(21, 12), (21, 12), IN_PLACE, (21, 28)]
    mixed = Experts(count=8, top_k=2, width=5, gated=True, shared=3)
    assert of_layer(feeds=(mixed,)) == [*into, *[(280, 40)] * 2, *out, *shared, (28, 0)]
    plain = Experts(count=8, top_k=2, width=5, gated=False)
    assert of_layer(feeds=(plain,)) == [*into, (280, 40), *out, (28, 0)]


def test_packed_matrices_are_read_as_words_of_32_bits():
    """64 weights of 4.5 bits are 288 bits, nine words; in 16 bits as many arrays' elements."""
    assert [Moment(tokens=1, cells=1, bits=b).weight(64) for b in (4.5, 16)] == [9, 64]


def test_a_committed_buffers_last_output_is_read_by_the_next():
    """Blocks of 26 Mi each: the first buffer holds two, each later one, with what it reads, is full
    after one. While the first of ten runs, and one is open, that is twelve."""
    assert flight((Operation(0, 26 << 20),) * 30, 50) == 12 * (26 << 20)


def test_shares_of_what_is_under_way():
    """A norm, one number a token, and the product back, 100 x (8 + 1 + 8) numbers of two bytes:
    0.55, 1 and 1.35 of 3,400."""
    block = LayerBlock(mixers=(), feeds=(Dense(width=1, gated=False),))
    at = Moment(tokens=100, cells=100)
    assert temporaries((block,), 8, at, 2) == (1870, 3400, 4590)


def test_latents_were_stored_as_keys_and_values_of_all_heads():
    """Before 0.30.6, pull request 839: DeepSeek-V3's peaks at 4,096 and 16,384 tokens."""
    for length, old, new in ((4096, 401.668e9, 383.213e9), (16_384, 469.906e9, 398.605e9)):
        for release, gb in (("0.30.5", old), ("0.30.6", new)):
            w = {"prompt_len": length, "max_new_tokens": 128, "engine_version": release}
            assert allocated(asked("deepseek-v3", **w)).expected == pytest.approx(gb, rel=0.01)


@all_of(
    ("release", "name", "expanded"),
    [
        ((0, 30, 5), "deepseek_v3", True),
        ((0, 30, 6), "deepseek_v3", False),
        ((0, 30, 6), "kimi_linear", True),
        ((0, 30, 7), "kimi_linear", False),
        ((0, 32), "deepseek_v2", True),
    ],
)
def test_which_classes_expand(release, name, expanded):
    """#839, #853 and #868; DeepSeek-V2's still does."""
    assert (facts(name).mlx.expands in mlx_rules(release).expands) == expanded


def test_heads_of_96_have_a_kernel_since_mlx_0_32_1():
    """Phi-3's; until then their scores were stored. Heads of 64, 80 and 128 had one before."""

    def step(name, release):
        return computing(asked(name, context=4096, engine_version=release))

    assert step("phi-3-mini", "0.31.3") > step("phi-3-mini", "0.32")
    assert step("llama-3.1-8b", "0.31.3") == step("llama-3.1-8b", "0.32")


def test_a_prompt_is_read_in_pieces():
    """2,048 tokens at once since 0.22.2, 512 before; a text of one piece is smaller still."""
    assert mlx_rules((0, 22)).prefill_step == 512
    assert mlx_rules((0, 32)).prefill_step == 2048
    short, piece, long = map(computing, (asked(context=n) for n in (512, 4096, 8192)))
    assert short < piece <= long < 1.1 * piece
    assert computing(asked(context=8192, prefill_step_size=512)) < piece


def test_heads_that_no_kernel_takes_store_their_scores():
    """Gemma 3's 256 values: tokens x cells x heads (mlx scaled_dot_product_attention.cpp)."""
    short, long = (computing(asked("gemma-3-12b", context=n)) for n in (8192, 32_768))
    assert long > 2 * short


# Refusals and settings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "workload", "says"),
    [
        ("llama-3.1-8b", {"gpu": "4090"}, "Apple's chips; its CUDA backend"),
        ("llama-3.1-8b", {"gpu": "m3 max 64gb:2"}, "one Mac"),
        ("llama-3.1-8b", {"quantization": "nf4"}, "nf4: mlx-lm 0.32 does not read it"),
        ("llama-3.1-8b", {"kv_cache_dtype": "q4_0"}, "2, 3, 4, 5, 6, 8 bits"),
        ("llama-3.1-8b", {"kv_cache_dtype": "7bit"}, "2, 3, 4, 5, 6, 8 bits"),
        ("llama-3.1-8b", {"kv_cache_dtype": "8bit", "batch_size": 2}, "no quantized cache"),
        ("qwen3-4b", {"kv_cache_dtype": "4bit", "max_kv_size": 512}, "no rotating cache"),
        ("gemma-3-4b", {"kv_cache_dtype": "8bit"}, "sliding window"),
        ("bert-base-uncased", {"quantization": None}, "no class for model type 'bert'"),
    ],
)
def test_what_mlx_lm_refuses(name, workload, says):
    with pytest.raises((UsageError, UnsupportedError), match=says):
        asked(name, **workload)


@pytest.mark.parametrize(
    ("workload", "settings"),
    [
        ({}, {}),
        ({"prompt_len": 4000, "max_new_tokens": 96}, {"max_new_tokens": 96}),
        ({"kv_cache_dtype": "4bit"}, {"kv_cache_dtype": "4bit"}),
        ({"max_kv_size": 512}, {"max_kv_size": 512}),
        ({"batch_size": 40}, {"program": "server"}),
        ({"program": "server"}, {"program": "server"}),
        (
            {"batch_size": 2, "prefill_step_size": 512},
            {"program": "server", "prefill_step_size": 512},
        ),
    ],
)
def test_lines_are_read_back(workload, settings):
    """How long a text is, and how many there are, is no part of a line."""
    found = parse(asked("qwen3-4b", **workload).derived["launch"])
    assert (found.model, found.settings) == ("mlx-community/Qwen3-4B-4bit", settings)
    assert (found.engine, found.unknown, found.warnings) == ("mlx", (), ())


@pytest.mark.parametrize(
    ("line", "model", "settings"),
    [
        ("python -m mlx_lm.server --model a/b --port 80", "a/b", {"program": "server"}),
        ("mlx_lm generate --model a/b -m 99", "a/b", {"max_new_tokens": 99}),
        ("mlx_lm.chat --model a/b --max-kv-size 4096", "a/b", {"max_kv_size": 4096}),
    ],
)
def test_other_lines(line, model, settings):
    found = parse(line)
    assert (found.engine, found.model, found.settings) == ("mlx", model, settings)


def test_bits_that_begin_later_are_said():
    found = parse("mlx_lm.generate --model a/b --kv-bits 8")
    assert "5,000 tokens" in found.warnings[0]


def test_a_command_leaves_the_context_open():
    """Caches grow: the usual 4,096 tokens, not the model's maximum."""
    assert asked(engine_defaults=True).settings["context"] == 4096


def test_a_class_with_caches_of_its_own_has_no_bound():
    bound = asked("qwen3-4b", max_kv_size=1024, context=8192)
    assert bound.settings["max_kv_size"] == 1024
    found = asked(max_kv_size=1024, context=8192)
    assert found.settings["max_kv_size"] is None
    assert "makes its caches itself" in found.warnings[0]


@pytest.mark.parametrize(("form", "said"), [("mlx-6bit-g64", True), (FOUR, False)])
def test_weights_near_the_working_set_are_said(form, said):
    """mlx-lm warns beyond nine tenths of it (generate.py, wired_limit): a Mac of 16 GB has 11.3
    GiB, of which Qwen3-14B takes 11.2 in 6 bits."""
    found = asked("qwen3-14b", quantization=form, gpu="m1 16gb")
    assert any("Metal recommends" in w for w in found.warnings) == said


@pytest.mark.parametrize("spelling", ["mlx", "mlx-lm", "MLX_LM"])
def test_four_bits_are_its_own_however_the_engine_is_spelled(spelling):
    asked = weighbridge.infer("smollm2-135m", engine=spelling, quantization="4bit")
    assert asked.workload["quantization"] == FOUR


def small_hybrid(bits):
    """Qwen3.5 0.8B: 24 layers of 1,024 numbers, every fourth with attention, 8 heads, 2 of keys."""
    whole = catalogue.find("qwen3.5-9b").config
    text = whole["text_config"] | {
        "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 24,
        "num_attention_heads": 8, "num_key_value_heads": 2, "linear_num_value_heads": 16,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 6,
        "tie_word_embeddings": True,
    }  # fmt: skip
    quantization = {"group_size": 64, "bits": bits}
    return whole | {"text_config": text, "tie_word_embeddings": True, "quantization": quantization}


@pytest.mark.parametrize(
    ("bits", "prompt", "gb"),
    [(8, 1500, 2.108), (8, 15_000, 3.088), (4, 1500, 1.751), (4, 15_000, 2.712)],
)
def test_a_chip_with_smaller_buffers_holds_as_much(bits, prompt, gb):
    """mlx-lm 0.31.1 on an M4 Pro; an Ultra's peaks were 1.765 and 2.724 GB where its were 1.751 and
    2.712."""
    w = {"prompt_len": prompt, "max_new_tokens": 1500, "prefill_step_size": 2048}
    w |= {"context": prompt + 1500, "engine_version": "0.31.1", "engine": "mlx"}
    model = of_config(small_hybrid(bits))
    pro, ultra = (
        answer(model, gpu=name, **w).devices[0].peak("allocated")
        for name in ("m4-pro-48gb", "m2-ultra-64gb")
    )
    assert pro.expected / 1e9 == pytest.approx(gb, rel=0.06)
    assert (pro.expected, pro.high) == (ultra.expected, ultra.high)
    assert pro.low < ultra.low
