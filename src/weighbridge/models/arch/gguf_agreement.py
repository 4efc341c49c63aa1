"""Agreement of a GGUF file's metadata and its tensors: both must describe one model.

llama.cpp derives the shape of every tensor from the metadata, and loads no file in which a tensor
has another shape, is missing, or is left over: no program ever ran whose size could be derived from
the metadata of such a file. So the file is refused, with the key and the tensor that disagree. For
an architecture in none of our tables it is only a note, and so are things that llama.cpp does not
compare: the answer is then about the tensors.

    embedding_length      the width of token_embd, output and output_norm
    block_count           the blocks that there are; blocks that guess tokens may be left out
    head_count(_kv)       times key_length, value_length: rows of attn_q, attn_k, attn_v, attn_qkv
    feed_forward_length   what ffn_down reads, and what ffn_up gives (twice that with gates)
    expert_count          matrices of each ffn_..._exps, and rows of ffn_gate_inp; none is none
    all of them           every tensor of the class, where the metadata tell of which it is

Source: llama-cpp-python 0.3.25, vendor/llama.cpp/src: models/*.cpp (load_arch_tensors),
llama-model.cpp (load_hparams, create_tensor_qkv), llama-model-loader.cpp (check_tensor_dims,
done_getting_tensors).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import clauses, sentence
from weighbridge.models.arch.builder import known
from weighbridge.models.arch.gguf_classes import compared
from weighbridge.models.arch.gguf_layers import (
    DELTA,
    FEED_OF_WIDTH,
    HALVED_FEED,
    MAX_LAYERS,
    WHOLE_ROTATION,
    Keys,
    is_converted,
    layers_of_gguf,
)
from weighbridge.models.arch.mixers import Attention, Latent, Layer, Mixer
from weighbridge.models.tensors import Array, CheckpointTensor

EXPERTS = "_exps"  # substring in names of stacked experts' matrices
# Names of those whose second dimension is the model's width: all that read it
READS_WIDTH = ("attn_q", "attn_k", "attn_v", "attn_qkv", "ffn_up", "ffn_gate", "attn_norm")
NEEDED = ("block_count", "context_length", "embedding_length")
EACH_BLOCK = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")

PLAIN_FILES = (0, 1, 32)  # llama.h: LLAMA_FTYPE_ALL_F32, MOSTLY_F16, MOSTLY_BF16
MOST_SCALED = 1 << 16  # largest position scaling factor; published ones are at most 160

Shapes = Mapping[str, tuple[int, ...]]
Rows = tuple[tuple[str, ...], int, tuple[int, ...]]  # keys, the dimension, the sizes it may have


class AskedSize(NamedTuple):
    """The sizes that a metadata key allows for one dimension of a tensor, in ggml's order."""

    keys: str
    tensor: str
    dimension: int
    sizes: tuple[int, ...]  # sizes that are allowed


def check(metadata: Mapping[str, Any], tensors: Iterable[CheckpointTensor]) -> list[str]:
    """Return notes on a GGUF file whose metadata and tensors were compared. Raises BadFileError if
    llama.cpp refuses to load it."""
    if not isinstance(metadata.get("general.architecture"), str):
        return []
    tensors = tuple(tensors)
    k, shapes = Keys(metadata), {t.name: tuple(reversed(t.shape)) for t in tensors}
    differing = list(_disagreements(k, shapes))
    if not differing:
        return [*_notes(k, shapes), *_unused_file_type(k, {t.dtype for t in tensors})]
    problem = sentence("gguf.two_models", first=_first_of(differing))
    if not _is_known(k.arch):
        return [clauses(problem, sentence("gguf.believed", arch=k.arch))]
    raise BadFileError(problem, then=sentence("gguf.convert_again"))


def _first_of(lines: Sequence[str]) -> str:
    more = len(lines) - 1
    return sentence("first_of", first=lines[0], more=more) if more else lines[0]


def _is_known(arch: str) -> bool:
    return known({"model_type": arch}) or is_converted(arch)


def _disagreements(keys: Keys, shapes: Shapes) -> Iterator[str]:
    """Yield a sentence per kind of disagreement of metadata and tensors."""
    yield from _wrong_list_lengths(keys)
    yield from _block_disagreements(keys, shapes)
    yield from _undivided_heads(keys)
    reported = set[tuple[str, str]]()
    for wanted in _expected_sizes(keys, shapes):
        have = _size(shapes[wanted.tensor], wanted.dimension)
        kind = wanted.keys, wanted.tensor.rpartition(".")[0].rpartition(".")[2]
        if have not in wanted.sizes and kind not in reported:
            reported.add(kind)
            asked = " or ".join(f"{size:,}" for size in dict.fromkeys(wanted.sizes))
            yield sentence(
                "gguf.asks_for", keys=wanted.keys, asked=asked, tensor=wanted.tensor, have=have
            )


def _size(shape: tuple[int, ...], dimension: int) -> int:
    """Return the size of a ggml tensor in `dimension`; dimensions beyond its rank have size 1."""
    return shape[dimension] if dimension < len(shape) else 1


def _wrong_list_lengths(keys: Keys) -> Iterator[str]:
    """Yield a sentence per list of the metadata whose length differs from the number of blocks."""
    count = _size_or_zero(keys, "block_count")
    for name in EACH_BLOCK:
        value = keys.get(name)
        if isinstance(value, Array) and count and value.length != count:
            yield sentence(
                "gguf.each_block", arch=keys.arch, name=name, length=value.length, count=count
            )


# Blocks


def _block_disagreements(keys: Keys, shapes: Shapes) -> Iterator[str]:
    if keys.get("block_count") is None:
        return
    count, guessing = keys.num("block_count"), keys.num("nextn_predict_layers", default=0)
    numbers = {n for name in shapes if (n := _block_number(name)) is not None}
    beyond = sorted(n for n in numbers if n >= count)
    if beyond:
        yield sentence("gguf.blocks_beyond", arch=keys.arch, count=count, block=beyond[0])
    main = count - guessing
    lacking = (i for i in range(min(main, MAX_LAYERS)) if i not in numbers)
    first = next((i for i in lacking if not _is_removed_layer(keys, i, count)), None)
    alone = guessing and numbers and min(numbers) >= main  # a file of only multi-token prediction
    if numbers and first is not None and not alone:
        yield sentence("gguf.blocks_lack", arch=keys.arch, count=count, block=first)


def _block_number(name: str) -> int | None:
    kind, _, tail = name.partition(".")
    number = tail.partition(".")[0]
    return int(number) if kind == "blk" and number.isdecimal() and len(number) < 10 else None


def _is_removed_layer(keys: Keys, layer: int, count: int) -> bool:
    """Return whether architecture search removed the layer from the model (models/deci.cpp)."""
    names = "attention.head_count", "feed_forward_length"
    return all(
        isinstance(keys.get(name), Array) and keys.each(name, count, 0)[layer] == 0
        for name in names
    )


# Heads


def _undivided_heads(keys: Keys) -> Iterator[str]:
    """Yield a sentence if the heads are no multiple of the KV heads, which ggml asserts."""
    with suppress(BadFileError):  # invalid numbers raise where they are read
        count = keys.num("block_count", default=0)
        heads = keys.each("attention.head_count", min(count, MAX_LAYERS), 0)
        kv = keys.each("attention.head_count_kv", min(count, MAX_LAYERS), 0)
        odd = next(((h, n) for h, n in zip(heads, kv, strict=True) if n and h % n), None)
        if odd:
            yield sentence("gguf.head_counts", arch=keys.arch, heads=odd[0], kv_heads=odd[1])
        yield from _rotary_disagreements(keys, max(heads, default=0))


def _rotary_disagreements(keys: Keys, heads: int) -> Iterator[str]:
    rotary = keys.num("rope.dimension_count", default=0)
    if not heads or not rotary or keys.arch not in WHOLE_ROTATION:
        return
    width = keys.num(
        "attention.key_length", default=keys.num("embedding_length", default=0) // heads
    )
    if width and rotary != width:
        yield sentence("gguf.rotary_width", arch=keys.arch, rotary=rotary, width=width)


# Shapes


def _expected_sizes(keys: Keys, shapes: Shapes) -> Iterator[AskedSize]:
    yield from _expected_sizes_outside(keys, shapes)
    width, layers = _size_or_zero(keys, "embedding_length"), _cache_layers(keys)
    for name in shapes:
        layer = _block_number(name)
        if layer is None or not name.endswith(".weight"):
            continue
        role = name.split(".", 2)[2].removesuffix(".weight")
        if width and role in READS_WIDTH:
            yield AskedSize(f"{keys.arch}.embedding_length", name, 0, (width,))
        yield from _expected_mlp_sizes(keys, name, role, layer)
        for m in layers[layer].mixers if layer < len(layers) else ():
            yield from _expected_mixer_sizes(keys, m, name, role)


def _expected_sizes_outside(keys: Keys, shapes: Shapes) -> Iterator[AskedSize]:
    """Yield the expected sizes of the tensors outside of blocks."""
    width, tokens = (
        _size_or_zero(keys, "embedding_length"),
        keys.metadata.get("tokenizer.ggml.tokens"),
    )
    for name in ("token_embd.weight", "output.weight", "output_norm.weight"):
        if width and name in shapes:
            yield AskedSize(f"{keys.arch}.embedding_length", name, 0, (width,))
    name = "token_embd.weight"
    if isinstance(tokens, Array) and name in shapes and _size(shapes[name], 1) < tokens.length:
        yield AskedSize("tokenizer.ggml.tokens", name, 1, (tokens.length,))


def _size_or_zero(keys: Keys, name: str) -> int:
    """Return a size in the metadata; 0 if missing or invalid, so that nothing contradicts it."""
    with suppress(BadFileError):
        return keys.num(name, default=0)
    return 0


def _cache_layers(keys: Keys) -> tuple[Layer, ...]:
    """Return the cache layers; () if the metadata lack their keys, since other checks report
    that."""
    if keys.get("attention.head_count") is None:
        return ()
    with suppress(BadFileError, UnsupportedError):
        return layers_of_gguf(keys.metadata)
    return ()


def _expected_mlp_sizes(keys: Keys, name: str, role: str, layer: int) -> Iterator[AskedSize]:
    """Yield the expected sizes of an MLP's tensors. Fused gate and up have twice the rows."""
    count, width = (
        _size_or_zero(keys, "expert_count"),
        _size_of_layer(keys, "feed_forward_length", layer),
    )
    if count and (role.endswith(EXPERTS) or role == "ffn_gate_inp"):
        dimension = 2 if role.endswith(EXPERTS) else 1
        yield AskedSize(f"{keys.arch}.expert_count", name, dimension, (count,))
    if not width or keys.arch == FEED_OF_WIDTH:
        return
    if role == "ffn_down_exps":
        each, used = (
            _size_of_layer(keys, "expert_feed_forward_length", layer),
            _size_or_zero(keys, "expert_used_count"),
        )
        # models/qwen2moe.cpp: n_ff / n_expert_used where the experts' own length is not given
        sizes = (each, width) if each else (width, width // max(1, used))
        yield AskedSize(f"{keys.arch}.expert_feed_forward_length", name, 0, sizes)
    width = width // 2 if keys.arch == HALVED_FEED else width
    if role == "ffn_down":
        yield AskedSize(f"{keys.arch}.feed_forward_length", name, 0, (width,))
    if role == "ffn_up":
        yield AskedSize(f"{keys.arch}.feed_forward_length", name, 1, (width, 2 * width))


def _size_of_layer(keys: Keys, name: str, layer: int) -> int:
    with suppress(BadFileError):
        value = keys.get(name)
        return (
            keys.each(name, layer + 1, 0)[layer]
            if isinstance(value, Array)
            else _size_or_zero(keys, name)
        )
    return 0


def _expected_mixer_sizes(
    metadata: Keys, mixer: Mixer, name: str, role: str
) -> Iterator[AskedSize]:
    asked: Mapping[str, Rows] = {}
    if isinstance(mixer, Attention):
        asked = _expected_attention_rows(metadata, mixer)
    elif isinstance(mixer, Latent):
        asked = _expected_mla_rows(mixer)
    if role in asked:
        keys, dimension, sizes = asked[role]
        named = " x ".join((f"{metadata.arch}.attention.{keys[0]}", *keys[1:]))
        yield AskedSize(named, name, dimension, sizes)


def _expected_attention_rows(metadata: Keys, attention: Attention) -> Mapping[str, Rows]:
    """Return tensor name -> expected rows, for attention. Layers with windows may have another head
    size."""
    keys = _head_sizes(metadata, "attention.key_length_swa", attention.key_dim)
    values = _head_sizes(metadata, "attention.value_length_swa", attention.value_dim)
    gates = (
        (1, 2) if metadata.arch in DELTA else (1,)
    )  # gates next to the queries: models/qwen3next.cpp
    all_three = [
        (attention.heads + attention.kv_heads) * a + attention.kv_heads * b
        for a in keys
        for b in values
    ]
    return {
        "attn_q": (
            ("head_count", "key_length"),
            1,
            tuple(attention.heads * dim * n for dim in keys for n in gates),
        ),
        "attn_k": (
            ("head_count_kv", "key_length"),
            1,
            tuple(attention.kv_heads * dim for dim in keys),
        ),
        "attn_v": (
            ("head_count_kv", "value_length"),
            1,
            tuple(attention.kv_heads * d for d in values),
        ),
        "attn_output": (
            ("head_count", "value_length"),
            0,
            tuple(attention.heads * d for d in values),
        ),
        "attn_qkv": (("head_count", "head_count_kv", "key_length"), 1, tuple(all_three)),
    }


def _head_sizes(keys: Keys, name: str, width: int) -> tuple[int, ...]:
    near = _size_or_zero(keys, name)
    return (width, near) if near and near != width else (width,)


def _expected_mla_rows(latent: Latent) -> Mapping[str, Rows]:
    queries: Rows = (
        ("head_count", "key_length_mla"),
        1,
        (latent.heads * (latent.nope + latent.rotary),),
    )
    return {
        "attn_kv_a_mqa": (
            ("kv_lora_rank", "rope.dimension_count"),
            1,
            (latent.rank + latent.rotary,),
        ),
        "attn_q": queries,
        "attn_q_b": queries,
        "attn_output": (("head_count", "value_length_mla"), 0, (latent.heads * latent.value_dim,)),
    }


# Notes without an error


def _notes(keys: Keys, shapes: Shapes) -> Iterator[str]:
    if keys.get("context_length") == 0:
        yield sentence("no_context_length", arch=keys.arch)
    rows = _size(shapes.get("token_embd.weight", ()), 1)
    tokens = keys.metadata.get("tokenizer.ggml.tokens")
    expected = (
        (f"{keys.arch}.vocab_size", _size_or_zero(keys, "vocab_size")),
        ("tokenizer.ggml.tokens", tokens.length if isinstance(tokens, Array) else 0),
    )
    for name, count in expected if "token_embd.weight" in shapes else ():
        if count and count != rows:
            yield sentence("vocabulary_rows", name=name, count=count, rows=rows)
    yield from _scaled_positions(keys)
    yield from _unloadable(keys, shapes)
    if (kind := keys.metadata.get("general.type")) in ("adapter", "imatrix"):
        yield sentence("gguf.general_type", kind=kind)


def _unused_file_type(keys: Keys, dtypes: set[DType]) -> Iterator[str]:
    """Yield a note if no tensor has the file's declared type; llama.cpp only prints that type."""
    claimed, packs = keys.metadata.get("general.file_type"), any(t.block > 1 for t in dtypes)
    if isinstance(claimed, int) and dtypes and (claimed in PLAIN_FILES) == packs:
        yield sentence(f"gguf.file_type.{'plain' if packs else 'packed'}", claimed=claimed)


def _unloadable(keys: Keys, shapes: Shapes) -> Iterator[str]:
    """Yield notes on why llama.cpp would not load the file; the answer still covers the file's
    tensors."""
    absent = [name for name in NEEDED if _is_known(keys.arch) and keys.get(name) is None]
    lacks: list[str] = [sentence("not_there", name=f"{keys.arch}.{name}") for name in absent]
    lacks += _expert_notes(keys, shapes)
    whole = compared(keys.metadata, {name: tuple(reversed(ne)) for name, ne in shapes.items()})
    if whole is not None and whole.odd:
        lacks.append(sentence("gguf.of", cls=whole.cls, arch=keys.arch, odd=_first_of(whole.odd)))
    yield from (sentence("gguf.may_not_load", why=each) for each in lacks)


def _expert_notes(keys: Keys, shapes: Shapes) -> Iterator[str]:
    count, used = _size_or_zero(keys, "expert_count"), _size_or_zero(keys, "expert_used_count")
    if count and not any(EXPERTS in name for name in shapes):
        yield sentence("gguf.no_experts", arch=keys.arch, count=count)
    if used and not count:
        yield sentence("gguf.no_expert_count", arch=keys.arch, used=used)


def _scaled_positions(keys: Keys) -> Iterator[str]:
    """Yield a note if the context length exceeds the scaled positions; llama.cpp uses it
    unchanged."""
    original, factor = (
        keys.get(f"rope.scaling.{name}") for name in ("original_context_length", "factor")
    )
    length = keys.get("context_length")
    if not isinstance(length, int) or not isinstance(factor, int | float):
        return
    if not 0 < factor <= MOST_SCALED:
        yield sentence("unscaled_factor", arch=keys.arch, factor=factor)
    elif isinstance(original, int) and 0 < original * factor < length:
        yield (
            sentence(
                "gguf.stretched",
                arch=keys.arch,
                length=length,
                original=original,
                factor=factor,
                reach=int(original * factor),
            )
        )
