"""Trained vectors before the tokens of a sequence, or before the keys of every layer.

    prompt-tuning   n vectors before those of the tokens; the sequence has n tokens more
    p-tuning        the same, with vectors made by three linears as wide as the model
    prefix-tuning   keys and values of n tokens for each layer, without more queries

Source: PEFT 0.21 peft_model.py (PeftModelForCausalLM.forward, get_prompt), tuners/prompt_tuning,
p_tuning and prefix_tuning/model.py; transformers 5.23 cache_utils.py (DynamicCache).
"""

from collections.abc import Sequence
from math import prod

from weighbridge.base.dtypes import INT64, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.training.forward.machine import Machine
from weighbridge.training.forward.ops.matrix import linear
from weighbridge.training.forward.ops.pointwise import cast, of_result
from weighbridge.training.forward.ops.shaping import copied, embedding, expand, join, split
from weighbridge.training.forward.tensors import LeafTensor, Tensor

Biased = tuple[LeafTensor, LeafTensor]  # the weight [out, in] and bias of a linear


class Prompt:
    """Trained prompt vectors [tokens, width], which `linears` transform. `used`: a forward has
    begun with them."""

    __slots__ = ("_linears", "_vectors", "tokens", "used")

    def __init__(self, vectors: LeafTensor, linears: Sequence[Biased] = ()) -> None:
        self._vectors, self._linears = vectors, linears
        self.tokens = vectors.shape[0]
        self.used = False

    def before(self, m: Machine, x: Tensor, *, held: bool) -> Tensor:
        """Return the layers' input [batch, prompt and other tokens, width]: the prompt, then `x`.
        `held`: the graph holds the other tokens' embeddings and their gradient."""
        batch, length, width = x.shape
        self.used = True
        others = m.new((batch, (length - self.tokens) * width), x.dtype)
        if held:
            others = LeafTensor("input", others.shape, others.dtype, others.storage)
        made = expand(m, self._made(m), batch, self.tokens * width)
        made = cast(m, copied(m, made), x.dtype)
        return join(m, made, others).view(batch, length, width)

    def _made(self, m: Machine) -> Tensor:
        """Return the prompt vectors [1, tokens, width], which all sequences share."""
        numbers = m.new((1, self.tokens), INT64)
        x = embedding(m, numbers, self._vectors)
        for i, (weight, bias) in enumerate(self._linears):
            x = linear(m, of_result(m, x) if i else x, weight, bias)
        return x


class KeyPrefix:
    """Trained keys and values, [tokens, elements of all layers]; each layer takes its own once per
    forward. `heads`: (KV heads, head size) per layer. `cache`: the keys and values of all layers so
    far, which the outputs hold."""

    __slots__ = ("_dtype", "_heads", "_left", "_vectors", "cache", "tokens")

    def __init__(self, vectors: LeafTensor, heads: Sequence[tuple[int, int]], dtype: DType) -> None:
        self._vectors, self._heads, self._dtype = vectors, heads, dtype
        self._left: list[Tensor] | None = None  # a key and a value per layer that has not run yet
        self.cache: list[Tensor] = []
        self.tokens = vectors.shape[0]

    def begins(self, m: Machine, batch: int) -> None:
        """Make the key and value prefixes of all layers, each [batch, tokens, heads, size]."""
        numbers = m.new((batch, self.tokens), INT64)
        whole = cast(m, embedding(m, numbers, self._vectors), self._dtype)
        shapes = [(batch, self.tokens, *shape) for shape in self._heads for _ in range(2)]
        pieces = split(m, whole.view(1, whole.numel), [prod(shape) for shape in shapes])
        self._left = [piece.view(*shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def before(self, m: Machine, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return (keys, values) of the next layer: its prefix, followed by `k` and `v`, [batch,
        length, heads, size]."""
        left = self._left
        if not left:
            raise UnsupportedError(sentence("attends_more"))
        k, v = (_behind(m, left.pop(0), x) for x in (k, v))
        self.cache += (k.detach(), v.detach())
        return k, v

    @property
    def used(self) -> bool:
        """Return whether each layer has taken its prefix."""
        return self._left == []


def _behind(m: Machine, past: Tensor, x: Tensor) -> Tensor:
    batch, length, heads, width = x.shape
    joined = join(m, *(t.view(batch, t.numel // batch) for t in (past, x)))
    return joined.view(batch, length + past.shape[1], heads, width)
