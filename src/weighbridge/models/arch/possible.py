"""Values of a file that no model can have: refused before anything is computed from them.

    heads       a multiple of the KV heads, with sizes up to the widest that a kernel takes
    experts     a token uses no more than there are (`families/`, where the tensors are made)
    groups      of experts: they divide these, and a token uses no more than there are
    positions   a length of 0 is none, nor one below, nor a text where the class has a number

The rules are about the records that were read (`mixers.py`), not about keys, so that a config and
the metadata of a GGUF file are checked alike, and `load`, `infer`, `train` and `fit` agree.

Source: transformers 5.23 models/llama/modeling_llama.py (num_key_value_groups, repeat_kv: the
remainder of the division has no partner), configuration_utils.py (validate_layer_type; a strict
dataclass, whose fields refuse values of other types).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from weighbridge.base.sentences import about, sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.longest import NAMES

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Attention, CrossAttention, Layer

HEAD = 1 << 16  # largest head size of any attention kernel, in elements (torch cutlassB.h)


def impossible(layers: "Iterable[Layer]") -> str | None:
    """Return why the first impossible layer cannot exist; None if all are possible."""
    from weighbridge.models.arch.mixers import Attention, CrossAttention  # whose layers are at hand

    seen = set[int]()  # equal layers are one object
    for number, layer in enumerate(layers):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        for mixer in layer.mixers:
            if isinstance(mixer, Attention | CrossAttention):
                wrong = next(wrong_attention(mixer), None)
                if wrong is not None:
                    return sentence("layer_has", number=number, what=wrong)
    return None


def wrong_attention(attention: "Attention | CrossAttention") -> Iterator[str]:
    """Yield texts on impossible sizes of attention, to follow "it has"."""
    for size, what in ((attention.key_dim, "keys"), (attention.value_dim, "values")):
        if not 0 < size <= HEAD:
            yield sentence(f"heads_wide.{what}", size=size, most=HEAD)
    if attention.heads < 1 or attention.kv_heads < 1:
        yield sentence("heads_over", heads=attention.heads, kv_heads=attention.kv_heads)
    elif attention.heads % attention.kv_heads:
        less = "heads_over.more" if attention.kv_heads > attention.heads else "heads_over.uneven"
        yield sentence(less, heads=attention.heads, kv_heads=attention.kv_heads)


def contradictions(c: Config) -> Iterator[str]:
    """Yield a sentence, with its place, for each key that no class accepts, in a config and its
    nested ones, the outermost first. Keys of the blueprint or the layers are checked before. Raises
    BadFileError for a length that is text."""
    for part in c.tree():
        for name in NAMES:
            if isinstance(part.raw.get(name), str) and part.default(name):
                part.num(name)
            if type(part.raw.get(name)) is int and part.raw[name] <= 0:
                number = part.raw[name]
                yield about(part.where, sentence("no_position", name=name, number=number))
        yield from (
            about(part.where, what)
            for what in (*_undivided_width(part), *_wrong_expert_groups(part))
        )


def _undivided_width(c: Config) -> Iterator[str]:
    """Yield a sentence if the width is no multiple of the heads and no head size is given.

    transformers 5.23 models/llama/configuration_llama.py (validate_architecture) refuses it, and
    models/gpt_neox; other classes round the size of a head down. No published config has it.
    """
    width, heads = c.raw.get("hidden_size"), c.raw.get("num_attention_heads")
    if type(width) is not int or type(heads) is not int or heads < 1 or width % heads == 0:
        return
    if any(c.raw.get(name) for name in OF_HEADS) or c.default("head_dim"):
        return
    yield sentence("no_multiple_of_heads", width=width, heads=heads)


def _wrong_expert_groups(c: Config) -> Iterator[str]:
    """Yield a sentence if expert groups do not divide the experts, or a token uses more groups than
    there are (transformers 5.23 models/deepseek_v3: a view of n_group groups, the topk_group
    best)."""
    groups, used = c.raw.get("n_group"), c.raw.get("topk_group")
    experts = c.raw.get("n_routed_experts", c.raw.get("num_experts"))
    if type(groups) is not int or groups < 1 or type(experts) is not int or not experts:
        return
    if experts % groups:
        yield sentence("expert_groups", experts=experts, groups=groups)
    if type(used) is int and used > groups:
        yield sentence("topk_group", used=used, groups=groups)


def doubts(c: Config, *, vouched: bool) -> Iterator[str]:
    """Yield notes on a config's contradictory or unknown values, with the values in use. Catalogue
    entries are `vouched` for and have no unknown ones.

    transformers 5.23 configuration_utils.py (__post_init__): `dtype` wins over the older name.
    """
    for part in c.tree():
        older, newer = part.raw.get("torch_dtype"), part.raw.get("dtype")
        if older and newer and str(older) != str(newer):
            yield sentence("two_dtypes", where=part.where, newer=shown(newer), older=shown(older))
        if not vouched:
            yield from (about(part.where, what) for what in _odd_values(part))


def _odd_values(c: Config) -> Iterator[str]:
    yield from _stated_twice(c)
    yield from _scaling_doubts(c)
    dtype = str(c.raw.get("dtype", c.raw.get("torch_dtype")))
    if dtype.startswith(NO_FLOATS):
        yield sentence("no_float", dtype=shown(dtype))


def _stated_twice(c: Config) -> Iterator[str]:
    text = c.raw.get("text_config")
    if isinstance(text, Mapping):
        odd = [key for key in TEXT if None not in (c.raw.get(key), text.get(key))]
        odd = [key for key in odd if c.raw[key] != text[key]]
        for key in odd:
            outer, inner = shown(c.raw[key]), shown(text[key])
            yield sentence("twice_in_text", key=key, outer=outer, inner=inner)


def _scaling_doubts(c: Config) -> Iterator[str]:
    scaling = c.raw.get("rope_scaling") or c.raw.get("rope_parameters")
    if not isinstance(scaling, Mapping):
        return
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    original, longest = scaling.get("original_max_position_embeddings"), c.raw.get(NAMES[1])
    if isinstance(kind, str) and kind not in ROTATIONS:
        yield sentence("unknown_scaling", kind=shown(kind))
    if kind in FACTORED and scaling.get("factor") is None:
        yield sentence("no_factor", kind=kind)
    if type(original) is int and type(longest) is int and original > longest:
        yield sentence("stretched_more", original=original, longest=longest)


TEXT = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "intermediate_size", "max_position_embeddings", "vocab_size"),
)
NO_FLOATS = ("complex", "int", "uint", "bool")
# transformers 5.23 modeling_rope_utils.py (ROPE_INIT_FUNCTIONS), vllm 0.33
# model_executor/layers/rotary_embedding/__init__.py (get_rope)
FACTORED = frozenset({"linear", "dynamic", "yarn", "llama3"})
ROTATIONS = FACTORED | {
    *("default", "longrope", "su", "proportional", "axial", "mrope", "deepseek_yarn", "ntk"),
    *("mllama4", "deepseek_llama_scaling", "xdrope"),
}
OF_HEADS = ("head_dim", "attention_head_dim", "qk_nope_head_dim", "kv_lora_rank", "kv_channels")
