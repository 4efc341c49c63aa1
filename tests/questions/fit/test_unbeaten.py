"""Layouts that are told: of servers, of ways to place a model, of training."""

from types import SimpleNamespace

from tests.cases import all_of
from weighbridge.answers.estimate.layouts import micro_batches, unbeaten
from weighbridge.base.units import coarse
from weighbridge.training.sharding.costs import LayoutCost


def layout(*price, flags=1):
    return SimpleNamespace(price=price, change=dict.fromkeys(range(flags)))


def test_a_layout_is_told_that_no_other_one_beats():
    dear, near, far = layout(2, 2), layout(1, 2), layout(2, 1)
    assert unbeaten([dear, near, far]) == [near, far]
    assert unbeaten([layout(1, 2, flags=2), near]) == [near]  # as cheap, with fewer flags
    alike = layout(1, 2)
    assert unbeaten([near, alike]) == [near, alike]


@all_of(
    ("length", "data", "batch", "count"),
    [(8192, 8, 1, 64), (8192, 8, 2, 32), (8192, 512, 2, 1), (8193, 1, 1, 512), (4095, 1, 1, 1025)],
)
def test_a_step_has_four_mebi_tokens(length, data, batch, count):
    assert micro_batches(length, data, batch) == count


def test_costs_that_are_near_are_the_same():
    assert [coarse(n) for n in (0, 7, 94, 951, -951, 12_499)] == [0, 7, 94, 950, -950, 12_000]
    cost = LayoutCost(again=0.333, bubble=0.5, near=12_499, far=94)
    assert cost.price == (2.0, 94, 12_000)  # 1.9995 of the work
