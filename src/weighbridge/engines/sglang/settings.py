"""Settings of SGLang, by the names on its command line."""

from weighbridge.settings.setting import (
    Float,
    Int,
    Str,
    Switch,
    count,
    number,
    spelled,
    switch,
    whole,
)
from weighbridge.settings.shared import (
    CacheSettings,
    CardSettings,
    DraftSettings,
    PrefixSettings,
    RequestSettings,
    ServingSettings,
    SightSettings,
    WeightSettings,
)


class Sglang(ServingSettings, SightSettings, PrefixSettings, CardSettings, DraftSettings):
    """Settings of SGLang."""

    TITLE = "SGLang"
    mem_fraction_static: Float = number(0, 1)
    enable_dp_attention: Switch = switch(launch=spelled("--enable-dp-attention", reads="code"))
    chunked_prefill_size: Int = whole(-1)
    max_running_requests: Int = whole(1, slider=(1, 1 << 10))
    max_total_tokens: Int = count(1)
    page_size: Int = whole(1, 1 << 20)
    swa_full_tokens_ratio: Float = number(0, 1)
    mamba_full_memory_ratio: Float = number(0, 1000)
    max_mamba_cache_size: Int = whole(1, 1 << 20)
    cuda_graph_max_bs: Int = whole(
        launch=spelled("--cuda-graph-max-bs", "--cuda-graph-max-bs-decode")
    )
    disable_cuda_graph: Switch = switch(
        launch=spelled("--disable-cuda-graph", "--disable-decode-cuda-graph")
    )
    disable_radix_cache: Switch = switch()
    enable_hierarchical_cache: Switch = switch(
        launch=spelled("--enable-hierarchical-cache", "--enable-hicache")
    )
    hicache_ratio: Float = number(default=2.0)
    hicache_size: Float = number()
    data_parallel_size: Int = CardSettings.data_parallel_size.but(
        launch=spelled("--dp-size", reads="code")
    )
    max_loras: Int = CardSettings.max_loras.but(
        launch=spelled("--max-loras-per-batch", reads="code")
    )
    max_lora_rank: Int = CardSettings.max_lora_rank.but(
        launch=spelled("--max-lora-rank", reads="code")
    )
    draft_model: Str = DraftSettings.draft_model.but(
        launch=spelled("--speculative-draft-model-path", reads="code")
    )
    num_speculative_tokens: Int = CardSettings.num_speculative_tokens.but(
        launch=spelled("--speculative-num-draft-tokens", reads="code")
    )
    context: Int = RequestSettings.context.but(launch=spelled("--context-length"))
    dtype: Str = WeightSettings.dtype.but(launch=spelled("--dtype", reads="dtype", plain=("auto",)))
    kv_cache_dtype: Str = CacheSettings.kv_cache_dtype.but(
        launch=spelled("--kv-cache-dtype", plain=("auto",))
    )
    tensor_parallel_size: Int = CardSettings.tensor_parallel_size.but(
        launch=spelled("--tp-size", "--tensor-parallel-size", "--tp")
    )
    pipeline_parallel_size: Int = CardSettings.pipeline_parallel_size.but(
        launch=spelled("--pp-size", "--pipeline-parallel-size", "--pp")
    )
    enable_expert_parallel: Switch = CardSettings.enable_expert_parallel.but(
        launch=spelled("--ep-size", "--expert-parallel-size", "--ep", reads="many")
        + spelled("--enable-ep-moe")
    )
    language_model_only: Switch = CardSettings.language_model_only.but(
        launch=spelled("--language-model-only", "--language-only")
    )
    mamba_ssm_cache_dtype: Str = CardSettings.mamba_ssm_cache_dtype.but(
        launch=spelled("--mamba-ssm-dtype")
    )
    cpu_offload_gb: Float = CardSettings.cpu_offload_gb.but(launch=spelled("--cpu-offload-gb"))
    attention_backend: Str = CardSettings.attention_backend.but(
        launch=spelled("--attention-backend")
    )


SETTINGS = Sglang
