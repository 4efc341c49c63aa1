"""Caches of SGLang: pools of tokens, slots of recurrent states, and a table from requests to
tokens.

    cell             bytes per token: K (Hk + Hv) e in every layer of full attention
    sliding layers   a separate pool, 0.8 as long as the full one: a ratio, not the window. Without
                     prefix caching and with a limit of requests, what those can hold
    state slots      three per running request with prefix caching, five if states are tracked
                     beside the step (most models since 0.5.14), else one; and one more
    table            int32, a row of the whole context per running request and one more

Compressed attention (DeepSeek-V4) has rows of 584 bytes in pages padded to 576: for the window in a
pool 0.1 as long as the full one, with what waits to be compressed by four, eight float32 rows per
page; and for the past, a row per 4 or 128 tokens, with the keys of the indexer. What waits to be
compressed by 128 is a ring per running request.

Buffers hold one page of tokens more than the pool has. Windows of model types that have no second
pool (Gemma 2 and 3, Mistral, OLMo 3) are kept whole. Sources: sglang 0.5.23
srt/model_executor/pool_configurator.py (DefaultPoolConfigurator, HybridSWAPoolConfigurator,
DSV4PoolConfigurator, compute_swa_request_cap), kernels/ops/attention/dsv4/kv_layout.py,
srt/mem_cache/deepseek_v4_memory_pool.py, srt/mem_cache/kv_cache_configurator.py
(_handle_max_mamba_cache, _calculate_mamba_ratio, calculate_mla_kv_cache_dim),
srt/mem_cache/memory_pool.py (ReqToTokenPool, MHATokenToKVPool), srt/configs/mamba_utils.py
(mamba2_state_dtype), srt/configs/model_config.py (is_hybrid_swa_model); and the same of 0.4.0 to
0.5.22, srt/model_executor/model_runner.py before 0.5.7 (profile_max_num_token).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from math import ceil
from typing import assert_never

from weighbridge.base.dtypes import BFLOAT16, FLOAT32, DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Component
from weighbridge.base.records import dataclass, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import align_up
from weighbridge.engines.servers.cache_formats import (
    FormatNames,
    Stateful,
    field_name,
    index_key,
    local,
)
from weighbridge.engines.sglang import ENGINE
from weighbridge.engines.sglang.rules import SglangRules, rules
from weighbridge.memory.components.kv_cache import CacheBytes, Formats, components, mixers, state
from weighbridge.models.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedRecurrence,
    Latent,
    Layer,
    Mixer,
    Rwkv,
    Shared,
)
from weighbridge.models.arch.model_types import facts

SOURCE = "sglang 0.5.23 srt/model_executor/pool_configurator.py"
SLOTS_CACHED, SLOTS_TRACKED = 3, 5
FLOAT32_BYTES = 4
POSITION = 4  # bytes of int32, per token in the request table
NAMES = FormatNames(
    name=ENGINE.name,
    plain={
        "bf16": "bfloat16",
        "bfloat16": "bfloat16",
        "fp8_e4m3": "float8_e4m3fn",
        "fp8_e5m2": "float8_e5m2",
    },
    # fp4_e2m1 has been called fp4_mx_block16 in newer versions
    fours=("fp4_e2m1", "fp4_mx_block16", "nvfp4"),
)
EVICTED = 128  # tokens between evictions from a window: SGLANG_SWA_EVICTION_INTERVAL
COMPRESSED_RUNNING = 256  # concurrent requests with compressed attention, if unset
PAGE_ALIGNMENT = 576
RING = {4: 8, 128: 128}  # uncompressed rows, per page and per request
LACKED = CrossAttention | Rwkv | GatedRecurrence  # mixers our rules have no cache for


@frozen_record
class SglangCacheSetting:
    """Settings that SGLang's pools depend on; None is the engine's default. With `model_type` ""
    every sliding window has a second pool."""

    context: int
    model_type: str = ""
    sequences: int = 1
    dtype: DType = BFLOAT16
    kv_cache_dtype: str = "auto"
    page_size: int = 1
    tensor_parallel: int = 1
    swa_full_tokens_ratio: Fraction = Fraction(8, 10)
    mamba_full_memory_ratio: Fraction = Fraction(9, 10)
    states: int | None = None  # state slots that the user set
    radix_cache: bool = True
    ssm_dtype: DType = FLOAT32  # config.mamba_ssm_dtype where there is one
    max_running_requests: int | None = None
    version: tuple[int, ...] = ENGINE.newest
    chunked_prefill_size: int | None = None
    shared: int = 0  # tokens that sharing a prefix saves
    beside: int = 0  # bytes per token in a draft model's cache
    beyond: int = 0  # positions per table row beyond the context

    @property
    def rules(self) -> SglangRules:
        return rules(self.version)

    @property
    def tracked(self) -> bool:
        return self.rules.tracked and facts(self.model_type).sglang.tracked_states

    @property
    def compressed(self) -> bool:
        return facts(self.model_type).sglang.compressed

    @property
    def slots(self) -> int:
        """Return the state slots per running request."""
        if self.compressed:
            return 1
        return (SLOTS_TRACKED if self.tracked else SLOTS_CACHED) if self.radix_cache else 1


@dataclass(frozen=True, slots=True)
class Cells:
    """Bytes per token in the full and in the sliding layers, and of one request's states."""

    full: int
    sliding: int
    state: int
    window: int = 0  # tokens of the widest window


def cells(layers: Iterable[Layer], setting: SglangCacheSetting) -> Cells:
    shares = [(local(m, setting.tensor_parallel), n) for m, n in Counter(mixers(layers)).items()]
    near = [(m, n) for m, n in shares if isinstance(m, Attention) and _near(m, setting)]
    others = [
        (m, n) for m, n in shares if isinstance(m, Attention | Latent) and not _near(m, setting)
    ]
    packed = [(m, n) for m, n in shares if isinstance(m, Compressed)]
    return Cells(
        full=sum(n * token(m, setting) for m, n in others)
        + ceil(sum(n * _past(m, setting) for m, n in packed)),
        sliding=sum(n * token(m, setting) for m, n in near)
        + ceil(sum(n * _window(m, setting) for m, n in packed)),
        state=sum(n * _state(m, setting) for m, n in shares),
        window=max((m.reach or 0 for m, _ in near), default=0),
    )


def _past(compressed: Compressed, setting: SglangCacheSetting) -> Fraction:
    """Return the bytes per token beyond the window: a row per `rate`, and the indexer's key."""
    if compressed.rate == 1:
        return Fraction(0)
    row = _row(compressed, max(1, setting.page_size // compressed.rate))
    return (row + index_key(compressed.indexer)) / compressed.rate


def _window(compressed: Compressed, setting: SglangCacheSetting) -> Fraction:
    """Return the bytes per token in the window, with what waits to be compressed by four: keys and
    gates, twice as wide since groups overlap."""
    waiting = 0
    if compressed.overlaps:
        waiting = RING[4] * 2 * 2 * compressed.width * FLOAT32_BYTES
    return _row(compressed, setting.page_size) + Fraction(waiting, setting.page_size)


def _row(compressed: Compressed, page: int) -> Fraction:
    """Return the bytes per vector in a page of `page`: 8 bits, rotary in 16, 8 bytes of scales."""
    row = compressed.dim + compressed.rotary + 8
    return Fraction(align_up(page * row, PAGE_ALIGNMENT), page)


def _near(mixer: Mixer, setting: SglangCacheSetting) -> bool:
    """Return whether a mixer's tokens are in the second pool, that of sliding layers."""
    first = facts(setting.model_type).sglang.windows
    second = not setting.model_type or setting.version >= first
    return second and isinstance(mixer, Attention) and mixer.reach is not None


def token(mixer: Attention | Latent, setting: SglangCacheSetting) -> int:
    index = index_key(mixer.indexer)
    if isinstance(mixer, Latent):
        sparse = mixer.indexer is not None
        return index + NAMES.latent(
            setting.kv_cache_dtype, setting.dtype, mixer.rank, mixer.rotary, sparse=sparse
        )
    return index + mixer.kv_heads * NAMES.head(
        setting.kv_cache_dtype, setting.dtype, mixer.key_dim, mixer.value_dim
    )


def _state(mixer: Mixer, setting: SglangCacheSetting) -> int:
    match mixer:
        case Attention() | Latent() | Shared():
            return 0
        case Compressed():
            return RING[128] * 2 * mixer.dim * FLOAT32_BYTES if mixer.rate == 128 else 0
        case _ if isinstance(mixer, LACKED):
            raise UnsupportedError(sentence("no_cache_rules", name=field_name(mixer)))
        case _ if isinstance(mixer, Stateful):
            return state(mixer, Formats(conv=BFLOAT16, state=setting.ssm_dtype))
        case _:
            assert_never(mixer)


@frozen_record
class Pools:
    """Tokens of the two pools, and state slots; buffers add a page and a slot for padding."""

    full: int
    sliding: int
    slots: int

    def sizes(self, cell: Cells, page: int) -> CacheBytes:
        full = (self.full + page) * cell.full
        sliding = (self.sliding + page) * cell.sliding
        return CacheBytes(
            kv=full + sliding, state=(self.slots + 1) * cell.state if cell.state else 0
        )


def needed(layers: Iterable[Layer], setting: SglangCacheSetting) -> tuple[Pools, Cells]:
    """Return (pools that hold all requests, bytes of their cells)."""
    c = cells(layers, setting)
    return holding(c, setting), c


def holding(cell: Cells, setting: SglangCacheSetting) -> Pools:
    """Return the pools that hold all requests; a sliding pool's size follows the full one's by its
    ratio."""
    tokens = setting.sequences * align_up(setting.context, setting.page_size) - setting.shared
    slots = max(setting.sequences * setting.slots + setting.compressed, setting.states or 0)
    return Pools(full=tokens, sliding=_beside(cell, setting, tokens), slots=slots)


def _beside(cell: Cells, setting: SglangCacheSetting, tokens: int) -> int:
    """Return the tokens of the sliding pool if the full one has `tokens`."""
    if not cell.sliding:
        return 0
    cap = _cap(cell, setting)
    near = min(cap, tokens) if cap else _paged(tokens * setting.swa_full_tokens_ratio, setting)
    return near if cell.full else tokens


def _cap(cell: Cells, setting: SglangCacheSetting) -> int:
    """Return the tokens that all requests together can hold in a window, with two chunks in flight;
    0 if the ratio decides."""
    limited = setting.max_running_requests is not None and setting.chunked_prefill_size is not None
    if setting.radix_cache or not limited or not cell.window or not setting.rules.capped:
        return 0
    each = cell.window + EVICTED + 2 * setting.page_size
    chunks = 2 * (setting.chunked_prefill_size or 0)
    return align_up(
        each * (setting.max_running_requests or 0) + chunks + setting.page_size, setting.page_size
    )


def _paged(tokens: int | Fraction, setting: SglangCacheSetting) -> int:
    return int(tokens) // setting.page_size * setting.page_size


def fitting(layers: Iterable[Layer], setting: SglangCacheSetting, available: int) -> Pools:
    """Return the pools that SGLang makes of `available` bytes."""
    return filling(cells(layers, setting), setting, available)


def filling(cell: Cells, setting: SglangCacheSetting, available: int) -> Pools:
    """Return the same pools from `cell`; in a hybrid model, states take their share first."""
    slots = _slots(cell, setting, available)
    if cell.state:
        available -= (slots + _padding(setting)) * cell.state
    if cell.sliding and not setting.rules.in_bytes:
        available -= available % (cell.full + cell.sliding)
    draft = setting.beside if setting.rules.draft_cached else 0
    cap = _cap(cell, setting)
    if cap and cell.full:
        tokens = _paged(max(0, available - cap * cell.sliding) // (cell.full + draft), setting)
        return Pools(full=tokens, sliding=cap, slots=slots)
    unit = _token(cell, setting) + draft
    tokens = _paged(_whole(available, unit), setting) if unit else setting.context
    if not cell.full:
        return Pools(full=0, sliding=tokens if cell.sliding else 0, slots=slots)
    near = _paged(tokens * setting.swa_full_tokens_ratio, setting) if cell.sliding else 0
    return Pools(full=tokens, sliding=near, slots=slots)


def _whole(available: int, unit: int | Fraction) -> int:
    """Return the tokens that fit, rounded towards zero."""
    if isinstance(unit, int) and available >= 0:
        return available // unit
    return int(Fraction(available) / unit)


def _token(cell: Cells, setting: SglangCacheSetting) -> int | Fraction:
    """Return the bytes per token, with its part of the sliding pool."""
    if cell.full and cell.sliding:
        return cell.full + setting.swa_full_tokens_ratio * cell.sliding
    return cell.full + cell.sliding


def _slots(cell: Cells, setting: SglangCacheSetting, available: int) -> int:
    if not cell.state:
        return 0
    if setting.compressed:  # a ring per request, whatever fits; and one more
        return (setting.max_running_requests or COMPRESSED_RUNNING) + 1
    requests = None if setting.radix_cache else setting.max_running_requests
    slots = requests if setting.states is None else setting.states
    if slots is not None:
        return slots
    ratio = setting.mamba_full_memory_ratio
    budget = int(available * ratio / (1 + ratio))
    return max(0, budget // cell.state - _padding(setting))


def _padding(setting: SglangCacheSetting) -> int:
    """Return the slots that the budget counts beyond those of requests."""
    return 1 if setting.rules.padded else 0


def buffers(layers: Iterable[Layer], setting: SglangCacheSetting, pools: Pools) -> Iterator[int]:
    """Yield the bytes of each tensor of the pools."""
    for sizes, times in tensors(runs(layers, setting), setting, pools):
        yield from sizes * times


Runs = Sequence[tuple[Mixer, int]]  # runs of equal layers in order, as one rank has them


def runs(layers: Iterable[Layer], setting: SglangCacheSetting) -> Runs:
    return tuple(
        (local(m, setting.tensor_parallel), len(list(n))) for m, n in groupby(mixers(layers))
    )


def tensors(
    runs_of_layers: Runs, setting: SglangCacheSetting, pools: Pools
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield (bytes of a layer's tensors, number of such layers): keys and values apart, all states
    together at the end."""
    conv = recurrence = 0
    for m, times in runs_of_layers:
        if isinstance(m, Attention | Latent):
            tokens = (pools.sliding if _near(m, setting) else pools.full) + setting.page_size
            nbytes = tokens * token(m, setting)
            halves = (nbytes // 2, nbytes - nbytes // 2)
            yield (nbytes,) if isinstance(m, Latent) else halves, times
        elif isinstance(m, Compressed):
            window = ceil((pools.sliding + setting.page_size) * _window(m, setting))
            past = ceil((pools.full + setting.page_size) * _past(m, setting))
            yield (window, past, (pools.slots + 1) * _state(m, setting)), times
        elif isinstance(m, Stateful):
            whole = _state(m, setting)
            part = state(m, Formats(conv=BFLOAT16, state=setting.ssm_dtype), columns=0)
            conv, recurrence = conv + times * (whole - part), recurrence + times * part
        elif not isinstance(m, Shared | LACKED):
            assert_never(m)
    yield tuple((pools.slots + 1) * nbytes for nbytes in (conv, recurrence) if nbytes), 1


def request_table(setting: SglangCacheSetting) -> int:
    """Return the bytes of `req_to_token`, which depends on the context, not on its content."""
    rows = setting.max_running_requests or setting.sequences
    return (rows + 1) * (setting.context + setting.beyond) * POSITION


def caches(layers: Iterable[Layer], setting: SglangCacheSetting) -> tuple[Component, ...]:
    pools, c = needed(layers, setting)
    formula = (
        f"{pools.full:,} tokens x {c.full:,} bytes, {pools.sliding:,} x {c.sliding:,} in sliding "
        f"layers, {pools.slots} slots of states; a page and a slot for padding"
    )
    return (
        *components(pools.sizes(c, setting.page_size), formula=formula, source=SOURCE),
        *components(
            CacheBytes(kv=request_table(setting)),
            formula=f"(requests + 1) x {setting.context + setting.beyond:,} x {POSITION} bytes",
            source="sglang 0.5.23 srt/mem_cache/memory_pool.py (ReqToTokenPool)",
            detail="table of requests",
        ),
    )
