"""Settings of making pictures and video, for all programs that do."""

from weighbridge.settings.kinds import LORAS
from weighbridge.settings.setting import (
    Float,
    Int,
    Pixels,
    Settings,
    Str,
    Switch,
    Valued,
    Words,
    count,
    image,
    number,
    switch,
    whole,
    word,
    words,
)
from weighbridge.settings.shared import Weighed
from weighbridge.workload.train import RankSettings

OFFLOADS = ("none", "model", "sequential", "group-block", "group-leaf")
ATTENTIONS = ("sdpa", "flash", "efficient", "cudnn", "math")
VRAM_MODES = ("normal", "low", "no", "high")  # ComfyUI's --lowvram, --novram, --highvram
GUIDANCES = ("usual", "off", "batched", "two-pass")
LONGEST_SIDE = 1 << 14


class PictureSettings(Settings):
    """The picture or the video to make."""

    TITLE = "Picture"
    TITLE_ZH = "图像"
    size: Pixels = image(flags=("--resolution",))
    frames: Int = count(1, 1 << 16)
    seconds: Float = number(0, 3600)
    batch_size: Int = count(1, 1 << 12, default=1)
    steps: Int = count(1, 1 << 16, idle="steps run one after the other")
    guidance: Str = word(*GUIDANCES, default="usual")
    prompt_tokens: Int = count(1, 1 << 16)
    images: Int = whole(0, 64, default=0)
    controlnet: Int = whole(0, 8, default=0)
    ip_adapter: Switch = switch()
    refiner: Switch = switch()
    lora: Int = Valued(LORAS, 0, 64, default=0)
    lora_r: Int = count(1, 4096)
    fuse_lora: Switch = switch()


class PipelineSettings(Settings):
    """How a program runs the pipeline, and what each stage keeps on the card."""

    TITLE = "Pipeline"
    TITLE_ZH = "管线"
    engine: Str = word("diffusers", "comfyui", "stable-diffusion.cpp", default="diffusers")
    offload: Str = word(*OFFLOADS, default="none")
    offload_stream: Switch = switch()
    layerwise_casting: Switch = switch()
    blocks_to_swap: Int = whole(0, 4096, default=0)
    vae_tiling: Switch = switch()
    vae_slicing: Switch = switch()
    vae_dtype: Str = word()
    attention: Str = word(*ATTENTIONS, default="sdpa")
    fuse_qkv: Switch = switch()
    quantize_on_card: Switch = switch()
    drop: Words = words()
    vram_mode: Str = word(*VRAM_MODES, default="normal")
    reserve_vram: Float = number(0, 1024)
    disable_smart_memory: Switch = switch()
    vae_tile: Int = count(64, 4096)


class PictureCardSettings(Settings):
    """How several cards share a pipeline."""

    TITLE = "Cards"
    TITLE_ZH = "多卡"
    device_map: Words = words()
    context_parallel_size: Int = RankSettings.context_parallel_size.but()
    context_parallel_by: Str = word("ulysses", "ring", default="ulysses")


class Picture(Weighed, PictureSettings, PipelineSettings, PictureCardSettings):
    """Pictures and video by a pipeline. `quantization` applies to the denoiser, or names each
    component: "fp8", "transformer=fp8,text_encoder=nf4"."""
