"""Laws of Megatron's ranks and stages, over models and settings."""

from itertools import pairwise

import pytest

from tests.training.megatron.counted import replicated
from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN, most
from weighbridge.base.records import replace
from weighbridge.models.arch.mixers import Latent
from weighbridge.training.megatron.model import matrices
from weighbridge.training.megatron.stage import run_stage
from weighbridge.training.megatron.states import StageNumbers

GPT2 = replace(
    LLAMA, kv_heads=8, gated=False, biased=True, qkv_biased=True, centered=True, tied=True,
    positions=512, rotary=False,
)  # fmt: skip
MLA = replace(
    EXPERTS, latent=Latent(heads=8, rank=64, rotary=16, nope=32, value_dim=32), query_rank=96
)
MODELS = {"dense": LLAMA, "gpt2": GPT2, "experts": EXPERTS, "mla": MLA}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def states(model, **changes):
    """The states of each stage's rank."""
    run = replace(PLAIN, distributed_optimizer=True, **changes)
    return [StageNumbers(model, run, i).stepped(run) for i in range(run.pipeline)]


@models
@pytest.mark.parametrize("pipeline", [2, 4, 8])
@pytest.mark.parametrize("chunks", [1, 2])
def test_stages_add_up_to_the_model(model, pipeline, chunks):
    if pipeline * chunks > model.layers:
        pytest.skip("more parts than layers")
    one = StageNumbers(model, PLAIN, 0).all
    run = replace(PLAIN, pipeline=pipeline, chunks=chunks)
    again = model.words * model.hidden if model.tied else 0  # the last stage has it as well
    assert sum(StageNumbers(model, run, i).all for i in range(pipeline)) == one + again


@models
@pytest.mark.parametrize("kind", ["tensor", "pipeline", "context"])
def test_more_ranks_never_raise_the_largest_states(model, kind):
    """Eight devices that share a model in other ways: only what each rank of a kind has whole can
    make the largest states more."""
    sizes = [max(states(model, **{"data": 8 // n, kind: n})) for n in (1, 2, 4, 8)]
    keys = 2 * model.head_dim * model.hidden  # of fewer groups than ranks
    whole = {
        "tensor": model.layers * (replicated(model, routed=True) + small(model) + keys),
        "pipeline": model.hidden * model.words,  # the first and the last stage have a table each
        "context": 0,
    }
    assert all(b <= a + whole[kind] for a, b in pairwise(sizes))


def small(model):
    """Numbers of a layer's linears that every tensor rank has whole."""
    found = matrices(model, 1, 1, routed=False)
    return sum(matrix.numbers for matrix in found if matrix.share == "none")


@models
def test_more_data_ranks_never_raise_states(model):
    sizes = [max(states(model, data=n)) for n in (1, 2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)


@models
@pytest.mark.parametrize("recompute", ["uniform", "block"])
def test_recomputed_layers_never_raise_the_peak(model, recompute):
    again = most(model, recompute=recompute, recomputed=2, fused_gradients=True)
    assert again <= most(model, fused_gradients=True)


@models
def test_more_recomputed_layers_take_less(model):
    peaks = [most(model, recompute="block", recomputed=n) for n in (1, 4, 8)]
    assert peaks == sorted(peaks, reverse=True)


@models
@pytest.mark.parametrize("tensor", [2, 4, 8])
def test_sequence_parallel_never_takes_more(model, tensor):
    run = {"data": 8 // tensor, "tensor": tensor, "expert_tensor": 1, "length": 2048}
    assert most(model, sequence_parallel=True, **run) <= most(model, **run)


@models
@pytest.mark.parametrize(
    "longer", [{"length": 1024}, {"batch": 2}, {"hidden_dropout": 0.1}, {"attention": "unfused"}]
)
def test_more_of_anything_takes_more(model, longer):
    assert most(model, **longer) > most(model)


@models
def test_micro_batches_of_one_stage_take_no_more_than_two(model):
    assert most(model, accumulation=2) == most(model, accumulation=16)


@models
@pytest.mark.parametrize("dispatcher", ["allgather", "alltoall", "deepep", "hybridep"])
def test_uneven_experts_take_more(model, dispatcher):
    if model.experts is None:
        pytest.skip("no experts")
    run = {"data": 4, "expert": 4, "dispatcher": dispatcher, "grouped": True}
    assert most(model, uneven=1.5, **run) > most(model, **run)


@models
@pytest.mark.parametrize("chunks", [2, 4])
def test_chunks_hold_more_at_once(model, chunks):
    """Interleaved stages run more forwards before the first backward."""
    run = {"pipeline": 2, "accumulation": 8, "length": 4096}
    assert most(model, chunks=chunks, **run) >= 0.9 * most(model, **run)


@models
def test_all_goes_when_a_step_ends(model):
    """Two steps leave what one leaves: nothing grows from step to step."""
    for stage in (0, 1):
        run = replace(PLAIN, pipeline=2, accumulation=4)
        result = run_stage(model, run, stage)
        first, last = result.first["step"], result.moments["step"]
        states = 12 * result.parameters
        assert last.allocated - first.allocated <= states
