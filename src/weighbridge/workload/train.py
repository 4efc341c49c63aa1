"""Settings of training."""

from weighbridge.settings.setting import (
    Bool,
    Float,
    Int,
    Pixels,
    Settings,
    Shares,
    Str,
    Switch,
    Words,
    count,
    flag,
    image,
    layers,
    number,
    release,
    switch,
    version,
    whole,
    word,
    words,
)
from weighbridge.settings.shared import DeviceSettings, Weighed, WeightSettings

TUNERS = {  # methods of PEFT beside LoRA, by their words here, as their papers write them
    "adalora": "AdaLoRA",
    "ia3": "IA3",
    "loha": "LoHa",
    "lokr": "LoKr",
    "boft": "BOFT",
    "fourierft": "FourierFT",
    "vera": "VeRA",
    "oft": "OFT",
    "miss": "MiSS",
    "randlora": "RandLoRA",
    "shira": "SHiRA",
    "prompt-tuning": "prompt tuning",
    "p-tuning": "P-tuning",
    "prefix-tuning": "prefix tuning",
}
PROMPTS = ("prompt-tuning", "p-tuning", "prefix-tuning")  # those that adapt no linear
METHOD_SETTINGS = {  # settings that few methods have -> which
    "virtual_tokens": PROMPTS,
    "n_frequency": ("fourierft",),
    "boft_block_size": ("boft",),
}


class RunSettings(Settings):
    """Settings of what is trained, by what, and with which kernels."""

    TITLE = "Run"
    TITLE_ZH = "训练过程"
    method: Str = word(
        "full",
        "lora",
        "qlora",
        "dora",
        *TUNERS,
        help="What is trained: full is all, the others adapters of PEFT. Default: full.",
        default="full",
        label_zh="训练方法",
        zh="训练什么：full 是全参，其余是 PEFT 的适配器。默认 full(全参)。",
    )
    framework: Str = word(
        "trainer",
        "trl",
        "accelerate",
        "lightning",
        "torchtune",
        "torchtitan",
        "litgpt",
        "axolotl",
        "unsloth",
        "deepspeed",
        "megatron",
        "plain",
        help="Whose defaults and conventions. Default: trainer; of adapters the recipe of PEFT and "
        "TRL (trl, the base in 16 bits).",
        default="trainer",
        label_zh="框架",
        zh="按哪个框架的默认值和惯例。默认 trainer；适配器按 PEFT 和 TRL 的做法(trl，底座 16 位)。",
    )
    framework_version: Str = release(
        help="Its version; of torchtitan and megatron a date such as 2025-04-02, or the release "
        "(Megatron-core's). Default: the newest known.",
        label_zh="框架版本",
        zh="框架的版本；torchtitan 和 megatron 用日期，例如 2025-04-02，或发布号(Megatron-core)。"
        "默认：已知的最新版。",
    )
    precision: Str = word(
        "bf16-mixed",
        "fp16-mixed",
        "bf16",
        "fp16",
        "fp32",
        "fp8-mixed",
        help="Of weights and products. Default: bf16-mixed.",
        default="bf16-mixed",
        label_zh="训练精度",
        zh="权重和乘法的精度。默认 bf16-mixed。",
    )
    float8_recipe: Str = word(
        "tensorwise",
        "rowwise",
        "mxfp8",
        label="Scales of float8",
        help="What one scale of fp8-mixed is of (torchtitan): a tensor, a row, or 32 numbers of a "
        "row (mxfp8). Default: tensorwise, of torchtitan since 2026-04-27 rowwise.",
        label_zh="float8 的缩放",
        zh="fp8-mixed 的一个缩放系数管多少数(torchtitan)：整个张量、一行，或一行里的 32 个数"
        "(mxfp8)。默认 tensorwise；torchtitan 从 2026-04-27 起是 rowwise。",
    )
    optimizer: Str = word(
        help="adamw_torch_fused (default; of a release or framework that has another, that one), "
        "adamw_torch, adamw_8bit, sgd-momentum, muon...",
        default="adamw_torch_fused",
        label_zh="优化器",
        zh="adamw_torch_fused(默认；有自己默认值的版本或框架用自己的)、adamw_torch、adamw_8bit、"
        "sgd-momentum、muon……",
    )
    optim_args: Words = words(
        label="Optimizer arguments",
        help="Of Adam and AdamW: foreach=False, fused=True, amsgrad=True, weight_decay=0.01; "
        "of GaLore and APOLLO: rank=1024.",
        label_zh="优化器参数",
        zh="Adam 和 AdamW 的参数：foreach=False、fused=True、amsgrad=True、weight_decay=0.01；"
        "GaLore 和 APOLLO 的参数：rank=1024。",
    )
    batch_size: Int = count(
        1,
        1 << 20,
        label="Batch size per GPU",
        help="Sequences of a micro-batch on one device. Default: 1.",
        default=1,
        label_zh="每卡批大小",
        zh="一张卡上一个微批的序列数。默认 1。",
        slider=(1, 1 << 10),
    )
    seq_len: Int = count(
        1,
        1 << 31,
        label="Sequence length (tokens)",
        help="Tokens of a sequence. Default: 2048, or the model's maximum if smaller.",
        default=1 << 11,
        label_zh="序列长度(token)",
        zh="一个序列的 token 数。默认 2048；模型的最大长度更短时取最大长度。",
        slider=(128, 1 << 18),
    )
    gradient_accumulation: Int = whole(
        1, 1 << 20, help="Micro-batches of a step.", label_zh="梯度累积", zh="一步有多少个微批。"
    )
    eval_batch_size: Int = count(
        1,
        1 << 20,
        label="Batch size of evaluation",
        help="Evaluate with so many sequences on one device (the Trainer's own default is 8).",
        label_zh="评估批大小",
        zh="评估时一张卡上的序列数(Trainer 自己的默认值是 8)。",
    )
    checkpointing: Str = word(
        "none",
        "full",
        "selective",
        "offload",
        help="What is computed again in backward. Default: none; of adapters: full.",
        label_zh="重计算",
        zh="反向时重新计算什么。默认 none(不重计算)；训练适配器时 full。",
    )
    use_reentrant: Bool = flag(
        label="Reentrant checkpoints",
        help="Checkpoints run a layer's backward in one of its own ("
        "gradient_checkpointing_kwargs). Default: the framework's; of transformers 4 true.",
        label_zh="可重入检查点",
        zh="检查点在自己的一次反向里跑一层的反向(gradient_checkpointing_kwargs)。默认按框架；"
        "transformers 4 为是。",
    )
    loss: Str = word(
        "standard",
        "chunked",
        "liger",
        "cce",
        "trl",
        "trl-chunked",
        "unsloth",
        label="Loss kernel",
        help="Kernel of the head and the loss; cce is Cut Cross Entropy.",
        label_zh="损失的实现",
        zh="输出头和损失的计算核；cce 是 Cut Cross Entropy。",
    )
    attention: Str = word(
        "flash",
        "efficient",
        "cudnn",
        "math",
        "eager",
        help="Kernel of attention.",
        label_zh="注意力实现",
        zh="注意力的计算核。",
    )
    kernels: Str = word(
        "installed",
        "missing",
        label="Kernels of state layers",
        help="Whether mamba-ssm, fla and causal-conv1d are installed, which Mamba-2, gated delta "
        "nets and short convolutions run with. Default: missing, which takes more.",
        default="missing",
        label_zh="状态层的计算核",
        zh="是否装有 mamba-ssm、fla 和 causal-conv1d：Mamba-2、门控 delta 网络和短卷积用它们计算。"
        "默认 missing(没有)，占用更多。",
    )
    compile: Switch = switch(
        help="Layers and loss run through torch.compile (torchtune, torchtitan).",
        label_zh="编译",
        zh="层和损失经过 torch.compile(torchtune、torchtitan)。",
    )
    expandable_segments: Bool = flag(
        help="The allocator's segments grow (expandable_segments in PYTORCH_CUDA_ALLOC_CONF), so "
        "that less lies unused between tensors. Default: as the framework has it: on with "
        "torchtitan, axolotl and unsloth.",
        label_zh="可扩展段",
        zh="分配器的段可以增长(PYTORCH_CUDA_ALLOC_CONF 的 expandable_segments)，空着的更少。"
        "默认按框架：torchtitan、axolotl、unsloth 开启。",
    )
    optimizer_in_backward: Switch = switch(
        help="Each parameter is stepped when its gradient is there (torchtune, LOMO).",
        label_zh="反向时更新",
        zh="梯度一有就更新参数(torchtune、LOMO)。",
    )
    padded: Switch = switch(
        help="Sequences of a batch differ in length, so that a mask is needed.",
        label_zh="有填充",
        zh="一批里的序列长度不同，因此需要掩码。",
    )
    image_size: Pixels = image(
        help="Pixels of an image. Default: what the tower was made for.",
        label_zh="图像尺寸",
        zh="图像的像素数。默认：视觉塔的原生尺寸。",
    )
    images: Int = whole(
        0, 10_000, help="Images of one sequence.", label_zh="图像数", zh="一个序列里的图像数。"
    )
    audio_seconds: Float = number(
        0,
        1_000_000,
        help="Length of the sound of one sequence.",
        label_zh="音频秒数",
        zh="一个序列里音频的长度。",
    )


class BaseSettings(Settings):
    """The model that training begins with, and the libraries around it."""

    TITLE = "Weights"
    TITLE_ZH = "权重"
    dtype: Str = WeightSettings.dtype.but(
        help="Load in this dtype, whatever the precision has.",
        zh="以这种精度加载权重，不管训练精度是什么。",
    )
    quantization: Str = WeightSettings.quantization.but(
        help="Load the frozen base in this format: nf4, bnb-int8...",
        zh="冻结的基座以这种格式加载：nf4、bnb-int8……",
    )
    base_model: Switch = WeightSettings.base_model
    engine_version: Str = WeightSettings.engine_version.but(
        help="Version of transformers (4.40, 5.23). Default: the newest known.",
        label_zh="transformers 版本",
        zh="transformers 的版本(4.40、5.23)。默认：已知的最新版。",
    )
    torch_version: Str = version(
        label="torch version",
        help="Version of torch that runs; it decides workspaces.",
        label_zh="torch 版本",
        zh="运行的 torch 版本；它决定工作区的大小。",
    )
    kbit_upcast: Str = word(
        "peft",
        "trl",
        "norms",
        "none",
        label="Upcast of k-bit weights",
        help="What of a packed base is cast to float32 before training. Default: the framework's.",
        label_zh="k-bit 权重转换",
        zh="训练前把量化基座的哪些部分转成 float32。默认按框架。",
    )
    gptq_kernel: Str = word(
        "torch",
        "triton",
        label="GPTQ kernel",
        help="What multiplies a base in GPTQ: torch keeps each unpacked matrix (GPTQModel), "
        "triton nothing (AutoGPTQ). Default: not known, torch is expected.",
        label_zh="GPTQ 计算核",
        zh="用什么乘 GPTQ 的基座：torch 保留每个解包的矩阵(GPTQModel)，triton 不保留(AutoGPTQ)。"
        "默认未知，按 torch 计算。",
    )
    bitsandbytes_version: Str = version(
        label="bitsandbytes version",
        help="Its version: up to 0.43.1 linears in 4 bits keep their inputs. Default: the "
        "newest known.",
        label_zh="bitsandbytes 版本",
        zh="版本：0.43.1 及以前，4 位的线性层保留输入。默认：已知的最新版。",
    )
    accelerate_version: Str = version(
        help="Version of accelerate (FSDP under trainer, accelerate, trl, axolotl). Default: "
        "the newest known.",
        label_zh="accelerate 版本",
        zh="accelerate 的版本(trainer、accelerate、trl、axolotl 下的 FSDP)。默认：已知的最新版。",
    )
    deepspeed_version: Str = version(
        label="DeepSpeed version",
        help="Version of DeepSpeed. Default: the newest known.",
        label_zh="DeepSpeed 版本",
        zh="DeepSpeed 的版本。默认：已知的最新版。",
    )


class AdapterSettings(Settings):
    """Settings of what is trained beside a frozen base."""

    TITLE = "Adapters"
    TITLE_ZH = "适配器"
    bnb_4bit_quant_storage: Str = word(
        "uint8",
        "bfloat16",
        "float16",
        "float32",
        label="4-bit storage",
        help="How packed weights are stored: FSDP shares out what is a float. Default: uint8.",
        default="uint8",
        label_zh="4 位权重的存储",
        zh="打包的权重存成什么类型：FSDP 只切分浮点类型。默认 uint8。",
    )
    lora_r: Int = whole(
        1,
        1 << 16,
        label="LoRA rank",
        help="Rank. Default: 8, or what PEFT's method has: 12 of adalora, 256 of vera, "
        "64 of miss, 32 of randlora; of oft the size of a block (32).",
        default=8,
        label_zh="LoRA 秩",
        zh="秩。默认 8，或 PEFT 该方法的默认值：adalora 12，vera 256，miss 64，randlora 32；"
        "oft 是块的大小(32)。",
        slider=(1, 1 << 10),
    )
    lora_alpha: Int = whole(
        1,
        1 << 20,
        help="Scale; it takes no memory. Default: 8.",
        default=8,
        label_zh="LoRA alpha",
        zh="缩放系数；不占显存。默认 8。",
        idle="a factor of products that are there whatever it is",
    )
    lora_targets: Words = words(
        help="Modules: all-linear, names, or a regular expression.",
        label_zh="LoRA 目标模块",
        zh="模块：all-linear、模块名，或正则表达式。",
    )
    lora_dropout: Float = number(
        0,
        1,
        help="Dropout before an adapter. Default: 0.",
        default=0.0,
        label_zh="LoRA dropout",
        zh="适配器之前的 dropout。默认 0。",
    )
    virtual_tokens: Int = count(
        1,
        1 << 16,
        help="Tokens that are trained before those of a sequence, by prompt-tuning, p-tuning and "
        "prefix-tuning. Default: 20.",
        default=20,
        label_zh="虚拟 token 数",
        zh="prompt-tuning、p-tuning 和 prefix-tuning 在序列之前训练的 token 数。默认 20。",
    )
    n_frequency: Int = count(
        1,
        1 << 24,
        help="Numbers that fourierft trains of a linear. Default: 1000.",
        default=1000,
        label_zh="频率数",
        zh="fourierft 在每个线性层训练的数的个数。默认 1000。",
    )
    boft_block_size: Int = count(
        1,
        1 << 12,
        label="Side of BOFT's blocks",
        help="Inputs that one block of boft turns; it divides the inputs of a linear. Default: 4.",
        default=4,
        label_zh="BOFT 块的边长",
        zh="boft 的一个块旋转的输入数；须整除线性层的输入数。默认 4。",
    )
    use_rslora: Switch = switch(
        label="rsLoRA",
        help="Scale by the root of the rank; it takes no memory.",
        label_zh="rsLoRA",
        zh="按秩的平方根缩放；不占显存。",
        idle="a factor of products that are there whatever it is",
    )
    modules_to_save: Words = words(
        help="Modules that are trained whole beside the adapters.",
        label_zh="整个训练的模块",
        zh="除适配器外整个训练的模块。",
    )


class RankSettings(Settings):
    """Settings of how devices share a step."""

    TITLE = "Ranks"
    TITLE_ZH = "并行"
    shard: Str = word(
        "none",
        "ddp",
        "zero1",
        "zero2",
        "zero3",
        "fsdp1",
        "fsdp2",
        "hsdp",
        label="Sharding",
        help="What data-parallel ranks share out.",
        label_zh="训练切分(shard)",
        zh="数据并行的 rank 之间分担什么。",
    )
    offload: Str = word(
        "none",
        "optimizer",
        "params",
        "nvme",
        help="What is kept off the device.",
        label_zh="卸载",
        zh="什么不放在卡上。",
    )
    quantize_moe_experts: Switch = switch(
        label="Experts in 4 bits",
        help="bitsandbytes packs stacks of experts, too (axolotl's quantize_moe_experts).",
        label_zh="专家用 4 位",
        zh="bitsandbytes 也把堆叠的专家打包成 4 位(axolotl 的 quantize_moe_experts)。",
    )
    float8_experts: Switch = switch(
        label="Experts in float8",
        help="Products of experts are in 8 bits, too (torchtitan's quantize.grouped_mm, beside "
        "fp8-mixed).",
        label_zh="专家用 float8",
        zh="专家的分组乘法也用 8 位(torchtitan 的 quantize.grouped_mm，配合 fp8-mixed)。",
    )
    float8_all_gather: Switch = switch(
        label="Gather in float8",
        help="FSDP2 gathers linears in 8 bits (torchtitan's enable_fsdp_float8_all_gather, beside "
        "fp8-mixed with a scale a tensor).",
        label_zh="用 float8 收集",
        zh="FSDP2 以 8 位收集线性层(torchtitan 的 enable_fsdp_float8_all_gather，配合一个张量一个"
        "缩放系数的 fp8-mixed)。",
    )
    cpu_ram_efficient_loading: Switch = switch(
        help="One rank of a machine reads the weights for all (accelerate's setting for FSDP; "
        "off by default).",
        label_zh="省内存加载",
        zh="一台机器上只有一个 rank 读权重(accelerate 的 FSDP 设置；默认关闭)。",
    )
    gather_on_save: Bool = flag(
        help="What is saved is gathered whole in host memory (stage3_gather_16bit_weights_on_model_"
        "save; FSDP's FULL_STATE_DICT), or in parts. Default: either, within bounds.",
        label_zh="保存时汇集",
        zh="保存时把整个模型汇集到主机内存(stage3_gather_16bit_weights_on_model_save；FSDP 的 "
        "FULL_STATE_DICT)，否则各存一份。默认两种都可能，区间包含两者。",
    )
    data_parallel_size: Int = whole(
        1,
        1 << 16,
        flags=("-dp",),
        label="Data parallel",
        help="Ranks with different data. Default: what the devices leave.",
        label_zh="数据并行",
        zh="处理不同数据的 rank 数。默认：其余并行用剩的卡数。",
    )
    data_parallel_replicas: Int = whole(
        1,
        1 << 16,
        label="Replicas",
        help="Copies of the model that HSDP keeps, each shared out among equally many ranks "
        "(dp_replicate of accelerate, axolotl and torchtitan). Default: one a machine.",
        label_zh="副本数",
        zh="HSDP 保留的模型副本数，每个副本在同样多的 rank 之间切分"
        "(accelerate、axolotl、torchtitan 的 dp_replicate)。默认：每台机器一份。",
    )
    ranks_per_machine: Int = whole(
        1,
        1 << 10,
        label="Ranks per machine",
        help="Ranks that one machine runs, whose host memory they share, and within which HSDP "
        "shares out unless --data-parallel-replicas says otherwise. Default: all, 8 at most.",
        label_zh="每台机器的 rank 数",
        zh="一台机器上运行的 rank 数：它们共用主机内存；没有 --data-parallel-replicas 时 "
        "HSDP 在其内切分。默认：全部，最多 8。",
    )
    tensor_parallel_size: Int = whole(
        1,
        1 << 10,
        flags=("-tp",),
        label="Tensor parallel",
        help="Ranks that share every layer.",
        label_zh="张量并行",
        zh="共同分担每一层的 rank 数。",
    )
    pipeline_parallel_size: Int = whole(
        1,
        1 << 10,
        flags=("-pp",),
        label="Pipeline parallel",
        help="Ranks that share the layers out.",
        label_zh="流水线并行",
        zh="按层分段的 rank 数。",
    )
    pp_layer_partition: Shares = layers(
        label="Layers of each stage",
        help="Layers of each stage of the pipeline, the first one first: 7,9,9,7. Default: as the "
        "framework does.",
        label_zh="各段的层数",
        zh="流水线各段的层数，从第一段起：7,9,9,7。默认与框架一致。",
    )
    pipeline_schedule: Str = word(
        "gpipe",
        "1f1b",
        "interleaved",
        "zero-bubble",
        label="Pipeline schedule",
        help="The order in which stages run micro-batches. Default: 1f1b.",
        default="1f1b",
        label_zh="流水线调度",
        zh="各阶段执行 micro-batch 的顺序。默认 1f1b。",
    )
    context_parallel_size: Int = whole(
        1,
        1 << 10,
        flags=("-cp",),
        label="Context parallel",
        help="Ranks that share a sequence.",
        label_zh="上下文并行",
        zh="共同分担一个序列的 rank 数。",
    )
    context_parallel_by: Str = word(
        "ulysses",
        "allgather",
        "ring",
        "heads",
        label="Context parallel by",
        help="What ranks of a sequence do to see all of it: exchange heads for tokens, gather keys "
        "and values, send them round, or gather one head after the other. Default: as the "
        "framework does.",
        label_zh="上下文并行方式",
        zh="分担一个序列的 rank 怎样看到全部 token：用注意力头交换 token、收集全部 key 和 value、"
        "环形传递，或逐个头收集。默认与框架一致。",
    )
    expert_parallel_size: Int = whole(
        1,
        1 << 10,
        flags=("-ep",),
        label="Expert parallel",
        help="Ranks that share the experts.",
        label_zh="专家并行",
        zh="共同分担专家的 rank 数。",
    )


class FsdpSettings(Settings):
    """Settings of PyTorch's FSDP, by its own names."""

    TITLE = "FSDP"
    reshard_after_forward: Bool = flag(
        help="Layers are given back between forward and backward (FULL_SHARD); if not, they stay "
        "whole (SHARD_GRAD_OP). Default: as the framework does.",
        label_zh="前向后还原切分",
        zh="前向与反向之间释放收集的层(FULL_SHARD)；否则一直保持完整(SHARD_GRAD_OP)。"
        "默认与框架一致。",
    )
    backward_prefetch: Str = word(
        "pre",
        "post",
        "none",
        help="When FSDP1 gathers the next layer in backward: before one runs (BACKWARD_PRE), "
        "behind it (BACKWARD_POST), or when it is needed. Default: none with accelerate, else pre.",
        label_zh="反向预取",
        zh="FSDP1 在反向中何时收集下一层：当前层运行之前(BACKWARD_PRE)、之后(BACKWARD_POST)，"
        "或用到时。accelerate 默认 none，其余默认 pre。",
    )
    reduce_dtype: Str = word(
        "float32",
        "bfloat16",
        "float16",
        label="Reduced in",
        help="What FSDP reduces gradients in. Default: float32, with accelerate as products are.",
        label_zh="规约精度",
        zh="FSDP 规约梯度所用的精度。默认 float32；accelerate 与矩阵乘法相同。",
    )


class MegatronSettings(Settings):
    """Megatron-LM's own arguments."""

    TITLE = "Megatron"
    megatron_args: Words = words(
        label="Megatron arguments",
        help="Of Megatron's command line, by their names: sequence_parallel, "
        "moe_token_dispatcher_type=alltoall, num_layers_per_virtual_pipeline_stage=5.",
        label_zh="Megatron 参数",
        zh="Megatron 命令行的参数，用原名：sequence_parallel、"
        "moe_token_dispatcher_type=alltoall、num_layers_per_virtual_pipeline_stage=5。",
    )


class ZeroSettings(Settings):
    """DeepSpeed's own names and numbers."""

    TITLE = "ZeRO"
    zero_reduce_bucket_size: Int = count(
        1,
        help="reduce_bucket_size. Default: 5e8 with --framework deepspeed, else hidden^2.",
        label_zh="规约桶大小",
        zh="reduce_bucket_size。--framework deepspeed 时默认 5e8，否则是 hidden 的平方。",
    )
    zero_prefetch_bucket_size: Int = count(
        help="stage3_prefetch_bucket_size. Default: 5e7, else 0.9 hidden^2.",
        label_zh="预取桶大小",
        zh="stage3_prefetch_bucket_size。默认 5e7，否则是 hidden 平方的 0.9 倍。",
    )
    zero_param_persistence_threshold: Int = count(
        help="stage3_param_persistence_threshold. Default: 1e5, else 10 hidden.",
        label_zh="常驻参数阈值",
        zh="stage3_param_persistence_threshold。默认 1e5，否则是 hidden 的 10 倍。",
    )
    zero_max_live_parameters: Int = count(
        help="stage3_max_live_parameters. Default: 1e9.",
        default=1_000_000_000,
        label_zh="最多在用参数",
        zh="stage3_max_live_parameters。默认 1e9。",
    )
    zero_sub_group_size: Int = count(
        1,
        help="sub_group_size. Default: 1e9.",
        default=1_000_000_000,
        label_zh="子组大小",
        zh="sub_group_size。默认 1e9。",
    )
    zero_overlap_comm: Switch = switch(
        help="Stages 1 and 2 have two buckets (overlap_comm).",
        label_zh="通信重叠",
        zh="第 1、2 阶段有两个桶(overlap_comm)。",
    )
    zero_pin_memory: Bool = flag(
        help="What is offloaded is pinned (pin_memory). Default: either, within bounds.",
        label_zh="锁页内存",
        zh="卸载到内存的部分锁页(pin_memory)。默认两种都可能，区间包含两者。",
    )
    no_zero_init: Switch = switch(
        help="The whole model is on each device before DeepSpeed shares it out.",
        label_zh="不用 zero.Init",
        zh="DeepSpeed 切分之前，每张卡上都有整个模型。",
    )


class TrainDeviceSettings(DeviceSettings):
    """The device and the machine that an answer is judged by."""

    TITLE = "Device"
    TITLE_ZH = "设备"
    ram: Str = DeviceSettings.ram.but(
        help="Host memory that the processes of one machine can have: 64GiB, or local. "
        "Default: stated, not judged.",
        zh="一台机器上所有进程能用的主机内存：64GiB，或 local(本机)。"
        "默认只给出需要多少，不作判断。",
    )
    dataloader_num_workers: Int = whole(
        0,
        256,
        label="Data workers",
        help="Processes that read data for each rank, which hold host memory. Default: 0.",
        default=0,
        label_zh="读数据的进程",
        zh="每个 rank 读数据的进程数，会占用主机内存。默认 0。",
    )
    exact: Switch = switch(
        label="Trace the real class",
        help="Trace the real step beside it. Needs torch and transformers.",
        label_zh="追踪真实的一步",
        zh="追踪真实的训练步，与公式的结果并列。需要 torch 和 transformers。",
    )


class Train(
    RunSettings,
    BaseSettings,
    AdapterSettings,
    RankSettings,
    FsdpSettings,
    ZeroSettings,
    MegatronSettings,
    TrainDeviceSettings,
    Weighed,
):
    """Fine-tuning or training: one optimizer step, and how ranks share it."""
