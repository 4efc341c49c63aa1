"""Parts that all graphs share: weights and inputs as leaves, norms, products, rotations.

Also the step that a graph is built for, the worst case that is reserved, and where its memory is.
"""

from collections.abc import Callable, Collection, Hashable, Sequence
from functools import cached_property

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memo import memo
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.graph import F16, F32, I32, I64, GgmlTensor
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.rules import LlamaCppRules
from weighbridge.models.arch.gguf_layers import UNROTATED
from weighbridge.models.arch.mixers import Attention, Latent, Mixer, Shared

PERIOD = 8  # longest period, in layers, with which the kinds of layers repeat


@frozen_record
class GraphStep:
    """One micro-batch: `tokens` of `sequences` requests, of which `outputs` give logits. `cells`
    are the cache cells that attention reads; `near` those of sliding layers."""

    tokens: int
    sequences: int
    outputs: int
    cells: int
    near: int
    flash: bool
    rules: LlamaCppRules
    streams: int = 1  # parts of the cache: one per request unless it is unified
    slots: int = 1
    type_k: DType = F16
    type_v: DType = F16
    embeds: bool = False
    latent_mode: int | None = None  # ik_llama.cpp's -mla
    largest_batch: int = 0  # its -amb: MiB of scores or unfolded keys at once
    fused_experts: bool = False  # its -fmoe
    repacks: bool = False  # its -rtr
    whole: bool = False  # build every layer, even if one more of its kind changes nothing


@frozen_record
class Placement:
    """The device of each weight, layer and cache; `host` is a number, after all GPUs."""

    host: int
    weight: Callable[[str], int]  # GGUF name -> device
    layer: Callable[[int], int]
    cache: Callable[[int], int]
    pinned: bool = True  # norms stay on their layer's device: all layers are on GPUs
    copies: int = 1
    cache_offload: bool = True
    named: Collection[str] = ()  # tensors that are placed by their names
    facts: tuple[Hashable, ...] = ()  # settings that decide where layers, caches and weights are


class UnknownGraphError(UnsupportedError):
    """Error of a model whose tensors fit no graph that weighbridge builds."""


class Build:
    """A graph under construction."""

    def __init__(self, net: Network, step: GraphStep, placement: Placement) -> None:
        self.net, self.step, self.placement = net, step, placement
        self.graph = g.Graph()
        self._weights: dict[str, GgmlTensor] = {}
        self._inputs: dict[str, GgmlTensor] = {}
        self._caches: dict[tuple[int, str], GgmlTensor] = {}

    # Leaves

    def weight(self, name: str) -> GgmlTensor | None:
        if name not in self._weights:
            stored = self.net.weights.get(name)
            if stored is None:
                return None
            self._weights[name] = g.weight(stored.dtype, stored.ne, self.placement.weight(name))
        return self._weights[name]

    def of(self, layer: int, *names: str) -> GgmlTensor | None:
        """Return the first of `names` that the layer has; ".weight" unless the name says more."""
        there = self.net.named(layer)
        for name in names:
            if name in there:
                return self.weight(there[name])
        return None

    def must(self, layer: int, *names: str) -> GgmlTensor:
        tensor = self.of(layer, *names)
        if tensor is None:
            raise UnknownGraphError(
                sentence("graph.no_tensor", arch=self.net.arch, layer=layer, name=names[0])
            )
        return tensor

    def entry(self, name: str, make: GgmlTensor) -> GgmlTensor:
        return self._inputs.setdefault(name, make)

    def cache(self, layer: int, kind: str, width: int, near: bool) -> GgmlTensor:
        """Return the cache of a layer's keys ("k") or values ("v"), for all cells."""
        s = self.step
        key = (layer, kind)
        if key not in self._caches:
            dtype = s.type_k if kind == "k" else s.type_v
            cells = s.near if near else s.cells
            self._caches[key] = g.cache(
                dtype, (width, cells, s.streams), self.placement.cache(layer)
            )
        return self._caches[key]

    def state(self, layer: int, kind: str, width: int) -> GgmlTensor:
        key = (layer, kind)
        if key not in self._caches:
            self._caches[key] = g.cache(F32, (width, self.step.slots), self.placement.cache(layer))
        return self._caches[key]

    # Inputs

    def positions(self) -> GgmlTensor:
        return self.entry("pos", g.entry(I32, self.step.tokens * self.net.positions))

    def out_ids(self) -> GgmlTensor:
        return self.entry("out_ids", g.entry(I32, self.step.outputs))

    def rows_of(self, kind: str, near: bool, width: int = 1) -> GgmlTensor:
        """Return the input that says where this step's keys or values go: a row per token, or
        `width` elements."""
        return self.entry(f"{kind}_idxs{near}", g.entry(I64, self.step.tokens * width))

    def mask(self, near: bool) -> GgmlTensor:
        s, rules = self.step, self.step.rules
        name = f"mask{near}"
        if name not in self._inputs:
            tokens = rules.mask_rows(s.tokens // s.streams)
            dtype = F16 if s.flash and rules.half_mask else F32
            raw = g.entry(dtype, s.near if near else s.cells, tokens, 1, s.streams)
            self._inputs[name] = g.cast(raw, F16) if s.flash and not rules.half_mask else raw
        return self._inputs[name]

    def full_mask(self) -> GgmlTensor:
        """Return the mask of an encoder: every token of the step against every other."""
        s = self.step
        dtype = F16 if s.flash and s.rules.half_mask else F32
        return self.entry("mask", g.entry(dtype, s.tokens, s.tokens))

    # Products and norms

    def mul(self, weight: GgmlTensor, x: GgmlTensor) -> GgmlTensor:
        return g.mul_mat(weight, x)

    def linear(self, layer: int, name: str, x: GgmlTensor) -> GgmlTensor:
        """Return the product of a matrix and `x`, plus its bias if it has one."""
        y = g.mul_mat(self.must(layer, name), x)
        bias = self.of(layer, f"{name}.bias")
        return g.like("add", y, bias) if bias is not None else y

    def norm(
        self,
        x: GgmlTensor,
        weight: GgmlTensor | None,
        b: GgmlTensor | None,
        layer: int = -1,
        kind: str = "rms_norm",
    ) -> GgmlTensor:
        if self.step.rules.fused and kind == "rms_norm" and weight is not None:
            y = g.like("fused_rms_norm", x, weight)
            return g.like("add", y, b) if b is not None else y
        y = g.like(kind, x)
        if (weight is not None or b is not None) and layer >= 0 and self.placement.pinned:
            y.backend = self.placement.layer(layer)
        if weight is not None:
            y = g.like("mul", y, weight)
        return g.like("add", y, b) if b is not None else y

    def layer_norm(
        self, layer: int, name: str, x: GgmlTensor, kind: str = "rms_norm"
    ) -> GgmlTensor:
        """Return `x` after the layer's norm `name`; without the tensor, a norm without a weight."""
        return self.norm(x, self.of(layer, name), self.of(layer, f"{name}.bias"), layer, kind)

    def rope(self, x: GgmlTensor, *factors: GgmlTensor | None) -> GgmlTensor:
        return g.like("rope", x, self.positions(), *(f for f in factors if f is not None))

    def mixer(self, layer: int) -> Mixer:
        """Return the attention of a layer, or its first mixer if it has none."""
        mixers = self.net.layers[layer].mixers
        attention = [m for m in mixers if isinstance(m, Attention | Shared | Latent)]
        if not mixers:
            raise UnknownGraphError(sentence("graph.mixes", arch=self.net.arch, layer=layer))
        return (attention or mixers)[0]

    def rope_factors(self, layer: int) -> GgmlTensor | None:
        """Return the rope factors, None without any: one tensor in the file, a copy on every device
        that has layers, or only one where -ot places it."""
        stored = self.net.weights.get("rope_freqs.weight")
        if stored is None:
            return None
        if stored.name in self.placement.named:
            device = self.placement.weight(stored.name)
        else:
            device = self.placement.layer(layer)
        return self.entry(f"rope_freqs{device}", g.weight(stored.dtype, stored.ne, device))

    @cached_property
    def widest(self) -> int:
        """Return the value elements per token of the layer that has the most."""
        sizes = [
            m.value_elements
            for la in self.net.layers
            for m in la.mixers
            if isinstance(m, Attention)
        ]
        return max(sizes, default=0)

    def order(self) -> list[tuple[int, bool]]:
        """Return (layer, whether it is the last) of the layers to build."""
        count = len(self.net.layers)
        if self.step.whole:
            return [(i, i == count - 1) for i in range(count)]
        return [
            (i, i == count - 1)
            for i in memo(self.net, ("order", *self.placement.facts), self._order)
        ]

    def _order(self) -> list[int]:
        return thinned([self._kind(i) for i in range(len(self.net.layers))])

    def _kind(self, layer: int) -> object:
        """Return a key of everything that decides a layer's part of the graph and its placement."""
        device = self.placement.layer(layer)
        places = ((w, self.placement.weight(w.name)) for w in self.net.of_layer(layer))
        moved = tuple(
            (w.name.partition(".")[2].partition(".")[2], w.nbytes, place)
            for w, place in places
            if place != device
        )
        turn = layer % UNROTATED.get(self.net.arch, 1)
        return self.net.kind(layer), device, self.placement.cache(layer), moved, turn

    def output(self, t: GgmlTensor) -> GgmlTensor:
        """Return `t`, kept to the end of the step in builds that keep outputs for their users."""
        t.kept = self.step.rules.keeps_outputs
        return t

    def add(self, a: GgmlTensor, b: GgmlTensor) -> GgmlTensor:
        return g.like("add", a, b)


def thinned(kinds: Sequence[object]) -> list[int]:
    """Return the layers that decide the buffers: the start and the end of a stretch of repeating
    kinds. The allocator's pattern settles within a few periods, often to every other one, so an
    even number of periods is left out."""
    chosen: list[int] = []
    i = 0
    while i < len(kinds):
        period, stretch = max(
            ((p, _stretch(kinds, i, p)) for p in range(1, PERIOD + 1)), key=lambda x: (x[1], -x[0])
        )
        start = max(4, 2 * period)
        spare = (stretch - start - period) // (2 * period) * 2 * period
        if spare <= 0:
            chosen.append(i)
            i += 1
            continue
        chosen += range(i, i + start)
        i += start + spare
    return chosen


def _stretch(kinds: Sequence[object], i: int, period: int) -> int:
    """Count the layers from `i` on that repeat after `period`."""
    j = i
    while j + period < len(kinds) and kinds[j] == kinds[j + period]:
        j += 1
    return j + period - i
