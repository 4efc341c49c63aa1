"""vLLM's blocks for a rank's layers, as the workload draws them and as the card has room for.

    needed       requests x blocks of one, the block that stays empty, less prefixes that are shared
    available    share of the card - weights - growth of what is not torch's - profile's peak
                 (- CUDA graphs, since 0.20)

A draft model's layers join those of the model; the last rank of a pipeline has them.
"""

from dataclasses import dataclass

from weighbridge.arch.mixers import Layer
from weighbridge.dtypes import DType, torch_dtype
from weighbridge.engines import extras
from weighbridge.engines.caches import blocks, vllm
from weighbridge.engines.serving import Subject
from weighbridge.engines.shards import Rank
from weighbridge.engines.vllm.setting import Launch, has_states
from weighbridge.memory import Component, exactly
from weighbridge.workload import Infer


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """One rank's."""

    layers: tuple[Layer, ...]
    setting: vllm.Setting
    pool: blocks.Pool
    shared: int  # blocks that requests have in common, and are stored once

    @property
    def request(self) -> int:
        return self.pool.request(self.setting.load)

    @property
    def count(self) -> int:
        """Blocks that the workload needs."""
        drawn = self.setting.sequences * self.request - self.shared
        return drawn + 1 if drawn else 0

    @property
    def nbytes(self) -> int:
        return self.count * self.pool.block

    def components(self) -> tuple[Component, ...]:
        """Tokens and states, whole blocks and padding, the empty block; less shared prefixes."""
        if not self.pool.groups:
            return ()
        if self.shared:
            return (self._shared(),)
        return (*vllm.caches(self.layers, self.setting), self._empty())

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
            formula=f"({self.setting.sequences:,} x {self.request:,} - {self.shared:,} + 1) blocks "
            f"x {self.pool.block:,} bytes",
            source=vllm.SOURCE,
        )


def of(subject: Subject, rank: Rank, at: Launch, w: Infer) -> Blocks:
    setting = _setting(subject, at, w)
    layers = _layers(subject, rank, at)
    pool = vllm.plan(layers, setting)
    return Blocks(
        layers=layers, setting=setting, pool=pool, shared=_shared(pool, at, w.shared_prefix or 0)
    )


def _setting(subject: Subject, at: Launch, w: Infer) -> vllm.Setting:
    named = w.mamba_ssm_cache_dtype if w.mamba_ssm_cache_dtype != "auto" else None
    return vllm.Setting(
        context=at.context + extras.lookahead(at.method or None, at.speculative),
        sequences=at.requests,
        dtype=subject.choice.dtype,
        kv_cache_dtype=at.kv_cache_dtype,
        version=(at.rules.version[0], at.rules.version[1]),
        block_size=at.block_size,
        max_num_batched_tokens=at.tokens,
        asynchronous=at.asynchronous,
        tensor_parallel=at.tensor,
        pipeline_parallel=at.pipeline,
        ssm_dtype=_ssm(subject, named),
        align=at.prefix_caching and has_states(subject),
        speculative=at.speculative,
        context_parallel=at.context_parallel,
        hybrid=at.hybrid,
        encoder=at.context if subject.body.encoder is not None else 0,
        images=w.images or 1,
    )


def _ssm(subject: Subject, named: str | None) -> DType | None:
    if named is not None:
        return torch_dtype(named, "--mamba-ssm-cache-dtype")
    return vllm.ssm_dtype(subject.config) if subject.config is not None else None


def _layers(subject: Subject, rank: Rank, at: Launch) -> tuple[Layer, ...]:
    """Those with a cache. A model that sees all tokens at once remembers none."""
    if not subject.body.causal:
        return ()
    return (*rank.layers, *_drafting(subject, rank, at))


def _drafting(subject: Subject, rank: Rank, at: Launch) -> tuple[Layer, ...]:
    return extras.draft_layers(subject, at.method) if at.speculative and rank.last else ()


def _shared(pool: blocks.Pool, at: Launch, prefix: int) -> int:
    """Whole blocks of layers that keep all tokens; windows and states have their own."""
    if not at.prefix_caching or at.requests < 2:
        return 0
    common = min(prefix, at.context)
    whole = (g for g in pool.groups if g.specs[0].kind == "full")
    return (at.requests - 1) * sum(common // g.tokens for g in whole)
