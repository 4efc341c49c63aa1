"""The class that a GGUF file was converted from, if its metadata determine the class's config.

    class_config(metadata, shapes) -> the config;  class_of(config) -> the class's parameters
    compared(metadata, shapes) -> tensors that are only in the file or the class, or differ in size

Source: transformers 5.23 integrations/ggml.py (GGUF_CONFIG_MAPPING), modeling_gguf_pytorch_utils.py
(load_gguf_checkpoint).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.models.arch.builder import blueprint, family
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.gguf_names import SPLIT, gguf_name, siblings_of
from weighbridge.models.arch.model_types import index

KEYS: Mapping[str, str] = {  # key of the metadata -> key of the config
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
OPTIONAL = (".bias", ".scale", ".input_scale")
DERIVED = ("rope_freqs", "rope_factors_long", "rope_factors_short")  # not parameters of the class


def class_config(
    metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any] | None:
    """Return the config that a file was converted from, by its metadata and its tensors' `shapes`;
    None if the architecture does not determine it."""
    arch = metadata.get("general.architecture")
    kind = index()["trained"].get(str(arch))
    if kind is None:
        return None
    values = {
        ours: value
        for theirs, ours in KEYS.items()
        if isinstance(value := metadata.get(f"{arch}.{theirs}"), int | float)
    }
    words = shapes.get("token_embd.weight")
    if words:
        values["vocab_size"] = words[0]
    biased = "blk.0.attn_q.bias" in shapes
    tied = "output.weight" not in shapes
    named = {"model_type": kind, "architectures": [family(kind).cls], "tie_word_embeddings": tied}
    return {**values, **named, "attention_bias": biased}


def class_of(config: Mapping[str, Any]) -> Blueprint | None:
    """Return the tensors of a config's class; None if the metadata lack keys that it needs."""
    try:
        return blueprint(Config(config))
    except (BadFileError, UnsupportedError):
        return None


class ClassCompared(NamedTuple):
    """The comparison of a class with a file: `odd` are sentences on tensors in only one of them, or
    of another size."""

    cls: str
    odd: tuple[str, ...] = ()


def compared(
    metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> ClassCompared | None:
    """Return the comparison of a file with its class, tensor by tensor; None if the metadata do not
    determine the class. `shapes` are in torch's order."""
    config = class_config(metadata, shapes)
    plan = None if config is None or _has_experts_by_dense_name(config) else class_of(config)
    if plan is None:
        return None
    wanted = tensors_of(plan)
    there = {name: prod(shape) for name, shape in shapes.items() if not name.startswith(DERIVED)}
    optional = "" if plan.cls.startswith("Llama") else ".bias"  # in some files of Llama
    return ClassCompared(
        plan.cls, (*_differing_sizes(wanted, there), *_unmatched_tensors(wanted, there, optional))
    )


def _differing_sizes(wanted: Mapping[str, int], there: Mapping[str, int]) -> Iterator[str]:
    for name, count in wanted.items():
        if name.endswith(".weight") and there.get(name) != count:
            yield sentence("gguf.tensor_numbers", name=name, have=there.get(name, 0), count=count)


def _unmatched_tensors(
    wanted: Mapping[str, int], there: Mapping[str, int], optional: str
) -> Iterator[str]:
    lacks = (name for name in wanted if optional and name.endswith(optional) and name not in there)
    more = (name for name in there if name not in wanted and not name.endswith(OPTIONAL))
    yield from (sentence("not_there", name=name) for name in lacks)
    yield from (sentence("is_there", name=name) for name in more)


def _has_experts_by_dense_name(config: Mapping[str, Any]) -> bool:
    """Return whether a dense architecture's name covers a model with experts, as "llama" covers
    Mixtral."""
    return bool(config.get("num_experts")) and "moe" not in config["model_type"]


def tensors_of(plan: Blueprint) -> dict[str, int]:
    """Return GGUF name -> elements, for each tensor of a converted class."""
    near, numbers = siblings_of([p.name for p in plan.counted]), defaultdict[str, int](int)
    for p in plan.counted:
        if not p.tied:
            for name in _tensors_of_parameter(gguf_name(p.name, near)):
                numbers[name[0]] += p.numel * p.copies // name[1]
    return dict(numbers)


def _tensors_of_parameter(name: str) -> list[tuple[str, int]]:
    """Return (name, divisor) for each tensor that a parameter becomes; the tensor has 1 / divisor
    of the elements."""
    for both, halves in SPLIT.items():
        start, _, tail = name.partition(both)
        if tail:
            return [(f"{start}{one}{tail}", len(halves)) for one in halves]
    return [(name, 1)]
