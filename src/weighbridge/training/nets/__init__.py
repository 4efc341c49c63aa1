"""Forward of every family that is trained by its layers: one program a family.

    net(model_type)(s) -> Tensor        the hidden states that the head reads

A program has the local variables of the real class, so that what lives and what is saved is what
lives and is saved there. Model types that are not in the table are read as usual decoders, and
said to be assumed.
"""

from collections.abc import Callable, Mapping

from weighbridge.autograd.tensors import Tensor
from weighbridge.errors import UnsupportedError, UsageError
from weighbridge.training.losses import LOSSES, Loss
from weighbridge.training.nets import (
    bert,
    bloom,
    cohere,
    decoder,
    distilbert,
    gemma,
    gpt2,
    gptj,
    latent,
    litgpt,
    mamba2,
    moe,
    neox,
    olmo,
    opt,
    parallel,
    phi3,
    qwen,
    t5,
    torchtitan,
    torchtune,
    vit,
)
from weighbridge.training.step import Step

Net = Callable[[Step], Tensor]

# model types, as configs spell them -> program
NETS: Mapping[str, Net] = {
    name: program
    for names, program in (
        (
            "llama arcee hunyuan_v1_dense mistral ministral qwen2 qwen3 smollm3 granite seed_oss",
            decoder.forward,
        ),
        ("gemma gemma2 gemma3", gemma.forward),
        ("gpt2 gpt_bigcode", gpt2.forward),
        ("gptj", gptj.forward),
        ("bloom", bloom.forward),
        ("gpt_neox", neox.forward),
        ("cohere cohere2", cohere.forward),
        ("olmo", olmo.forward),
        ("olmo2 olmo3", olmo.forward_2),
        ("phi", parallel.phi),
        ("stablelm", parallel.stablelm),
        ("starcoder2", parallel.starcoder2),
        ("opt", opt.forward),
        ("glm glm4", phi3.glm),
        ("phi3", phi3.forward),
        ("qwen", qwen.forward),
        ("qwen3_moe mixtral", moe.forward),
        ("deepseek_v3", latent.forward),
        ("bert roberta xlm-roberta camembert", bert.forward),
        ("distilbert", distilbert.forward),
        ("vit", vit.forward),
        ("t5", t5.forward),
        ("mamba2", mamba2.forward),
    )
    for name in names.split()
}

# Heads and losses that are not those of causal language models, by model type
OWN: Mapping[str, Loss] = {
    "bert": bert.loss,
    "roberta": bert.loss,
    "xlm-roberta": bert.loss,
    "camembert": bert.loss,
    "distilbert": distilbert.loss,
    "qwen": qwen.loss,
    "vit": vit.loss,
    "t5": t5.loss,
    "mamba2": mamba2.loss,
}


CAUSAL = ("mamba2",)  # of these


# Classes that a framework has of its own, for all model types, and its losses by their names
CLASSES: Mapping[str, Net] = {
    "litgpt": litgpt.forward,
    "torchtune": torchtune.forward,
    "torchtitan": torchtitan.forward,
}
LOOPS: Mapping[str, Loss] = {
    "litgpt": litgpt.loss,
    "litgpt-pretrain": litgpt.pretraining,
    "torchtune": torchtune.loss,
    "torchtitan": torchtitan.loss,
    "chunked": torchtune.chunked,
}


def loss(model_type: str, name: str) -> Loss:
    """The class's own, or that of causal language models by `name`."""
    if name in LOOPS:
        return LOOPS[name]
    own = OWN.get(model_type)
    if own is None or (name != "standard" and model_type in CAUSAL):
        return LOSSES[name]
    if name != "standard":
        raise UsageError(f"--loss {name}: {model_type} predicts no next token; leave it out")
    return own


def net(model_type: str, framework: str = "") -> tuple[Net, bool]:
    """(its program, whether it is known to be this class's)."""
    if framework in CLASSES:
        return CLASSES[framework], True
    found = NETS.get(model_type.removesuffix("_text"))
    return (_assumed, False) if found is None else (found, True)


def _assumed(s: Step) -> Tensor:
    """Llama's layers; raises UnsupportedError where the class has other modules."""
    try:
        return decoder.forward(s)
    except KeyError as error:
        raise UnsupportedError(
            f"{s.built.kind}: {error.args[0]} is not among its parameters, so its layers are not "
            "Llama's, and we have no others for it; trace its step: weighbridge trace, or --exact"
        ) from None
