"""Bare sizes ("70b"), for which a model of that size stands where a question needs layers."""

import re

import pytest

import weighbridge
from weighbridge.engines.ignorance import SIZED, shares
from weighbridge.models import catalogue
from weighbridge.models.catalogue import everyday, popularity

OTHERS = re.compile(r"fp8|nvfp4|embed|guard|vl-|vision|llava|omni|voxtral|\d+x\d+b")
LARGE = 24  # billion parameters: from here on a name says its weights to a few percent
FAR = "llama-30b"  # of 32.5 billion
OFTEN = 20  # at most so many times rarer than the most downloaded of its size


def named(size):
    """The catalogue's language models with a size in their name."""
    sized = [n for n in catalogue.names() if not OTHERS.search(n)]
    return [n for n in sized if re.findall(r"(?<![\w.])([\d.]+b)(?![a-z0-9])", n)[:1] == [size]]


def downloaded(size):
    """Those of a size that many download."""
    counts = {n: popularity.of(n).downloads or 0 for n in named(size)}
    return [n for n, count in counts.items() if count and count * OFTEN >= max(counts.values())]


def lies_within(ratio, ends):
    less, more = ends
    return 1 - less - 0.005 <= ratio <= 1 + more + 0.005


def sizes_of(name):
    phase = weighbridge.infer(name, context=8192, dtype="bfloat16").fullest.phases[-1]
    return phase.of("weights").expected, phase.of("kv_cache").expected


@pytest.mark.slow
@pytest.mark.parametrize("size", everyday.SIZES)
def test_what_many_download_of_a_size_lies_within(size):
    doubt, _ = shares(f"size.{size}")
    weights, cache = sizes_of(everyday.SIZES[size])
    for name in set(downloaded(size)) - {"opt-13b"}:  # has no 8,192 positions
        own, own_cache = sizes_of(name)
        assert lies_within(own / weights, doubt.weights), name
        assert lies_within(own_cache / cache, doubt.pool), name


@pytest.mark.slow
def test_names_of_large_models_say_their_weights():
    """The widths of large sizes hold what names are known to leave open: 0.974 to 1.053."""
    for size, name in everyday.SIZES.items():
        count = float(size[:-1])
        if count < LARGE:
            continue
        stands = weighbridge.load(name).model.parameters / count / 1e9
        less, more = shares(f"size.{size}")[0].weights
        assert stands * (1 - less) <= 0.98
        assert stands * (1 + more) >= 1.053
        for other in set(named(size)) - {FAR}:
            assert 0.974 <= weighbridge.load(other).model.parameters / count / 1e9 <= 1.053


@pytest.mark.parametrize(
    ("ask", "component"),
    [
        (lambda name: weighbridge.infer(name, context=4096), "kv_cache"),
        (lambda name: weighbridge.infer(name, engine="vllm", gpu="h100:2"), "weights"),
        (lambda name: weighbridge.train(name, method="qlora", seq_len=512), "weights"),
    ],
)
def test_a_size_is_answered_as_a_model_and_wider(ask, component):
    own, other = ask("llama-3.3-70b"), ask(" 70B")
    least, exact = (report.fullest.phases[-1].of(component) for report in (other, own))
    assert least.expected == exact.expected
    assert least.low < exact.low <= exact.high < least.high
    assert (own.model.rough, other.model.rough) == (False, True)
    assert [line.key for line in other.warnings if "names no model" in line] == [SIZED]


def test_a_size_that_is_only_loaded_is_as_typed():
    assert weighbridge.load("70B").model.parameters == 70 * 10**9


@pytest.mark.slow
def test_fit_of_a_size_has_a_plan_and_trains():
    """70B in 4 bits is served by two cards of 24 GB, as many users have it."""
    answer = weighbridge.fit("70b", gpu="3090:2")
    assert (answer.plan.fits, answer.plan.format) == ("yes", "Q4_K_M")
    trains = {question.name: question.verdict for question in answer.questions}
    assert trains["qlora"].fits == "no"
