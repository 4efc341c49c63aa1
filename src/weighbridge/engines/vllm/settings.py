"""Settings of vLLM, named as its own command line has them."""

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
        0,
        1,
        help="Share of the whole device.",
        label_zh="显存占用比例",
        zh="占整张卡的比例。",
        launch=spelled("--gpu-memory-utilization", "--device-memory-utilization"),
    )
    kv_cache_memory_bytes: Int = size(
        label="KV cache size",
        help="Size of the cache; the share does not count then.",
        label_zh="KV 缓存大小",
        zh="缓存的大小；设了它，占用比例就不起作用。",
        launch=spelled("--kv-cache-memory-bytes", reads="bytes"),
    )
    max_num_batched_tokens: Int = count(
        1,
        label="Tokens of a step",
        help="Tokens of one step.",
        label_zh="每步 token 上限",
        zh="一步处理的 token 数。",
    )
    max_num_seqs: Int = whole(
        1,
        1 << 20,
        label="Requests at once, at most (max-num-seqs)",
        help="Requests of one step.",
        label_zh="并发上限",
        zh="一步处理的请求数(max-num-seqs)。",
        slider=(1, 1 << 10),
    )
    block_size: Int = whole(
        1, 1 << 20, help="Tokens of a block.", label_zh="块大小", zh="一块缓存的 token 数。"
    )
    enforce_eager: Bool = flag(
        help="No CUDA graphs.", label_zh="不用 CUDA graph", zh="不捕获 CUDA graph。"
    )
    enable_prefix_caching: Bool = flag(
        help="Blocks of equal prefixes are shared.", label_zh="前缀缓存", zh="相同前缀的块共用。"
    )
    async_scheduling: Bool = flag(
        help="The next step is planned while one runs.",
        label_zh="异步调度",
        zh="一步运行时就安排下一步。",
    )
    max_cudagraph_capture_size: Int = whole(
        label="Largest CUDA graph",
        help="Largest batch with a graph.",
        label_zh="最大的 CUDA graph",
        zh="有 CUDA graph 的最大批。",
    )
    num_gpu_blocks_override: Int = whole(
        1,
        label="GPU blocks",
        help="Blocks of the cache, whatever there is room for.",
        label_zh="GPU 块数",
        zh="缓存的块数，不管放得下多少。",
    )
    decode_context_parallel_size: Int = whole(
        1,
        1 << 10,
        help="Devices that share the tokens of a cache.",
        label_zh="解码上下文并行",
        zh="共同分担一份缓存的卡数。",
        launch=spelled("--decode-context-parallel-size", "-dcp"),
    )
    disable_hybrid_kv_cache_manager: Switch = switch(
        help="Windows are kept whole.",
        label_zh="关闭混合 KV 管理",
        zh="滑动窗口的层也保存全部缓存。",
    )
    skip_mm_profiling: Switch = switch(
        help="Images and sounds are not profiled: what they take is left to the card.",
        label_zh="不测多模态输入",
        zh="启动时不测图像和声音的占用，它们要用的显存不预留。",
    )
    enable_sleep_mode: Switch = switch(
        help="Weights and cache are in a pool that can be given back.",
        label_zh="睡眠模式",
        zh="权重和缓存放在可以归还的内存池里。",
        launch=spelled("--enable-sleep-mode", "--enable-cumem-allocator"),
    )
    distributed_executor_backend: Str = word(
        "mp",
        "ray",
        "uni",
        "external_launcher",
        help="What starts the ranks. Ray's object store may take 30 % of what --ram says.",
        label_zh="分布式后端",
        zh="由什么启动各个 rank。用 Ray 时，对象存储可能占 --ram 的 30 %。",
    )
    sleep_level: Int = whole(
        1,
        2,
        help="How it sleeps: at 1 weights go to host memory, at 2 nothing is kept. Default: 1.",
        default=1,
        label_zh="睡眠级别",
        zh="睡眠方式：1 把权重放到主机内存，2 什么都不保留。默认 1。",
        launch=(),
    )
    swap_space: Float = number(
        label="Swap space (GiB)",
        help="GiB of host memory for each device's cache, of releases before 0.8. Default: 4.",
        label_zh="交换空间(GiB)",
        zh="0.8 之前的版本里，每张卡的缓存在主机内存中占多少 GiB。默认 4。",
    )
    kv_offloading_size: Float = number(
        label="KV offload (GiB)",
        help="GiB of host memory for blocks that leave the devices, of all ranks together.",
        label_zh="KV 卸载(GiB)",
        zh="离开显卡的缓存块放在主机内存里，所有卡合计多少 GiB。",
    )
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
