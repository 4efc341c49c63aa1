"""The encoders of images and sounds, whose output joins the prompt.

    pixels -> positions x hidden -> layers that see all of an item, or a window -> tokens x D

All items of all requests go through in one pass. The pixels stay until generation ends, and so
does what the last layer of a tower for images made, since generate encodes images itself (5.19).

Source: transformers 5.23 models/siglip/modeling_siglip.py, models/qwen2_5_vl (vision blocks),
models/qwen2_audio; the pixel values are in float32 until the tower's dtype is taken.
"""

from dataclasses import replace

from weighbridge.arch.body import Tower
from weighbridge.arch.mixers import Attention
from weighbridge.components.activations import Heap, LiveTensor
from weighbridge.engines.transformers.attending import attention
from weighbridge.engines.transformers.feeding import feed
from weighbridge.engines.transformers.keeping import Kept
from weighbridge.engines.transformers.step import ClassStyle, ForwardStep, norm


def encode(heap: Heap, s: ForwardStep, t: Tower, items: int) -> list[LiveTensor]:
    """What stays behind it: the pixels, and what the language model is given."""
    tower = replace(
        s,
        batch=items,
        tokens=t.positions,
        past=0,
        hidden=t.hidden,
        style=ClassStyle(float_norms=False, rotary=False),
        packed=None,
    )
    pixels = heap.take(4 * tower.rows * t.patch)
    cast = heap.take(tower.wide(t.patch) if s.size < 4 else 0)
    x = heap.into(tower.wide(t.hidden), cast)
    for _ in range(min(t.layers, 2)):  # a layer leaves nothing behind, so any two are as all
        made = _layer(heap, tower, t)
        heap.drop(x)
        x = made
    out = heap.take(items * t.tokens * s.hidden * s.size)
    if s.rules.towers_kept and t.kind == "image":
        return [pixels, out, x]
    heap.drop(x)
    return [pixels, out]


def _layer(heap: Heap, s: ForwardStep, t: Tower) -> LiveTensor:
    m = Attention(
        heads=t.heads,
        kv_heads=t.heads,
        key_dim=t.head_dim,
        value_dim=t.head_dim,
        causal=False,
    )
    normed = norm(heap, s)
    mixed = attention(heap, s, m, Kept(), 0)
    heap.drop(normed)
    x = heap.into(s.wide(s.hidden), mixed)
    normed = norm(heap, s)
    fed = feed(heap, s, t.feed)
    heap.drop(normed)
    return heap.into(s.wide(s.hidden), fed, x)
