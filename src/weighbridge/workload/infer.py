"""What serving is asked about."""

from dataclasses import dataclass

from weighbridge.workload.weighed import Weighed


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer(Weighed):
    """Serving: the requests, and how the engine is launched."""

    engine: str | None = None
    engine_defaults: bool = False  # a launch command was given: what it does not say, it decides
    # requests
    context: int | None = None  # tokens of one request, prompt and answer together
    prompt_len: int | None = None
    max_new_tokens: int | None = None
    batch_size: int | None = None  # requests at once
    shared_prefix: int | None = None  # tokens at the start that all requests have in common
    image_size: tuple[int, int] | None = None  # (height, width) in pixels
    images: int | None = None  # of one request
    audio_seconds: float | None = None
    # any engine
    kv_cache_dtype: str | None = None
    attention: str | None = None
    torch_version: str | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    data_parallel_size: int | None = None
    enable_expert_parallel: bool = False
    language_model_only: bool = False
    max_loras: int | None = None
    max_lora_rank: int | None = None
    draft_model: str | None = None
    speculative_method: str | None = None  # draft, mtp, eagle, eagle3, ngram
    num_speculative_tokens: int | None = None
    # transformers
    cache_implementation: str | None = None
    num_beams: int | None = None
    logits_to_keep: int | None = None  # 0: of all tokens
    exact: bool = False  # the real class is traced, too
    # vllm
    gpu_memory_utilization: float | None = None
    kv_cache_memory_bytes: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    block_size: int | None = None
    enforce_eager: bool | None = None
    enable_prefix_caching: bool | None = None
    async_scheduling: bool | None = None
    mamba_ssm_cache_dtype: str | None = None
    max_cudagraph_capture_size: int | None = None
    num_gpu_blocks_override: int | None = None
    decode_context_parallel_size: int | None = None
    cpu_offload_gb: float | None = None
    disable_hybrid_kv_cache_manager: bool = False
    enable_sleep_mode: bool = False
    # sglang
    mem_fraction_static: float | None = None
    enable_dp_attention: bool = False
    chunked_prefill_size: int | None = None
    max_running_requests: int | None = None
    max_total_tokens: int | None = None
    page_size: int | None = None
    swa_full_tokens_ratio: float | None = None
    mamba_full_memory_ratio: float | None = None
    cuda_graph_max_bs: int | None = None
    disable_cuda_graph: bool = False
    disable_radix_cache: bool = False
    attention_backend: str | None = None
    # llama.cpp
    program: str | None = None  # server or cli
    n_gpu_layers: int | None = None
    n_cpu_moe: int | None = None
    n_batch: int | None = None
    ubatch_size: int | None = None
    parallel: int | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    flash_attn: str | None = None  # on, off, auto
    kv_unified: bool | None = None
    swa_full: bool = False
    split_mode: str | None = None  # none, layer, row
    tensor_split: tuple[float, ...] | None = None
    main_gpu: int | None = None
    no_kv_offload: bool = False
    no_mmap: bool = False
    cache_ram: int | None = None  # MiB of host memory for prompts
    sched_max_copies: int | None = None  # a number that was compiled in
    mmproj: str | None = None
    # ik_llama.cpp
    mla_attn: int | None = None
    attn_max_b: int | None = None
    fused_moe: bool | None = None
    run_time_repack: bool = False
    # mlx
    max_kv_size: int | None = None
    prefill_step_size: int | None = None
