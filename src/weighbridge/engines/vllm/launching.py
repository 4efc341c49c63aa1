"""The command line for this workload: `vllm serve`, with flags that differ from its defaults."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from weighbridge.base.units import GIB
from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.vllm import ENGINE
from weighbridge.engines.vllm.effective import VllmLaunch
from weighbridge.engines.vllm.settings import Vllm
from weighbridge.settings.setting import Setting

if TYPE_CHECKING:
    from weighbridge.workload import Infer

LORA_RANK = 16  # config/lora.py
METHODS = {"draft": "draft_model"}
RANKS: tuple[Setting[Any], ...] = (
    *(Vllm.tensor_parallel_size, Vllm.pipeline_parallel_size, Vllm.data_parallel_size),
    Vllm.decode_context_parallel_size,
)


def command(subject: Subject, effective: VllmLaunch, w: "Infer") -> str:
    flags = (
        *launch_line.of_weights(subject, w, ENGINE),
        *_flags(effective, w),
        *_drafting(subject, effective, w),
        *launch_line.of_images(subject, w, "--limit-mm-per-prompt"),
    )
    return launch_line.line(subject, w, ENGINE, "vllm serve", flags)


def _flags(effective: VllmLaunch, w: "Infer") -> Iterator[tuple[str, object]]:
    yield "--max-model-len", effective.context
    numbers = _numbers(effective, w)
    yield from ((setting.written, value) for setting, value in numbers if value)
    yield from ((flag, True) for flag, on in _switches(effective, w) if on)
    yield from launch_line.others(Vllm, w, {*WRITTEN, *(one.name for one, _ in numbers)})


def _numbers(effective: VllmLaunch, w: "Infer") -> tuple[tuple[Setting[Any], object], ...]:
    """Return (setting, value) pairs; the value is falsy for flags that the line leaves out."""
    alone = w.max_num_seqs or effective.requests == effective.sequences
    ranks = effective.tensor, effective.pipeline, effective.data, effective.context_parallel
    return (
        (Vllm.gpu_memory_utilization, w.gpu_memory_utilization and effective.utilization),
        (Vllm.max_num_seqs, alone and effective.sequences),
        (Vllm.max_num_batched_tokens, w.max_num_batched_tokens and effective.tokens),
        (Vllm.block_size, effective.block_size),
        (Vllm.num_gpu_blocks_override, effective.blocks),
        (Vllm.kv_cache_memory_bytes, effective.kv_cache_bytes),
        (Vllm.kv_cache_dtype, w.kv_cache_dtype),
        (Vllm.mamba_ssm_cache_dtype, w.mamba_ssm_cache_dtype),
        (Vllm.max_cudagraph_capture_size, w.max_cudagraph_capture_size),
        *((setting, n > 1 and n) for setting, n in zip(RANKS, ranks, strict=True)),
        (Vllm.cpu_offload_gb, effective.offload / GIB),
        (Vllm.swap_space, effective.swap and w.swap_space),
        (Vllm.kv_offloading_size, effective.kv_offload / GIB),
        (Vllm.max_loras, w.max_loras),
        (Vllm.max_lora_rank, w.max_loras and (w.max_lora_rank or LORA_RANK)),
        (Vllm.attention_backend, w.attention_backend),
    )


def _drafting(subject: Subject, effective: VllmLaunch, w: "Infer") -> Iterator[tuple[str, str]]:
    if effective.speculative:
        speculative: dict[str, object] = {"method": METHODS.get(effective.method, effective.method)}
        if w.draft_model:
            speculative["model"] = launch_line.draft(subject, w)
        speculative["num_speculative_tokens"] = effective.speculative
        yield "--speculative-config", json.dumps(speculative)


# Settings that other functions write, or that the line leaves out
WRITTEN = (
    *(Vllm.dtype.name, Vllm.enable_expert_parallel.name, Vllm.enforce_eager.name),
    *(Vllm.language_model_only.name, Vllm.enable_prefix_caching.name, Vllm.async_scheduling.name),
    *(Vllm.disable_hybrid_kv_cache_manager.name, Vllm.enable_sleep_mode.name),
    Vllm.skip_mm_profiling.name,
    Vllm.sleep_level.name,  # a request parameter of the running server
)


def _switches(effective: VllmLaunch, w: "Infer") -> Iterator[tuple[str, bool]]:
    yield Vllm.enable_expert_parallel.written, effective.expert_parallel
    yield Vllm.enforce_eager.written, effective.eager
    yield Vllm.language_model_only.written, effective.language_only
    yield "--enable-lora", bool(w.max_loras)
    yield Vllm.enable_prefix_caching.written, bool(w.enable_prefix_caching)
    yield "--no-enable-prefix-caching", w.enable_prefix_caching is False
    yield Vllm.disable_hybrid_kv_cache_manager.written, not effective.hybrid
    yield Vllm.async_scheduling.written, bool(w.async_scheduling)
    yield Vllm.enable_sleep_mode.written, effective.sleeps
    yield Vllm.skip_mm_profiling.written, w.skip_mm_profiling
    yield "--no-async-scheduling", w.async_scheduling is False
