"""What vLLM (V1) holds for its requests: pages of blocks, by kind of layer.

    page (attention)   K x tokens x (Hk e + Hv e)         K: heads of this rank, at least one
    page (latent)      tokens x (r + rotary) e, whole on every rank; the indexer has a cache apart
    page (state)       convolution of kernel - 1 columns, and the running state

Where attention and states alternate, the block grows until a page of attention is as large as one
of states, which is padded up to it. How layers share blocks is in `blocks.py`.

    tokens logged      concurrency x context; before 0.24, blocks // groups x the smallest block
    on their way       as many batches as run at once (two when asynchronous); before 0.26, one

Source: vllm 0.33 and 0.19: v1/kv_cache_interface.py, v1/core/kv_cache_planning.py,
platforms/interface.py (_align_hybrid_block_size), model_executor/layers/mamba/mamba_utils.py,
model_executor/layers/attention/mla_attention.py (get_kv_cache_spec), models/deepseek_v4/.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from weighbridge.arch.config import Config
from weighbridge.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    Indexer,
    KimiDelta,
    Latent,
    Layer,
    LinearAttention,
    Mamba1,
    Mamba2,
    Mixer,
    Recurrent,
    Rwkv,
    Shared,
    ShortConv,
)
from weighbridge.arch.table import column
from weighbridge.components import spelled
from weighbridge.components.kv_cache import (
    Formats,
    Lengths,
    Sizes,
    components,
    mixers,
    state,
)
from weighbridge.dtypes import BFLOAT16, FLOAT8, FLOAT32, TORCH, DType, torch_dtype
from weighbridge.engines.caches.blocks import Load, Pool, Spec, pool
from weighbridge.engines.caches.formats import FormatNames, field_name
from weighbridge.engines.caches.sharding import local
from weighbridge.engines.vllm import ENGINE
from weighbridge.engines.vllm.rules import Version, rules
from weighbridge.errors import UnsupportedError
from weighbridge.memory import Component
from weighbridge.units import align_up, ceil_div

SOURCE = "vllm 0.33 v1/core/kv_cache_planning.py, v1/kv_cache_interface.py"
BLOCK, LATENT_BLOCK, COMPRESSED_BLOCK = 16, 64, 256
LATENT_ALIGNMENT = 128  # of hybrids: the decode kernels of MLA
PACKED_ALIGNMENT = 576  # of DeepSeek-V4's pages
SCALED = 128  # elements of an indexer's key that share a scale of four bytes
WINDOW_BLOCK = 64
STATE_BLOCKS = {4: 4, 128: 8}  # tokens of a block of what waits to be compressed
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
LACKED = Rwkv | GatedRecurrence  # vLLM has no cache of them
Stateful = Mamba1 | Mamba2 | GatedDelta | KimiDelta | LinearAttention | ShortConv


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`context` is max_model_len. None: the engine's default."""

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
    ssm_dtype: DType | None = None  # None: that of the convolution
    align: bool = False  # prefix caching of states: one block more a request
    speculative: int = 0  # tokens proposed at a time: so many blocks of states more
    context_parallel: int = 1  # ranks that share the tokens of a request
    hybrid: bool = True  # --disable-hybrid-kv-cache-manager off
    encoder: int = 0
    images: int = 1

    @property
    def lengths(self) -> Lengths:
        return Lengths(context=self.context, encoder=self.encoder, images=self.images)

    @property
    def load(self) -> Load:
        return self.of(self.context, self.max_num_batched_tokens)

    def of(self, context: int, tokens: int) -> Load:
        """A request of another length, in batches of so many tokens."""
        batches = self.pipeline_parallel
        if rules(self.version).in_flight and self.asynchronous:
            batches += 1
        if not rules(self.version).in_flight:
            batches = 1
        return Load(
            context=ceil_div(context, self.context_parallel),
            in_flight=batches * tokens,
            states=(2 if self.align else 1) + self.speculative,
        )


def ssm_dtype(c: Config) -> DType | None:
    """What `--mamba-ssm-cache-dtype auto` means for a model: Qwen 3.5 and Nemotron-H say it
    themselves, the latter float32 when it does not."""
    key, _, usual = column("vllm.states").get(c.model_type, "").partition(",")
    if not key:
        return None
    text = c.sub("text_config") if c.has("text_config") else c
    named = text.word(key, default=usual)
    return torch_dtype(named, c.where) if named else None


# Pages


def _attention(m: Attention, s: Setting, tokens: int) -> Iterator[Spec]:
    page = tokens * token(m, s)
    if m.chunk is not None and s.hybrid:
        yield Spec(kind="chunked", page=page, tokens=tokens, reach=m.chunk)
    elif m.window is not None and s.hybrid:
        yield Spec(kind="sliding", page=page, tokens=tokens, reach=m.window)
    else:
        yield Spec(kind="full", page=page, tokens=tokens)
    if m.indexer:
        yield Spec(kind="full", page=tokens * s.dtype.size(m.indexer.dim), tokens=tokens)


def _latent(m: Latent, s: Setting, tokens: int) -> Iterator[Spec]:
    yield Spec(kind="full", page=tokens * token(m, s), tokens=tokens, latent=True)
    if m.indexer:
        yield Spec(kind="full", page=tokens * index_key(m.indexer), tokens=tokens, latent=True)


def index_key(index: Indexer) -> int:
    """A byte an element, and a float32 scale for every 128."""
    return index.dim + index.dim // SCALED * 4


def token(m: Attention | Latent | CrossAttention, s: Setting) -> int:
    """Bytes of one token in one layer."""
    if not isinstance(m, Latent):
        heads: int = m.kv_heads * NAMES.head(s.kv_cache_dtype, s.dtype, m.key_dim, m.value_dim)
        return heads
    return NAMES.latent(s.kv_cache_dtype, s.dtype, m.rank, m.rotary, sparse=m.indexer is not None)


def _cross(m: CrossAttention, s: Setting, tokens: int) -> Iterator[Spec]:
    page, seen = tokens * token(m, s), s.lengths.crossed(m)
    yield Spec(kind="cross", page=page, tokens=tokens, encoder=seen)


def _compressed(m: Compressed, s: Setting, tokens: int) -> Iterator[Spec]:
    """The window, the compressed past, the keys of its indexer, and what waits to be compressed:
    keys and gates in float32, twice as wide where groups overlap."""

    def padded(nbytes: int) -> int:
        return align_up(nbytes, PACKED_ALIGNMENT)

    row = NAMES.packed_row(m.dim, m.rotary)
    window = padded(WINDOW_BLOCK * row)
    yield Spec(kind="sliding", page=window, tokens=WINDOW_BLOCK, reach=m.window, latent=True)
    if m.rate == 1:
        return
    rows = tokens // m.rate
    yield Spec(kind="full", page=padded(rows * row), tokens=tokens, latent=True)
    widths = [m.dim]
    if m.indexer:
        widths.append(m.indexer.dim)
        yield Spec(
            kind="full", page=padded(rows * index_key(m.indexer)), tokens=tokens, latent=True
        )
    few, twice = STATE_BLOCKS.get(m.rate, m.rate), 2 if m.overlaps else 1
    for width in widths:
        waiting = padded(few * 2 * twice * width * FLOAT32.nbytes)
        yield Spec(kind="sliding", page=waiting, tokens=few, reach=twice * m.rate, latent=True)


def _state(m: Stateful, s: Setting) -> Iterator[Spec]:
    yield Spec(kind="state", page=state(m, _state_formats(m, s)))


def _state_formats(m: Stateful, s: Setting) -> Formats:
    """Kimi's state is float32 unless said otherwise; lightning attention has no other dtype than
    the cache's."""
    own = s.ssm_dtype or (FLOAT32 if isinstance(m, KimiDelta) else s.dtype)
    return Formats(conv=s.dtype, state=s.dtype if isinstance(m, LinearAttention) else own)


def _specs(m: Mixer, s: Setting, tokens: int) -> Iterator[Spec]:
    """The caches of one mixer, in blocks of `tokens`. Raises UnsupportedError for what vLLM has
    no cache of."""
    match m:
        case Attention():
            return _attention(m, s, tokens)
        case Latent():
            return _latent(m, s, tokens)
        case Compressed():
            return _compressed(m, s, tokens)
        case CrossAttention():
            return _cross(m, s, tokens)
        case Shared():
            return iter(())
        case _ if isinstance(m, LACKED):
            release = f"{s.version[0]}.{s.version[1]}"
            raise UnsupportedError(f"vllm {release} has no cache of {field_name(m)}")
        case _ if isinstance(m, Stateful):
            return _state(m, s)
        case _:
            assert_never(m)


def block_tokens(found: list[Mixer], s: Setting) -> int:
    """Tokens of a block: the flag, or the backend's choice, and more where states are larger."""
    latent = any(isinstance(m, Latent) for m in found)
    compressed = any(isinstance(m, Compressed) for m in found)
    usual = COMPRESSED_BLOCK if compressed else LATENT_BLOCK if latent else BLOCK
    tokens = s.block_size or usual
    rows = [token(m, s) for m in found if isinstance(m, Attention | Latent)]
    states = [p.page for m in found for p in _states_of(m, s)]
    if not rows or not states:
        return tokens
    unit = max(tokens, LATENT_ALIGNMENT if latent else BLOCK)
    return max(tokens, unit * ceil_div(max(states), unit * max(rows)))


def _states_of(m: Mixer, s: Setting) -> Iterator[Spec]:
    if isinstance(m, Stateful):
        yield from _state(m, s)


def specs(layers: Iterable[Layer], s: Setting) -> list[Spec]:
    """Every cache of one rank."""
    every = list(mixers(layers))
    found = {m: local(m, s.tensor_parallel) for m in dict.fromkeys(every)}
    tokens = block_tokens(list(found.values()), s)
    made = {m: tuple(_specs(own, s, tokens)) for m, own in found.items()}
    return _padded([spec for m in every for spec in made[m]])


def _padded(found: list[Spec]) -> list[Spec]:
    """States as large as a page of attention."""
    pages = [spec.page for spec in found if spec.kind != "state"]
    if not pages or len(pages) == len(found):
        return found
    page = max(pages)
    return [replace(p, page=max(page, p.page)) if p.kind == "state" else p for p in found]


def plan(layers: Iterable[Layer], s: Setting) -> Pool:
    found = list(layers)
    packed = any(isinstance(m, Compressed) for m in mixers(found))
    return pool(specs(found, s), packed=packed)


def content(layers: Iterable[Layer], s: Setting) -> Sizes:
    """What one request's tokens and states themselves are, without blocks: one rank's."""
    return contents(Counter(mixers(layers)), s)


def contents(kinds: Mapping[Mixer, int], s: Setting) -> Sizes:
    """The same of layers that were counted by kind."""
    found = [(local(m, s.tensor_parallel), n) for m, n in kinds.items()]
    return Sizes(
        kv=sum(n * _content(m, s) for m, n in found),
        state=sum(n * p.page for m, n in found for p in _states_of(m, s)),
    )


def _content(m: Mixer, s: Setting) -> int:
    match m:
        case CrossAttention():
            return _unit(m, s) * s.lengths.crossed(m)
        case Attention():
            return _unit(m, s) * (s.context if m.reach is None else min(s.context, m.reach))
        case Latent():
            return _unit(m, s) * s.context
        case Compressed():
            row, key = NAMES.packed_row(m.dim, m.rotary), index_key(m.indexer) if m.indexer else 0
            past = s.context // m.rate * (row + key) if m.rate > 1 else 0
            return min(s.context, m.window) * row + past
        case Shared():
            return 0
        case _ if isinstance(m, Recurrent):
            return 0
        case _:
            assert_never(m)


def _unit(m: Mixer, s: Setting) -> int:
    """Bytes of one token."""
    return sum(p.page for p in _specs(m, s, 1))


def needed(layers: Iterable[Layer], s: Setting) -> int:
    """Bytes of the blocks that all requests draw."""
    held = plan(layers, s)
    return s.sequences * held.request(s.load) * held.block


def logged_tokens(layers: Iterable[Layer], s: Setting, available: int) -> int:
    """ "GPU KV cache size: ... tokens", from the bytes available."""
    return logged(plan(layers, s), s, available)


def logged(held: Pool, s: Setting, available: int) -> int:
    """The same of layers whose pool is planned."""
    if rules(s.version).logged_by_groups:
        return held.tokens_by_groups(available, s.context) * s.context_parallel
    return int(held.concurrency(available, s.load) * s.context)


def caches(layers: Iterable[Layer], s: Setting) -> tuple[Component, ...]:
    found = tuple(layers)
    return parts(Counter(mixers(found)), plan(found, s), s)


def parts(kinds: Mapping[Mixer, int], held: Pool, s: Setting) -> tuple[Component, ...]:
    """Tokens, states, and apart from them what whole blocks add: the rest of the last one, tokens
    on their way, pages padded to be equal."""
    own, request = contents(kinds, s).times(s.sequences), held.request(s.load)
    total = s.sequences * request * held.block
    formula = (
        f"{s.sequences} x {request:,} blocks x {held.block:,} bytes in {len(held.groups)} groups"
    )
    rest = Sizes(kv=max(0, total - own.kv - own.state))
    here = {local(m, s.tensor_parallel): n for m, n in kinds.items()}
    dtype = s.dtype if s.kv_cache_dtype == "auto" else FLOAT8
    told = spelled.cache(here, own.kv, batch=s.sequences, tokens=(s.context,), dtype=dtype)
    return (
        *components(own, formula=told or f"{s.sequences} x {s.context:,} tokens", source=SOURCE),
        *components(rest, formula=formula, source=SOURCE, detail="whole blocks and padding"),
    )


def alignment(layers: Iterable[Layer], s: Setting) -> tuple[int, int, int]:
    """What a hybrid's log says: tokens of a block, bytes of a state, and of its padded page."""
    found = [local(m, s.tensor_parallel) for m in mixers(layers)]
    own = max((p.page for m in found for p in _states_of(m, s)), default=0)
    padded = max((p.page for p in specs(layers, s) if p.kind == "state"), default=0)
    return block_tokens(found, s), own, padded
