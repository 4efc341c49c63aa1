"""The golden suite: programs of a few lines of torch, the same on a real GPU and on a fake one.

    nets          plain PyTorch: optimizers, accumulation, autocast, hooks
    vision        ResNet-50, ConvNeXt, ViT, a UNet
    language      causal models, BERT, T5, Whisper; dynamic, static and windowed caches, beams
    adapters      LoRA, DoRA, and on weights of 4 and 8 bits

A program is `program(device) -> None`. It makes its model from a config and its batches from
nothing, and marks its phases: `phase("load")`, `phase("step 1")`, `phase("infer")`. A phase lasts
until the next one starts. Whoever measures or traces the program listens; nothing happens where
nobody does. All modules but this one import torch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from weighbridge.base.errors import NotFoundError
from weighbridge.base.records import field, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import spelled_like

NEEDS = {  # besides torch
    "nets": (),
    "vision": ("transformers",),
    "language": ("transformers",),
    "adapters": ("transformers", "peft"),
}


@frozen_record
class GoldenProgram:
    """A program of the suite. `home` is "module:function" in this package."""

    name: str
    home: str
    settings: dict[str, Any] = field(default_factory=dict)
    extra: str = ""  # a package that only this one needs

    @property
    def missing(self) -> list[str]:
        """Return the names of required packages that are not installed."""
        needed = ("torch", *NEEDS[self.home.partition(":")[0]], self.extra)
        return [name for name in needed if name and find_spec(name) is None]

    def load(self) -> Callable[[str], None]:
        """Return the function with its settings filled in. Imports torch."""
        module, _, function = self.home.partition(":")
        program = getattr(import_module(f"weighbridge_lab.golden.{module}"), function)
        return partial(program, **self.settings)


def find(name: str) -> GoldenProgram:
    """Return the program called `name`. Raises NotFoundError with the nearest names."""
    if name in PROGRAMS:
        return PROGRAMS[name]
    near = spelled_like(name, PROGRAMS, 3)
    hint = sentence("near", names=", ".join(near)) if near else sentence("near.golden")
    raise NotFoundError(sentence("golden.none", name=name, hint=hint))


def _program(name: str, home: str, extra: str = "", **settings: Any) -> GoldenProgram:
    return GoldenProgram(name=name, home=home, extra=extra, settings=settings)


BNB = "bitsandbytes"
LAYERWISE = {"use_reentrant": False}
ALL = (
    _program("perceptron-sgd", "nets:perceptron", optimizer="sgd"),
    _program("perceptron-momentum", "nets:perceptron", optimizer="momentum"),
    _program("perceptron-adam", "nets:perceptron", optimizer="adam"),
    _program("perceptron-adamw", "nets:perceptron", optimizer="adamw"),
    _program("perceptron-adamw-fused", "nets:perceptron", optimizer="adamw-fused"),
    _program("perceptron-adamw-for-loop", "nets:perceptron", optimizer="adamw-for-loop"),
    _program("perceptron-adamw8bit", "nets:perceptron", BNB, optimizer="adamw8bit"),
    _program("perceptron-adafactor", "nets:perceptron", optimizer="adafactor"),
    _program("perceptron-rmsprop", "nets:perceptron", optimizer="rmsprop"),
    _program("perceptron-accumulation", "nets:accumulation"),
    _program("perceptron-fp16-scaler", "nets:scaler"),
    _program("perceptron-clipping", "nets:clipping"),
    _program("perceptron-step-in-backward", "nets:step_in_backward"),
    _program("transformer-encoder", "nets:encoder"),
    _program("convolutions", "nets:convolutions"),
    _program("embeddings", "nets:embeddings"),
    _program("resnet50-sgd", "vision:classify", model="resnet50", optimizer="momentum"),
    _program(
        "resnet50-amp-channels-last",
        "vision:classify",
        model="resnet50",
        optimizer="momentum",
        autocast="bfloat16",
        memory_format="channels_last",
    ),
    _program("convnext-adamw", "vision:classify", model="convnext", optimizer="adamw"),
    _program("vit-adamw", "vision:classify", model="vit", optimizer="adamw"),
    _program("vit-amp", "vision:classify", model="vit", optimizer="adamw", autocast="bfloat16"),
    _program("unet-adamw", "vision:unet", "diffusers"),
    _program("unet-infer-fp16", "vision:unet", "diffusers", dtype="float16", train=False),
    _program("bert-adam", "language:bert", optimizer="adam"),
    _program("bert-adafactor", "language:bert", optimizer="adafactor"),
    _program("gpt2-adamw", "language:causal", config="gpt2", dtype="float32", rows=4),
    _program(
        "gpt2-eager", "language:causal", config="gpt2", dtype="float32", attention="eager", rows=4
    ),
    _program(
        "llama-1b-fp32-sgd", "language:causal", config="llama", dtype="float32", optimizer="sgd"
    ),
    _program("llama-1b-bf16-adamw", "language:causal", config="llama"),
    _program("llama-1b-bf16-fused", "language:causal", config="llama", optimizer="adamw-fused"),
    _program(
        "llama-1b-amp-adamw",
        "language:causal",
        config="llama",
        dtype="float32",
        autocast="bfloat16",
    ),
    _program("llama-1b-eager", "language:causal", config="llama", attention="eager"),
    _program(
        "llama-1b-checkpointing",
        "language:causal",
        config="llama",
        checkpointing=LAYERWISE,
        tokens=2048,
    ),
    _program(
        "llama-1b-checkpointing-reentrant",
        "language:causal",
        config="llama",
        checkpointing={"use_reentrant": True},
        tokens=2048,
    ),
    _program("llama-1b-accumulation", "language:causal", config="llama", batches=2, rows=1),
    _program("llama-1b-adafactor", "language:causal", config="llama", optimizer="adafactor"),
    _program("llama-1b-adamw8bit", "language:causal", BNB, config="llama", optimizer="adamw8bit"),
    _program("qwen3-adamw", "language:causal", config="qwen3"),
    _program("gemma3-adamw", "language:causal", config="gemma3", tokens=1024, rows=1),
    _program("mixtral-small-adamw", "language:causal", config="mixtral"),
    _program("qwen3-moe-small-adamw", "language:causal", config="qwen3-moe"),
    _program("deepseek-small-mla", "language:causal", config="deepseek"),
    _program("mamba-small-adamw", "language:causal", config="mamba", tokens=32),
    _program("t5-small-adafactor", "language:t5"),
    _program("whisper-tiny-adamw", "language:whisper"),
    _program("llama-1b-lora", "adapters:lora", config="llama"),
    _program("llama-1b-lora-checkpointing", "adapters:lora", config="llama", checkpointing=True),
    _program("llama-1b-dora", "adapters:lora", config="llama", dora=True),
    _program("llama-1b-qlora", "adapters:lora", BNB, config="llama", bits=4),
    _program("qwen3-lora-int8", "adapters:lora", BNB, config="qwen3", bits=8),
    _program("llama-1b-generate-dynamic", "language:generate", config="llama"),
    _program("llama-1b-generate-static", "language:generate", config="llama", cache="static"),
    _program("llama-1b-generate-padded", "language:generate", config="llama", padded=True),
    _program("qwen3-generate-beams", "language:generate", config="qwen3", rows=2, beams=4),
    _program("gemma3-generate-windows", "language:generate", config="gemma3", prompt=1024),
    _program("gemma3-generate-static", "language:generate", config="gemma3", cache="static"),
    _program("gpt2-generate-fp32", "language:generate", config="gpt2", dtype="float32"),
)
PROGRAMS = {program.name: program for program in ALL}


# Phases

_listeners: list[Callable[[str], None]] = []


def phase(name: str) -> None:
    """Begin the phase `name` of the program."""
    for listener in _listeners:
        listener(name)


def steps(count: int = 2) -> Iterator[int]:
    """Yield training steps, each as its own phase. At least two, since the first has no optimizer
    state."""
    for number in range(1, count + 1):
        phase(f"step {number}")
        yield number


@contextmanager
def listening(listener: Callable[[str], None]) -> Iterator[None]:
    """Call `listener` with the name of each phase that begins inside the block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
