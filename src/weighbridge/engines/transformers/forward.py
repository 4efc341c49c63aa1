"""One forward as a program: embedding, layers, the last norm, the head.

The embedding's output lives to the end (a local variable of the model has it), the input of a layer
until the layer returns. A layer like an earlier one only adds what it caches: it frees all else.
The first two of a kind are run, and the last.

Encoders of images and sounds run first, and their output joins the prompt: all items of all
requests go through in one pass. The pixels stay until generation ends, and so does the last layer's
output of an image encoder, since generate encodes images itself (5.19). Pixel values are in float32
until they are cast to the encoder's dtype.

Source: transformers 4.37 to 5.23, `forward` of the models' Model, DecoderLayer and ForCausalLM;
models/siglip/modeling_siglip.py, models/qwen2_5_vl (vision blocks), models/qwen2_audio.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never

from weighbridge.base.records import replace
from weighbridge.engines.transformers.attention import (
    attention,
    by_experts,
    cross,
    disentangled,
    queries_alone,
)
from weighbridge.engines.transformers.feed_forward import dense, feed
from weighbridge.engines.transformers.latent import compressed, latent
from weighbridge.engines.transformers.recurrence import scan
from weighbridge.engines.transformers.rules import DISTANCES, OVERLAID
from weighbridge.engines.transformers.stage import ForwardStage, MixerCache, grow, growth
from weighbridge.engines.transformers.step import ClassStyle, ForwardStep, norm
from weighbridge.memory.components.activations import Heap, LiveTensor
from weighbridge.models.arch.body import Body, Dense, Experts, LayerBlock, Tower
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    Latent,
    Mixer,
    Recurrent,
    Shared,
)
from weighbridge.models.arch.model_types import differs

Masks = Mapping[int | None, int]  # window (None: all) -> elements of the mask, 0 for none


def run(heap: Heap, step: ForwardStep, stage: ForwardStage) -> list[LiveTensor]:
    """Run one forward; return the tensors that are alive after the last layer."""
    embedded = heap.take(step.wide(step.hidden))
    beside = [embedded, _per_layer(heap, step, stage)]
    masks, mask_tensors = _masks(heap, step, stage)
    beside += [*_positions(heap, step, stage), heap.take(step.wide(step.style.beside))]
    learned = step.style.learned and stage.first  # positions are added to the embedding
    x = heap.take(step.wide(step.hidden)) if learned else embedded
    sizes = growth(step, stage)
    lingering: list[LiveTensor] = []
    for i, block in enumerate(stage.blocks):
        caches = stage.kept[i]
        if not stage.layers.whole[i]:
            grow(heap, step, block, caches, sizes[stage.layers.kinds[i]])
            beside += _returned(heap, step)
            continue
        new = layer(heap, step, block, caches, masks)
        heap.drop(*lingering)
        lingering = _weights(caches)
        if x is not embedded:
            heap.drop(x)
        elif not stage.first:  # a copy from the previous device
            heap.drop(beside.pop(0))
        beside += _returned(heap, step)
        x = new
    heap.drop(*mask_tensors, *lingering)
    return beside if x is embedded else [*beside, x]


def _returned(heap: Heap, step: ForwardStep) -> tuple[LiveTensor, ...]:
    """Return a layer's input states, if the class returns those of all its layers."""
    return () if step.style.distances is None else (heap.take(step.wide(step.hidden)),)


def _weights(caches: Sequence[MixerCache]) -> list[LiveTensor]:
    """Return the weights that eager attention gave to a finished layer."""
    scores = [tensor for k in caches for tensor in k.scores]
    for k in caches:
        k.scores = []
    return scores


def _per_layer(heap: Heap, step: ForwardStep, stage: ForwardStage) -> LiveTensor:
    """Return the per-layer inputs: looked-up embeddings and projected states, normed; both, and
    their sum, are scaled (Gemma4TextModel.project_per_layer_inputs)."""
    numbers = step.style.per_layer
    nbytes = step.wide(numbers)
    if not nbytes or not stage.first:
        return heap.take(nbytes)
    looked_up = heap.into(nbytes, heap.take(nbytes))
    projected = heap.into(nbytes, heap.take(nbytes))
    normed = norm(heap, step, numbers)
    heap.drop(projected)
    return heap.into(nbytes, heap.take(nbytes), normed, looked_up)


def _positions(heap: Heap, step: ForwardStep, stage: ForwardStage) -> list[LiveTensor]:
    """Return cosines and sines of the step's tokens, shared by all layers; or learned positions."""
    if step.style.learned and stage.first:
        return [heap.take(step.tokens * step.hidden * step.size)]
    if step.style.biased:
        return [_bias(heap, step, stage)]
    if step.style.distances is not None:  # 64-bit distances, and a float32 mask
        return [heap.take((8 + 4 * step.batch) * step.tokens * step.tokens)]
    if not step.style.rotary:
        return []
    width = next((_turned(m) for m in _mixers(stage) if _turned(m)), 0)
    apart = len(_reaches(stage)) if differs(step.kind, "rotary_by_window") else 1
    return [heap.take(2 * step.tokens * width * step.size) for _ in range(apart)]


def _bias(heap: Heap, step: ForwardStep, stage: ForwardStage) -> LiveTensor:
    """Return the bias per head by distance, whose buckets are first computed in 64 bits: when the
    first layer has its normed input, queries, keys and values (T5), which has one of zeros for
    cross attention; or before the layers, and for each sequence (MPNet)."""
    cells = step.tokens * step.context
    heap.passing(step.wide(4 * step.hidden), *[8 * cells] * 6, cells)
    heads = next((m.heads for m in _mixers(stage) if isinstance(m, Attention)), 0)
    across = any(isinstance(m, CrossAttention) for m in _mixers(stage))
    nbytes = step.tokens * (step.context + (step.encoder if across else 0)) * heads * step.size
    return heap.take(nbytes * (step.batch if step.style.norms_behind else 1))


def _mixers(stage: ForwardStage) -> Iterator[Mixer]:
    yield from (m for block in stage.blocks for m in block.mixers)


def _reaches(stage: ForwardStage) -> tuple[int | None, ...]:
    """Return the distinct windows of the layers."""
    return tuple(
        dict.fromkeys((m.reach if isinstance(m, Attention) else None) for m in _mixers(stage))
    )


def _turned(mixer: Mixer) -> int:
    match mixer:
        case Attention():
            return mixer.key_dim
        case Latent() | Compressed():
            return mixer.rotary
        case CrossAttention() | Shared():
            return 0
        case _ if isinstance(mixer, Recurrent):
            return 0
        case _:
            assert_never(mixer)


def _masks(heap: Heap, step: ForwardStep, stage: ForwardStage) -> tuple[Masks, list[LiveTensor]]:
    """Return the masks, one per window. sdpa needs none if all is seen and no request is shorter
    than the others, flash_attention_2 never."""
    sizes: dict[int | None, int] = {}
    tensors = []
    causal = stage.body.causal
    each = step.size if step.kernel == "eager" else 1
    for reach in _reaches(stage):
        sizes[reach] = _mask(step, reach, causal=causal)
        cells = sizes[reach] // step.batch
        if not causal and reach is not None:
            heap.passing(cells * (DISTANCES + OVERLAID * step.style.always_masked))
        conditions = heap.all([cells, cells], "activations")
        tensors.append(heap.take(sizes[reach] * each))
        heap.drop(*conditions)
    return sizes, tensors


def _mask(step: ForwardStep, reach: int | None, *, causal: bool) -> int:
    cells = step.batch * step.tokens * step.context
    always = step.style.always_masked  # Gemma3TextModel.forward: of both kinds of layers
    if step.kernel == "flash" or (not causal and reach is None and not always):
        return 0
    if step.kernel == "eager" or always:
        return cells
    if step.cache == "static" and step.tokens > 1:  # what is beyond the prompt is cut off
        return cells if reach is not None and step.tokens > reach else 0
    if step.cache == "static":
        return step.batch * step.longest
    if reach is None or step.context < reach:
        return 0
    return cells if step.tokens > 1 else step.batch * min(step.context, reach)


def layer(
    heap: Heap, step: ForwardStep, block: LayerBlock, caches: Sequence[MixerCache], masks: Masks
) -> LiveTensor:
    """Return one layer's output; the caller has the input, and frees it."""
    run = _side_by_side if step.style.parallel else _one_by_one
    if step.style.two_halves:
        run = _in_halves
    out = run(heap, step, block, caches, masks)
    for k in caches if not step.style.lingering else ():
        heap.drop(*k.scores)
        k.scores = []
    return out


def _one_by_one(
    heap: Heap, step: ForwardStep, block: LayerBlock, caches: Sequence[MixerCache], masks: Masks
) -> LiveTensor:
    x: list[LiveTensor] = []  # the sum so far, besides the caller's input
    variables: list[LiveTensor] = []  # held by the layer's variables, to its end
    for group in _sequence(block, caches):
        normed = _before(heap, step)
        out = [mixed(heap, step, m, k, masks, block) for m, k in group]
        if step.style.holds_normed:
            variables, normed = [*variables, *normed], []
        x = [_added(heap, step, x, out, normed, variables if step.style.holds_attended else None)]
    for f in block.feeds:
        normed = _before(heap, step)
        if step.style.frees_fed and isinstance(f, Dense):
            x = [_added(heap, step, x, [dense(heap, step, f, normed)], [])]
        else:
            x = [_added(heap, step, x, [feed(heap, step, f)], normed)]
    heap.drop(*variables)
    return x[0] if x else heap.take(step.wide(step.hidden))


def _in_halves(
    heap: Heap, step: ForwardStep, block: LayerBlock, caches: Sequence[MixerCache], masks: Masks
) -> LiveTensor:
    """Return the output of LongcatFlashDecoderLayer.forward: experts read the input of the first
    half's MLP, and their output is added at the layer's end."""
    shortcut, *dense_feeds = block.feeds
    x: list[LiveTensor] = []
    beside: list[LiveTensor] = []
    for m, k, f in zip(block.mixers, caches, dense_feeds, strict=True):
        normed = _before(heap, step)
        x = [_added(heap, step, x, [mixed(heap, step, m, k, masks, block)], normed)]
        normed = _before(heap, step)
        beside = beside or [feed(heap, step, shortcut)]
        x = [_added(heap, step, x, [feed(heap, step, f)], normed)]
    return heap.into(step.wide(step.hidden), *x, *beside)


def _before(heap: Heap, step: ForwardStep) -> list[LiveTensor]:
    return [norm(heap, step)] if step.style.norms_before else []


def _added(
    heap: Heap,
    step: ForwardStep,
    x: list[LiveTensor],
    made: list[LiveTensor],
    normed: list[LiveTensor],
    variables: list[LiveTensor] | None = None,
) -> LiveTensor:
    """Return the sum of the residual and `made`, normed if the class norms it. `variables` collects
    what was made, else it is freed."""
    if step.style.norms_after:
        after = norm(heap, step)
        heap.drop(*made)
        made = [after]
    heap.drop(*normed)
    total = heap.take(
        4 * step.rows * step.hidden if step.style.wide_stream else step.wide(step.hidden)
    )
    if variables is None:
        heap.drop(*made)
    else:
        variables += made
    if not step.style.norms_behind:
        heap.drop(*x)
        return total
    out = norm(heap, step)
    heap.drop(total, *x)
    return out


def _sequence(
    block: LayerBlock, caches: Sequence[MixerCache]
) -> Iterator[list[tuple[Mixer, MixerCache]]]:
    """Yield groups of mixers that read one normed input: attention beside a scan; cross attention
    is separate."""
    together = [(m, k) for m, k in zip(block.mixers, caches, strict=True) if not _crosses(m)]
    if together:
        yield together
    for m, k in zip(block.mixers, caches, strict=True):
        if _crosses(m):
            yield [(m, k)]


def _crosses(mixer: Mixer) -> bool:
    return isinstance(mixer, CrossAttention)


def _side_by_side(
    heap: Heap, step: ForwardStep, block: LayerBlock, caches: Sequence[MixerCache], masks: Masks
) -> LiveTensor:
    normed = [norm(heap, step) for _ in range(2 if step.style.two_norms else 1)]
    out = [mixed(heap, step, m, k, masks, block) for m, k in zip(block.mixers, caches, strict=True)]
    out += [feed(heap, step, f) for f in block.feeds]
    heap.drop(*normed)
    return heap.into(step.wide(step.hidden), *out)


def mixed(
    heap: Heap, step: ForwardStep, mixer: Mixer, cache: MixerCache, masks: Masks, block: LayerBlock
) -> LiveTensor:
    """Return the output of one mixer, as wide as the model."""
    match mixer:
        case Attention():
            return _plain(heap, step, mixer, cache, masks[mixer.reach], block)
        case Latent():
            return latent(heap, step, mixer, cache, masks[None], block.query_rank)
        case Compressed():
            return compressed(heap, step, mixer, cache, masks[None], block.query_rank)
        case CrossAttention():
            return cross(heap, step, mixer, cache)
        case Shared():
            return queries_alone(heap, step, block, masks)
        case _ if isinstance(mixer, Recurrent):
            return scan(heap, step, mixer, cache)
        case _:
            assert_never(mixer)


def _plain(
    heap: Heap, step: ForwardStep, mixer: Attention, cache: MixerCache, mask: int, block: LayerBlock
) -> LiveTensor:
    """Return the output of self-attention, as its class computes it."""
    if step.style.distances is not None:
        return disentangled(heap, step, mixer, step.style.distances)
    if step.style.expert_attention:
        experts = next(f for f in block.feeds if isinstance(f, Experts))
        return by_experts(heap, step, mixer, cache, mask, experts)
    return attention(heap, step, mixer, cache, mask)


def head(
    heap: Heap, step: ForwardStep, body: Body, kept: int, states: Sequence[LiveTensor]
) -> list[LiveTensor]:
    """Return the outputs of the last norm and the head, for `kept` tokens per sequence (0 is all).
    They live until `generate` has taken the last row from them."""
    final = norm(heap, step)
    outputs = body.vocab or body.labels
    kept_on = [] if body.causal or not outputs else list(states[-1:])  # the class's output
    heap.drop(*states[: len(states) - len(kept_on)])
    rows = step.batch * min(step.tokens, kept or step.tokens)
    out = heap.take(rows * outputs * step.size, "logits")
    if step.rules.float_logits and step.size < 4 and body.causal:
        out = heap.into(4 * rows * outputs, out, name="logits")
    if outputs:
        heap.drop(final, *kept_on)
        return [out]
    return [heap.rename(final, "activations"), out]


def pick(heap: Heap, step: ForwardStep, body: Body) -> None:
    """Make the float32 copy of the last row, from which the next token is taken."""
    heap.passing(4 * step.batch * body.vocab, name="logits")


# ---- encoders


def encode(heap: Heap, step: ForwardStep, part: Tower, items: int) -> list[LiveTensor]:
    """Run an encoder over all items; return what stays: the pixels, and the input for the language
    model."""
    tower = replace(
        step,
        batch=items,
        tokens=part.positions,
        past=0,
        hidden=part.hidden,
        style=ClassStyle(float_norms=False, rotary=False),
        packed=None,
    )
    pixels = heap.take(4 * tower.rows * part.patch)
    cast = heap.take(tower.wide(part.patch) if step.size < 4 else 0)
    x = heap.into(tower.wide(part.hidden), cast)
    for _ in range(min(part.layers, 2)):  # a layer leaves nothing, so two are like all
        output = _tower_layer(heap, tower, part)
        heap.drop(x)
        x = output
    out = heap.take(items * part.tokens * step.hidden * step.size)
    if step.rules.towers_kept and part.kind == "image":
        return [pixels, out, x]
    heap.drop(x)
    return [pixels, out]


def _tower_layer(heap: Heap, step: ForwardStep, tower: Tower) -> LiveTensor:
    m = Attention(
        heads=tower.heads,
        kv_heads=tower.heads,
        key_dim=tower.head_dim,
        value_dim=tower.head_dim,
        causal=False,
    )
    normed = norm(heap, step)
    mixed = attention(heap, step, m, MixerCache(), 0)
    heap.drop(normed)
    x = heap.into(step.wide(step.hidden), mixed)
    normed = norm(heap, step)
    fed = feed(heap, step, tower.feed)
    heap.drop(normed)
    return heap.into(step.wide(step.hidden), fed, x)
