"""A decoder as a record: its layer, its positions, its last norm; called, it runs all of it.

Source: transformers 5.23 models/llama/modeling_llama.py (LlamaModel.forward).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weighbridge.dtypes import INT64
from weighbridge.forward.nets import EMBEDDINGS
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.pointwise import dropout, scale
from weighbridge.forward.parts.attention import mask, windows
from weighbridge.forward.parts.layer import (
    LLAMA,
    Layer,
    LayerShape,
    NormOf,
    normed,
    run,
    scaled,
)
from weighbridge.forward.parts.rotary import rotary
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor

FINAL = ("norm", "ln_f", "final_layernorm", "final_layer_norm", "norm_f", "embedding_norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderNet:
    """A decoder, as a class puts it together; called, it runs all of it.

    layer     what its layers are, or what tells it from the step
    rotary    makes the positions that layers are given
    norm      its last norm, where that is not the layers'
    rate      name of the dropout of the embeddings, "" for none
    """

    layer: LayerShape | Callable[[TrainingStep], LayerShape | Layer] = LLAMA
    rotary: Callable[[TrainingStep], Any] = rotary
    norm: NormOf | None = None
    rate: str = ""

    def __call__(self, s: TrainingStep) -> Tensor:
        """The hidden states that the head reads, [batch, length, width]."""
        layer = self.layer if isinstance(self.layer, LayerShape) else self.layer(s)
        m, built = s.m, s.built
        ids = m.new((s.batch, s.length), INT64)
        words = built.base.weight(built.base.first(*EMBEDDINGS))
        inputs_embeds = entered(s, embedding(m, ids, words))
        if scaled(s, "embedding_multiplier"):
            inputs_embeds = scale(m, inputs_embeds)
        position_ids = m.new((1, s.length), INT64)
        masks = {window: mask(s, window) for window in windows(s)}
        positions = self.rotary(s)
        x = dropout(m, inputs_embeds, s.rate(self.rate) if self.rate else 0.0)
        for i, p in enumerate(built.layers):
            x = run(s, layer, x, p, i, positions, masks, position_ids)
        norm = self.norm or (layer.norm if isinstance(layer, LayerShape) else normed)
        return norm(m, x, built.base, built.base.first(*FINAL))
