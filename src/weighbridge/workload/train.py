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
    fields,
    flag,
    image,
    layers,
    number,
    release,
    size,
    switch,
    version,
    whole,
    word,
    words,
)
from weighbridge.settings.shared import DeviceSettings, RequestSettings, Weighed, WeightSettings

TUNERS = {  # PEFT methods other than LoRA: our word -> the name in their paper
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
PROMPTS = ("prompt-tuning", "p-tuning", "prefix-tuning")  # PEFT methods that adapt no linear layer
SHARDED = {"fsdp": "--shard fsdp2", "ddp": "--shard ddp", "zero": "--shard zero3"}  # not trainers
# Methods that learn from something else than the next token: from preference pairs or labels, and
# from rewards for answers that they generate during training
PREFERENCES = ("dpo", "ipo", "orpo", "kto", "cpo", "simpo", "reward", "gkd")
REWARDS = ("grpo", "rloo", "ppo", "gspo", "dapo", "cispo", "reinforce")
LEARNS = (*PREFERENCES, *REWARDS)
LEARNERS = (  # frameworks known for reinforcement learning and preferences only
    *("verl", "easyr1", "openrlhf", "nemo-rl", "ms-swift", "llama-factory", "agilerl", "slime"),
)
TUNED = ("full", "lora", "qlora", "dora")  # what a run with rewards or preferences trains
METHOD_SETTINGS = {  # settings of few methods -> those methods
    "virtual_tokens": PROMPTS,
    "n_frequency": ("fourierft",),
    "boft_block_size": ("boft",),
}


class RunSettings(Settings):
    """The run: what is trained, by which framework, and with which kernels."""

    TITLE = "Run"
    TITLE_ZH = "训练过程"
    method: Str = word(
        *("full", "lora", "qlora", "dora", *TUNERS, *LEARNS),
        default="full",
        instead={"sft": "--method full", **SHARDED},
    )
    tuner: Str = word(*TUNED)
    framework: Str = word(
        *("trainer", "trl", "accelerate", "lightning", "torchtune", "torchtitan", "litgpt"),
        *("axolotl", "unsloth", "deepspeed", "megatron", "plain", *LEARNERS),
        default="trainer",
        instead=SHARDED,
    )
    framework_version: Str = release()
    precision: Str = word(
        "bf16-mixed", "fp16-mixed", "bf16", "fp16", "fp32", "fp8-mixed", default="bf16-mixed"
    )
    float8_recipe: Str = word("tensorwise", "rowwise", "mxfp8")
    optimizer: Str = word(flags=("--optim",), default="adamw_torch_fused")
    optim_args: Words = words()
    batch_size: Int = count(1, 1 << 20, default=1, slider=(1, 1 << 10))
    seq_len: Int = count(
        *(1, 1 << 31),
        flags=("--max-seq-length", "--max-length", "--cutoff-len", "--sequence-len"),
        default=1 << 11,
        slider=(128, 1 << 18),
    )
    gradient_accumulation: Int = whole(1, 1 << 20)
    eval_batch_size: Int = count(1, 1 << 20)
    checkpointing: Str = word("none", "full", "selective", "offload")
    use_reentrant: Bool = flag()
    loss: Str = word("standard", "chunked", "liger", "cce", "trl", "trl-chunked", "unsloth")
    attention: Str = word("flash", "efficient", "cudnn", "math", "eager")
    kernels: Str = word("installed", "missing", default="missing")
    compile: Switch = switch()
    expandable_segments: Bool = flag()
    optimizer_in_backward: Switch = switch()
    padded: Switch = switch()
    image_size: Pixels = image()
    images: Int = whole(0, 10_000)
    audio_seconds: Float = number(0, 1_000_000)


class BaseSettings(Settings):
    """The model that training starts from, and the versions of libraries."""

    TITLE = "Weights"
    TITLE_ZH = "权重"
    dtype: Str = WeightSettings.dtype.but()
    quantization: Str = WeightSettings.quantization.but()
    base_model: Switch = WeightSettings.base_model
    engine_version: Str = WeightSettings.engine_version.but()
    torch_version: Str = version()
    kbit_upcast: Str = word("peft", "trl", "norms", "none")
    gptq_kernel: Str = word("torch", "triton")
    bitsandbytes_version: Str = version()
    accelerate_version: Str = version()
    deepspeed_version: Str = version()


class AdapterSettings(Settings):
    """Settings of adapters on a frozen base model."""

    TITLE = "Adapters"
    TITLE_ZH = "适配器"
    bnb_4bit_quant_storage: Str = word("uint8", "bfloat16", "float16", "float32", default="uint8")
    lora_r: Int = whole(1, 1 << 16, default=8, slider=(1, 1 << 10))
    lora_alpha: Int = whole(
        1, 1 << 20, default=8, idle="a factor of products that are there whatever it is"
    )
    lora_targets: Words = words()
    lora_dropout: Float = number(0, 1, default=0.0)
    virtual_tokens: Int = count(1, 1 << 16, default=20)
    n_frequency: Int = count(1, 1 << 24, default=1000)
    boft_block_size: Int = count(1, 1 << 12, default=4)
    use_rslora: Switch = switch(idle="a factor of products that are there whatever it is")
    modules_to_save: Words = words()


class RoleSettings(Settings):
    """Models other than the trained one (reference, critic, reward), and their forward passes."""

    TITLE = "Rewards and preferences"
    TITLE_ZH = "奖励与偏好"
    reference: Str = word("none", "adapter", "copy", "host", "precomputed")
    critic: Str = word()
    reward_model: Str = word()
    kl_beta: Float = number(0, 1_000)
    entropy: Switch = switch()
    num_generations: Int = whole(1, 1 << 16)
    logprob_batch_size: Int = count(1, 1 << 20)
    max_tokens_per_gpu: Int = count(1, 1 << 31)
    packing: Switch = switch()
    prompt_len: Int = RequestSettings.prompt_len.but()
    max_new_tokens: Int = count(
        1, 1 << 31, flags=("--max-completion-length", "--max-response-length")
    )


class RolloutSettings(Settings):
    """The engine that generates the answers during training."""

    TITLE = "Rollout"
    TITLE_ZH = "采样"
    rollout_engine: Str = word("vllm", "sglang", "none")
    rollout_version: Str = release()
    rollout_gpu: Str = word()
    rollout_tp: Int = whole(1, 1 << 10)
    rollout_max_len: Int = count(1, 1 << 31)
    rollout_eager: Switch = switch()
    rollout_offload: Str = word("none", "states", "weights", "all")
    gpu_memory_utilization: Float = number(0, 1)
    max_num_seqs: Int = whole(1, 1 << 20)
    max_num_batched_tokens: Int = count(1, 1 << 31)
    sleep_level: Int = whole(0, 2)
    sync_bucket: Int = size()
    sync_parts: Int = whole(1, 1 << 16)
    standby: Switch = switch()


# Settings of methods with rewards or preferences; those of methods with rewards only
OF_LEARNING = (*fields(RoleSettings), RunSettings.tuner.name)
OF_REWARDS = (
    *fields(RolloutSettings),
    *("reward_model", "entropy", "num_generations", "logprob_batch_size"),
    "prompt_len",
)
UNREFERRED = ("orpo", "cpo", "simpo", "reward")  # methods without a reference model
VALUED = ("ppo",)  # methods with a critic


class RankSettings(Settings):
    """Settings of how devices share a training step."""

    TITLE = "Ranks"
    TITLE_ZH = "并行"
    shard: Str = word("none", "ddp", "zero1", "zero2", "zero3", "fsdp1", "fsdp2", "hsdp")
    offload: Str = word("none", "optimizer", "params", "nvme")
    quantize_moe_experts: Switch = switch()
    float8_experts: Switch = switch()
    float8_all_gather: Switch = switch()
    cpu_ram_efficient_loading: Switch = switch()
    gather_on_save: Bool = flag()
    data_parallel_size: Int = whole(1, 1 << 16, flags=("-dp",))
    data_parallel_replicas: Int = whole(1, 1 << 16)
    ranks_per_machine: Int = whole(1, 1 << 10)
    tensor_parallel_size: Int = whole(1, 1 << 10, flags=("-tp",))
    pipeline_parallel_size: Int = whole(1, 1 << 10, flags=("-pp",))
    pp_layer_partition: Shares = layers()
    pipeline_schedule: Str = word("gpipe", "1f1b", "interleaved", "zero-bubble", default="1f1b")
    context_parallel_size: Int = whole(1, 1 << 10, flags=("-cp",))
    context_parallel_by: Str = word("ulysses", "allgather", "ring", "heads")
    expert_parallel_size: Int = whole(1, 1 << 10, flags=("-ep",))


class FsdpSettings(Settings):
    """Settings of PyTorch's FSDP, by its own names."""

    TITLE = "FSDP"
    reshard_after_forward: Bool = flag()
    backward_prefetch: Str = word("pre", "post", "none")
    reduce_dtype: Str = word("float32", "bfloat16", "float16")


class MegatronSettings(Settings):
    """Megatron-LM's own arguments."""

    TITLE = "Megatron"
    megatron_args: Words = words()


class ZeroSettings(Settings):
    """Settings of DeepSpeed's ZeRO, by its own names."""

    TITLE = "ZeRO"
    zero_reduce_bucket_size: Int = count(1)
    zero_prefetch_bucket_size: Int = count()
    zero_param_persistence_threshold: Int = count()
    zero_max_live_parameters: Int = count(default=1_000_000_000)
    zero_sub_group_size: Int = count(1, default=1_000_000_000)
    zero_overlap_comm: Switch = switch()
    zero_pin_memory: Bool = flag()
    no_zero_init: Switch = switch()


class TrainDeviceSettings(DeviceSettings):
    """The device and the machine that a verdict is about."""

    TITLE = "Device"
    TITLE_ZH = "设备"
    ram: Str = DeviceSettings.ram.but()
    dataloader_num_workers: Int = whole(0, 256, default=0)
    exact: Switch = switch()


class Train(
    RunSettings,
    BaseSettings,
    AdapterSettings,
    RoleSettings,
    RolloutSettings,
    RankSettings,
    FsdpSettings,
    ZeroSettings,
    MegatronSettings,
    TrainDeviceSettings,
    Weighed,
):
    """Fine-tuning or training: one optimizer step, and how ranks share it."""

    @property
    def learns(self) -> str:
        """Return the method if it learns from rewards or preferences, else ""."""
        return self.method if self.method in LEARNS else ""

    @property
    def writes(self) -> bool:
        """Return whether answers are generated during training: with rewards, or by GKD's student
        if a rollout engine is set."""
        student = self.method == "gkd" and self.rollout_engine is not None
        return self.method in REWARDS or student

    @property
    def tuning(self) -> str:
        """Return what is trained: "full", or a kind of adapter. With rewards or preferences it is
        `tuner`, or follows from the format of the base and the LoRA rank."""
        if not self.learns:
            return self.method or "full"
        packed = self.quantization is not None
        return self.tuner or ("qlora" if packed else "lora" if self.lora_r else "full")
