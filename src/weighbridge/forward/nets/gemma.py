"""Gemma 1 to 3: norms whose weights start at zero, scaled embeddings, and since 2 norms on both
sides of attention and feed-forward. Gemma 2 caps its scores, which eager attention alone does.

Source: transformers 5.23 models/gemma/modeling_gemma.py, models/gemma2/modeling_gemma2.py,
models/gemma3/modeling_gemma3.py.
"""

from dataclasses import replace

from weighbridge.arch.model_types import differs
from weighbridge.dtypes import INT64
from weighbridge.forward.nets import EMBEDDINGS
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.norms import gemma_norm
from weighbridge.forward.ops.pointwise import scale
from weighbridge.forward.parts.attention import mask, window, windows
from weighbridge.forward.parts.decoder import FINAL
from weighbridge.forward.parts.layer import AROUND, AttentionShape, LayerShape, by_weight, run
from weighbridge.forward.parts.rotary import rotary
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor

CAP = "attn_logit_softcapping"


def gemma(s: TrainingStep) -> Tensor:
    """Gemma3TextModel.forward: cosines and sines by kind of layer."""
    m, built, shape = s.m, s.built, layer_of(s)
    ids = m.new((s.batch, s.length), INT64)
    words = built.base.weight(built.base.first(*EMBEDDINGS))
    inputs_embeds = entered(s, scale(m, embedding(m, ids, words)))
    position_ids = m.new((1, s.length), INT64)
    masks = {reach: mask(s, reach) for reach in windows(s)}
    kinds = windows(s) if differs(s.built.kind, "rotary_by_window") else {None}
    positions = {reach: rotary(s) for reach in kinds}
    x = inputs_embeds
    for i, layer in enumerate(built.layers):
        own = positions.get(window(s, i)) or positions[None]
        x = run(s, shape, x, layer, i, own, masks, position_ids)
    return gemma_norm(m, x, built.base.weight(built.base.first(*FINAL)))


GEMMA = AttentionShape(norm=gemma_norm, late=True)
CAPPED = replace(GEMMA, cap=True)
FIRST = LayerShape(attend=GEMMA, norm=by_weight(gemma_norm))
SECOND = replace(AROUND, attend=GEMMA, norm=FIRST.norm)


def layer_of(s: TrainingStep) -> LayerShape:
    """Gemma's layer; since Gemma 2 it has four norms. A cap is eager attention's alone."""
    if not s.built.config.get(CAP):
        return SECOND if s.built.layers[0].has("pre_feedforward_layernorm") else FIRST
    s.kernel = s.kernel or "eager"
    return replace(SECOND, attend=CAPPED)
