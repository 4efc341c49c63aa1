"""Rows of the load table, by hand."""

import pytest

from weighbridge.base.dtypes import BFLOAT16
from weighbridge.memory.components.table import largest_kept_whole, table
from weighbridge.models.arch.blueprint import Blueprint, Buffer, Param
from weighbridge.models.checkpoint.model import Model, ModelPart

LAYER = (("attn", (10, 10), 1), ("mlp.experts.0.up", (10, 15), 2))
PLAN = Blueprint(
    cls="AnyForCausalLM",
    params=(
        Param("embed.weight", (35, 10)),
        *(Param(f"layers.{n}.{m}.weight", s, copies=k) for n in (0, 1) for m, s, k in LAYER),
        Param("head.weight", (35, 10), tied="embed.weight"),
    ),
    blocks=("layers.*",),
    buffers=(Buffer("seen", (1,), "int64", persistent=True),),
)


@pytest.fixture(scope="module")
def rows():
    part = ModelPart(name="", blueprint=PLAN, config={})
    model = Model(reference="any", name="any", revision=None, parts=(part,), read_from=())
    return {row.dtype: row for row in table(model, {"": BFLOAT16}, major=5).rows}


def test_parameters_are_350_and_two_layers_of_400(rows):
    """1,150 in all and a counter of 8 bytes; the tie is no second table."""
    totals = {n: rows[n].total_bytes for n in ("float32", "bfloat16", "fp8", "int4")}
    assert totals == {"float32": 4608, "bfloat16": 2308, "fp8": 1158, "int4": 583}


def test_the_largest_layer_is_a_block(rows):
    assert rows["bfloat16"].largest_layer == "layers.0"
    assert rows["bfloat16"].largest_layer_bytes == 800
    assert rows["int4"].largest_layer_bytes == 200


def test_adam_is_16_bytes_a_parameter_and_8_in_pure_sixteen_bits(rows):
    """Weights, gradients and two moments of 4 bytes, or of 2."""
    assert rows["float32"].training_adam_bytes == 16 * 1150
    assert rows["bfloat16"].training_adam_bytes == 16 * 1150
    assert rows["bfloat16"].training_adam_pure_bytes == 8 * 1150
    assert rows["float32"].training_adam_pure_bytes is None
    assert rows["int8"].training_adam_bytes is None
    assert rows["nf4"].training_adam_bytes is None


def test_the_largest_that_is_kept_whole_goes_by_the_first_number():
    modules = [("h.0.attn", 5), ("h.0.mlp.3.up", 6), ("h.1.attn", 7), ("head", 10), ("head", 1)]
    assert largest_kept_whole(modules) == 11
    assert largest_kept_whole([("head1", 3), ("h.12.a", 2), ("h.12.b", 2)]) == 4
    assert largest_kept_whole([]) == 0


def test_a_file_of_q4_k_m_counts_the_experts_of_each_layer():
    """Four experts of 256 x 256 in each of eight layers: Q6_K (210 bytes for 256) in layers 0, 3, 6
    and 7, Q4_K (144) in the others; the head is in Q6_K. llama-quant.cpp (use_more_bits)."""
    down = "mlp.experts.0.down_proj.weight"
    plan = Blueprint(
        cls="MixtralForCausalLM",
        params=(
            Param("model.embed_tokens.weight", (512, 256)),
            *(Param(f"model.layers.{n}.{down}", (256, 256), copies=4) for n in range(8)),
            *(Param(f"model.layers.{n}.self_attn.q_proj.weight", (256, 256)) for n in range(8)),
            Param("lm_head.weight", (512, 256)),
        ),
        blocks=("model.layers.*",),
    )
    part = ModelPart(name="", blueprint=plan, config={})
    model = Model(reference="any", name="any", revision=None, parts=(part,), read_from=())
    (row,) = (r for r in table(model, {"": BFLOAT16}, major=5).rows if r.dtype == "Q4_K_M")
    four, six = 256 * 144, 256 * 210
    assert row.total_bytes == 2 * four + 2 * six + 8 * four + 4 * 4 * (four + six)
    assert (row.largest_layer, row.largest_layer_bytes) == ("model.layers.0", 4 * six + four)
