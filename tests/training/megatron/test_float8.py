"""Products in 8 bits, added up by hand: what linears keep, and the copies that weights have."""

import pytest

from tests.ask import megatron
from tests.cases import all_of
from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN, held
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.training.megatron import float8
from weighbridge.training.megatron.model import matrices
from weighbridge.training.megatron.stage import run_stage
from weighbridge.training.megatron.states import StageNumbers

D, F, T = LLAMA.hidden, LLAMA.width, PLAIN.length
LINEARS = LLAMA.layers * sum(x.numbers for x in matrices(LLAMA, 1, 1, routed=False))
HOPPER, BLACKWELL, GEFORCE = (9, 0), (10, 0), (12, 0)
LESS = 2 * MIB  # remainders that are too small to split off a large block


def saved(model=LLAMA, **changes):
    """Bytes that the graph of the first forward keeps."""
    return run_stage(model, replace(PLAIN, loss="te", **changes), 0).saved


def test_linears_multiply_in_8_bits_and_words_norms_and_head_do_not():
    assert StageNumbers(LLAMA, replace(PLAIN, float8="tensorwise"), 0).float8 == LINEARS
    assert StageNumbers(LLAMA, PLAIN, 0).float8 == 0


def test_experts_multiply_in_8_bits_and_the_router_does_not():
    run = replace(PLAIN, data=4, expert=4, float8="tensorwise")
    found = StageNumbers(EXPERTS, run, 0)
    dense = sum(x.numbers for x in matrices(EXPERTS, 1, 1, routed=False))
    routed = [(x.share, x.numbers) for x in matrices(EXPERTS, 1, 1, routed=True)]
    each = sum(n * (8 // 4 if share == "expert" else 1) for share, n in routed)
    assert found.float8 == dense + 7 * each


def test_layers_at_both_ends_stay_in_16_bits():
    run = replace(PLAIN, float8="tensorwise", plain_ends=(1, 2))
    assert StageNumbers(LLAMA, run, 0).float8 == LINEARS * (8 - 3) // 8


@pytest.mark.parametrize(
    ("recipe", "capability", "each"),
    [
        ("delayed", HOPPER, 2),
        ("tensorwise", HOPPER, 2),
        ("tensorwise", BLACKWELL, 1),
        ("tensorwise", GEFORCE, 2),  # Blackwell, too, and by columns as well
        ("blockwise", HOPPER, 2 * (1 + 4 / 128**2)),
        ("mxfp8", BLACKWELL, 2 * (1 + 1 / 32)),
        ("nvfp4", BLACKWELL, 2 * (1 / 2 + 1 / 16)),
    ],
)
def test_copies_of_weights_beside_those_of_16_bits(recipe, capability, each):
    """Transformer Engine caches them from micro-batch to micro-batch (quantize_weight)."""
    run = replace(PLAIN, float8=recipe, capability=capability)
    assert float8.weights(run, 1 << 20) == (2 << 20, int(each * (1 << 20)))
    more = held(LLAMA, float8=recipe, capability=capability) - held(LLAMA, capability=capability)
    assert more == pytest.approx(each * LINEARS, abs=LESS)


@all_of(
    ("recipe", "capability", "buffer", "copies"),
    [
        ("tensorwise", HOPPER, 1, 1),
        ("tensorwise", BLACKWELL, 1, 0),
        ("blockwise", HOPPER, 1, 1 + 2 * 4 / 128**2),
        ("mxfp8", BLACKWELL, 2, 2 * (1 + 1 / 32)),
        ("nvfp4", BLACKWELL, 1 / 2, 1 / 2 + 2 / 16),
    ],
)
def test_weights_that_have_no_16_bits(recipe, capability, buffer, copies):
    """--fp8-param-gather: post_all_gather_processing makes what lies by columns."""
    run = replace(PLAIN, float8=recipe, float8_parameters=True, capability=capability)
    n = 1 << 20
    assert float8.weights(run, n) == (buffer * n, int(copies * n))


def test_weights_in_mxfp8_may_be_gathered_in_the_gradients_buffer():
    run = replace(PLAIN, float8="mxfp8", float8_parameters=True, reuses_gradients=True)
    assert float8.weights(run, 32)[0] == 0


def test_linears_keep_a_byte_of_each_input():
    """Behind both norms D and in front of fc2 F numbers a token take 1 byte in place of 2; what
    attention made is kept in 16 bits by attention itself."""
    less = saved() - saved(float8="tensorwise")
    assert less == LLAMA.layers * T * (2 * D + F)


def test_delayed_scaling_keeps_what_attention_made_twice():
    more = saved(float8="delayed") - saved(float8="tensorwise")
    assert more == LLAMA.layers * T * D


def test_scales_of_32_numbers_are_kept_with_them():
    more = saved(float8="mxfp8") - saved(float8="tensorwise")
    assert more == LLAMA.layers * T * (2 * D + F) // 32


def test_scales_of_128_numbers_are_kept_with_them():
    more = saved(float8="blockwise") - saved(float8="tensorwise")
    assert more == LLAMA.layers * T * (2 * D + F) * 4 // 128


def test_layers_in_16_bits_keep_what_they_did():
    less = saved() - saved(float8="tensorwise", plain_ends=(4, 4))
    assert less == 0


@pytest.mark.parametrize("recipe", ["tensorwise", "blockwise", "mxfp8"])
@pytest.mark.parametrize("model", [LLAMA, EXPERTS])
def test_products_in_8_bits_never_keep_more(model, recipe):
    assert saved(model, float8=recipe) < saved(model)


@pytest.mark.parametrize(("recipe", "count"), [("tensorwise", 16), ("mxfp8", 32)])
def test_tokens_of_an_expert_are_padded(recipe, count):
    assert float8.aligned(replace(PLAIN, float8=recipe)) == count


# ---- the plan


asked = megatron("llama-3.2-1b", seq_len=512, gpu="h100:8")


def test_a_format_asks_for_them_and_the_rest_says_more():
    plain = asked("hidden_dropout=0")
    other = asked("hidden_dropout=0", "fp8_recipe=tensorwise")
    assert other.peak == plain.peak  # Megatron's own parser takes it alone, and does nothing
    low = asked("hidden_dropout=0", "fp8_format=hybrid", "fp8_recipe=tensorwise")
    assert low.peak != plain.peak


@pytest.mark.parametrize(
    ("words", "more", "says"),
    [
        (("fp8_format=hybrid", "first_last_layers_bf16"), {}, "without delayed scaling"),
        (("fp8_format=hybrid", "transformer_impl=local"), {}, "own modules have none"),
        (("fp8_format=hybrid", "fp8_param_gather"), {"shard": "ddp"}, "needs --shard zero1"),
        (("fp8_format=e4m3", "fp8_recipe=mxfp8"), {}, "needs compute capability 10.0"),
        (("fp8_format=hybrid",), {"gpu": "a100-80gb:8"}, "needs compute capability 8.9"),
    ],
)
def test_what_megatron_stops_at(words, more, says):
    with pytest.raises(UsageError, match=says):
        asked(*words, **more)


def test_no_card_stops_at_nothing():
    assert asked("fp8_format=hybrid", gpu=None).peak


def test_layers_of_both_ends_are_one_each_unless_they_are_said():
    low = ("fp8_format=hybrid", "fp8_recipe=tensorwise")
    one, three = ("first_last_layers_bf16",), ("num_layers_at_start_in_bf16=3",)
    none, first, more = asked(*low), asked(*low, *one), asked(*low, *one, *three)
    assert none.peak != first.peak != more.peak
    assert asked(*low, *three).peak == none.peak


@pytest.mark.parametrize(
    ("recipe", "capability", "less"),
    [("tensorwise", HOPPER, 1), ("tensorwise", BLACKWELL, 0), ("blockwise", HOPPER, 0)],
)
def test_without_a_cache_weights_of_one_scale_lie_by_rows_alone(recipe, capability, less):
    run = replace(PLAIN, float8=recipe, float8_parameters=True, capability=capability)
    cached = float8.weights(run, 1 << 20)
    alone = float8.weights(replace(run, keeps_transposes=False), 1 << 20)
    assert sum(cached) - sum(alone) == less << 20
