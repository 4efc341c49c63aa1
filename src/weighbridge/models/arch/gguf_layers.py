"""Layers and their caches from a GGUF file's metadata: the records that a config gives, too.

    heads         attention.head_count(_kv), one number or one a layer; 0 is a layer without
    sizes         attention.key_length, value_length (and their _swa and _mla); else width / heads
    windows       attention.sliding_window, where llama.cpp heeds it; sliding_window_pattern, one
                  flag a layer or a period, else the architecture's own period
    MLA           attention.kv_lora_rank, rope.dimension_count, attention.key_length_mla
    recurrences   ssm.*, shortconv.l_cache, wkv.head_size, kda.head_dim

A file without key_length_mla has no MLA: it is from before llama.cpp supported it.

Source: llama.cpp 0c1e57098 src/llama-arch.cpp (names), src/llama-model.cpp and src/models/
(load_hparams of each architecture), src/llama-hparams.cpp.
"""

from collections.abc import Callable, Mapping, Sequence

from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.cache_layers import sharing
from weighbridge.models.arch.mixers import (
    Attention,
    GatedDelta,
    Indexer,
    KimiDelta,
    Latent,
    Layer,
    Mamba1,
    Mamba2,
    Mixer,
    Recurrent,
    Rwkv,
    ShortConv,
)
from weighbridge.models.arch.model_types import facts, index
from weighbridge.models.tensors import Array, Value

MAX_LAYERS = 4096
MAX_SIZE = (1 << 31) - 1  # int32_t in llama-hparams.h, and above what any model has
MOST = {  # key -> largest count; llama-hparams.h: LLAMA_MAX_EXPERTS 512
    "expert_count": 65536,
    "expert_used_count": 65536,
    "expert_group_count": 65536,
    "attention.head_count": 65536,
    "attention.head_count_kv": 65536,
    "ssm.conv_kernel": 65536,
    "shortconv.l_cache": 65536,
}
# architecture -> period of the layers with full attention, the last of each
PERIODS = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3n": 5,
    "cohere2": 4,
    "gpt-oss": 2,
    "olmo2": 4,
    "exaone4": 4,
    "exaone-moe": 4,
    "afmoe": 4,
    "gemma4": 6,
    "step35": 4,
    "mimo2": 6,
}
CHUNKED = {"llama4": 4}
CHUNK = 8192  # src/models/llama4.cpp: no key says it
MAMBA1 = frozenset(("mamba", "jamba"))
MAMBA2 = frozenset(
    ("mamba2", "falcon-h1", "granitehybrid", "nemotron_h", "nemotron_h_moe", "plamo2")
)
DELTA = frozenset(("qwen3next", "qwen35", "qwen35moe"))
BOTH = frozenset(("falcon-h1",))  # attention and recurrence in every layer
ENCODERS = frozenset(
    ("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "t5encoder", "clip")
)
# Architectures that llama.cpp runs as encoders, without a cache
ENCODER_GRAPHS = frozenset(
    (
        *("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3"),
        *("neo-bert", "eurobert", "t5encoder"),
    )
)
# How the names of architectures begin whose last norm is called as that of the embedding, and of
# those whose embedding is scaled
NORM_OF_EMBEDDING, SCALED_EMBEDDING = "lfm2", "gemma"
UNROTATED = {"smollm3": 4}  # every fourth layer has no rotary positions
# Those whose rotary positions must be of the whole head (llama-model.cpp, "invalid n_rot")
WHOLE_ROTATION = frozenset(("llama", "deci", "falcon", "llama-embed"))
# Those whose feed-forwards have half of the length that is written, and the model's width
HALVED_FEED, FEED_OF_WIDTH = "qwen", "arctic"


def architecture(model_type: str) -> str:
    """Return llama.cpp's architecture of `model_type`; "none" if llama.cpp has none."""
    return facts(model_type).gguf or model_type


def is_converted(arch: str) -> bool:
    """Return whether `arch` is llama.cpp's name of a known model type that is called otherwise."""
    return arch in index()["converted"]


class Keys:
    """A reader of the metadata keys of one architecture."""

    def __init__(self, metadata: Mapping[str, Value]) -> None:
        self.metadata = metadata
        named = metadata.get("general.architecture")
        if not isinstance(named, str):
            raise BadFileError(sentence("gguf.architecture"))
        self.arch = named

    def get(self, name: str) -> Value | None:
        return self.metadata.get(f"{self.arch}.{name}")

    def num(self, *names: str, default: int | None = None) -> int:
        for name in names:
            value = self.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                return self._size(name, value)
            if isinstance(value, Array):
                raise self.error(name, "must.one")
        if default is None:
            raise self.error(names[0], "is.missing")
        return default

    def each(self, name: str, count: int, default: int) -> tuple[int, ...]:
        """Return one number per layer, from a list or from one number for all layers."""
        value = self.get(name)
        if not isinstance(value, Array):
            return (self.num(name, default=default),) * count
        if value.values is None or len(value.values) < count:
            raise self.error(name, "has.layers", count=value.length, layers=count)
        return tuple(self._size(name, v) for v in value.values[:count])

    def plain(self, name: str) -> int | float | None:
        """Return a number or flag, for an array the largest; None if missing. Raises BadFileError
        for integers that are no possible size; floats (soft caps, scales) have no limit."""
        value = self.get(name)
        if isinstance(value, Array):
            value = max(value.values or (0,))
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, str):
            raise self.error(name, "must.number", value=shown(value))
        return self._size(name, value)

    def _size(self, name: str, value: object) -> int:
        """Return `value` as a size; flags count as 0 or 1, as some files have them."""
        if not isinstance(value, int):
            raise self.error(name, "must.whole", value=shown(value))
        most = MOST.get(name, MAX_SIZE)
        if not 0 <= value <= most:
            raise self.error(name, "is.no_model", value=value, most=most)
        return int(value)

    def error(self, name: str, key: str, /, **values: object) -> BadFileError:
        name, what = f"{self.arch}.{name}", sentence(key, **values)
        return BadFileError(sentence("of_key", name=name, what=what), where="GGUF")


def layers_of_gguf(metadata: Mapping[str, Value]) -> tuple[Layer, ...]:
    """Return the caches of a file's layers, without multi-token prediction layers; () for an
    encoder."""
    k = Keys(metadata)
    if k.arch in ENCODERS:
        return ()
    count = k.num("block_count") - k.num("nextn_predict_layers", default=0)
    if not 0 <= count <= MAX_LAYERS:
        raise k.error("block_count", "asks.layers", count=count, most=MAX_LAYERS)
    if k.num("wkv.head_size", default=0):
        return (Layer(mixers=(rwkv(k),)),) * count
    layers = _layers(k, count)
    shared = k.num("attention.shared_kv_layers", default=0)
    if shared and shared >= count:
        raise k.error(
            "attention.shared_kv_layers",
            "is.shared",
            shared=shared,
            count=count,
        )
    stored = count - shared
    return sharing(layers, stored) if stored < count else layers


def _layers(keys: Keys, count: int) -> tuple[Layer, ...]:
    heads = keys.each("attention.head_count", count, 0)
    name = "attention.head_count_kv"
    kv = heads if keys.get(name) is None else keys.each(name, count, 0)
    near, state = slides(keys, count), recurrence(keys)
    linear = recurrent(keys, kv, count) if state else [False] * count
    result = []
    for i in range(count):
        mixers: list[Mixer] = [state] if state and (linear[i] or keys.arch in BOTH) else []
        if kv[i] and (not linear[i] or keys.arch in BOTH):
            mixers.append(attends(keys, heads[i] or kv[i], kv[i], near=near[i]))
        result.append(Layer(mixers=tuple(mixers)))
    return tuple(result)


# Attention


def attends(keys: Keys, heads: int, kv_heads: int, *, near: bool) -> Attention | Latent:
    if keys.get("attention.key_length_mla") is not None:
        return latent(keys, heads)
    usual = keys.num("embedding_length") // max(1, heads)
    ending = "_swa" if near and keys.get("attention.key_length_swa") is not None else ""
    one = Attention(
        heads=heads,
        kv_heads=kv_heads,
        key_dim=keys.num(f"attention.key_length{ending}", default=usual),
        value_dim=keys.num(f"attention.value_length{ending}", default=usual),
    )
    if not near:
        return one
    if keys.arch in CHUNKED:
        return replace(one, chunk=CHUNK)
    return replace(one, window=keys.num("attention.sliding_window"))


def latent(keys: Keys, heads: int) -> Latent:
    rotary = keys.num("rope.dimension_count")
    indexer = keys.num("attention.indexer.key_length", default=0)
    return Latent(
        heads=heads,
        rank=keys.num("attention.kv_lora_rank"),
        rotary=rotary,
        nope=keys.num("attention.key_length_mla") - rotary,
        value_dim=keys.num("attention.value_length_mla"),
        indexer=Indexer(heads=keys.num("attention.indexer.head_count"), dim=indexer)
        if indexer
        else None,
    )


def slides(keys: Keys, count: int) -> Sequence[bool]:
    """Return for each layer whether it has a sliding window."""
    if keys.arch in CHUNKED:
        return [bool((i + 1) % CHUNKED[keys.arch]) for i in range(count)]
    if keys.arch not in PERIODS or not keys.num("attention.sliding_window", default=0):
        return [False] * count
    name = "attention.sliding_window_pattern"
    if isinstance(keys.get(name), Array):
        return [bool(v) for v in keys.each(name, count, 0)]
    step = keys.num(name, default=PERIODS[keys.arch])
    return [not step or i % step < step - 1 for i in range(count)]


# Recurrences


def mamba1(keys: Keys) -> Mamba1:
    return Mamba1(
        inner=keys.num("ssm.inner_size"),
        state=keys.num("ssm.state_size"),
        kernel=keys.num("ssm.conv_kernel"),
    )


def mamba2(keys: Keys) -> Mamba2:
    return Mamba2(
        inner=keys.num("ssm.inner_size"),
        heads=keys.num("ssm.time_step_rank"),
        groups=keys.num("ssm.group_count"),
        state=keys.num("ssm.state_size"),
        kernel=keys.num("ssm.conv_kernel"),
    )


def delta(keys: Keys) -> GatedDelta:
    heads = keys.num("ssm.time_step_rank")
    return GatedDelta(
        key_heads=keys.num("ssm.group_count"),
        value_heads=heads,
        key_dim=keys.num("ssm.state_size"),
        value_dim=keys.num("ssm.inner_size") // max(1, heads),
        kernel=keys.num("ssm.conv_kernel"),
    )


def kimi(keys: Keys) -> KimiDelta:
    return KimiDelta(
        heads=max((0, *keys.each("attention.head_count", keys.num("block_count"), 0))),
        dim=keys.num("kda.head_dim"),
        kernel=keys.num("ssm.conv_kernel"),
    )


def rwkv(keys: Keys) -> Rwkv:
    width = keys.num("embedding_length")
    return Rwkv(width=width, inner=width, head_dim=keys.num("wkv.head_size"))


KINDS: Sequence[tuple[frozenset[str], Callable[[Keys], Recurrent]]] = (
    (MAMBA1, mamba1),
    (MAMBA2, mamba2),
    (DELTA, delta),
    (frozenset(("kimi-linear",)), kimi),
    (
        frozenset(("lfm2", "lfm2moe")),
        lambda k: ShortConv(width=k.num("embedding_length"), kernel=k.num("shortconv.l_cache")),
    ),
)


def recurrence(keys: Keys) -> Recurrent | None:
    for names, reader in KINDS:
        if keys.arch in names:
            return reader(keys)
    if keys.get("ssm.conv_kernel") is not None:
        raise UnsupportedError(sentence("gguf.recurrent", arch=keys.arch))
    return None


def recurrent(keys: Keys, kv: Sequence[int], count: int) -> Sequence[bool]:
    """Return for each layer whether it is recurrent: by full_attention_interval, else if it has no
    KV heads. Nemotron-H's recurrent layers have no MLP either."""
    if keys.arch in DELTA:
        every = keys.num("full_attention_interval", default=4)
        return [bool((i + 1) % every) for i in range(count)]
    inner = keys.each("feed_forward_length", count, 0)
    alone = keys.arch.startswith("nemotron_h")
    return [kv[i] == 0 and not (alone and inner[i]) for i in range(count)]
