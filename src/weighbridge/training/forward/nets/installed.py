"""Layers as kernels of packages run them, where those are installed; elsewhere torch runs them.

    causal-conv1d   a causal convolution and its silu: its input alone is kept
    fla             the gated delta rule: chunks of 64 tokens. Queries, keys and values are copied,
                    the first two normed, and a matrix [64, 64] of each chunk and head is kept; the
                    states of all chunks are there for a moment, in forward and again in backward

Letters: B batch, T tokens, C chunks, H heads of keys, W of values, K and V their numbers.
Source: fla-core 0.6.0 ops/gated_delta_rule/chunk.py, chunk_fwd.py, wy_fast.py,
ops/common/chunk_delta_h.py, chunk_o.py, modules/norm/l2norm.py; causal-conv1d 1.6
causal_conv1d_interface.py (CausalConv1dFn), csrc/causal_conv1d.cpp; transformers 5.23
integrations/hub_kernels.py (use_kernel_func_from_hub_with_fallback).
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.units import ceil_div
from weighbridge.training.forward.machine import Grads, Machine, Needs, record
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets.delta import CHUNK, Delta, DeltaInputs
from weighbridge.training.forward.tensors import Shape, Tensor

TILE = 128  # elements of a key whose gradients one block computes


def convolved(m: Machine, p: Module, x: Tensor, name: str) -> Tensor:
    """Return causal_conv1d_fn of x [batch, length, width], with or without its activation."""
    kernel, bias = p.weight(name), p.bias(name)
    out = m.new(x.shape, x.dtype)
    read, dtype = x.shape, x.dtype

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_input = m.new(read, dtype)
        of_kernel = _handed(m, kernel) if needs[1] else None
        of_bias = _handed(m, bias) if needs[2] and bias is not None else None
        return [of_input if needs[0] else None, of_kernel, of_bias]

    record(m, back, [x, kernel, bias], [x, kernel, bias], out)
    return out


def _handed(m: Machine, weight: Tensor) -> Tensor:
    """Return the gradient of a weight: summed in float32, then cast to the weight's dtype."""
    summed = m.new(weight.shape, FLOAT32)
    return summed if weight.dtype == FLOAT32 else m.new(weight.shape, weight.dtype)


def delta_rule(m: Machine, inputs: DeltaInputs, delta: Delta) -> Tensor:
    """Return chunk_gated_delta_rule, [batch, length, heads, value_dim]; local variables live until
    it returns."""
    dtype, lead = inputs.query.dtype, (delta.batch, delta.length)
    keys = (*lead, delta.key_heads, delta.key_dim)
    values = (*lead, delta.heads, delta.value_dim)
    sides = _Sides(delta, dtype)
    copies = [m.new(shape, dtype) for shape in (keys, keys, values)]
    query, query_norm = m.new(keys, dtype), m.new(keys[:-1], FLOAT32)
    key, key_norm = m.new(keys, dtype), m.new(keys[:-1], FLOAT32)
    decays = m.new(inputs.g.shape, FLOAT32)
    system = m.new((*values[:-1], CHUNK), dtype)
    inner = [sides.wide(m), m.new(values, dtype), sides.states(m), m.new(values, dtype)]
    out = m.new(values, dtype)
    kept = [query, query_norm, key, key_norm, copies[2], decays, inputs.beta.detach(), system]
    forms = [(x.shape, x.dtype) for x in inputs]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return _gradients(m, sides, forms)

    record(m, back, list(inputs), kept, out)
    del inner, copies
    return out


class _Sides:
    """Makes a layer's tensors with a key per value head, and its states of chunks."""

    __slots__ = ("_delta", "_dtype")

    def __init__(self, delta: Delta, dtype: DType) -> None:
        self._delta, self._dtype = delta, dtype

    @property
    def grouped(self) -> bool:
        return self._delta.heads != self._delta.key_heads

    @property
    def tiles(self) -> int:
        return ceil_div(self._delta.key_dim, TILE)

    def wide(self, m: Machine) -> Tensor:
        """Return a new tensor [B, T, W, K]."""
        d = self._delta
        return m.new((d.batch, d.length, d.heads, d.key_dim), self._dtype)

    def states(self, m: Machine) -> Tensor:
        """Return a new tensor [B, C, W, K, V]."""
        d = self._delta
        return m.new((d.batch, d.chunks, d.heads, d.key_dim, d.value_dim), self._dtype)


def _gradients(m: Machine, sides: _Sides, forms: list[tuple[Shape, DType]]) -> Grads:
    """Return the gradients of chunk_gated_delta_rule_bwd, and then of the norms."""
    (keys, dtype), _, (values, _), (decays, _), (betas, beta_dtype) = forms
    again = [sides.wide(m), m.new(values, dtype), sides.states(m), m.new(values, dtype)]
    local = m.new(values, dtype)
    of_states, of_values = sides.states(m), m.new(values, dtype)
    del local
    of_query, of_key = sides.wide(m), sides.wide(m)
    of_decays = m.new((sides.tiles, *decays), FLOAT32)
    again += (of_states, sides.wide(m))
    if sides.grouped:
        of_query = m.new(keys, dtype)
        of_key = m.new(keys, dtype)
    of_decays = m.new(decays, FLOAT32)
    second, of_values = sides.wide(m), m.new(values, dtype)
    again.append(m.new(decays, FLOAT32))
    of_betas = m.new(betas, beta_dtype)
    if sides.grouped:
        second = m.new(keys, dtype)
    of_decays = m.new(decays, FLOAT32)
    del again, second
    of_query = m.new(keys, dtype)
    of_key = m.new(keys, dtype)
    return [of_query, of_key, of_values, of_decays, of_betas]
