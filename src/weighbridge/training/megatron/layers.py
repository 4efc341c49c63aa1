"""The forward of a layer as Megatron-core runs it on one rank, and what each part of it keeps.

Tensors that Python names hold while a function runs are kept as long as there, since the peak is
often a moment when several copies of the same tokens still have a name.

    norm and linear    the input, its deviations, and the norm's output
    linear             its input
    attention          queries, keys, values, the output, and a float32 per token and head
    unfused            the softmax of all scores; with dropout its mask and its result, too
    activation         its input
    dropout            one byte per element
    products in 8 bits as in float8.py, instead of the input

Sequence parallelism: between layers each tensor-parallel rank has its part of the tokens, and
gathers all of them before a product, forward and backward. Source: Megatron-LM d98e8a6
core/transformer/{transformer_layer,attention,mlp, multi_latent_attention}.py, core/fusions/*.py;
Transformer Engine c188b53 pytorch/module/layernorm_linear.py, linear.py, base.py (get_dummy_wgrad),
attention/dot_product_attention/{utils,backends}.py (get_qkv_layout).
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

from weighbridge.base.dtypes import BFLOAT16, BOOL, FLOAT32, INT8
from weighbridge.base.records import NamedTuple
from weighbridge.settings.ranks import ULYSSES
from weighbridge.training.forward.checkpoint import checkpoint
from weighbridge.training.forward.machine import Grads, Machine, Needs, passed, record, remade
from weighbridge.training.forward.tensors import Computed, Shape, Tensor
from weighbridge.training.megatron.float8 import both_ways, nbytes, per_tensor
from weighbridge.training.megatron.model import MegatronModel
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.scores import unfused


class LinearWeight(NamedTuple):
    """A linear's weight [rows, columns], whose bytes are counted elsewhere. `low`: it multiplies in
    8 bits."""

    shape: Shape
    low: bool = False


class Operand(NamedTuple):
    """The tensors that a product reads of its input, and the one that it saves for backward."""

    reads: tuple[Tensor, ...]
    kept: Tensor


class RankMachine:
    """One rank of a stage: its machine, model and run, and what all layers share: the buffer for
    gathered tokens, and unwritten gradients, one per shape."""

    def __init__(self, m: Machine, model: MegatronModel, run: MegatronRun) -> None:
        self.m = m
        self.model = model
        self.run = run
        self.rows = run.tokens // run.parts  # token rows per rank between layers
        self._buffer: Tensor | None = None
        self._unwritten: dict[Shape, Tensor] = {}

    def operand(
        self, low: bool, x: Tensor, *, gathered: bool = False, alone: bool = False
    ) -> "Operand":
        """Return what a product reads of `x`, and what it saves for the weight's gradient. If that
        gathers tokens, `x` with one scale per tensor is saved rowwise. `alone`: nothing is saved
        for a gradient."""
        if not low:
            return Operand((x,), x)
        rows = self.byte_each(x.numel)
        if alone or not both_ways(self.run) or (gathered and per_tensor(self.run)):
            return Operand((rows,), rows)
        columns = self.byte_each(x.numel)
        return Operand((rows, columns), columns)

    def gathered_input(
        self, low: bool, rows: int, columns: int, *, back: bool = False
    ) -> list[Tensor]:
        """Return the tokens that a product gathers from all tensor-parallel ranks; Megatron's own
        linears use the shared buffer. Those of backward in 8 bits are needed columnwise, too."""
        if self.run.parts == 1:
            return []
        if not self.run.engine:
            return [self.buffer((rows, columns))]
        if not low:
            return [self.m.new((rows, columns), BFLOAT16)]
        turned = back and per_tensor(self.run) and both_ways(self.run)
        return [self.byte_each(rows * columns) for _ in range(1 + turned)]

    def byte_each(self, numbers: int) -> Tensor:
        """Return `numbers` elements in 8 bits, in one layout, with their scales."""
        return self.m.new((nbytes(self.run, numbers),), INT8)

    def gradients_in_8_bits(self, low: bool, numbers: int) -> list[Tensor]:
        """Return the 8-bit tensors that backward's products read of a gradient with `numbers`
        elements."""
        if not low:
            return []
        return [self.byte_each(numbers) for _ in range(2 if both_ways(self.run) else 1)]

    def gradient(self, shape: Shape) -> Tensor | None:
        """Return the gradient of a weight, freed when its product ends, as it is added to the main
        gradient then. None if the product adds to the main gradient itself: torch gets one that is
        never written, and the first of each shape lives on."""
        if self.run.lora:
            return None  # the weight is frozen
        if not self.run.fused_gradients:
            return self.m.new(shape, BFLOAT16)
        if shape not in self._unwritten:
            self._unwritten[shape] = self.m.new(shape, BFLOAT16, "gradients")
        return None

    def gathered(self, x: Tensor, rows: int) -> Tensor:
        """Return the tokens of all tensor-parallel ranks, gathered in the shared buffer."""
        shape = (rows, x.shape[-1])
        return remade(self.m, x, Computed(shape, BFLOAT16, self.buffer(shape).storage))

    def buffer(self, shape: Shape) -> Tensor:
        """Return the shared buffer, which lives as long as the run and is as large as the largest
        request (get_global_memory_buffer)."""
        if self._buffer is None or self._buffer.numel < prod(shape):
            self._buffer = None
            self._buffer = self.m.new(shape, BFLOAT16, "buffers")
        return self._buffer


def _deviations(rank: RankMachine, x: Tensor) -> Tensor:
    return rank.m.new((x.rows, 2 if rank.model.centered else 1), FLOAT32)


def norm(rank: RankMachine, x: Tensor) -> Tensor:
    """Return the output of a norm that is not fused with a linear."""
    out = rank.m.new(x.shape, x.dtype)
    return remade(rank.m, x, out, x, _deviations(rank, x))


def norm_linear(rank: RankMachine, x: Tensor, weight: LinearWeight) -> Tensor:
    """Return a norm and the column-parallel linear after it. If the norm is recomputed, its output
    is freed, and made again in backward."""
    m, parts, shape, low = rank.m, rank.run.parts, x.shape, weight.low
    rows, hidden = x.rows, x.shape[-1]
    kept = [x, _deviations(rank, x)]
    normed = m.new(shape, x.dtype)
    operand = rank.operand(low, normed, gathered=parts > 1)
    del normed
    again = "layernorm" in rank.run.modules
    if not again:
        kept.append(operand.kept)
    whole = rank.gathered_input(low, rows * parts, hidden)
    out = m.new((rows * parts, weight.shape[0]), x.dtype)
    del whole, operand

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        normed = m.new(shape, BFLOAT16) if again else None
        of_out = rank.gradients_in_8_bits(low, rows * parts * weight.shape[0])
        whole = rank.gathered_input(low, rows * parts, hidden, back=True)
        given = m.new((rows * parts, hidden), BFLOAT16)
        if parts > 1:
            given = m.new(shape, BFLOAT16)
        of_weight = rank.gradient(weight.shape)
        del whole, normed, of_out
        of_x = m.new(shape, BFLOAT16)  # gradient of the norm's output
        del given, of_weight
        return [of_x]

    record(m, back, [x], kept, out)
    return out


def row_linear(
    rank: RankMachine,
    x: Tensor,
    weight: LinearWeight,
    *,
    original: bool = False,
) -> Tensor:
    """Return a row-parallel linear: outputs are all-reduced, or reduce-scattered. `original`: the
    input is saved as it is instead of in 8 bits, since another operator saves it, too."""
    m, parts, reads, low = rank.m, rank.run.parts, x.shape, weight.low
    made = x.rows, weight.shape[0]
    operand = rank.operand(low, x, alone=original)
    kept = x if original else operand.kept
    out = m.new(made, x.dtype)
    del operand
    if parts > 1:
        out = m.new((x.rows // parts, weight.shape[0]), x.dtype)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_out = rank.gradients_in_8_bits(low, made[0] * made[1])
        whole = m.new(made, BFLOAT16) if parts > 1 and not low else None
        given = m.new(reads, BFLOAT16)
        again = [rank.byte_each(reads[0] * reads[-1])] if low and original else []
        of_weight = rank.gradient(weight.shape)
        del whole, of_out, again, of_weight
        return [given]

    record(m, back, [x], [kept], out)
    return out


def column_linear(rank: RankMachine, x: Tensor, weight: LinearWeight) -> Tensor:
    """Return a column-parallel linear without a norm."""
    m, parts, shape, low = rank.m, rank.run.parts, x.shape, weight.low
    rows = x.rows * parts
    operand = rank.operand(low, x, gathered=parts > 1)
    kept = operand.kept
    whole = rank.gathered_input(low, rows, shape[-1])
    out = m.new((rows, weight.shape[0]), x.dtype)
    del whole, operand

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_out = rank.gradients_in_8_bits(low, rows * weight.shape[0])
        whole = rank.gathered_input(low, rows, shape[-1], back=True)
        given = m.new((rows, shape[-1]), BFLOAT16)
        if parts > 1:
            given = m.new(shape, BFLOAT16)
        of_weight = rank.gradient(weight.shape)
        del whole, of_out, of_weight
        return [given]

    record(m, back, [x], [kept], out)
    return out


def linear(rank: RankMachine, x: Tensor, weight: LinearWeight) -> Tensor:
    """Return a linear that is replicated on each tensor-parallel rank."""
    m, reads, low = rank.m, x.shape, weight.low
    operand = rank.operand(low, x)
    kept = operand.kept
    out = m.new((x.rows, weight.shape[0]), x.dtype)
    del operand

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        of_out = rank.gradients_in_8_bits(low, reads[0] * weight.shape[0])
        given = m.new(reads, BFLOAT16)
        of_weight = rank.gradient(weight.shape)
        del of_out, of_weight
        return [given]

    record(m, back, [x], [kept], out)
    return out


def activation(rank: RankMachine, x: Tensor) -> Tensor:
    """Return SwiGLU or GELU of `x` in one kernel, which saves its input."""
    out = rank.m.new((x.rows, x.shape[-1] // (2 if rank.model.gated else 1)), x.dtype)
    return _from_input(rank.m, x, out)


def _from_input(m: Machine, x: Tensor, out: Tensor) -> Tensor:
    shape = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, BFLOAT16)]

    record(m, back, [x], [x], out)
    return out


def dropped(rank: RankMachine, x: Tensor, residual: Tensor) -> Tensor:
    """Return bias, dropout and residual addition in one kernel."""
    m = rank.m
    out = m.new(x.shape, x.dtype)
    kept = [m.new(x.shape, BOOL)] if rank.run.hidden_dropout else []
    drops = bool(kept)

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(grads[0].shape, BFLOAT16) if drops else grads[0], grads[0]]

    record(m, back, [x, residual], kept, out)
    return out


def split(m: Machine, x: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Return views of `x` by columns; backward joins their gradients."""
    outs: list[Tensor] = [Computed((x.rows, width), x.dtype, x.storage) for width in widths]
    shape = x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, BFLOAT16)]

    record(m, back, [x], [], *outs)
    return outs


def copied(m: Machine, x: Tensor) -> Tensor:
    return remade(m, x, m.new(x.shape, x.dtype))


# ---- attention


def self_attention(rank: RankMachine, weights: "LayerWeights", x: Tensor) -> Tensor:
    if rank.model.latent is not None:
        return _latent_attention(rank, weights, x)
    m, model, tensor = rank.m, rank.model, rank.run.tensor
    heads, groups = model.heads // tensor, max(1, model.kv_heads // tensor)
    mixed = norm_linear(rank, x, weights["qkv"])
    of_gate = [heads] if model.gated_attention else []
    parts = split(m, mixed, [n * model.head_dim for n in (heads, *of_gate, groups, groups)])
    q, *gate, k, v = parts
    del mixed, parts
    # Whether queries, keys and values are used as views of one tensor
    packed = heads == groups and not gate
    if not packed:
        q = copied(m, q)
    if model.qk_norm:  # the norm of a view copies it
        q, k = norm(rank, q if not packed else copied(m, q)), norm(rank, copied(m, k))
    if model.rotary:
        q, k = copied(m, q), copied(m, k)
    made = model.rotary or model.qk_norm
    out = _attention(rank, q, k, v, copies=(not made and not packed, made or not packed))
    del q, k, v
    for each in gate:
        out = _gated(m, out, copied(m, each))
    return _projected(rank, out, weights)


def _gated(m: Machine, x: Tensor, gate: Tensor) -> Tensor:
    """Return attention's output times the sigmoid of its gate, in one kernel that keeps both."""
    out, shape = m.new(x.shape, x.dtype), x.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, BFLOAT16), m.new(shape, BFLOAT16)]

    record(m, back, [x, gate], [x, gate], out)
    return out


def _projected(rank: RankMachine, x: Tensor, weights: "LayerWeights") -> Tensor:
    """Return the output projection of attention. Attention saves its output itself, so unless
    scales are delayed the projection saves no copy in 8 bits."""
    return row_linear(rank, x, weights["proj"], original=rank.run.float8 != "delayed")


def _latent_attention(rank: RankMachine, weights: "LayerWeights", x: Tensor) -> Tensor:
    """Return MLASelfAttention: queries, keys and values are assembled from up-projections of
    compressed vectors."""
    m, model, latent, heads = (
        rank.m,
        rank.model,
        rank.model.latent,
        rank.model.heads // rank.run.tensor,
    )
    assert latent is not None
    normed = norm(rank, x)
    if model.query_rank:
        q = linear(rank, normed, weights["q_down"])
        q = norm_linear(rank, q, weights["q_up"])
    else:
        q = column_linear(rank, normed, weights["q"])
    small = linear(rank, normed, weights["kv_down"])
    del normed
    kv, rotary = split(m, small, [latent.rank, latent.rotary])
    kv = copied(m, kv) if rank.run.engine else kv  # Megatron's own norm saves the view
    del small
    up = norm_linear(rank, kv, weights["kv_up"])
    wide = (up.rows, heads * (latent.nope + latent.rotary))
    query, key = m.new(wide, BFLOAT16), m.new(wide, BFLOAT16)
    value = m.new((up.rows, heads * latent.value_dim), BFLOAT16)
    shapes = q.shape, up.shape, rotary.shape

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [m.new(shape, BFLOAT16) for shape in shapes]

    record(m, back, [q, up, rotary], [], query, key, value)
    out = _attention(rank, query, key, value)
    del query, key, value, q, up, rotary, kv
    return _projected(rank, out, weights)


def _attention(
    rank: RankMachine,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    copies: tuple[bool, bool] = (False, False),
) -> Tensor:
    """Return attention of one rank's heads. If "core_attn" is recomputed, its inputs are saved, and
    a view of values keeps the whole tensor. `copies`: whether keys and values are copied, since
    their layout is not the kernel's (get_qkv_layout)."""
    heads = rank.model.heads // rank.run.tensor
    value = rank.model.latent.value_dim if rank.model.latent is not None else rank.model.head_dim
    kernel = unfused if rank.run.attention in ("unfused", "local") else _fused

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = (
            copied(rank.m, x) if copy else x for x, copy in zip((k, v), copies, strict=True)
        )
        return kernel(rank, q, keys, values, heads * value)

    if "core_attn" in rank.run.modules:
        out: Tensor = checkpoint(rank.m, run, q, k, v, reentrant=True)
        return out
    return run(q, k, v)


def _fused(rank: RankMachine, q: Tensor, k: Tensor, v: Tensor, columns: int) -> Tensor:
    m, run = rank.m, rank.run
    out = m.new((q.rows, columns), q.dtype)
    logs = m.new((q.rows, rank.model.heads // run.tensor), FLOAT32)
    kept: list[Tensor | None] = [logs, out.detach()]
    shapes = q.shape, k.shape, v.shape
    again = "mla_up_proj" in run.modules and rank.model.latent is not None
    if not again:
        kept += [q, k, v]
    if run.context > 1 and run.context_by == ULYSSES:  # before the exchange, and after it
        kept.append(m.new((q.rows, columns), q.dtype))

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        made = [m.new(shape, BFLOAT16) for shape in shapes] if again else []
        given = [m.new(shape, BFLOAT16) for shape in shapes]
        del made
        return given

    record(m, back, [q, k, v], kept, out)
    if run.attention == "flash" and run.batch > 1:  # computed as [batch, tokens], then transposed
        return passed(m, out, m.new((q.rows, columns), q.dtype))
    return out


# ---- layers


class LayerWeights:
    """The weights of one layer, by name. `low`: all of them multiply in 8 bits, else none."""

    def __init__(self, sizes: Sequence[tuple[str, int, int]], *, low: bool = False) -> None:
        self.low = low
        self._of = {name: LinearWeight((rows, columns), low) for name, rows, columns in sizes}

    def __getitem__(self, name: str) -> LinearWeight:
        return self._of[name]


Mixes = Callable[[RankMachine, LayerWeights, Tensor], Tensor]


def layer(
    rank: RankMachine, weights: LayerWeights, x: Tensor, *, routed: bool, mixer: Mixes
) -> Tensor:
    """Return TransformerLayer.forward: attention or what stands for it, then the MLP, or experts if
    `routed`."""
    hidden = dropped(rank, mixer(rank, weights, x), x)
    del x
    if routed:
        from weighbridge.training.megatron.experts import experts

        return dropped(rank, experts(rank, weights, norm(rank, hidden)), hidden)
    if "mlp" in rank.run.modules:
        run = partial(feed_forward, rank, weights)
        out: Tensor = checkpoint(rank.m, run, hidden, reentrant=True)
        return dropped(rank, out, hidden)
    return dropped(rank, feed_forward(rank, weights, hidden), hidden)


def feed_forward(rank: RankMachine, weights: LayerWeights, x: Tensor) -> Tensor:
    inner = norm_linear(rank, x, weights["fc1"])
    inner = activation(rank, inner)
    return row_linear(rank, inner, weights["fc2"])
