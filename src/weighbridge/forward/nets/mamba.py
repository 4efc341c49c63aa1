"""Mamba 1 as torch runs it where no kernels are installed: a convolution along the sequence, and
the scan token by token. Falcon-Mamba norms what the scan is given.

Letters: B batch, L tokens, I inner size, N states.
Source: transformers 5.23 models/mamba/modeling_mamba.py (MambaMixer, mamba_selective_scan),
models/falcon_mamba/modeling_falcon_mamba.py.
"""

from collections.abc import Callable

from weighbridge.arch.mixers import Mamba1
from weighbridge.arch.model_types import differs
from weighbridge.dtypes import FLOAT32, INT64
from weighbridge.forward.machine import Machine, lower
from weighbridge.forward.modules import Module
from weighbridge.forward.nets import Net, mamba2
from weighbridge.forward.nets.mamba2 import along
from weighbridge.forward.ops.losses import embedding
from weighbridge.forward.ops.matrix import linear
from weighbridge.forward.ops.norms import plain_norm, rms_norm
from weighbridge.forward.ops.pointwise import (
    add,
    cast,
    mul,
    of_input,
    of_result,
    scale,
)
from weighbridge.forward.ops.scans import scanned, softplus
from weighbridge.forward.ops.shaping import copied, shaped, split, turned
from weighbridge.forward.parts.layer import run
from weighbridge.forward.step import TrainingStep, entered
from weighbridge.forward.tensors import Tensor

Norm = Callable[[Machine, Module, Tensor, str], Tensor]


def mamba_model(s: TrainingStep) -> Tensor:
    """MambaModel.forward"""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("embeddings")))
    x = inputs_embeds
    for i, p in enumerate(built.layers):
        x = run(s, block, x, p, i)
    return rms_norm(m, x, built.base.weight("norm_f"))


def block(x: Tensor, s: TrainingStep, p: Module, number: int) -> Tensor:
    """MambaBlock.forward"""
    m, weight = s.m, p.weight("norm")
    residual = x
    x = rms_norm(m, cast(m, x, weight.dtype), weight)
    if s.built.config.get("residual_in_fp32") is not False:
        residual = cast(m, residual, FLOAT32)
    norm = weightless if differs(s.built.kind, "unweighted_norms") else None
    return add(m, residual, mixer(s, p.at("mixer"), x, number, norm))


def weightless(m: Machine, _p: Module, x: Tensor, _name: str) -> Tensor:
    """rms_forward"""
    return plain_norm(m, x)


def mixer(s: TrainingStep, p: Module, x: Tensor, number: int, norm: Norm | None = None) -> Tensor:
    """MambaMixer.forward; what it turns is copied where there are several sequences."""
    m, dtype, f = s.m, x.dtype, mixer_of(s, number)
    projected_states = _views(s, p.linear(m, x, "in_proj"))
    a = scale(m, of_result(m, cast(m, p.bare("A_log"), FLOAT32)))
    hidden, gate = split(m, projected_states, [f.inner, f.inner])
    hidden = along(m, p, hidden)
    rank = p.weight("dt_proj").shape[-1]
    time_step, b, c = split(m, _from(s, p, hidden, "x_proj"), [rank, f.state, f.state])
    if norm is not None:
        time_step = norm(m, p, time_step, "dt_layernorm")
        b, c = norm(m, p, b, "b_layernorm"), norm(m, p, c, "c_layernorm")
    time_step = copied(m, _views(s, linear(m, time_step, p.weight("dt_proj"))))
    bias = p.bias("dt_proj")
    time_proj_bias = cast(m, bias, FLOAT32) if bias is not None else None
    given = time_step, a, b, c, time_proj_bias
    scan_output = scan(s, p, hidden, given, gate)
    return _from(s, p, cast(m, scan_output, dtype), "out_proj")


def mixer_of(s: TrainingStep, number: int) -> Mamba1:
    return next(x for x in s.built.body.blocks[number].mixers if isinstance(x, Mamba1))


def _views(s: TrainingStep, x: Tensor) -> Tensor:
    return turned(s.m, x) if s.batch > 1 else x


def _from(s: TrainingStep, p: Module, x: Tensor, name: str) -> Tensor:
    """A linear of what lies turned."""
    x = lower(s.m, x)
    return p.linear(s.m, copied(s.m, x) if s.batch > 1 else x, name)


Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]


def scan(s: TrainingStep, p: Module, hidden: Tensor, given: Given, gate: Tensor) -> Tensor:
    """mamba_selective_scan"""
    m = s.m
    dt, a, b, c, bias = given
    batch, length, inner = hidden.shape
    if bias is not None:
        dt = add(m, dt, cast(m, bias, dt.dtype))
    dt = softplus(m, dt)
    own = shaped(m, cast(m, p.bare("D"), FLOAT32), 1, inner, 1)
    states = a.shape[-1]
    each = batch, inner, length
    wide_dt = dt.view(*each, 1)
    discrete_a = of_result(m, mul(m, a.view(1, inner, 1, states), wide_dt))
    discrete_b = mul(m, wide_dt, cast(m, b, FLOAT32).view(batch, 1, length, states))
    delta_b_u = mul(m, discrete_b, cast(m, hidden, FLOAT32).view(*each, 1))
    out, _states = scanned(m, discrete_a, delta_b_u, c, hidden.dtype)
    out = add(m, out, mul(m, hidden.view(*each), own))
    out = mul(m, out, of_input(m, gate.view(*each)))
    return out.view(*hidden.shape)


mamba = Net(mamba_model, loss=mamba2.loss, causal=True, mixes=Mamba1)
