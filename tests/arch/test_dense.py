"""Dense text decoders without torch: published counts and edges worked by hand.

The counts are `safetensors.total` of the models' pages on the Hugging Face Hub, the tables of
safetensors' documentation, or an index's total size over the size of an element; where such a
total includes stored masks, the entry says so.
"""

import pytest

from tests.cases import all_of
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config


def weigh(model_type, cls="", **keys):
    return blueprint(Config({"model_type": model_type, **keys}, cls=cls))


def llama_like(model_type, sizes, **more):
    """Hidden size, layers, heads, key-value heads, inner size, vocabulary."""
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "vocab_size",
    )
    return {"model_type": model_type, **dict(zip(names, sizes, strict=True)), **more}


TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}

# model -> its config's decisive keys, its published number of parameters
PUBLISHED = {
    "Llama-3.1-8B": (llama_like("llama", (4096, 32, 32, 8, 14336, 128256)), 8_030_261_248),
    "Mistral-7B-v0.1": (llama_like("mistral", (4096, 32, 32, 8, 14336, 32000)), 7_241_732_096),
    "Devstral-Small-2507": (
        llama_like("mistral", (5120, 40, 32, 8, 32768, 131072), head_dim=128),
        23_572_403_200,
    ),
    "SmolLM3-3B": (llama_like("smollm3", (2048, 36, 16, 4, 11008, 128256)), 3_075_098_624),
    "gemma-2b": (llama_like("gemma", (2048, 18, 8, 1, 16384, 256000), head_dim=256), 2_506_172_416),
    "gemma-2-2b": (llama_like("gemma2", (2304, 26, 8, 4, 9216, 256000)), 2_614_341_888),
    "gemma-2-27b": (
        llama_like("gemma2", (4608, 46, 32, 16, 36864, 256000), head_dim=128),
        27_227_128_320,
    ),
    "gemma-3-270m": (
        llama_like("gemma3_text", (640, 18, 4, 1, 2048, 262144), head_dim=256),
        268_098_176,
    ),
    "gemma-3-1b": (
        llama_like("gemma3_text", (1152, 26, 4, 1, 6912, 262144), head_dim=256),
        999_885_952,
    ),
    "phi-2": (llama_like("phi", (2560, 32, 32, 32, 10240, 51200)), 2_779_683_840),
    "Phi-3.5-mini": (llama_like("phi3", (3072, 32, 32, 32, 8192, 32064)), 3_821_079_552),
    "phi-4": (llama_like("phi3", (5120, 40, 40, 10, 17920, 100352)), 14_659_507_200),
    "falcon-7b": (
        {"model_type": "falcon", "multi_query": True},
        6_921_720_704,
    ),
    "falcon-40b": (
        {
            "model_type": "RefinedWeb",
            "hidden_size": 8192,
            "n_head": 128,
            "n_head_kv": 8,
            "n_layer": 60,
            "parallel_attn": True,
            "vocab_size": 65024,
        },
        41_303_293_952,
    ),
    "opt-125m": ({"model_type": "opt"}, 125_239_296),
    "bloom-560m": (
        {"model_type": "bloom", "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16},
        559_214_592,
    ),
    "bloom": (
        {"model_type": "bloom", "hidden_size": 14336, "n_layer": 70, "n_head": 112},
        176_247_271_424,
    ),
    # 137,022,720 with the 12 masks of 1024 x 1024 that its file stores
    "gpt2": ({"model_type": "gpt2"}, 137_022_720 - 12 * 1024 * 1024),
    "gpt-j-6b": ({"model_type": "gptj"}, 6_050_882_784),
    # 1,365,907,456 with the 12 masks of 2048 x 2048 of its local layers
    "gpt-neo-1.3B": ({"model_type": "gpt_neo"}, 1_365_907_456 - 12 * 2048 * 2048),
    "mpt-7b": (
        {"model_type": "mpt", "d_model": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": 50432},
        6_649_286_656,
    ),
    "c4ai-command-r7b": (llama_like("cohere2", (4096, 32, 32, 8, 14336, 256000)), 8_028_033_024),
    "OLMo-1B": (llama_like("olmo", (2048, 16, 16, 16, 8192, 50304), **TIED), 1_176_764_416),
    "OLMo-2-1B": (llama_like("olmo2", (2048, 16, 16, 16, 8192, 100352)), 1_484_916_736),
    "Olmo-3-7B": (llama_like("olmo3", (4096, 32, 32, 32, 11008, 100278)), 7_298_011_136),
    "granite-3.3-8b": (
        llama_like("granite", (4096, 40, 32, 8, 12800, 49159), **TIED),
        8_170_864_640,
    ),
    "stablelm-2-1_6b": (
        llama_like("stablelm", (2048, 24, 32, 32, 5632, 100352), use_qkv_bias=True),
        1_644_515_328,
    ),
    "stablelm-3b-4e1t": (llama_like("stablelm", (2560, 32, 32, 32, 6912, 50304)), 2_795_443_200),
    "GLM-4-9B-0414": (
        llama_like("glm4", (4096, 40, 32, 2, 13696, 151552), attention_bias=True, head_dim=128),
        9_400_279_040,
    ),
    "glm-4-9b-chat-hf": (
        llama_like("glm", (4096, 40, 32, 2, 13696, 151552), attention_bias=True, head_dim=128),
        9_399_951_360,
    ),
    "EXAONE-4.0-1.2B": (
        llama_like("exaone4", (2048, 30, 32, 8, 4096, 102400), **TIED),
        1_279_391_488,
    ),
    "EXAONE-3.5-2.4B": (
        llama_like("exaone", (2560, 30, 32, 8, 7168, 102400), head_dim=80, **TIED),
        2_405_327_360,
    ),
    "Seed-OSS-36B": (
        llama_like("seed_oss", (5120, 64, 80, 8, 27648, 155136), head_dim=128, attention_bias=True),
        36_151_104_512,
    ),
    "helium-1-2b": (llama_like("helium", (2048, 28, 16, 8, 8192, 64000), **UNTIED), 2_023_868_416),
    "Apertus-8B": (
        llama_like("apertus", (4096, 32, 32, 8, 21504, 131072), hidden_act="xielu"),
        8_053_338_176,
    ),
    "internlm3-8b": (
        llama_like("internlm3", (4096, 48, 32, 2, 10240, 128512), head_dim=128),
        8_804_241_408,
    ),
    "internlm2_5-7b": (
        llama_like("internlm2", (4096, 32, 32, 8, 14336, 92544), bias=False),
        7_737_708_544,
    ),
    "MiMo-7B": (
        llama_like("mimo", (4096, 36, 32, 8, 11008, 151680), num_nextn_predict_layers=1),
        7_833_409_536,
    ),
    "Qwen-7B": (llama_like("qwen", (4096, 32, 32, 32, 22016, 151936), **UNTIED), 7_721_324_544),
    "Baichuan2-13B": (
        llama_like("baichuan", (5120, 40, 40, 40, 13696, 125696), **UNTIED),
        13_896_668_160,
    ),
    "chatglm3-6b": (
        {
            "model_type": "chatglm",
            "hidden_size": 4096,
            "num_layers": 28,
            "num_attention_heads": 32,
            "ffn_hidden_size": 13696,
            "kv_channels": 128,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "add_qkv_bias": True,
            "padded_vocab_size": 65024,
        },
        6_243_584_000,
    ),
    "phi-1_5 as phi-msft": (
        {
            "model_type": "phi-msft",
            "n_embd": 2048,
            "n_head": 32,
            "n_layer": 24,
            "vocab_size": 51200,
        },
        1_418_270_720,
    ),
}


@all_of("name", PUBLISHED)
def test_published_counts(name):
    raw, count = PUBLISHED[name]
    assert blueprint(Config(raw)).parameters == count


def numel(plan, *ends):
    return {p.name: p.shape for p in plan.params if p.name.endswith(ends)}


# Edges, worked by hand


def test_a_null_head_dim_is_hidden_size_over_heads():
    keys = llama_like("llama", (48, 1, 6, 2, 10, 11))
    plan = blueprint(Config({**keys, "head_dim": None}))
    assert numel(plan, "q_proj.weight", "k_proj.weight") == {
        "model.layers.0.self_attn.q_proj.weight": (48, 48),
        "model.layers.0.self_attn.k_proj.weight": (16, 48),
    }


def test_an_explicit_head_dim_need_not_divide_anything():
    plan = blueprint(Config(llama_like("mistral", (48, 1, 6, 2, 10, 11), head_dim=5)))
    assert numel(plan, "o_proj.weight") == {"model.layers.0.self_attn.o_proj.weight": (48, 30)}


def test_absent_key_value_heads_are_as_many_as_heads():
    keys = llama_like("phi", (48, 1, 6, None, 10, 11))
    plan = blueprint(Config(keys))
    assert numel(plan, "k_proj.weight") == {"model.layers.0.self_attn.k_proj.weight": (48, 48)}


FALCON = {"hidden_size": 48, "num_hidden_layers": 1, "vocab_size": 11}


@pytest.mark.parametrize(
    ("keys", "rows"),
    [
        ({"num_attention_heads": 6, "multi_query": True}, 48 + 2 * 8),
        ({"num_attention_heads": 6, "multi_query": False}, 3 * 48),
        (
            {"num_attention_heads": 6, "new_decoder_architecture": True, "num_kv_heads": 2},
            (2 * 2 + 6) * 8,
        ),
        ({"num_attention_heads": 6, "new_decoder_architecture": True}, 3 * 48),
    ],
)
def test_falcons_three_ways_to_share_keys(keys, rows):
    plan = weigh("falcon", **FALCON, **keys)
    found = numel(plan, "query_key_value.weight")
    assert found == {"transformer.h.0.self_attention.query_key_value.weight": (rows, 48)}


@pytest.mark.parametrize("spelling", ["num_key_value_heads", "n_head_kv"])
def test_refined_web_reads_only_its_own_name_for_key_value_heads(spelling):
    keys = {"hidden_size": 48, "n_head": 6, "n_layer": 1, "vocab_size": 11, spelling: 2}
    rows = numel(weigh("RefinedWeb", **keys), "query_key_value.weight").popitem()[1][0]
    assert rows == ((2 * 2 + 6) * 8 if spelling == "n_head_kv" else (2 * 6 + 6) * 8)


def test_starcoder_keeps_one_key_value_head():
    plan = weigh("gpt_bigcode", n_embd=48, n_head=6, n_layer=1, n_positions=8, vocab_size=11)
    assert numel(plan, "c_attn.weight") == {"transformer.h.0.attn.c_attn.weight": (64, 48)}


def test_gpt2_weights_are_transposed():
    plan = weigh("gpt2", n_embd=48, n_head=6, n_layer=1, n_positions=8, vocab_size=11)
    found = next(p for p in plan.params if p.name.endswith("c_attn.weight"))
    assert (found.shape, found.kind) == ((48, 144), "conv1d")


def test_gpt2_answers_to_both_spellings_of_its_sizes():
    new = weigh("gpt2", n_embd=48, n_head=6, n_layer=2, n_positions=8, vocab_size=11)
    old = weigh(
        "gpt2",
        hidden_size=48,
        num_attention_heads=6,
        num_hidden_layers=2,
        max_position_embeddings=8,
        vocab_size=11,
    )
    assert new.params == old.params


def test_gpt2_masks_ended_with_transformers_4():
    plan = weigh("gpt2")
    assert {b.until for b in plan.buffers} == {5}
    masks = [b for b in plan.buffers if b.name.endswith(".bias")]
    assert len(masks) == 12
    assert {b.shape for b in masks} == {(1, 1, 1024, 1024)}
    assert {b.dtype for b in masks} == {"bool"}


def test_opt_350m_has_a_narrow_embedding():
    plan = weigh(
        "opt",
        hidden_size=8,
        word_embed_proj_dim=3,
        ffn_dim=5,
        num_hidden_layers=0,
        vocab_size=11,
        max_position_embeddings=4,
        do_layer_norm_before=False,
    )
    assert {p.name: p.shape for p in plan.params} == {
        "model.decoder.embed_tokens.weight": (11, 3),
        "model.decoder.embed_positions.weight": (6, 8),
        "model.decoder.project_out.weight": (3, 8),
        "model.decoder.project_in.weight": (8, 3),
        "lm_head.weight": (11, 3),
    }
    assert plan.parameters == 33 + 48 + 24 + 24


def test_pythia_calls_its_head_embed_out_and_may_tie_it():
    keys = {"hidden_size": 8, "num_hidden_layers": 0, "intermediate_size": 4, "vocab_size": 11}
    assert weigh("gpt_neox", **keys).params[-1].name == "embed_out.weight"
    assert weigh("gpt_neox", **keys, **TIED).params[-1].tied == "gpt_neox.embed_in.weight"


def test_gemma_3n_takes_one_inner_size_a_layer():
    keys = {"num_hidden_layers": 3, "num_kv_shared_layers": 1, "intermediate_size": [5, 6, 7]}
    plan = weigh("gemma3n_text", **keys)
    assert [shape[0] for shape in numel(plan, "gate_proj.weight").values()] == [5, 6, 7]
    assert sorted(numel(plan, "k_proj.weight")) == [
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.1.self_attn.k_proj.weight",
    ]


def test_a_list_of_the_wrong_length_is_an_error():
    with pytest.raises(BadFileError, match="intermediate_size has 2 entries for 3 layers"):
        weigh("gemma3n_text", num_hidden_layers=3, intermediate_size=[5, 6])


def test_kinds_of_layers_are_as_many_as_layers():
    kinds = ["full_attention", "sliding_attention"]
    plan = weigh("gemma4_text", num_hidden_layers=1, layer_types=kinds)
    assert len(numel(plan, "input_layernorm.weight")) == 1
    with pytest.raises(BadFileError, match="layer_types has 2 entries for 3 layers"):
        weigh("gemma4_text", num_hidden_layers=3, layer_types=kinds)


GEMMA4 = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 32,
    "num_global_key_value_heads": 1,
    "intermediate_size": 10,
    "vocab_size": 11,
    "hidden_size_per_layer_input": 0,
}


def test_gemma_4_has_two_sizes_of_head():
    plan = weigh("gemma4_text", **GEMMA4, attention_k_eq_v=True)
    assert list(numel(plan, "k_proj.weight").values()) == [(16, 16), (16, 16), (32, 16)]
    assert list(numel(plan, "v_proj.weight").values()) == [(16, 16), (16, 16)]
    assert list(numel(plan, "k_norm.weight").values()) == [(8,), (8,), (32,)]


def test_gemma_4_uses_the_global_key_value_heads_only_where_keys_are_values():
    plan = weigh("gemma4_text", **GEMMA4)
    assert list(numel(plan, "k_proj.weight").values()) == [(16, 16), (16, 16), (64, 16)]


def test_gemma_4_as_transformers_5_saves_it_is_the_same_model():
    published = weigh("gemma4_text", **GEMMA4, attention_k_eq_v=True)
    gone = ("global_head_dim", "num_global_key_value_heads")
    keys = {k: v for k, v in GEMMA4.items() if k not in gone}
    layers = {"02": {"head_dim": 32, "num_key_value_heads": 1}}
    saved = weigh("gemma4_text", **keys, attention_k_eq_v=True, per_layer_config=layers)
    assert saved == published


def test_gemma_4_experts_are_beside_the_dense_mlp_of_every_layer():
    mixture = {"num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 5}
    dense = weigh("gemma4_text", **GEMMA4)
    plan = weigh("gemma4_text", **GEMMA4, **mixture, enable_moe_block=True)
    one = 8 * 3 * 5 * 16 + 8 * 16 + 16 + 8 + 3 * 16  # experts, router, its scales, norms
    assert plan.parameters - dense.parameters == 3 * one
    assert {p.routed for p in plan.params if p.kind == "experts"} == {(2, 8)}


def test_stablelm_12b_has_a_norm_for_every_head():
    keys = llama_like("stablelm", (48, 1, 6, 2, 10, 11), qk_layernorm=True)
    plan = blueprint(Config(keys))
    assert len(numel(plan, *(f"q_layernorm.norms.{i}.weight" for i in range(6)))) == 6
    assert sum("k_layernorm" in p.name for p in plan.params) == 2


def test_a_searched_layer_may_lack_attention_or_be_one_linear():
    def block(attention, ffn):
        return {"attention": attention, "ffn": ffn}

    blocks = [
        block({"n_heads_in_group": 3}, {"ffn_mult": 1.5}),
        block({"no_op": True}, {"replace_with_linear": True}),
        block({"replace_with_linear": True}, {"no_op": True}),
    ]
    keys = {"hidden_size": 48, "num_attention_heads": 6, "vocab_size": 11, **UNTIED}
    plan = weigh("nemotron-nas", num_hidden_layers=3, block_configs=blocks, **keys)
    first = 48 * (48 + 16 + 16 + 48) + 3 * 48 * 256 + 2 * 48  # 2/3 x 1.5 x 48 -> 256
    assert plan.parameters == first + 2 * (48 * 48 + 48) + 2 * 11 * 48 + 48


MPT = {"d_model": 48, "n_heads": 6, "n_layers": 1, "vocab_size": 11, "expansion_ratio": 2}


def test_mpt_follows_its_config_only_as_a_remote_class():
    attn = {"attn_type": "grouped_query_attention", "kv_n_heads": 2, "alibi": True}
    own = weigh("mpt", "MptForCausalLM", **MPT, attn_config=attn)
    remote = weigh("mpt", "MPTForCausalLM", **MPT, attn_config=attn)
    assert list(numel(own, "Wqkv.weight", "up_proj.weight").values()) == [(144, 48), (192, 48)]
    assert list(numel(remote, "Wqkv.weight", "up_proj.weight").values()) == [(80, 48), (96, 48)]


def test_the_image_tower_of_qwen_vl_is_not_passed_over():
    raw, _ = PUBLISHED["Qwen-7B"]
    with pytest.raises(UnsupportedError, match="visual"):
        blueprint(Config({**raw, "visual": {"layers": 48}}))


def test_chatglm_means_the_class_with_the_head():
    keys = {
        "hidden_size": 8,
        "inner_hidden_size": 16,
        "num_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 11,
    }
    plan = weigh("chatglm", "ChatGLMModel", **keys)
    assert plan.params[0].name == "transformer.word_embeddings.weight"
    assert plan.params[-1].tied == plan.params[0].name


def test_the_frequencies_of_half_a_head():
    plan = blueprint(Config(llama_like("phi", (48, 1, 6, 6, 10, 11), partial_rotary_factor=0.4)))
    assert [b.shape for b in plan.buffers] == [(2,), (2,)]  # int(8 * 0.4) = 3, in pairs
