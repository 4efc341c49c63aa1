"""Settings of llama.cpp, named as its own command line has them."""

from weighbridge.settings.setting import (
    Bool,
    Int,
    Settings,
    Shares,
    Str,
    Switch,
    Words,
    count,
    flag,
    pairs,
    spelled,
    split,
    switch,
    whole,
    word,
)
from weighbridge.settings.shared import (
    CardSettings,
    DraftSettings,
    ProgramSettings,
    ServingSettings,
    SightSettings,
)


class Ggml(Settings):
    """Settings of llama.cpp, and of programs that are made of it."""

    TITLE = "llama.cpp"
    program: Str = ProgramSettings.program
    n_gpu_layers: Int = whole(
        -1,
        flags=("-ngl", "--gpu-layers"),
        label="Layers on the GPU",
        help="Layers on the device; -1: all.",
        label_zh="GPU 层数",
        zh="放在卡上的层数；-1 是全部。",
        launch=spelled("-ngl", reads="code"),
    )
    n_cpu_moe: Int = whole(
        flags=("-ncmoe",),
        label="Layers with experts on the CPU",
        help="Layers whose experts stay in host memory.",
        label_zh="专家在内存的层数",
        zh="有多少层的专家留在主机内存。",
        launch=spelled("-ncmoe", "--n-cpu-moe", reads="code"),
    )
    override_tensor: Words = pairs(
        flags=("-ot",),
        label="Tensors placed by name",
        help="Where tensors go whose names have a pattern: 'blk.[0-9].ffn_.*_exps=CUDA1,exps=CPU'.",
        label_zh="按名称放置张量",
        zh="名称符合正则表达式的张量放在哪里：'blk.[0-9].ffn_.*_exps=CUDA1,exps=CPU'。",
        launch=spelled("-ot", "--override-tensor", reads="code"),
    )
    n_batch: Int = count(
        1,
        label="Logical batch",
        help="Tokens of a logical batch.",
        label_zh="逻辑批",
        zh="一个逻辑批的 token 数。",
        launch=spelled("-b", "--batch-size", reads="whole"),
    )
    ubatch_size: Int = count(
        1,
        flags=("-ub",),
        label="Physical batch",
        help="Tokens of a physical batch.",
        label_zh="物理批",
        zh="一个物理批的 token 数。",
        launch=spelled("-ub", "--ubatch-size", reads="whole"),
    )
    parallel: Int = whole(
        -1,
        1 << 16,
        flags=("-np",),
        label="Slots (users)",
        help="Slots.",
        label_zh="槽位(用户数)",
        zh="同时服务的槽位数。",
        slider=(1, 256),
        launch=spelled("-np", reads="code"),
    )
    cache_type_k: Str = word(
        flags=("-ctk",),
        label="Cache type of keys",
        help="Of keys: f16, q8_0...",
        label_zh="键的缓存类型",
        zh="键的格式：f16、q8_0……",
    )
    cache_type_v: Str = word(
        flags=("-ctv",),
        label="Cache type of values",
        help="Of values: f16, q8_0...",
        label_zh="值的缓存类型",
        zh="值的格式：f16、q8_0……",
    )
    flash_attn: Str = word(
        "on",
        "off",
        "auto",
        flags=("-fa",),
        help="Flash attention.",
        label_zh="Flash Attention",
        zh="是否使用 Flash Attention。",
        launch=spelled("-fa", reads="code"),
    )
    kv_unified: Bool = flag(
        help="One cache for all slots.",
        label_zh="统一 KV 缓存",
        zh="所有槽位共用一份缓存。",
        launch=spelled("--kv-unified", "-kvu")
        + spelled("-no-kvu", "--no-kv-unified", reads="false"),
    )
    swa_full: Switch = switch(
        label="Full sliding windows",
        help="Windows are kept whole.",
        label_zh="完整滑动窗口",
        zh="滑动窗口的层也保存全部缓存。",
    )
    split_mode: Str = word(
        "none",
        "layer",
        "row",
        flags=("-sm",),
        help="How devices share the model.",
        label_zh="多卡分担方式",
        zh="多张卡怎样分担模型。",
        launch=spelled("-sm", reads="code"),
    )
    tensor_split: Shares = split(
        flags=("-ts",),
        help="Shares of the devices: 3,1.",
        label_zh="切分比例",
        zh="各卡分担的份额：3,1。",
        launch=spelled("-ts", reads="code"),
    )
    main_gpu: Int = whole(
        flags=("-mg",),
        help="The device of what is not split.",
        label_zh="主卡",
        zh="放不切分部分的那张卡。",
    )
    no_kv_offload: Switch = switch(
        help="The cache stays in host memory.",
        label_zh="KV 缓存留在内存",
        zh="缓存留在主机内存。",
        launch=spelled("--no-kv-offload", "-nkvo") + spelled("-kvo", "--kv-offload", reads="false"),
    )
    no_mmap: Switch = switch(
        help="Files are read, not mapped.",
        label_zh="不用 mmap",
        zh="文件读入内存，而不是映射。",
        launch=spelled("--no-mmap") + spelled("--mmap", reads="false"),
    )
    cache_ram: Int = whole(
        -1,
        label="Prompt cache (MiB)",
        help="MiB of host memory for prompts; -1: no limit.",
        label_zh="提示缓存(MiB)",
        zh="主机内存里存放提示的缓存；-1 不限。",
        launch=spelled("--cache-ram", "-cram"),
    )
    sched_max_copies: Int = whole(
        1,
        64,
        help="GGML_SCHED_MAX_COPIES of the build: steps under way on several devices.",
        label_zh="调度副本数",
        zh="编译参数 GGML_SCHED_MAX_COPIES：多卡时同时进行的步数。",
        launch=(),
    )
    mmproj: Str = word(
        label="Projector (mmproj)",
        help="File of the tower for images or sounds.",
        label_zh="投影文件(mmproj)",
        zh="图像或声音塔的文件。",
        launch=spelled("--mmproj", "-mm", "-mmu", "--mmproj-url"),
    )
    mmproj_auto: Switch = switch(
        help="Load the model's own tower for images or sounds, as -hf does.",
        label="Its own projector",
        label_zh="自带投影文件",
        zh="加载模型自带的图像或声音塔，与 -hf 相同。",
        launch=(),
    )


class LlamaCpp(ServingSettings, SightSettings, DraftSettings, Ggml):
    """Settings of llama.cpp."""

    speculative_method: Str = CardSettings.speculative_method.but(
        launch=spelled("--spec-type", reads="code")
    )
    num_speculative_tokens: Int = CardSettings.num_speculative_tokens.but(
        launch=spelled("--draft-max", "--draft", "--draft-n", "--spec-draft-n-max")
    )
    draft_model: Str = DraftSettings.draft_model.but(
        launch=spelled(
            "-md",
            "--model-draft",
            "--spec-draft-model",
            "-hfd",
            "-hfrd",
            "--hf-repo-draft",
            "--spec-draft-hf",
        )
    )


SETTINGS = LlamaCpp
