"""Claims of a file that no model can be true to: refused before anything is computed from them.

    heads       a whole number of them over each of keys and values, none wider than a kernel takes
    experts     a token uses no more than there are (`families/`, where the tensors are made)
    positions   a length of 0 is none

The rules are of what was read (`mixers.py`), not of keys, so that a config and the metadata of a
GGUF file are held against the same ones, and `load`, `infer`, `train` and `fit` say the same.

Source: transformers 5.23 models/llama/modeling_llama.py (num_key_value_groups, repeat_kv: what the
division leaves has no partner), configuration_utils.py (validate_layer_type).
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from weighbridge.arch.config import Config
from weighbridge.arch.longest import NAMES
from weighbridge.wording import shown

if TYPE_CHECKING:
    from weighbridge.arch.mixers import Attention, CrossAttention, Layer

HEAD = 1 << 16  # the widest that a kernel of attention has (torch cutlassB.h)


def impossible(layers: "Iterable[Layer]") -> str | None:
    """Return what the first layer that cannot be has; None where all can be."""
    from weighbridge.arch.mixers import Attention, CrossAttention  # whose layers are at hand

    seen = set[int]()  # like layers are one object
    for number, layer in enumerate(layers):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        for mixer in layer.mixers:
            if isinstance(mixer, Attention | CrossAttention):
                wrong = next(wrong_attention(mixer), None)
                if wrong is not None:
                    return f"layer {number} has {wrong}"
    return None


def wrong_attention(attention: "Attention | CrossAttention") -> Iterator[str]:
    """Sentences about what these sizes cannot be, after "it has"."""
    for size, what in ((attention.key_dim, "keys"), (attention.value_dim, "values")):
        if not 0 < size <= HEAD:
            yield f"heads whose {what} are {size:,} numbers wide: 1 to {HEAD:,} can be computed"
    if attention.heads < 1 or attention.kv_heads < 1:
        yield f"{attention.heads:,} heads over {attention.kv_heads:,} of keys and values"
    elif attention.heads % attention.kv_heads:
        less = (
            "more than heads"
            if attention.kv_heads > attention.heads
            else "which does not divide them"
        )
        yield f"{attention.heads:,} heads over {attention.kv_heads:,} of keys and values, {less}"


def contradictions(c: Config) -> Iterator[str]:
    """Yield what keys of a config, and of those within it, say that no class accepts: (place and
    sentence), the outermost first. What a blueprint or the layers are made of was read before."""
    for part in c.tree():
        for name in NAMES:
            if type(part.raw.get(name)) is int and part.raw[name] == 0:
                yield f"{part.where}: {name} is 0: a model of no position reads nothing"
        yield from (f"{part.where}: {what}" for what in _undivided(part))


def _undivided(c: Config) -> Iterator[str]:
    """A width that is no multiple of its heads, where nothing says how wide a head is.

    transformers 5.23 models/llama/configuration_llama.py (validate_architecture) refuses it, and
    models/gpt_neox; other classes round the size of a head down. No published config has it.
    """
    width, heads = c.raw.get("hidden_size"), c.raw.get("num_attention_heads")
    if type(width) is not int or type(heads) is not int or heads < 1 or width % heads == 0:
        return
    if any(c.raw.get(name) for name in OF_HEADS) or c.default("head_dim"):
        return
    yield (
        f"hidden_size {width:,} is no multiple of num_attention_heads {heads:,}, and no head_dim"
        " says how wide a head is"
    )


def doubts(c: Config) -> Iterator[str]:
    """Yield what a config says twice and not alike, with what is taken: for a note.

    transformers 5.23 configuration_utils.py (__post_init__): `dtype` wins over the older name.
    """
    for part in c.tree():
        older, newer = part.raw.get("torch_dtype"), part.raw.get("dtype")
        if older and newer and str(older) != str(newer):
            yield (
                f"{part.where}: dtype is {shown(newer)} and torch_dtype {shown(older)}: the first"
                " is taken, as transformers does since 4.56; older releases read the second"
            )


OF_HEADS = ("head_dim", "attention_head_dim", "qk_nope_head_dim", "kv_lora_rank", "kv_channels")
