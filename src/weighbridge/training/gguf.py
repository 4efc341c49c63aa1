"""A GGUF file as it is trained: transformers makes the class from its metadata and dequantizes.

    from_pretrained(..., gguf_file="model.gguf")     every tensor in the dtype that is asked for;
                                                     5.23 keeps blocks where a kernel is at hand,
                                                     unless GgufConfig(dequantize=True) is given

The class is known where the metadata tell all of its config, and taken only where it has as many
parameters as the file. Others are refused: what they are trained as is the original's affair.
Source: transformers 5.23 integrations/ggml.py (GGUF_CONFIG_MAPPING),
modeling_gguf_pytorch_utils.py (load_gguf_checkpoint), quantizers/auto.py (get_hf_quantizer).
"""

from collections.abc import Mapping
from math import prod
from typing import Any

from weighbridge.arch.blueprint import Blueprint
from weighbridge.arch.builder import blueprint, family
from weighbridge.arch.config import Config
from weighbridge.arch.model_types import index
from weighbridge.checkpoint.model import Model, ModelPart
from weighbridge.errors import BadFileError, ContradictionError, UnsupportedError
from weighbridge.records import replace
from weighbridge.workload import Train

LIBRARY = "gguf"
KEYS: Mapping[str, str] = {  # of the metadata, and of the config
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "vocab_size": "vocab_size",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
DERIVED = ("rope_freqs", "rope_factors_long", "rope_factors_short")  # no parameters of the class
ORIGINAL = ("general.base_model.0.repo_url", "general.source.huggingface.repository")


def unpacked(model: Model, w: Train) -> Model:
    """Return the model with its class instead of a file's tensors; itself where it is no GGUF
    file."""
    part = model.parts[0]
    if part.library != LIBRARY:
        return model
    form = w.quantization or ("nf4" if w.method == "qlora" else None)
    if form is not None:
        raise ContradictionError(
            f"{model.reference}: transformers does not load a GGUF file in {form}: use --method "
            "lora, or name the original repository"
        )
    config = _config(part)
    plan = None if config is None else _plan(config)
    if config is None or plan is None or plan.parameters != _parameters(part):
        raise UnsupportedError(_refusal(model, part))
    note = f"a GGUF file is dequantized to be trained: as {plan.cls}, which its metadata make"
    class_part = replace(
        part, library="transformers", blueprint=plan, config=config, quantization=None
    )
    return replace(model, parts=(class_part,), notes=(*model.notes, note))


def _config(part: ModelPart) -> dict[str, Any] | None:
    metadata = part.config.get(LIBRARY, {})
    arch = metadata.get("general.architecture")
    kind = index()["trained"].get(arch)
    if kind is None:
        return None
    values = {
        ours: value
        for theirs, ours in KEYS.items()
        if isinstance(value := metadata.get(f"{arch}.{theirs}"), int | float)
    }
    shapes = {t.name: t.shape for t in part.stored}
    words = shapes.get("token_embd.weight")
    if words:
        values["vocab_size"] = words[0]
    biased = "blk.0.attn_q.bias" in shapes
    tied = "output.weight" not in shapes
    named = {"model_type": kind, "architectures": [family(kind).cls], "tie_word_embeddings": tied}
    return {**values, **named, "attention_bias": biased}


def _plan(config: Mapping[str, Any]) -> Blueprint | None:
    """Build the class's parameters from a config; None where the metadata lack what the class
    needs."""
    try:
        return blueprint(Config(config))
    except (BadFileError, UnsupportedError):
        return None


def _parameters(part: ModelPart) -> int:
    tensors = (t for t in part.stored if not t.name.startswith(DERIVED))
    return sum(prod(t.shape) for t in tensors)


def _refusal(model: Model, part: ModelPart) -> str:
    metadata = part.config.get(LIBRARY, {})
    arch = metadata.get("general.architecture")
    original = next((str(metadata[key]) for key in ORIGINAL if metadata.get(key)), "")
    named = f" ({original:.80})" if original else ""
    return (
        f"{model.reference}: a GGUF file of {arch!r:.40} is not trained here: its metadata do not "
        f"make the class that it would be dequantized into; name the original repository{named}"
    )
