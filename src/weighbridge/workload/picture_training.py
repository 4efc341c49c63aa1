"""Settings of training a pipeline of pictures or video: its denoiser, and perhaps its encoders."""

from weighbridge.settings.setting import (
    Float,
    Int,
    Pixels,
    Settings,
    Str,
    Switch,
    Words,
    count,
    image,
    number,
    pairs,
    switch,
    whole,
    word,
    words,
)
from weighbridge.settings.shared import Weighed
from weighbridge.workload.picture import PipelineSettings
from weighbridge.workload.train import AdapterSettings, RankSettings, RunSettings

METHODS = ("full", "lora", "qlora", "dora", "loha", "lokr")
TRAINERS = ("diffusers", "kohya", "simpletuner", "ai-toolkit", "musubi", "onetrainer")
CHECKPOINTING = ("none", "full", "pairs", "half", "offload")
STREAMING = ("none", "layers", "blocks")  # weights kept in host memory until needed


class PictureRunSettings(Settings):
    """The run: what is trained, on which pictures, and by which program."""

    TITLE = "Run"
    TITLE_ZH = "训练过程"
    method: Str = word(*METHODS, default="lora")
    framework: Str = word(*TRAINERS, default="diffusers")
    size: Pixels = image(flags=("--resolution",))
    frames: Int = count(1, 1 << 16)
    batch_size: Int = RunSettings.batch_size.but()
    prompt_tokens: Int = count(1, 1 << 16)
    precision: Str = word("bf16-mixed", "fp16-mixed", "bf16", "fp16", "fp32")
    optimizer: Str = word()
    gradient_accumulation: Int = RunSettings.gradient_accumulation.but()
    checkpointing: Str = word(*CHECKPOINTING, default="none")
    attention: Str = PipelineSettings.attention.but()
    offload_attention: Switch = switch()
    compile: Switch = switch()
    fused_backward: Switch = switch()
    ema: Switch = switch()
    fuse_qkv: Switch = switch()


class PictureAdapterSettings(Settings):
    """Adapters on a frozen denoiser."""

    TITLE = "Adapters"
    TITLE_ZH = "适配器"
    lora_r: Int = AdapterSettings.lora_r.but()
    lora_targets: Words = words()
    lora_conv_r: Int = whole(0, 1 << 16, default=0)
    lora_dropout: Float = number(0, 1, default=0.0)
    lokr_factor: Int = whole(2, 1 << 12)
    lokr_factors: Words = pairs()


class PictureDataSettings(Settings):
    """The rest of the pipeline: what is encoded before the run, and where its weights are."""

    TITLE = "Pipeline"
    TITLE_ZH = "管线"
    uncached_latents: Switch = switch()
    uncached_text: Switch = switch()
    vae_tiling: Switch = PipelineSettings.vae_tiling.but()
    train_text_encoder: Switch = switch()
    drop: Words = words()
    blocks_to_swap: Int = whole(0, 4096, default=0)
    streaming: Str = word(*STREAMING, default="none")
    offload_fraction: Float = number(0, 1, default=1.0)


class PictureRankSettings(Settings):
    """How several cards share a step."""

    TITLE = "Ranks"
    TITLE_ZH = "并行"
    shard: Str = word("none", "ddp", "zero1", "zero2", "zero3", "fsdp2")
    offload: Str = word("none", "optimizer", "params")
    data_parallel_size: Int = RankSettings.data_parallel_size.but()


class PictureTraining(
    Weighed, PictureRunSettings, PictureAdapterSettings, PictureDataSettings, PictureRankSettings
):
    """Training of a pipeline's denoiser: one optimizer step on the largest bucket."""
