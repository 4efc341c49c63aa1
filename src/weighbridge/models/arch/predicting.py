"""Layers for multi-token prediction, which checkpoints store beside the model: their number, and
the layers of the model that they equal.

    usual               the last layer that attends
    DeepSeek-V4         the last that sees its window alone: compress_ratios ends with 0
    dense               attention of that layer, and the feed-forward of one without experts
    dense, near         the same, with attention in a window

Source: vllm 0.33 model_executor/models/{deepseek,qwen3_next,glm4_moe_lite,ernie,mimo_v2}_mtp.py,
models/deepseek_v4/nvidia/mtp.py, config/speculative.py (hf_config_override).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weighbridge.models.arch.body import Experts, LayerBlock
from weighbridge.models.arch.mixers import Attention, Compressed, Latent, Layer, Mixer
from weighbridge.models.arch.model_types import facts

KEYS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")


def counted(configs: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the number of multi-token prediction layers that the configs state; None if they state
    none."""
    counts = [int(c[key]) for c in configs for key in KEYS if c.get(key) is not None]
    return max(counts, default=None)


def of_class(model_type: str) -> int:
    """Return the number of prediction layers of a class whose config does not state it; 0 if
    unknown."""
    return int(bool(facts(model_type).predicts))


def attending(model_type: str, layers: Sequence[Layer]) -> int | None:
    """Return the index of the layer whose attention the prediction layers have; None without
    one."""
    near = facts(model_type).predicts == "dense, near"
    attend = [i for i, layer in enumerate(layers) if any(map(_attends, layer.mixers))]
    alone = [i for i in attend if any(_sees_only_window(m, near=near) for m in layers[i].mixers)]
    return max(alone or attend, default=None)


def names(path: str, behind: int) -> tuple[str, ...]:
    """Return the two possible checkpoint names of a module in a prediction layer, for the layer
    module at `path`. `behind`: the model's number of layers."""
    inside = re.sub(r"^.*?layers\.\d+\.", "", path)
    return f"mtp.layers.0.{inside}", f"model.layers.{behind}.{inside}"


def feeding(model_type: str, blocks: Sequence[LayerBlock], attends: int) -> int:
    """Return the index of the layer whose MLP the prediction layers have; `attends` is the index
    for their attention."""
    if not facts(model_type).predicts.startswith("dense"):
        return attends
    dense = (i for i, b in enumerate(blocks) if not any(isinstance(f, Experts) for f in b.feeds))
    return next(dense, attends)


def _attends(mixer: Mixer) -> bool:
    return isinstance(mixer, Attention | Latent | Compressed)


def _sees_only_window(mixer: Mixer, *, near: bool) -> bool:
    """Return whether a mixer attends only to a window; `near` counts attention with a window or
    chunk."""
    if isinstance(mixer, Compressed):
        return mixer.rate == 1
    return near and isinstance(mixer, Attention) and mixer.reach is not None
