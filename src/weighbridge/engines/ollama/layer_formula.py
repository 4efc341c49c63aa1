"""The formula by which Ollama up to 0.12.10 placed layers, and which `ollama ps` showed.

    a card    a minimum, one layer more as a buffer, its layers with their caches, and a graph: the
              full one if every layer is on one card, else the partial one
    layers    from the last one down, round robin over the cards that have room
    output    output_norm with output (or token_embd), if room is left

Ollama measured nothing of it: the graph depends on context x heads, with or without flash
attention. Source: github.com/ollama/ollama v0.9.0 and v0.12.10: llm/memory.go (EstimateGPULayers),
fs/ggml/ggml.go (GraphSize), discover/gpu.go (MinimumMemory). Logs of it: ollama#8098, #9031, #9181,
#11711, #11982.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

from weighbridge.base.records import dataclass, field
from weighbridge.base.units import MIB
from weighbridge.engines.engine import Version
from weighbridge.engines.llama_cpp.graphs.network import Network
from weighbridge.engines.ollama.rules import OllamaRules, ollama_rules
from weighbridge.models.arch.mixers import Attention, Mixer

MINIMUM, MINIMUM_ON_METAL = 457 * MIB, 512 * MIB
BATCH = 512
ELEMENTS: Mapping[str, float] = {"q8_0": 1, "q4_0": 0.5}  # bytes of a number of the cache; else 2
GPT_OSS, GPT_OSS_WINDOW = ("gptoss", "gpt-oss"), 4096  # tokens, whatever the model's is
SHARED_WITH_ONE = 6  # GQA x cache / 6 if an architecture has no formula


@dataclass(frozen=True, kw_only=True)  # not slotted, for cached properties
class Reckoned:
    """A model and a launch in the formula's own terms. `context` is of all requests together."""

    net: Network
    context: int
    parallel: int
    element: float = 2  # bytes of a number of the cache
    flash: bool = False
    release: Version = (0, 12, 10)

    @property
    def rules(self) -> OllamaRules:
        return ollama_rules(self.release)

    @property
    def batch(self) -> int:
        return min(self.context, BATCH)

    @cached_property
    def attention(self) -> tuple[Attention, ...]:
        return tuple(m for m in self.net.mixers if isinstance(m, Attention))

    @cached_property
    def heads(self) -> int:
        return max((m.heads for m in self.attention), default=1)

    @cached_property
    def kv_heads(self) -> int:
        return max((m.kv_heads for m in self.attention), default=1)

    @cached_property
    def key_dim(self) -> int:
        return max((m.key_dim for m in self.attention), default=self.net.hidden // self.heads)

    @cached_property
    def caches(self) -> tuple[int, ...]:
        """Return the bytes of each layer's cache. Only Gemma 3 and gpt-oss have windows."""
        return tuple(sum(map(self._cache, la.mixers)) for la in self.net.layers)

    def _cache(self, mixer: Mixer) -> int:
        if not isinstance(mixer, Attention):
            return 0
        rows = self.context
        if mixer.reach is not None and self.net.arch in GPT_OSS:
            rows = self.parallel * GPT_OSS_WINDOW + self.batch
        elif mixer.reach is not None and self.net.arch == "gemma3" and self.rules.gemma3_windows:
            rows = self.parallel * mixer.reach + self.batch
        return int(rows * (mixer.key_elements + mixer.value_elements) * self.element)

    @cached_property
    def graphs(self) -> tuple[int, int]:
        """Return the graph's bytes (with some layers on a card, with all)."""
        known = GRAPHS.get(self.net.arch)
        partial, full = known(self) if known else (0, 0)
        partial = partial or self.heads // self.kv_heads * sum(self.caches) // SHARED_WITH_ONE
        return partial, full or partial

    def layer(self, i: int) -> int:
        return sum(w.nbytes for w in self.net.of_layer(i))

    @property
    def output(self) -> int:
        head = self.net.head
        norm = self.net.weights.get("output_norm.weight")
        return sum(w.nbytes for w in (head, norm) if w is not None)


@dataclass(slots=True)
class Placed:
    """Bytes and layers per card, and the bytes that are left over."""

    cards: list[int]
    layers: list[int]
    overflow: int = 0
    with_room: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Return the SIZE that `ollama ps` shows, in bytes."""
        return sum(self.cards) + self.overflow

    @property
    def on_cards(self) -> int:
        return sum(self.cards) if any(self.layers) else 0


def place(
    reckoned: Reckoned, free: tuple[int, ...], *, metal: bool = False, most: int = -1
) -> Placed:
    """Return the placement. `free`: bytes of each card; `most`: layers on cards, or -1."""
    partial, full = reckoned.graphs
    if metal:
        partial = full
    elif len(free) > 1:
        full = partial
    graph, minimum = max(partial, full), MINIMUM_ON_METAL if metal else MINIMUM
    first = reckoned.layer(0) + (reckoned.caches[0] if reckoned.caches else 0)
    placed = Placed([0] * len(free), [0] * len(free))
    placed.with_room = [i for i, f in enumerate(free) if f >= graph + minimum + 2 * first]
    for i in placed.with_room:
        placed.cards[i] = minimum + first
    count = len(reckoned.net.layers)
    for i in reversed(range(count)):
        _put(placed, reckoned.layer(i) + reckoned.caches[i], graph, free, i, limit=most)
    _last(placed, reckoned.output, graph, free, most)
    if sum(placed.layers) <= count:
        placed.overflow += reckoned.output
        full = partial
    for i, layers in enumerate(placed.layers):
        placed.cards[i] += full if layers else 0
    return placed


def _put(
    placed: Placed, size: int, graph: int, free: tuple[int, ...], layer: int, *, limit: int
) -> None:
    """Place one layer on a card that has room; cards without room are not tried again."""
    if limit >= 0 and sum(placed.layers) >= limit:
        placed.overflow += size
        return
    while placed.with_room:
        turn = layer % len(placed.with_room)
        card = placed.with_room[turn]
        if free[card] > placed.cards[card] + graph + size:
            placed.cards[card] += size
            placed.layers[card] += 1
            return
        del placed.with_room[turn]
    placed.overflow += size


def _last(placed: Placed, size: int, graph: int, free: tuple[int, ...], most: int) -> None:
    """Place the output on a card that has room, as one more layer."""
    count = sum(placed.layers)
    if 0 <= most <= count:
        return
    for turns in range(len(placed.with_room), 0, -1):
        card = placed.with_room[count % turns]
        if free[card] > placed.cards[card] + graph + size:
            placed.cards[card] += size
            placed.layers[card] += 1
            return


# Graph bytes (some layers, all), by the formula's architectures


def _vocab(reckoned: Reckoned) -> int:
    """Return the bytes of the vocabulary's weights, quantized, brought to a card."""
    return reckoned.net.hidden * reckoned.net.vocab * 105 // 128


def _sizes(reckoned: Reckoned) -> tuple[int, int, int, int, int]:
    """Return (hidden size, vocabulary, tokens per batch, context, heads)."""
    net = reckoned.net
    return net.hidden, net.vocab, reckoned.batch, reckoned.context, reckoned.heads


def _llama(reckoned: Reckoned) -> tuple[int, int]:
    e, v, b, c, h = _sizes(reckoned)
    kv = e // h * reckoned.kv_heads
    full = max(4 * b * (1 + 4 * e + c * (1 + h)), 4 * b * (e + v))
    partial = 4 * b * e + max(
        4 * b * (1 + e + max(c, e)) + e * e * 9 // 16 + 4 * c * (b * h + kv),
        4 * b * (e + v) + _vocab(reckoned),
    )
    experts = reckoned.net.get(0, "ffn_gate_exps.weight")
    if experts is not None:
        width = experts.ne[1]
        partial = max(
            3 * experts.nbytes + 4 * b * (2 * width + reckoned.kv_heads + e + c + kv),
            4 * (c * b * h + c * kv + b * 1024 + kv * b),
        )
    return partial, full


def _gemma(reckoned: Reckoned) -> tuple[int, int]:
    e, v, b, c, h = _sizes(reckoned)
    queries, times = reckoned.key_dim * h, 4 if reckoned.net.arch == "gemma3n" else 1
    full = max(4 * b * (e + v), 4 * b * (2 + c + c * h + 2 * e + 2 * queries))
    partial = max(
        4 * e * b + _vocab(reckoned) + 4 * v * b,
        4 * b * (2 * e + 1 + 2 * queries + c + c * h)
        + 4 * reckoned.key_dim * c * 8
        + e * queries * 9 // 16,
    )
    return times * partial, times * full


def _command_r(reckoned: Reckoned) -> tuple[int, int]:
    e, v, b, c, h = _sizes(reckoned)
    full = max(4 * b * (e + v), 4 * b * (2 + 4 * e + c * (1 + h)))
    partial = max(
        4 * b * (e + v) + _vocab(reckoned),
        4 * b * (1 + 2 * e + c * (1 + h)) + 4 * e * c + e * e * 9 // 16,
    )
    return partial, full


def _qwen2(reckoned: Reckoned) -> tuple[int, int]:
    e, v, b, c, h = _sizes(reckoned)
    full = max(4 * b * (e + v), 4 * b * (1 + 2 * e + c + c * h))
    partial = max(
        4 * b * (e + v) + _vocab(reckoned), 4 * (b * (1 + 2 * e + c * (1 + h)) + e * (1 + c))
    )
    return partial, full


def _phi2(reckoned: Reckoned) -> tuple[int, int]:
    e, v, b, c, h = _sizes(reckoned)
    full = max(4 * b * (e + v), 4 * b * (1 + 4 * e + c + c * h))
    return max(4 * b * (2 * e + v) + _vocab(reckoned), 4 * b * (2 + 3 * e + c + c * h)), full


def _stablelm(reckoned: Reckoned) -> tuple[int, int]:
    e, v, b, c, h = _sizes(reckoned)
    full = 4 * b * (c * (1 + h) + 3 * e + 2)
    return max(4 * b * (v + 2 * e), full), full


def _gpt_oss(reckoned: Reckoned) -> tuple[int, int]:
    """Return the graph's bytes, as if no layer had a window (ollama#11711, #11982)."""
    whole = sum(
        m.key_elements + m.value_elements
        for la in reckoned.net.layers
        for m in la.mixers
        if isinstance(m, Attention)
    )
    shared = reckoned.heads // reckoned.kv_heads * int(reckoned.context * whole * reckoned.element)
    full = reckoned.rules.gpt_oss_share * shared // SHARED_WITH_ONE
    if reckoned.flash and reckoned.rules.gpt_oss_flash:
        full = (4 * reckoned.parallel + (reckoned.context >> 10) + 110) * MIB
    return (2 * full if reckoned.rules.gpt_oss_doubled else full), full


GRAPHS: Mapping[str, Callable[[Reckoned], tuple[int, int]]] = {
    "llama": _llama,
    "llama4": _llama,
    "gemma": _gemma,
    "gemma2": _gemma,
    "gemma3": _gemma,
    "gemma3n": _gemma,
    "command-r": _command_r,
    "qwen2": _qwen2,
    "phi2": _phi2,
    "stablelm": _stablelm,
    "gptoss": _gpt_oss,
    "gpt-oss": _gpt_oss,
}
