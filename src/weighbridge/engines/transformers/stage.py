"""The layers of one device, what each keeps from step to step, and how it grows.

    none       nothing: each token is read again with all before it (use_cache=False)
    dynamic    the old and the new tensor live together while they are joined: keys, then values
    legacy     a step's old tensors live to its end, of all layers (tuples: rules.py)
    static     made once, of the largest length; rows are written in place
    quantized  the packed tensors stay; the step attends to all of them unpacked, joined with what
               is not packed yet

Sizes are those of `engines/transformers/caches.py`, which says what each kind of layer stores.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from weighbridge.arch.body import Body, LayerBlock
from weighbridge.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    Latent,
    Mixer,
    Recurrent,
    Shared,
)
from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.components.kv_cache import CacheBytes, Lengths
from weighbridge.engines.transformers.caches import TransformersCacheSetting, of_mixer
from weighbridge.engines.transformers.step import ForwardStep
from weighbridge.memo import memo

KV = "kv_cache"
STATE = "recurrent_state"
JOINED = "temporaries"  # the old one of two tensors of which one is being made
QUANTIZED = ("quanto", "hqq", "fp8")


@dataclass(slots=True)
class Kept:
    """Tensors on the heap that the cache of one mixer keeps alive."""

    tensors: list[LiveTensor] = field(default_factory=list)
    old: list[LiveTensor] = field(default_factory=list)  # which a legacy cache still holds
    extra: list[LiveTensor] = field(default_factory=list)  # alive through this attention only
    behind: list[LiveTensor] = field(default_factory=list)  # storage that kept tensors are views of
    scores: list[LiveTensor] = field(
        default_factory=list
    )  # of eager attention: alive through the layer


def remember(
    heap: Heap, s: ForwardStep, kept: Kept, new: tuple[LiveTensor, ...], *, reach: int | None = None
) -> tuple[int, ...]:
    """Stores what this step adds, and drops it. The bytes of what is attended to."""
    if s.cache in QUANTIZED:
        return _quantized(heap, s, kept, new)
    if s.cache == "static":
        return _static(heap, s, kept, new, reach)
    if s.prompt and not s.rules.copied_prompt:
        kept.tensors = [heap.rename(held, KV) for held in new]
        return tuple(held.nbytes for held in new)
    return _joined(heap, s, kept, new, reach)


def _joined(
    heap: Heap, s: ForwardStep, kept: Kept, new: tuple[LiveTensor, ...], reach: int | None
) -> tuple[int, ...]:
    """A layer with a window joins keys and values both before it lets the old ones go
    (DynamicSlidingWindowLayer.update)."""
    fresh = []
    windowed = reach is not None and s.rules.sliding_cache
    late: list[LiveTensor] = []
    for i, held in enumerate(new):
        old = [heap.rename(kept.tensors[i], JOINED)] if kept.tensors else []
        fresh.append(heap.take(held.nbytes // s.tokens * reached(s, reach), KV))
        if s.rules.legacy_cache:
            kept.old += old
        elif windowed:
            late += old
        else:
            heap.drop(*old)
    heap.drop(*new, *kept.behind, *late)
    kept.tensors, kept.behind = fresh, []
    return tuple(held.nbytes for held in fresh)


def reached(s: ForwardStep, reach: int | None) -> int:
    """Tokens whose keys a layer holds when it attends: the window, or the prompt if longer."""
    if reach is None or not s.rules.sliding_cache:
        return s.context
    return min(s.context, max(reach, s.tokens))


def _static(
    heap: Heap, s: ForwardStep, kept: Kept, new: tuple[LiveTensor, ...], reach: int | None
) -> tuple[int, ...]:
    most = s.longest if reach is None else min(reach, s.longest)
    if not kept.tensors:
        kept.tensors = [heap.take(held.nbytes // s.tokens * most, KV) for held in new]
    beyond = s.tokens > most  # a prompt longer than the window attends to itself
    sizes = tuple(held.nbytes // s.tokens * max(most, s.tokens) for held in new)
    if beyond:
        kept.extra = list(new)
    else:
        heap.drop(*new)
    return sizes


def _quantized(
    heap: Heap, s: ForwardStep, kept: Kept, new: tuple[LiveTensor, ...]
) -> tuple[int, ...]:
    """Keep keys and values in a quantized cache. Right behind the prompt the plain ones serve;
    later all are unpacked and joined."""
    if not s.prompt:
        sizes = [held.nbytes * s.context for held in new]
        unpacked = heap.all(sizes, "temporaries")
        kept.extra = list(heap.all(sizes, "temporaries"))
        heap.drop(*unpacked, *new)
        return tuple(sizes)
    kept.extra = list(new)
    return tuple(held.nbytes for held in new)


def attended(heap: Heap, s: ForwardStep, kept: Kept, m: Attention) -> None:
    """The kernel has run: what only it needed goes; a quantized cache is packed anew."""
    if s.cache in QUANTIZED:
        nbytes = stored(s, m).kv
        heap.drop(*kept.tensors)
        kept.tensors = [heap.take(nbytes // 2, KV), heap.take(nbytes - nbytes // 2, KV)]
    heap.drop(*kept.extra)
    kept.extra = []


def stored(s: ForwardStep, m: Mixer) -> CacheBytes:
    """What this layer keeps after the step."""
    return of_mixer(m, setting(s))


def setting(s: ForwardStep) -> TransformersCacheSetting:
    """The step as the rules of caches see it."""
    return memo(s, ("setting",), lambda: _setting(s))


def _setting(s: ForwardStep) -> TransformersCacheSetting:
    return TransformersCacheSetting(
        lengths=Lengths(context=s.context, encoder=s.encoder),
        model_type=s.kind,
        batch=s.batch,
        dtype=s.dtype,
        version=s.rules.version,
        cache=s.cache,
        after="prefill" if s.prompt else "decode",
        prompt=s.tokens if s.prompt else None,
        max_cache_len=s.longest or None,
    )


Growth = tuple[tuple[int, str], ...]  # (bytes, component) of the tensors that a mixer keeps


def grown(s: ForwardStep, m: Mixer) -> Growth:
    if s.cache == "none" or (isinstance(m, Attention) and not m.causal):
        return ()
    nbytes = stored(s, m)
    own = m.expanded if isinstance(m, Latent) and not s.rules.latent_cache else m
    states = ((nbytes.state, STATE),) if nbytes.state else ()
    return (*((size, KV) for size in _parts(own, nbytes.kv)), *states)


def grow(
    heap: Heap, s: ForwardStep, block: LayerBlock, kept: Sequence[Kept], growth: Sequence[Growth]
) -> None:
    """What a layer keeps after this step, as if it had run."""
    for m, k, sizes in zip(block.mixers, kept, growth, strict=True):
        if not _settled(s, m, k):
            renew(heap, s, k, sizes)


def renew(heap: Heap, s: ForwardStep, kept: Kept, sizes: Sequence[tuple[int, str]]) -> None:
    """New tensors for the kept ones, one after the other."""
    fresh = []
    for i, (size, name) in enumerate(sizes):
        old = [heap.rename(held, JOINED) for held in kept.tensors[i : i + 1]]
        fresh.append(heap.take(size, name))
        if s.rules.legacy_cache:
            kept.old += old
        else:
            heap.drop(*old)
    heap.drop(*kept.behind)
    kept.tensors, kept.behind = fresh, []


def _settled(s: ForwardStep, m: Mixer, kept: Kept) -> bool:
    """Whether nothing changes: an encoder keeps nothing, a static cache and what is crossed are
    made once."""
    if isinstance(m, Attention) and not m.causal:
        return True
    return bool(kept.tensors) and (s.cache == "static" or isinstance(m, CrossAttention))


def _parts(m: Mixer, nbytes: int) -> tuple[int, ...]:
    """Keys and values are two tensors."""
    if not nbytes:
        return ()
    match m:
        case Attention() | CrossAttention():
            keys = nbytes * m.key_elements // (m.key_elements + m.value_elements)
            return keys, nbytes - keys
        case Latent():
            keys = nbytes * m.rank // m.latent_elements
            return keys, nbytes - keys
        case Compressed() | Shared():
            return (nbytes,)
        case _ if isinstance(m, Recurrent):
            return (nbytes,)
        case _:
            assert_never(m)


# ---- layers


@dataclass(frozen=True, slots=True)
class DeviceLayers:
    """The layers of one device. `kinds` says of each which is the first like it."""

    blocks: tuple[LayerBlock, ...]
    kinds: tuple[int, ...]
    whole: tuple[bool, ...]  # whether it is run: of each kind the first two and the last

    @classmethod
    def of(cls, body: Body, start: int, end: int) -> "DeviceLayers":
        return memo(body, ("layers", start, end), lambda: cls.found(body.blocks[start:end]))

    @classmethod
    def found(cls, blocks: tuple[LayerBlock, ...]) -> "DeviceLayers":
        firsts: dict[LayerBlock, int] = {}
        kinds = tuple(firsts.setdefault(block, i) for i, block in enumerate(blocks))
        last = {kind: i for i, kind in enumerate(kinds)}
        seen: Counter[int] = Counter()
        whole = []
        for i, kind in enumerate(kinds):
            seen[kind] += 1
            whole.append(seen[kind] <= 2 or i == last[kind])
        return cls(blocks, kinds, tuple(whole))

    @property
    def different(self) -> Iterator[tuple[int, LayerBlock, int]]:
        """(number, layer, how many there are of it)"""
        for kind, count in Counter(self.kinds).items():
            yield kind, self.blocks[kind], count


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardStage:
    """The layers of one device, and whether it has the embedding and the head."""

    body: Body
    layers: DeviceLayers
    first: bool = True
    last: bool = True
    kept: list[list[Kept]] = field(default_factory=list)  # of each layer's mixers

    @property
    def blocks(self) -> tuple[LayerBlock, ...]:
        return self.layers.blocks

    @classmethod
    def of(cls, body: Body, start: int, end: int) -> "ForwardStage":
        layers = DeviceLayers.of(body, start, end)
        kept = [[Kept() for _ in b.mixers] for b in layers.blocks]
        last = end == len(body.blocks)
        return cls(body=body, layers=layers, first=start == 0, last=last, kept=kept)


def growth(s: ForwardStep, stage: ForwardStage) -> Mapping[int, tuple[Growth, ...]]:
    """What the mixers of each kind of layer keep after this step."""
    return {
        kind: tuple(grown(s, m) for m in block.mixers) for kind, block, _ in stage.layers.different
    }


def stored_kv(s: ForwardStep, stage: ForwardStage) -> int:
    """What the caches of all layers take behind this step."""
    return sum(
        count * sum(stored(s, m).kv for m in block.mixers)
        for _, block, count in stage.layers.different
    )


def stepped(heap: Heap, stage: ForwardStage) -> None:
    """The step is over: a legacy cache lets the old tensors go."""
    for k in (k for mixers in stage.kept for k in mixers if k.old):
        heap.drop(*k.old)
        k.old = []
