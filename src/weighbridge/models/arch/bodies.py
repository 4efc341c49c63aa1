"""The body of a class: what a step computes, from the class's tensors and the layers of its config.

    body(plan, config, layers) = the layers' mixers, as `cache_layers.py` read them from the config,
                                 with MLPs, heads and widths from the tensors' shapes

so a family needs no table for it. Layers without a cache (encoders) have mixers from `encoders.py`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from weighbridge.base.records import replace
from weighbridge.models.arch import encoders
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.arch.body import Body, Dense, LayerBlock, Tower
from weighbridge.models.arch.cache_layers import embeds
from weighbridge.models.arch.cache_layers import layers as layers_of
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.decoder import Decoder, Submodules
from weighbridge.models.arch.mixers import Attention, CrossAttention, Layer, Mixer
from weighbridge.models.arch.model_types import differs
from weighbridge.models.arch.roles import below_number, makes_labels, makes_logits, role_of
from weighbridge.models.arch.stacks import Layer as Parameters
from weighbridge.models.arch.stacks import LayerStack, feeds, joined, sort

LANGUAGE = "language model"
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def body(
    plan: Blueprint,
    config: Config | None,
    layers: Sequence[Layer],
    *,
    metadata: Mapping[str, Any] | None = None,
    image_size: tuple[int, int] | None = None,
    audio_seconds: float | None = None,
) -> Body:
    """Return the body of a class: its blocks, widths, encoder and towers. `layers`: each layer's
    caches (arch/cache_layers.py); `metadata`: that of a GGUF file."""
    if plan.tree is not None:
        return _as_embedding_model(_body_of_tree(plan, plan.tree, layers), config, metadata)
    stacks, others = sort(plan)
    remembered = layers or _embedder_layers(config)
    text = [s for s in stacks if s.part == LANGUAGE] or list(stacks)
    decoder = _decoder_stack(text, remembered)
    if decoder is not None:
        blocks = tuple(map(_block, _layers_of_stack(decoder, len(remembered)), remembered))
    else:
        blocks = _encoder_blocks(text, config, metadata)
    known = [p for p in others if plan.part(p.name) == LANGUAGE] or list(others)
    encoder = _encoder(stacks, decoder, remembered, config)
    towers: tuple[Tower, ...] = ()
    if plan.parts or encoder is not None or not layers:  # a text decoder does without the rules
        from weighbridge.models.arch.towers import of_stacks

        towers = of_stacks(
            stacks, others, config, image_size=image_size, audio_seconds=audio_seconds
        )
    whole = Body(
        hidden=_hidden_size(blocks, known),
        vocab=_vocabulary_size(plan, known, metadata),
        blocks=blocks,
        labels=_label_count(known),
        causal=decoder is not None or (config is not None and encoders.writes(config.model_type)),
        encoder=encoder,
        towers=towers,
    )
    return _as_embedding_model(whole, config, metadata)


def _body_of_tree(plan: Blueprint, tree: Decoder, layers: Sequence[Layer]) -> Body:
    """Return the body of a module tree; only the head's sizes come from the parameters."""
    outside = [p for p in plan.counted if below_number(p.name) is None]
    blocks = (_tree_block(*both) for both in zip(tree.layers, layers, strict=False))
    return Body(
        hidden=tree.width,
        vocab=_vocabulary_size(plan, outside, None),
        blocks=tuple(blocks),
        labels=_label_count(outside),
        causal=bool(layers),
    )


def _tree_block(parts: Submodules, layer: Layer) -> LayerBlock:
    return LayerBlock(
        mixers=layer.mixers,
        feeds=tuple(part.feed for part in parts if part.feed is not None),
        query_rank=max((part.query_rank for part in parts), default=0),
    )


# Which layers there are


def _decoder_stack(text: Sequence[LayerStack], layers: Sequence[Layer]) -> LayerStack | None:
    """Return the decoder's stack, which has at least the layers in `layers`; None without such
    layers."""
    if not layers:
        return None
    candidates = text
    if any(isinstance(m, CrossAttention) for layer in layers for m in layer.mixers):
        halves = [s for s in text if "coder" in s.path]
        candidates = [s for s in halves if "decoder" in s.path] if halves else text
    fits = [s for s in candidates if len(s.layers) >= len(layers)]
    longest = max(candidates, key=lambda s: len(s.layers), default=None)
    return min(fits, key=lambda s: len(s.layers), default=longest)


def _layers_of_stack(stack: LayerStack, count: int) -> Sequence[Parameters]:
    """Return the stack's layers without those for multi-token prediction, and without numbered
    modules that are no layers: early code numbers the embedding and the head too."""
    working = [layer for layer in stack.layers if feeds(layer)]
    return working if len(working) == count else stack.layers[:count]


def _block(parameters: Parameters, layer: Layer) -> LayerBlock:
    down = (i.param.shape[0] for i in parameters if role_of(i.param) == "q_a")
    return LayerBlock(mixers=layer.mixers, feeds=feeds(parameters), query_rank=next(down, 0))


def _embedder_layers(config: Config | None) -> tuple[Layer, ...]:
    """Return the cache layers of a language model that is used as an embedder; () for other
    models."""
    if config is None or not embeds(config.model_type):
        return ()
    return layers_of(config.sub("vlm_config"))


def _encoder_blocks(
    text: Sequence[LayerStack], config: Config | None, metadata: Mapping[str, Any] | None
) -> tuple[LayerBlock, ...]:
    if not text or (config is not None and encoders.is_pyramid(config.model_type)):
        return ()
    joint = joined(text)
    part = encoders.reading_part(config, seeing="vision" in text[0].path) if config else None
    if part is not None and differs(part.model_type, "one_layer_for_all"):
        joint = joint[:1] * part.layers("num_hidden_layers")
    return _blocks_of(joint, _mixers(part, metadata, len(joint)))


def _blocks_of(layers: Sequence[Parameters], mixers: Sequence[Mixer]) -> tuple[LayerBlock, ...]:
    """Return the blocks of a file's layers, without mixers if `mixers` is empty."""
    if not mixers:
        return tuple(LayerBlock(mixers=(), feeds=feeds(layer)) for layer in layers)
    pairs = zip(layers, mixers, strict=True)
    return tuple(LayerBlock(mixers=(mixer,), feeds=feeds(layer)) for layer, mixer in pairs)


def _mixers(
    config: Config | None, metadata: Mapping[str, Any] | None, count: int
) -> Sequence[Mixer]:
    if metadata:
        return encoders.mixers_of_gguf(metadata, count)
    return encoders.mixers(config, count) if config is not None and count else ()


def _encoder(
    stacks: Sequence[LayerStack],
    decoder: LayerStack | None,
    layers: Sequence[Layer],
    config: Config | None,
) -> Body | None:
    """Return the encoder to which a decoder cross-attends: the model's encoder half, or a tower.
    None without cross-attention."""
    crossed = any(isinstance(m, CrossAttention) for layer in layers for m in layer.mixers)
    if decoder is None or config is None or not crossed:
        return None
    halves = [s for s in stacks if "encoder" in s.path and s.part == LANGUAGE and s != decoder]
    halves = [s for s in halves if joined([s])][:1]  # the first if a class has two
    joint = joined(halves or [s for s in stacks if s.part != LANGUAGE])
    part = encoders.reading_part(config)
    if not joint or encoders.is_pyramid(part.model_type):
        return None
    blocks = _blocks_of(joint, encoders.mixers(part, len(joint)))
    return Body(hidden=_hidden_size(blocks, ()), vocab=0, blocks=blocks, causal=False)


# Widths


def _hidden_size(blocks: Iterable[LayerBlock], params: Sequence[Param]) -> int:
    """Return the hidden size: the width of the projection after the embedding, else the MLPs'
    input, else the embedding's width."""
    into = next((p for p in params if role_of(p) == "into"), None)
    if into is not None:
        return into.shape[0]
    read = Counter(f.inputs for b in blocks for f in b.feeds if isinstance(f, Dense))
    if read:
        return read.most_common(1)[0][0]
    table = _embedding(params)
    return table.shape[1] if table is not None else 0


def _embedding(params: Iterable[Param]) -> Param | None:
    tables = (p for p in params if len(p.shape) == 2)
    return next((p for p in tables if p.kind == "embedding" or "token_embd" in p.name), None)


def _vocabulary_size(
    plan: Blueprint, params: Sequence[Param], metadata: Mapping[str, Any] | None
) -> int:
    """Return the vocabulary size of the head, tied or not; 0 without a head. Files do not repeat a
    tied matrix."""
    last = (*params, *plan.counted[-2:])  # early code numbers the head as a layer
    head = next((p for p in last if p.shape and makes_logits(p.name)), None)
    if head is not None:
        return head.shape[0]
    table = _embedding(params)
    encodes = metadata is not None and _is_gguf_encoder(metadata)
    writes = metadata is not None or plan.cls.endswith(WRITERS)
    return table.shape[0] if table is not None and writes and not encodes else 0


def _label_count(params: Sequence[Param]) -> int:
    return next((p.shape[0] for p in reversed(params) if makes_labels(p.name)), 0)


def _is_gguf_encoder(metadata: Mapping[str, Any]) -> bool:
    from weighbridge.models.arch import gguf_layers  # imported here: a config does not need it

    return gguf_layers.Keys(metadata).arch in gguf_layers.ENCODERS


# What is answered


def _pools(metadata: Mapping[str, Any]) -> bool:
    from weighbridge.models.arch import gguf_layers

    return bool(gguf_layers.Keys(metadata).num("pooling_type", default=0))


def _as_embedding_model(
    whole: Body, config: Config | None, metadata: Mapping[str, Any] | None
) -> Body:
    """Return `whole` as an embedding model, which returns a vector per text, if it has no head. A
    config (bidirectional attention) or metadata (pooling) may make any model one."""
    both_ways = config is not None and config.sees_both_ways
    pooled = bool(metadata) and _pools(metadata or {})
    headless = bool(whole.blocks) and not whole.vocab and not whole.labels
    blocks = tuple(_with_causal(b, whole.hidden, causal=not both_ways) for b in whole.blocks)
    return replace(
        whole,
        blocks=blocks,
        vocab=0 if pooled else whole.vocab,
        causal=whole.causal and not both_ways,
        embeds=headless or (pooled and not whole.labels),
    )


@lru_cache(maxsize=4096)
def _with_causal(block: LayerBlock, hidden: int, *, causal: bool) -> LayerBlock:
    """Return the block with `causal` set in its attention. MLP `inputs` equal to `hidden` become 0,
    so that equal blocks compare equal."""
    return LayerBlock(
        mixers=tuple(
            replace(m, causal=False) if isinstance(m, Attention) and not causal else m
            for m in block.mixers
        ),
        feeds=tuple(replace(f, inputs=0) if f.inputs == hidden else f for f in block.feeds),
        query_rank=block.query_rank,
    )
