"""The effective settings by their names, and the command line that asks SGLang for them."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.sglang import ENGINE
from weighbridge.engines.sglang.effective import Effective, generates
from weighbridge.engines.sglang.settings import Sglang
from weighbridge.report.keys import EffectiveSettings
from weighbridge.settings.setting import Setting, launched

if TYPE_CHECKING:
    from weighbridge.workload import Infer

# In the order of a line; others follow
ORDER: tuple[Setting[Any], ...] = (
    *(Sglang.tensor_parallel_size, Sglang.pipeline_parallel_size, Sglang.data_parallel_size),
    *(Sglang.enable_dp_attention, Sglang.language_model_only, Sglang.kv_cache_dtype),
    *(Sglang.mem_fraction_static, Sglang.chunked_prefill_size, Sglang.max_running_requests),
    *(Sglang.max_total_tokens, Sglang.page_size, Sglang.swa_full_tokens_ratio),
    *(Sglang.mamba_full_memory_ratio, Sglang.mamba_ssm_cache_dtype, Sglang.cuda_graph_max_bs),
    *(Sglang.attention_backend, Sglang.disable_cuda_graph, Sglang.disable_radix_cache),
    *(Sglang.max_loras, Sglang.max_lora_rank, Sglang.cpu_offload_gb),
    *(Sglang.draft_model, Sglang.num_speculative_tokens),
)
APART = (Sglang.context, Sglang.dtype, Sglang.enable_expert_parallel)  # `_flags` says them
FLAGS: Mapping[str, str] = {  # setting -> flag, where the user said something
    setting.name: setting.written
    for setting in (*ORDER, *(one for one, _ in launched(Sglang)))
    if setting not in APART
}
ZEROS = ("chunked_prefill_size",)  # of which 0 is a value of its own: prompts are not cut


def change(before: "Infer", after: "Infer") -> dict[str, object]:
    """The settings that `after` has and `before` does not."""
    return {n: v for n in FLAGS if (v := getattr(after, n)) != getattr(before, n)}


def changes(before: "Infer", after: "Infer") -> str:
    """Write the settings that `after` has and `before` does not as flags."""
    found = change(before, after).items()
    return " ".join(FLAGS[n] if v is True else f"{FLAGS[n]} {v}" for n, v in found)


def launch(s: Subject, w: "Infer", e: Effective) -> str:
    where = launch_line.place(s)
    words = ["python", "-m", "sglang.launch_server", "--model-path", where.model]
    if where.revision:
        words += ["--revision", where.revision]
    words = [shlex.quote(word) for word in (*words, *_flags(s, w, e))]
    return " ".join((*launch_line.before(s, ENGINE), *words))


def _flags(s: Subject, w: "Infer", e: Effective) -> Iterator[str]:
    yield from ("--context-length", str(e.context))
    if e.algorithm is not None:
        yield from ("--speculative-algorithm", e.algorithm)
    if e.experts:
        yield from ("--ep-size", str(e.tensor))
    if e.loras:
        yield "--enable-lora"
    yield from _of_model(s, w)
    for name, flag in FLAGS.items():
        asked = launch_line.draft(s, w) if name == "draft_model" else getattr(w, name)
        if asked is True:
            yield flag
        elif asked or (asked == 0 and name in ZEROS):
            yield from (flag, str(asked))


def _of_model(s: Subject, w: "Infer") -> Iterator[str]:
    dtype, quantization = launch_line.dtype(s, w), launch_line.quantization(s, w, ENGINE)
    if not generates(s):
        yield "--is-embedding"
    if dtype:
        yield from ("--dtype", dtype)
    if quantization:
        yield from ("--quantization", quantization)
    if launch_line.limits_images(s, w):
        yield from ("--limit-mm-data-per-request", json.dumps({"image": w.images}))


def settings(e: Effective, w: "Infer") -> EffectiveSettings:
    found: EffectiveSettings = {
        "tensor_parallel_size": e.tensor,
        "pipeline_parallel_size": e.pipeline,
        "data_parallel_size": e.pools_of,
        "enable_dp_attention": e.groups > 1,
        "language_model_only": w.language_model_only,
        "enable_expert_parallel": e.experts,
        "mem_fraction_static": e.share,
        "chunked_prefill_size": e.chunk,
        "max_running_requests": e.running,
        "max_total_tokens": e.tokens,
        "page_size": e.page,
        "swa_full_tokens_ratio": float(e.swa_ratio),
        "mamba_full_memory_ratio": float(e.mamba_ratio),
        "cuda_graph_max_bs": e.largest,
        "disable_cuda_graph": w.disable_cuda_graph,
        "disable_radix_cache": not e.radix,
        "attention_backend": e.backend,
        "kv_cache_dtype": e.kv,
    }
    if e.algorithm is not None:
        found |= {"speculative_algorithm": e.algorithm, "num_speculative_tokens": e.drafted}
    if e.loras:
        found |= {"max_loras": e.loras, "max_lora_rank": e.lora_rank}
    return found
