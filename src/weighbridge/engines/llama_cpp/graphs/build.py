"""What all graphs are made of: weights and inputs as leaves, norms, products, rotations."""

from functools import cached_property

from weighbridge.arch.mixers import Attention, Mixer
from weighbridge.engines.llama_cpp.ggml import graph as g
from weighbridge.engines.llama_cpp.ggml.tensor import F16, F32, I32, I64, Tensor
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.llama_cpp.graphs.step import Placement, Step


ENDINGS = (".weight", ".bias", "ssm_a", "ssm_d")  # the last two are named without an ending


class Build:
    """One graph in the making."""

    def __init__(self, net: Network, step: Step, at: Placement) -> None:
        self.net, self.step, self.at = net, step, at
        self.graph = g.Graph()
        self._weights: dict[str, Tensor] = {}
        self._inputs: dict[str, Tensor] = {}
        self._caches: dict[tuple[int, str], Tensor] = {}

    # Leaves

    def weight(self, name: str) -> Tensor | None:
        if name not in self._weights:
            found = self.net.weights.get(name)
            if found is None:
                return None
            self._weights[name] = g.weight(found.dtype, found.ne, self.at.weight(name))
        return self._weights[name]

    def of(self, layer: int, *names: str) -> Tensor | None:
        """The first of these tensors that the layer has; ".weight" unless the name says more."""
        for name in names:
            full = name if name.endswith(ENDINGS) else f"{name}.weight"
            found = self.weight(f"blk.{layer}.{full}")
            if found is not None:
                return found
        return None

    def must(self, layer: int, *names: str) -> Tensor:
        found = self.of(layer, *names)
        if found is None:
            from weighbridge.errors import BadFileError

            raise BadFileError(f"{self.net.arch}: layer {layer} has no tensor {names[0]}")
        return found

    def entry(self, name: str, make: Tensor) -> Tensor:
        return self._inputs.setdefault(name, make)

    def cache(self, layer: int, kind: str, width: int, near: bool) -> Tensor:
        """The keys ("k") or values ("v") of a layer, for all cells."""
        s = self.step
        key = (layer, kind)
        if key not in self._caches:
            dtype = s.type_k if kind == "k" else s.type_v
            cells = s.near if near else s.cells
            self._caches[key] = g.cache(dtype, (width, cells, s.streams), self.at.cache(layer))
        return self._caches[key]

    def state(self, layer: int, kind: str, width: int) -> Tensor:
        key = (layer, kind)
        if key not in self._caches:
            self._caches[key] = g.cache(F32, (width, self.step.slots), self.at.cache(layer))
        return self._caches[key]

    # Inputs

    def positions(self) -> Tensor:
        return self.entry("pos", g.entry(I32, self.step.tokens * self.net.positions))

    def out_ids(self) -> Tensor:
        return self.entry("out_ids", g.entry(I32, self.step.outputs))

    def rows_of(self, kind: str, near: bool, width: int = 1) -> Tensor:
        """Where this step's keys or values go: a row a token, or an element each."""
        return self.entry(f"{kind}_idxs{near}", g.entry(I64, self.step.tokens * width))

    def mask(self, near: bool) -> Tensor:
        s, rules = self.step, self.step.rules
        name = f"mask{near}"
        if name not in self._inputs:
            tokens = rules.mask_rows(s.tokens // s.streams)
            dtype = F16 if s.flash and rules.half_mask else F32
            raw = g.entry(dtype, s.near if near else s.cells, tokens, 1, s.streams)
            self._inputs[name] = g.cast(raw, F16) if s.flash and not rules.half_mask else raw
        return self._inputs[name]

    def full_mask(self) -> Tensor:
        """Of an encoder: every token of the step against every other."""
        s = self.step
        dtype = F16 if s.flash and s.rules.half_mask else F32
        return self.entry("mask", g.entry(dtype, s.tokens, s.tokens))

    # Products and norms

    def mul(self, w: Tensor, x: Tensor) -> Tensor:
        return g.mul_mat(w, x)

    def linear(self, layer: int, name: str, x: Tensor) -> Tensor:
        """A matrix and its bias, if it has one."""
        y = g.mul_mat(self.must(layer, name), x)
        bias = self.of(layer, f"{name}.bias")
        return g.like("add", y, bias) if bias is not None else y

    def norm(
        self, x: Tensor, w: Tensor | None, b: Tensor | None, layer: int = -1, kind: str = "rms_norm"
    ) -> Tensor:
        y = g.like(kind, x)
        if (w is not None or b is not None) and layer >= 0 and self.at.pinned:
            y.backend = self.at.layer(layer)
        if w is not None:
            y = g.like("mul", y, w)
        return g.like("add", y, b) if b is not None else y

    def layer_norm(self, layer: int, name: str, x: Tensor, kind: str = "rms_norm") -> Tensor:
        """The layer's norm of that name; without the tensor, a norm without a weight."""
        return self.norm(x, self.of(layer, name), self.of(layer, f"{name}.bias"), layer, kind)

    def rope(self, x: Tensor, *factors: Tensor | None) -> Tensor:
        return g.like("rope", x, self.positions(), *(f for f in factors if f is not None))

    def mixer(self, layer: int) -> Mixer:
        return self.net.layers[layer].mixers[0]

    def rope_factors(self) -> Tensor | None:
        return self.weight("rope_freqs.weight")

    @cached_property
    def widest(self) -> int:
        """Values of one token, in the layer that has the most."""
        sizes = [
            m.value_elements
            for la in self.net.layers
            for m in la.mixers
            if isinstance(m, Attention)
        ]
        return max(sizes, default=0)

    def order(self) -> list[tuple[int, bool]]:
        """(layer, whether it is the last)"""
        count = len(self.net.layers)
        return [(i, i == count - 1) for i in range(count)]

    def output(self, t: Tensor) -> Tensor:
        """Kept to the end of the step, for whoever asks for it."""
        t.kept = self.step.rules.keeps_outputs
        return t

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return g.like("add", a, b)
