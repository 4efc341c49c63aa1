"""Prices by hand, from the exchange that prices.py states: points that put changes in an order."""

import pytest

from tests.cases import all_of
from tests.remedies.made import case
from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.case import Cost, Move
from weighbridge.answers.remedies.losses import cache_in_q8, cost, points, words
from weighbridge.answers.remedies.prices import (
    CHANGES,
    crossing,
    hardware,
    less,
    micro,
    on_host,
    shorter,
)
from weighbridge.memory.report.verdict import Price

# (quality, speed, scope, effort): 3 for each percent of perplexity, 1 for each 5 percent slower,
# 1 for each 2 percent given up, 5 for a checkpoint, 6 for another program; less for less
STATED = {
    "16 bits": (0.3, 0, 0, 0),
    "tensor parallel": (0, 1, 0, 0),
    "pipeline parallel": (0, 3, 0, 0),
    "more RAM": (0, 0, 0, 0),
    "dealt out": (0, 0, 0, 0),
    "kv cache": (1.5, 0, 0, 0),
    "kv cache in 4 bits": (12, 0, 0, 0),  # 4 %
    "files": (0, 0, 0, 6),
    "server": (0, 0, 0, 6),
    "flags": (0, 1, 0, 0),
    "attention": (0, 0, 0, 0),
    "flash attention": (0, 0, 0, 1),
    "kernels": (0, 0, 0, 1),
    "unmerged experts": (0, 0, 0, 2),
    "unsloth": (0, 0, 0, 4),
    "liger": (0, 0, 0, 1),
    "chunked": (0, 0, 0, 0.5),
    "checkpointing": (0, 6, 0, 0),  # 30 % slower
    "distributed optimizer": (0, 0, 0, 0),
    "sequence parallel": (0, 0, 0, 0),
    "fused loss": (0, 0, 0, 0),
    "tensor parallel training": (0, 4, 0, 0),  # 20 %
    "pipeline parallel training": (0, 5, 0, 0),  # 25 %
    "expert parallel training": (0, 3, 0, 0),  # 15 %
    "growing segments": (0, 0, 0, 0.5),
    "no mask": (0, 0, 0, 0),
    "norms again": (0, 0.6, 0, 0),  # 3 %
    "experts' activation again": (0, 2.2, 0, 0),  # 11 %
    "uneven stages": (0, 0.4, 0, 0),  # 2 %
    "no upcast": (0.5, 0, 0, 0.5),
    "8-bit states": (0.5, 0, 0, 0.5),
    "paged states": (0.5, 4, 0, 0.5),  # 20 %
    "adafactor": (6, 0, 0, 0),
    "micro-batches": (0, 1, 0, 0),  # 5 %
    "bf16": (8, 0, 0, 0),
    "mixed": (0.3, 0, 0, 0),
    "lora": (6, 0, 4, 0),
    "int8 base": (0.5, 5, 0, 0),  # 25 %
    "fewer targets": (4, 0, 2, 0),
    "states and gradients shared": (0, 1, 0, 0),  # 5 %
    "everything shared": (0, 3, 0, 0),  # 15 %
    "sequences shared": (0, 1.5, 0, 0),
    "less on the host": (0, 0, 0, 0),
    "saved in parts": (0, 0, 0, 0.5),
    "weights are dropped": (0, 0.4, 0, 0),  # 2 %
    "prompts are dropped": (0, 0.4, 0, 0),  # 2 %
    "one rank reads": (0, 0.2, 0, 0),  # 1 %
    "states on the host": (0, 12, 0, 0),  # 60 %
    "parameters on the host": (0, 30, 0, 0),  # 150 %
    "pages not pinned": (0, 2, 0, 0),  # 10 %
    "eager": (0, 4, 0, 0),  # 20 %
    "text only": (0, 0, 10, 0),
    "another layout": (0, 2, 0, 0),
}


def test_every_change_has_the_points_of_its_words():
    found = {
        name: (c.price.quality, c.price.speed, c.price.scope, c.price.effort)
        for name, c in CHANGES.items()
        if name != "qlora"
    }
    assert found == {name: pytest.approx(told) for name, told in STATED.items()}
    assert [name for name, c in CHANGES.items() if c.price.money] == ["more RAM"], "is bought"


def test_qlora_is_nf4_and_30_percent_slower():
    assert CHANGES["qlora"].price == Price(quality=points("nf4"), speed=6.0)


@pytest.mark.parametrize(("was", "now", "scope"), [(4096, 2048, 25), (4, 1, 37.5), (1000, 999, 1)])
def test_two_percent_that_are_given_up_are_a_point_and_never_less_than_one(was, now, scope):
    assert shorter(was, now, "tokens").price == Price(scope=scope)


def test_layers_on_the_host():
    """Half of the layers is half of 400 % slower, of the experts half of 150 %."""
    assert on_host("layers", 16, 32).price == Price(speed=40)
    assert on_host("experts", 16, 32).price == Price(speed=15)
    assert on_host("experts", 1, 100).price == Price(speed=1), "a point at least"
    assert on_host("experts", 0, 0).price == Price(speed=1)
    assert on_host("layers", 3, 32).words.startswith("3 of 32 layers")
    assert on_host("experts", 3, 32).words.startswith("experts of 3 of 32")


def test_each_halving_of_a_batch_is_a_point():
    assert [micro(n, "").price for n in (2, 4, 8)] == [Price(speed=n) for n in (1, 2, 3)]


def test_each_halving_of_a_rank_costs_quality():
    assert less(64, 8, "", 1.5).price == Price(scope=2, quality=4.5)


def test_weights_that_cross_the_bus():
    """All of them: 800 % slower, 160 points; 10 at least."""
    assert crossing(1.0).price == Price(speed=160)
    assert crossing(0.25).price == Price(speed=40)
    assert crossing(0.01).price == Price(speed=10)
    assert crossing(0.1, 3200.0).price == Price(speed=200)  # 32 GB/s: a hundred times slower
    assert crossing(1.0, 16.0).price == Price(speed=20)
    told = {0.01: "1%", 0.0099: "1.0%", 0.001: "0.1%", 0.0009: "less than 0.1%"}
    assert all(crossing(n).words.startswith(f"{words} of") for n, words in told.items())


@all_of(("was", "now", "money"), [(1, 2, 60), (1, 8, 180), (100, 101, 30), (0, 0, 30), (0, 4, 120)])
def test_each_doubling_of_memory_is_60_points_and_any_more_half_of_it(was, now, money):
    assert hardware(was, now, "").price == Price(money=money)


def test_each_further_change_of_a_set_is_two_points():
    one = Cost(price=Price(quality=1, speed=2, scope=3, effort=4, money=5), words="a", source="s")
    assert prices.together((one,)).price == one.price
    three = prices.together((one, one, one))
    assert three.price == Price(quality=3, speed=6, scope=9, effort=16, money=15)
    assert (three.words, three.source) == ("a", "s")


# Formats


MODEL = case().report.model


@all_of(
    ("form", "quality", "speed", "effort"),
    [
        ("bnb-int8", 0.5, 4, 0),  # 15 to 23 % slower
        ("fp8-tensor", 1, 0, 0),
        ("mlx-8bit-g64", 0.9, 0, 5),  # MMLU Pro 0.3 % down
        ("mlx-6bit-g64", 2.4, 0, 5),
        ("mlx-5bit-g64", 7.8, 0, 5),
        ("mlx-4bit-g64", 15.6, 0, 5),
    ],
)
def test_formats_with_assumed_points(form, quality, speed, effort):
    price = cost(MODEL, form).price
    assert (price.quality, price.speed, price.effort) == pytest.approx((quality, speed, effort))


@pytest.mark.parametrize(
    ("form", "speed", "effort"),
    [("nf4", 2, 0), ("awq-4bit-g128", 0, 5), ("gptq-4bit-g128", 0, 5), ("Q4_K_M", 0, 5)],
)
def test_formats_whose_points_are_published(form, speed, effort):
    price = cost(MODEL, form).price
    assert (price.speed, price.effort) == (speed, effort)
    assert price.quality == points(form) > 0


def test_three_points_for_each_percent_of_perplexity():
    """Figures of Llama 3 8B by llama.cpp's table (tools/quantize/README.md, without an imatrix): 6.23316 in
    F16, 6.407115 in Q4_K_M, 6.253382 in Q6_K."""
    assert points("Q4_K_M") == pytest.approx(300 * (6.407115 / 6.23316 - 1), rel=0.02)
    assert points("Q6_K") == pytest.approx(300 * (6.253382 / 6.23316 - 1), rel=0.02)


def told(change, metric="perplexity", near="model"):
    from types import SimpleNamespace

    return words(
        SimpleNamespace(
            change=change, metric=metric, near=near, amount=change, measured_on="X", task="t"
        )
    )


def test_losses_in_words():
    """Worse answers from 10 percent on, much worse from 30."""
    assert told(9.9) == "perplexity 9.9 % up"
    assert told(10) == "perplexity 10 % up: worse answers"
    assert told(29.9) == "perplexity 29.9 % up: worse answers"
    assert told(30, near="family") == "perplexity 30 % up on X: much worse answers"
    assert told(0) == "no measurable loss"
    assert told(0.1, "kl_divergence") == "KL divergence 0.1"
    assert told(2, "accuracy") == "accuracy 2 % down (t)"
    assert told(2, "word_perplexity") == "perplexity by word 2 % up"


def test_a_model_without_figures_is_told_of_another():
    assert "no published figure of this model is known" in cost(MODEL, "Q4_K_M").words
    eight = cache_in_q8(MODEL)
    assert eight.price.effort == eight.price.speed == 0
    assert eight.words.startswith("keys and values in 8 bits: ")


# Moves


def test_shares_that_remain():
    move = Move(
        kind="any",
        change={},
        cost=CHANGES["eager"],
        touches=frozenset(("weights", "logits")),
        leaves={"weights": 0.5, "gradients": 0.1},
        keeps={},
    )
    assert [move.least(n) for n in ("weights", "logits", "gradients")] == [0.5, 0.0, 1.0]
    assert [move.remains(n) for n in ("weights", "gradients")] == [0.3, 1.0]
    whole = Move(kind="any", change={}, cost=CHANGES["eager"], touches=frozenset(("*",)))
    assert (whole.least("gradients"), whole.remains("gradients")) == (0.0, 0.3)
    guessed = Move(
        kind="any", change={}, cost=CHANGES["eager"], touches=move.touches, keeps={"weights": 0.7}
    )
    assert [guessed.remains(n) for n in ("weights", "logits")] == [0.7, 1.0]
    assert move.points == 4


@pytest.mark.parametrize(("active", "experts"), [(999_999, True), (1_000_000, False)])
def test_figures_of_models_with_experts_are_apart(monkeypatch, active, experts):
    from weighbridge.answers.remedies import losses

    asked = []
    monkeypatch.setattr(losses, "published", lambda *a, **k: asked.append(k))
    model = case().report.model
    model.active_parameters = active
    losses.of_model(model, "nf4")
    assert asked == [{"experts": experts, "of": "weights"}]


def test_a_second_forward_of_feed_forwards_costs_its_flops():
    """27 % of a step, as `fit --layouts` has it, are 5.4 points: a fifth of a point a percent."""
    found = prices.again(0.27)
    assert found.price.speed == pytest.approx(5.4)
    assert "27% more FLOPs" in found.words


def test_a_second_level_costs_twice_the_share_of_it_that_is_lost():
    assert prices.less_beside(100, 75, "GiB").price.speed == 2 * prices.SLOWER / 4
    assert prices.less_beside(100, 100, "GiB").price.speed == 0
