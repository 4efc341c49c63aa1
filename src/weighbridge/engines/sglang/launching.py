"""The effective settings by name, and the command line that sets them in SGLang."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.engines import launch_line
from weighbridge.engines.interface import Subject
from weighbridge.engines.sglang import ENGINE
from weighbridge.engines.sglang.effective import Effective, generates
from weighbridge.engines.sglang.settings import Sglang
from weighbridge.memory.report.keys import EffectiveSettings
from weighbridge.settings.setting import Setting, launched

if TYPE_CHECKING:
    from weighbridge.workload import Infer

# Order of flags on the line; others follow
ORDER: tuple[Setting[Any], ...] = (
    *(Sglang.tensor_parallel_size, Sglang.pipeline_parallel_size, Sglang.data_parallel_size),
    *(Sglang.enable_dp_attention, Sglang.language_model_only, Sglang.kv_cache_dtype),
    *(Sglang.mem_fraction_static, Sglang.chunked_prefill_size, Sglang.max_running_requests),
    *(Sglang.max_total_tokens, Sglang.page_size, Sglang.swa_full_tokens_ratio),
    *(Sglang.mamba_full_memory_ratio, Sglang.max_mamba_cache_size, Sglang.mamba_ssm_cache_dtype),
    *(Sglang.cuda_graph_max_bs,),
    *(Sglang.attention_backend, Sglang.disable_cuda_graph, Sglang.disable_radix_cache),
    *(Sglang.max_loras, Sglang.max_lora_rank, Sglang.cpu_offload_gb),
    *(Sglang.draft_model, Sglang.num_speculative_tokens),
)
APART = (Sglang.context, Sglang.dtype, Sglang.enable_expert_parallel)  # `_flags` writes them
FLAGS: Mapping[str, str] = {  # setting -> flag, if the user sets it
    setting.name: setting.written
    for setting in (*ORDER, *(one for one, _ in launched(Sglang)))
    if setting not in APART
}
# The name of --cuda-graph-max-bs for decode graphs only, which replaces it in 0.5.23
# (srt/arg_groups/fields/exec_.py); that it is not needed before is assumed
OF_DECODE, RENAMED = "cuda_graph_max_bs", (0, 5, 23)
ZEROS = ("chunked_prefill_size",)  # 0 is a value of it: prompts are not chunked


def _written(value: object) -> str:
    """Return a value as its flag accepts it: whole GB are an integer there (--cpu-offload-gb of
    server_args.py)."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def launch(subject: Subject, w: "Infer", effective: Effective) -> str:
    program = "python -m sglang.launch_server --model-path"
    return launch_line.line(subject, w, ENGINE, program, _flags(subject, w, effective))


def _flags(subject: Subject, w: "Infer", effective: Effective) -> Iterator[tuple[str, object]]:
    if not w.engine_defaults or any((w.context, w.prompt_len, w.max_new_tokens)):
        yield "--context-length", effective.context  # a command without one caps its requests
    if effective.algorithm is not None:
        yield "--speculative-algorithm", effective.algorithm
    if effective.experts:
        yield "--ep-size", effective.tensor
    if effective.loras:
        yield "--enable-lora", True
    if not generates(subject):
        yield "--is-embedding", True
    yield from launch_line.of_weights(subject, w, ENGINE)
    yield from launch_line.of_images(subject, w, "--limit-mm-data-per-request")
    yield from _as_given(subject, w, effective)


def _as_given(subject: Subject, w: "Infer", effective: Effective) -> Iterator[tuple[str, object]]:
    """Yield the flags that the user set."""
    for name, flag in FLAGS.items():
        asked = launch_line.draft(subject, w) if name == "draft_model" else getattr(w, name)
        if name == OF_DECODE and effective.version >= RENAMED:
            flag = f"{flag}-decode"
        if asked or (asked == 0 and name in ZEROS):
            yield flag, asked if asked is True else _written(asked)


def settings(effective: Effective, w: "Infer") -> EffectiveSettings:
    values: EffectiveSettings = {
        "tensor_parallel_size": effective.tensor,
        "pipeline_parallel_size": effective.pipeline,
        "data_parallel_size": effective.pools_of,
        "enable_dp_attention": effective.groups > 1,
        "language_model_only": w.language_model_only,
        "enable_expert_parallel": effective.experts,
        "mem_fraction_static": effective.share,
        "chunked_prefill_size": effective.chunk,
        "max_running_requests": effective.running,
        "max_total_tokens": effective.tokens,
        "page_size": effective.page,
        "swa_full_tokens_ratio": float(effective.swa_ratio),
        "mamba_full_memory_ratio": float(effective.mamba_ratio),
        "max_mamba_cache_size": w.max_mamba_cache_size,
        "cuda_graph_max_bs": effective.largest,
        "disable_cuda_graph": w.disable_cuda_graph,
        "disable_radix_cache": not effective.radix,
        "attention_backend": effective.backend,
        "kv_cache_dtype": effective.kv,
    }
    if effective.algorithm is not None:
        values |= {
            "speculative_algorithm": effective.algorithm,
            "num_speculative_tokens": effective.drafted,
        }
    if effective.loras:
        values |= {"max_loras": effective.loras, "max_lora_rank": effective.lora_rank}
    return values
