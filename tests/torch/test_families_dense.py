"""Dense text decoders: our tensors and buffers against transformers' own classes, small configs.

Each model type is built in several variants; a variant changes what it names and nothing else.
"""

import pytest

pytest.importorskip("torch", reason="the oracle is transformers' own build, which needs torch")
pytest.importorskip("transformers", reason="the oracle is transformers' own build")

from tests.cases import plain_and_each
from tests.torch import oracle

LLAMA = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT = {"n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 40, "vocab_size": 101}
TOKENS = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
LATENT = {
    "kv_lora_rank": 24,
    "q_lora_rank": 20,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 14,
}
ABSENT = "absent"
TIED = {"tie_word_embeddings": True}
UNTIED = {"tie_word_embeddings": False}
WIDE = {"head_dim": 14}
MHA = {"num_key_value_heads": 6}
MQA = {"num_key_value_heads": 1}
BIAS = {"attention_bias": True}
MLP = {"mlp_bias": True}
ODD = {"hidden_size": 60, "intermediate_size": 77, "vocab_size": 97}
SLIDING = {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
FULL = {"layer_types": ["full_attention"] * 3}
USUAL = (TIED, UNTIED, MHA, MQA, ODD)
BIASED = (*USUAL, WIDE, BIAS)

PER_LAYER = {"hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 33}
MOE = {
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 20,
}
GEMMA4 = {**LLAMA, **PER_LAYER, **SLIDING, "head_dim": 8, "global_head_dim": 16}

# model type: (stem of its classes, small config, what the variants change)
TYPES = {
    "llama": ("Llama", LLAMA, (*BIASED, MLP)),
    "mistral": ("Mistral", LLAMA, (*USUAL, WIDE)),
    "ministral": ("Ministral", {**LLAMA, "head_dim": 8}, (*USUAL, WIDE)),
    "ministral3": ("Ministral3", LLAMA, (*USUAL, WIDE)),
    "qwen2": ("Qwen2", LLAMA, USUAL),
    "qwen3": ("Qwen3", LLAMA, BIASED),
    "smollm3": ("SmolLM3", LLAMA, (*USUAL, BIAS, MLP)),
    "ernie4_5": ("Ernie4_5", LLAMA, (*USUAL, WIDE, {"use_bias": True})),
    "granite": ("Granite", LLAMA, (*USUAL, BIAS, MLP)),
    "granite_swa": (
        "GraniteSWA",
        LLAMA,
        (*USUAL, BIAS, MLP, {"layer_rope_theta": [0, 500.0, 10000.0]}),
    ),
    "cwm": ("Cwm", LLAMA, (*USUAL, WIDE)),
    "hyperclovax": ("HyperCLOVAX", LLAMA, (*BIASED, MLP, {"use_post_norm": False})),
    "seed_oss": (
        "SeedOss",
        LLAMA,
        (*BIASED, MLP, {"attention_bias": False}, {"attention_out_bias": True}),
    ),
    "arcee": ("Arcee", LLAMA, (*BIASED, MLP)),
    "helium": ("Helium", {**LLAMA, "head_dim": 8}, (*USUAL[:-1], BIAS, MLP)),
    "jais2": ("Jais2", LLAMA, (*BIASED, MLP, {"attention_bias": False, "mlp_bias": False})),
    "nemotron": ("Nemotron", LLAMA, (*BIASED, MLP, {"partial_rotary_factor": 0.25})),
    "starcoder2": ("Starcoder2", LLAMA, (*USUAL, {"use_bias": False})),
    "hunyuan_v1_dense": ("HunYuanDenseV1", {**LLAMA, "head_dim": 8}, (*USUAL, WIDE, BIAS)),
    "exaone4": ("Exaone4", LLAMA, (*USUAL, WIDE)),
    "internlm3": ("Llama", LLAMA, (*USUAL, {"qkv_bias": True, "bias": True})),
    "iquestcoder": ("Llama", LLAMA, (*BIASED, MLP)),
    "gemma": ("Gemma", LLAMA, BIASED),
    "gemma2": ("Gemma2", LLAMA, BIASED),
    "gemma3_text": ("Gemma3", LLAMA, (*BIASED, SLIDING, FULL, {"sliding_window_pattern": 2})),
    "vaultgemma": ("VaultGemma", LLAMA, BIASED),
    "gemma3n_text": (
        "Gemma3n",
        {
            **LLAMA,
            **PER_LAYER,
            **SLIDING,
            "num_hidden_layers": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
            "num_kv_shared_layers": 2,
            "laurel_rank": 5,
            "head_dim": 10,
        },
        (
            TIED,
            UNTIED,
            BIAS,
            MQA,
            {"intermediate_size": [80, 64, 48, 80, 64, 48]},
            {"altup_num_inputs": 3},
            {"num_kv_shared_layers": 4},
        ),
    ),
    "gemma4_text": (
        "Gemma4",
        GEMMA4,
        (
            TIED,
            UNTIED,
            BIAS,
            MHA,
            MOE,
            {"hidden_size_per_layer_input": 0},
            {"attention_k_eq_v": True, "num_global_key_value_heads": 3},
            {"attention_k_eq_v": True},
            {"num_global_key_value_heads": 3},
            {
                "num_hidden_layers": 4,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "num_kv_shared_layers": 2,
                "use_double_wide_mlp": True,
            },
            {"layer_types": None},
            {"global_head_dim": ABSENT, "per_layer_config": {"02": {"head_dim": 32}}},
            {"per_layer_config": {"2": {"head_dim": 32, "num_key_value_heads": 1}}},
        ),
    ),
    "gemma4_unified_text": (
        "Gemma4Unified",
        {k: v for k, v in GEMMA4.items() if k not in PER_LAYER},
        (UNTIED, BIAS, MQA, {"attention_k_eq_v": True, "num_global_key_value_heads": 3}),
    ),
    "phi": (
        "Phi",
        {**LLAMA, **UNTIED},
        (*USUAL[1:], {"qk_layernorm": True}, {"partial_rotary_factor": 0.4}),
    ),
    "phi3": ("Phi3", LLAMA, (*USUAL, {"partial_rotary_factor": 0.75})),
    "falcon": (
        "Falcon",
        {k: v for k, v in LLAMA.items() if "key_value" not in k and "interm" not in k},
        (
            TIED,
            UNTIED,
            {"multi_query": False},
            {"new_decoder_architecture": True, "num_kv_heads": 2},
            {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
            {"parallel_attn": False, "bias": True},
            {"ffn_hidden_size": 50},
            {"n_embed": 60, "hidden_size": ABSENT},
        ),
    ),
    "opt": (
        "OPT",
        {**LLAMA, "ffn_dim": 70, "word_embed_proj_dim": 48},
        (
            TIED,
            UNTIED,
            {"word_embed_proj_dim": 20},
            {"enable_bias": False},
            {"do_layer_norm_before": False},
            {"layer_norm_elementwise_affine": False},
            {"_remove_final_layer_norm": True},
        ),
    ),
    "xglm": (
        "XGLM",
        {
            "d_model": 48,
            "ffn_dim": 70,
            "num_layers": 3,
            "attention_heads": 6,
            "vocab_size": 101,
            "max_position_embeddings": 40,
        },
        (TIED, UNTIED, {"add_cross_attention": True}, {"max_position_embeddings": 33}),
    ),
    "bloom": (
        "Bloom",
        {"hidden_size": 48, "n_layer": 3, "n_head": 6, "vocab_size": 101, **TOKENS},
        (TIED, UNTIED, {"n_embed": 60, "hidden_size": ABSENT}),
    ),
    "mpt": (
        "Mpt",
        {"d_model": 48, "n_layers": 3, "n_heads": 6, "vocab_size": 101, **TOKENS},
        (TIED, UNTIED, {"expansion_ratio": 3}),
    ),
    "gpt2": (
        "GPT2",
        {**GPT, **TOKENS},
        (TIED, UNTIED, {"n_inner": 70}, {"add_cross_attention": True}, {"n_positions": 33}),
    ),
    "gpt_bigcode": (
        "GPTBigCode",
        {**GPT, **TOKENS},
        (TIED, UNTIED, {"multi_query": False}, {"n_inner": 70}),
    ),
    "openai-gpt": ("OpenAIGPT", {**GPT, **TOKENS}, (TIED, UNTIED, {"n_positions": 33})),
    "ctrl": ("CTRL", {**GPT, **TOKENS, "dff": 50}, (TIED, UNTIED)),
    "biogpt": (
        "BioGpt",
        {k: v for k, v in LLAMA.items() if "key_value" not in k} | {"pad_token_id": 0},
        (TIED, UNTIED, ODD),
    ),
    "gptj": (
        "GPTJ",
        {**GPT, **TOKENS, "rotary_dim": 4},
        (UNTIED, {"n_inner": 70}, {"rotary_dim": 0}),
    ),
    "codegen": (
        "CodeGen",
        {**GPT, **TOKENS, "n_head": 8, "rotary_dim": 4},
        (UNTIED, {"n_inner": 70}),
    ),
    "gpt_neo": (
        "GPTNeo",
        {
            "hidden_size": 48,
            "num_layers": 4,
            "num_heads": 6,
            "attention_types": [[["global", "local"], 2]],
            "max_position_embeddings": 40,
            "vocab_size": 101,
            **TOKENS,
        },
        (TIED, UNTIED, {"intermediate_size": 70}),
    ),
    "gpt_neox": (
        "GPTNeoX",
        {k: v for k, v in LLAMA.items() if "key_value" not in k},
        (TIED, UNTIED, {"attention_bias": False}, {"rotary_pct": 0.5}, ODD),
    ),
    "gpt_neox_japanese": (
        "GPTNeoXJapanese",
        {k: v for k, v in LLAMA.items() if "key_value" not in k and "intermediate" not in k},
        (TIED, UNTIED, {"intermediate_multiple_size": 3}, {"rotary_pct": 0.5}),
    ),
    "persimmon": (
        "Persimmon",
        {k: v for k, v in LLAMA.items() if "key_value" not in k},
        (TIED, UNTIED, {"qk_layernorm": False}, {"partial_rotary_factor": 0.25}),
    ),
    "cohere": (
        "Cohere",
        LLAMA,
        (*USUAL, BIAS, {"use_qk_norm": True}, {"use_qk_norm": True, **MQA}),
    ),
    "cohere2": ("Cohere2", LLAMA, (*USUAL, BIAS, SLIDING)),
    "olmo": ("Olmo", LLAMA, (*USUAL, BIAS)),
    "olmo2": ("Olmo2", LLAMA, (*USUAL, BIAS)),
    "olmo3": ("Olmo3", LLAMA, (*USUAL, BIAS, SLIDING, FULL, {"num_hidden_layers": 5})),
    "stablelm": (
        "StableLm",
        LLAMA,
        (*USUAL, {"use_qkv_bias": True}, {"qk_layernorm": True}, {"use_parallel_residual": True}),
    ),
    "glm": ("Glm", LLAMA, (*USUAL, WIDE, BIAS, {"attention_bias": False})),
    "glm4": ("Glm4", LLAMA, (*USUAL, WIDE, BIAS, {"partial_rotary_factor": 0.25})),
    "apertus": ("Apertus", LLAMA, (*USUAL, BIAS, {"hidden_act": "silu"})),
    "bitnet": ("BitNet", LLAMA, (*USUAL, BIAS)),
    "diffllama": ("DiffLlama", LLAMA, (TIED, UNTIED, MHA, ODD, WIDE, BIAS)),
    "nanochat": ("NanoChat", LLAMA, (*USUAL, BIAS)),
    "minicpm3": (
        "MiniCPM3",
        {**LLAMA, **LATENT, **MHA},
        (TIED, UNTIED, BIAS, MLP, {"v_head_dim": None}, {"q_lora_rank": None}),
    ),
    "youtu": ("Youtu", {**LLAMA, **LATENT, **MHA}, (TIED, UNTIED, BIAS, {"q_lora_rank": None})),
}

HEADS = (
    "Model",
    "TextModel",
    "LMHeadModel",
    "DoubleHeadsModel",
    "ForSequenceClassification",
    "TextForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)


def causal(model_type, stem):
    old = model_type in {"gpt2", "openai-gpt", "ctrl"}
    return f"{stem}LMHeadModel" if old else f"{stem}ForCausalLM"


def config(model_type, change=None, cls=None):
    stem, small, _ = TYPES[model_type]
    names = [cls or causal(model_type, stem)]
    raw = {"model_type": model_type, "architectures": names, **small, **(change or {})}
    return {key: value for key, value in raw.items() if value != ABSENT}


VARIANTS = plain_and_each(
    2,
    [
        pytest.param(model_type, change, id=f"{model_type}-{i}")
        for model_type, (_, _, changes) in TYPES.items()
        for i, change in enumerate(({}, *changes))
    ],
)


@pytest.mark.parametrize(("model_type", "change"), VARIANTS)
def test_every_variant_is_what_the_class_builds(model_type, change):
    raw = config(model_type, change)
    assert oracle.differences(raw) == []
    assert oracle.buffer_differences(raw) == []


def classes():
    """The other classes that transformers has of these model types."""
    import transformers

    for model_type, (stem, _, _) in TYPES.items():
        for head in HEADS:
            if hasattr(transformers, f"{stem}{head}"):
                yield pytest.param(model_type, f"{stem}{head}", id=f"{stem}{head}")


def is_text_class(model_type, cls):
    """Gemma3Model and Gemma3ForSequenceClassification are the image models."""
    multimodal = {"gemma3_text", "gemma3n_text", "gemma4_text", "gemma4_unified_text"}
    return model_type not in multimodal or "Text" in cls


# Published files of GPT-1 name the embedding; this one of its classes makes the head the owner.
HEAD_OWNS = (
    "invented: transformer.tokens_embed.weight (101, 48)",
    "missing: lm_head.weight (101, 48)",
)


@pytest.mark.parametrize(("model_type", "cls"), list(classes()))
def test_every_head_is_what_the_class_builds(model_type, cls):
    if not is_text_class(model_type, cls):
        pytest.skip(f"{cls} takes images")
    raw = config(model_type, cls=cls)
    assert [line for line in oracle.differences(raw) if line not in HEAD_OWNS] == []
    assert oracle.buffer_differences(raw) == []


@pytest.mark.parametrize("model_type", TYPES)
def test_blocks_are_the_modules_that_are_never_split(model_type):
    raw = config(model_type)
    model = oracle.build(raw)
    plain = set(model._no_split_modules)
    found = {name for name, module in model.named_modules() if type(module).__name__ in plain}
    patterns = oracle.ours(raw).blocks
    count = oracle.ours(raw).params and len(found)
    assert {pattern.replace("*", str(i)) for pattern in patterns for i in range(count)} == found
