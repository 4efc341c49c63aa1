"""An answer that is like few published runs is wider, by what such answers earned, and says so."""

import json

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.answers import bounds
from weighbridge.answers.bounds.margin import ANY, NOTHING, Margin, MarginTable
from weighbridge.answers.bounds.novelty import (
    AXES,
    EARNED,
    NovelGroup,
    Novelty,
    fitted,
    groups,
    written_earned,
    written_seen,
)
from weighbridge.answers.bounds.phases import formula
from weighbridge.answers.estimate.traits import platform
from weighbridge.base.memory import Bytes, Device, exactly
from weighbridge.base.words import LANGUAGES
from weighbridge.base.words import words_in as catalogue
from weighbridge.machines.accelerators.parts import parts

TRAITS = (
    ("platform", "NVIDIA"),
    ("family", "qwen3"),
    ("format", "plain"),
    ("mode", "tensor_parallel_size"),
    ("release", "0.12.3"),
)
LIKE = bounds.RunForm("serve", "vllm", traits=TRAITS)
ASKED = bounds.kind(LIKE, "kv_available", "component", several=False)
SEEN = {
    "vllm kv_available component": {
        "platform": frozenset({"NVIDIA"}),
        "family": frozenset({"qwen3", "llama"}),
        "format": frozenset({"plain"}),
        "mode": frozenset({"tensor_parallel_size"}),
        "release": frozenset({"0.9", "0.20"}),
    }
}


def like(**changed):
    return LIKE._replace(traits=tuple((axis, changed.get(axis, v)) for axis, v in TRAITS))


def row(axis, engine, quantity, low, high, level="component"):
    return {NovelGroup(axis, "serve", engine, quantity, level): Margin(low, high, runs=5)}


@all_of(
    ("changed", "axes"),
    [
        ({}, ()),
        ({"platform": "AMD"}, ("platform",)),
        ({"format": "fp8", "family": "phi3"}, ("family", "format")),
        ({"mode": "speculative_method", "platform": "AMD"}, ("platform", "mode")),
        ({"release": "0.9"}, ()),
        ({"release": "0.8.9"}, ("release",)),
        ({"release": "0.20"}, ()),
        ({"release": "0.20.1"}, ("release",)),
    ],
)
def test_an_answer_is_new_where_its_value_was_not_published(changed, axes):
    """Releases between the oldest and the newest are not new: (0, 12, 3) lies in 0.9 to 0.20."""
    assert Novelty(SEEN, {}).axes(like(**changed), ASKED) == axes


def test_an_engine_or_a_quantity_that_nobody_published_is_new_by_itself():
    novelty = Novelty(SEEN, {})
    other = ASKED._replace(quantity="activation")
    assert novelty.axes(LIKE, other) == ("engine",)
    assert novelty.axes(LIKE, ASKED._replace(engine="sglang")) == ("engine",)
    assert novelty.axes(LIKE._replace(traits=()), other) == ()


def test_the_widest_axis_counts_and_the_engines_own_figures_come_first():
    """2 % and 5 % of what is expected; of another engine's 9 % nothing, where its own are there."""
    earned = (
        row("platform", "vllm", "kv_available", 0.02, 0.01)
        | row("platform", ANY, "kv_available", 0.09, 0.09)
        | row("family", ANY, "kv_available", 0.01, 0.05)
    )
    base = Margin(0.001, -0.01, runs=12)
    novelty = Novelty(SEEN, earned)
    told = novelty.wider(base, ASKED, like(platform="AMD", family="phi3"))
    assert (told.low, told.high) == pytest.approx((0.021, 0.04))
    assert (told.new, told.earned) == (("platform", "family"), 0.05)
    same = novelty.wider(base, ASKED, LIKE)
    assert (same.low, same.high, same.new, same.earned) == (0.001, -0.01, (), 0.0)
    alone = novelty.wider(base, ASKED, like(family="phi3"))
    assert (alone.low, alone.high) == pytest.approx((0.011, 0.04))


def test_other_engines_say_something_of_the_same_quantity_alone():
    assert [(g.engine, g.quantity) for g in groups("mode", ASKED)] == [
        ("vllm", "kv_available"),
        (ANY, "kv_available"),
    ]


def test_an_interval_is_wider_by_its_share():
    """10 % below and 20 % above, of 1,000 tokens; at the level of a part there is no base."""
    known = MarginTable(
        {ASKED: Margin(0.0, 0.0, runs=12)},
        novelty=Novelty(SEEN, row("platform", "vllm", "kv_available", 0.1, 0.2)),
    )
    asked = ("kv_available", "component")
    assert bounds.around(exactly(1000), LIKE, *asked, table=known) == exactly(1000)
    new = bounds.around(exactly(1000), like(platform="AMD"), *asked, table=known)
    assert new == Bytes(900, 1000, 1200)


@pytest.mark.parametrize(("high", "axes"), [(0.06, ("platform",)), (0.0599, ()), (0.0, ())])
def test_an_axis_is_told_where_it_makes_an_interval_much_wider(high, axes):
    """5 % above at the driver; what is wider below alone is in the formula."""
    peak = bounds.kind(LIKE, bounds.PEAK, "driver", several=False)
    seen = {"vllm peak driver": SEEN["vllm kv_available component"]}
    earned = row("platform", "vllm", bounds.PEAK, 0.5, high, "driver")
    levels = ("component", "allocated", "reserved")
    known = MarginTable({peak: Margin(0, 0, runs=9)}, levels, Novelty(seen, earned))
    gpu = Device(index=0, kind="gpu", phases=())
    assert bounds.novel([gpu], like(platform="AMD"), known) == axes
    assert bounds.novel([gpu], LIKE, known) == ()


def test_no_interval_is_narrower_for_being_new():
    """Margins that the package has, at any level, for any traits: the law of the table itself."""
    with open(EARNED, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert rows
    assert all(r["low"] >= 0 <= r["high"] and r["axis"] in AXES for r in rows)
    table = fitted()
    for engine, task in (("vllm", "serve"), ("llama.cpp", "serve"), ("unsloth", "train")):
        for quantity, level in (("peak", "driver"), ("peak", "reserved"), ("weights", "component")):
            known = bounds.RunForm(task, engine, traits=())
            new = known._replace(
                traits=(("platform", "Vendor"), ("family", "x"), ("release", "99"))
            )
            narrow = bounds.around(exactly(10**9), known, quantity, level, table=table)
            wide = bounds.around(exactly(10**9), new, quantity, level, table=table)
            assert wide.low <= narrow.low <= narrow.expected <= narrow.high <= wide.high


def test_what_is_fitted_is_not_widened_while_it_is_fitted():
    table = MarginTable({ASKED: Margin(0, 0, runs=9)}, ["component"], Novelty(SEEN, {}))
    assert table.around(ASKED, like(platform="AMD")).new == ()
    assert NOTHING.around(ASKED, like(platform="AMD")).new == ()


def test_a_width_says_on_which_axes_it_is_new():
    margin = Margin(0.01, 0.2, runs=9, of=ASKED, near=True, new=("platform", "mode"))
    assert "as answers were that are new in platform and mode" in formula(margin)
    assert "new in" not in formula(margin._replace(new=()))


def test_files_come_back_as_they_were_written():
    with open(EARNED, encoding="utf-8") as file:
        assert written_earned(fitted().novelty.earned) == file.read()
    assert json.loads(written_seen(SEEN)) == {
        where: {axis: sorted(values) for axis, values in axes.items()}
        for where, axes in SEEN.items()
    }


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("nvidia-h100-sxm5-80gb", "NVIDIA"),
        ("nvidia-gb10-dgx-spark", "NVIDIA shared"),
        ("apple-m1-8gb", "Apple shared"),
        ("amd-instinct-mi300x", "AMD"),
    ],
)
def test_a_platform_is_a_maker_and_whether_memory_is_shared(card, value):
    part = next(p for name, p in parts().items() if name.startswith(card))
    assert dict(platform(part)) == {"platform": value}
    assert list(platform(None)) == []


def test_a_draft_model_is_a_mode_of_its_own():
    prepared = weighbridge.prepare("qwen3-0.6b", offline=True)
    answers = (
        prepared.infer(engine="vllm", remedies=False, **{name: value})
        for name, value in (("draft_model", "qwen3-0.6b"), ("context", 4096))
    )
    new = [
        [
            c.formula
            for phase in a.devices[0].phases
            for c in phase.components
            if "new in" in c.formula
        ]
        for a in answers
    ]
    assert any("new in mode" in line for line in new[0])
    assert new[1] and not any("new in mode" in line for line in new[1])


def test_no_width_is_less_than_nothing():
    margin = Margin(-0.0001, 0.0, runs=9, of=ASKED, near=True)
    assert formula(margin).startswith("up to 0.0 % more and 0.0 % less than the rules say")


@pytest.mark.parametrize(
    ("high", "low", "words"),
    [
        (0.08, 0.05, "up to 8.0 % more and 5.0 % less than the rules say"),
        (0.08, -0.05, "5.0 to 8.0 % more than the rules say"),
        (-0.02, 0.07, "2.0 to 7.0 % less than the rules say"),
    ],
)
def test_a_width_on_one_side_is_told_as_one(high, low, words):
    """Where all such answers were above, "-5 % less" would be a riddle."""
    assert formula(Margin(low, high, runs=9, of=ASKED, near=True)).startswith(words)


def test_every_axis_has_its_sentence_in_every_language():
    for lang in LANGUAGES:
        said = catalogue(lang, "warnings")
        assert len({said(f"few.{axis}") for axis in AXES}) == len(AXES)
