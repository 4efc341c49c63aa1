"""KV cache blocks of one rank: how many the workload needs, and how many the card has room for.

    needed       blocks of one request in prefill, of the others in decode, and the null block, less
                 shared prefixes
    available    requested memory (gpu_memory_utilization) - weights - non-torch increase - profile
                 peak (- CUDA graphs, since 0.20)

The layers of a draft model are added on the last pipeline stage.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from weighbridge.base.dtypes import DType
from weighbridge.base.memory import Component, exactly
from weighbridge.base.records import dataclass, replace
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers import lora_and_speculation
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.vllm import blocks
from weighbridge.engines.vllm import caches as vllm
from weighbridge.engines.vllm.effective import VllmLaunch, has_states
from weighbridge.memory.components.kv_cache import mixers
from weighbridge.models.arch.mixers import Layer, Mixer
from weighbridge.models.tensors import torch_dtype

if TYPE_CHECKING:
    from weighbridge.workload import Infer


@dataclass(frozen=True, slots=True)
class Cached:
    """The cached layers of one rank, and their block pool for any context and batch."""

    kinds: Mapping[Mixer, int]  # mixer -> number of layers
    usual: vllm.VllmCacheSetting
    planned: Callable[[int], blocks.CachePool]  # by encoder tokens


@dataclass(frozen=True, kw_only=True)  # not slotted: cached_property needs a __dict__
class Blocks:
    """The KV cache blocks of one rank for a workload."""

    cached: Cached
    pool: blocks.CachePool
    context: int  # tokens per request, speculative ones included
    requests: int
    tokens: int  # max_num_batched_tokens
    encoder: int
    shared: int  # blocks saved by a shared prefix

    @cached_property
    def setting(self) -> vllm.VllmCacheSetting:
        return replace(
            self.cached.usual,
            context=self.context,
            sequences=self.requests,
            max_num_batched_tokens=self.tokens,
            encoder=self.encoder,
        )

    @cached_property
    def request(self) -> int:
        return self.pool.request(self.cached.usual.of(self.context, self.tokens))

    @cached_property
    def count(self) -> int:
        """Return the blocks that the workload needs, including the null block."""
        drawn = vllm.drawn(self.pool, self.setting) - self.shared
        return drawn + 1 if drawn else 0

    @property
    def nbytes(self) -> int:
        return self.count * self.pool.block

    @cached_property
    def kinds(self) -> frozenset[blocks.BlockKind]:
        return frozenset(spec.kind for group in self.pool.groups for spec in group.kinds)

    @property
    def windows(self) -> bool:
        return not self.kinds.isdisjoint(("sliding", "chunked"))

    @property
    def admitted(self) -> int:
        """Return the bytes if every request held the blocks of a prefill step at once: what
        admission checks, more than is ever in use."""
        return (self.requests * self.request - self.shared + 1) * self.pool.block

    def content(self, tokens: int) -> int:
        """Return the KV cache bytes of a request with `tokens`, not rounded up to blocks."""
        setting = replace(self.setting, context=tokens)
        return vllm.contents(self.cached.kinds, setting).kv

    def logged(self, available: int) -> int:
        """Return the tokens vLLM logs as its KV cache size."""
        return vllm.logged(self.pool, self.setting, available)

    def components(self) -> tuple[Component, ...]:
        """Return components of tokens, states, padding and the null block; less shared prefixes."""
        if not self.pool.groups:
            return ()
        if self.shared:
            return (self._shared(),)
        return (*vllm.parts(self.cached.kinds, self.pool, self.setting), self._empty())

    def _empty(self) -> Component:
        return Component(
            name="kv_cache",
            bytes=exactly(self.pool.block),
            basis="computed",
            detail="the block that stays empty",
            formula=f"1 block x {self.pool.block:,} bytes",
            source="vllm v1/core/block_pool.py (null_block)",
        )

    def _shared(self) -> Component:
        return Component(
            name="kv_cache",
            bytes=exactly(self.nbytes),
            basis="computed",
            detail="blocks, those of the shared prefix once",
            formula=f"({self.count + self.shared - 1:,} - {self.shared:,} + 1) blocks "
            f"x {self.pool.block:,} bytes",
            source=vllm.SOURCE,
        )


def cached(subject: Subject, rank: Rank, launch: VllmLaunch, w: "Infer") -> Cached:
    layers, setting = _layers(subject, rank, launch), _setting(subject, launch, w)

    @lru_cache(maxsize=4)
    def planned(encoder: int) -> blocks.CachePool:
        return vllm.plan(layers, replace(setting, encoder=encoder))

    return Cached(Counter(mixers(layers)), setting, planned)


def drawn(
    subject: Subject, cached: Cached, launch: VllmLaunch, context: int, requests: int, prefix: int
) -> Blocks:
    """Return the blocks of `requests` requests at this launch; `prefix`: tokens of their shared
    prefix."""
    encoder = context if subject.body.encoder is not None else 0
    pool = cached.planned(encoder)
    alike = min(prefix, context) if launch.prefix_caching else 0
    return Blocks(
        cached=cached,
        pool=pool,
        context=context + lora_and_speculation.lookahead(launch.method or None, launch.speculative),
        requests=requests,
        tokens=launch.tokens,
        encoder=encoder,
        shared=_shared(pool, requests, alike),
    )


def _setting(subject: Subject, launch: VllmLaunch, w: "Infer") -> vllm.VllmCacheSetting:
    named = w.mamba_ssm_cache_dtype if w.mamba_ssm_cache_dtype != "auto" else None
    return vllm.VllmCacheSetting(
        context=launch.context,
        dtype=subject.choice.dtype,
        kv_cache_dtype=launch.kv_cache_dtype,
        version=launch.rules.version,
        block_size=launch.block_size,
        asynchronous=launch.asynchronous,
        tensor_parallel=launch.tensor,
        pipeline_parallel=launch.pipeline,
        ssm_dtype=_ssm(subject, named),
        align=launch.prefix_caching and has_states(subject),
        speculative=launch.speculative,
        context_parallel=launch.context_parallel,
        hybrid=launch.hybrid,
        images=w.images or 1,
    )


def _ssm(subject: Subject, named: str | None) -> DType | None:
    if named is not None:
        return torch_dtype(named, "--mamba-ssm-cache-dtype")
    return vllm.ssm_dtype(subject.config) if subject.config is not None else None


def _layers(subject: Subject, rank: Rank, launch: VllmLaunch) -> tuple[Layer, ...]:
    """Return this rank's layers that may have a cache, draft layers included; bidirectional models
    have none."""
    if not subject.body.causal:
        return ()
    if not (launch.speculative and rank.last):
        return rank.layers
    return (*rank.layers, *lora_and_speculation.draft_layers(subject, launch.method))


def _shared(pool: blocks.CachePool, requests: int, alike: int) -> int:
    """Return the blocks saved by a shared prefix of `alike` tokens in full-attention layers;
    sliding windows and states do not share."""
    whole = (g for g in pool.groups if g.specs[0].kind == "full")
    return (requests - 1) * sum(alike // g.tokens for g in whole) if alike else 0
