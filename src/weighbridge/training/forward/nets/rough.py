"""Forward of classes whose program nobody has written: what their parameters and sizes say alone.

    a layer       its children in order: each but the norms is a branch that is summed to what was
                  there, and a norm is before each as long as there are some
    a branch      its linears in order, each of what was last made of the width that it reads; what
                  is made of a width for the second time is multiplied, for the first activated
    attention     with the heads of the layer's mixer, before the last linear of the branch
    experts       one grouped product for all, as transformers 5 runs them
    the rest      has its gradient

Weights, gradients and optimizer states are the class's own, to the byte. What is saved between
forward and backward is `assumed`; tests/forward/test_rough.py holds it beside the programs of all
models that have one.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, assert_never

from weighbridge.base.dtypes import FLOAT32, INT32, INT64
from weighbridge.models.arch.body import Experts, LayerBlock
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    Latent,
    Mixer,
    Recurrent,
    Shared,
)
from weighbridge.models.arch.roles import role
from weighbridge.training.forward.losses import standard
from weighbridge.training.forward.machine import Grads, Machine, Needs, made_like, record
from weighbridge.training.forward.modules import Module, each_below
from weighbridge.training.forward.ops.attention import AttentionHeads
from weighbridge.training.forward.ops.experts import gathered, grouped, summed_k
from weighbridge.training.forward.ops.norms import layer_norm, rms_norm
from weighbridge.training.forward.ops.pointwise import add, dropout, mul, several
from weighbridge.training.forward.ops.shaping import embedding, shaped
from weighbridge.training.forward.parts import moe
from weighbridge.training.forward.parts.attention import attend, mask
from weighbridge.training.forward.parts.layer import run
from weighbridge.training.forward.step import TrainingStep, entered
from weighbridge.training.forward.tensors import Computed, LeafTensor, Shape, Tensor

PRODUCTS = ("linear", "conv1d")
DROPOUTS = ("dropout", "dropout_rate", "resid_pdrop", "hidden_dropout", "hidden_dropout_prob")
OF_WEIGHTS = ("dropout_rate", "attn_pdrop", "attention_dropout", "attention_probs_dropout_prob")
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation")
CHILD = re.compile(r"[^.]+(\.\d+)?")  # T5 and others have numbered branches
WEIGHT, BIAS = ".weight", ".bias"
OF_ADAPTERS = (
    ".lora_",
    ".ia3_",
    ".hada_",
    ".lokr_",
    ".vera_",
    ".oft_",
    ".miss_",
    ".randlora_",
    ".fourierft_",
    ".boft_",
    ".shira_",
    "original ",
)

Branches = dict[str, list[str]]  # child of a layer -> names of its parameters, below the layer
Mixes = tuple[AttentionHeads, Tensor | None]  # (attention sizes, mask)
Seen = dict[int, Tensor]  # width -> last tensor of that width


def forward(s: TrainingStep) -> Tensor:
    m, built = s.m, s.built
    layers = [*built.encoder, *built.layers]
    inner = list(branches(s, layers))
    apart = list(_apart(s, [p.path for p in layers]))
    words = max((w for w in apart if w.kind == "embedding"), key=_rows, default=None)
    ids = m.new((s.batch, s.length), INT64)
    if words is None:
        x = m.new((s.batch, s.length, built.body.hidden), s.dtype)
    else:
        x = entered(s, embedding(m, ids, words))
    if x.shape[-1] != built.body.hidden:
        x = grown(m, [x], (s.batch, s.length, built.body.hidden))
    seen = mask(s, None)
    for number, (p, inside) in enumerate(zip(layers, inner, strict=True)):
        number_in_decoder = number - len(built.encoder)
        block = (
            built.body.blocks[number_in_decoder] if number_in_decoder >= 0 else _encoding(s, number)
        )
        x = run(s, layer, x, p, inside, block, seen)
    return touched(m, x, [w for w in apart if w is not words])


def loss(s: TrainingStep, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return (loss, logits) of a language model with a head; else a loss of the hidden states,
    without logits."""
    if s.built.body.vocab:
        return standard(s, hidden)
    m = s.m
    out = m.new((), FLOAT32)
    made_like(m, hidden, out, hidden)
    return out, None


def _rows(weight: LeafTensor) -> int:
    return weight.shape[0]


def _encoding(s: TrainingStep, number: int) -> LayerBlock:
    assert s.built.body.encoder is not None
    return s.built.body.encoder.blocks[number]


def branches(s: TrainingStep, layers: Sequence[Module]) -> Iterator[Branches]:
    """Yield the branches of each layer: its children that have parameters."""
    known: dict[str, Branches] = {p.path: {} for p in layers}
    params = s.built.params
    for name, path in zip(params, each_below(params, known), strict=True):
        if path and not any(word in name for word in OF_ADAPTERS):
            below = name.removeprefix(path)
            known[path].setdefault(CHILD.match(below)[0], []).append(below)  # type: ignore[index]
    return (known[p.path] for p in layers)


def _apart(s: TrainingStep, paths: Iterable[str]) -> Iterator[LeafTensor]:
    """Yield the parameters outside of layers, except the head's."""
    lead = tuple(paths)
    for name, w in s.built.params.items():
        if (
            role(name) != "head"
            and not name.startswith(lead)
            and not any(x in name for x in OF_ADAPTERS)
        ):
            yield w


def layer(
    x: Tensor, s: TrainingStep, p: Module, inside: Branches, block: LayerBlock, mask: Tensor | None
) -> Tensor:
    m, states = s.m, x
    norms = [names for names in inside.values() if all(_kind(p, n) == "norm" for n in names)]
    before = list(norms)
    mixed = iter([(h, mask) for h in (_heads(s, mixer) for mixer in block.mixers) if h is not None])
    seen: Seen = {}
    for names in inside.values():
        if names in before:
            continue
        seen[x.shape[-1]] = y = _normed(m, x, p, norms.pop(0) if norms else [])
        if _of_kind(p, names, "experts"):
            x = add(m, x, dealt(s, p, names, y, _top_k(block)))
        elif _of_kind(p, names, "expert"):
            x = add(m, x, one_by_one(s, p, names, y, _top_k(block)))
        out = branch(s, p, names, seen, y, next(mixed, None))
        if out.shape == x.shape:
            x = add(m, x, dropout(m, out, _rate(s, DROPOUTS)))
    for names in norms:
        x = _normed(m, x, p, names)
    return touched(m, x, _unreached(s, p, states, x))


def _unreached(s: TrainingStep, p: Module, states: Tensor, x: Tensor) -> list[LeafTensor]:
    """Return the parameters of a layer and its adapters that the graph from `states` to `x` does
    not contain."""
    if x.node is None:
        return []
    reached: set[int] = set()
    seen, todo = {states.node, x.node}, [x.node]
    while todo:
        for source, _ in todo.pop().inputs:
            if isinstance(source, LeafTensor):
                reached.add(id(source))
            elif source is not None and source not in seen:
                seen.add(source)
                todo.append(source)
    mine = (w for n, w in s.built.params.items() if n.startswith(p.path))
    return [w for w in mine if w.trainable and id(w) not in reached]


def branch(
    s: TrainingStep, p: Module, names: list[str], seen: Seen, x: Tensor, mixer: Mixes | None
) -> Tensor:
    """Return the output of one branch of a layer: of its last parameter."""
    m = s.m
    products = [n for n in names if _kind(p, n) in PRODUCTS]
    out = [x]
    for n in names:
        if n in products:
            if mixer is not None and n == products[-1]:
                attended = attention(s, out, *mixer)
                seen[attended.shape[-1]] = attended
            out.append(_product(s, p, n, seen, out[-1]))
        elif p.bare(n).kind == "norm" and n.endswith(WEIGHT):
            out[-1] = _normed(m, out[-1], p, [n])
    return out[-1]


def _product(s: TrainingStep, p: Module, name: str, seen: Seen, last: Tensor) -> Tensor:
    """Return the output of Linear `name`. If an earlier tensor has its width, it is multiplied in
    (a gate); otherwise the activation is applied. An output as wide as the input passes
    unchanged."""
    m, w = s.m, p.bare(name)
    inside = w.shape[0] if w.kind == "conv1d" else w.shape[1]
    source = seen[inside] if inside in seen else grown(m, [last], (*last.shape[:-1], inside))
    out = p.linear(m, source, name.removesuffix(WEIGHT))
    width = out.shape[-1]
    if width == source.shape[-1]:
        return out
    known = str(s.built.config.get(*ACTIVATIONS) or "silu")
    seen[width] = mul(m, seen[width], out) if width in seen else several(m, out, known)
    return seen[width]


def attention(
    s: TrainingStep, made: list[Tensor], sizes: AttentionHeads, mask: Tensor | None
) -> Tensor:
    m = s.m
    q, k, v = (
        grown(m, made, (sizes.batch, sizes.length, heads, dim))
        for heads, dim in (
            (sizes.heads, sizes.key_dim),
            (sizes.kv_heads, sizes.key_dim),
            (sizes.kv_heads, sizes.value_dim),
        )
    )
    out = attend(s, q, k, v, sizes, mask=mask, p=_rate(s, OF_WEIGHTS))
    return out.view(sizes.batch, sizes.length, sizes.heads * sizes.value_dim)


def dealt(s: TrainingStep, p: Module, names: list[str], x: Tensor, chosen: int) -> Tensor:
    """Return the output of stacked experts, with `chosen` experts per token, applied in order."""
    m, flat = s.m, x.view(s.rows, x.shape[-1])
    stacks = [p.stacked(m, n) for n in _of_kind(p, names, "experts")]
    pairs = s.rows * chosen
    numbers = m.new((pairs,), INT64)
    y = gathered(m, flat, numbers)
    offsets = m.new(stacks[0].shape[:1], INT32)
    for w in stacks:
        count, out, inside = w.shape
        if y.shape[-1] not in (out, inside):
            y = moe.gated(s, y)
        if y.shape[-1] != inside:
            out, inside = inside, out
        turned = w if w.shape[1] == out else shaped(m, w, count, out, inside)
        y = grouped(m, y, turned, offsets)
    return summed_k(m, y, s.rows).view(*x.shape)


def one_by_one(s: TrainingStep, p: Module, names: list[str], x: Tensor, count: int) -> Tensor:
    """Return the output of separate experts, as transformers 4 runs them: here the first one
    processes all pairs of tokens and experts."""
    m, width = s.m, x.shape[-1]
    paths = _of_kind(p, names, "expert")
    path = paths[0].removesuffix(WEIGHT).rpartition(".")[0] + "."
    y = gathered(m, x.view(s.rows, width), m.new((s.rows * count,), INT64))
    seen: Seen = {width: y}
    for n in paths:
        if n.startswith(path):
            out = _product(s, p, n, seen, y)
            y = out if out.shape == y.shape else y
    return summed_k(m, y, s.rows).view(*x.shape)


def grown(m: Machine, tensors: list[Tensor], shape: Shape) -> Tensor:
    """Return a new tensor of `shape`: nothing is saved, and each input gets a gradient."""
    out = m.new(shape, tensors[-1].dtype)
    shapes = [t.shape for t in tensors]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        return [
            m.new(shape, grads[0].dtype) if needed else None
            for shape, needed in zip(shapes, needs, strict=True)
        ]

    record(m, back, tensors, [], out)
    return out


def touched(
    m: Machine, x: Tensor, others: Sequence[Tensor], to_save: Sequence[Tensor] = ()
) -> Tensor:
    """Return `x` with further inputs `others`, of which only the gradients are known."""
    out = Computed(x.shape, x.dtype, x.storage)
    sizes = [(w.shape, w.dtype) for w in others]

    def back(m: Machine, grads: list[Any], saved: list[Any], needs: Needs) -> Grads:
        gradients = [
            m.new(*size) if need else None for size, need in zip(sizes, needs[1:], strict=True)
        ]
        return [grads[0], *gradients]

    record(m, back, [x, *others], to_save, out)
    return out


def _normed(m: Machine, x: Tensor, p: Module, names: list[str]) -> Tensor:
    """Return `x` normalized by each weight among `names`; a weight as wide as a head normalizes
    each head."""
    for name in names:
        if not name.endswith(WEIGHT):
            continue
        w, b = p.bare(name), p.bias(name.removesuffix(WEIGHT))
        width = w.numel if x.shape[-1] % w.numel == 0 else x.shape[-1]
        cut = x.view(*x.shape[:-1], x.shape[-1] // width, width)
        out = rms_norm(m, cut, w) if b is None else layer_norm(m, cut, w, b)
        x = out.view(*x.shape)
    return x


def _heads(s: TrainingStep, mixer: Mixer) -> AttentionHeads | None:
    match mixer:
        case Latent():
            sides = mixer.heads, mixer.heads, mixer.nope + mixer.rotary, mixer.value_dim
        case Attention() | CrossAttention():
            sides = mixer.heads, mixer.kv_heads, mixer.key_dim, mixer.value_dim
        case Compressed() | Shared():
            return None
        case _ if isinstance(mixer, Recurrent):
            return None
        case _:
            assert_never(mixer)
    heads, kv_heads, key_dim, value_dim = sides
    return AttentionHeads(
        batch=s.batch,
        length=s.length,
        seen=s.length,
        heads=heads,
        kv_heads=kv_heads,
        key_dim=key_dim,
        value_dim=value_dim,
    )


def _rate(s: TrainingStep, names: tuple[str, ...]) -> float:
    """Return the highest dropout rate among `names`; a class has one of them, with its own
    default."""
    return max(s.rate(name) for name in names)


def _kind(p: Module, name: str) -> str:
    w = p.bare(name)
    return "" if w.kind in PRODUCTS and (len(w.shape) != 2 or name.endswith(BIAS)) else w.kind


def _of_kind(p: Module, names: list[str], kind: str) -> list[str]:
    wanted = 3 if kind == "experts" else 2
    return [n for n in names if p.bare(n).kind == kind and len(p.bare(n).shape) == wanted]


def _top_k(block: LayerBlock) -> int:
    return next((f.top_k for f in block.feeds if isinstance(f, Experts)), 1)
