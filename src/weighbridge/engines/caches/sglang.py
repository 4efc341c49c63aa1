"""What SGLang sets aside: pools of tokens, slots of states, and a table from requests to tokens.

    cell             bytes of one token: K (Hk + Hv) e in every layer of full attention
    sliding layers   a pool of their own, 0.8 as long as the full one: a ratio, not the window
    state slots      three a running request while prefixes are cached, else one; and one more
    table            int32, a row of the whole context for each running request and one more

Buffers hold one page of tokens more than the pool has. Windows of model types that have no second
pool (Gemma 2 and 3, Mistral, OLMo 3) are kept whole. Sources:
sglang 0.5.23 srt/model_executor/pool_configurator.py (DefaultPoolConfigurator,
HybridSWAPoolConfigurator), srt/mem_cache/kv_cache_configurator.py (_calculate_mamba_ratio,
calculate_mla_kv_cache_dim), srt/mem_cache/memory_pool.py (ReqToTokenPool, MHATokenToKVPool),
srt/configs/mamba_utils.py (mamba2_state_dtype), srt/configs/model_config.py (is_hybrid_swa_model).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from weighbridge.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    Latent,
    Layer,
    Mixer,
    Shared,
)
from weighbridge.components.kv_cache import Formats, Sizes, components, mixers, state
from weighbridge.dtypes import BFLOAT16, FLOAT32, DType
from weighbridge.engines.caches.formats import SGLANG
from weighbridge.engines.caches.sharding import local
from weighbridge.errors import UnsupportedError
from weighbridge.memory import Component
from weighbridge.units import align_up

SOURCE = "sglang 0.5.23 srt/model_executor/pool_configurator.py"
SLOTS_CACHED, SLOTS_PLAIN = 3, 1
SCALED = 128  # elements of an indexer's key to a float32 scale
POSITION = 4  # int32, of a token in the table of requests
# Model types whose windows, or chunks, have a pool of their own.
WINDOWED = frozenset(
    (
        *("gpt_oss", "llama4", "llama4_text", "gemma4", "gemma4_text", "gemma4_unified_text"),
        *("mimo_v2_flash", "step3p7", "step3p7_text", "laguna", "mellum", "granite_swa"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """None: the engine's default. `model_type` "" has a second pool for whatever has windows."""

    context: int
    model_type: str = ""
    sequences: int = 1
    dtype: DType = BFLOAT16
    kv_cache_dtype: str = "auto"
    page_size: int = 1
    tensor_parallel: int = 1
    swa_full_tokens_ratio: Fraction = Fraction(8, 10)
    mamba_full_memory_ratio: Fraction = Fraction(9, 10)
    radix_cache: bool = True
    ssm_dtype: DType = FLOAT32  # config.mamba_ssm_dtype where there is one
    max_running_requests: int | None = None


@dataclass(frozen=True, slots=True)
class Cells:
    """Bytes of one token in the full and in the sliding layers, and of one request's states."""

    full: int
    sliding: int
    state: int


def cells(layers: Iterable[Layer], s: Setting) -> Cells:
    found = [local(m, s.tensor_parallel) for m in mixers(layers)]
    second = not s.model_type or s.model_type in WINDOWED
    near = [m for m in found if isinstance(m, Attention) and m.reach is not None and second]
    rest = [m for m in found if isinstance(m, Attention | Latent) and m not in near]
    return Cells(
        full=sum(token(m, s) for m in rest),
        sliding=sum(token(m, s) for m in near),
        state=sum(_state(m, s) for m in found),
    )


def token(m: Attention | Latent, s: Setting) -> int:
    index = m.indexer.dim + m.indexer.dim // SCALED * 4 if m.indexer else 0
    if isinstance(m, Latent):
        sparse = m.indexer is not None
        return index + SGLANG.latent(s.kv_cache_dtype, s.dtype, m.rank, m.rotary, sparse=sparse)
    return index + m.kv_heads * SGLANG.head(s.kv_cache_dtype, s.dtype, m.key_dim, m.value_dim)


def _state(m: Mixer, s: Setting) -> int:
    if isinstance(m, Attention | Latent | Shared):
        return 0
    if isinstance(m, Compressed | CrossAttention):
        raise UnsupportedError(f"our rules for sglang do not cover {type(m).__name__} layers")
    return state(m, Formats(conv=BFLOAT16, state=s.ssm_dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Tokens of the two pools and slots of states; one page and one slot are for padding."""

    full: int
    sliding: int
    slots: int

    def sizes(self, c: Cells, page: int) -> Sizes:
        full = (self.full + page) * c.full
        sliding = (self.sliding + page) * c.sliding
        return Sizes(kv=full + sliding, state=(self.slots + 1) * c.state if c.state else 0)


def needed(layers: Iterable[Layer], s: Setting) -> tuple[Pools, Cells]:
    """The pools that hold all requests. A sliding pool follows the full one by its ratio."""
    c = cells(layers, s)
    tokens = s.sequences * align_up(s.context, s.page_size)
    sliding = tokens if not c.full else _paged(tokens * s.swa_full_tokens_ratio, s)
    slots = s.sequences * (SLOTS_CACHED if s.radix_cache else SLOTS_PLAIN)
    return Pools(full=tokens, sliding=sliding if c.sliding else 0, slots=slots), c


def _paged(tokens: Fraction, s: Setting) -> int:
    return int(tokens) // s.page_size * s.page_size


def fitting(layers: Iterable[Layer], s: Setting, available: int) -> Pools:
    """The pools that SGLang makes of `available` bytes; of a hybrid, states take their share
    first."""
    c = cells(layers, s)
    slots = 0
    if c.state:
        ratio = s.mamba_full_memory_ratio
        budget = int(available * ratio / (1 + ratio))
        slots = max(0, (budget - c.state) // c.state)
        available -= (slots + 1) * c.state
    unit = c.full + (s.swa_full_tokens_ratio * c.sliding if c.full else c.sliding)
    tokens = _paged(Fraction(int(available / unit)), s) if unit else s.context
    near = _paged(tokens * s.swa_full_tokens_ratio, s) if c.full else tokens
    return Pools(full=tokens if c.full else 0, sliding=near if c.sliding else 0, slots=slots)


def request_table(s: Setting) -> int:
    """`req_to_token`: a component of its own, of the context and not of what is in it."""
    rows = s.max_running_requests or s.sequences
    return (rows + 1) * s.context * POSITION


def caches(layers: Iterable[Layer], s: Setting) -> tuple[Component, ...]:
    pools, c = needed(layers, s)
    formula = (
        f"{pools.full:,} tokens x {c.full:,} bytes, {pools.sliding:,} x {c.sliding:,} in sliding "
        f"layers, {pools.slots} slots of states; a page and a slot for padding"
    )
    return (
        *components(pools.sizes(c, s.page_size), formula=formula, source=SOURCE),
        *components(
            Sizes(kv=request_table(s)),
            formula=f"(requests + 1) x {s.context:,} x {POSITION} bytes",
            source="sglang 0.5.23 srt/mem_cache/memory_pool.py (ReqToTokenPool)",
            detail="table of requests",
        ),
    )
