"""The command line for this workload: `vllm serve`, with what differs from its defaults."""

import math
import shlex
from collections.abc import Iterator, Sequence

from weighbridge.accelerators.budget import Budget
from weighbridge.engines.serving import Subject
from weighbridge.engines.vllm import hardware
from weighbridge.engines.vllm.reserve import Reserve
from weighbridge.engines.vllm.setting import Launch
from weighbridge.units import GIB
from weighbridge.workload import Infer

STEPS = 100  # a share is written in hundredths


def command(
    subject: Subject, at: Launch, w: Infer, found: Sequence[Reserve], budget: Budget | None
) -> str:
    words = ["vllm serve", shlex.quote(subject.model.loads_as)]
    for flag, value in _flags(at, w, found, budget):
        words.append(flag if value is True else f"{flag} {value}")
    return " ".join(words)


def _flags(
    at: Launch, w: Infer, found: Sequence[Reserve], budget: Budget | None
) -> Iterator[tuple[str, object]]:
    if w.dtype:
        yield "--dtype", w.dtype
    yield "--max-model-len", at.context
    share = utilization(found, budget) if budget else None
    if w.gpu_memory_utilization is not None or (share is not None and share > at.utilization):
        yield "--gpu-memory-utilization", share or at.utilization
    numbers = (
        ("--max-num-seqs", at.sequences, w.max_num_seqs or at.requests == at.sequences),
        ("--max-num-batched-tokens", at.tokens, w.max_num_batched_tokens),
        ("--block-size", at.block_size, w.block_size),
        ("--kv-cache-memory-bytes", at.kv_cache_bytes, at.kv_cache_bytes),
        ("--kv-cache-dtype", at.kv_cache_dtype, w.kv_cache_dtype),
        ("--mamba-ssm-cache-dtype", w.mamba_ssm_cache_dtype, w.mamba_ssm_cache_dtype),
        ("--tensor-parallel-size", at.tensor, at.tensor > 1),
        ("--pipeline-parallel-size", at.pipeline, at.pipeline > 1),
        ("--data-parallel-size", at.data, at.data > 1),
        ("--decode-context-parallel-size", at.context_parallel, at.context_parallel > 1),
        ("--cpu-offload-gb", f"{at.offload / GIB:g}", at.offload),
        ("--max-loras", w.max_loras, w.max_loras),
        ("--max-lora-rank", w.max_lora_rank, w.max_loras and w.max_lora_rank),
    )
    yield from ((flag, value) for flag, value, said in numbers if said)
    yield from ((flag, True) for flag, said in _switches(at, w) if said)


def _switches(at: Launch, w: Infer) -> Iterator[tuple[str, bool]]:
    yield "--enable-expert-parallel", at.expert_parallel
    yield "--enforce-eager", at.eager
    yield "--enable-lora", bool(w.max_loras)
    yield "--enable-prefix-caching", bool(w.enable_prefix_caching)
    yield "--no-enable-prefix-caching", w.enable_prefix_caching is False
    yield "--disable-hybrid-kv-cache-manager", not at.hybrid
    yield "--no-async-scheduling", w.async_scheduling is False


def utilization(found: Sequence[Reserve], budget: Budget) -> float | None:
    """The smallest share that serves the workload, by the high estimate; None where no share
    does."""
    inside = max(r.inside.high + r.blocks.nbytes for r in found)
    share = math.ceil(STEPS * inside / hardware.total(budget)) / STEPS
    return share if share <= 1 else None
