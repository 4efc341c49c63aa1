"""Formats that owners pack their models in, by the end of a repository's name.

PUBLISHED   an owner's own models, as their configs have it
OF_OWNERS   ... and what certain owners pack of others
USUALLY     for owners of whose config nothing is known (assumed)
BY_BYTES    copies that were found to be packed so
PADDED      widths that an owner gave to copies in a format
"""

from collections.abc import Mapping
from typing import Any

# How owners pack their own models. Source: config.json of Qwen/Qwen3-32B-FP8, Qwen3-30B-A3B-FP8 and
# Qwen3-235B-A22B-FP8 in github.com/ai-dynamo/aiconfigurator at 095f58a51c4c; the cards of Qwen's
# repositories in AWQ and GPTQ, and docs/source/quantization of github.com/QwenLM/Qwen2.5.
PUBLISHED: dict[str, dict[str, dict[str, object]]] = {
    "qwen": {
        "fp8": {"quant_method": "fp8", "weight_block_size": [128, 128]},
        "awq": {"quant_method": "awq", "bits": 4, "group_size": 128},
        "gptq-int4": {"quant_method": "gptq", "bits": 4, "group_size": 128},
        "gptq-int8": {"quant_method": "gptq", "bits": 8, "group_size": 128},
    }
}

# intermediate_size of a model -> of its copies in AWQ and GPTQ, with zeros added, so that several
# cards can share groups of 128: issue 578 of github.com/QwenLM/Qwen3, 230 and 231 of .../Qwen3-VL
PADDED: dict[str, dict[object, int]] = {"Qwen": {29_568: 29_696}}

# What a packed copy of a 16-bit model is called -> how such copies are usually packed: assumed, for
# owners of whose config nothing is known. -FP8-dynamic: config.json of
# RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic; -quantized.w4a16: the recipes on its owner's
# cards (GPTQModifier, groups of 128; lm_head and towers left alone); bnb-4bit: nf4, doubly packed
LEFT_ALONE = ("lm_head", "re:.*vision.*", "re:.*visual.*", "re:.*multi_modal_projector.*")


def _compressed(bits: int, kind: str, *, inputs: bool, **weights: object) -> dict[str, object]:
    """Return a quantization_config of compressed-tensors with one group of weights."""
    group: dict[str, object] = {
        "targets": ["Linear"],
        "weights": {"num_bits": bits, "type": kind, **weights},
        "input_activations": {"num_bits": bits, "type": kind} if inputs else None,
    }
    groups = {"group_0": group}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": groups,
        "ignore": list(LEFT_ALONE),
    }


# Groups of 32 without zeros: of Qwen3-30B-A3B-Instruct-2507 its repositories hold 5,306,567,040
# elements at 4 bits and 9,043,691,904 at 8 (github.com/AlexsJones/llmfit llmfit-core/data/
# hf_models.json at ac41ec654ab2), and vLLM reads them as compressed-tensors (its issue 29732)
OF_32: dict[int, dict[str, dict[str, object]]] = {
    bits: dict.fromkeys(
        (f"awq-{bits}bit", f"awq-int{bits}"),
        _compressed(bits, "int", inputs=False, strategy="group", group_size=32),
    )
    for bits in (4, 8)
}
MLX_BITS = (2, 3, 4, 5, 6, 8)  # of mlx-lm's convert, in groups of 64: its --q-bits
NF4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "load_in_4bit": True}
NVFP4: dict[str, object] = {
    "quant_method": "modelopt",
    "quant_algo": "NVFP4",
    "ignore": [*LEFT_ALONE],
}
# Modules of a layer whose token mixer is recurrent: publishers of Qwen3.5 to 3.8 keep it in 8 or
# 16 bits. config.json of nvidia/Qwen3.6-27B-NVFP4 and -35B-A3B-NVFP4 (FP8), of nvidia/
# Qwen3.5-122B-A10B-NVFP4 and -397B-A17B-NVFP4 (16 bits); weights that ranks of RedHatAI's,
# Inferact's and unsloth's copies logged
BESIDE_RECURRENT = {
    "linear_attn": "FP8",
    **dict.fromkeys(("self_attn", "mlp.experts", "mlp.shared_expert"), "NVFP4"),
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"), "NVFP4"),
}
AWQ, GPTQ = PUBLISHED["qwen"]["awq"], PUBLISHED["qwen"]["gptq-int4"]
USUALLY: dict[str, dict[str, object]] = {
    "fp8": _compressed(8, "float", inputs=True, strategy="tensor"),
    "fp8-dynamic": _compressed(8, "float", inputs=True, strategy="channel"),
    **dict.fromkeys(("awq", "awq-4bit", "awq-int4"), AWQ),
    **dict.fromkeys(("gptq", "gptq-4bit", "gptq-int4"), GPTQ),
    **dict.fromkeys(("gptq-8bit", "gptq-int8"), PUBLISHED["qwen"]["gptq-int8"]),
    **{f"mlx-{bits}bit": {"group_size": 64, "bits": bits} for bits in MLX_BITS},
    "nvfp4": NVFP4,
    "bnb-4bit": {"quant_method": "bitsandbytes", **NF4},
    "quantized.w4a16": _compressed(4, "int", inputs=False, strategy="group", group_size=128),
    "quantized.w8a16": _compressed(8, "int", inputs=False, strategy="channel"),
    "quantized.w8a8": _compressed(8, "int", inputs=True, strategy="channel"),
}
OF_OWNERS: dict[str, dict[str, dict[str, object]]] = {
    **PUBLISHED,
    "nvidia": {
        "fp8": NVFP4 | {"quant_algo": "FP8"},
        "fp4": NVFP4,
        "nvfp4": NVFP4,
    },
    "inferact": {"nvfp4": NVFP4 | {"ignore": [*LEFT_ALONE, "*linear_attn.in_proj*"]}},
    "mlx-community": {f"{bits}bit": {"group_size": 64, "bits": bits} for bits in MLX_BITS},
    "cyankiwi": {**OF_32[4], **OF_32[8]},
    "cpatonn": {**OF_32[4], **OF_32[8]},
}


# Copies whose files have the bytes that their owner's format makes. Inferact's: projections into
# recurrent layers in 16 bits, all others in 4, and the layer that predicts further tokens, are its
# 26,381,249,312 bytes to 0.001 % (github.com/vllm-project/recipes models/Qwen/Qwen3.8-27B.yaml at
# 015a26cb06e8)
BY_BYTES = frozenset(("inferact/qwen3.8-27b-nvfp4",))


def usual(packed: dict[str, object], config: Mapping[str, Any]) -> dict[str, object]:
    """Return the usual quantization_config of a copy of a model with such a config."""
    text = config.get("text_config") or config
    if packed is not NVFP4 or "linear_num_value_heads" not in text:
        return packed
    layers = range(int(text["num_hidden_layers"]))
    named = {f"layers.{n}.{name}": form for n in layers for name, form in BESIDE_RECURRENT.items()}
    algorithms = {name: {"quant_algo": form} for name, form in named.items()}
    return packed | {"quant_algo": "MIXED_PRECISION", "quantized_layers": algorithms}
