"""torchtitan's gpt-oss: flex attention whose output is scaled by learned sinks, and experts with
biases and a clamped activation.

    to 2026-02-22    layers are bfloat16 whatever the model is in, their optimizer states too
                     (training/build.py)
    to 2026-03-04    biases of experts, a row for each of theirs, are joined with zeros for the
                     padding: a copy
    to 2026-06-04    positions turn in 16 bits; later in float32 (02d24f01)
    2026-06-09 on    each sequence has its own positions: their cosines and sines are gathered in
                     each layer, and kept (16954571)
    to 2026-06-13    the gate's product reads up + 1, later up itself (096a72ad)
    to 2026-06-17    flex attention, compiled; later flash attention of sequences end to end, 2, 3
                     or 4 as the card has it (e4035785)

What is kept: both attentions' q, k, v, output and sums of rows; of the sinks their sigmoid in
float32 and in 16 bits, and the scaled output. Selective checkpoints keep all that flex attention
hands to its backward, its inputs among it; products with a bias since they have torch's own list.
A stack of queries, keys and values since 2026-06-24 (3396a4b3) has the bytes of the three.
Source: torchtitan 0.2.2 models/gpt_oss/model/{model,moe}.py, infra/parallelize.py; b5bcd76
models/gpt_oss/{model,moe}.py, models/common/{attention,rope}.py; torch 2.13 nn/attention/varlen.py,
_inductor/kernel/flex/flex_attention.py, _higher_order_ops/flex_attention.py.
"""

from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64
from weighbridge.base.versions import since
from weighbridge.machines.kernels import attention as kernels
from weighbridge.training.forward.machine import (
    Grads,
    Machine,
    Needs,
    lower,
    passed,
    record,
    remade,
)
from weighbridge.training.forward.modules import Module
from weighbridge.training.forward.nets.titan_experts import MixtureForm, biased, product, small
from weighbridge.training.forward.nets.torchtune import Kernel
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    clamp,
    mul,
    of_result,
    scale,
    shift,
    sub,
)
from weighbridge.training.forward.ops.shaping import cut
from weighbridge.training.forward.parts.attention import heads
from weighbridge.training.forward.parts.rotary import rotated_one
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, Tensor

OUTRIGHT, WIDE = (2026, 3, 5), (2026, 6, 5)
OWN_POSITIONS, IN_PLACE = (2026, 6, 9), (2026, 6, 14)
ENDS = (2026, 6, 18)
Attended = tuple[Tensor, Tensor]  # (output, log of the sum of exponentials of each row)


def attention(
    s: TrainingStep, p: Module, x: Tensor, number: int, cache: Tensor, kernel: Kernel
) -> Tensor:
    """Attention.forward"""
    m, h, kind = s.m, heads(s, number), biased(s)
    q, k, v = (p.linear(m, x, name, kind) for name in ("q_proj", "k_proj", "v_proj"))
    q = q.view(*h.queries)
    k = k.view(*h.keys)
    v = v.view(*h.values)
    q, k = _turned(s, q, k)
    output, sums = (_flash if since(s.release, ENDS) else flex)(m, q, k, v, h)
    sink_scale = of_result(m, sub(m, sums, p.bare("sinks"))).view(*sums.shape, 1)
    output = mul(m, output, cast(m, sink_scale, output.dtype))
    return p.linear(m, output.view(*h.joined), "o_proj", kind)


def _turned(s: TrainingStep, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return queries and keys after apply_rotary_emb, with slices of the cached cosine and sine
    buffers."""
    m, low, width = s.m, q.dtype, q.shape[-1]
    if since(s.release, OWN_POSITIONS):
        both = m.new((s.batch, s.length, 1, 2 * width), FLOAT32)
    else:
        both = s.built.kept[0]
    sequences = both.numel // (2 * width * s.length)
    cos: Tensor = Computed((sequences, s.length, 1, width), FLOAT32, both.storage)
    sin = cos
    if not since(s.release, WIDE):
        cos, sin = cast(m, cos, low), cast(m, sin, low)
        return rotated_one(m, q, cos, sin), rotated_one(m, k, cos, sin)
    q_wide, k_wide = cast(m, q, FLOAT32), cast(m, k, FLOAT32)
    q_out, k_out = rotated_one(m, q_wide, cos, sin), rotated_one(m, k_wide, cos, sin)
    return cast(m, q_out, low), cast(m, k_out, low)


def flex(
    m: Machine, q: Tensor, k: Tensor, v: Tensor, asked: AttentionHeads, *, told: bool = True
) -> Attended:
    """Return (output, row sums) of compiled flex_attention; `told`: the sums are returned, besides
    those in base 2 for backward. A selective checkpoint keeps the compiled forward's results
    (inductor_compiled_code), among them its inputs."""
    q, k, v = (m.given("attention", lower(m, x)) for x in (q, k, v))
    shape, rows = (
        asked.outputs,
        (asked.batch, asked.length, asked.heads),
    )
    out = m.result("attention", shape, q.dtype)
    base2 = m.result("attention", rows, FLOAT32)
    sums = m.result("attention", rows, FLOAT32) if told else base2
    shapes = q.shape, k.shape, v.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        in_base, delta = m.new(rows, FLOAT32) if told else None, m.new(rows, FLOAT32)
        gradients = [m.new(shape, saved[0].dtype) for shape in shapes]
        del in_base, delta
        return gradients

    kept = Computed(out.shape, out.dtype, out.storage)
    saved = [q, k, v, kept, Computed(rows, FLOAT32, base2.storage)]
    record(m, back, [q, k, v], saved, *((out, sums) if told else (out,)))
    return out, sums


def _flash(m: Machine, q: Tensor, k: Tensor, v: Tensor, asked: AttentionHeads) -> Attended:
    """Return (output, row sums) of varlen_attn; the sums are returned for the sinks, and have no
    gradient."""
    q, k, v = lower(m, q), lower(m, k), lower(m, v)
    out = m.result("attention", asked.outputs, q.dtype)
    sums = m.result("attention", (asked.batch, asked.length, asked.heads), FLOAT32)
    state = m.new((2,), INT64)
    shapes, seen = (q.shape, k.shape, v.shape), asked.shape(q.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradients = [m.new(shape, saved[0].dtype) for shape in shapes]
        m.hidden(*m.ask(kernels.varlen_backward, seen))
        return gradients

    kept, rows = (Computed(x.shape, x.dtype, x.storage) for x in (out, sums))
    record(m, back, [q, k, v], [q, k, v, kept, rows, state], out, sums)
    return out, sums


def _run(m: Machine, p: Module, rows: Tensor, date: tuple[int, ...] | None) -> Tensor:
    """Return GptOssGroupedExperts.forward; its local variables live until it returns."""
    up, down = p.stacked(m, "experts.gate_up_proj"), p.stacked(m, "experts.down_proj")
    count, width = up.shape[0], rows.shape[-1]
    inner, casts = up.numel // (2 * count * width), small(p)
    h = product(m, rows, up, (count, 2 * inner, width), casts, trains=True)
    b1 = _padded(m, _rows(m, p.bare("experts.gate_up_proj_bias"), rows.shape[0]), date)
    h = add(m, h, b1)
    h = _swiglu(m, h, date)
    h = product(m, h, down, (count, width, inner), casts, trains=True)
    b2_base = _rows(m, p.bare("experts.down_proj_bias"), rows.shape[0])
    b2 = _padded(m, b2_base, date)
    h = add(m, h, b2)
    del b1, b2_base, b2
    return h


def _rows(m: Machine, bias: Tensor, count: int) -> Tensor:
    """Return a bias row for each token-expert pair (repeat_interleave); the experts' indices are
    saved."""
    bias = lower(m, bias)
    numbers = m.new((count,), INT64)
    return remade(m, bias, m.new((count, bias.shape[1]), bias.dtype), numbers)


def _padded(m: Machine, biases: Tensor, date: tuple[int, ...] | None) -> Tensor:
    """Return the bias rows, concatenated with zeros for the padding unless made with it."""
    if since(date, OUTRIGHT):
        return biases
    return passed(m, biases, m.new(biases.shape, biases.dtype))


def _swiglu(m: Machine, x: Tensor, date: tuple[int, ...] | None) -> Tensor:
    half = x.shape[-1] // 2
    x_glu, x_linear = cut(m, x, half), cut(m, x, half)
    x_glu = clamp(m, x_glu, bounds=1)
    x_linear = clamp(m, x_linear)
    out_glu = mul(m, x_glu, of_result(m, scale(m, x_glu)))
    if not since(date, IN_PLACE):
        return mul(m, out_glu, shift(m, x_linear))
    return _addcmul(m, out_glu, x_linear)


def _addcmul(m: Machine, x: Tensor, y: Tensor) -> Tensor:
    """Return x + x * y. Both are saved, and two gradients of `x` are added."""
    out, shape = m.new(x.shape, x.dtype), x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        own, other = m.new(shape, grads[0].dtype), m.new(shape, grads[0].dtype)
        total = m.new(shape, grads[0].dtype)
        del own
        return [total, other]

    record(m, back, [x, y], [x, y], out)
    return out


GPT_OSS = MixtureForm(gate="router", run=_run)
