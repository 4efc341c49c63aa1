"""What layers remember, from configs and from GGUF metadata: every spelling, every family."""

import pytest

from tests.cases import all_of
from tests.corpus import configs
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.models.arch.builder import known
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    Indexer,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.models.arch.model_types import all_types
from weighbridge.models.catalogue import find

LLAMA = {
    "model_type": "llama",
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
}


def of(raw):
    return layers(Config(raw))


def named(name):
    return of(find(name).config)


def firsts(found):
    return [layer.mixers[0] for layer in found]


def kinds(found):
    """Kind and count of each run of mixers."""
    counts = {}
    for layer in found:
        key = tuple(type(m).__name__ for m in layer.mixers)
        counts[key] = counts.get(key, 0) + 1
    return counts


def windows(raw):
    return [m.window for m in firsts(of(raw))]


# Every family


@pytest.mark.slow
def test_every_model_type_is_read_or_has_a_reason():
    """A model type is read by its tree of modules, by a reader that its record names, by the
    language model inside, or has no cache: one of them."""
    for name, record in all_types().items():
        if record.family is not None:
            ways = (record.family.tree, record.layers, record.language, record.no_cache)
            assert sum(map(bool, ways)) == 1, name


@pytest.mark.parametrize("model_type", ["bert", "vit", "encodec", "colpali"])
def test_what_reads_at_once_remembers_nothing(model_type):
    assert of({"model_type": model_type}) == ()


def test_an_unknown_model_type_is_an_error():
    with pytest.raises(UnsupportedError, match="'llama9'"):
        of({"model_type": "llama9"})


CANNOT = {
    "MiaoshouAI__Florence-2-base-PromptGen-v2.0/config.json": "florence2_language",
    "nvidia__GLM-5.3-NVFP4/config.json": "indexer_types",
}


@pytest.mark.slow
def test_every_real_config_is_read():
    found = [(file, raw) for file, raw in configs() if known(raw)]
    if not found:
        pytest.skip("the corpus of configs is not beside this checkout")
    for file, raw in found:
        if file in CANNOT:
            with pytest.raises((BadFileError, UnsupportedError), match=CANNOT[file]):
                of(raw)
        else:
            of(raw)


# Spellings of heads


@all_of(
    ("change", "kv_heads", "dim"),
    [
        ({}, 2, 8),
        ({"num_key_value_heads": None}, 6, 8),
        ({"head_dim": None}, 2, 8),
        ({"head_dim": 16}, 2, 16),
        ({"num_key_value_heads": 1}, 1, 8),
    ],
)
def test_heads(change, kv_heads, dim):
    (one,) = set(firsts(of({**LLAMA, **change})))
    assert one == Attention(heads=6, kv_heads=kv_heads, key_dim=dim, value_dim=dim)


SHAPES = [  # published models: layers, key-value heads, size of a head
    ("falcon-7b", 32, 1, 64),
    ("falcon-40b", 60, 8, 64),
    ("gpt2", 12, 12, 64),
    ("starcoder", 40, 1, 128),
    ("dbrx", 40, 8, 128),
    ("qwen3-0.6b", 28, 8, 128),
    ("opt-350m", 24, 16, 64),
    ("bloom", 70, 112, 128),
]


@all_of(("name", "count", "kv_heads", "dim"), SHAPES)
def test_published_heads(name, count, kv_heads, dim):
    found = firsts(named(name))
    assert len(found) == count
    assert {(m.kv_heads, m.key_dim, m.value_dim) for m in found} == {(kv_heads, dim, dim)}


def test_chatglm_groups_its_keys():
    raw = {
        "model_type": "chatglm",
        "hidden_size": 64,
        "num_layers": 3,
        "num_attention_heads": 8,
        "kv_channels": 8,
        "multi_query_attention": True,
        "multi_query_group_num": 2,
        "ffn_hidden_size": 96,
        "padded_vocab_size": 97,
    }
    assert {m.kv_heads for m in firsts(of(raw))} == {2}
    assert {m.kv_heads for m in firsts(of({**raw, "multi_query_attention": False}))} == {8}


def test_searched_layers_have_heads_of_their_own():
    block = {"ffn": {"ffn_mult": 1.5}}
    raw = {
        **LLAMA,
        "model_type": "nemotron-nas",
        "vocab_size": 11,
        "block_configs": [
            {**block, "attention": {"n_heads_in_group": 3}},
            {**block, "attention": {"no_op": True}},
            {**block, "attention": {"replace_with_linear": True}},
            {**block, "attention": {"n_heads_in_group": 6}},
        ],
    }
    assert [[m.kv_heads for m in layer.mixers] for layer in of(raw)] == [[2], [], [], [1]]


def test_cross_layer_attention():
    raw = {**LLAMA, "model_type": "hunyuan_v1_moe", "use_cla": True, "cla_share_factor": 2}
    assert firsts(of(raw))[1::2] == [Shared(owner=0), Shared(owner=2)]
    assert Shared not in {type(m) for m in firsts(of({**raw, "use_cla": False}))}


# Windows


@all_of(
    ("change", "expected"),
    [
        ({"model_type": "mistral"}, [4096] * 4),  # the class default of Mistral 7B v0.1
        ({"model_type": "mistral", "sliding_window": None}, [None] * 4),
        ({"model_type": "mistral", "sliding_window": 8}, [8] * 4),
        ({"sliding_window": 8}, [8] * 4),
        ({"sliding_window": 8, "use_sliding_window": False}, [None] * 4),
        ({"model_type": "qwen2", "sliding_window": 8}, [None] * 4),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8}
            | {"max_window_layers": 3},
            [None, None, None, 8],
        ),
        (
            {"model_type": "qwen3", "use_sliding_window": True, "sliding_window": None},
            [None] * 4,
        ),
        ({"model_type": "gemma2", "sliding_window": 8}, [8, None, 8, None]),
        (
            {"model_type": "gemma3_text", "sliding_window": 8, "sliding_window_pattern": 3},
            [8, 8, None, 8],
        ),
        ({"model_type": "gpt_oss"}, [128, None, 128, None]),
        ({"model_type": "exaone4", "sliding_window_pattern": "LG"}, [4096, None, 4096, None]),
        ({"model_type": "exaone4", "sliding_window": None}, [None] * 4),
        ({"model_type": "cwm", "sliding_window": 8}, [None, 8, 8, 8]),
        (
            {"sliding_window": 8} | {"layer_types": ["full_attention", *["sliding_attention"] * 3]},
            [None, 8, 8, 8],
        ),
    ],
)
def test_windows(change, expected):
    assert windows({**LLAMA, **change}) == expected


def test_layers_that_ask_for_a_window_that_is_not_there():
    raw = {**LLAMA, "layer_types": ["sliding_attention"] * 4}
    with pytest.raises(BadFileError, match="sliding_window is missing"):
        of(raw)


def test_a_kind_of_attention_that_nobody_knows():
    with pytest.raises(BadFileError, match="'spiral_attention'"):
        of({**LLAMA, "layer_types": ["spiral_attention"] * 4})


def test_chunks():
    found = firsts(named("llama-4-maverick"))
    assert [m.chunk for m in found[:4]] == [8192, 8192, 8192, None]
    assert {m.window for m in found} == {None}


PATTERNS = [  # model, window, sliding layers, full layers
    ("gemma-3-27b", 1024, 52, 10),
    ("gemma-3-1b", 512, 22, 4),
    ("gemma-2-27b", 4096, 23, 23),
    ("gpt-oss-20b", 128, 12, 12),
    ("exaone-4.0-32b", 4096, 48, 16),
    ("mistral-7b-v0.1", 4096, 32, 0),
]


@all_of(("name", "window", "near", "far"), PATTERNS)
def test_published_windows(name, window, near, far):
    found = [m.window for m in firsts(named(name))]
    assert (found.count(window), found.count(None)) == (near, far)


def test_gemma4_heads_differ_by_kind():
    found = {(m.window, m.kv_heads, m.key_dim) for m in firsts(named("gemma-4-31b"))}
    assert found == {(1024, 16, 256), (None, 4, 512)}


GEMMA3N = {
    **LLAMA,
    "model_type": "gemma3n_text",
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    "num_kv_shared_layers": 2,
}


def test_layers_that_store_nothing_use_the_last_of_their_kind():
    assert firsts(of(GEMMA3N))[4:] == [Shared(owner=2), Shared(owner=3)]


# Latents, indexers, compression


def test_latents():
    found = named("deepseek-v3")
    assert set(firsts(found)) == {Latent(heads=128, rank=512, rotary=64, nope=128, value_dim=128)}
    assert len(found) == 61
    assert firsts(found)[0].expanded.key_elements == 128 * 192


def test_indexers():
    assert {m.indexer for m in firsts(named("deepseek-v3.2"))} == {Indexer(heads=64, dim=128)}


def test_shared_indexers_have_no_keys():
    raw = {**find("glm-5").config, "num_hidden_layers": 4}
    raw["indexer_types"] = ["full", "shared", "shared", "full"]
    assert [m.indexer is None for m in firsts(of(raw))] == [False, True, True, False]


def test_two_attentions_a_layer():
    raw = {
        "model_type": "longcat_flash",
        "num_layers": 3,
        "hidden_size": 48,
        "num_attention_heads": 6,
        "kv_lora_rank": 12,
        "qk_rope_head_dim": 6,
        "qk_nope_head_dim": 10,
        "v_head_dim": 8,
    }
    assert kinds(of(raw)) == {("Latent", "Latent"): 3}


def test_compression():
    found = firsts(named("deepseek-v4-flash"))
    assert {m.rate for m in found} == {1, 4, 128}
    assert {m.indexer is not None for m in found if m.rate == 4} == {True}
    assert {type(m) for m in found} == {Compressed}


def test_without_latents():
    """The small DeepSeek-VL2 are DeepSeek-V2 without its attention."""
    raw = {**LLAMA, "model_type": "deepseek_v2", "kv_lora_rank": None, "use_mla": False}
    raw |= {"num_key_value_heads": 6, "n_routed_experts": 4, "num_experts_per_tok": 2}
    raw |= {"moe_intermediate_size": 20, "intermediate_size": 56, "vocab_size": 97}
    assert {type(m) for m in firsts(of(raw))} == {Attention}


# States


HYBRIDS = [
    ("qwen3-next-80b-a3b", {("GatedDelta",): 36, ("Attention",): 12}),
    ("jamba-v0.1", {("Mamba1",): 28, ("Attention",): 4}),
    ("falcon-mamba-7b", {("Mamba1",): 64}),
    ("lfm2-1.2b", {("ShortConv",): 10, ("Attention",): 6}),
    ("recurrentgemma-2b", {("GatedRecurrence",): 18, ("Attention",): 8}),
    ("rwkv-4-169m", {("Rwkv",): 12}),
    ("whisper-large-v3", {("Attention", "CrossAttention"): 32}),
    ("llama-3.2-11b-vision", {("Attention",): 32, ("CrossAttention",): 8}),
]


@all_of(("name", "expected"), HYBRIDS)
def test_published_hybrids(name, expected):
    assert kinds(named(name)) == expected


def test_nemotron_h_reads_its_letters():
    raw = {
        **LLAMA,
        "model_type": "nemotron_h",
        "hybrid_override_pattern": "M-*E",
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 10,
        "n_groups": 2,
        "conv_kernel": 4,
        "head_dim": 16,
    }
    found = of(raw)
    assert [len(layer.mixers) for layer in found] == [1, 0, 1, 0]
    assert found[0].mixers[0] == Mamba2(inner=32, heads=4, groups=2, state=10, kernel=4)
    assert found[2].mixers[0].key_dim == 16


SIZES = [  # record, channels of the convolution, elements of the state, by hand
    (Mamba1(inner=16, state=4, kernel=4), 16, 64),
    (Mamba2(inner=16, heads=2, groups=2, state=4, kernel=4), 16 + 2 * 2 * 4, 64),
    (
        GatedDelta(key_heads=16, value_heads=32, key_dim=128, value_dim=128, kernel=4),
        8192,
        524_288,
    ),
    (KimiDelta(heads=2, dim=4, kernel=4), 3 * 8, 32),
    (LinearAttention(heads=2, dim=4), 0, 32),
    (ShortConv(width=16, kernel=3), 16, 0),
    (Rwkv(width=8, inner=8, head_dim=4), 16, 32),
    (Rwkv(width=8, inner=8, head_dim=0), 16, 24),
    (GatedRecurrence(width=8, kernel=4), 8, 8),
]


@all_of(("record", "channels", "state"), SIZES)
def test_sizes_of_states(record, channels, state):
    assert (record.channels, record.state_elements) == (channels, state)


# Encoders beside decoders


def test_the_length_of_an_encoder():
    whisper = named("whisper-large-v3")[0].mixers[1]
    assert (whisper.source, whisper.length) == ("audio", 1500)
    t5 = named("t5-base")[0].mixers[1]
    assert (t5.source, t5.length) == ("text", None)
    vision = next(m for m in firsts(named("llama-3.2-11b-vision")) if type(m) is CrossAttention)
    assert vision.length == 4 * (40 * 40 + 1)  # four tiles of 560 pixels in patches of 14


def test_any_encoder_before_any_decoder():
    decoder = {"model_type": "bert", "hidden_size": 24, "num_hidden_layers": 2}
    raw = {
        "model_type": "encoder-decoder",
        "encoder": decoder,
        "decoder": {**decoder, "num_attention_heads": 4},
    }
    assert kinds(of(raw)) == {("Attention", "CrossAttention"): 2}


def test_a_language_model_within():
    raw = {"model_type": "llava", "text_config": LLAMA, "vision_config": {}}
    assert of(raw) == of(LLAMA)
    qwen = {**LLAMA, "model_type": "qwen2_vl"}
    assert len(of(qwen)) == 4  # older configs have the keys among the outer ones


def test_a_key_that_looks_like_memory_and_is_not_read_is_told():
    c = Config({**LLAMA, "kv_cache_rank": 7})
    layers(c)
    assert any("kv_cache_rank" in key for key in c.unread())
    assert not any("num_key_value_heads" in key for key in c.unread())


def test_llava_of_its_authors_has_its_language_model_s_keys_at_the_top():
    flat = {"num_hidden_layers": 40, "num_attention_heads": 40, "hidden_size": 5120}
    raw = {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], **flat}
    found = layers(Config(raw))
    assert len(found) == 40
    assert found[0].mixers[0].heads == 40
