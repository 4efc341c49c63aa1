"""Forward of every family that is trained by its layers: one program a family.

    net(step) -> Tensor         the hidden states that the head reads

A program has the local variables of the real class, so that what lives and what is saved is what
lives and is saved there. The facts of a model type name it (`net`); it is imported where it runs.
Model types without one are read as Llama's layers, where they have the same modules, or by their
parameters alone (rough.py), and said to be assumed.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import KW_ONLY, dataclass, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.body import Experts, LayerBlock
from weighbridge.models.arch.mixers import Attention, Latent
from weighbridge.models.arch.model_types import facts
from weighbridge.training.forward.losses import LOSSES, Loss
from weighbridge.training.forward.step import TrainingStep
from weighbridge.training.forward.tensors import Tensor

Forward = Callable[[TrainingStep], Tensor]
Mixers = type | tuple[type, ...]

# A framework's own classes, for all model types, and its losses by name
CLASSES = ("litgpt", "torchtune", "torchtitan")
# Kernels that a framework has for layers of Llama's shape, and how it runs other layers
KERNELS = {"unsloth": "unsloth_compiles"}  # key of the sentence that says how
LOOPS = {
    "litgpt": "litgpt.loss",
    "litgpt-full": "litgpt.tuning",
    "litgpt-pretrain": "litgpt.pretraining",
    "torchtune": "torchtune.loss",
    "torchtitan": "torchtitan.loss",
    "chunked": "torchtune.chunked",
}
EMBEDDINGS = ("embed_tokens", "wte", "tok_embeddings", "embed_in", "word_embeddings", "embeddings")
# Names in a layer of Llama's shape, whatever the class is called
LLAMA = re.compile(
    r"(self_attn\.([qkvo]_proj|[qk]_norm)|mlp\.(gate|up|down)_proj|(input|post_attention)_layernorm)"
    r"\.(weight|bias)"
)
NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
ADAPTERS = re.compile(r"\.(lora_\w+|base_layer)\.")


@dataclass(frozen=True, slots=True)
class Net:
    """How the forward of a class differs from most.

    loss         its own head and loss
    causal       predicts the next token, though its loss is its own
    mixes        types that mix tokens in its layers
    feeds_alone  some of its layers mix none
    """

    forward: Forward
    _: KW_ONLY
    loss: Loss | None = None
    causal: bool = False
    mixes: Mixers = Attention
    feeds_alone: bool = False

    def fits(self, blocks: Sequence[LayerBlock]) -> bool:
        """Return whether each layer mixes tokens by a type that the class has."""
        return all(
            any(isinstance(x, self.mixes) for x in block.mixers)
            or (self.feeds_alone and not block.mixers)
            for block in blocks
        )


@frozen_record
class TrainingProgram:
    """The forward and the loss of one model. `low`, `high`: factors for what it saves, where that
    is uncertain; `said` is why."""

    forward: Forward
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
    """Return the training program of a class, by its name, or else by `names`, the parameters of
    its embedding and layers. Raises UsageError for a loss that the class does not have,
    UnsupportedError if a framework's class has no such layers."""
    kind = model_type.removesuffix("_text")
    net, names = _net(kind), list(names)
    if framework in CLASSES:
        if not any(n in EMBEDDINGS for n in names):
            raise UnsupportedError(
                sentence("framework_class", kind=model_type, framework=framework)
            )
        _attends(model_type, blocks, framework)
        return TrainingProgram(
            forward=_function(f"{framework}.forward"), loss=_loss(kind, net, loss)
        )
    names = [n for n in names if not ADAPTERS.search(n)]
    if framework in KERNELS and _is_llama_shaped(names, blocks):
        return TrainingProgram(forward=_function(f"{framework}.forward"), loss=_by_name(loss))
    if net is not None and net.fits(blocks):
        known = TrainingProgram(forward=net.forward, loss=_loss(kind, net, loss))
        key = KERNELS.get(framework)
        return replace(known, low=0.5, said=sentence(key)) if key else known
    if _is_llama_shaped(names, blocks):
        return TrainingProgram(
            forward=_function("decoders.llama"),
            loss=_by_name(loss),
            low=2 / 3,
            high=4 / 3,
            said=sentence("read_as_llama"),
        )
    return TrainingProgram(
        forward=_function("rough.forward"),
        loss=_function("rough.loss") if loss == "standard" else _by_name(loss),
        low=0.5,
        high=2.0,
        said=sentence("no_program"),
    )


def _is_llama_shaped(names: Sequence[str], blocks: Sequence[LayerBlock]) -> bool:
    embedded = [n for n in names if n in EMBEDDINGS]
    alike = bool(embedded) and all(LLAMA.fullmatch(n) or n in embedded for n in names)
    alike = alike and {*NORMS} <= {*names}
    return alike and all(isinstance(b.mixers[0], Attention) for b in blocks if b.mixers)


def predicts_next(model_type: str) -> bool:
    """Return whether the class of `model_type` is trained to predict the next token."""
    net = _net(model_type.removesuffix("_text"))
    return net is None or net.loss is None or net.causal


def _loss(kind: str, net: Net | None, name: str) -> Loss:
    """Return the loss `name`; with "standard" the class's own, if it has one."""
    if net is None or net.loss is None:
        return _by_name(name)
    if name == "standard":
        return net.loss
    if not predicts_next(kind):
        raise UsageError(sentence("no_next_token", kind=kind, name=name))
    return _by_name(name)


def _by_name(loss: str) -> Loss:
    """Return the loss of that name: a framework's own, or one that all have."""
    return _function(LOOPS[loss]) if loss in LOOPS else LOSSES[loss]


def _net(kind: str) -> Net | None:
    """Return the net of a model type; None if there is none."""
    name = facts(kind).training.net
    net = _function(name) if name else None
    return net if net is None or isinstance(net, Net) else Net(net)


def _function(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(import_module(f"{__name__}.{module}"), function)


def _attends(model_type: str, blocks: Sequence[LayerBlock], framework: str) -> None:
    sparse = any(isinstance(f, Experts) for b in blocks for f in b.feeds)
    if sparse and not (framework == "torchtitan" and facts(model_type).training.titan_experts):
        raise UnsupportedError(sentence("framework_experts", kind=model_type, framework=framework))
    mixes = (Attention, Latent) if sparse else Attention
    for number, block in enumerate(blocks):
        if not any(isinstance(x, mixes) for x in block.mixers):
            name = type(block.mixers[0]).__name__ if block.mixers else "no mixer"
            raise UnsupportedError(
                sentence(
                    "framework_layer",
                    kind=model_type,
                    framework=framework,
                    number=number,
                    name=name,
                )
            )
