"""Two programs tell one forward: they agree to 2 %, type by type, or the list says why not."""

import ast
import inspect

import pytest

import weighbridge
from tests.cases import each, some
from tests.engines.forwards import kind, models, served, trained
from weighbridge.base.errors import BadFileError, NotServedError, ReleaseError, UnsupportedError
from weighbridge.engines.transformers import step
from weighbridge.models import catalogue
from weighbridge.models.arch.model_types import all_types, differs

MODELS = models()
WITHIN = 0.02
ONE_TOKEN = "its decoder begins with one token in inference, where all biases are of that token"
SMALL = "a MiB of what its class casts or embeds in another width"
# (model type, attention): a wider bound, and why
APART = {
    ("albert", "eager"): (0.04, SMALL),
    ("albert", None): (0.05, SMALL),
    ("clip_text_model", None): (0.03, SMALL),
    ("siglip_text_model", None): (0.03, SMALL),
    ("ernie4_5", None): (0.05, SMALL),
    ("modernbert", None): (0.08, SMALL),
    ("whisper", None): (0.06, SMALL),
    ("t5", None): (0.22, ONE_TOKEN),
    ("mt5", None): (0.22, ONE_TOKEN),
    ("recurrent_gemma", None): (0.12, "its recurrence is guessed: an interval of a third"),
}
SUMMED = "inference sums Mamba 2's products as before 5.18, training contracts as since"
RUN = "inference runs every expert on every token, training one after the other"
# (model type, attention): the same of older releases
APART_BEFORE = APART | {
    ("qwen2_moe", None): (
        0.07,
        "its shared expert runs last, which training runs first as since 5: high",
    ),
    ("qwen3_next", "eager"): (0.17, "high, and nobody has found why"),
    ("qwen3_next", None): (0.18, "high, and nobody has found why"),
    ("qwen3_vl_moe", "eager"): (5, RUN),
    ("qwen3_vl_moe", None): (40, RUN),
    **{
        (kind, attention): (30, SUMMED)
        for kind in ("mamba2", "granitemoehybrid", "nemotron_h")
        for attention in ("eager", None)
    },
    ("gemma3", "eager"): (0.08, SMALL),
    ("gemma3", None): (0.05, SMALL),
    ("glm4_moe", None): (0.03, SMALL),
    ("falcon", None): (0.03, SMALL),
}
FACTS = {
    call.args[1].value
    for call in ast.walk(ast.parse(inspect.getsource(step)))
    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "differs"
}
# What these make is less than the scores, which are the most of a forward at this length
BELOW = {"float_rotary", "own_gelu", "wide_biases"}
OLDER = {"repeated_experts", "sorted_experts"}  # before transformers 5: the test of older releases


def agree(name, attention, release=None):
    """Whether both tell one forward, and what they tell."""
    raw = MODELS[name]
    there, here = trained(raw, attention, release), served(raw, attention, release)
    within, _ = (APART_BEFORE if release else APART).get((kind(raw), attention), (WITHIN, ""))
    return abs(here / there - 1) <= within, f"{here:,} beside {there:,}"


@pytest.mark.parametrize("attention", ["eager", None], ids=("eager", "sdpa"))
@pytest.mark.parametrize("name", some(9, each(8, MODELS)))
def test_both_tell_one_forward(name, attention):
    same, told = agree(name, attention)
    assert same, told


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["eager", None], ids=("eager", "sdpa"))
@pytest.mark.parametrize("release", ["4.57", "4.48"])
def test_both_tell_one_forward_of_older_releases(release, attention):
    compared, apart = 0, []
    for name in MODELS:
        try:
            same, told = agree(name, attention, release)
        except (ReleaseError, UnsupportedError, NotServedError):  # the release does not know it
            continue
        compared += 1
        if not same:
            apart.append(f"{name}: {told}")
    assert not apart
    assert compared >= 60


@pytest.mark.slow
@pytest.mark.parametrize("release", ["4.55", "5.12"])
def test_sdpa_that_is_told_of_groups_makes_the_scores_of_latent_attention(release):
    """Keys of 192 numbers and values of 128 leave math, which alone takes `enable_gqa` with them: two
    float32 matrices of 1,024 x 1,024 scores a head at once (transformers 4.55 to 5.12)."""
    raw = MODELS["deepseek-r1"]
    scores = 2 * 4 * 128 * 1024 * 1024
    assert served(raw, None, release) > scores
    assert served(raw, None, "4.54") < scores > served(raw, None, "5.13")


@pytest.mark.slow
@pytest.mark.parametrize("fact", sorted(FACTS - BELOW - OLDER))
def test_the_law_fails_where_a_fact_is_broken(fact, monkeypatch):
    """Inference forgets what one class does: some type that does it is told in two ways."""

    def forgetful(kind, asked):
        return asked != fact and differs(kind, asked)

    monkeypatch.setattr(step, "differs", forgetful)
    those = [
        name
        for name, raw in MODELS.items()
        if any(differs(kind(raw) + rest, fact) for rest in ("", "_text"))
    ]
    assert any(not agree(name, way)[0] for name in those for way in ("eager", None)), those


def test_the_list_names_types_that_are_compared():
    assert {name for name, _ in APART} <= {kind(raw) for raw in MODELS.values()}


def test_every_type_with_a_program_is_compared():
    missing = {t for t, known in all_types().items() if known.training.net} - {
        kind(raw) for raw in MODELS.values()
    }
    assert missing == {"camembert", "qwen", "bamba", "lfm2_moe"}  # as their kin in the list


@pytest.mark.slow
def test_masks_that_see_both_ways_are_made_of_distances():
    """embeddinggemma-300m on 1,024 tokens: 21,521,408 bytes at most under transformers' own class on
    a fake GPU, while the second mask is made. Layers of both kinds have one: eager attention is
    given two matrices of 2 MiB, and cosines of two kinds are 2 MiB."""
    raw = MODELS["embeddinggemma-300m"]
    assert 0.95 < served(raw, None) / 21_521_408 <= 1
    assert served(raw, "eager") / (54_009_856 - 8_519_680) == pytest.approx(1, abs=0.01)


def test_every_expert_of_llama_4_works_on_every_token():
    """16 experts x 1,024 tokens x (2 x 8,192 + 8,192 + 5,120) numbers at once, and more."""
    raw = MODELS["llama-4-scout"]
    assert served(raw, None) > 2 * 16 * 1024 * (3 * 8192 + 5120)


def test_one_projection_that_its_heads_are_not_is_an_error():
    """ModernBERT's is three times the hidden size, whatever heads the config names."""
    raw = dict(catalogue.find("modernbert-base").config)
    assert weighbridge.infer(raw, engine="transformers", context=64)
    with pytest.raises(BadFileError, match="do not add up"):
        weighbridge.infer({**raw, "head_dim": 100}, engine="transformers", context=64)
