"""Settings that no single engine owns, one class per section of a form."""

import sys
from typing import TYPE_CHECKING

from weighbridge.base.sentences import sentence
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

COMPUTES = frozenset({"bfloat16", "float16", "float32", "float64"})  # dtypes of matrix products


class RequestSettings(Settings):
    """Settings of the requests to a server."""

    TITLE = "Requests"
    TITLE_ZH = "请求"
    engine: Str = word(default="transformers")
    context: Int = count(
        *(1, 1 << 31),
        flags=("--max-model-len", "--ctx", "--ctx-size", "--num-ctx", "--n-ctx"),
        default=1 << 12,
        slider=(128, 1 << 20),
    )
    prompt_len: Int = count()
    max_new_tokens: Int = count()
    batch_size: Int = count(1, 1 << 20, default=1, slider=(1, 1 << 10))
    audio_seconds: Float = number(0, 1_000_000)


class WeightSettings(Settings):
    """The format of the weights."""

    TITLE = "Weights"
    TITLE_ZH = "权重"
    dtype: Str = word()
    quantization: Str = word(flags=("--quant",))
    engine_version: Str = word()
    base_model: Switch = switch()


class DeviceSettings(Settings):
    """The device and the machine that a verdict is about."""

    TITLE = "Device"
    TITLE_ZH = "设备"
    gpu: Str = word()
    gpu_memory: Str = relative(flags=("--vram",))
    headroom: Str = relative()
    ram: Str = memory()
    platform: Str = word("linux", "windows")
    not_understood: Str = word()


class Weighed(WeightSettings, DeviceSettings):
    """Settings of every question: the format of the weights, and the device."""

    def budget(self) -> "Budget | None":
        """Return the memory budget of the device; None, without reading the catalogue, if the user
        set none."""
        if self.gpu is None and self.gpu_memory is None and self.headroom is None:
            return None
        from weighbridge.machines.accelerators.budget import budget

        return budget(self.gpu, self.gpu_memory, self.headroom)

    def host_memory(self) -> "MachineMemory | None":
        """Return the host memory that the user set. Otherwise it is this machine's if its own GPUs
        are used, or the shared memory of a chip without its own; None without these."""
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
        """Return whether the machine runs Windows: as set, or this machine if `gpu` is "local"."""
        here = sys.platform == "win32" and self.gpu is not None and _is_local(self.gpu)
        return self.platform == "windows" or (self.platform is None and here)

    def check(self) -> None:
        """Raise UsageError for an unknown device or machine, or a `dtype` without matrix products,
        before anything is fetched."""
        self._unpacked()
        self.budget()
        self.host_memory()

    def _unpacked(self) -> None:
        """Raise UsageError if `dtype`, that of the unquantized tensors, has no matrix products."""
        if self.dtype is None or self.quantization is None:
            return
        from weighbridge.base.dtypes import ALIASES, TORCH
        from weighbridge.base.errors import UsageError

        plain = self.dtype.removeprefix("torch.").lower()
        if ALIASES.get(plain, plain) in TORCH.keys() - COMPUTES:
            raise UsageError(sentence("dtype_beside", dtype=self.dtype, form=self.quantization))


def _is_local(gpu: str) -> bool:
    """Return whether `gpu` means this machine's cards, without reading the catalogue."""
    return gpu.strip().lower() == "local"


class CacheSettings(Settings):
    """Settings of the KV cache."""

    TITLE = "Caches and attention"
    TITLE_ZH = "缓存与注意力"
    kv_cache_dtype: Str = word()


class ServingSettings(RequestSettings, Weighed, CacheSettings):
    """Settings that every engine takes."""


class ProgramSettings(Settings):
    """The program, for engines with a server and a command-line one: llama.cpp and mlx-lm."""

    TITLE = "llama.cpp"  # the first engine that had it

    program: Str = word("server", "cli", launch=())


class SightSettings(Settings):
    """Images of a request."""

    TITLE = "Sight"
    TITLE_ZH = "图像"
    image_size: Pixels = image()
    images: Int = whole(0, 10_000)


class PrefixSettings(Settings):
    """The prefix that requests have in common."""

    TITLE = "Prefixes"
    TITLE_ZH = "共同前缀"
    shared_prefix: Int = count()


class CardSettings(Settings):
    """Settings of parallelism over cards, and of LoRA, drafting, SSM states and offload."""

    TITLE = "Cards"
    TITLE_ZH = "多卡"
    tensor_parallel_size: Int = whole(1, 1 << 10, flags=("-tp",))
    pipeline_parallel_size: Int = whole(1, 1 << 10, flags=("-pp",))
    pp_layer_partition: Shares = layers(launch=())
    data_parallel_size: Int = whole(1, 1 << 10, flags=("-dp",))
    enable_expert_parallel: Switch = switch()
    language_model_only: Switch = switch()
    max_loras: Int = whole(0, 1 << 12)
    max_lora_rank: Int = whole(1, 1 << 12)
    speculative_method: Str = word("draft", "mtp", "eagle", "eagle3", "ngram")
    num_speculative_tokens: Int = whole(0, 1 << 10)
    mamba_ssm_cache_dtype: Str = word()
    cpu_offload_gb: Float = number()
    attention_backend: Str = word()


class TorchSettings(Settings):
    """The version of torch that an engine runs on."""

    TITLE = "Torch"
    TITLE_ZH = "torch"
    torch_version: Str = word()


class DraftSettings(Settings):
    """The draft model, which proposes tokens for speculative decoding."""

    TITLE = "Drafts"
    TITLE_ZH = "草稿模型"
    draft_model: Str = word()


# In the order of a form; the engines' own settings follow
SECTIONS = (
    ServingSettings,
    SightSettings,
    PrefixSettings,
    CardSettings,
    TorchSettings,
    DraftSettings,
)
