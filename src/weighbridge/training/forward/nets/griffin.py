"""RecurrentGemma: a gated linear recurrence (RG-LRU) that goes through the tokens one by one, and
attention to the last ones in every third layer.

Source: transformers 5.23 models/recurrent_gemma/modeling_recurrent_gemma.py.
"""

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.models.arch.mixers import Attention, GatedRecurrence
from weighbridge.models.arch.rotary import share
from weighbridge.training.forward.loops import Carried, repeat
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net
from weighbridge.training.forward.ops.matrix import ConvForm, baddbmm, conv
from weighbridge.training.forward.ops.norms import gemma_norm
from weighbridge.training.forward.ops.pointwise import (
    add,
    bounded_sqrt,
    cast,
    mul,
    of_result,
    scale,
    several,
    shift,
)
from weighbridge.training.forward.ops.scans import softplus
from weighbridge.training.forward.ops.shaping import (
    copied,
    embedding,
    part,
    shaped,
    turned,
    written,
)
from weighbridge.training.forward.parts.attention import attended, heads, mask, windows
from weighbridge.training.forward.parts.layer import mlp, run
from weighbridge.training.forward.parts.rotary import part_rotated, rotary_of
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Tensor


def griffin_model(s: TrainingStep) -> Tensor:
    """RecurrentGemmaModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("embed_tokens")))
    position_ids = m.new((1, s.length), INT64)
    causal_mask = mask(s, next((r for r in windows(s) if r is not None), None))
    x = scale(m, inputs_embeds)
    for i, p in enumerate(built.layers):
        x = run(s, layer, x, p, i, causal_mask, position_ids)
    return gemma_norm(m, x, built.base.weight("final_norm"))


def layer(
    x: Tensor, s: TrainingStep, p: Module, number: int, mask: Tensor | None, _position_ids: Tensor
) -> Tensor:
    """RecurrentGemmaDecoderLayer.forward"""
    m, block = s.m, p.at("temporal_block")
    inputs_normalized = gemma_norm(m, x, p.weight("temporal_pre_norm"))
    if recurs(s, number):
        hidden = recurrence(s, block, inputs_normalized, number)
    else:
        hidden = attention(s, block, inputs_normalized, number, mask)
    residual = add(m, hidden, x)
    hidden = gemma_norm(m, residual, p.weight("channel_pre_norm"))
    hidden = mlp(s, p.at("mlp_block"), hidden)
    return add(m, hidden, residual)


def recurs(s: TrainingStep, number: int) -> bool:
    return any(isinstance(x, GatedRecurrence) for x in s.built.body.blocks[number].mixers)


def attention(s: TrainingStep, p: Module, x: Tensor, number: int, mask: Tensor | None) -> Tensor:
    """Return RecurrentGemmaAttention.forward, which makes its own cosines and sines. With one KV
    head its gradient needs no copy."""
    m, h = s.m, heads(s, number)
    lead = h.batch, h.length
    q = p.linear(m, x, "q_proj").view(*lead, h.heads, h.key_dim)
    k = p.linear(m, x, "k_proj").view(*lead, h.kv_heads, h.key_dim)
    v = p.linear(m, x, "v_proj").view(*lead, h.kv_heads, h.value_dim)
    width = int(h.key_dim * share(s.built.config, default=0.5))
    positions = rotary_of(s, width, dtype=v.dtype)
    k = turned(m, k) if h.kv_heads > 1 else k
    q, k = part_rotated(m, turned(m, q), k, positions)
    rate = s.rate("attention_dropout")
    out, _ = attended(s, q, k, v, h, mask=mask, p=rate, first=True)
    return p.linear(m, out.view(*lead, h.heads * h.value_dim), "o_proj")


def recurrence(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """Return RecurrentGemmaRecurrentBlock.forward; the module keeps the last state until its next
    run, and with it what a checkpoint recomputed for it."""
    m, states = s.m, s.built.kept
    kind = str(s.built.config.get("hidden_activation") or "gelu_pytorch_tanh")
    y_branch = p.linear(m, x, "linear_y")
    y_branch = several(m, y_branch, kind)
    x_branch = turned(m, p.linear(m, x, "linear_x"))
    states.pop(number, None)
    weight, shape = p.weight("conv_1d"), x_branch.shape
    longer = shape[0], shape[2], shape[1] + weight.shape[-1] - 1
    x_branch = part(m, conv(m, x_branch, weight, p.bias("conv_1d"), ConvForm(longer)), *shape)
    x_branch, states[number] = rg_lru(m, p.at("rg_lru"), x_branch)
    hidden = copied(m, mul(m, x_branch, y_branch))
    return p.linear(m, hidden, "linear_out")


def rg_lru(m: Machine, p: Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return RecurrentGemmaRglru.forward; its local variables live until it returns."""
    reset = m.new((1, x.shape[1], 1), BOOL)
    acts = copied(m, turned(m, x))
    res = gate(m, p, acts, "input")
    input_gate = of_result(m, copied(m, res)).view(*x.shape)
    res = gate(m, p, acts, "recurrent")
    recurrent = of_result(m, copied(m, res)).view(*x.shape)
    log_gate = mul(m, scale(m, recurrent), softplus(m, p.bare("recurrent_param")))
    recurrent = of_result(m, log_gate)
    a_square = of_result(m, scale(m, log_gate))
    gated_inputs = mul(m, x, input_gate)
    multiplier = bounded_sqrt(m, scale(m, a_square))
    multiplier = shift(m, mul(m, multiplier, m.new(reset.shape, BOOL)))
    normalized_x = mul(m, gated_inputs, cast(m, multiplier, x.dtype))
    hidden, state = scan(m, normalized_x, recurrent, reset)
    del acts, res, input_gate, a_square
    return hidden, state


def gate(m: Machine, p: Module, x: Tensor, name: str) -> Tensor:
    """Return a product for each block of the width: [blocks, tokens, block width]."""
    weight, bias = p.bare(f"{name}_gate_weight"), p.bare(f"{name}_gate_bias")
    blocks, wide, _ = weight.shape
    rows = x.numel // (blocks * wide)
    return baddbmm(m, shaped(m, bias, blocks, 1, wide), x.view(blocks, rows, wide), weight)


def scan(m: Machine, x: Tensor, recurrent: Tensor, reset: Tensor) -> tuple[Tensor, Tensor]:
    """Return (outputs, last state) of _rnn_scan, in float32, one token after the other."""
    batch, length, width = x.shape
    recurrent = mul(m, recurrent, m.new(reset.shape, BOOL))
    carried = [m.new((batch, width), FLOAT32), m.new(x.shape, x.dtype)]

    def turn(carried: Carried) -> None:
        state = cast(m, part(m, recurrent, batch, width), FLOAT32)
        carried[0] = mul(m, state, carried[0])
        del state
        carried[0] = add(m, carried[0], cast(m, part(m, x, batch, width), FLOAT32))
        carried[1] = written(m, carried[1], cast(m, carried[0], x.dtype))

    repeat(m, length, turn, carried)
    state, contextualized = carried
    return contextualized, state


griffin = Net(griffin_model, mixes=(Attention, GatedRecurrence))
