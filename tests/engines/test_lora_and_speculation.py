"""LoRA slots, what proposes tokens, shared prefixes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.serving import served
from tests.engines.spreads import SGLANG, VLLM, draft, lora, ranks, rules
from weighbridge.engines.servers.lora_and_speculation import draft_layers, lookahead, shared_tokens
from weighbridge.errors import UsageError


def slots(name, *, count=1, rank=16, r=VLLM, **sizes):
    subject = served(name)
    return [
        lora(subject, device, slots=count, lora_rank=rank, rules=r, **sizes)[0].bytes.expected
        for device in ranks(subject, rules=r, **sizes)
    ]


def test_adapters_of_all_linear_layers():
    """Qwen2.5-0.5B: 549,888 parameters a rank (AgileRL's memory rig, all-linear), in 16 bits."""
    assert slots("qwen2.5-0.5b", rank=64) == [549_888 * 64 * 2]


def test_adapters_of_embedding_and_head():
    """Llama 3 8B by hand: 32 layers of q, k, v, o, gate, up, down; embedding and head whole."""
    layer = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14_336)
    table = 128_256 + 4096
    assert slots("llama-3-8b", count=4) == [4 * 16 * 2 * (32 * layer + 2 * table)]
    assert slots("llama-3-8b", count=4, r=SGLANG) == [4 * 16 * 2 * 32 * layer]
    old = rules("vllm", (0, 11))
    extra = 4 * 16 * 2 * 2 * 256
    assert slots("llama-3-8b", count=4, r=old)[0] - slots("llama-3-8b", count=4)[0] == extra


def test_adapters_of_experts():
    """Mixtral: every expert has its own; router, attention, and 32,000 words twice."""
    expert = 8 * 3 * (4096 + 14_336)
    layer = 2 * (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 8) + expert
    whole = 16 * 2 * (32 * layer + 2 * (32_000 + 4096))
    assert slots("mixtral-8x7b") == [whole]


def test_adapters_over_ranks():
    """A stays whole where outputs are split, B where inputs are: Llama 3 8B over two."""
    layer = (4096 + 2048) * 2 + 2 * (4096 + 512) + 3 * (4096 + 7168)
    assert slots("llama-3-8b", tensor=2) == [16 * 2 * (32 * layer + 2 * (128_256 + 4096))] * 2


def test_a_rank_that_vllm_refuses():
    with pytest.raises(UsageError, match="vLLM takes 1, 8, 16, 32"):
        slots("llama-3-8b", rank=24)
    assert slots("llama-3-8b", rank=24, r=SGLANG)


def test_layers_for_multi_token_prediction():
    """DeepSeek-V3's module has 11.5 B parameters that are no other's (its README_WEIGHTS); in FP8
    but for the matrix before it, 103 M, in 16 bits, and the 17 M that decoding unpacks."""
    found = draft(served("deepseek-v3"), method="mtp", tokens=1)
    assert found[0].bytes.expected == pytest.approx(11.5e9 + 0.103e9 + 0.034e9, rel=0.015)
    eighth = draft(served("deepseek-v3"), method="mtp", tokens=1, tensor=8)
    assert found[0].bytes.expected / 8 < eighth[0].bytes.expected < found[0].bytes.expected / 6
    assert len(draft_layers(served("deepseek-v3"), "mtp")) == 1
    with pytest.raises(UsageError, match="no layers for multi-token prediction"):
        draft(served("llama-3-8b"), method="mtp", tokens=1)


def test_qwen_predicts_with_full_attention():
    """The last layers but one are delta nets; the predicting one attends."""
    (layer,) = draft_layers(served("qwen3.5-27b"), "mtp")
    assert type(layer.mixers[0]).__name__ == "Attention"


def test_a_draft_model():
    target = replace(served("qwen3-8b"), draft=served("qwen3-0.6b"))
    alone = sum(t.nbytes for t in ranks(served("qwen3-0.6b"))[0].tensors)
    assert draft(target, method="draft", tokens=4)[0].bytes.expected == alone
    assert draft_layers(target, "draft") == served("qwen3-0.6b").layers
    shared = draft(target, method="eagle", tokens=4)[0].bytes.expected
    assert alone - shared == 151_936 * 1024 * 2
    assert draft(target, method="ngram", tokens=4) == ()
    assert draft_layers(target, "ngram") == ()


def test_slots_ahead():
    assert [lookahead(m, 5) for m in (None, "ngram", "eagle", "mtp", "draft")] == [0, 0, 5, 5, 5]


def test_a_shared_prefix_by_hand():
    """1,000 tokens in blocks of 16 are 62 whole blocks; seven of eight requests save them."""
    assert shared_tokens(1000, 8, 16) == 7 * 992
    assert shared_tokens(1000, 8, 1) == 7000
    assert shared_tokens(15, 8, 16) == 0


@pytest.mark.slow
@given(st.integers(0, 10**5), st.integers(0, 500), st.integers(1, 128))
def test_a_prefix_saves_less_than_it_is(prefix, requests, block):
    saved = shared_tokens(prefix, requests, block)
    assert 0 <= saved <= prefix * max(0, requests - 1)
    assert shared_tokens(prefix, requests + 1, block) >= saved


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(("qwen2.5-0.5b", "llama-3-8b", "mixtral-8x7b", "deepseek-v2-lite")),
    st.integers(1, 8),
    st.sampled_from((8, 16, 64)),
    st.sampled_from((1, 2)),
)
def test_slots_are_linear_and_ranks_hold_the_whole(name, count, rank, tensor):
    one = slots(name, rank=8)[0]
    found = slots(name, count=count, rank=rank, tensor=tensor)
    assert sum(found) >= one * count * rank // 8
    assert slots(name, count=count, rank=rank)[0] == one * count * rank // 8
