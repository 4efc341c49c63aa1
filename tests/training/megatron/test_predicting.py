"""Layers that predict further tokens (mtp_num_layers), added up by hand."""

import pytest

from tests.training.megatron.counted import replicated
from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN, held, most
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.training.megatron import layout
from weighbridge.training.megatron.model import matrices
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.stage import SPACE, run_stage
from weighbridge.training.megatron.states import StageNumbers

D, T, V = LLAMA.hidden, PLAIN.length, LLAMA.words
LESS = 4 * MIB  # remainders that are too small to split off a large block


def numbers(model, stage=0, **changes):
    return StageNumbers(model, replace(PLAIN, **changes), stage).all


def layer(model, *, routed):
    whole = sum(
        x.numbers * (model.experts.count if x.share == "expert" else 1)
        for x in matrices(model, 1, 1, routed=routed)
    )
    return whole + replicated(model, routed=routed)


@pytest.mark.parametrize(("model", "routed"), [(LLAMA, False), (EXPERTS, True)])
@pytest.mark.parametrize("count", [1, 3])
def test_each_has_a_layer_as_the_last_a_linear_of_two_states_and_three_norms(model, routed, count):
    more = numbers(model, predicts=count) - numbers(model)
    assert more == count * (layer(model, routed=routed) + 2 * D * D + 3 * D)


def test_they_stand_on_the_last_stage_which_looks_words_up_again():
    pipe = {"pipeline": 2}
    first, last = (
        numbers(LLAMA, i, predicts=1, **pipe) - numbers(LLAMA, i, **pipe) for i in range(2)
    )
    assert first == 0
    assert last == layer(LLAMA, routed=False) + 2 * D * D + 3 * D + V * D


def test_tied_words_are_there_already():
    tied, pipe = replace(LLAMA, tied=True), {"pipeline": 2}
    more = numbers(tied, 1, predicts=1, **pipe) - numbers(tied, 1, **pipe)
    assert more == layer(tied, routed=False) + 2 * D * D + 3 * D


def test_the_linear_is_shared_by_tensor_ranks():
    four = {"tensor": 4}
    more = numbers(LLAMA, predicts=1, **four) - numbers(LLAMA, **four)
    matrix = sum(x.numbers for x in matrices(LLAMA, 4, 4, routed=False))
    assert more == matrix + replicated(LLAMA, routed=False) + 2 * D * D // 4 + 3 * D


def test_the_linear_multiplies_in_8_bits_where_layers_do():
    run = replace(PLAIN, float8="tensorwise", predicts=1, plain_ends=(8, 0))
    inside = sum(x.numbers for x in matrices(LLAMA, 1, 1, routed=False))
    assert StageNumbers(LLAMA, run, 0).float8 == inside + 2 * D * D


def test_states_of_all_of_it_are_held():
    more = held(LLAMA, predicts=1) - held(LLAMA)
    assert more == pytest.approx(18 * (numbers(LLAMA, predicts=1) - numbers(LLAMA)), abs=LESS)


def test_outputs_of_a_further_token_are_kept_beside_the_first():
    """The loss keeps a softmax in float32 of each, and the backward of the first comes first."""
    wide = replace(LLAMA, words=1 << 17)
    softmax = 4 * T * (1 << 17)
    states = 18 * (numbers(wide, predicts=1) - numbers(wide))
    more = most(wide, predicts=1) - most(wide)
    assert more == pytest.approx(states + softmax, rel=0.05)


def test_with_full_recompute_they_are_computed_again():
    def saved(**changes):
        run = replace(PLAIN, loss="te", recompute="uniform", **changes)
        return run_stage(LLAMA, run, 0).saved

    # its input, kept by the checkpoint; two normed states side by side; two pieces go to the head
    assert 0 < saved(predicts=1) - saved() <= 6 * 2 * T * D


def test_a_further_token_takes_as_much_as_the_one_before_it():
    one, two, three = (held(LLAMA, predicts=n) for n in (1, 2, 3))
    assert three - two == pytest.approx(two - one, abs=LESS)


def test_overlapped_products_have_a_workspace_a_stream():
    assert held(LLAMA, overlaps=True) - held(LLAMA) == pytest.approx(3 * SPACE, abs=LESS)


# ---- layouts


def test_a_layout_has_them_in_its_last_part():
    asked = {layout.LAYOUT: "Et*3|(tt|)*2tmL", "predicts": 1}
    assert layout.parts(8, 2, 1, asked) == (3, 2, 2, 1)


@pytest.mark.parametrize(
    ("text", "predicts"), [("Et*4|tttmL", 0), ("Et*4|ttttL", 1), ("Et*3m|ttttL", 1)]
)
def test_a_layout_has_as_many_as_are_asked_for(text, predicts):
    with pytest.raises(UsageError, match="as many as mtp_num_layers"):
        layout.parts(8, 2, 1, {layout.LAYOUT: text, "predicts": predicts})


def test_none_are_usual():
    assert MegatronRun().predicts == 0
