"""Tensors of a part, by hand: ties, copies, buffers, and what follows the model's dtype."""

from weighbridge.base.dtypes import BFLOAT16
from weighbridge.memory.components.weights import (
    DIVISIONS,
    FormatChoice,
    PlacedTensor,
    apart,
    divided,
    persistent_bytes,
    placed,
    together,
    total,
    volatile_bytes,
    weight_bytes,
)
from weighbridge.models.arch.blueprint import Blueprint, Buffer, Param
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.tensors import CheckpointTensor

PLAN = Blueprint(
    cls="AnyModel",
    params=(
        Param("embed.weight", (10, 10)),
        Param("norm.weight", (10,), dtype="float32"),
        Param("experts.0.up.weight", (5, 10), copies=4),
        Param("head.weight", (10, 10), tied="embed.weight"),
    ),
    buffers=(
        Buffer("rope.inv_freq", (8,), "float32"),
        Buffer("mask.bias", (3, 3), ""),
        Buffer("old.masked", (), "", until=5),
        Buffer("norm.mean", (6,), "", persistent=True),
        Buffer("norm.seen", (1,), "int64", persistent=True),
    ),
)
PART = ModelPart(name="", blueprint=PLAN, config={})
HALF = FormatChoice(dtype=BFLOAT16)


def test_plain_weights():
    """100 + 4 x 50 parameters of 2 bytes, ten that the class keeps in float32, a tie for nothing;
    buffers of 32 + 18 + 12 + 8 bytes."""
    found = placed(PART, HALF, major=5)
    assert total(found, "weights") == weight_bytes(PART, HALF, major=5) == 2 * 300 + 4 * 10
    assert total(found, "buffers") == 32 + 18 + 12 + 8
    assert total(placed(PART, HALF, major=4), "buffers") == 32 + 18 + 2 + 12 + 8
    assert [(t.module, t.copies) for t in found[:3]] == [
        ("embed", 1),
        ("norm", 1),
        ("experts.0.up", 4),
    ]


def test_what_is_stored_is_taken_as_it_is():
    stored = tuple(CheckpointTensor(n, BFLOAT16, (1,), b) for n, b in (("a.w", 7), ("b.w", 9)))
    part = ModelPart(
        name="unet", blueprint=Blueprint(cls="Any", params=()), config={}, stored=stored
    )
    choice = FormatChoice(dtype=BFLOAT16, as_stored=True)
    assert placed(part, choice, major=5) == (
        PlacedTensor("unet.a", 7, "weights"),
        PlacedTensor("unet.b", 9, "weights"),
    )
    assert weight_bytes(part, choice, major=5) == 16


def test_a_division_takes_all_that_floats_and_leaves_integers():
    """300 + 10 parameters and a mean of 6 at 4 bits each; eight bytes are an integer's."""
    assert divided(PLAN, 310, DIVISIONS["int4"]) == 158 + 8
    assert divided(PLAN, 310, DIVISIONS["fp8"]) == 316 + 8
    assert persistent_bytes(PART, BFLOAT16) == 12 + 8


def test_buffers_that_are_made_anew():
    """In float32: 8 of rotary frequencies, 9 of a mask, and one more before transformers 5."""
    assert volatile_bytes(PART, 5) == 32 + 36
    assert volatile_bytes(PART, 4) == 32 + 36 + 4


def test_like_experts_come_together_and_stand_apart():
    up, down = (PlacedTensor(f"l.experts.0.{n}", 8, "weights", 2) for n in ("up", "down"))
    norm = PlacedTensor("l.norm", 4, "weights")
    assert list(together([norm, up, down, norm])) == [
        (1, (norm,)),
        (2, (up, down)),
        (1, (norm,)),
    ]
    assert [t.module for t in apart([norm, up, down])] == [
        "l.norm",
        "l.experts.0.up",
        "l.experts.0.down",
        "l.experts.1.up",
        "l.experts.1.down",
    ]
    assert total([norm, up, down], "weights") == 4 + 2 * 16
