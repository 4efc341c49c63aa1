"""The layers of one device, what each caches from step to step, and how that grows.

    none       nothing: each token is read again with all before it (use_cache=False)
    dynamic    the old and the new tensor live together while concatenated: keys, then values
    legacy     a step's old tensors live to its end, of all layers (tuples: rules.py)
    static     made once, of the largest length; rows are written in place
    quantized  the quantized tensors stay; the step attends to all of them dequantized, joined with
               what is not quantized yet

Sizes are those of `engines/transformers/caches.py`, which says what each kind of layer stores.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from weighbridge.base.memo import memo
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.engines.transformers.caches import TransformersCacheSetting, of_mixer
from weighbridge.engines.transformers.step import ForwardStep
from weighbridge.memory.components.activations import Heap, LiveTensor
from weighbridge.memory.components.kv_cache import CacheBytes, Lengths
from weighbridge.models.arch.body import Body, LayerBlock
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    Latent,
    Mixer,
    Recurrent,
    Shared,
)

KV = "kv_cache"
STATE = "recurrent_state"
JOINED = "temporaries"  # the old tensor while the new one is made
QUANTIZED = ("quanto", "hqq", "fp8")


@dataclass(slots=True)
class MixerCache:
    """The heap's tensors that the cache of one mixer keeps alive."""

    tensors: list[LiveTensor] = field(default_factory=list)
    old: list[LiveTensor] = field(default_factory=list)  # still held by a legacy cache
    extra: list[LiveTensor] = field(default_factory=list)  # alive only through this attention
    behind: list[LiveTensor] = field(default_factory=list)  # storage behind views
    scores: list[LiveTensor] = field(
        default_factory=list
    )  # of eager attention: alive through the layer


def remember(
    heap: Heap,
    step: ForwardStep,
    cache: MixerCache,
    new: tuple[LiveTensor, ...],
    *,
    reach: int | None = None,
) -> tuple[int, ...]:
    """Store and free what this step adds. Return the bytes of keys and values to attend to."""
    if step.cache in QUANTIZED:
        return _quantized(heap, step, cache, new)
    if step.cache == "static":
        return _static(heap, step, cache, new, reach)
    if step.prompt and not step.rules.copied_prompt:
        cache.tensors = [heap.rename(tensor, KV) for tensor in new]
        return tuple(tensor.nbytes for tensor in new)
    return _joined(heap, step, cache, new, reach)


def _joined(
    heap: Heap, step: ForwardStep, cache: MixerCache, new: tuple[LiveTensor, ...], reach: int | None
) -> tuple[int, ...]:
    """Concatenate old and new tensors. A sliding layer joins both keys and values before it frees
    the old ones (DynamicSlidingWindowLayer.update)."""
    fresh = []
    windowed = reach is not None and step.rules.sliding_cache
    late: list[LiveTensor] = []
    for i, tensor in enumerate(new):
        old = [heap.rename(cache.tensors[i], JOINED)] if cache.tensors else []
        fresh.append(heap.take(tensor.nbytes // step.tokens * reached(step, reach), KV))
        if step.rules.legacy_cache:
            cache.old += old
        elif windowed:
            late += old
        else:
            heap.drop(*old)
    heap.drop(*new, *cache.behind, *late)
    cache.tensors, cache.behind = fresh, []
    return tuple(tensor.nbytes for tensor in fresh)


def reached(step: ForwardStep, reach: int | None) -> int:
    """Return the tokens a layer holds keys of as it attends: its window, or a longer prompt."""
    if reach is None or not step.rules.sliding_cache:
        return step.context
    return min(step.context, max(reach, step.tokens))


def _static(
    heap: Heap, step: ForwardStep, cache: MixerCache, new: tuple[LiveTensor, ...], reach: int | None
) -> tuple[int, ...]:
    most = step.longest if reach is None else min(reach, step.longest)
    if not cache.tensors:
        cache.tensors = [heap.take(tensor.nbytes // step.tokens * most, KV) for tensor in new]
    beyond = step.tokens > most  # a prompt longer than the window attends to itself
    sizes = tuple(tensor.nbytes // step.tokens * max(most, step.tokens) for tensor in new)
    if beyond:
        cache.extra = list(new)
    else:
        heap.drop(*new)
    return sizes


def _quantized(
    heap: Heap, step: ForwardStep, cache: MixerCache, new: tuple[LiveTensor, ...]
) -> tuple[int, ...]:
    """Store keys and values in a quantized cache. Directly after the prompt the plain ones are
    used; later all are dequantized and joined."""
    if not step.prompt:
        sizes = [tensor.nbytes * step.context for tensor in new]
        unpacked = heap.all(sizes, "temporaries")
        cache.extra = list(heap.all(sizes, "temporaries"))
        heap.drop(*unpacked, *new)
        return tuple(sizes)
    cache.extra = list(new)
    return tuple(tensor.nbytes for tensor in new)


def attended(heap: Heap, step: ForwardStep, cache: MixerCache, mixer: Attention) -> None:
    """Free what only the kernel needed; a quantized cache is quantized anew."""
    if step.cache in QUANTIZED:
        nbytes = stored(step, mixer).kv
        heap.drop(*cache.tensors)
        cache.tensors = [heap.take(nbytes // 2, KV), heap.take(nbytes - nbytes // 2, KV)]
    heap.drop(*cache.extra)
    cache.extra = []


def stored(step: ForwardStep, mixer: Mixer) -> CacheBytes:
    """Return the bytes that this mixer caches after the step."""
    return of_mixer(mixer, setting(step))


def setting(step: ForwardStep) -> TransformersCacheSetting:
    """Return the step as the setting that the cache rules read."""
    return memo(step, ("setting",), lambda: _setting(step))


def _setting(step: ForwardStep) -> TransformersCacheSetting:
    return TransformersCacheSetting(
        lengths=Lengths(context=step.context, encoder=step.encoder),
        model_type=step.kind,
        batch=step.batch,
        dtype=step.dtype,
        version=step.rules.version,
        cache=step.cache,
        after="prefill" if step.prompt else "decode",
        prompt=step.tokens if step.prompt else None,
        max_cache_len=step.longest or None,
    )


Growth = tuple[tuple[int, str], ...]  # (bytes, component) of a mixer's cached tensors


def grown(step: ForwardStep, mixer: Mixer) -> Growth:
    if step.cache == "none" or (isinstance(mixer, Attention) and not mixer.causal):
        return ()
    nbytes = stored(step, mixer)
    cached = mixer.expanded if isinstance(mixer, Latent) and not step.rules.latent_cache else mixer
    states = ((nbytes.state, STATE),) if nbytes.state else ()
    return (*((size, KV) for size in _parts(cached, nbytes.kv)), *states)


def grow(
    heap: Heap,
    step: ForwardStep,
    block: LayerBlock,
    caches: Sequence[MixerCache],
    growth: Sequence[Growth],
) -> None:
    """Renew what a layer caches after this step, as if it had run."""
    for m, k, sizes in zip(block.mixers, caches, growth, strict=True):
        if not _settled(step, m, k):
            renew(heap, step, k, sizes)


def renew(
    heap: Heap, step: ForwardStep, cache: MixerCache, sizes: Sequence[tuple[int, str]]
) -> None:
    """Replace the cached tensors by new ones, one after the other."""
    fresh = []
    for i, (size, name) in enumerate(sizes):
        old = [heap.rename(tensor, JOINED) for tensor in cache.tensors[i : i + 1]]
        fresh.append(heap.take(size, name))
        if step.rules.legacy_cache:
            cache.old += old
        else:
            heap.drop(*old)
    heap.drop(*cache.behind)
    cache.tensors, cache.behind = fresh, []


def _settled(step: ForwardStep, mixer: Mixer, cache: MixerCache) -> bool:
    """Return whether nothing changes: an encoder caches nothing, a static cache and cross
    attention's are made once."""
    if isinstance(mixer, Attention) and not mixer.causal:
        return True
    return bool(cache.tensors) and (step.cache == "static" or isinstance(mixer, CrossAttention))


def _parts(mixer: Mixer, nbytes: int) -> tuple[int, ...]:
    """Return the bytes of a cache's tensors: keys and values are two."""
    if not nbytes:
        return ()
    match mixer:
        case Attention() | CrossAttention():
            keys = nbytes * mixer.key_elements // (mixer.key_elements + mixer.value_elements)
            return keys, nbytes - keys
        case Latent():
            keys = nbytes * mixer.rank // mixer.latent_elements
            return keys, nbytes - keys
        case Compressed() | Shared():
            return (nbytes,)
        case _ if isinstance(mixer, Recurrent):
            return (nbytes,)
        case _:
            assert_never(mixer)


# ---- layers


@dataclass(frozen=True, slots=True)
class DeviceLayers:
    """The layers of one device. `kinds`: for each layer the first equal one."""

    blocks: tuple[LayerBlock, ...]
    kinds: tuple[int, ...]
    whole: tuple[bool, ...]  # whether it is run: the first two of a kind, and its last

    @classmethod
    def of(cls, body: Body, start: int, end: int) -> "DeviceLayers":
        return memo(body, ("layers", start, end), lambda: cls.of_blocks(body.blocks[start:end]))

    @classmethod
    def of_blocks(cls, blocks: tuple[LayerBlock, ...]) -> "DeviceLayers":
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
        """Yield (number, layer, count) of each distinct layer."""
        for kind, count in Counter(self.kinds).items():
            yield kind, self.blocks[kind], count


@frozen_record
class ForwardStage:
    """The layers of one device, and whether it has the embedding and the head."""

    body: Body
    layers: DeviceLayers
    first: bool = True
    last: bool = True
    kept: list[list[MixerCache]] = field(default_factory=list)  # caches of each layer's mixers

    @property
    def blocks(self) -> tuple[LayerBlock, ...]:
        return self.layers.blocks

    @classmethod
    def of(cls, body: Body, start: int, end: int) -> "ForwardStage":
        layers = DeviceLayers.of(body, start, end)
        caches = [[MixerCache() for _ in b.mixers] for b in layers.blocks]
        last = end == len(body.blocks)
        return cls(body=body, layers=layers, first=start == 0, last=last, kept=caches)


def growth(step: ForwardStep, stage: ForwardStage) -> Mapping[int, tuple[Growth, ...]]:
    """Return the bytes that the mixers of each kind of layer cache after this step."""
    return {
        kind: tuple(grown(step, m) for m in block.mixers)
        for kind, block, _ in stage.layers.different
    }


def stored_kv(step: ForwardStep, stage: ForwardStage) -> int:
    """Return the KV cache bytes of all layers after this step."""
    return sum(
        count * sum(stored(step, m).kv for m in block.mixers)
        for _, block, count in stage.layers.different
    )


def stepped(heap: Heap, stage: ForwardStage) -> None:
    """End the step: a legacy cache frees the old tensors."""
    for k in (k for mixers in stage.kept for k in mixers if k.old):
        heap.drop(*k.old)
        k.old = []
