"""Mistral's own `params.json`, as the config.json that transformers would have for that model.

    params.json   dim hidden_dim n_layers n_heads n_kv_heads head_dim vocab_size norm_eps
    config.json   hidden_size intermediate_size num_hidden_layers num_attention_heads ...

Source: transformers 5.23 models/{ministral3,mistral3,mistral4,pixtral,voxtral}/convert_*.py (fn
convert_config) and vllm 0.20 transformers_utils/configs/mistral.py, which know the same keys. A
key that none of them knows is passed on as it is, so that whoever reads the config sees it.
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.models.formats.strict_json import short

RENAMED = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "norm_eps": "rms_norm_eps",
    "tied_embeddings": "tie_word_embeddings",
    "max_seq_len": "max_position_embeddings",
    "activation": "hidden_act",
}
MAX_LAYERS = 4096
NEEDED = ("dim", "n_layers", "n_heads", "hidden_dim", "vocab_size")

# Of the block "moe", in a Mixtral and in a model with latent attention (Mistral Large 3, Small 4).
MIXTRAL_MOE = {"num_experts": "num_local_experts", "num_experts_per_tok": "num_experts_per_tok"}
LATENT_MOE = {
    "num_experts": "n_routed_experts",
    "num_experts_per_tok": "num_experts_per_tok",
    "num_shared_experts": "n_shared_experts",
    "expert_hidden_dim": "moe_intermediate_size",
    "first_k_dense_replace": "first_k_dense_replace",
    "routed_scale": "routed_scaling_factor",
    "num_expert_groups": "n_group",
    "num_expert_groups_per_tok": "topk_group",
}
# Keys that say nothing about memory, or say again what another key says.
IGNORED_MOE = {"expert_parallel", "expert_model_parallel", "route_every_n", "renorm_strategy"}
IGNORED_MOE |= {"use_load_balancing_bias", "capacity_factor"}

YARN = {
    "factor": "factor",
    "original_max_position_embeddings": "original_max_position_embeddings",
    "beta": "beta_fast",
    "alpha": "beta_slow",
}
# Of the block "vision_encoder": what belongs to the whole model, not to its tower.
PROJECTOR = {
    "adapter_bias": "multimodal_projector_bias",
    "spatial_merge_size": "spatial_merge_size",
    "image_token_id": "image_token_index",
}
AUDIO = {
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "head_dim": "head_dim",
    "vocab_size": "vocab_size",
    "max_source_positions": "max_source_positions",
}

Raw = dict[str, Any]


def transformers_config(params: Mapping[str, Any]) -> Raw:
    """Return the equivalent config; `architectures` and `model_type` are transformers' names."""
    raw = dict(params)
    if raw.get("model_type") == "mamba":
        return _mamba(raw)
    _check(raw)
    vision = _block(raw, "vision_encoder")
    audio = _block(raw, "multimodal").get("whisper_model_args")
    raw.pop("vision_encoder", None)
    raw.pop("multimodal", None)
    text = _text(raw)
    if audio is not None:
        return _voxtral(text, audio)
    return _with_vision(text, vision) if vision else text


def _check(raw: Raw) -> None:
    if "multiple_of" in raw and "hidden_dim" not in raw:
        raise UnsupportedError(sentence("mistral.of_meta"))
    missing = [key for key in NEEDED if raw.get(key) is None]
    if missing:
        raise BadFileError(sentence("mistral.missing", key=missing[0]))


def _block(raw: Raw, key: str) -> Raw:
    value = raw.get(key)
    if value is not None and not isinstance(value, dict):
        raise BadFileError(sentence("object_expected", key=key, value=short(value)))
    return dict(value or {})


def _moved(source: Raw, names: Mapping[str, str]) -> Raw:
    """Return the known keys of a block under transformers' names; they are removed from
    `source`."""
    return {new: source.pop(old) for old, new in names.items() if old in source}


def _text(raw: Raw) -> Raw:
    blocks = {key: _block(raw, key) for key in ("moe", "yarn", "llama_4_scaling", "quantization")}
    plain = {key: value for key, value in raw.items() if key not in blocks}
    moe, scaling = blocks["moe"], blocks["llama_4_scaling"]
    latent = plain.get("kv_lora_rank") is not None
    kind = _text_type(latent, moe, scaling)
    config: Raw = {"tie_word_embeddings": False, **_moved(plain, RENAMED)}
    config |= _sliding_window(plain, config["num_hidden_layers"])
    config |= _moved(moe, LATENT_MOE if latent else MIXTRAL_MOE)
    leftover = {key: value for key, value in moe.items() if key not in IGNORED_MOE}
    if leftover:
        config["moe"] = leftover
    if blocks["yarn"]:
        config["rope_parameters"] = _yarn(blocks["yarn"], scaling, plain.get("rope_theta"))
    if blocks["quantization"]:
        config["quantization_config"] = _quantization(blocks["quantization"])
    return plain | config | {"model_type": kind, "architectures": [CLASSES[kind]]}


def _yarn(yarn: Raw, scaling: Raw, theta: Any) -> Raw:
    rope = _moved(yarn, YARN) | {"rope_type": "yarn"}
    more = {"rope_theta": theta, "llama_4_scaling_beta": scaling.get("beta")}
    return rope | {key: value for key, value in more.items() if value is not None}


CLASSES = {
    "mistral": "MistralForCausalLM",
    "ministral3": "Ministral3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "mistral4": "Mistral4ForCausalLM",
}


def _text_type(latent: bool, moe: Raw, scaling: Raw) -> str:
    if latent:
        if not moe:
            raise UnsupportedError(sentence("mistral.no_such"))
        return "mistral4"
    if moe:
        return "mixtral"
    return "ministral3" if scaling else "mistral"


def _sliding_window(raw: Raw, layers: Any) -> Raw:
    """Return the config's window: one, or a repeated pattern of windows and nulls over the
    layers."""
    window = raw.pop("sliding_window", None)
    if isinstance(window, str) and window.isdecimal():  # the converters meet it as text
        window = int(window)
    if not isinstance(window, list):
        return {"sliding_window": window}
    widths = [width for width in window if width is not None]
    if not all(type(width) is int and width == widths[0] for width in widths):
        raise UnsupportedError(sentence("mistral.windows"))
    if not window or type(layers) is not int or layers % len(window) or layers > MAX_LAYERS:
        raise BadFileError(sentence("mistral.window_layers", layers=short(layers)))
    kinds = ["full_attention" if width is None else "sliding_attention" for width in window]
    types = kinds * (layers // len(window))
    return {"sliding_window": next(iter(widths), None), "layer_types": types}


def _quantization(block: Raw) -> Raw:
    if block.get("qformat_weight") == "fp8_e4m3":
        dynamic = block.get("qscheme_act") == "NO_SCALES"
        return {"quant_method": "fp8", "activation_scheme": "dynamic" if dynamic else "static"}
    method = str(block.get("quant_method", "")).replace("_", "-").lower()
    if method == "compressed-tensors":
        return block | {"quant_method": method}
    raise UnsupportedError(sentence("mistral.quantization", value=short(str(block))))


def _with_vision(text: Raw, vision: Raw) -> Raw:
    """Return text and vision as one config: transformers' Llava for Pixtral 12B, its Mistral3 for
    models that merge patches."""
    merges = vision.pop("mm_projector_id", None) == "patch_merge"
    for key in ("add_pre_mm_projector_layer_norm", "image_break_token_id", "image_end_token_id"):
        vision.pop(key, None)
    vision.pop("max_image_size", None)
    whole = {"multimodal_projector_bias": not merges} | _moved(vision, PROJECTOR)
    kind, cls = (
        ("mistral3", "Mistral3ForConditionalGeneration")
        if merges
        else ("llava", "LlavaForConditionalGeneration")
    )
    if "quantization_config" in text:
        whole["quantization_config"] = text.pop("quantization_config")
    tower = {"model_type": "pixtral", "hidden_act": "silu"} | vision
    names = {"architectures": [cls], "model_type": kind}
    tied = {"tie_word_embeddings": text["tie_word_embeddings"]}
    return whole | tied | names | {"text_config": text, "vision_config": tower}


def _voxtral(text: Raw, audio: Any) -> Raw:
    encoder = _block(audio, "encoder_args") if isinstance(audio, dict) else {}
    if not encoder:
        raise BadFileError(sentence("mistral.no_encoder"))
    if encoder.get("causal"):
        raise UnsupportedError(sentence("mistral.causal_sound"))
    tower = _moved(encoder, AUDIO) | {"model_type": "voxtral_encoder"}
    tower |= _moved(_block(encoder, "audio_encoding_args"), {"num_mel_bins": "num_mel_bins"})
    tower = {key: value for key, value in tower.items() if value is not None}
    text = text | {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    return {
        "architectures": ["VoxtralForConditionalGeneration"],
        "model_type": "voxtral",
        "text_config": text,
        "audio_config": tower,
    }


def _mamba(raw: Raw) -> Raw:
    """Return Codestral Mamba's config as transformers' Mamba-2, with its default head and state
    sizes."""
    text = _moved(raw, RENAMED | {"tie_embeddings": "tie_word_embeddings"})
    names = {"model_type": "mamba2", "architectures": ["Mamba2ForCausalLM"]}
    return raw | text | names
