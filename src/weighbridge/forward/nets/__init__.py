"""Forward of every family that is trained by its layers: one program a family.

    forward(s) -> Tensor        the hidden states that the head reads

A program has the local variables of the real class, so that what lives and what is saved is what
lives and is saved there. The table of model types names it (`trains`); it is imported where it
runs. Model types without one are read as Llama's layers, where they have the same modules, or by
their parameters alone (rough.py), and said to be assumed.

The module of a program may say more of its classes: `loss` (their own head and loss), `CAUSAL`
(which predicts the next token), `MIXES` (what mixes tokens, where that is not attention alone) and
`ALSO_FEEDS_ALONE` (some layers mix none).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from weighbridge.arch.body import Experts, LayerBlock
from weighbridge.arch.mixers import Attention
from weighbridge.arch.model_types import facts
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.forward.losses import LOSSES, Loss
from weighbridge.forward.step import TrainingStep
from weighbridge.forward.tensors import Tensor

Net = Callable[[TrainingStep], Tensor]

# Classes that a framework has of its own, for all model types, and losses by their names
CLASSES = ("litgpt", "torchtune", "torchtitan")
# Kernels that a framework has for layers of Llama's shape, and what it does with others
KERNELS = {
    "unsloth": "unsloth compiles the code of this class; it was read as transformers runs it, "
    "which keeps more",
}
LOOPS = {
    "litgpt": "litgpt.loss",
    "litgpt-pretrain": "litgpt.pretraining",
    "torchtune": "torchtune.loss",
    "torchtitan": "torchtitan.loss",
    "chunked": "torchtune.chunked",
}
INSTEAD = "trace it (weighbridge trace SCRIPT)"
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
class TrainingProgram:
    """How a model is run. `low` and `high`: what it saves may be so many times what it says;
    `said` is why."""

    forward: Net
    loss: Loss
    low: float = 1.0
    high: float = 1.0
    said: str = ""


def program(
    model_type: str,
    blocks: Sequence[LayerBlock],
    names: Iterable[str],
    loss: str,
    framework: str = "",
) -> TrainingProgram:
    """Choose a training program by the class's name; else by `names`, those of the parameters of
    its embedding and layers. Raises UsageError for a loss that the class has not, UnsupportedError
    where a framework's class has no such layers."""
    kind = model_type.removesuffix("_text")
    net = facts(kind).training.net
    names = list(names)
    if framework in CLASSES:
        if not any(n in EMBEDDINGS for n in names):
            raise UnsupportedError(f"{model_type}: {framework} has no such class; {LEAVE}")
        _attends(model_type, blocks, framework)
        return TrainingProgram(forward=_function(f"{framework}.forward"), loss=_loss(kind, loss))
    names = [n for n in names if not ADAPTERS.search(n)]
    if framework in KERNELS and _of_llamas_shape(names, blocks):
        return TrainingProgram(forward=_function(f"{framework}.forward"), loss=_by_name(loss))
    if framework in KERNELS and net and _mixed(kind, blocks):
        forward = _function(net)
        return TrainingProgram(
            forward=forward, loss=_loss(kind, loss), low=0.5, said=KERNELS[framework]
        )
    if net and _mixed(kind, blocks):
        return TrainingProgram(forward=_function(net), loss=_loss(kind, loss))
    if _of_llamas_shape(names, blocks):
        return TrainingProgram(
            forward=_function("decoders.llama"),
            loss=_by_name(loss),
            low=2 / 3,
            high=4 / 3,
            said="its layers have the modules of Llama's and were read as such; what they save is "
            "assumed, a third more or less",
        )
    return TrainingProgram(
        forward=_function("rough.forward"),
        loss=_function("rough.loss") if loss == "standard" else _by_name(loss),
        low=0.5,
        high=2.0,
        said="its layers were read by their parameters alone; what they save is assumed, from half "
        f"to twice as much. For its own: --exact, or {INSTEAD}",
    )


def _of_llamas_shape(names: Sequence[str], blocks: Sequence[LayerBlock]) -> bool:
    embedded = [n for n in names if n in EMBEDDINGS]
    alike = bool(embedded) and all(LLAMA.fullmatch(n) or n in embedded for n in names)
    alike = alike and {*NORMS} <= {*names}
    return alike and all(isinstance(b.mixers[0], Attention) for b in blocks if b.mixers)


def _loss(kind: str, name: str) -> Loss:
    """The `loss` of the program's module, where it has one; else that of causal language models."""
    own = _of(kind, "loss", None)
    if own is None:
        return _by_name(name)
    if name == "standard":
        return own  # type: ignore[no-any-return]
    if not _of(kind, "CAUSAL", False):
        raise UsageError(f"--loss {name}: {kind} predicts no next token; leave it out")
    return _by_name(name)


def _by_name(loss: str) -> Loss:
    """A framework's own, or one that all have."""
    return _function(LOOPS[loss]) if loss in LOOPS else LOSSES[loss]


def _function(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(f"{__name__}.{module}"), function)


def _of(kind: str, name: str, otherwise: Any) -> Any:
    """What the module of a model type's program says of its classes under `name`."""
    module = facts(kind).training.net.partition(".")[0]
    return vars(import_module(f"{__name__}.{module}")).get(name, otherwise) if module else otherwise


def _mixed(kind: str, blocks: Sequence[LayerBlock]) -> bool:
    """Whether each layer mixes tokens by what its program has."""
    wanted, every = _of(kind, "MIXES", Attention), not _of(kind, "ALSO_FEEDS_ALONE", False)
    return all(
        any(isinstance(x, wanted) for x in block.mixers) or not (every or block.mixers)
        for block in blocks
    )


def _attends(model_type: str, blocks: Sequence[LayerBlock], framework: str) -> None:
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
