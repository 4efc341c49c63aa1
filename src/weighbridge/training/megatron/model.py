"""A model as Megatron-core builds it, and what one rank of it holds.

    matrices        of one layer on one rank: [rows, columns], with what they are sharded over
    vocabulary      rows of the embedding and of the head, padded
    values          a critic's head: a linear with a bias of one output, replicated on tensor ranks

Source: Megatron-LM 23e00ed and d98e8a64: core/transformer/*.py, training/arguments.py,
training/tokenizer/tokenizer.py (_vocab_size_with_padding); slime 0.3.1
backends/megatron_utils/model_provider.py, verl 0.7 models/mcore/bridge.py (LinearForLastLayer).
"""

from collections.abc import Iterator
from typing import Literal

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.units import align_up
from weighbridge.models.arch.mixers import GatedDelta, Latent, Mamba2

Share = Literal["tensor", "none", "expert"]
MAMBA, ATTENDS, FEEDS, EXPERTS = "M*-E"
DELTA = "D"  # a gated delta net, before an MLP or experts


@frozen_record
class RoutedFeed:
    """The experts of a layer: each token goes to `top` of `count`; with `groups` > 1, groups are
    chosen first. `width` is the MLP width of one expert, `shared` that of the shared expert
    (--moe-shared-expert-gate: `scored`)."""

    count: int
    top: int
    width: int
    shared: int = 0
    scored: bool = False  # a linear to one output weights the shared expert
    groups: int = 1

    @property
    def small(self) -> tuple[int, ...]:
        """Return the columns of the matrices that score tokens: those of the router and of the
        shared expert's gate."""
        return (self.count, 1) if self.scored else (self.count,)


@frozen_record
class MegatronModel:
    """The settings of TransformerConfig and GPTModel that decide bytes. `words` is the tokenizer's
    vocabulary, `positions` the learned positions; `dense` counts the first layers, which have no
    experts."""

    layers: int
    hidden: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    words: int
    gated: bool = True
    biased: bool = False
    qkv_biased: bool = False
    centered: bool = False  # LayerNorm; else RMSNorm
    tied: bool = False
    positions: int = 0
    rotary: bool = True
    qk_norm: bool = False
    latent: Latent | None = None
    query_rank: int = 0
    experts: RoutedFeed | None = None
    dense: int = 0
    pattern: str = ""  # hybrid models, a letter per layer: M Mamba, * attention, - MLP, E experts
    mamba: Mamba2 | None = None
    delta: GatedDelta | None = None
    deltas: frozenset[int] = frozenset()  # layers with that instead of attention
    gated_attention: bool = False  # queries come with a gate for the output
    values: bool = False  # a critic: one output instead of the vocabulary
    beside: int = 0  # parameters outside Megatron's decoder: encoders, sinks

    def routed(self, layer: int) -> bool:
        """Return whether a layer has experts."""
        if self.pattern:
            return self.pattern[layer] == EXPERTS
        return self.experts is not None and layer >= self.dense

    def kind(self, layer: int) -> str:
        """Return the letters of a layer; layers with the same ones are alike."""
        feed = EXPERTS if self.routed(layer) else ATTENDS
        return self.letter(layer) + ("" if self.pattern else feed)

    def letter(self, layer: int) -> str:
        """Return the letter of a layer that is not attention with an MLP or experts; else ""."""
        return self.pattern[layer] if self.pattern else DELTA if layer in self.deltas else ""

    def rows(self, ranks: int, multiple: int) -> int:
        """Return the padded vocabulary: the embedding's rows of all tensor-parallel ranks."""
        return align_up(self.words, multiple * ranks)

    def outputs(self, ranks: int, multiple: int) -> int:
        """Return the head's outputs on one tensor-parallel rank; a critic's single output is on
        each."""
        return 1 if self.values else self.rows(ranks, multiple) // ranks


class RankWeight(NamedTuple):
    """One weight on one rank: [rows, columns], with a bias of as many rows if `biased`; `share`
    names what it is sharded over."""

    name: str
    rows: int
    columns: int
    biased: bool
    share: Share

    @property
    def numbers(self) -> int:
        return self.rows * self.columns


def linears(
    model: MegatronModel, tensor: int, expert_tensor: int, layer: int
) -> Iterator[RankWeight]:
    """Yield the linears of layer number `layer`, one expert's for all; a hybrid model's layer has
    only those of its kind."""
    every = matrices(model, tensor, expert_tensor, routed=model.routed(layer))
    kind = model.letter(layer)
    if kind == MAMBA:
        yield from _mamba(model, tensor)
    elif kind == ATTENDS:
        yield from _attention(model, tensor)
    elif kind:
        if kind == DELTA:
            yield from _delta(model, tensor)
        attention = {x.name for x in _attention(model, tensor)}
        yield from (x for x in every if x.name not in attention)
    else:
        yield from every


def _delta(model: MegatronModel, tensor: int) -> Iterator[RankWeight]:
    """Yield the linears of a gated delta net: the first gives queries, keys, values, a gate, and
    two numbers per value head."""
    net = model.delta
    assert net is not None
    values = net.value_heads * net.value_dim
    rows = (net.channels + values + 2 * net.value_heads) // tensor
    yield RankWeight("in_proj", rows, model.hidden, False, "tensor")
    yield RankWeight("out_proj", model.hidden, values // tensor, False, "tensor")


def _mamba(model: MegatronModel, tensor: int) -> Iterator[RankWeight]:
    """Yield the linears of a Mamba layer. The first outputs gates, channels, B and C of each group,
    and a step per head."""
    m = model.mamba
    assert m is not None
    rows = (2 * m.inner + 2 * m.groups * m.state + m.heads) // tensor
    yield RankWeight("in_proj", rows, model.hidden, False, "tensor")
    yield RankWeight("out_proj", model.hidden, m.inner // tensor, False, "tensor")


def matrices(
    model: MegatronModel, tensor: int, expert_tensor: int, *, routed: bool
) -> Iterator[RankWeight]:
    """Yield the linears of a layer that attends, one expert's for all."""
    yield from _attention(model, tensor)
    gate = 2 if model.gated else 1
    if not routed or model.experts is None:
        yield RankWeight("fc1", gate * model.width // tensor, model.hidden, model.biased, "tensor")
        yield RankWeight("fc2", model.hidden, model.width // tensor, model.biased, "tensor")
        return
    feed = model.experts
    yield RankWeight(
        "expert_fc1", gate * feed.width // expert_tensor, model.hidden, False, "expert"
    )
    yield RankWeight("expert_fc2", model.hidden, feed.width // expert_tensor, False, "expert")
    if feed.shared:
        yield RankWeight("shared_fc1", gate * feed.shared // tensor, model.hidden, False, "tensor")
        yield RankWeight("shared_fc2", model.hidden, feed.shared // tensor, False, "tensor")


def _attention(model: MegatronModel, tensor: int) -> Iterator[RankWeight]:
    hidden, heads, latent = model.hidden, model.heads // tensor, model.latent
    if latent is None:
        groups = max(1, model.kv_heads // tensor)
        rows = (heads * (1 + model.gated_attention) + 2 * groups) * model.head_dim
        yield RankWeight("qkv", rows, hidden, model.qkv_biased, "tensor")
        yield RankWeight("proj", hidden, heads * model.head_dim, model.biased, "tensor")
        return
    wide = heads * (latent.nope + latent.rotary)
    if model.query_rank:
        yield RankWeight("q_down", model.query_rank, hidden, False, "none")
        yield RankWeight("q_up", wide, model.query_rank, False, "tensor")
    else:
        yield RankWeight("q", wide, hidden, False, "tensor")
    yield RankWeight("kv_down", latent.latent_elements, hidden, False, "none")
    yield RankWeight(
        "kv_up", heads * (latent.nope + latent.value_dim), latent.rank, False, "tensor"
    )
    yield RankWeight("proj", hidden, heads * latent.value_dim, model.biased, "tensor")


def norms(model: MegatronModel) -> list[int]:
    """Return the elements of each norm tensor of a layer: weights, and biases for LayerNorm."""
    widths = [model.hidden, model.hidden]
    if model.latent is not None:
        widths += [model.query_rank, model.latent.rank]
    elif model.qk_norm:
        widths += [model.head_dim, model.head_dim]
    return [n for n in widths if n] * (2 if model.centered else 1)


def _router(model: MegatronModel) -> list[int]:
    return [n * model.hidden for n in (model.experts.small if model.experts else ())]


def small(model: MegatronModel, tensor: int, layer: int) -> list[int]:
    """Return the elements of a layer's tensors besides linears: norms, the router, and Mamba's
    convolution, its bias, three elements per head, and the norm of its output; of a gated delta net
    the convolution, two elements per head, and that norm."""
    net = model.delta
    if net is not None and layer in model.deltas:
        heads = net.value_heads // tensor
        own = [model.hidden, model.hidden, net.value_dim, heads, heads]
        own.append(net.channels // tensor * net.kernel)
        return own + (_router(model) if model.routed(layer) else [])
    if not model.pattern:
        return norms(model) + (_router(model) if model.routed(layer) else [])
    kind, m = model.pattern[layer], model.mamba
    own = [model.hidden] * (2 if model.centered else 1)
    if kind == EXPERTS:
        return own + _router(model)
    if kind == MAMBA and m is not None:
        channels, heads = m.channels // tensor, m.heads // tensor
        return [*own, channels * m.kernel, channels, heads, heads, heads, m.inner // tensor]
    return own
