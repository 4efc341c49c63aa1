"""Forward of every family that is trained by its layers: one program a family.

    forward(s) -> Tensor        the hidden states that the head reads

A program has the local variables of the real class, so that what lives and what is saved is what
lives and is saved there. The table of model types names it (`trains`); it is imported where it
runs. Model types without one are read as Llama's layers, where they have the same modules, or by
their parameters alone (rough.py), and said to be assumed.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from weighbridge.arch.body import Block, Experts
from weighbridge.arch.mixers import (
    Attention,
    GatedDelta,
    GatedRecurrence,
    Latent,
    Mamba1,
    Mamba2,
    ShortConv,
)
from weighbridge.arch.table import column
from weighbridge.autograd.tensors import Tensor
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.training.losses import LOSSES, Loss
from weighbridge.training.step import Step

Net = Callable[[Step], Tensor]

NETS = column("trains")  # model type -> module and function here
# Heads and losses that are not those of causal language models: of these modules
OWN = (
    "bert",
    "distilbert",
    "albert",
    "mpnet",
    "deberta",
    "modernbert",
    "vit",
    "dinov2",
    "clip",
    "siglip",
    "t5",
    "bart",
    "whisper",
    "qwen",
    "mamba",
    "mamba2",
    "nemotron_h",
)
CAUSAL = ("mamba", "mamba2", "nemotron_h")  # of these
# Classes that a framework has of its own, for all model types, and losses by their names
CLASSES = ("litgpt", "torchtune", "torchtitan")
LOOPS = {
    "litgpt": "litgpt.loss",
    "litgpt-pretrain": "litgpt.pretraining",
    "torchtune": "torchtune.loss",
    "torchtitan": "torchtitan.loss",
    "chunked": "torchtune.chunked",
}
# What mixes tokens in the layers of these modules' classes; attention in all others'
MIXED: Mapping[str, type | tuple[type, ...]] = {
    "latent": Latent,
    "indexed": Latent,
    "mamba2": Mamba2,
    "qwen_next": (Attention, GatedDelta),
    "lfm2": (Attention, ShortConv),
    "griffin": (Attention, GatedRecurrence),
    "mamba": Mamba1,
    "bamba": (Mamba2, Attention),
    "granite": (Mamba2, Attention),
    "jamba": (Mamba1, Attention),
    "nemotron_h": (Mamba2, Attention),
}
FED = ("nemotron_h",)  # modules whose classes have layers that mix no tokens
INSTEAD = "trace it (weighbridge trace SCRIPT)"
# Whose programs have their towers in them: a batch is of images, of pairs, or of sounds
SEEING = ("vit", "dinov2", "clip_text_model", "siglip_text_model", "whisper")
LEAVE = f"leave --framework out, or {INSTEAD}"
UNCOVERED = f"its training step is not covered yet: {INSTEAD}"
EMBEDDINGS = ("embed_tokens", "wte", "tok_embeddings", "embed_in", "word_embeddings", "embeddings")
# Names in a layer of Llama's shape, whatever the class is called
LLAMA = re.compile(
    r"(self_attn\.([qkvo]_proj|[qk]_norm)|mlp\.(gate|up|down)_proj|(input|post_attention)_layernorm)"
    r"\.(weight|bias)"
)
NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
ADAPTERS = re.compile(r"\.(lora_\w+|base_layer)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """How a model is run. `low` and `high`: what it saves may be so many times what it says;
    `said` is why."""

    forward: Net
    loss: Loss
    low: float = 1.0
    high: float = 1.0
    said: str = ""


def program(
    model_type: str, blocks: Sequence[Block], names: Iterable[str], loss: str, framework: str = ""
) -> Program:
    """Choose a training program by the class's name; else by `names`, those of the parameters of
    its embedding and layers. Raises UsageError for a loss that the class has not, UnsupportedError
    where a framework's class has no such layers."""
    kind = model_type.removesuffix("_text")
    names = list(names)
    if framework in CLASSES:
        if not any(n in EMBEDDINGS for n in names):
            raise UnsupportedError(f"{model_type}: {framework} has no such class; {LEAVE}")
        _attends(model_type, blocks, framework)
        return Program(forward=_function(f"{framework}.forward"), loss=_loss(kind, loss))
    names = [n for n in names if not ADAPTERS.search(n)]
    if kind in NETS and _mixed(kind, blocks):
        return Program(forward=_function(NETS[kind]), loss=_loss(kind, loss))
    embedded = [n for n in names if n in EMBEDDINGS]
    alike = bool(embedded) and all(LLAMA.fullmatch(n) or n in embedded for n in names)
    alike = alike and {*NORMS} <= {*names}
    if alike and all(isinstance(b.mixers[0], Attention) for b in blocks if b.mixers):
        return Program(
            forward=_function("decoders.llama"),
            loss=_by_name(loss),
            low=2 / 3,
            high=4 / 3,
            said="its layers have the modules of Llama's and were read as such; what they save is "
            "assumed, a third more or less",
        )
    return Program(
        forward=_function("parts.rough.forward"),
        loss=_function("parts.rough.loss") if loss == "standard" else _by_name(loss),
        low=0.5,
        high=2.0,
        said="its layers were read by their parameters alone; what they save is assumed, from half "
        f"to twice as much. For its own: --exact, or {INSTEAD}",
    )


def _loss(kind: str, name: str) -> Loss:
    """The class's own, or that of causal language models by `name`."""
    module = NETS.get(kind, "").partition(".")[0]
    own = module in OWN
    if own and module not in CAUSAL and name != "standard":
        raise UsageError(f"--loss {name}: {kind} predicts no next token; leave it out")
    if name == "standard" and own:
        return _function(f"{module}.loss")  # type: ignore[no-any-return]
    return _by_name(name)


def _by_name(loss: str) -> Loss:
    """A framework's own, or one that all have."""
    return _function(LOOPS[loss]) if loss in LOOPS else LOSSES[loss]


def _function(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(f"{__name__}.{module}"), function)


def _mixed(kind: str, blocks: Sequence[Block]) -> bool:
    """Whether each layer mixes tokens by what its program has."""
    module = NETS[kind].partition(".")[0]
    wanted = MIXED.get(module, Attention)
    return all(
        any(isinstance(x, wanted) for x in block.mixers) or (module in FED and not block.mixers)
        for block in blocks
    )


def _attends(model_type: str, blocks: Sequence[Block], framework: str) -> None:
    if any(isinstance(f, Experts) for b in blocks for f in b.feeds):
        raise UnsupportedError(
            f"{model_type}: experts as {framework} runs them are not covered yet: {LEAVE}"
        )
    for number, block in enumerate(blocks):
        if not any(isinstance(x, Attention) for x in block.mixers):
            name = type(block.mixers[0]).__name__ if block.mixers else "no mixer"
            raise UnsupportedError(
                f"{model_type}: {framework} has no class with its layer {number} ({name}); leave "
                "--framework out"
            )
