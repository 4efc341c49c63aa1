"""Unsloth's layers of Llama's shape: kernels that keep little and write over what is read.

    norms        keep their input and a number a row; the gradient is written over the one given
    positions    turned in place
    feed         keeps the outputs of gate and up, into which backward writes; what down reads is
                 made again in the place of its gradient. Transformers' own where its linears are
                 not fused with their adapters
    adapters     added in place to what the base gives, in its dtype (adapters.py)
    attention    by xformers, of which Unsloth's wheel makes sure: on cards before Ampere its kernel
                 is the memory-efficient one, with key-value heads repeated
    offload      inputs of layers are in host memory; they come back through a buffer that stays

Source: unsloth 2026.10.9 kernels/{rms_layernorm,rope_embedding,swiglu,fast_lora}.py,
models/llama.py, utils/attention_dispatch.py, METADATA (Requires-Dist: xformers); unsloth_zoo
2026.10.9 gradient_checkpointing.py (UnslothCheckpointFunction).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.units import MIB
from weighbridge.machines.kernels import attention as kernels
from weighbridge.training.forward.adapters import FusedLora
from weighbridge.training.forward.machine import Grads, Machine, Needs, passed, record
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import EMBEDDINGS
from weighbridge.training.forward.ops.pointwise import add
from weighbridge.training.forward.ops.shaping import embedding
from weighbridge.training.forward.parts.attention import attend, heads
from weighbridge.training.forward.parts.layer import FINAL, mlp, run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Computed, Tensor

OFFLOADED = 2 * MIB  # smaller inputs stay on the GPU (MINIMUM_SIZE)


def forward(s: TrainingStep) -> Tensor:
    """Return the hidden states of LlamaModel_fast_forward, before the head."""
    m, built = s.m, s.built
    tokens = m.new((s.batch, s.length), INT64)
    x = entered(s, embedding(m, tokens, built.base.weight(built.base.first(*EMBEDDINGS))))
    if s.checkpointing == "offload" and x.nbytes > OFFLOADED and not built.kept:
        built.kept[0] = m.new(x.shape, x.dtype, "buffers")
    for i, p in enumerate(built.layers):
        x = run(s, layer, x, p, i)
    return norm(m, x, built.base.weight(built.base.first(*FINAL)))


def layer(x: Tensor, s: TrainingStep, p: Module, number: int) -> Tensor:
    """LlamaDecoderLayer_fast_forward"""
    m = s.m
    h = add(m, x, attention(s, p.at("self_attn"), norm(m, x, _weight(p, 0)), number))
    normed, inner = norm(m, h, _weight(p, 1)), p.at("mlp")
    if not isinstance(inner.wraps.get(f"{inner.path}down_proj"), FusedLora):
        return add(m, h, mlp(s, inner, normed))
    gate, up = inner.linear(m, normed, "gate_proj"), inner.linear(m, normed, "up_proj")
    return add(m, h, inner.linear(m, gated(m, gate, up), "down_proj"))


def _weight(p: Module, number: int) -> Tensor:
    return p.weight(("input_layernorm", "post_attention_layernorm")[number])


def attention(s: TrainingStep, p: Module, x: Tensor, number: int) -> Tensor:
    """LlamaAttention_fast_forward"""
    m, h = s.m, heads(s, number)
    shape = h.queries
    few = h.keys
    q, k = p.linear(m, x, "q_proj").view(*shape), p.linear(m, x, "k_proj").view(*few)
    v = p.linear(m, x, "v_proj").view(*h.values)
    if p.has("q_norm"):
        q, k = norm(m, q, p.weight("q_norm")), norm(m, k, p.weight("k_norm"))
    kernel = s.kernel or m.ask(kernels.of_xformers)
    out = attend(s, in_place(m, q), in_place(m, k), v, h, kernel=kernel)
    return p.linear(m, out.view(*h.joined), "o_proj")


def norm(m: Machine, x: Tensor, weight: Tensor) -> Tensor:
    """Return Fast_RMS_Layernorm; frozen weights get no gradient."""
    out, root = m.new(x.shape, x.dtype), m.new((x.rows,), FLOAT32)
    return passed(m, x, out, x, root, weight)


def in_place(m: Machine, x: Tensor) -> Tensor:
    """Return `x` after Fast_RoPE_Embedding, in place in forward and backward."""
    return passed(m, x, Computed(x.shape, x.dtype, x.storage))


def gated(m: Machine, gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up; both gradients overwrite what was saved."""
    out = m.new(gate.shape, gate.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [Computed(t.shape, t.dtype, t.storage) for t in saved]

    record(m, back, [gate, up], [gate, up], out)
    return out
