"""Gemma 1 to 3: norms whose weights start at zero, scaled embeddings, and since 2 norms on both
sides of attention and feed-forward. Gemma 2 caps its scores, which eager attention alone does.

Source: transformers 5.23 models/gemma/modeling_gemma.py, models/gemma2/modeling_gemma2.py,
models/gemma3/modeling_gemma3.py.
"""

from weighbridge.arch.table import differs
from weighbridge.autograd.ops.losses import embedding
from weighbridge.autograd.ops.norms import gemma_norm
from weighbridge.autograd.ops.pointwise import add, scale
from weighbridge.autograd.tensors import Tensor
from weighbridge.dtypes import INT64
from weighbridge.training.modules import Module
from weighbridge.training.nets import EMBEDDINGS
from weighbridge.training.nets.decoder import (
    FINAL,
    Kind,
    Masks,
    Rotary,
    attention_and_weights,
    mask,
    mlp,
    rotary,
    run,
    window,
    windows,
)
from weighbridge.training.step import Step, entered

GEMMA = Kind(norm=gemma_norm, late=True)
CAP = "attn_logit_softcapping"


def forward(s: Step) -> Tensor:
    """Gemma3TextModel.forward: cosines and sines by kind of layer."""
    m, built = s.m, s.built
    if s.kernel is None and built.config.get(CAP):
        s.kernel = "eager"
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
        x = run(s, decoder_layer, x, layer, i, own, masks, position_ids)
    return gemma_norm(m, x, built.base.weight(built.base.first(*FINAL)))


def decoder_layer(
    x: Tensor,
    s: Step,
    p: Module,
    number: int,
    positions: Rotary,
    masks: Masks,
    _position_ids: Tensor,
) -> Tensor:
    """Gemma3DecoderLayer.forward; the first Gemma has two of the four norms."""
    m = s.m
    both = p.has("pre_feedforward_layernorm")
    residual = x
    x = gemma_norm(m, x, p.weight("input_layernorm"))
    x, _ = attention_and_weights(
        s,
        p.at("self_attn"),
        x,
        number,
        positions,
        masks,
        kind=GEMMA,
        cap=bool(s.built.config.get(CAP)),
    )
    if both:
        x = gemma_norm(m, x, p.weight("post_attention_layernorm"))
    x = add(m, residual, x)
    residual = x
    x = gemma_norm(
        m, x, p.weight("pre_feedforward_layernorm" if both else "post_attention_layernorm")
    )
    x = mlp(s, p.at("mlp"), x)
    if both:
        x = gemma_norm(m, x, p.weight("post_feedforward_layernorm"))
    return add(m, residual, x)
