"""State spaces as torch runs them where no kernels are installed: Mamba-2 and Mamba 1.

    Mamba-2   a convolution along the sequence, and the scan chunk by chunk, in float32. B batch, C
              chunks, L tokens of a chunk, H heads, P head dimension, N states
    Mamba 1   a convolution along the sequence, and the scan token by token; Falcon-Mamba norms what
              the scan is given. B batch, L tokens, I inner size, N states

Source: transformers 5.23 models/mamba2/modeling_mamba2.py (mamba2_chunk_scan, segment_sum),
models/mamba/modeling_mamba.py (MambaMixer, mamba_selective_scan),
models/falcon_mamba/modeling_falcon_mamba.py.
"""

from collections.abc import Callable

from weighbridge.base.dtypes import BOOL, FLOAT32, INT64
from weighbridge.base.records import NamedTuple
from weighbridge.models.arch.mixers import Mamba1, Mamba2
from weighbridge.models.arch.model_types import differs
from weighbridge.training.forward.losses import causal_loss, head
from weighbridge.training.forward.machine import Machine, lower
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets import Net, installed
from weighbridge.training.forward.nets.split_scan import Scan, split_scan
from weighbridge.training.forward.ops.matrix import ConvForm, conv, linear
from weighbridge.training.forward.ops.norms import plain_norm, rms_norm
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    mean,
    mul,
    of_input,
    of_result,
    power,
    rsqrt,
    scale,
    shift,
    sub,
)
from weighbridge.training.forward.ops.scans import (
    clamped,
    contracted,
    cumulated,
    filled,
    interleaved,
    masked,
    scanned,
    softplus,
)
from weighbridge.training.forward.ops.shaping import (
    copied,
    embedding,
    expand,
    part,
    shaped,
    split,
    stack,
    turned,
)
from weighbridge.training.forward.parts.layer import run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Shape, Tensor


def scan_of(s: TrainingStep, number: int) -> Scan:
    mamba = next(x for x in s.built.body.blocks[number].mixers if isinstance(x, Mamba2))
    return Scan(
        batch=s.batch,
        length=s.length,
        chunk=s.built.config.num("chunk_size", "mamba_chunk_size", default=0) or 256,
        heads=mamba.heads,
        dim=mamba.inner // mamba.heads,
        groups=mamba.groups,
        states=mamba.state,
    )


def model(s: TrainingStep, block: Callable[..., Tensor]) -> Tensor:
    """Return the hidden states of MambaModel.forward or Mamba2Model.forward."""
    m, built = s.m, s.built
    ids = m.new((s.batch, s.length), INT64)
    inputs_embeds = entered(s, embedding(m, ids, built.base.weight("embeddings")))
    x = inputs_embeds
    for i, p in enumerate(built.layers):
        x = run(s, block, x, p, i)
    return rms_norm(m, x, built.base.weight("norm_f"))


def mamba2_model(s: TrainingStep) -> Tensor:
    return model(s, mamba2_block)


def mamba2_block(x: Tensor, s: TrainingStep, p: Module, number: int) -> Tensor:
    """Mamba2Block.forward"""
    m, weight = s.m, p.weight("norm")
    residual = x
    lowered = cast(m, x, weight.dtype)
    x = rms_norm(m, lowered, weight)
    del lowered
    if s.built.config.get("residual_in_fp32") is not False:
        residual = cast(m, residual, FLOAT32)
    x = mamba2_mixer(s, p.at("mixer"), x, scan_of(s, number))
    return add(m, residual, x)


def mamba2_mixer(s: TrainingStep, p: Module, x: Tensor, scan: Scan) -> Tensor:
    """Mamba2Mixer.forward"""
    m, dtype = s.m, x.dtype
    inner, side = scan.inner, scan.side
    projected_states = p.linear(m, x, "in_proj")
    a = scale(m, of_result(m, cast(m, p.bare("A_log"), FLOAT32)))
    if m.installed:
        return split_scan(m, p, projected_states, a, scan)
    gate, mixed, dt = split(m, projected_states, [inner, inner + 2 * side, scan.heads])
    mixed = along(m, p, mixed)
    hidden, b, c = split(m, mixed, [inner, side, side])
    grouped = scan.batch, scan.length, scan.groups, scan.states
    hidden = hidden.view(scan.batch, scan.length, scan.heads, scan.dim)
    selected = Selected(hidden, dt, a, b.view(*grouped), c.view(*grouped))
    scan_result = chunk_scan(m, p, selected, scan)
    scan_output = scan_result.view(scan.batch, scan.length, inner)
    scan_output = gated_norm(m, scan_output, gate, p.weight("norm"), scan.groups)
    return p.linear(m, cast(m, scan_output, dtype), "out_proj")


def along(m: Machine, p: Module, x: Tensor) -> Tensor:
    """Return causal_conv1d_fn with silu of `x`."""
    if m.installed:
        return convolved(m, p, x, "conv1d")
    return cast(m, of_input(m, convolved(m, p, x, "conv1d")), x.dtype)


def convolved(m: Machine, p: Module, x: Tensor, name: str) -> Tensor:
    """Return a depthwise causal convolution of x, [batch, length, width]; an installed kernel
    includes the activation. torch's output is padded by kernel - 1, then sliced; the padding stays
    allocated."""
    if m.installed:
        return installed.convolved(m, p, x, name)
    kernel, bias = p.weight(name), p.bias(name)
    weight = shaped(m, kernel, *kernel.shape)
    batch, length, width = x.shape
    longer = batch, width, length + weight.shape[-1] - 1
    return part(
        m, conv(m, cast(m, x, weight.dtype), weight, bias, ConvForm(longer)), batch, length, width
    )


class Selected(NamedTuple):
    """The inputs of Mamba-2's scan: states, time steps, and A, B and C."""

    hidden: Tensor
    dt: Tensor
    a: Tensor
    b: Tensor
    c: Tensor


def chunk_scan(m: Machine, p: Module, inputs: Selected, scan: Scan) -> Tensor:
    """Return mamba2_chunk_scan; its local variables live until it returns."""
    hidden, dt, a, b, c = inputs
    dt = add(m, dt, cast(m, p.bare("dt_bias"), dt.dtype))
    dt = softplus(m, dt)
    dt = clamped(m, dt)
    hidden = cast(m, hidden, FLOAT32)
    each = scan.batch, scan.length, scan.heads, scan.states
    b = interleaved(m, cast(m, b, FLOAT32), each)
    c = interleaved(m, cast(m, c, FLOAT32), each)
    whole = scan.batch, scan.padded, scan.heads
    skip = shaped(m, p.bare("D"), scan.heads, 1)
    d_residual = mul(m, skip, filled(m, hidden, (*whole, scan.dim)))
    del skip
    hidden = mul(m, hidden, cast(m, dt, FLOAT32).view(*dt.shape, 1))
    a = mul(m, a, cast(m, dt, FLOAT32))
    hidden, a, b, c = chunked(m, (hidden, a, b, c), scan)
    a_cumsum = cumulated(m, a)
    inside = of_result(m, segment_sum(m, a, (scan.batch, scan.heads, scan.chunks, scan.chunk)))
    scores = (*scan.left, scan.chunk, scan.heads)
    g = contracted(m, c, b, scores, dense=True)
    weights = mul(m, g, inside.view(*scores))
    values = (*scan.left, scan.heads, scan.dim)
    y_diag = contracted(m, weights, hidden, values, copies="b")
    decay_states = of_result(m, sub(m, part(m, a_cumsum, *a_cumsum.shape[:-1], 1), a_cumsum))
    b_decay = mul(m, b, decay_states.view(*scan.left, scan.heads, 1))
    of_states = (scan.batch, scan.chunks, scan.heads, scan.dim, scan.states)
    states = contracted(m, b_decay, hidden, of_states)
    previous_states = m.new((scan.batch, 1, *of_states[2:]), states.dtype)
    states = stack(m, previous_states, states)
    decay_chunk = between(m, a_cumsum, scan)
    new_states = contracted(m, decay_chunk, states, states.shape, copies="b")
    states = part(m, new_states, *of_states)
    state_decay_out = of_result(m, a_cumsum)
    c_times_states = contracted(m, c, states, values)
    y_off = mul(m, c_times_states, state_decay_out.view(*scan.left, scan.heads, 1))
    output = copied(m, add(m, y_diag, y_off))
    output = output.view(*whole, scan.dim)
    output = add(m, output, d_residual)
    if scan.padded > scan.length:
        output = part(m, output, scan.batch, scan.length, scan.heads, scan.dim)
    return output


def chunked(m: Machine, tensors: tuple[Tensor, ...], scan: Scan) -> list[Tensor]:
    """Return reshape_into_chunks of each tensor; gradients of tensors with heads come in another
    order."""
    output = []
    for t in tensors:
        out = filled(m, t, (scan.batch, scan.padded, *t.shape[2:]))
        blocks = out.view(*scan.left, *t.shape[2:])
        output.append(turned(m, blocks) if len(t.shape) > 3 else blocks)
    hidden, a, b, c = output
    a = a.view(scan.batch, scan.heads, scan.chunks, scan.chunk)
    return [hidden, a, b, c]


def segment_sum(m: Machine, x: Tensor, shape: Shape) -> Tensor:
    """Return the segment sums of x, [..., length] -> [..., length, length]."""
    length = shape[-1]
    x = expand(m, x, *shape, length)
    mask = _triangle(m, length)
    x = masked(m, x, m.new(mask.shape, BOOL))
    total = cumulated(m, x)
    mask = _triangle(m, length)
    return masked(m, total, m.new(mask.shape, BOOL))


def _triangle(m: Machine, length: int) -> Tensor:
    ones = m.new((length, length), BOOL)
    out = m.new((length, length), BOOL)
    del ones
    return out


def between(m: Machine, a_cumsum: Tensor, scan: Scan) -> Tensor:
    """Return the decay from the end of each chunk to that of each other, with one initial state
    before all."""
    ends = part(m, a_cumsum, scan.batch, scan.heads, scan.chunks)
    longer = (scan.batch, scan.heads, scan.chunks + 1)
    return of_result(m, segment_sum(m, filled(m, ends, longer), longer))


def gated_norm(m: Machine, x: Tensor, gate: Tensor, weight: Tensor, groups: int) -> Tensor:
    """MambaRMSNormGated.forward"""
    dtype, shape = x.dtype, x.shape
    x = cast(m, x, FLOAT32)
    x = mul(m, x, of_input(m, cast(m, gate, FLOAT32)))
    grouped = x.view(*shape[:-1], groups, shape[-1] // groups)
    variance = mean(m, power(m, grouped))
    grouped = mul(m, grouped, rsqrt(m, shift(m, variance)))
    x = grouped.view(*shape)
    return mul(m, weight, cast(m, x, dtype))


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Return (loss, logits) of Mamba2ForCausalLM; logits are cast to float32."""
    m = s.m
    labels = m.new((s.batch, s.length), INT64)
    with m.making("logits"):
        name = s.built.root.first("lm_head")
        dtype = s.built.root.weight(name).dtype if name else s.dtype
        logits = cast(m, head(s, cast(m, hidden, dtype)), FLOAT32)
        return causal_loss(m, logits, labels), logits


mamba2 = Net(mamba2_model, loss=loss, causal=True, mixes=Mamba2)


# ---- Mamba 1


Norm = Callable[[Machine, Module, Tensor, str], Tensor]


def mamba_model(s: TrainingStep) -> Tensor:
    return model(s, block)


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
    """Return MambaMixer.forward; transposed tensors are copied if there are several sequences."""
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
    projected = time_step, a, b, c, time_proj_bias
    scan_output = scan(s, p, hidden, projected, gate)
    return _from(s, p, cast(m, scan_output, dtype), "out_proj")


def mixer_of(s: TrainingStep, number: int) -> Mamba1:
    return next(x for x in s.built.body.blocks[number].mixers if isinstance(x, Mamba1))


def _views(s: TrainingStep, x: Tensor) -> Tensor:
    return turned(s.m, x) if s.batch > 1 else x


def _from(s: TrainingStep, p: Module, x: Tensor, name: str) -> Tensor:
    """Return a linear's output for states that have channels before tokens in memory."""
    x = lower(s.m, x)
    return p.linear(s.m, copied(s.m, x) if s.batch > 1 else x, name)


Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]


def scan(s: TrainingStep, p: Module, hidden: Tensor, inputs: Given, gate: Tensor) -> Tensor:
    """mamba_selective_scan"""
    m = s.m
    dt, a, b, c, bias = inputs
    batch, length, inner = hidden.shape
    if bias is not None:
        dt = add(m, dt, cast(m, bias, dt.dtype))
    dt = softplus(m, dt)
    skip = shaped(m, cast(m, p.bare("D"), FLOAT32), 1, inner, 1)
    states = a.shape[-1]
    each = batch, inner, length
    wide_dt = dt.view(*each, 1)
    discrete_a = of_result(m, mul(m, a.view(1, inner, 1, states), wide_dt))
    discrete_b = mul(m, wide_dt, cast(m, b, FLOAT32).view(batch, 1, length, states))
    delta_b_u = mul(m, discrete_b, cast(m, hidden, FLOAT32).view(*each, 1))
    out, _states = scanned(m, discrete_a, delta_b_u, c, hidden.dtype)
    out = add(m, out, mul(m, hidden.view(*each), skip))
    out = mul(m, out, of_input(m, gate.view(*each)))
    return out.view(*hidden.shape)


mamba = Net(mamba_model, loss=loss, causal=True, mixes=Mamba1)
