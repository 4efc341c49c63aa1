"""Settings that no single engine owns, by the sections of a form."""

import sys
from typing import TYPE_CHECKING

from weighbridge.settings.setting import (
    Float,
    Int,
    Pixels,
    Settings,
    Shares,
    Str,
    Switch,
    count,
    image,
    layers,
    memory,
    number,
    relative,
    switch,
    whole,
    word,
)

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.machines.accelerators.pools import MachineMemory

COMPUTES = frozenset({"bfloat16", "float16", "float32", "float64"})  # dtypes of products


class RequestSettings(Settings):
    """Settings of the requests to a server."""

    TITLE = "Requests"
    TITLE_ZH = "请求"
    engine: Str = word(
        help="transformers (default), vllm, sglang, llama.cpp, ik_llama.cpp, mlx or ollama.",
        default="transformers",
        label_zh="引擎",
        zh="transformers(默认)、vllm、sglang、llama.cpp、ik_llama.cpp、mlx 或 ollama。",
    )
    context: Int = count(
        1,
        1 << 31,
        flags=("--max-model-len",),
        label="Context (tokens)",
        help="Tokens of one request. Default: 4096, or the model's maximum if smaller; of Ollama "
        "what it takes on that card.",
        default=1 << 12,
        label_zh="上下文(token)",
        zh="一个请求的 token 数。默认 4096；模型的最大长度更短时取最大长度；"
        "Ollama 取它在该卡上的默认值。",
        slider=(128, 1 << 20),
    )
    prompt_len: Int = count(
        label="Prompt (tokens)",
        help="Tokens of the prompt; with --max-new-tokens they are the context.",
        label_zh="提示(token)",
        zh="提示的 token 数；与新生成的 token 数相加就是上下文。",
    )
    max_new_tokens: Int = count(
        label="Answer (tokens)",
        help="Tokens of the answer.",
        label_zh="新生成(token)",
        zh="回答的 token 数。",
    )
    batch_size: Int = count(
        1,
        1 << 20,
        label="Requests at once (users)",
        help="Requests at once. Default: 1.",
        default=1,
        label_zh="并发请求(用户数)",
        zh="同时处理的请求数。默认 1。",
        slider=(1, 1 << 10),
    )
    audio_seconds: Float = number(
        0,
        1_000_000,
        help="Length of the sound of one request.",
        label_zh="音频秒数",
        zh="一个请求里音频的长度。",
    )


class WeightSettings(Settings):
    """The format of the weights."""

    TITLE = "Weights"
    TITLE_ZH = "权重"
    dtype: Str = word(
        help="Load in this dtype: bfloat16, float16, float32...",
        label_zh="权重精度",
        zh="以这种精度加载：bfloat16、float16、float32……",
    )
    quantization: Str = word(
        help="Load in this format: nf4, gptq-4bit-g128, Q4_K_M...; or by the own name of vllm "
        "or sglang: fp8...",
        label_zh="量化格式",
        zh="以这种格式加载：nf4、gptq-4bit-g128、Q4_K_M……；"
        "也可以用 vLLM 或 SGLang 自己的叫法：fp8……",
    )
    engine_version: Str = word(
        help="Version of the engine (4.40, 0.19). Default: the newest known.",
        label_zh="引擎版本",
        zh="引擎的版本(4.40、0.19)。默认：已知的最新版。",
    )
    base_model: Switch = switch(
        help="The headless class, without lm_head.",
        label_zh="不带输出头",
        zh="没有 lm_head 的基础类。",
    )


class DeviceSettings(Settings):
    """The device and the machine that an answer is judged by."""

    TITLE = "Device"
    TITLE_ZH = "设备"
    gpu: Str = word(
        help="Say whether it fits: 4090, a100-80gb:8, '2x RTX 4090', p5.48xlarge...",
        page="A card as people write it: 4090, a100-80gb:8, '2x RTX 4090', p5.48xlarge.",
        label_zh="显卡",
        zh="平常怎么写就怎么写：4090、a100-80gb:8、2x RTX 4090、p5.48xlarge。",
    )
    gpu_memory: Str = relative(
        help="What a process can have of that device, or of any: 24GiB.",
        label_zh="可用显存",
        zh="进程在这张卡(或任意一张卡)上能用多少：24GiB。",
    )
    headroom: Str = relative(
        help="What is to stay free on each device: 1GiB or 10%. Default: nothing.",
        label_zh="预留显存",
        zh="每张卡要空出多少：1GiB 或 10%。默认不预留。",
    )
    ram: Str = memory(
        label="Host memory",
        help="Host memory that processes can have: 64GiB, or local. Default: stated, not judged.",
        label_zh="内存",
        zh="进程能用的主机内存：64GiB，或 local(本机)。默认只给出需要多少，不作判断。",
    )
    platform: Str = word(
        "linux",
        "windows",
        help="System of the machine: Windows moves to RAM what a card has no room for, and the run "
        "goes on, slowly. Default: linux, or this machine's with --gpu local.",
        label_zh="系统",
        zh="机器的系统：Windows 把显卡放不下的部分移到内存，能继续运行但很慢。默认 linux；"
        "--gpu local 时为本机的系统。",
    )


class Weighed(WeightSettings, DeviceSettings):
    """Settings that every question may have: the format of the weights, and the device."""

    def budget(self) -> "Budget | None":
        """Return the device that was named, resolved. The catalogue is read only where one was."""
        if self.gpu is None and self.gpu_memory is None and self.headroom is None:
            return None
        from weighbridge.machines.accelerators.budget import budget

        return budget(self.gpu, self.gpu_memory, self.headroom)

    def host_memory(self) -> "MachineMemory | None":
        """Return the memory of the machine: what was named, or what goes with a card: that of this
        machine with its cards, and the one memory of a chip that has none of its own."""
        budget = self.budget() if self.gpu is not None else None
        if self.ram is None and budget is None:
            return None
        from weighbridge.machines.accelerators import pools

        if self.ram is None and budget is not None and _is_local(str(self.gpu)):
            from weighbridge.machines.accelerators.local import memory

            left = memory()
            return None if left is None else pools.measured(left, budget)
        return pools.machine_memory(self.ram, budget)

    def on_windows(self) -> bool:
        """Tell whether the machine has Windows: as it was said, or this one with its own cards."""
        here = sys.platform == "win32" and self.gpu is not None and _is_local(self.gpu)
        return self.platform == "windows" or (self.platform is None and here)

    def check(self) -> None:
        """Raise UsageError for a device or a machine that is not known, before anything is
        fetched."""
        self._unpacked()
        self.budget()
        self.host_memory()

    def _unpacked(self) -> None:
        """Raise UsageError for a dtype of what is not packed that nothing computes in."""
        if self.dtype is None or self.quantization is None:
            return
        from weighbridge.base.dtypes import ALIASES, TORCH
        from weighbridge.base.errors import UsageError

        plain = self.dtype.removeprefix("torch.").lower()
        if ALIASES.get(plain, plain) in TORCH.keys() - COMPUTES:
            raise UsageError(
                f"--dtype {self.dtype} with --quantization {self.quantization}: there --dtype is "
                "that of what is not packed, bfloat16, float16 or float32; leave one of them out"
            )


def _is_local(gpu: str) -> bool:
    """Tell whether `gpu` means this machine, without reading the catalogue."""
    return gpu.strip().lower() == "local"


class CacheSettings(Settings):
    """Settings of what is kept of tokens."""

    TITLE = "Caches and attention"
    TITLE_ZH = "缓存与注意力"
    kv_cache_dtype: Str = word(
        help="Of keys and values: auto, fp8, q8_0... Default: the model's dtype.",
        label_zh="KV 缓存精度",
        zh="键和值的精度：auto、fp8、q8_0……默认与模型相同。",
    )


class ServingSettings(RequestSettings, Weighed, CacheSettings):
    """Settings that every engine takes."""


class ProgramSettings(Settings):
    """The program of an engine that has several: llama.cpp and mlx-lm."""

    TITLE = "llama.cpp"  # whose it was first

    program: Str = word(
        "server",
        "cli",
        help="Which program runs.",
        label_zh="程序",
        zh="运行哪个程序：server 或 cli。",
        launch=(),
    )


class SightSettings(Settings):
    """Images of a request."""

    TITLE = "Sight"
    TITLE_ZH = "图像"
    image_size: Pixels = image(
        help="Pixels of an image. Default: what the tower was made for.",
        label_zh="图像尺寸",
        zh="图像的像素数。默认：视觉塔的原生尺寸。",
    )
    images: Int = whole(
        0, 10_000, help="Images of one request.", label_zh="图像数", zh="一个请求里的图像数。"
    )


class PrefixSettings(Settings):
    """Settings of what requests have in common."""

    TITLE = "Prefixes"
    TITLE_ZH = "共同前缀"
    shared_prefix: Int = count(
        help="Tokens at the start that all requests have in common.",
        label_zh="共同前缀",
        zh="所有请求开头相同的 token 数。",
    )


class CardSettings(Settings):
    """Settings of how a server is spread over cards, and of what stands beside the model."""

    TITLE = "Cards"
    TITLE_ZH = "多卡"
    tensor_parallel_size: Int = whole(
        1,
        1 << 10,
        flags=("-tp",),
        label="Tensor parallel",
        help="Devices that share every layer.",
        label_zh="张量并行",
        zh="共同分担每一层的卡数。",
    )
    pipeline_parallel_size: Int = whole(
        1,
        1 << 10,
        flags=("-pp",),
        label="Pipeline parallel",
        help="Devices that share the layers out.",
        label_zh="流水线并行",
        zh="按层分段的卡数。",
    )
    pp_layer_partition: Shares = layers(
        label="Layers of each stage",
        help="Layers of each stage of the pipeline, the first one first: 16,32.",
        label_zh="各段的层数",
        zh="流水线各段的层数，从第一段起：16,32。",
        launch=(),
    )
    data_parallel_size: Int = whole(
        1,
        1 << 10,
        flags=("-dp",),
        label="Data parallel",
        help="Copies of the engine.",
        label_zh="数据并行",
        zh="引擎的副本数。",
    )
    enable_expert_parallel: Switch = switch(
        label="Experts dealt out whole",
        help="Experts are dealt out whole.",
        label_zh="专家整个分给各卡",
        zh="专家整个地分给各卡。",
    )
    language_model_only: Switch = switch(
        help="Towers for images and sounds are not loaded.",
        label_zh="只加载语言模型",
        zh="不加载图像和声音的塔。",
    )
    max_loras: Int = whole(
        0,
        1 << 12,
        label="Slots for LoRA",
        help="Slots for adapters.",
        label_zh="LoRA 槽位",
        zh="适配器的槽位数。",
    )
    max_lora_rank: Int = whole(
        1,
        1 << 12,
        label="Largest LoRA rank",
        help="Largest rank of an adapter.",
        label_zh="最大 LoRA 秩",
        zh="适配器最大的秩。",
    )
    speculative_method: Str = word(
        "draft",
        "mtp",
        "eagle",
        "eagle3",
        "ngram",
        help="How tokens are proposed.",
        label_zh="投机解码方式",
        zh="用什么方法提出草稿 token。",
    )
    num_speculative_tokens: Int = whole(
        0,
        1 << 10,
        help="Tokens that are proposed at once.",
        label_zh="草稿 token 数",
        zh="一次提出的 token 数。",
    )
    mamba_ssm_cache_dtype: Str = word(
        help="Of running states.", label_zh="Mamba 状态精度", zh="递推状态的精度。"
    )
    cpu_offload_gb: Float = number(
        label="CPU offload (GiB)",
        help="GiB of each device's weights that stay in host memory.",
        label_zh="CPU 卸载(GiB)",
        zh="每张卡有多少 GiB 的权重留在主机内存。",
    )
    attention_backend: Str = word(
        help="Kernels of attention.", label_zh="注意力后端", zh="注意力的计算核。"
    )


class TorchSettings(Settings):
    """Settings of the torch that an engine runs on."""

    TITLE = "Torch"
    TITLE_ZH = "torch"
    torch_version: Str = word(
        label="torch version",
        help="Version of torch that runs; it decides workspaces.",
        label_zh="torch 版本",
        zh="运行的 torch 版本；它决定工作区的大小。",
    )


class DraftSettings(Settings):
    """The model that proposes tokens."""

    TITLE = "Drafts"
    TITLE_ZH = "草稿模型"
    draft_model: Str = word(
        help="Model that proposes tokens.", label_zh="草稿模型", zh="提出草稿 token 的模型。"
    )


# In the order of a form; those of engines follow
SECTIONS = (
    ServingSettings,
    SightSettings,
    PrefixSettings,
    CardSettings,
    TorchSettings,
    DraftSettings,
)
