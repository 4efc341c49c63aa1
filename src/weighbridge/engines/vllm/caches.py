"""KV caches and recurrent states of vLLM's V1 engine: bytes of a page, by kind of layer.

    page (attention)   K x tokens x (Hk e + Hv e)         K: KV heads of this rank, at least one
    page (MLA)         tokens x (r + rotary) e, replicated on every rank; the indexer's is separate
    page (state)       convolution of kernel - 1 columns, and the recurrent state

In hybrid models the block size grows until a page of attention is at least as large as a state,
which is padded up to it. How layers share blocks is in `blocks.py`.

    tokens logged      concurrency x context; before 0.21, blocks // groups x smallest block size
    in-flight tokens   those of all concurrent batches (two if asynchronous); before 0.26, of one

Source: vllm 0.33 and 0.19: v1/kv_cache_interface.py, v1/core/kv_cache_planning.py,
platforms/interface.py (_align_hybrid_block_size), model_executor/layers/mamba/mamba_utils.py,
model_executor/layers/attention/mla_attention.py (get_kv_cache_spec), models/deepseek_v4/.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never

from weighbridge.base.dtypes import BFLOAT16, FLOAT8, FLOAT32, TORCH, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Component
from weighbridge.base.records import frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import align_up, ceil_div
from weighbridge.engines.engine import Version
from weighbridge.engines.servers.cache_formats import (
    FormatNames,
    Stateful,
    field_name,
    index_key,
    local,
)
from weighbridge.engines.vllm import ENGINE
from weighbridge.engines.vllm.blocks import CachePool, RequestLoad, Spec, pool
from weighbridge.engines.vllm.rules import rules
from weighbridge.memory.components import spelled
from weighbridge.memory.components.kv_cache import (
    CacheBytes,
    Formats,
    Lengths,
    components,
    mixers,
    state,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedRecurrence,
    KimiDelta,
    Latent,
    Layer,
    LinearAttention,
    Mixer,
    Recurrent,
    Rwkv,
    Shared,
)
from weighbridge.models.arch.model_types import facts
from weighbridge.models.tensors import torch_dtype

SOURCE = "vllm 0.33 v1/core/kv_cache_planning.py, v1/kv_cache_interface.py"
BLOCK, LATENT_BLOCK, COMPRESSED_BLOCK = 16, 64, 256
LATENT_ALIGNMENT = 128  # tokens, in hybrid models: MLA decode kernels need it
PACKED_ALIGNMENT = 576  # bytes, for pages of DeepSeek-V4
WINDOW_BLOCK = 64
STATE_BLOCKS = {4: 4, 128: 8}  # compression rate -> block size of tokens not yet compressed
PER_HEAD = {
    "int8_per_token_head": TORCH["int8"],
    "fp8_per_token_head": TORCH["float8_e4m3fn"],
    "int4_per_token_head": TORCH["uint4"],
}
NAMES = FormatNames(
    name=ENGINE.name,
    plain={
        "float16": "float16",
        "bfloat16": "bfloat16",
        "fp8": "float8_e4m3fn",
        "fp8_e4m3": "float8_e4m3fn",
        "fp8_e5m2": "float8_e5m2",
        "fp8_inc": "float8_e4m3fn",
        "fp8_ds_mla": "float8_e4m3fn",
    },
    per_head=PER_HEAD,
    fours=("nvfp4", "nvfp4_4over6"),
    latents=("nvfp4_ds_mla",),
)
LACKED = Rwkv | GatedRecurrence  # mixers vLLM has no cache for


@frozen_record
class VllmCacheSetting:
    """Settings that size the caches. `context` is max_model_len; None means vLLM's default."""

    context: int
    sequences: int = 1
    dtype: DType = BFLOAT16
    kv_cache_dtype: str = "auto"
    version: Version = ENGINE.newest
    block_size: int | None = None
    max_num_batched_tokens: int = 8192
    asynchronous: bool = True
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    ssm_dtype: DType | None = None  # None: same as the convolution state
    align: bool = False  # prefix caching of states: one more state block per request
    speculative: int = 0  # num_speculative_tokens: as many more state blocks
    context_parallel: int = 1  # decode_context_parallel_size
    hybrid: bool = True  # False: --disable-hybrid-kv-cache-manager
    encoder: int = 0
    images: int = 1

    @property
    def lengths(self) -> Lengths:
        return Lengths(context=self.context, encoder=self.encoder, images=self.images)

    @property
    def load(self) -> RequestLoad:
        return self.of(self.context, self.max_num_batched_tokens)

    @property
    def decoding(self) -> RequestLoad:
        """Return the load of a decoding request: blocks that left its sliding windows are freed."""
        return self.of(self.context, 1 + self.speculative)

    def of(self, context: int, tokens: int) -> RequestLoad:
        """Return the load of a request of `context` tokens, in batches of `tokens`."""
        batches = self.pipeline_parallel
        if rules(self.version).in_flight and self.asynchronous:
            batches += 1
        if not rules(self.version).in_flight:
            batches = 1
        return RequestLoad(
            context=ceil_div(context, self.context_parallel),
            in_flight=batches * tokens,
            states=(2 if self.align else 1) + self.speculative,
        )


def ssm_dtype(c: Config) -> DType | None:
    """Return the state dtype that `--mamba-ssm-cache-dtype auto` resolves to, None for vLLM's
    default. Configs of Qwen 3.5 and Nemotron-H name it; Nemotron-H defaults to float32."""
    known = facts(c.model_type).vllm
    if not known.states_key:
        return None
    text = c.sub("text_config") if c.has("text_config") else c
    named = text.word(known.states_key, default=known.states_dtype)
    return torch_dtype(named, c.where) if named else None


# Pages


def _attention(attention: Attention, setting: VllmCacheSetting, tokens: int) -> Iterator[Spec]:
    page = tokens * token(attention, setting)
    if attention.chunk is not None and setting.hybrid:
        yield Spec(kind="chunked", page=page, tokens=tokens, reach=attention.chunk)
    elif attention.window is not None and setting.hybrid:
        yield Spec(kind="sliding", page=page, tokens=tokens, reach=attention.window)
    else:
        yield Spec(kind="full", page=page, tokens=tokens)
    if attention.indexer:
        yield Spec(
            kind="full", page=tokens * setting.dtype.size(attention.indexer.dim), tokens=tokens
        )


def _latent(latent: Latent, setting: VllmCacheSetting, tokens: int) -> Iterator[Spec]:
    yield Spec(kind="full", page=tokens * token(latent, setting), tokens=tokens, latent=True)
    if latent.indexer:
        yield Spec(kind="full", page=tokens * index_key(latent.indexer), tokens=tokens, latent=True)


def token(mixer: Attention | Latent | CrossAttention, setting: VllmCacheSetting) -> int:
    """Return the KV cache bytes of one token in one layer, on one rank."""
    if not isinstance(mixer, Latent):
        heads: int = mixer.kv_heads * NAMES.head(
            setting.kv_cache_dtype, setting.dtype, mixer.key_dim, mixer.value_dim
        )
        return heads
    return NAMES.latent(
        setting.kv_cache_dtype,
        setting.dtype,
        mixer.rank,
        mixer.rotary,
        sparse=mixer.indexer is not None,
    )


def _cross(cross: CrossAttention, setting: VllmCacheSetting, tokens: int) -> Iterator[Spec]:
    page, seen = tokens * token(cross, setting), setting.lengths.crossed(cross)
    yield Spec(kind="cross", page=page, tokens=tokens, encoder=seen)


def _compressed(compressed: Compressed, setting: VllmCacheSetting, tokens: int) -> Iterator[Spec]:
    """Yield the caches of DeepSeek-V4's attention: sliding window, compressed tokens, indexer keys,
    tokens not yet compressed (keys and gates in float32, twice as wide if groups overlap)."""

    def padded(nbytes: int) -> int:
        return align_up(nbytes, PACKED_ALIGNMENT)

    row = NAMES.packed_row(compressed.dim, compressed.rotary)
    window = padded(WINDOW_BLOCK * row)
    yield Spec(
        kind="sliding", page=window, tokens=WINDOW_BLOCK, reach=compressed.window, latent=True
    )
    if compressed.rate == 1:
        return
    rows = tokens // compressed.rate
    yield Spec(kind="full", page=padded(rows * row), tokens=tokens, latent=True)
    widths = [compressed.dim]
    if compressed.indexer:
        widths.append(compressed.indexer.dim)
        yield Spec(
            kind="full",
            page=padded(rows * index_key(compressed.indexer)),
            tokens=tokens,
            latent=True,
        )
    few, twice = STATE_BLOCKS.get(compressed.rate, compressed.rate), 2 if compressed.overlaps else 1
    for width in widths:
        waiting = padded(few * 2 * twice * width * FLOAT32.nbytes)
        yield Spec(
            kind="sliding", page=waiting, tokens=few, reach=twice * compressed.rate, latent=True
        )


def _state(stateful: Stateful, setting: VllmCacheSetting) -> Iterator[Spec]:
    yield Spec(kind="state", page=state(stateful, _state_formats(stateful, setting)))


def _state_formats(stateful: Stateful, setting: VllmCacheSetting) -> Formats:
    """Return the dtypes of a state: Kimi Linear's is float32 by default, lightning attention's
    always the cache dtype."""
    state_dtype = setting.ssm_dtype or (
        FLOAT32 if isinstance(stateful, KimiDelta) else setting.dtype
    )
    return Formats(
        conv=setting.dtype,
        state=setting.dtype if isinstance(stateful, LinearAttention) else state_dtype,
    )


def _specs(mixer: Mixer, setting: VllmCacheSetting, tokens: int) -> Iterator[Spec]:
    """Yield the caches of one mixer with blocks of `tokens`. Raises UnsupportedError for mixers
    vLLM has no cache for."""
    match mixer:
        case Attention():
            return _attention(mixer, setting, tokens)
        case Latent():
            return _latent(mixer, setting, tokens)
        case Compressed():
            return _compressed(mixer, setting, tokens)
        case CrossAttention():
            return _cross(mixer, setting, tokens)
        case Shared():
            return iter(())
        case _ if isinstance(mixer, LACKED):
            release = f"{setting.version[0]}.{setting.version[1]}"
            raise UnsupportedError(sentence("no_cache_in", release=release, name=field_name(mixer)))
        case _ if isinstance(mixer, Stateful):
            return _state(mixer, setting)
        case _:
            assert_never(mixer)


def block_tokens(mixers_of_rank: list[Mixer], setting: VllmCacheSetting) -> int:
    """Return the block size in tokens: the flag's or the backend's, increased for large states."""
    latent = any(isinstance(m, Latent) for m in mixers_of_rank)
    compressed = any(isinstance(m, Compressed) for m in mixers_of_rank)
    usual = COMPRESSED_BLOCK if compressed else LATENT_BLOCK if latent else BLOCK
    tokens = setting.block_size or usual
    rows = [token(m, setting) for m in mixers_of_rank if isinstance(m, Attention | Latent)]
    states = [p.page for m in mixers_of_rank for p in _states_of(m, setting)]
    if not rows or not states:
        return tokens
    unit = max(tokens, LATENT_ALIGNMENT if latent else BLOCK)
    return max(tokens, unit * ceil_div(max(states), unit * max(rows)))


def _states_of(mixer: Mixer, setting: VllmCacheSetting) -> Iterator[Spec]:
    if isinstance(mixer, Stateful):
        yield from _state(mixer, setting)


def specs(layers: Iterable[Layer], setting: VllmCacheSetting) -> list[Spec]:
    """Return the spec of every cache of one rank."""
    every = list(mixers(layers))
    shares = {m: local(m, setting.tensor_parallel) for m in dict.fromkeys(every)}
    tokens = block_tokens(list(shares.values()), setting)
    specs_of = {m: tuple(_specs(share, setting, tokens)) for m, share in shares.items()}
    return _padded([spec for m in every for spec in specs_of[m]])


def _padded(specs_of: list[Spec]) -> list[Spec]:
    """Return the specs with states padded to the largest attention page."""
    pages = [spec.page for spec in specs_of if spec.kind != "state"]
    if not pages or len(pages) == len(specs_of):
        return specs_of
    page = max(pages)
    return [replace(p, page=max(page, p.page)) if p.kind == "state" else p for p in specs_of]


def plan(layers: Iterable[Layer], setting: VllmCacheSetting) -> CachePool:
    every = list(layers)
    packed = any(isinstance(m, Compressed) for m in mixers(every))
    packing = rules(setting.version).packing
    return pool(specs(every, setting), packed=packed, packing=packing)


def content(layers: Iterable[Layer], setting: VllmCacheSetting) -> CacheBytes:
    """Return the bytes of one request's cached tokens and states on one rank, not rounded up to
    blocks."""
    return contents(Counter(mixers(layers)), setting)


def contents(kinds: Mapping[Mixer, int], setting: VllmCacheSetting) -> CacheBytes:
    """Return the same as `content` for layers counted by mixer."""
    shares = [(local(m, setting.tensor_parallel), n) for m, n in kinds.items()]
    return CacheBytes(
        kv=sum(n * _content(m, setting) for m, n in shares),
        state=sum(n * p.page for m, n in shares for p in _states_of(m, setting)),
    )


def _content(mixer: Mixer, setting: VllmCacheSetting) -> int:
    match mixer:
        case CrossAttention():
            return _unit(mixer, setting) * setting.lengths.crossed(mixer)
        case Attention():
            return _unit(mixer, setting) * (
                setting.context if mixer.reach is None else min(setting.context, mixer.reach)
            )
        case Latent():
            return _unit(mixer, setting) * setting.context
        case Compressed():
            row, key = NAMES.packed_row(mixer.dim, mixer.rotary), index_key(mixer.indexer)
            past = setting.context // mixer.rate * (row + key) if mixer.rate > 1 else 0
            return min(setting.context, mixer.window) * row + past
        case Shared():
            return 0
        case _ if isinstance(mixer, Recurrent):
            return 0
        case _:
            assert_never(mixer)


def _unit(mixer: Mixer, setting: VllmCacheSetting) -> int:
    """Return the bytes one token adds."""
    return sum(p.page for p in _specs(mixer, setting, 1))


def needed(layers: Iterable[Layer], setting: VllmCacheSetting) -> int:
    """Return the bytes of the blocks of all requests."""
    pool_of = plan(layers, setting)
    return drawn(pool_of, setting) * pool_of.block


def drawn(planned: CachePool, setting: VllmCacheSetting) -> int:
    """Return the blocks of all requests together. One holds a prefill step's in-flight tokens, the
    others decode (block_pool.py: blocks behind a window are freed first)."""
    others = (setting.sequences - 1) * planned.request(setting.decoding)
    return planned.request(setting.load) + others if setting.sequences else 0


def together(planned: CachePool, setting: VllmCacheSetting, available: int) -> float:
    """Return how many requests fit in `available` bytes: one in prefill, the others in decode."""
    free = planned.count(available) - planned.request(setting.load)
    return 1 + free / planned.request(setting.decoding)


def logged(planned: CachePool, setting: VllmCacheSetting, available: int) -> int:
    """Return the tokens that vLLM logs as "GPU KV cache size" for `available` bytes."""
    if rules(setting.version).logged_by_groups:
        return planned.tokens_by_groups(available, setting.context) * setting.context_parallel
    return int(planned.concurrency(available, setting.load) * setting.context)


def caches(layers: Iterable[Layer], setting: VllmCacheSetting) -> tuple[Component, ...]:
    every = tuple(layers)
    return parts(Counter(mixers(every)), plan(every, setting), setting)


def parts(
    kinds: Mapping[Mixer, int], planned: CachePool, setting: VllmCacheSetting
) -> tuple[Component, ...]:
    """Return components for cached tokens, for states, and for what blocks add: partly filled last
    blocks, in-flight tokens and padded pages."""
    content_of, count = contents(kinds, setting).times(setting.sequences), drawn(planned, setting)
    total = count * planned.block
    formula = (
        f"{count:,} blocks x {planned.block:,} bytes in {len(planned.groups)} groups, of "
        f"{setting.sequences:,} requests"
    )
    others = CacheBytes(kv=max(0, total - content_of.kv - content_of.state))
    here = {local(m, setting.tensor_parallel): n for m, n in kinds.items()}
    dtype = setting.dtype if setting.kv_cache_dtype == "auto" else FLOAT8
    formula_of_tokens = spelled.cache(
        here, content_of.kv, batch=setting.sequences, tokens=(setting.context,), dtype=dtype
    )
    return (
        *components(
            content_of,
            formula=formula_of_tokens or f"{setting.sequences} x {setting.context:,} tokens",
            source=SOURCE,
        ),
        *components(others, formula=formula, source=SOURCE, detail="whole blocks and padding"),
    )


def alignment(layers: Iterable[Layer], setting: VllmCacheSetting) -> tuple[int, int, int]:
    """Return what vLLM logs for a hybrid model: block size in tokens, bytes of a state and of its
    padded page."""
    mixers_of_rank = [local(m, setting.tensor_parallel) for m in mixers(layers)]
    state_bytes = max((p.page for m in mixers_of_rank for p in _states_of(m, setting)), default=0)
    padded = max((p.page for p in specs(layers, setting) if p.kind == "state"), default=0)
    return block_tokens(mixers_of_rank, setting), state_bytes, padded
