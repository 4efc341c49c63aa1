"""bitsandbytes packs linears: experts in stacks, as transformers 5 has them, stay as they are."""

from tests.cases import all_of
from weighbridge.base.dtypes import BFLOAT16
from weighbridge.memory.components.weights import FormatChoice, unpacked_experts
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization.schemes import scheme


@all_of(
    ("kind", "form", "major", "said"),
    [
        ("expert", "nf4", 5, True),
        ("experts", "fp4", 5, True),
        ("expert", "bnb-int8", 6, True),
        ("expert", "nf4", 4, False),  # each expert is a linear of its own
        ("linear", "nf4", 5, False),
        ("expert", "torchao-int8", 5, False),
        ("expert", "", 5, False),
    ],
)
def test_it_is_said_of_experts_since_5(kind, form, major, said):
    plan = Blueprint(cls="AnyModel", params=(Param("a.w", (2, 2), kind=kind),))
    part = ModelPart(name="", blueprint=plan, config={})
    choice = FormatChoice(dtype=BFLOAT16, scheme=scheme(form) if form else None)
    assert bool(unpacked_experts(part, choice, major)) is said
