"""What one rank of a Megatron run holds, added up by hand."""

import pytest

from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN, held, kept, most
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.models.arch.mixers import Latent
from weighbridge.training.megatron import stage
from weighbridge.training.megatron.model import RoutedFeed
from weighbridge.training.megatron.stage import SPACE, run_stage
from weighbridge.training.megatron.states import StageNumbers, layers_of

D, F, V, T = 256, 512, 1024, 512  # width, feed-forward, words, tokens
ATTENTION = D * (8 + 2 * 2) * 32 + D * 8 * 32
DENSE = ATTENTION + 3 * D * F + 2 * D
ROUTER = 8 * D
ROUTED = ATTENTION + 8 * 3 * D * 256 + 2 * D + ROUTER
NORM = D
LESS = 4 * MIB  # remainders that are too small to split off a large block: up to 1 MiB a tensor


def numbers(model, **changes):
    run = replace(PLAIN, **changes)
    return [StageNumbers(model, run, i).all for i in range(run.pipeline)]


def test_numbers_of_a_dense_model():
    assert numbers(LLAMA) == [2 * V * D + 8 * DENSE + NORM]


def test_numbers_of_experts_behind_a_dense_layer():
    assert numbers(EXPERTS) == [2 * V * D + DENSE + 7 * ROUTED + NORM]


def test_tensor_ranks_share_matrices_and_not_norms():
    matrices = 8 * (DENSE - 2 * D) + 2 * V * D
    assert numbers(LLAMA, tensor=2) == [matrices // 2 + 8 * 2 * D + NORM]


def test_expert_ranks_share_experts_and_not_the_router():
    experts = 8 * 3 * D * 256
    (one,) = numbers(EXPERTS, data=4, expert=4)
    assert one == 2 * V * D + DENSE + 7 * (ROUTED - experts + experts // 4) + NORM


def test_keys_of_fewer_groups_than_ranks_are_on_every_rank():
    (two,) = numbers(LLAMA, tensor=2)
    (four,) = numbers(LLAMA, tensor=4)
    keys = 2 * 32 * D  # of one group, which four ranks have twice as often as two
    whole = 8 * 2 * D + NORM
    assert four == whole + (two - whole) // 2 + 8 * keys // 2


def test_the_first_stage_has_the_words_and_the_last_the_head():
    assert numbers(LLAMA, pipeline=2) == [V * D + 4 * DENSE, V * D + 4 * DENSE + NORM]


def test_a_tied_head_is_held_again_by_the_last_stage():
    tied = replace(LLAMA, tied=True)
    assert numbers(tied) == [V * D + 8 * DENSE + NORM]
    assert sum(numbers(tied, pipeline=2)) == 2 * V * D + 8 * DENSE + NORM


def test_rows_of_words_are_padded_to_the_multiple_of_all_ranks():
    assert LLAMA.rows(4, 128) == 1024
    assert replace(LLAMA, words=1025).rows(4, 128) == 1536


def test_chunks_go_round_the_stages():
    run = replace(PLAIN, pipeline=2, chunks=2)
    assert [layers_of(LLAMA, run, i) for i in range(2)] == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]


def test_parts_of_the_model_may_differ():
    run = replace(PLAIN, pipeline=2, chunks=2, layout=(1, 3, 4, 0))
    assert [layers_of(LLAMA, run, i) for i in range(2)] == [[[0], [4, 5, 6, 7]], [[1, 2, 3], []]]


# Bytes between steps


@pytest.mark.parametrize(
    ("changes", "each"),
    [
        ({}, 18),
        ({"main_gradient": 2}, 20),  # with 4 of a copy in float32, which stays until the next step
        ({"main_gradient": 2, "precise": True}, 16),
        ({"states": 8}, 14),
        ({"data": 4, "distributed_optimizer": True}, 9),
        ({"data": 4, "distributed_optimizer": True, "instances": 2}, 12),
        ({"context": 4, "distributed_optimizer": True}, 9),
    ],
)
def test_bytes_of_a_number_between_steps(changes, each):
    """2 of weights, 4 of main gradients, 12 of master weights and averages, which a distributed
    optimizer has among data and context ranks (training/theoretical_memory_usage.py)."""
    (n,) = numbers(LLAMA)
    assert held(LLAMA, **changes) == pytest.approx(each * n + SPACE, abs=LESS)


def test_experts_share_their_states_among_ranks_with_the_same_experts():
    run = replace(PLAIN, data=4, expert=4, distributed_optimizer=True)
    n = StageNumbers(EXPERTS, run, 0)
    assert n.stepped(run) == -(-n.dense // 4) + n.experts


def test_a_gradient_that_nobody_writes_is_kept_of_each_shape():
    """Transformer Engine base.py, get_dummy_wgrad: one a shape, whatever the number of layers."""
    shapes = (384 * D, D * D, 2 * F * D, D * F)  # qkv, proj, fc1, which is the head's too, fc2
    for layers in (2, 8):
        model = replace(LLAMA, layers=layers)
        more = held(model, fused_gradients=True) - held(model)
        assert more == 2 * sum(shapes)


def test_grouped_experts_have_four_more_workspaces():
    assert held(EXPERTS, grouped=True) - held(EXPERTS) == pytest.approx(4 * SPACE, abs=LESS)


def test_workspaces_before_hopper_are_small():
    assert held(LLAMA) - held(LLAMA, capability=(8, 0)) == pytest.approx(28 * MIB, abs=LESS)


# What is kept for backward


QKV, OUT, LSE = 384 * T * 2, D * T * 2, 8 * T * 4
ONE_LAYER = (
    2 * (D * T * 2)  # what both norms are given
    + 2 * (T * 4)  # their deviations
    + 2 * (D * T * 2)  # what they made
    + QKV  # queries, keys and values, each copied
    + (OUT + LSE)
    + 2 * (2 * F * T)  # gate and up
    + 2 * (F * T)  # their product
)


def test_what_a_layer_keeps():
    more = kept(LLAMA) - kept(replace(LLAMA, layers=7))
    assert more == ONE_LAYER


def test_a_recomputed_layer_keeps_its_input():
    again = {"recompute": "uniform"}
    more = kept(LLAMA, **again) - kept(replace(LLAMA, layers=7), **again)
    assert more == D * T * 2


def test_a_recomputed_layer_can_keep_a_part_of_its_input():
    """distribute_saved_activations: each of four tensor ranks keeps a fourth."""
    again = {"recompute": "uniform", "tensor": 4, "spreads": True}
    more = kept(LLAMA, **again) - kept(replace(LLAMA, layers=7), **again)
    assert more == D * T * 2 // 4


def test_a_recomputed_activation_function_is_not_kept():
    assert kept(EXPERTS, modules=("moe_act",)) == kept(EXPERTS) - 7 * (2 * T * 256 * 2)


def test_recomputed_attention_keeps_what_values_are_a_view_of():
    """Values that are a view keep queries and keys with them (Megatron-Bridge pull request 3880:
    Qwen3-30B-A3B took 63.14 GB with recomputed attention, and 61.35 without)."""
    normed = replace(LLAMA, qk_norm=True)
    queries_and_keys = (8 + 2) * 32 * T * 2
    more = kept(normed, modules=("core_attn",)) - kept(normed)
    assert more == 8 * (queries_and_keys - LSE)


def test_dropout_keeps_a_byte_a_number():
    more = kept(LLAMA, hidden_dropout=0.1) - kept(LLAMA)
    assert more == 8 * 2 * D * T + D * T


def test_flash_attention_turns_its_output_where_there_are_several_sequences():
    one = kept(LLAMA, attention="flash") - kept(LLAMA)
    two = kept(LLAMA, attention="flash", batch=2) - kept(LLAMA, batch=2)
    assert (one, two) == (0, 8 * 2 * OUT)


def test_losses_by_kind():
    """Outputs are 16 bits wide; each further copy is of 32."""
    wide = replace(LLAMA, words=65_536)
    copy = 65_536 * T * 4
    own = {"fused_gradients": True}  # else the head's gradient is fuller than the fused loss
    by = {kind: most(wide, loss=kind, **own) for kind in ("te", "unfused", "native")}
    assert by["unfused"] - by["te"] == pytest.approx(copy, abs=3 * D * T * 4)
    assert by["native"] - by["unfused"] == pytest.approx(copy, abs=3 * D * T * 4)
    older = most(wide, loss="native", capability=(8, 0), **own) - most(
        wide, capability=(8, 0), **own
    )
    assert older == pytest.approx(2 * copy, abs=3 * D * T * 4)


def test_a_mask_of_all_pairs_is_there_while_the_ends_of_the_model_run():
    """[2 sequences, 1, 4096, 4096] in bytes of the first and the last of four stages."""
    run = {"pipeline": 4, "length": 4096, "batch": 2}
    by = [most(LLAMA, i, **run) - most(LLAMA, i, masks=False, **run) for i in range(4)]
    assert by[1:] == [0, 0, 32 * MIB]
    assert 0 < by[0] < 32 * MIB  # there a backward is the fullest without it


def test_the_mask_is_whole_before_each_context_rank_takes_its_rows():
    run = {"context": 4, "length": 16384}
    alone = most(LLAMA, masks=False, **run)
    assert most(LLAMA, **run) - alone >= 256 * MIB // 4
    short = replace(LLAMA, layers=1)
    whole = (256 + 256 // 4) * MIB  # with nothing else beside them
    assert most(short, **run) >= held(short, **run) + whole


def test_megatrons_own_attention_keeps_the_room_of_its_scores():
    """[8 heads, 512, 512] in 16 bits (get_global_memory_buffer)."""
    own = held(LLAMA, attention="local", engine=False)
    assert own - held(LLAMA, attention="fused", engine=False) == 8 * 512 * 512 * 2


def test_groups_of_keys_are_repeated_for_the_scores_of_each_head():
    """Kept are 8 heads of keys and of values, in place of 2 (repeat_interleave)."""
    few, all_of_them = (
        kept(replace(LLAMA, kv_heads=n), attention="local", engine=False) for n in (2, 8)
    )
    assert few == all_of_them
    fewer = kept(LLAMA, engine=False)
    assert kept(replace(LLAMA, kv_heads=8), engine=False) - fewer == 8 * 2 * 6 * 32 * T * 2


LATENT = replace(
    LLAMA,
    kv_heads=8,
    latent=Latent(heads=8, rank=64, rotary=16, nope=32, value_dim=32),
    query_rank=96,
)


def test_each_layer_of_latent_attention_has_angles_of_its_own():
    """Float32 of each place that is asked for, once it is; with yarn cosines and sines of 4,096
    places in 16 bits, which are there with the weights."""
    plain, yarn = (run_stage(LATENT, replace(PLAIN, yarn=on), 0) for on in (False, True))
    waves = 8 * 2 * 4096 * 16 * 2
    assert yarn.held - plain.held == waves
    assert yarn.moments["load"].allocated - plain.moments["load"].allocated == waves
    longer = run_stage(LATENT, replace(PLAIN, yarn=False, length=2 * T), 0)
    assert longer.held - plain.held == 8 * T * 16 * 4


def test_each_chunk_has_angles_of_its_own():
    plain = replace(LLAMA, rotary=False)
    for chunks in (1, 2):
        run = {"pipeline": 2, "chunks": chunks}
        assert held(LLAMA, **run) - held(plain, **run) == chunks * T * 32 * 4


def test_megatrons_own_linears_gather_in_the_buffer_that_is_kept():
    """A stage without the head has it, too; Transformer Engine's gather anew."""
    run = {"tensor": 2, "pipeline": 2, "sequence_parallel": True}
    own, theirs = (held(LLAMA, engine=on, **run) for on in (False, True))
    assert own - (theirs - SPACE) == T * D * 2


def test_stages_in_front_hold_more_micro_batches():
    """1F1B: stage i of p has p - i of them at once (core/pipeline_parallel/schedules.py)."""
    model = replace(LLAMA, layers=16, words=128)
    run = {"pipeline": 4, "accumulation": 8, "length": 4096}
    stages = [run_stage(model, replace(PLAIN, **run), i) for i in range(4)]
    steps = [s.peak - s.held for s in stages]
    layer = ONE_LAYER * 8  # 4,096 tokens
    assert steps[1] - steps[2] == pytest.approx(
        4 * layer, rel=0.07
    )  # rests of blocks that are not cut
    assert steps == sorted(steps, reverse=True)


def test_a_filled_pipeline_takes_no_more_for_further_micro_batches():
    run = {"pipeline": 4}
    assert most(LLAMA, accumulation=8, **run) == most(LLAMA, accumulation=64, **run)


def test_older_releases_hold_the_experts_tokens_longer():
    """642fdd90 of January 2026 let them go in front of the combination."""
    sent = {"dispatcher": "alltoall", "data": 4, "expert": 4, "grouped": True, "loss": "te"}
    feed = RoutedFeed(count=8, top=8, width=64)
    model = replace(LLAMA, layers=1, words=128, experts=feed)
    older = most(model, release=(2025, 10, 8), **sent)
    newer = most(model, release=(2026, 1, 26), **sent)
    assert older - newer >= 2 * T * D
    assert most(model, **sent) == newer


def test_a_capacity_says_how_many_tokens_an_expert_is_given():
    from weighbridge.training.megatron.experts import copies, received

    feed = EXPERTS.experts
    assert copies(feed, replace(PLAIN, capacity=1.0), 512) == 1024
    assert copies(feed, replace(PLAIN, capacity=1.5), 512) == 1536
    assert copies(feed, PLAIN, 512) == 1024
    assert received(PLAIN, 1024) == 1024
    assert received(replace(PLAIN, uneven=1.5), 1024) == 1536


def test_shared_experts_that_run_beside_the_others_keep_all_tokens():
    """Seven layers keep [512, 256] in 16 bits each. Else they keep the tokens of a tensor rank,
    which the router keeps too (core/transformer/moe/shared_experts.py, pre_forward_comm)."""
    feed = RoutedFeed(count=8, top=1, width=64, shared=64)
    model = replace(LLAMA, words=128, experts=feed, dense=1)
    run = {"tensor": 2, "sequence_parallel": True, "dispatcher": "alltoall"}
    run |= {"expert": 2, "grouped": True}
    plain, beside = (
        run_stage(model, replace(PLAIN, **run, shared_beside=more), 0).saved
        for more in (False, True)
    )
    assert beside - plain == 7 * T * D * 2
    alone = run | {"sequence_parallel": False}
    bare = replace(model, experts=replace(feed, shared=0))
    beside = most(model, **alone, shared_beside=True)
    assert most(bare, **alone) + 7 * T * 64 * 2 <= beside <= most(model, **alone)


def test_a_step_copies_gradients_in_bfloat16_to_float32():
    """All parameters at once, but where the optimizer is precision-aware
    (core/optimizer/distrib_optimizer.py)."""
    (one,) = (StageNumbers(LLAMA, PLAIN, 0),)
    assert one.copied(PLAIN) == 0
    narrow = replace(PLAIN, main_gradient=2)
    assert one.copied(narrow) == 4 * one.all
    assert one.copied(replace(narrow, precise=True)) == 0
    shared = replace(narrow, data=4, distributed_optimizer=True)
    assert one.copied(shared) == 4 * one.all // 4
    assert one.copied(replace(shared, offloaded=0.75)) == one.all // 4
    wide, short = (
        run_stage(LLAMA, replace(PLAIN, main_gradient=2, length=8, precise=precise), 0)
        for precise in (False, True)
    )
    assert wide.moments["step"].live["gradients"] == (2 + 4) * one.all
    assert short.moments["step"].live["gradients"] == 2 * one.all


def test_a_step_copies_states_of_experts_or_of_all_others_at_once():
    run = replace(PLAIN, precise=True, widened=2, data=2, expert=2, distributed_optimizer=True)
    one = StageNumbers(EXPERTS, run, 0)
    assert one.experts > one.dense // 2
    assert one.widened(run) == 4 * 2 * one.experts
    few = replace(EXPERTS, experts=RoutedFeed(count=8, top=2, width=1))
    one = StageNumbers(few, run, 0)
    assert one.widened(run) == 4 * 2 * one.dense // 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data": 4, "distributed_optimizer": True},
        {"data": 4, "distributed_optimizer": True, "sharded": "optim_grads_params"},
        {"data": 4, "distributed_optimizer": True, "muon": True},
        {"offloaded": 0.5},
        {"float8": "tensorwise", "float8_parameters": True},
    ],
)
def test_what_is_held_between_steps_is_known_without_a_run(changes):
    """A run has workspaces and buffers beside it."""
    run = replace(PLAIN, **changes)
    live = run_stage(LLAMA, run, 0).moments["step"].live
    named = sum(live.get(name, 0) for name in ("weights", "gradients", "optimizer_states"))
    without = stage.held(LLAMA, run, 0)
    assert 0 < without <= named
    assert named - without <= live["weights"]  # copies of weights in 8 bits
