"""A model as llama.cpp's graphs see it: its architecture's name, its tensors by GGUF name, and what
each layer caches.

Shapes are ggml's, the row first: ne[0] is the number of inputs. Where a tensor is decides which
device computes with it.
"""

import re
from collections.abc import Mapping
from functools import cached_property

from weighbridge.base.dtypes import DType
from weighbridge.base.records import dataclass, field
from weighbridge.models.arch.gguf_layers import ENCODER_GRAPHS, NORM_OF_EMBEDDING
from weighbridge.models.arch.mixers import Attention, Latent, Layer, Mixer

ENDINGS = (".weight", ".bias", "ssm_a", "ssm_d")  # the last two are named without an ending
BLOCK = re.compile(r"blk\.(\d{1,9})\..")


def block(name: str) -> int | None:
    """Return the number of the block that a tensor belongs to, None if it belongs to none."""
    match = BLOCK.match(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of the file. `nbytes` as stored."""

    name: str
    dtype: DType
    ne: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class Network:
    arch: str
    hidden: int
    layers: tuple[Layer, ...]
    weights: Mapping[str, Weight]
    top_k: int = 0  # experts that a token is routed to
    groups: int = 0  # of experts, of which `groups_used` are picked first
    groups_used: int = 0
    positions: int = 1  # position ids per token: four in Qwen2-VL
    longest: int = 0  # tokens that it was trained on
    softcap: bool = False  # of the attention's scores
    logit_softcap: bool = False
    logit_scale: bool = False
    embedding_scale: bool = False
    pooling: bool = False  # the output is one embedding per text
    normed_state: bool = False  # Mamba 1 whose B, C and dt have norms
    rotary: int = 0  # rotary dimensions of MLA keys
    heads: int = 0  # of an encoder
    normed_weights: bool | None = None  # router weights are normalized; None: the file does not say
    scaled_weights: bool | None = None
    # Matrix made at load -> the one it is made from
    made: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def vocab(self) -> int:
        embedding = self.weights.get("token_embd.weight")
        return _rows(embedding) if embedding else 0

    @cached_property
    def rows(self) -> int:
        """Return the rows of the matrix that computes logits; 0 if there is none."""
        return _rows(self.head) if self.head else 0

    @cached_property
    def head(self) -> Weight | None:
        return self.weights.get("output.weight") or self.weights.get("token_embd.weight")

    @property
    def tied(self) -> bool:
        return "output.weight" not in self.weights

    @property
    def encodes(self) -> bool:
        """Return whether it is an encoder: no cache and no logits."""
        return self.arch in ENCODER_GRAPHS

    @property
    def last_norm(self) -> str:
        return "token_embd_norm" if self.arch.startswith(NORM_OF_EMBEDDING) else "output_norm"

    @cached_property
    def mixers(self) -> tuple[Mixer, ...]:
        """Return the mixers of all layers, each kind once."""
        return tuple(dict.fromkeys(m for la in self.layers for m in la.mixers))

    @cached_property
    def windowed(self) -> bool:
        return any(isinstance(m, Attention) and m.reach is not None for m in self.mixers)

    @cached_property
    def latent(self) -> bool:
        return any(isinstance(m, Latent) for m in self.mixers)

    def get(self, layer: int, name: str) -> Weight | None:
        return self.weights.get(f"blk.{layer}.{name}")

    @cached_property
    def blocks(self) -> Mapping[str, int | None]:
        """Return the number of each tensor's block, by its name."""
        return {name: block(name) for name in self.weights}

    @cached_property
    def _by_layer(self) -> dict[int, tuple[Weight, ...]]:
        weights: dict[int, list[Weight]] = {}
        for name, w in self.weights.items():
            number = self.blocks[name]
            if number is not None:
                weights.setdefault(number, []).append(w)
        return {i: tuple(ws) for i, ws in weights.items()}

    def of_layer(self, layer: int) -> tuple[Weight, ...]:
        return self._by_layer.get(layer, ())

    def named(self, layer: int) -> Mapping[str, str]:
        """Return full names of a layer's tensors by short name; `.weight` may be left out."""
        return self._named.get(layer, {})

    @cached_property
    def _named(self) -> dict[int, dict[str, str]]:
        names: dict[int, dict[str, str]] = {}
        for i, weights in self._by_layer.items():
            names_of_layer = names[i] = {}
            for w in weights:
                name = w.name.split(".", 2)[2]
                short = name.removesuffix(".weight")
                if name.endswith(ENDINGS):
                    names_of_layer[name] = w.name
                if not short.endswith(ENDINGS) and short != name:
                    names_of_layer[short] = w.name
        return names

    @cached_property
    def _kinds(self) -> tuple[object, ...]:
        return tuple(
            (la.mixers, frozenset((w.name.split(".", 2)[2], w.ne) for w in self.of_layer(i)))
            for i, la in enumerate(self.layers)
        )

    def kind(self, layer: int) -> object:
        """Return a key of the layer's mixers and of its tensors' names and shapes."""
        return self._kinds[layer]


def _rows(weight: Weight) -> int:
    """Return the second size of a tensor: ggml's have four, and those that a file lacks are 1."""
    return (*weight.ne, 1, 1)[1]
