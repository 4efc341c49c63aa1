"""Settings of vLLM, by the names on its command line."""

from weighbridge.settings.setting import (
    Bool,
    Float,
    Int,
    Str,
    Switch,
    count,
    flag,
    number,
    size,
    spelled,
    switch,
    whole,
    word,
)
from weighbridge.settings.shared import (
    CacheSettings,
    CardSettings,
    DraftSettings,
    PrefixSettings,
    ServingSettings,
    SightSettings,
    WeightSettings,
)


class Vllm(ServingSettings, SightSettings, PrefixSettings, CardSettings, DraftSettings):
    """Settings of vLLM."""

    TITLE = "vLLM"
    gpu_memory_utilization: Float = number(
        0, 1, launch=spelled("--gpu-memory-utilization", "--device-memory-utilization")
    )
    kv_cache_memory_bytes: Int = size(1, launch=spelled("--kv-cache-memory-bytes", reads="bytes"))
    max_num_batched_tokens: Int = count(1)
    max_num_seqs: Int = whole(1, 1 << 20, slider=(1, 1 << 10))
    block_size: Int = whole(1, 1 << 20)
    enforce_eager: Bool = flag()
    enable_prefix_caching: Bool = flag()
    async_scheduling: Bool = flag()
    max_cudagraph_capture_size: Int = whole()
    num_gpu_blocks_override: Int = whole(1)
    decode_context_parallel_size: Int = whole(
        1, 1 << 10, launch=spelled("--decode-context-parallel-size", "-dcp")
    )
    disable_hybrid_kv_cache_manager: Switch = switch()
    skip_mm_profiling: Switch = switch()
    enable_sleep_mode: Switch = switch(
        launch=spelled("--enable-sleep-mode", "--enable-cumem-allocator")
    )
    distributed_executor_backend: Str = word("mp", "ray", "uni", "external_launcher")
    sleep_level: Int = whole(1, 2, default=1, launch=())
    swap_space: Float = number()
    kv_offloading_size: Float = number()
    dtype: Str = WeightSettings.dtype.but(launch=spelled("--dtype", reads="dtype", plain=("auto",)))
    kv_cache_dtype: Str = CacheSettings.kv_cache_dtype.but(
        launch=spelled("--kv-cache-dtype", plain=("auto",))
    )
    tensor_parallel_size: Int = CardSettings.tensor_parallel_size.but(
        launch=spelled("--tensor-parallel-size", "-tp")
    )
    pipeline_parallel_size: Int = CardSettings.pipeline_parallel_size.but(
        launch=spelled("--pipeline-parallel-size", "-pp")
    )
    data_parallel_size: Int = CardSettings.data_parallel_size.but(
        launch=spelled("--data-parallel-size", "-dp")
    )
    enable_expert_parallel: Switch = CardSettings.enable_expert_parallel.but(
        launch=spelled("--enable-expert-parallel", "-ep")
    )
    language_model_only: Switch = CardSettings.language_model_only.but(
        launch=spelled("--language-model-only")
    )
    mamba_ssm_cache_dtype: Str = CardSettings.mamba_ssm_cache_dtype.but(
        launch=spelled("--mamba-ssm-cache-dtype", plain=("auto",))
    )
    cpu_offload_gb: Float = CardSettings.cpu_offload_gb.but(launch=spelled("--cpu-offload-gb"))
    attention_backend: Str = CardSettings.attention_backend.but(
        launch=spelled("--attention-backend", plain=("auto", "none"))
    )


SETTINGS = Vllm
