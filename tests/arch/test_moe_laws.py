"""Mixtures of experts without torch: laws, and the weight maps of published files."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import corpus
from tests.arch.test_moe import latent, weigh
from weighbridge.models.checkpoint.model import active

# Laws

sizes = st.integers(1, 6)


@st.composite
def small_moes(draw):
    kind = draw(st.sampled_from(["mixtral", "qwen3_moe", "deepseek_v3", "glm4_moe", "gpt_oss"]))
    count, heads = draw(st.integers(1, 8)), draw(sizes)
    return {
        "model_type": kind,
        "hidden_size": heads * 2 * draw(sizes),
        "num_hidden_layers": draw(st.integers(1, 5)),
        "num_attention_heads": heads,
        "num_key_value_heads": draw(sizes),
        "head_dim": 2 * draw(sizes),
        "vocab_size": draw(st.integers(1, 60)),
        "intermediate_size": draw(st.integers(1, 40)),
        "moe_intermediate_size": draw(st.integers(1, 40)),
        "num_local_experts": count,
        "num_experts": count,
        "n_routed_experts": count,
        "n_shared_experts": draw(st.integers(0, 2)),
        "num_experts_per_tok": draw(st.integers(1, count)),
        "first_k_dense_replace": 0,
        "tie_word_embeddings": draw(st.booleans()),
    } | latent(*(draw(sizes) for _ in range(5)))


@pytest.mark.slow
@settings(deadline=None)
@given(small_moes())
def test_active_is_at_most_all_and_all_when_every_expert_works(raw):
    plan = weigh(raw)
    assert active(plan.params) <= plan.parameters
    everyone = weigh({**raw, "num_experts_per_tok": raw["num_experts"]})
    assert active(everyone.params) == everyone.parameters == plan.parameters


@pytest.mark.slow
@settings(deadline=None)
@given(small_moes())
def test_one_layer_more_costs_one_layer(raw):
    one, two, three = (
        weigh({**raw, "num_hidden_layers": raw["num_hidden_layers"] + n}) for n in range(3)
    )
    assert three.parameters - two.parameters == two.parameters - one.parameters > 0
    assert active(three.params) - active(two.params) == active(two.params) - active(one.params)


@pytest.mark.slow
@settings(deadline=None)
@given(small_moes())
def test_each_expert_more_adds_its_matrices_and_a_row_of_the_router(raw):
    keys = ("num_local_experts", "num_experts", "n_routed_experts")
    more = dict.fromkeys(keys, raw["num_experts"] + 1)
    width = raw["hidden_size"]
    whole = raw["model_type"] in ("mixtral", "gpt_oss")
    inner = raw["intermediate_size" if whole else "moe_intermediate_size"]
    biases = 1 + 2 * inner + width if raw["model_type"] == "gpt_oss" else 0
    step = weigh({**raw, **more}).parameters - weigh(raw).parameters
    assert step == raw["num_hidden_layers"] * (3 * width * inner + width + biases)


# Published weight maps

MAPS = [
    "mistralai__Mixtral-8x7B-v0.1",
    "MiniMaxAI__MiniMax-M1-80k",
    "bryce-hoehn__Qwen3.5-18B-REAP-A3B-Coding",
    "bryce-hoehn__Qwen3.5-25B-REAP-A3B-Coding",
]


@pytest.mark.skipif(not corpus.MODELS.exists(), reason="the corpus of configs is not here")
@pytest.mark.parametrize("folder", MAPS)
def test_names_are_those_of_published_files(folder):
    raw = json.loads((corpus.MODELS / folder / "config.json").read_text())
    index = json.loads((corpus.MODELS / folder / "model.safetensors.index.json").read_text())
    plan = weigh(raw)
    stored = {p.name for p in plan.params if not p.tied}
    stored |= {b.name for b in plan.buffers if b.persistent}
    assert stored == set(index["weight_map"])
