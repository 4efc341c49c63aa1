"""Forward of every family that is trained by its layers: one program a family.

    net(model_type)(s) -> Tensor        the hidden states that the head reads

A program has the local variables of the real class, so that what lives and what is saved is what
lives and is saved there. Model types that are not in the table are read as usual decoders, and
said to be assumed.
"""

from collections.abc import Callable, Mapping

from weighbridge.autograd.tensors import Tensor
from weighbridge.training.nets import decoder
from weighbridge.training.step import Step

Net = Callable[[Step], Tensor]

# model types, as configs spell them -> program
NETS: Mapping[str, Net] = {
    name: program
    for names, program in (("llama mistral qwen2 qwen3 smollm3", decoder.forward),)
    for name in names.split()
}


def net(model_type: str) -> tuple[Net, bool]:
    """(its program, whether it is known to be this class's)."""
    found = NETS.get(model_type.removesuffix("_text"))
    return (decoder.forward, False) if found is None else (found, True)
