"""The parts of mixture-of-experts models: a router, E routed experts of which a token uses k, and
shared experts that every token uses.

    parameters of a block = E D (router) + E x 3 D F (experts) + 3 D F' (shared)
    active of it          = E D          + k x 3 D F           + 3 D F'

Checkpoints store one Linear per expert, or all experts in one 3-D parameter; both are here.
"""

from collections.abc import Callable, Iterator, Sequence

from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.models.arch.blueprint import Buffer, Param, experts, fused, gated_mlp, linear
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import (
    BEFORE,
    Decoder,
    Submodule,
    Submodules,
    by_kind,
    gated,
    kinds,
    normed,
    submodule,
    tree,
)
from weighbridge.models.arch.parts import Dense, Experts, Feed
from weighbridge.models.arch.windows import layer_kinds

GATED = ("gate_proj", "up_proj", "down_proj")
NUMBERED = ("w1", "w3", "w2")  # Mixtral's names of GATED


@frozen_record
class RoutedExperts:
    """The sizes of E routed experts with MLP width F; a token uses k of them."""

    count: int
    inner: int
    top_k: int

    @property
    def share(self) -> tuple[int, int]:
        return (self.top_k, self.count) if self.count else (1, 1)


def routed(c: Config, count: str, inner: str, top_k: str = "num_experts_per_tok") -> RoutedExperts:
    return RoutedExperts(count=c.num(count), inner=c.num(inner), top_k=c.num(top_k))


def router(path: str, count: int, width: int, *, dtype: str = "") -> Iterator[Param]:
    yield Param(f"{path}.weight", (count, width), "router", dtype, role="router")


def each(
    path: str, width: int, mixture: RoutedExperts, names: tuple[str, str, str] = GATED
) -> Iterator[Param]:
    """Yield one gate, up and down Linear per expert."""
    gate, up, down = names
    k, _ = mixture.share

    def one(prefix: str) -> Iterator[Param]:
        yield from linear(f"{prefix}.{gate}", mixture.inner, width, role="gate")
        yield from linear(f"{prefix}.{up}", mixture.inner, width, role="up")
        yield from linear(f"{prefix}.{down}", width, mixture.inner, role="down")

    yield from experts(f"{path}.", one, top_k=k, count=mixture.count)


def stacked(path: str, shape: tuple[int, ...], experts: RoutedExperts) -> Iterator[Param]:
    """Yield one parameter of `shape` for all experts."""
    k, count = experts.share
    yield from fused(path, shape, top_k=k, count=count)


def stacked_pair(
    path: str, width: int, experts: RoutedExperts, *, transposed: bool = False
) -> Iterator[Param]:
    """Yield gate_up_proj and down_proj: [E, out, in], or [E, in, out] if `transposed`."""
    up, down = (experts.count, 2 * experts.inner, width), (experts.count, width, experts.inner)
    if transposed:
        up, down = (experts.count, width, 2 * experts.inner), (experts.count, experts.inner, width)
    yield from stacked(f"{path}.gate_up_proj", up, experts)
    yield from stacked(f"{path}.down_proj", down, experts)


def block(
    prefix: str,
    width: int,
    experts: RoutedExperts,
    *,
    shared: int | None = None,
    names: tuple[str, str, str] = GATED,
) -> Iterator[Param]:
    """Yield the router, the experts, and with a width `shared` the shared experts, under the usual
    names."""
    yield from router(f"{prefix}gate", experts.count, width)
    yield from each(f"{prefix}experts", width, experts, names)
    if shared is not None:
        yield from gated_mlp(f"{prefix}shared_experts", width, shared)


def fed(
    experts: RoutedExperts, *, shared: int = 0, gated: bool = True, inputs: int = 0
) -> Feed | None:
    """Return the experts as a step computes them; without routed experts only the shared MLP, or
    None. `shared`: width of all shared experts together."""
    if not experts.count:
        return Dense(width=shared, gated=gated) if shared else None
    k, count = experts.share
    return Experts(
        count=count, top_k=k, width=experts.inner, gated=gated, shared=shared, inputs=inputs
    )


def moe(
    path: str,
    width: int,
    experts: RoutedExperts,
    *,
    shared: int | None = None,
    names: tuple[str, str, str] = GATED,
) -> Submodule:
    """Return the MoE module that `block` describes, as a submodule of a layer."""
    params = block(path, width, experts, shared=shared, names=names)
    return submodule(params, feed=fed(experts, shared=shared or 0))


# Which layers have experts: the rules that configs use.


def every(c: Config) -> Sequence[bool]:
    return (True,) * c.layers("num_hidden_layers")


def after_first(c: Config, name: str = "first_k_dense_replace") -> Sequence[bool]:
    first = c.num(name, default=0)
    return [i >= first for i in range(c.layers("num_hidden_layers"))]


def by_step(c: Config) -> Sequence[bool]:
    """Return for each layer whether it has experts, by Qwen's rule: each decoder_sparse_step-th
    that is not in mlp_only_layers."""
    step = max(1, c.num("decoder_sparse_step", default=1))
    dense = frozenset(c.nums("mlp_only_layers"))
    count = c.num("num_local_experts", "num_experts")
    layers = range(c.layers("num_hidden_layers"))
    return [count > 0 and i not in dense and (i + 1) % step == 0 for i in layers]


def by_kinds(c: Config, first_dense: int) -> Sequence[bool]:
    """Return for each layer whether it has experts: by mlp_layer_types, else all but the first
    `first_dense`."""
    each_kind = kinds(c, "mlp_layer_types", lambda i: "sparse" if i >= first_dense else "dense")
    return [kind == "sparse" for kind in each_kind]


def by_kinds_or_first(c: Config) -> Sequence[bool]:
    return by_kinds(c, c.num("first_k_dense_replace", default=0))


class Parts(NamedTuple):
    """Functions that build a layer's modules: attention, and a dense or sparse `mlp.`"""

    attention: Callable[[Config], Submodule]
    moe: Callable[[Config], Submodule]
    sparse: Callable[[Config], Sequence[bool]]
    mlp_bias: Callable[[Config], bool] = lambda _: False


def dense_mlp(c: Config, parts: Parts) -> Submodule:
    inner = c.num("intermediate_size")
    return gated("mlp", c.num("hidden_size"), inner, bias=parts.mlp_bias(c))


def sparse_decoder(c: Config, parts: Parts) -> Decoder:
    """Return a decoder whose layers are attention, a dense or sparse MLP, and two norms."""
    sparse = parts.sparse(c)
    c.skip("intermediate_size", "shared_expert_intermediate_size")  # some have none of these

    def layer(has_experts: bool) -> Submodules:
        feed = parts.moe(c) if has_experts else dense_mlp(c, parts)
        return (parts.attention(c), feed, normed(c.num("hidden_size"), *BEFORE))

    return tree(c, by_kind(sparse, layer), kinds=layer_kinds)


def correction(
    prefix: str, sparse: Sequence[bool], name: str, count: int, *, dtype: str = "float32"
) -> Iterator[Buffer]:
    """Yield each router's correction bias, which balances the experts without a loss; stored, never
    trained. [DeepSeek-V3]"""
    for i, has_experts in enumerate(sparse):
        if has_experts:
            yield Buffer(f"{prefix}layers.{i}.{name}", (count,), dtype, persistent=True)
