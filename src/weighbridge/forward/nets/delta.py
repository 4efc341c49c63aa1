"""The gated delta rule as torch runs it where no kernels are installed: chunks of 64 tokens, in
float32, whose triangular systems are solved together; the state goes through them one by one.

Before transformers 5.17 a system is inverted row by row, which keeps 349,440 bytes more of every
chunk and value head (2,016 + 85,344 numbers), and the decays are applied in each chunk.

Letters: B batch, H value heads, C chunks, L tokens of a chunk, K and V dimensions of a key and a
value.
Source: transformers 5.23, 5.17, 5.16, 5.6, 5.5 and 4.57 models/qwen3_next/modeling_qwen3_next.py
(torch_chunk_gated_delta_rule, Qwen3NextGatedDeltaNet), models/qwen3_5/modeling_qwen3_5.py.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from weighbridge.arch.mixers import GatedDelta
from weighbridge.dtypes import BOOL, FLOAT32
from weighbridge.forward.loops import Carried, repeat
from weighbridge.forward.machine import Grads, Machine, Needs, record
from weighbridge.forward.modules import Module
from weighbridge.forward.nets.mamba import along
from weighbridge.forward.ops.matrix import matmul
from weighbridge.forward.ops.pointwise import (
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
    total,
)
from weighbridge.forward.ops.scans import (
    cumulated,
    filled,
    interleaved,
    masked,
    softplus,
    solved,
    substituted,
    triangle,
)
from weighbridge.forward.ops.shaping import copied, join, part, split, turned, written
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Computed, Shape, Tensor
from weighbridge.units import ceil_div

CHUNK = 64
SOLVED_SINCE = (5, 17)  # transformers, by linalg.solve_triangular
TRIANGULAR_SINCE = (5, 6)  # scores of a chunk are not masked again


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """The sizes of one layer."""

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
        """[B, H, C, L]"""
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
    found = next(x for x in s.built.body.blocks[number].mixers if isinstance(x, GatedDelta))
    return Delta(
        batch=s.batch,
        length=s.length,
        key_heads=found.key_heads,
        heads=found.value_heads,
        key_dim=found.key_dim,
        value_dim=found.value_dim,
    )


def mixer(s: TrainingStep, p: Module, x: Tensor, d: Delta) -> Tensor:
    """Qwen3NextGatedDeltaNet.forward, Qwen3_5GatedDeltaNet.forward; local variables live to its
    end."""
    m = s.m
    projected, parts, mixed, z, b, a = (fused if p.has("in_proj_qkvz") else apart)(m, p, x, d)
    mixed = along(m, p, mixed)
    query, key, value = heads_of(m, mixed, d)
    del parts
    beta = of_result(m, b)
    g = decays(m, p, a)
    given = DeltaInputs(query, key, value, g, beta)
    if s.transformers < SOLVED_SINCE:
        core = delta_rule_by_rows(m, given, d, filled_in_place=s.transformers < TRIANGULAR_SINCE)
    else:
        core = delta_rule(m, given, d)
    if core.dtype == FLOAT32 and s.transformers >= SOLVED_SINCE:
        core = copied(m, core)  # the rule left heads before tokens
    core = gated_norm(m, core, z, p.weight("norm"))
    out = p.linear(m, core.view(d.batch, d.length, d.values), "out_proj")
    del projected, mixed, query, key, value, g
    return out


# What lives to the end, and to where heads are cut; then mixed, z, b, a
Projected = tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor, Tensor, Tensor, Tensor]


def fused(m: Machine, p: Module, x: Tensor, d: Delta) -> Projected:
    """fix_query_key_value_ordering: what belongs to one key head lies together, and is copied."""
    each = d.values // d.key_heads
    qkvz, ba = p.linear(m, x, "in_proj_qkvz"), p.linear(m, x, "in_proj_ba")
    lead = d.batch, d.length, d.key_heads
    query, key, value, z = split(
        m, qkvz.view(*lead, qkvz.shape[-1] // d.key_heads), (d.key_dim, d.key_dim, each, each)
    )
    few = d.heads // d.key_heads
    b, a = split(m, ba.view(*lead, 2 * few), (few, few))
    value, z, b, a = copied(m, value), copied(m, z), copied(m, b), copied(m, a)
    query, key = copied(m, query), copied(m, key)
    flat = [t.view(d.batch, d.length, t.numel // (d.batch * d.length)) for t in (query, key, value)]
    b, a = (t.view(d.batch, d.length, d.heads) for t in (b, a))
    z = z.view(d.batch, d.length, d.heads, d.value_dim)
    return (qkvz, ba), (query, key, value), join(m, *flat), z, b, a


def apart(m: Machine, p: Module, x: Tensor, d: Delta) -> Projected:
    mixed = p.linear(m, x, "in_proj_qkv")
    z = p.linear(m, x, "in_proj_z").view(d.batch, d.length, d.heads, d.value_dim)
    return (), (), mixed, z, p.linear(m, x, "in_proj_b"), p.linear(m, x, "in_proj_a")


def heads_of(m: Machine, mixed: Tensor, d: Delta) -> tuple[Tensor, ...]:
    """Gradients come with heads before tokens, but those that were summed over copies."""
    query, key, value = split(m, mixed, (d.keys, d.keys, d.values))
    if d.key_heads == d.heads:
        query, key = turned(m, query), turned(m, key)
    lead = d.batch, d.length
    return (
        query.view(*lead, d.key_heads, d.key_dim),
        key.view(*lead, d.key_heads, d.key_dim),
        turned(m, value).view(*lead, d.heads, d.value_dim),
    )


def decays(m: Machine, p: Module, a: Tensor) -> Tensor:
    """-A_log.float().exp() * softplus(a.float() + dt_bias)"""
    rates = scale(m, of_result(m, cast(m, p.bare("A_log"), FLOAT32)))
    return mul(m, rates, softplus(m, add(m, cast(m, a, FLOAT32), p.bare("dt_bias"))))


class DeltaInputs(NamedTuple):
    """Tensors that the delta rule is given."""

    query: Tensor
    key: Tensor
    value: Tensor
    g: Tensor
    beta: Tensor


def delta_rule(m: Machine, given: DeltaInputs, d: Delta) -> Tensor:
    """torch_chunk_gated_delta_rule; its local variables live to its end."""
    query, key, value, decay, beta = given
    dtype = query.dtype
    query, key, value, beta = widened(m, (query, key, value, beta), d)
    query, key = l2norm(m, query), l2norm(m, key)
    query = scale(m, query)
    query, key, value = (
        filled(m, x, (d.batch, d.heads, d.padded, x.shape[-1])) for x in (query, key, value)
    )
    beta, decay = (filled(m, x, (d.batch, d.heads, d.padded)) for x in (beta, decay))
    v_beta = mul(m, value, beta.view(*beta.shape, 1))
    k_beta = mul(m, key, beta.view(*beta.shape, 1))
    query, key = query.view(*d.lead, d.key_dim), key.view(*d.lead, d.key_dim)
    k_beta = turned(m, k_beta).view(*d.lead, d.key_dim)
    v_beta = turned(m, v_beta).view(*d.lead, d.value_dim)
    mask = upper(m)
    cum_decay = cumulated(m, decay.view(*d.lead))
    pairwise = between(m, cum_decay, mask)
    apart = dtype == FLOAT32 and d.padded == d.length
    ut_system = mul(m, product(m, k_beta, key, CHUNK, apart=apart), pairwise)
    intra = mul(m, product(m, query, key, CHUNK, apart=apart), pairwise)
    decayed_k_beta = mul(m, k_beta, of_result(m, cum_decay).view(*d.lead, 1))
    new_values = solved(m, ut_system, v_beta)
    k_cumdecay = solved(m, ut_system, decayed_k_beta)
    state = m.new((d.batch, d.heads, d.key_dim, d.value_dim), FLOAT32)
    core = m.new(new_values.shape, FLOAT32)
    query = mul(m, query, of_result(m, cum_decay).view(*d.lead, 1))
    last = part(m, cum_decay, *d.lead[:3], 1)
    key = mul(m, key, of_result(m, sub(m, last, cum_decay)).view(*d.lead, 1))
    chunk_decay = of_result(m, part(m, cum_decay, *d.lead[:3]))
    carried = [state, core]
    del state, core
    turns = ChunkInputs(
        new_values, k_cumdecay, query, key, intra, chunk_decay, apart and d.batch > 1
    )
    repeat(m, d.chunks, lambda carried: turn(m, turns, carried, d), carried)
    core = carried[1]
    carried[:2] = []
    core = copied(m, core).view(d.batch, d.heads, d.padded, d.value_dim)
    if d.padded > d.length:
        core = part(m, core, d.batch, d.heads, d.length, d.value_dim)
    return cast(m, core, dtype).view(d.batch, d.length, d.heads, d.value_dim)


def delta_rule_by_rows(
    m: Machine, given: DeltaInputs, d: Delta, *, filled_in_place: bool
) -> Tensor:
    """The rule before transformers 5.17; its local variables live to its end. Queries and keys are
    normed as they come, and all is laid out with heads before tokens. `filled_in_place`: scores of
    a chunk are masked, which keeps the mask alone."""
    query, key, value, g, beta = given
    dtype = query.dtype
    if d.heads > d.key_heads:
        each = d.batch, d.length, d.heads, d.key_dim
        query, key = interleaved(m, query, each), interleaved(m, key, each)
    query, key = l2norm(m, query), l2norm(m, key)
    query, key, value, beta, g = (
        cast(m, copied(m, x), FLOAT32) for x in (query, key, value, beta, g)
    )
    query, key, value = (
        filled(m, x, (d.batch, d.heads, d.padded, x.shape[-1])) for x in (query, key, value)
    )
    beta, g = (filled(m, x, (d.batch, d.heads, d.padded)) for x in (beta, g))
    query = scale(m, query)
    v_beta = mul(m, value, beta.view(*beta.shape, 1)).view(*d.lead, d.value_dim)
    k_beta = mul(m, key, beta.view(*beta.shape, 1)).view(*d.lead, d.key_dim)
    query, key = query.view(*d.lead, d.key_dim), key.view(*d.lead, d.key_dim)
    mask = upper(m)
    g = cumulated(m, g.view(*d.lead))
    decay_mask = decays_between(m, g)
    attn = masked(m, mul(m, matmul(m, k_beta, key, CHUNK), decay_mask), mask)
    attn = substituted(m, scale(m, attn))
    attn = shift(m, attn)
    value = matmul(m, attn, v_beta, d.value_dim)
    k_cumdecay = matmul(m, attn, mul(m, k_beta, of_result(m, g).view(*d.lead, 1)), d.key_dim)
    state = m.new((d.batch, d.heads, d.key_dim, d.value_dim), FLOAT32)
    core = m.new(value.shape, FLOAT32)
    mask = upper(m)
    carried = [state, core]
    del state, core
    rows = ChunkRows(
        query, key, value, k_cumdecay, g, decay_mask, mask if filled_in_place else None
    )
    repeat(m, d.chunks, lambda carried: row_turn(m, rows, carried, d), carried)
    core = carried[1]
    carried[:] = []
    core = core.view(d.batch, d.heads, d.padded, d.value_dim)
    if d.padded > d.length:
        core = part(m, core, d.batch, d.heads, d.length, d.value_dim)
    core = cast(m, copied(m, core), dtype)
    del attn, v_beta, k_beta
    return core.view(d.batch, d.length, d.heads, d.value_dim)


def decays_between(m: Machine, g: Tensor) -> Tensor:
    """((g.unsqueeze(-1) - g.unsqueeze(-2)).tril().exp().float()).tril()"""
    lead = g.shape
    out = sub(m, g.view(*lead, 1), g.view(*lead[:-1], 1, lead[-1]))
    out = triangle(m, out)
    out = of_result(m, out)
    return triangle(m, out)


class ChunkRows(NamedTuple):
    """Tensors that the chunks of the older rule are cut from."""

    query: Tensor
    key: Tensor
    value: Tensor
    k_cumdecay: Tensor
    g: Tensor
    decay_mask: Tensor
    mask: Tensor | None


def row_turn(m: Machine, t: ChunkRows, carried: Carried, d: Delta) -> None:
    """One chunk; the state and the output go on, and four local variables."""
    state, core = carried[:2]
    rows = d.batch, d.heads, CHUNK
    keys, values = (*rows, d.key_dim), (*rows, d.value_dim)
    q_i, k_i, v_i = part(m, t.query, *keys), part(m, t.key, *keys), part(m, t.value, *values)
    attn = mul(m, matmul(m, q_i, k_i, CHUNK), part(m, t.decay_mask, *rows, CHUNK))
    if t.mask is not None:
        scores = Computed(attn.shape, attn.dtype, attn.storage)
        record(m, _filled, [attn], [t.mask], scores)
        attn = scores
    carried[2:3] = [attn]
    carried[3:4] = [matmul(m, part(m, t.k_cumdecay, *keys), state, d.value_dim)]
    carried[4:5] = [sub(m, v_i, carried[3])]
    v_new, g_i = carried[4], part(m, t.g, *rows)
    decayed = mul(m, q_i, of_result(m, g_i).view(*rows, 1))
    carried[5:6] = [matmul(m, decayed, state, d.value_dim)]
    core = written(m, core, add(m, carried[5], matmul(m, attn, v_new, d.value_dim)))
    to_save = mul(m, state, of_result(m, part(m, t.g, *rows[:2], 1, 1)))
    left = of_result(m, sub(m, part(m, t.g, *rows[:2], 1), part(m, t.g, *rows)))
    key = mul(m, k_i, left.view(*rows, 1)).view(*rows[:2], d.key_dim, CHUNK)
    carried[:2] = [add(m, to_save, matmul(m, key, v_new, d.value_dim)), core]


def _filled(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
    return [m.new(grads[0].shape, grads[0].dtype)]


def widened(m: Machine, given: tuple[Tensor, ...], d: Delta) -> list[Tensor]:
    """Queries and keys for every value head, and all in float32."""
    query, key, *rest = given
    if d.heads > d.key_heads:
        each = d.batch, d.length, d.heads, d.key_dim
        query, key = interleaved(m, query, each), interleaved(m, key, each)
    return [cast(m, x, FLOAT32) for x in (query, key, *rest)]


def l2norm(m: Machine, x: Tensor) -> Tensor:
    inv_norm = rsqrt(m, shift(m, total(m, mul(m, x, x))))
    return mul(m, x, inv_norm)


def upper(m: Machine) -> Tensor:
    ones = m.new((CHUNK, CHUNK), BOOL)
    out = m.new((CHUNK, CHUNK), BOOL)
    del ones
    return out


def between(m: Machine, cum_decay: Tensor, mask: Tensor) -> Tensor:
    """exp(cum_decay_i - cum_decay_j), of tokens before: [B, H, C, L, L]"""
    lead = cum_decay.shape
    out = sub(m, cum_decay.view(*lead, 1), cum_decay.view(*lead[:-1], 1, lead[-1]))
    out = masked(m, out, mask)
    return of_result(m, out)


class ChunkInputs(NamedTuple):
    """Tensors that the chunks of the rule are cut from."""

    new_values: Tensor
    k_cumdecay: Tensor
    query: Tensor
    key: Tensor
    intra: Tensor
    chunk_decay: Tensor
    apart: bool


def turn(m: Machine, t: ChunkInputs, carried: Carried, d: Delta) -> None:
    """One chunk; the state and the output go on, and two local variables."""
    state, core = carried[:2]
    rows = d.batch, d.heads, CHUNK
    keys, values = (*rows, d.key_dim), (*rows, d.value_dim)
    new, known = part(m, t.new_values, *values), part(m, t.k_cumdecay, *keys)
    carried[2:3] = [sub(m, new, matmul(m, known, state, d.value_dim))]
    v_new = carried[2]
    query = placed(m, part(m, t.query, *keys), apart=t.apart)
    carried[3:] = [matmul(m, query, state, d.value_dim)]
    seen = part(m, t.intra, *rows, CHUNK)
    core = written(m, core, add(m, carried[3], matmul(m, seen, v_new, d.value_dim)))
    kept = mul(m, state, part(m, t.chunk_decay, *rows[:2], 1, 1))
    key = placed(m, part(m, t.key, *rows[:2], d.key_dim, CHUNK), apart=t.apart)
    carried[:2] = [add(m, kept, matmul(m, key, v_new, d.value_dim)), core]


def placed(m: Machine, x: Tensor, *, apart: bool) -> Tensor:
    """Copy `x` if a product needs it. `apart`: the tokens of a head do not lie together, since
    nothing was cast or padded before."""
    return copied(m, x) if apart else x


def product(m: Machine, a: Tensor, b: Tensor, columns: int, *, apart: bool) -> Tensor:
    return matmul(m, placed(m, a, apart=apart), placed(m, b, apart=apart), columns)


def gated_norm(m: Machine, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
    """Qwen3NextRMSNormGated.forward: normed before it is gated."""
    dtype = x.dtype
    hidden = cast(m, x, FLOAT32)
    variance = mean(m, power(m, hidden))
    hidden = mul(m, hidden, rsqrt(m, shift(m, variance)))
    hidden = mul(m, weight, cast(m, hidden, dtype))
    hidden = mul(m, hidden, of_input(m, cast(m, gate, FLOAT32)))
    return cast(m, hidden, dtype)
