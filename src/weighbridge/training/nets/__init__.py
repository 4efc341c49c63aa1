"""Forward of every family that is trained by its layers: one program a family.

    net(model_type)(s) -> Tensor        the hidden states that the head reads

A program has the local variables of the real class, so that what lives and what is saved is what
lives and is saved there. Model types that are not in the table are read as usual decoders, and
said to be assumed. Programs are named here and imported where they run.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from weighbridge.arch.body import Block
from weighbridge.arch.mixers import (
    Attention,
    Compressed,
    CrossAttention,
    GatedDelta,
    GatedRecurrence,
    KimiDelta,
    Latent,
    LinearAttention,
    Mamba1,
    Mamba2,
    ShortConv,
)
from weighbridge.autograd.tensors import Tensor
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.training.losses import LOSSES, Loss
from weighbridge.training.step import Step

Net = Callable[[Step], Tensor]

# module and function -> model types, as configs spell them
PROGRAMS: Mapping[str, str] = {
    "decoder.forward": """
        llama arcee cwm hunyuan_v1_dense internlm3 jais2 mistral ministral qwen2 qwen3 smollm3
        granite seed_oss
    """,
    "gemma.forward": "gemma gemma2 gemma3",
    "gpt2.forward": "gpt2 gpt_bigcode",
    "gptj.forward": "gptj",
    "granite.forward": "granitemoehybrid",
    "jamba.forward": "jamba",
    "bamba.forward": "bamba",
    "bloom.forward": "bloom",
    "nemotron_h.forward": "nemotron_h",
    "neox.forward": "gpt_neox",
    "cohere.forward": "cohere cohere2",
    "dense.ernie": "ernie4_5",
    "dense.exaone4": "exaone4",
    "dense.helium": "helium",
    "dense.ministral3": "ministral3",
    "dense.nemotron": "nemotron",
    "falcon.forward": "falcon",
    "olmo.forward": "olmo",
    "olmo.forward_2": "olmo2 olmo3",
    "parallel.phi": "phi",
    "parallel.stablelm": "stablelm",
    "parallel.starcoder2": "starcoder2",
    "opt.forward": "opt",
    "persimmon.forward": "persimmon",
    "phi3.glm": "glm glm4",
    "phi3.forward": "phi3",
    "qwen.forward": "qwen",
    "moe.forward": "qwen3_moe mixtral",
    "latent.forward": "deepseek_v3",
    "bert.forward": "bert roberta xlm-roberta camembert",
    "distilbert.forward": "distilbert",
    "vit.forward": "vit",
    "t5.forward": "t5",
    "mamba.forward": "mamba falcon_mamba",
    "mamba2.forward": "mamba2",
    "written_out.gpt_neo": "gpt_neo",
    "written_out.mpt": "mpt",
}
NETS = {name: program for program, names in PROGRAMS.items() for name in names.split()}
# Heads and losses that are not those of causal language models: of these modules
OWN = ("bert", "distilbert", "qwen", "vit", "t5", "mamba", "mamba2", "nemotron_h")
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
MIXED: Mapping[str, tuple[type, ...]] = {
    "latent": (Latent,),
    "mamba": (Mamba1,),
    "mamba2": (Mamba2,),
    "bamba": (Mamba2, Attention),
    "granite": (Mamba2, Attention),
    "jamba": (Mamba1, Attention),
    "nemotron_h": (Mamba2, Attention),
}
FED = ("nemotron_h",)  # modules whose classes have layers that mix no tokens
WORDS: Mapping[type, str] = {
    Attention: "attention",
    Latent: "latent attention (MLA)",
    Compressed: "compressed attention",
    CrossAttention: "cross-attention",
    Mamba1: "Mamba",
    Mamba2: "Mamba-2",
    GatedDelta: "gated delta",
    KimiDelta: "Kimi delta",
    LinearAttention: "linear attention",
    ShortConv: "short convolution",
    GatedRecurrence: "gated recurrence (RG-LRU)",
}
INSTEAD = "trace it (weighbridge trace SCRIPT)"
UNCOVERED = f"its training step is not covered yet: {INSTEAD}"


def loss(model_type: str, name: str) -> Loss:
    """The class's own, or that of causal language models by `name`."""
    module = NETS.get(model_type, "").partition(".")[0]
    own = module in OWN
    if own and module not in CAUSAL and name != "standard":
        raise UsageError(f"--loss {name}: {model_type} predicts no next token; leave it out")
    if name in LOOPS:
        return _program(LOOPS[name])  # type: ignore[no-any-return]
    if name != "standard" or not own:
        return LOSSES[name]
    return _program(f"{module}.loss")  # type: ignore[no-any-return]


def net(model_type: str, framework: str = "") -> tuple[Net, bool]:
    """(its program, whether it is known to be this class's)."""
    if framework in CLASSES:
        return _program(f"{framework}.forward"), True
    found = NETS.get(model_type.removesuffix("_text"))
    return (_assumed, False) if found is None else (_program(found), True)


def _program(name: str) -> Any:
    module, _, function = name.partition(".")
    return getattr(import_module(f"{__name__}.{module}"), function)


def _assumed(s: Step) -> Tensor:
    """Llama's layers; raises UnsupportedError where the class has other modules."""
    try:
        found: Tensor = _program("decoder.forward")(s)
    except KeyError:
        raise UnsupportedError(f"{s.built.kind}: {UNCOVERED}") from None
    return found


def covered(model_type: str, blocks: Sequence[Block], framework: str = "") -> None:
    """Raises UnsupportedError where a layer mixes tokens otherwise than its program does."""
    module = NETS.get(model_type.removesuffix("_text"), "").partition(".")[0]
    usual = (Attention,)
    wanted = usual if framework in CLASSES else MIXED.get(module, usual)
    for number, block in enumerate(blocks):
        if any(isinstance(x, wanted) for x in block.mixers):
            continue
        if not block.mixers and module in FED:
            continue
        if not block.mixers:
            raise UnsupportedError(f"{model_type}: {UNCOVERED}")
        kind = type(block.mixers[0])
        raise UnsupportedError(
            f"{model_type}: training steps of its {WORDS.get(kind, kind.__name__)} layers (layer "
            f"{number} is the first) are not covered yet: {INSTEAD}"
        )
