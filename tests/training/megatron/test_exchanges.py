"""Buffers of DeepEP and HybridEP, added up by hand, and what a rank keeps of what they bring."""

import pytest

from tests.training.megatron.runs import EXPERTS, LLAMA, PLAIN, most
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.base.units import MIB
from weighbridge.training.megatron.exchanges import buffers
from weighbridge.training.megatron.experts import _once
from weighbridge.training.megatron.model import RoutedFeed
from weighbridge.training.megatron.stage import run_stage

WIDE = replace(LLAMA, hidden=7168, experts=RoutedFeed(count=256, top=8, width=64))
TOKEN = 2 * 7168 + 8 + 128 * 8 + 128 * 4 + 128 * 4  # numbers, origin, experts, chances, scales


def held(dispatcher, ranks, model=WIDE, **more):
    run = {"data": ranks, "expert": ranks, "dispatcher": dispatcher} | more
    return buffers(model, replace(PLAIN, **run))


@pytest.mark.parametrize(("ranks", "pieces"), [(2, 256), (8, 256)])
def test_deepep_within_a_machine(ranks, pieces):
    """Ten channels have a piece of each rank (config.hpp, get_nvl_buffer_size_hint)."""
    found = held("deepep", ranks)
    assert found.low == 10 * ranks * pieces * TOKEN
    assert found.expected == found.low + 32 * MIB


def test_deepep_between_machines():
    """Both directions of each machine, in granules of 512 MiB (get_rdma_buffer_size_hint)."""
    within, between = 10 * 8 * 288 * TOKEN, 2 * 10 * 8 * 128 * (TOKEN + 16)
    found = held("deepep", 64)
    assert found.low == within + between + 32 * MIB
    assert found.expected == within + 512 * MIB + 32 * MIB
    two = held("deepep", 16).low - 10 * 8 * 288 * TOKEN - 32 * MIB
    assert two == 2 * 10 * 2 * 140 * (TOKEN + 16)


def test_deepep_has_sizes_of_some_groups_alone():
    with pytest.raises(UsageError, match=r"among 2, 4, 8, .* ranks, and there are 12"):
        held("deepep", 12)


def test_expert_tensor_ranks_are_of_the_group():
    assert held("deepep", 8, expert=4, expert_tensor=2) == held("deepep", 8)


def test_hybridep_within_a_domain():
    """All tokens of the group with the chances of all experts, scales, and which goes where."""
    feed = RoutedFeed(count=8, top=2, width=64)
    found = held("hybridep", 4, replace(LLAMA, experts=feed), length=500)
    tokens = 512 * 4
    assert found.low == tokens * (2 * 256 + 4 * 8 + 4 * 256 // 128) + 8 * tokens


def test_hybridep_between_domains():
    """A rank's own tokens, and those of the other domain: once as they come, twice going back."""
    feed = RoutedFeed(count=32, top=2, width=64)
    found = held("hybridep", 16, replace(LLAMA, experts=feed), length=512)
    token, chances, scales = 2 * 256, 4 * 16, 4 * 256 // 128
    whole = 512 * 16 * (token + chances + scales) + 32 * 512 * 16
    own = 512 * (token + 4 * 32 + scales)
    assert found.low == whole + own + 512 * (3 * (token + chances) + scales)


def test_a_token_goes_once_to_a_rank():
    """Two of 8 experts, 2 of them here: all but 6 x 5 of 8 x 7 pairs."""
    feed, run = EXPERTS.experts, replace(PLAIN, data=4, expert=4)
    assert _once(feed, run, 2800) == 2800 * 26 // 56
    assert _once(feed, replace(run, uneven=1.5), 2800) == 1.5 * 2800 * 26 // 56
    assert _once(feed, replace(run, expert=1), 2800) == 2800
    assert _once(replace(feed, top=8), run, 2800) == 2800
    assert _once(replace(feed, top=7), replace(run, uneven=1.5), 2800) == 2800


def test_what_is_kept_of_copies_that_come_in_order():
    """DeepEP keeps which experts each token has, who is sent it, and of the tokens that it is given
    which experts they have and where their copies go; HybridEP the last two for all tokens."""
    feed = RoutedFeed(count=8, top=2, width=64)
    model = replace(LLAMA, words=128, experts=feed)
    run = {"data": 4, "expert": 4, "grouped": True, "router_wide": True}
    peaks = {
        name: most(model, dispatcher=name, fused_permutation=True, **run)
        for name in ("alltoall", "deepep", "hybridep")
    }
    assert peaks["hybridep"] < peaks["deepep"] < peaks["alltoall"]
    saved = {
        name: run_stage(model, replace(PLAIN, dispatcher=name, **run), 0).saved
        for name in ("deepep", "hybridep")
    }
    arrived, local, ranks = 512 * 4 * 26 // 56 + 1, 2, 4
    deep = 512 * 2 * 8 + 512 * ranks * 5 + arrived * (local * 5 + 4 * (2 * local + 1))
    hybrid = 512 * ranks * local * 5
    assert saved["deepep"] - saved["hybridep"] == 8 * (deep - hybrid)


def test_expert_tensor_ranks_are_given_what_the_others_are():
    """Four ranks have 2 experts each, or 2 pairs share 4: a pair is given the tokens of all
    four, of which 26 of 56 have one of 2 experts, and 44 of 56 one of 4. Places of what arrives
    tell them: a number and a flag an expert, and a map of rows."""
    feed = RoutedFeed(count=8, top=2, width=64)
    model = replace(LLAMA, layers=1, words=128, experts=feed)
    run = {"data": 4, "grouped": True, "dispatcher": "deepep", "router_wide": True}
    kinds = ({"expert": 4}, {"expert": 2, "expert_tensor": 2})
    alone, pairs = (run_stage(model, replace(PLAIN, **run, **k), 0).saved for k in kinds)
    few, many = -(-2048 * 26 // 56), -(-2048 * 44 // 56)
    places = many * (4 * 5 + 4 * 9) - few * (2 * 5 + 4 * 5)
    assert pairs - alone >= places
    assert pairs - alone < 2 * places + 2 * 1024 * 256 * 2


def test_copies_that_come_in_order_are_as_many_for_each_of_a_pair():
    run = {"data": 4, "grouped": True, "dispatcher": "hybridep", "router_wide": True}
    assert most(EXPERTS, expert=2, expert_tensor=2, **run) > most(EXPERTS, expert=4, **run)
