"""What a layout costs beside memory, by hand: 8 layers, 1,024 wide, 64 tokens of a micro-batch."""

from dataclasses import replace

import pytest

from weighbridge.training.megatron.costs import FORWARD, cost, feed_forward_again
from weighbridge.training.megatron.model import MegatronModel, RoutedFeed
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.states import StageNumbers

MODEL = MegatronModel(
    layers=8, hidden=1024, width=4096, heads=16, kv_heads=4, head_dim=64, words=1000
)
RUN = MegatronRun(length=64, accumulation=4, distributed_optimizer=True, sequence_parallel=True)
WIDE = 2 * 64 * 1024 * 4  # bytes of the hidden states of a step


def test_one_device_sends_nothing_and_waits_for_nobody():
    assert tuple(cost(MODEL, RUN)) == (0, 0, 0, 0)
    assert cost(MODEL, RUN).work == 1


def test_halves_of_a_layer_are_gathered_and_scattered():
    """Two halves of 8 layers, five passes of half of what two ranks have."""
    found = cost(MODEL, replace(RUN, tensor=2))
    assert found.near == 8 * 2 * 5 * WIDE // 2
    assert found.far == 0
    again = cost(MODEL, replace(RUN, tensor=2, recompute="uniform"))
    assert again.near == 8 * 2 * 7 * WIDE // 2


def test_stages_wait_and_send_states_and_their_gradients():
    """Four stages wait 3 / 4 of a step of 4 micro-batches; two chunks halve that."""
    run = replace(RUN, pipeline=4)
    assert cost(MODEL, run).bubble == pytest.approx(3 / 4)
    assert cost(MODEL, replace(run, chunks=2)).bubble == pytest.approx(3 / 8)
    assert cost(MODEL, run).near == 2 * WIDE
    assert cost(MODEL, replace(run, chunks=2)).near == 4 * WIDE


def test_a_longer_stage_is_waited_for():
    run = replace(RUN, pipeline=2, layout=(5, 3))
    assert cost(MODEL, run).bubble == pytest.approx(5 / 4 * (1 + 1 / 4) - 1)


def test_data_ranks_send_gradients_and_parameters_once_a_step():
    """4 bytes of a gradient and 2 of a parameter, three quarters of them to others."""
    run = replace(RUN, data=4)
    numbers = StageNumbers(MODEL, run, 0).all
    assert cost(MODEL, run).near == 6 * numbers * 3 // 4
    assert cost(MODEL, replace(run, accumulation=400)).near == 6 * numbers * 3 // 4
    half = replace(run, main_gradient=2)
    assert cost(MODEL, half).near == 4 * numbers * 3 // 4


def test_what_leaves_a_machine_of_eight_goes_far():
    near, far = (cost(MODEL, replace(RUN, data=n)) for n in (8, 16))
    assert (near.far, far.near) == (0, 0)
    assert near.near > 0 < far.far
    wide = cost(MODEL, replace(RUN, data=2, tensor=8))
    assert wide.near > 0 < wide.far  # tensor ranks within, data beyond
    staged = cost(MODEL, replace(RUN, tensor=8, pipeline=2))
    assert staged.far == 2 * WIDE // 8  # sequence parallel: an eighth of the tokens


def test_context_ranks_send_keys_and_values():
    """Three times for each of 8 layers: keys and values of 32 tokens that the other rank has."""
    run = replace(RUN, context=2)
    keys = 2 * 32 * 4 * 2 * 4 * 64
    states = 6 * StageNumbers(MODEL, run, 0).all // 2
    assert cost(MODEL, run).near == 8 * 3 * keys + states


def test_tokens_go_to_experts_and_back():
    model = replace(MODEL, experts=RoutedFeed(count=8, top=2, width=512))
    run = replace(RUN, data=2, expert=2, expert_tensor=1)
    routed = 8 * 4 * 2 * WIDE // 2
    dense = 6 * StageNumbers(model, run, 0).dense // 2
    assert cost(model, run).near == routed + dense  # no other rank has the same experts


def test_what_is_computed_again():
    assert cost(MODEL, replace(RUN, recompute="uniform")).again == FORWARD
    assert cost(MODEL, replace(RUN, modules=("layernorm",))).again == 0
    feed = 3 * 4096  # of 3 x 4096 + 24 x 64 + 16 x 64 columns of 1,024
    found = cost(MODEL, replace(RUN, modules=("layernorm", "mlp"))).again
    assert found == pytest.approx(feed / (feed + 24 * 64 + 16 * 64) / 3)
    assert found == feed_forward_again(MODEL)  # which a remedy is priced by
    assert cost(MODEL, replace(RUN, recompute="uniform")).work == pytest.approx(4 / 3)
