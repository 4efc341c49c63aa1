"""Hybrid models in Megatron, whose layers are Mamba, attention, a feed-forward or experts alone.

No published peak of one is among our records: numbers are those of the classes, and bytes are added
up by hand."""

import pytest

import weighbridge
from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN, held, kept
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.models.arch.mixers import Mamba2
from weighbridge.training.megatron import muon
from weighbridge.training.megatron.stage import SPACE, run_stage
from weighbridge.training.megatron.states import StageNumbers

D, T = 256, 512  # width, tokens
M = Mamba2(inner=512, heads=8, groups=4, state=16, kernel=4)
MIXED = replace(LLAMA, layers=4, pattern="M-M*", mamba=M, rotary=False, gated=False)
ROWS = 2 * 512 + 2 * 4 * 16 + 8  # gates, channels, both of each group, steps
CHANNELS = 512 + 2 * 4 * 16
MAMBA = D * ROWS + 512 * D + CHANNELS * (4 + 1) + 3 * 8 + 512 + D
FEED, ATTENTION = 2 * D * 512 + D, D * 12 * 32 + D * 8 * 32 + D
ENDS = 2 * 1024 * D + D
LESS = 2 * MIB  # remainders that are too small to split off a large block


def numbers(model, **changes):
    run = replace(PLAIN, **changes)
    return [StageNumbers(model, run, i) for i in range(run.pipeline)]


def test_numbers_of_each_kind_of_layer():
    (found,) = numbers(MIXED)
    assert found.layers == [MAMBA, FEED, MAMBA, ATTENTION]
    assert found.all == sum(found.layers) + ENDS


def test_a_layer_of_experts_has_no_attention():
    model = replace(MIXED, pattern="ME*-", experts=EXPERTS.experts)
    (found,) = numbers(model)
    assert found.layers[1] == 8 * 2 * D * 256 + 8 * D + D
    assert found.experts == 8 * 2 * D * 256


def test_tensor_ranks_share_heads_groups_and_channels():
    (whole,), (half,) = numbers(MIXED), numbers(MIXED, tensor=2)
    assert half.layers[0] == (whole.layers[0] - D) // 2 + D


def test_stages_add_up():
    (whole,) = numbers(MIXED)
    parts = numbers(MIXED, pipeline=2, layout=(3, 1))
    assert sum(each.all for each in parts) == whole.all
    assert parts[1].layers == [ATTENTION]


def test_bytes_between_steps():
    (found,) = numbers(MIXED)
    assert held(MIXED) == pytest.approx(18 * found.all + SPACE, abs=LESS)


LAYER = (
    2 * D * T + 4 * T  # what the norm is given, and its deviations
    + 2 * D * T  # what it made
    + 2 * ROWS * T  # what the linear made
    + 2 * 512 * T  # what the scan made before its gate
    + 2 * 512 * T + 4 * T  # what it made, which the norm behind it keeps, and deviations
    + 2 * 512 * T  # what that norm made
)  # fmt: skip


def test_what_mamba_keeps():
    more = kept(replace(MIXED, pattern="M-MM*", layers=5)) - kept(MIXED)
    assert more == LAYER


def test_several_sequences_are_copied_and_not_kept_twice():
    two = {"batch": 2, "length": T // 2}
    more = kept(replace(MIXED, pattern="M-MM*", layers=5), **two) - kept(MIXED, **two)
    assert more == LAYER


def test_a_backward_has_two_states_of_each_chunk():
    """A long state beside which all else is small."""
    wide = replace(MIXED, mamba=replace(M, state=4096))
    less = replace(MIXED, mamba=replace(M, state=2048))
    found, other = (run_stage(m, PLAIN, 0).moments["backward"].live for m in (wide, less))
    more = found["temporaries"] - other["temporaries"]
    rows, channels = 2 * 4 * 2048, 2 * 4 * 2048
    states = 4 * (T // 128) * 512 * 2048
    assert more == 2 * T * rows + 2 * 2 * T * channels + 2 * states


def test_muon_leaves_the_first_linear_of_mamba_alone():
    run = replace(PLAIN, muon=True)
    (found,) = numbers(MIXED, muon=True)
    matrices = 2 * 512 * D + (FEED - D) + (ATTENTION - D)
    (share, _, _) = muon.share(MIXED, run, range(4), found)
    assert share == 8 * matrices + 12 * (found.all - matrices)


def train(model, *words, **settings):
    return weighbridge.train(
        model, framework="megatron", offline=True, seq_len=512, megatron_args=words or None,
        **settings,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nemotron-h-56b", "nemotron-3-nano-30b-a3b"])
def test_numbers_are_those_of_the_class(model):
    """A model whose numbers differ from HybridModel's is refused."""
    found = train(model, gpu="h200:8", tensor_parallel_size=8, shard="zero1")
    assert found.derived["trainable_parameters"] == found.model.parameters


def test_what_is_not_weighed():
    with pytest.raises(UsageError, match="heads and 8 groups of Mamba"):
        train("nemotron-h-56b", gpu="h200:16", tensor_parallel_size=16)
    with pytest.raises(UsageError, match="not weighed with layers of a hybrid"):
        train("nemotron-h-56b", "mtp_num_layers=1", gpu="h200:8")
    with pytest.raises(UnsupportedError):
        train("jamba-v0.1", gpu="h200:8")
