"""What layers remember, against the caches of transformers' own classes: small configs, a real
forward, every tensor of the cache counted, behind the prompt and behind some steps."""

import pytest

pytest.importorskip("torch", reason="the oracle is a forward of transformers' classes")
pytest.importorskip("transformers", reason="the oracle is a forward of transformers' classes")

import torch

from tests.cases import each
from tests.torch import cases_encoders, cases_moe, cases_multimodal, cases_vision, keeping
from tests.torch import test_families_dense as dense
from tests.torch.keeping import BATCH, PROMPT, STEPS
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.engines.transformers import caches as rules
from weighbridge.memory.components.kv_cache import Lengths
from weighbridge.models.arch.cache_layers import layers
from weighbridge.models.arch.config import Config

GROUPS = {"n_group": 1, "topk_group": 1}  # the defaults split more experts than these have
MORE = {
    "deepseek_v3": GROUPS,
    "deepseek_v32": GROUPS,
    "bailing_hybrid": {**GROUPS, "layer_group_size": 2},
    "gemma4_text": {"vocab_size_per_layer_input": 101},
    "longcat_flash": {"head_dim": 6},
    "mimo_v2_flash": {"num_attention_heads": 8},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba", "attention"]},
}
NOT_RUN = {
    "openai-gpt": "has no cache",
    "dbrx": "transformers 5.23 cannot run it: DbrxAttentionConfig has no rope_theta",
}
WINDOW = {"sliding_window": 8}
WINDOWED = {
    **dict.fromkeys(
        ("mistral", "ministral", "ministral3", "phi3", "starcoder2", "mixtral"), WINDOW
    ),
    **dict.fromkeys(
        ("phimoe", "gemma2", "gemma3_text", "vaultgemma", "gpt_oss", "cohere2"), WINDOW
    ),
    **dict.fromkeys(("olmo3", "exaone4", "cwm", "granite_swa", "mimo_v2_flash", "laguna"), WINDOW),
    **dict.fromkeys(("afmoe", "exaone_moe", "gemma3n_text", "cohere2_moe", "mellum"), WINDOW),
    "gemma4_text": {**WINDOW, "vocab_size_per_layer_input": 101},
    "qwen2": {**WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {**WINDOW, "use_sliding_window": True, "max_window_layers": 2},
    "qwen2_moe": {**WINDOW, "use_sliding_window": True, "max_window_layers": 3},
    "qwen3_moe": {**WINDOW, "use_sliding_window": True},
    "dots1": {**WINDOW, "max_window_layers": 2},
    "smollm3": {**WINDOW, "use_sliding_window": True, "no_rope_layers": [1, 0, 1]},
    "llama4_text": {"attention_chunk_size": 8, "no_rope_layers": [1, 1, 0, 1]},
    "recurrent_gemma": {"attention_window_size": 8},
    "deepseek_v4": WINDOW,
    "llama": WINDOW,
}
SHAPES = [
    ("falcon", {"multi_query": False}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("gpt_bigcode", {"multi_query": False}),
    ("gemma4_text", {"attention_k_eq_v": True, "num_global_key_value_heads": 3}),
    ("gemma4_text", {"per_layer_config": {"2": {"head_dim": 32, "num_key_value_heads": 1}}}),
    ("gemma3n_text", {"num_kv_shared_layers": 4}),
    ("llama", {"num_key_value_heads": None}),
    ("llama", {"head_dim": 14}),
    ("minimax", {"layer_types": ["full_attention", "linear_attention"] * 2}),
    ("qwen3_next", {"full_attention_interval": 2}),
    ("nemotron_h", {"hybrid_override_pattern": "MM*E"}),
    ("glm_moe_dsa", {"indexer_types": ["full", "shared", "shared", "full"]}),
    ("deepseek_v2", {"v_head_dim": 10}),
    ("lfm2", {"layer_types": None, "full_attn_idxs": [0, 2]}),
    ("zamba2", {"mamba_ngroups": 1}),
    ("bamba", {"attn_layer_indices": [1, 3]}),
]


def config(model_type, change=None):
    more = {**MORE.get(model_type, {}), **(change or {})}
    if model_type in dense.TYPES:
        raw = dense.config(model_type, more)
        small = raw.get("max_position_embeddings", 64)
        return raw if small >= PROMPT + STEPS else {**raw, "max_position_embeddings": 64}
    if model_type == "deepseek_v4":
        stem, small = "DeepseekV4", cases_moe.V4
    else:
        stem, small, _ = cases_moe.TYPES[model_type]
    return {**small, **more, "model_type": model_type, "architectures": [f"{stem}ForCausalLM"]}


ALL = sorted({*dense.TYPES, *cases_moe.TYPES} - {*NOT_RUN})
CASES = [
    *(pytest.param(name, {}, id=name) for name in ALL),
    *(pytest.param(name, change, id=f"{name}-window") for name, change in WINDOWED.items()),
    *(pytest.param(name, change, id=f"{name}-shape{i}") for i, (name, change) in enumerate(SHAPES)),
]


def ours(raw, context, after, **kind):
    setting = rules.TransformersCacheSetting(
        lengths=Lengths(context=context, **kind.pop("lengths", {})),
        batch=BATCH,
        model_type=raw["model_type"],
        dtype=BFLOAT16,
        after=after,
        **kind,
    )
    found = rules.sizes(layers(Config(raw)), setting)
    return found.kv + found.state


def both(raw, **kind):
    return ours(raw, PROMPT, "prefill", **kind), ours(raw, PROMPT + STEPS, "decode", **kind)


def own_cache(config):
    """RecurrentGemma's output does not hand its cache back."""
    from transformers import DynamicCache

    return {"past_key_values": DynamicCache(config=config)}


@pytest.mark.parametrize(("model_type", "change"), each(9, CASES))
def test_dynamic_caches(model_type, change):
    raw = config(model_type, change)
    cache = own_cache if model_type == "recurrent_gemma" else None
    assert both(raw) == keeping.decoder(raw, cache)


STATIC = ["llama", "gemma2", "gemma3_text", "gpt_oss", "deepseek_v3", "qwen3", "glm_moe_dsa"]


@pytest.mark.parametrize("model_type", STATIC)
def test_static_caches(model_type):
    """Zeros of 30 tokens, or of the window, from the first step on."""
    from transformers import StaticCache

    raw = config(model_type, WINDOWED.get(model_type))

    def cache(config):
        return {"past_key_values": StaticCache(config=config, max_cache_len=30)}

    assert both(raw, cache="static", max_cache_len=30) == keeping.decoder(raw, cache)


def test_fp8_cache():
    """A byte an element, and a scale of four bytes for each of two tensors a layer."""
    from transformers.cache_utils import QuantizedCache

    raw = config("llama")

    def cache(config):
        return {"past_key_values": QuantizedCache("fp8", config)}

    # scales have no dimension, so the oracle leaves them out
    first, last = keeping.decoder(raw, cache)
    count = len(layers(Config(raw)))
    assert both(raw, cache="fp8") == (first + 8 * count, last + 8 * count)


ENCODER = 11
BOTH = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "umt5": "UMT5ForConditionalGeneration",
    "switch_transformers": "SwitchTransformersForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
    "m2m_100": "M2M100ForConditionalGeneration",
    "marian": "MarianMTModel",
    "pegasus": "PegasusForConditionalGeneration",
    "blenderbot": "BlenderbotForConditionalGeneration",
    "blenderbot-small": "BlenderbotSmallForConditionalGeneration",
    "fsmt": "FSMTForConditionalGeneration",
    "prophetnet": "ProphetNetForConditionalGeneration",
}


@pytest.mark.parametrize("model_type", BOTH)
def test_encoder_decoders(model_type):
    small = cases_encoders.CASES[model_type][0]
    raw = {**small, "model_type": model_type, "architectures": [BOTH[model_type]]}
    if model_type == "prophetnet":  # its cache has as many layers as the encoder
        raw["num_encoder_layers"] = raw["num_decoder_layers"]
    inputs = {"input_ids": torch.randint(3, 40, (BATCH, ENCODER))}
    want = both(raw, lengths={"encoder": ENCODER})
    assert want == keeping.encoder_decoder(raw, inputs)


def test_whisper_keeps_all_frames():
    """30 seconds of two frames a position, whatever was said."""
    small = cases_encoders.CASES["whisper"][0]
    raw = {
        **small,
        "max_target_positions": 40,
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
    }
    frames = 2 * raw["max_source_positions"]
    bins = raw.get("num_mel_bins", 80)
    sound = torch.zeros(BATCH, bins, frames, dtype=torch.bfloat16)
    assert both(raw) == keeping.encoder_decoder(raw, {"input_features": sound})


def test_the_layers_of_mllama_that_see_text():
    """Without an image the others are left out."""
    raw = {
        **cases_vision.MLLAMA_TEXT,
        "model_type": "mllama_text_model",
        "architectures": ["MllamaForCausalLM"],
    }
    assert both(raw) == keeping.decoder(raw)


# Models with a language model within, asked about text alone
WITHIN = [
    *("aria", "aya_vision", "chameleon", "cohere2_vision", "emu3", "ernie4_5_vl_moe", "fuyu"),
    *("gemma3", "gemma4", "granite_speech", "idefics2", "idefics3", "internvl", "janus"),
    *("lfm2_vl", "llama4", "llava", "llava_next", "llava_next_video", "llava_onevision"),
    *("mistral3", "mllama", "ovis2", "paddleocr_vl", "paligemma", "phi4_multimodal"),
    *("qwen2_5_omni_thinker", "qwen2_5_vl", "qwen2_audio", "qwen2_vl", "qwen3_5", "qwen3_5_moe"),
    *("qwen3_omni_moe_thinker", "qwen3_vl", "qwen3_vl_moe", "smolvlm", "vipllava", "voxtral"),
]
SPEAKS = ("ForConditionalGeneration", "ForCausalLM")


@pytest.mark.filterwarnings("ignore:Casting complex values")  # Llama 4's rotary numbers
@pytest.mark.parametrize("model_type", each(2, WITHIN))
def test_language_models_within(model_type):
    cls, small = next(
        (cls, raw)
        for name, cls, raw in cases_multimodal.CASES
        if name == model_type and cls.endswith(SPEAKS)
    )
    raw = {**small, "model_type": model_type, "architectures": [cls]}
    assert both(raw, lengths={"images": 0}) == keeping.decoder(raw)


SPARSE = {
    "sparse_attention_freq": [0, 0, 1, 1],
    "sparse_index_dim": 10,
    "sparse_num_index_heads": 2,
}


@pytest.mark.parametrize(
    ("outer", "change"),
    [
        ("minimax_m3_vl", {}),
        ("minimax_m3_vl", {"sparse_attention_config": SPARSE}),
        ("step3p7", {**WINDOW, "layer_types": ["sliding_attention", "full_attention"] * 2}),
    ],
)
def test_language_models_of_larger_classes(outer, change):
    cls, inner, small, _, _ = cases_moe.INSIDE[outer]
    text = {**small, **change, "model_type": inner}
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    raw = {"model_type": outer, "architectures": [cls], "text_config": text}
    assert both(text) == keeping.decoder({**raw, "vision_config": vision})
