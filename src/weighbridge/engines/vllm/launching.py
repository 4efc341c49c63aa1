"""The command line for this workload: `vllm serve`, with what differs from its defaults."""

import json
import shlex
from collections.abc import Iterator

from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.vllm import ENGINE
from weighbridge.engines.vllm.setting import VllmLaunch
from weighbridge.settings import Infer
from weighbridge.units import GIB

LORA_RANK = 16  # config/lora.py
METHODS = {"draft": "draft_model"}
CHANGED = {
    "gpu_memory_utilization": "--gpu-memory-utilization",
    "max_num_seqs": "--max-num-seqs",
    "max_num_batched_tokens": "--max-num-batched-tokens",
    "enforce_eager": "--enforce-eager",
}


def command(subject: Subject, at: VllmLaunch, w: Infer) -> str:
    where = launch_line.place(subject)
    words = [*launch_line.before(subject, ENGINE), "vllm serve", shlex.quote(where.model)]
    if where.revision:
        words += ["--revision", shlex.quote(where.revision)]
    for flag, value in (*_weights(subject, w), *_flags(at, w), *_extras(subject, at, w)):
        words.append(flag if value is True else f"{flag} {value}")
    return " ".join(words)


def change(before: Infer, after: Infer) -> dict[str, object]:
    """The settings that `after` has and `before` does not."""
    return {n: v for n in CHANGED if (v := getattr(after, n)) != getattr(before, n)}


def changes(before: Infer, after: Infer) -> str:
    """Write the settings that `after` has and `before` does not as flags."""
    found = change(before, after).items()
    return " ".join(CHANGED[n] if v is True else f"{CHANGED[n]} {v}" for n, v in found)


def _weights(subject: Subject, w: Infer) -> Iterator[tuple[str, object]]:
    named = (
        ("--dtype", launch_line.dtype(subject, w)),
        ("--quantization", launch_line.quantization(subject, w, ENGINE)),
    )
    yield from ((flag, value) for flag, value in named if value)


def _flags(at: VllmLaunch, w: Infer) -> Iterator[tuple[str, object]]:
    yield "--max-model-len", at.context
    numbers = (
        ("--gpu-memory-utilization", at.utilization, w.gpu_memory_utilization is not None),
        ("--max-num-seqs", at.sequences, w.max_num_seqs or at.requests == at.sequences),
        ("--max-num-batched-tokens", at.tokens, w.max_num_batched_tokens),
        ("--block-size", at.block_size, w.block_size),
        ("--num-gpu-blocks-override", at.blocks, at.blocks),
        ("--kv-cache-memory-bytes", at.kv_cache_bytes, at.kv_cache_bytes),
        ("--kv-cache-dtype", at.kv_cache_dtype, w.kv_cache_dtype),
        ("--mamba-ssm-cache-dtype", w.mamba_ssm_cache_dtype, w.mamba_ssm_cache_dtype),
        (
            "--max-cudagraph-capture-size",
            w.max_cudagraph_capture_size,
            w.max_cudagraph_capture_size,
        ),
        ("--tensor-parallel-size", at.tensor, at.tensor > 1),
        ("--pipeline-parallel-size", at.pipeline, at.pipeline > 1),
        ("--data-parallel-size", at.data, at.data > 1),
        ("--decode-context-parallel-size", at.context_parallel, at.context_parallel > 1),
        ("--cpu-offload-gb", at.offload / GIB, at.offload),
        ("--max-loras", w.max_loras, w.max_loras),
        ("--max-lora-rank", w.max_lora_rank or LORA_RANK, w.max_loras),
        ("--attention-backend", w.attention_backend, w.attention_backend),
    )
    yield from ((flag, value) for flag, value, said in numbers if said)
    yield from ((flag, True) for flag, said in _switches(at, w) if said)


def _extras(subject: Subject, at: VllmLaunch, w: Infer) -> Iterator[tuple[str, object]]:
    if at.speculative:
        found: dict[str, object] = {"method": METHODS.get(at.method, at.method)}
        if w.draft_model:
            found["model"] = launch_line.draft(subject, w)
        found["num_speculative_tokens"] = at.speculative
        yield "--speculative-config", shlex.quote(json.dumps(found))
    if launch_line.limits_images(subject, w):
        yield "--limit-mm-per-prompt", shlex.quote(json.dumps({"image": w.images}))


def _switches(at: VllmLaunch, w: Infer) -> Iterator[tuple[str, bool]]:
    yield "--enable-expert-parallel", at.expert_parallel
    yield "--enforce-eager", at.eager
    yield "--language-model-only", at.language_only
    yield "--enable-lora", bool(w.max_loras)
    yield "--enable-prefix-caching", bool(w.enable_prefix_caching)
    yield "--no-enable-prefix-caching", w.enable_prefix_caching is False
    yield "--disable-hybrid-kv-cache-manager", not at.hybrid
    yield "--async-scheduling", bool(w.async_scheduling)
    yield "--enable-sleep-mode", at.sleeps
    yield "--no-async-scheduling", w.async_scheduling is False
