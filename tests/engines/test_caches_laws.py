"""What every engine's caches obey, over all kinds of layers: linear in sequences, monotone in the
context, a window that covers the context is full attention, ranks together hold at least the whole."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cases import examples
from tests.engines.kinds import (
    ATTENTIONS,
    COMPRESSED,
    CROSS,
    LATENT,
    OLDER,
    SHARED,
    STATES,
    models,
    with_reach,
)
from weighbridge.engines.llama_cpp import caches as llama_cpp
from weighbridge.engines.sglang import caches as sglang
from weighbridge.engines.transformers import caches as transformers
from weighbridge.engines.vllm import caches as vllm
from weighbridge.memory.components.kv_cache import Formats, Lengths, least, mixers

pytestmark = pytest.mark.slow

ENCODER = 40
CONTEXTS = st.integers(1, 3000)
COUNTS = st.integers(1, 5)
ALL = (*ATTENTIONS, LATENT, CROSS, SHARED, *STATES, *OLDER, *COMPRESSED)


def ideal(layers, context, count):
    found = least(layers, Lengths(context=context, encoder=ENCODER), Formats()).times(count)
    return found.kv + found.state


def of_transformers(layers, context, count, after="decode", cache="dynamic"):
    found = transformers.sizes(
        layers,
        transformers.TransformersCacheSetting(
            lengths=Lengths(context=context, encoder=ENCODER), batch=count, after=after, cache=cache
        ),
    )
    return found.kv + found.state


def of_static(layers, context, count):
    return of_transformers(layers, context, count, cache="static")


def of_prompt(layers, context, count):
    return of_transformers(layers, context, count, after="prefill")


def of_vllm(layers, context, count, ranks=1, block=None):
    setting = vllm.VllmCacheSetting(
        context=context,
        sequences=count,
        encoder=ENCODER,
        tensor_parallel=ranks,
        max_num_batched_tokens=64,
        block_size=block,
    )
    return vllm.needed(layers, setting)


def of_llama_cpp(layers, context, count):
    """Slots apart, so that each is as another alone."""
    setting = llama_cpp.LlamaCppCacheSetting(
        context=context * count, slots=count, unified=False, ubatch=64
    )
    found = llama_cpp.sizes(layers, setting)
    return found.kv + found.state


def of_sglang(layers, context, count, ranks=1, ratio=Fraction(1)):
    """Without the page and the slot for padding."""
    setting = sglang.SglangCacheSetting(
        context=context, sequences=count, tensor_parallel=ranks, swa_full_tokens_ratio=ratio
    )
    pools, cells = sglang.needed(layers, setting)
    return pools.full * cells.full + pools.sliding * cells.sliding + pools.slots * cells.state


BY_VLLM = (*ATTENTIONS, CROSS, SHARED, *STATES)
BESIDE_LATENTS = (LATENT, *ATTENTIONS[:2])  # vLLM cannot pad latents to the pages of other kinds
BY_SGLANG = (*ATTENTIONS, LATENT, SHARED, *STATES)
BY_LLAMA_CPP = (*ATTENTIONS, LATENT, CROSS, SHARED, *STATES, *OLDER)
ENGINES = {
    "least": (ideal, ALL),
    "transformers": (of_transformers, ALL),
    "transformers-prompt": (of_prompt, ALL),
    "transformers-static": (of_static, (*ATTENTIONS, LATENT, CROSS, SHARED, *STATES)),
    "vllm": (of_vllm, BY_VLLM),
    "vllm-latent": (of_vllm, BESIDE_LATENTS),
    "vllm-compressed": (of_vllm, COMPRESSED),
    "llama.cpp": (of_llama_cpp, BY_LLAMA_CPP),
    "sglang": (of_sglang, BY_SGLANG),
}
EACH = pytest.mark.parametrize("name", ENGINES)
PLAN = settings(deadline=None, max_examples=examples(20, night=60))


@EACH
@PLAN
@given(data=st.data(), context=CONTEXTS, count=COUNTS)
def test_linear_in_sequences(name, data, context, count):
    """vLLM's first request has a whole step's tokens beside its windows, and the others have not."""
    size, kinds = ENGINES[name]
    layers = data.draw(models(*kinds))
    if name == "llama.cpp":
        context = -(-context // 256) * 256  # its own multiple, stated
    one, two = (size(layers, context, n) for n in (1, 2))
    assert size(layers, context, count) == one + (count - 1) * (two - one)
    assert two == 2 * one or (two < 2 * one and name.startswith("vllm"))


# What waits for its group to be full in DeepSeek-V4 goes up and down.
GROWING = {
    name: (size, tuple(k for k in kinds if k not in COMPRESSED))
    for name, (size, kinds) in ENGINES.items()
}


@pytest.mark.parametrize("name", [name for name, (_, kinds) in GROWING.items() if kinds])
@PLAN
@given(data=st.data(), context=CONTEXTS, more=st.integers(0, 500))
def test_monotone_in_context(name, data, context, more):
    size, kinds = GROWING[name]
    layers = data.draw(models(*kinds))
    assert size(layers, context + more, 1) >= size(layers, context, 1)


@pytest.mark.parametrize("name", ["least", "transformers", "transformers-static", "sglang"])
@PLAN
@given(data=st.data(), context=CONTEXTS, beyond=st.integers(0, 100))
def test_a_window_that_covers_the_context_is_full_attention(name, data, context, beyond):
    size, _ = ENGINES[name]
    layers = data.draw(models(*ATTENTIONS))
    covered = with_reach(layers, context + beyond)
    assert size(covered, context, 2) == size(with_reach(layers, None), context, 2)


@PLAN
@given(layers=models(*ATTENTIONS), context=CONTEXTS)
def test_a_window_that_covers_the_context_in_llama_cpp(layers, context):
    covered = with_reach(layers, context + 256)
    assert of_llama_cpp(covered, context, 1) == of_llama_cpp(with_reach(layers, None), context, 1)


@PLAN
@given(layers=models(ATTENTIONS[1], size=4), context=CONTEXTS)
def test_a_window_that_covers_the_context_in_vllm(layers, context):
    """Up to a block more: a window rarely begins where a block does."""
    covered, full = with_reach(layers, context + 1), with_reach(layers, None)
    if not list(mixers(layers)):
        return
    block = vllm.plan(covered, vllm.VllmCacheSetting(context=context)).block
    few = {(m.kv_heads, m.key_dim, m.value_dim) for m in mixers(layers)}
    if len(few) == 1:  # one group
        assert 0 <= of_vllm(covered, context, 1) - of_vllm(full, context, 1) <= block


@pytest.mark.parametrize("size", [of_vllm, of_sglang])
@PLAN
@given(data=st.data(), context=CONTEXTS, ranks=st.sampled_from((2, 4, 8, 16)))
def test_ranks_together_hold_at_least_the_whole(size, data, context, ranks):
    """One kind at a time, so that no page is padded to another's."""
    kind = data.draw(st.sampled_from((*ATTENTIONS, LATENT, *STATES)))
    one = data.draw(models(kind, size=1).filter(lambda found: len(list(mixers(found))) == 1))
    assert ranks * size(one, context, 1, ranks=ranks) >= size(one, context, 1)


@PLAN
@given(data=st.data(), context=CONTEXTS)
def test_no_engine_holds_less_than_there_is(data, context):
    layers = data.draw(models(*data.draw(st.sampled_from(((*ATTENTIONS, SHARED), BESIDE_LATENTS)))))
    floor = ideal(layers, context, 1)
    plain = all(getattr(m, "indexer", None) is None for m in mixers(layers))
    for size in (of_transformers, of_static, of_vllm, of_sglang, of_llama_cpp):
        if plain:  # indexers have a dtype of their own
            assert size(layers, context, 1) >= floor


@PLAN
@given(layers=models(*BY_VLLM), context=CONTEXTS)
def test_components_are_the_whole(layers, context):
    setting = vllm.VllmCacheSetting(context=context, sequences=3, encoder=ENCODER)
    parts = vllm.caches(layers, setting)
    assert sum(c.bytes.expected for c in parts) == vllm.needed(layers, setting)
    assert {c.basis for c in parts} <= {"computed"}
    assert all(c.formula and c.source and c.level == "allocated" for c in parts)
