"""Experts that bitsandbytes leaves as they are: since transformers 5 they are parameters of three
dimensions, and it packs linears alone (integrations/bitsandbytes.py)."""

from weighbridge.checkpoint.model import ModelPart
from weighbridge.components.weights import FormatChoice

MERGES = 5  # the version of transformers that holds the experts of a layer in stacks
FOUR_BITS = ("nf4", "fp4")
BITSANDBYTES = (*FOUR_BITS, "bnb-")  # formats that leave stacks of experts alone
EXPERTS = ("expert", "experts")  # kinds of the parameters of one expert, and of all in one


def told(part: ModelPart, choice: FormatChoice, major: int) -> str:
    """What to say of them; "" where there are none, or where they are packed."""
    form = choice.scheme
    if major < MERGES or form is None or choice.as_stored:
        return ""
    routed = (x.kind in EXPERTS for x in part.blueprint.counted)
    if not form.name.startswith(BITSANDBYTES) or not any(routed):
        return ""
    return (
        f"experts are parameters of three dimensions, which bitsandbytes does not pack: they stay "
        f"in {choice.dtype.name} beside linears in {form.name}"
    )
