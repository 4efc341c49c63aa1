"""What the user asked for: plain settings, before any default is filled in.

None means everywhere: the engine's own default. How a setting is written on a command line and in
a request is in `settings.py`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget
    from weighbridge.accelerators.ram import Ram


FSDP = ("fsdp1", "fsdp2", "hsdp")  # values of `shard` by which all that a rank holds is in parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What every question may say: the format of the weights, and the device."""

    dtype: str | None = None
    quantization: str | None = None
    engine_version: str | None = None
    device_map: str | None = None
    base_model: bool = False
    gpu: str | None = None
    gpu_memory: str | None = None
    headroom: str | None = None
    ram: str | None = None  # host memory

    def budget(self) -> "Budget | None":
        """The device that was named, resolved. The catalogue is read only where one was."""
        if self.gpu is None and self.gpu_memory is None and self.headroom is None:
            return None
        from weighbridge.accelerators.budget import budget

        return budget(self.gpu, self.gpu_memory, self.headroom)

    def host_memory(self) -> "Ram | None":
        """The host memory that was named, read."""
        if self.ram is None:
            return None
        from weighbridge.accelerators.ram import ram

        return ram(self.ram)

    def check(self) -> None:
        """Raises for a device or a machine that is not known, before anything is fetched."""
        self.budget()
        self.host_memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Weighed):
    """Loading the weights and nothing else."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(Weighed):
    """Fine-tuning or training: one optimizer step, and how ranks share it."""

    method: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    precision: str | None = None
    optimizer: str | None = None
    optim_args: tuple[str, ...] | None = None
    torch_version: str | None = None
    kbit_upcast: str | None = None
    gptq_kernel: str | None = None
    bitsandbytes_version: str | None = None
    accelerate_version: str | None = None
    deepspeed_version: str | None = None
    # the batch
    batch_size: int | None = None  # sequences of one micro-batch on one device
    seq_len: int | None = None
    gradient_accumulation: int | None = None
    eval_batch_size: int | None = None  # sequences of a batch of an evaluation
    image_size: tuple[int, int] | None = None
    images: int | None = None
    audio_seconds: float | None = None
    padded: bool = False  # sequences of unequal length in a batch
    # kernels
    checkpointing: str | None = None
    loss: str | None = None
    attention: str | None = None
    compile: bool = False
    optimizer_in_backward: bool = False
    # adapters
    bnb_4bit_quant_storage: str | None = None
    lora_r: int | None = None
    lora_alpha: int | None = None
    lora_targets: tuple[str, ...] | None = None
    lora_dropout: float | None = None
    use_rslora: bool = False
    modules_to_save: tuple[str, ...] | None = None
    # ranks
    shard: str | None = None
    offload: str | None = None
    cpu_ram_efficient_loading: bool = False  # one rank of a machine reads for all
    data_parallel_size: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    context_parallel_size: int | None = None
    expert_parallel_size: int | None = None
    zero_reduce_bucket_size: int | None = None  # numbers, as DeepSpeed counts them
    zero_prefetch_bucket_size: int | None = None
    zero_param_persistence_threshold: int | None = None
    zero_max_live_parameters: int | None = None
    zero_sub_group_size: int | None = None
    zero_overlap_comm: bool = False
    no_zero_init: bool = False
    exact: bool = False
