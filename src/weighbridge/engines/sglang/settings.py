"""Settings of SGLang, named as its own command line has them."""

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
    mem_fraction_static: Float = number(
        0,
        1,
        help="Share of the free device for weights and caches.",
        label_zh="静态显存比例",
        zh="权重和缓存占空闲显存的比例。",
    )
    enable_dp_attention: Switch = switch(
        help="--data-parallel-size counts groups of --tensor-parallel-size with attention each.",
        label_zh="数据并行注意力",
        zh="数据并行数表示组数，每组各有一份注意力，组内做张量并行。",
        launch=spelled("--enable-dp-attention", reads="code"),
    )
    chunked_prefill_size: Int = whole(
        -1,
        help="Tokens of a piece of a prompt; -1: whole.",
        label_zh="预填充分块",
        zh="提示按多少 token 分块；-1 表示不分块。",
    )
    max_running_requests: Int = whole(
        1,
        label="Requests at once, at most",
        help="Requests at once.",
        label_zh="并发上限",
        zh="同时运行的请求数。",
        slider=(1, 1 << 10),
    )
    max_total_tokens: Int = count(
        1, help="Tokens of the pool.", label_zh="缓存池 token 数", zh="缓存池的 token 数。"
    )
    page_size: Int = whole(
        1, 1 << 20, help="Tokens of a page.", label_zh="页大小", zh="一页缓存的 token 数。"
    )
    swa_full_tokens_ratio: Float = number(
        0,
        1,
        help="Pool of sliding layers to the full one.",
        label_zh="滑动窗口池比例",
        zh="滑动窗口层的池与完整池之比。",
    )
    mamba_full_memory_ratio: Float = number(
        0,
        1000,
        help="States to the rest of the cache.",
        label_zh="Mamba 状态比例",
        zh="状态与其余缓存之比。",
    )
    cuda_graph_max_bs: Int = whole(
        label="Largest CUDA graph",
        help="Largest batch with a graph.",
        label_zh="最大的 CUDA graph",
        zh="有 CUDA graph 的最大批。",
        launch=spelled("--cuda-graph-max-bs", "--cuda-graph-max-bs-decode"),
    )
    disable_cuda_graph: Switch = switch(
        label="No CUDA graphs",
        help="No CUDA graphs.",
        label_zh="不用 CUDA graph",
        zh="不捕获 CUDA graph。",
        launch=spelled("--disable-cuda-graph", "--disable-decode-cuda-graph"),
    )
    disable_radix_cache: Switch = switch(
        help="Prefixes are not kept.", label_zh="不保留前缀", zh="不保留前缀的缓存。"
    )
    enable_hierarchical_cache: Switch = switch(
        help="Prefixes that leave the devices are kept in host memory.",
        label_zh="分层缓存",
        zh="离开显卡的前缀保存在主机内存里。",
        launch=spelled("--enable-hierarchical-cache", "--enable-hicache"),
    )
    hicache_ratio: Float = number(
        label="Host cache ratio",
        help="Tokens of the cache in host memory to those on the device. Default: 2.",
        default=2.0,
        label_zh="主机缓存比例",
        zh="主机内存中的缓存 token 数与显卡上的之比。默认 2。",
    )
    hicache_size: Float = number(
        label="Host cache (GB)",
        help="GB of each rank's cache in host memory, in the ratio's place.",
        label_zh="主机缓存(GB)",
        zh="每个 rank 在主机内存中的缓存有多少 GB，代替比例。",
    )
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
