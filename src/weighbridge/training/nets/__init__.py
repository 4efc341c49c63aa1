"""Forward of every family that is trained by its layers: one program a family.

    net(model_type)(s) -> Tensor        the hidden states that the head reads

A program has the local variables of the real class, so that what lives and what is saved is what
lives and is saved there. Model types that are not in the table are read as usual decoders, and
said to be assumed.
"""

from collections.abc import Callable, Mapping

from weighbridge.autograd.tensors import Tensor
from weighbridge.errors import UnsupportedError
from weighbridge.training.nets import (
    bloom,
    cohere,
    decoder,
    gemma,
    gpt2,
    gptj,
    latent,
    moe,
    neox,
    olmo,
    opt,
    parallel,
    phi3,
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
        ("qwen3_moe mixtral", moe.forward),
        ("deepseek_v3", latent.forward),
    )
    for name in names.split()
}


def net(model_type: str) -> tuple[Net, bool]:
    """(its program, whether it is known to be this class's)."""
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
