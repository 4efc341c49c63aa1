"""What an answer says beside bytes: `workload` and `derived` of the JSON report (docs/report.md).

Engines, frameworks and tasks each add keys of their own; what reads them reads these names, and the
type checker knows each. A key that is not there does not apply.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Interval = list[int]  # [low, expected, high] in bytes
IntervalName = Literal["serving_interval", "available_kv_cache_interval", "profile_peak_interval"]
CountName = Literal[
    "kv_cache_tokens",
    "model_loading_bytes",
    "serving_bytes",
    "available_kv_cache_bytes",
    "num_gpu_blocks",
    "swa_max_total_num_tokens",
]


class EffectiveSettings(TypedDict, total=False):
    """Every setting, defaults included; what a task or an engine has none of is not there.
    Sizes are in tokens, requests or devices, as the tables of settings say them."""

    async_scheduling: bool
    attention: str | None
    attention_backend: str
    attn_max_b: int
    audio_seconds: float | None
    base_model: bool
    batch_size: int
    block_size: int | None
    cache_implementation: str | None
    cache_ram: int
    cache_type_k: str
    cache_type_v: str
    checkpointing: str
    chunked_prefill_size: int
    context: int | None
    context_parallel_size: int
    cpu_offload_gb: float
    cpu_ram_efficient_loading: bool
    cuda_graph_max_bs: int
    data_parallel_size: int
    decode_context_parallel_size: int
    device_map: str | None
    disable_cuda_graph: bool
    disable_hybrid_kv_cache_manager: bool
    disable_radix_cache: bool
    draft_model: str | None
    dtype: str
    enable_chunked_prefill: bool
    enable_dp_attention: bool
    enable_expert_parallel: bool
    enable_prefix_caching: bool
    enable_sleep_mode: bool
    enforce_eager: bool
    engine: str
    engine_version: str | None
    eval_batch_size: int | None
    exact: bool
    expert_parallel_size: int
    flash_attn: str
    framework: str
    fused_moe: bool
    gpu: str | None
    gpu_memory: str | None
    gpu_memory_utilization: float
    gradient_accumulation: int
    headroom: str | None
    image_size: list[int] | None
    images: int
    kbit_upcast: str
    kv_cache_dtype: str
    kv_cache_memory_bytes: int | None
    kv_unified: bool
    language_model_only: bool
    llama_cpp_build: int
    logits_to_keep: int
    lora_alpha: int | None
    lora_dropout: float | None
    lora_r: int | None
    lora_targets: list[str] | None
    loss: str
    main_gpu: int
    mamba_full_memory_ratio: float
    max_cudagraph_capture_size: int
    max_kv_size: int | None
    max_lora_rank: int | None
    max_loras: int | None
    max_model_len: int
    max_new_tokens: int | None
    max_num_batched_tokens: int
    max_num_seqs: int
    max_running_requests: int | None
    max_total_tokens: int | None
    mem_fraction_static: float | None
    method: str
    mla_attn: int
    modules_to_save: list[str] | None
    n_batch: int
    n_cpu_moe: int
    n_ctx: int
    n_gpu_layers: int
    no_kv_offload: bool
    no_mmap: bool
    num_beams: int
    num_gpu_blocks_override: int | None
    num_speculative_tokens: int
    offload: str
    optim_args: list[str]
    optimizer: str
    padded: bool
    page_size: int
    parallel: int
    pipeline_parallel_size: int
    precision: str
    prefill_step_size: int
    program: str
    prompt_len: int | None
    quantization: str | None
    ram: str | None
    run_time_repack: bool
    sched_max_copies: int
    seq_len: int
    shard: str
    speculative_algorithm: str
    split_mode: str
    swa_full: bool
    swa_full_tokens_ratio: float
    tensor_parallel_size: int
    tensor_split: list[float] | None
    torch_version: str | None
    ubatch_size: int
    use_reentrant: bool | None
    use_rslora: bool


class FirstRank(TypedDict):
    """What vLLM's log of a rank prints, in bytes."""

    profile_peak_bytes: int
    profile_peak_interval: Interval
    non_torch_bytes: int
    non_torch_interval: Interval


class DerivedFacts(TypedDict, total=False):
    """All keys, by who adds them. A name that ends in `_bytes` counts bytes, `_interval` has their
    bounds; lengths are in tokens."""

    # Every task
    dtype_from: str
    as_stored: bool
    # load; of a model whose weights alone are known, infer too
    volatile_buffer_bytes: int
    # load
    unloaded_tensors: int
    unloaded_bytes: int
    download_estimate_bytes: int | None
    unavailable_formats: Mapping[str, str]
    # infer and train
    context_from: str
    longest_context: int | None
    not_counted: list[str]
    launch: str | None
    launch_note: str | None
    command: Mapping[str, Any]  # of --command: what was ignored, unknown, left to the engine
    # infer, by every engine
    kv_cache_bytes_per_token: int
    largest_context: int | None
    largest_context_flags: str  # what its launch has beside what was set, of a share of the card
    largest_batch_size: int | None
    searched_to: Mapping[str, int] | None
    kv_cache_tokens: int | None
    max_concurrency: float | None
    # vLLM and SGLang
    available_kv_cache_bytes: int
    serves_as_asked: bool
    serves_by_default: bool  # without a command: with nothing but what was set
    launch_serves: bool
    # vLLM
    kv_cache_bytes_per_request: int
    available_kv_cache_interval: Interval
    serving_bytes: int
    serving_interval: Interval
    gpu_memory_utilization_needed: float | None
    num_gpu_blocks: int
    profile_peak_bytes: int
    profile_peak_interval: Interval
    non_torch_bytes: int
    first_rank: FirstRank
    stages: list[FirstRank]
    cuda_graph_bytes: int
    cuda_graph_estimate_bytes: int
    model_loading_bytes: int
    # SGLang
    max_total_num_tokens: int
    max_running_requests: int
    swa_max_total_num_tokens: int
    # llama.cpp, ik_llama.cpp and Ollama
    compute_buffer_bytes: list[int]  # of each device, the host last
    n_gpu_layers_that_fit: int
    n_cpu_moe_that_fits: int | None
    # Ollama
    ollama_ps_bytes: int
    ollama_ps: str
    # train
    runs_only: str
    trainable_parameters: int
    saved_activation_bytes: int
    first_step_peak_bytes: int
