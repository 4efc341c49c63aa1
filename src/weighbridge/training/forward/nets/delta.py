"""The gated delta rule as torch runs it where no kernels are installed: chunks of 64 tokens, in
float32, whose triangular systems are solved together; the state goes through them one by one.

Before transformers 5.17 a system is inverted row by row, which keeps 349,440 bytes more of every
chunk and value head (2,016 + 85,344 numbers), and the decays are applied in each chunk.

Letters: B batch, H value heads, C chunks, L tokens of a chunk, K and V dimensions of a key and a
value.
Source: transformers 5.23, 5.17, 5.16, 5.6, 5.5 and 4.57 models/qwen3_next/modeling_qwen3_next.py
(torch_chunk_gated_delta_rule).
"""

from weighbridge.base.dtypes import BOOL, FLOAT32
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.units import ceil_div
from weighbridge.models.arch.mixers import GatedDelta
from weighbridge.training.forward.loops import Carried, repeat
from weighbridge.training.forward.machine import Machine, another, record
from weighbridge.training.forward.ops.matrix import matmul
from weighbridge.training.forward.ops.pointwise import (
    add,
    cast,
    mul,
    of_result,
    rsqrt,
    scale,
    shift,
    sub,
    total,
)
from weighbridge.training.forward.ops.scans import (
    cumulated,
    filled,
    interleaved,
    masked,
    solved,
    substituted,
    triangle,
)
from weighbridge.training.forward.ops.shaping import copied, part, turned, written
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Computed, Shape, Tensor

CHUNK = 64
SOLVED_SINCE = (5, 17)  # transformers since which systems are solved by linalg.solve_triangular
TRIANGULAR_SINCE = (5, 6)  # transformers since which scores of a chunk are not masked again


@frozen_record
class Delta:
    """Sizes of one layer that runs the gated delta rule."""

    batch: int
    length: int
    key_heads: int
    heads: int
    key_dim: int
    value_dim: int

    @property
    def chunks(self) -> int:
        return ceil_div(self.length, CHUNK)

    @property
    def lead(self) -> Shape:
        """Return the shape [B, H, C, L]."""
        return self.batch, self.heads, self.chunks, CHUNK

    @property
    def padded(self) -> int:
        return self.chunks * CHUNK

    @property
    def keys(self) -> int:
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        return self.heads * self.value_dim


def delta_of(s: TrainingStep, number: int) -> Delta:
    mixer = next(x for x in s.built.body.blocks[number].mixers if isinstance(x, GatedDelta))
    return Delta(
        batch=s.batch,
        length=s.length,
        key_heads=mixer.key_heads,
        heads=mixer.value_heads,
        key_dim=mixer.key_dim,
        value_dim=mixer.value_dim,
    )


class DeltaInputs(NamedTuple):
    """The inputs of the delta rule, [batch, length, heads, ...], before casts and repeats."""

    query: Tensor
    key: Tensor
    value: Tensor
    g: Tensor
    beta: Tensor


def delta_rule(m: Machine, inputs: DeltaInputs, delta: Delta) -> Tensor:
    """Return torch_chunk_gated_delta_rule; its local variables live until it returns."""
    query, key, value, decay, beta = inputs
    dtype = query.dtype
    query, key, value, beta = widened(m, (query, key, value, beta), delta)
    query, key = l2norm(m, query), l2norm(m, key)
    query = scale(m, query)
    query, key, value = (
        filled(m, x, (delta.batch, delta.heads, delta.padded, x.shape[-1]))
        for x in (query, key, value)
    )
    beta, decay = (filled(m, x, (delta.batch, delta.heads, delta.padded)) for x in (beta, decay))
    v_beta = mul(m, value, beta.view(*beta.shape, 1))
    k_beta = mul(m, key, beta.view(*beta.shape, 1))
    query, key = query.view(*delta.lead, delta.key_dim), key.view(*delta.lead, delta.key_dim)
    k_beta = turned(m, k_beta).view(*delta.lead, delta.key_dim)
    v_beta = turned(m, v_beta).view(*delta.lead, delta.value_dim)
    mask = upper(m)
    cum_decay = cumulated(m, decay.view(*delta.lead))
    pairwise = between(m, cum_decay, mask)
    apart = dtype == FLOAT32 and delta.padded == delta.length
    ut_system = mul(m, product(m, k_beta, key, CHUNK, apart=apart), pairwise)
    intra = mul(m, product(m, query, key, CHUNK, apart=apart), pairwise)
    decayed_k_beta = mul(m, k_beta, of_result(m, cum_decay).view(*delta.lead, 1))
    new_values = solved(m, ut_system, v_beta)
    k_cumdecay = solved(m, ut_system, decayed_k_beta)
    state = m.new((delta.batch, delta.heads, delta.key_dim, delta.value_dim), FLOAT32)
    core = m.new(new_values.shape, FLOAT32)
    query = mul(m, query, of_result(m, cum_decay).view(*delta.lead, 1))
    last = part(m, cum_decay, *delta.lead[:3], 1)
    key = mul(m, key, of_result(m, sub(m, last, cum_decay)).view(*delta.lead, 1))
    chunk_decay = of_result(m, part(m, cum_decay, *delta.lead[:3]))
    carried = [state, core]
    del state, core
    turns = ChunkInputs(
        new_values, k_cumdecay, query, key, intra, chunk_decay, apart and delta.batch > 1
    )
    repeat(m, delta.chunks, lambda carried: turn(m, turns, carried, delta), carried)
    core = carried[1]
    carried[:2] = []
    core = copied(m, core).view(delta.batch, delta.heads, delta.padded, delta.value_dim)
    if delta.padded > delta.length:
        core = part(m, core, delta.batch, delta.heads, delta.length, delta.value_dim)
    return cast(m, core, dtype).view(delta.batch, delta.length, delta.heads, delta.value_dim)


def delta_rule_by_rows(
    m: Machine, inputs: DeltaInputs, delta: Delta, *, filled_in_place: bool
) -> Tensor:
    """Return the delta rule as before transformers 5.17; its local variables live until it returns.
    Queries and keys are normalized first, and all tensors have heads before tokens.
    `filled_in_place`: scores of a chunk are masked in place, which saves only the mask."""
    query, key, value, g, beta = inputs
    dtype = query.dtype
    if delta.heads > delta.key_heads:
        each = delta.batch, delta.length, delta.heads, delta.key_dim
        query, key = interleaved(m, query, each), interleaved(m, key, each)
    query, key = l2norm(m, query), l2norm(m, key)
    query, key, value, beta, g = (
        cast(m, copied(m, x), FLOAT32) for x in (query, key, value, beta, g)
    )
    query, key, value = (
        filled(m, x, (delta.batch, delta.heads, delta.padded, x.shape[-1]))
        for x in (query, key, value)
    )
    beta, g = (filled(m, x, (delta.batch, delta.heads, delta.padded)) for x in (beta, g))
    query = scale(m, query)
    v_beta = mul(m, value, beta.view(*beta.shape, 1)).view(*delta.lead, delta.value_dim)
    k_beta = mul(m, key, beta.view(*beta.shape, 1)).view(*delta.lead, delta.key_dim)
    query, key = query.view(*delta.lead, delta.key_dim), key.view(*delta.lead, delta.key_dim)
    mask = upper(m)
    g = cumulated(m, g.view(*delta.lead))
    decay_mask = decays_between(m, g)
    attn = masked(m, mul(m, matmul(m, k_beta, key, CHUNK), decay_mask), mask)
    attn = substituted(m, scale(m, attn))
    attn = shift(m, attn)
    value = matmul(m, attn, v_beta, delta.value_dim)
    k_cumdecay = matmul(
        m, attn, mul(m, k_beta, of_result(m, g).view(*delta.lead, 1)), delta.key_dim
    )
    state = m.new((delta.batch, delta.heads, delta.key_dim, delta.value_dim), FLOAT32)
    core = m.new(value.shape, FLOAT32)
    mask = upper(m)
    carried = [state, core]
    del state, core
    rows = ChunkRows(
        query, key, value, k_cumdecay, g, decay_mask, mask if filled_in_place else None
    )
    repeat(m, delta.chunks, lambda carried: row_turn(m, rows, carried, delta), carried)
    core = carried[1]
    carried[:] = []
    core = core.view(delta.batch, delta.heads, delta.padded, delta.value_dim)
    if delta.padded > delta.length:
        core = part(m, core, delta.batch, delta.heads, delta.length, delta.value_dim)
    core = cast(m, copied(m, core), dtype)
    del attn, v_beta, k_beta
    return core.view(delta.batch, delta.length, delta.heads, delta.value_dim)


def decays_between(m: Machine, decay: Tensor) -> Tensor:
    """Return ((g.unsqueeze(-1) - g.unsqueeze(-2)).tril().exp().float()).tril()."""
    lead = decay.shape
    out = sub(m, decay.view(*lead, 1), decay.view(*lead[:-1], 1, lead[-1]))
    out = triangle(m, out)
    out = of_result(m, out)
    return triangle(m, out)


class ChunkRows(NamedTuple):
    """The tensors of which the older rule slices each chunk."""

    query: Tensor
    key: Tensor
    value: Tensor
    k_cumdecay: Tensor
    g: Tensor
    decay_mask: Tensor
    mask: Tensor | None


def row_turn(m: Machine, turn: ChunkRows, carried: Carried, delta: Delta) -> None:
    """Run one chunk of the older rule; `carried` holds the state, the output, and four local
    variables."""
    state, core = carried[:2]
    rows = delta.batch, delta.heads, CHUNK
    keys, values = (*rows, delta.key_dim), (*rows, delta.value_dim)
    q_i, k_i, v_i = (
        part(m, turn.query, *keys),
        part(m, turn.key, *keys),
        part(m, turn.value, *values),
    )
    attn = mul(m, matmul(m, q_i, k_i, CHUNK), part(m, turn.decay_mask, *rows, CHUNK))
    if turn.mask is not None:
        scores = Computed(attn.shape, attn.dtype, attn.storage)
        record(m, another, [attn], [turn.mask], scores)
        attn = scores
    carried[2:3] = [attn]
    carried[3:4] = [matmul(m, part(m, turn.k_cumdecay, *keys), state, delta.value_dim)]
    carried[4:5] = [sub(m, v_i, carried[3])]
    v_new, g_i = carried[4], part(m, turn.g, *rows)
    decayed = mul(m, q_i, of_result(m, g_i).view(*rows, 1))
    carried[5:6] = [matmul(m, decayed, state, delta.value_dim)]
    core = written(m, core, add(m, carried[5], matmul(m, attn, v_new, delta.value_dim)))
    to_save = mul(m, state, of_result(m, part(m, turn.g, *rows[:2], 1, 1)))
    left = of_result(m, sub(m, part(m, turn.g, *rows[:2], 1), part(m, turn.g, *rows)))
    key = mul(m, k_i, left.view(*rows, 1)).view(*rows[:2], delta.key_dim, CHUNK)
    carried[:2] = [add(m, to_save, matmul(m, key, v_new, delta.value_dim)), core]


def widened(m: Machine, tensors: tuple[Tensor, ...], delta: Delta) -> list[Tensor]:
    """Return queries and keys repeated for every value head, and all tensors in float32."""
    query, key, *others = tensors
    if delta.heads > delta.key_heads:
        each = delta.batch, delta.length, delta.heads, delta.key_dim
        query, key = interleaved(m, query, each), interleaved(m, key, each)
    return [cast(m, x, FLOAT32) for x in (query, key, *others)]


def l2norm(m: Machine, x: Tensor) -> Tensor:
    inv_norm = rsqrt(m, shift(m, total(m, mul(m, x, x))))
    return mul(m, x, inv_norm)


def upper(m: Machine) -> Tensor:
    ones = m.new((CHUNK, CHUNK), BOOL)
    out = m.new((CHUNK, CHUNK), BOOL)
    del ones
    return out


def between(m: Machine, cum_decay: Tensor, mask: Tensor) -> Tensor:
    """Return exp(cum_decay_i - cum_decay_j) of earlier tokens: [B, H, C, L, L]."""
    lead = cum_decay.shape
    out = sub(m, cum_decay.view(*lead, 1), cum_decay.view(*lead[:-1], 1, lead[-1]))
    out = masked(m, out, mask)
    return of_result(m, out)


class ChunkInputs(NamedTuple):
    """The tensors of which the rule slices each chunk."""

    new_values: Tensor
    k_cumdecay: Tensor
    query: Tensor
    key: Tensor
    intra: Tensor
    chunk_decay: Tensor
    apart: bool


def turn(m: Machine, inputs: ChunkInputs, carried: Carried, delta: Delta) -> None:
    """Run one chunk; `carried` holds the state, the output, and two local variables."""
    state, core = carried[:2]
    rows = delta.batch, delta.heads, CHUNK
    keys, values = (*rows, delta.key_dim), (*rows, delta.value_dim)
    new, known = part(m, inputs.new_values, *values), part(m, inputs.k_cumdecay, *keys)
    carried[2:3] = [sub(m, new, matmul(m, known, state, delta.value_dim))]
    v_new = carried[2]
    query = placed(m, part(m, inputs.query, *keys), apart=inputs.apart)
    carried[3:] = [matmul(m, query, state, delta.value_dim)]
    seen = part(m, inputs.intra, *rows, CHUNK)
    core = written(m, core, add(m, carried[3], matmul(m, seen, v_new, delta.value_dim)))
    decayed = mul(m, state, part(m, inputs.chunk_decay, *rows[:2], 1, 1))
    key = placed(m, part(m, inputs.key, *rows[:2], delta.key_dim, CHUNK), apart=inputs.apart)
    carried[:2] = [add(m, decayed, matmul(m, key, v_new, delta.value_dim)), core]


def placed(m: Machine, x: Tensor, *, apart: bool) -> Tensor:
    """Return `x`, copied if a product needs that. `apart`: the tokens of a head are not contiguous,
    since nothing was cast or padded before."""
    return copied(m, x) if apart else x


def product(m: Machine, a: Tensor, b: Tensor, columns: int, *, apart: bool) -> Tensor:
    return matmul(m, placed(m, a, apart=apart), placed(m, b, apart=apart), columns)
