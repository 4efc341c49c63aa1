"""The verdict: by hand, against runs that are known to fit or not, and as laws."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weighbridge
from tests.cases import all_of
from weighbridge.answers.verdict.on_devices import (
    _worse,
    cited,
    even,
    fits,
    serving,
    verdict,
)
from weighbridge.base.errors import UsageError
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.machines.accelerators.budget import Budget, budget
from weighbridge.machines.accelerators.names import DeviceChoice, sized
from weighbridge.memory.components.table import largest_kept_whole

LLAMA = "llama-3.1-8b"  # 8,030,261,248 parameters, 14.957 GiB in bfloat16


NOTHING = exactly(0)


def device(weights, *, context=NOTHING, fragmentation=0):
    parts = (("weights", exactly(weights)), ("fragmentation", exactly(fragmentation)))
    components = [Component(name=name, bytes=size, basis="computed") for name, size in parts]
    components.append(Component(name="context", bytes=context, basis="assumed"))
    return Device(index=0, kind="gpu", phases=(Instant("load", tuple(components)),))


def room(nbytes, count=1, headroom=0):
    return Budget(choice=DeviceChoice(part=sized(f"{nbytes}B"), count=count), headroom=headroom)


def said(*, weights, memory, count=1, headroom=0, layer=None, engine="transformers", **more):
    held = device(weights, **more)
    return verdict(held, room(memory, count, headroom), engine=engine, largest_layer=layer)


# Runs that people report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings", "gpu", "answer"),
    [
        (LLAMA, {}, "4090", "yes"),  # 16 GB of bfloat16 weights on a 24 GB card
        (LLAMA, {}, "t4", "no"),  # ... and on a 16 GB one, of which 14.7 GiB can be had
        (LLAMA, {"quantization": "nf4"}, "t4", "yes"),
        (LLAMA, {"dtype": "float32"}, "4090", "no"),
        ("llama-3.1-70b", {}, "h100", "no"),
        ("llama-3.1-70b", {}, "H200", "yes"),  # 131.4 GiB of 139.7
        ("llama-3.1-70b", {}, "4张4090", "no"),  # 131.4 GiB of 94: each would hold 33
        ("llama-3.1-70b", {}, "a100-80gb:2", "yes"),
        ("llama-3.1-70b", {"quantization": "nf4"}, "2x RTX 4090", "yes"),
        ("llama-3.1-405b", {}, "p5.48xlarge", "no"),  # 756 GiB of 633: needs two such machines
        ("llama-3.1-405b", {}, "p5en.48xlarge", "yes"),
        ("gpt-oss-120b", {}, "h100", "yes"),  # 60.8 GiB packed, as its makers say
    ],
)
def test_known_runs(model, settings, gpu, answer):
    report = weighbridge.load(model, gpu=gpu, **settings)
    assert report.verdict.fits == answer, report.verdict.reason


# By hand


def test_the_three_answers():
    need = {"weights": 10, "context": Bytes(1, 2, 3)}  # 11, 12, 13
    assert said(memory=13, **need).fits == "yes"
    assert said(memory=12, **need).fits == "unknown"
    assert said(memory=11, **need).fits == "unknown"
    assert said(memory=10, **need).fits == "no"


def test_a_device_of_which_we_do_not_know_all():
    """It fits what is surely there, and fails what is at most there."""
    usable = Bytes(20, 22, 24)
    assert fits(Bytes(18, 19, 20), usable) == "yes"
    assert fits(Bytes(18, 19, 21), usable) == "unknown"
    assert fits(Bytes(24, 25, 26), usable) == "unknown"
    assert fits(Bytes(25, 25, 26), usable) == "no"


def test_margin_and_headroom():
    found = said(weights=10, context=Bytes(1, 2, 3), memory=20, headroom=5)
    assert (found.usable_bytes, found.margin_bytes, found.headroom_bytes) == (15, 3, 5)
    assert found.fits == "yes"
    assert said(weights=10, context=Bytes(1, 2, 3), memory=20, headroom=8).fits == "unknown"
    assert said(weights=10, memory=20, headroom=30).usable_bytes == 0


def test_four_devices_are_not_one_of_four_times_the_size():
    """96 over 4 x 24: 24 each, and a context."""
    found = said(weights=96, context=exactly(1), memory=24, count=4, layer=1)
    assert (found.fits, found.per_device.low) == ("no", 25)
    assert "4 x 24 B is not 96 B" in found.reason
    assert said(weights=96, context=exactly(1), memory=97, count=1).fits == "yes"


def test_each_device_by_hand():
    """100 of weights in layers of 8 over 4: 25 to 25 + 10, with 3 of its own and 1 to 2 of context."""
    held = device(100, context=Bytes(1, 1, 2), fragmentation=3)
    assert even(held, 4, 8) == Bytes(26, (26 + 40) // 2, 40)
    assert even(held, 50, 8).low == 9  # a layer is not split
    assert even(held, 4, None).high == 105  # nothing is known of layers: one may hold all


def dealt(*weights):
    return [replace(device(nbytes), index=i) for i, nbytes in enumerate(weights)]


def test_what_an_engine_dealt_out_is_judged_by_the_fullest():
    judged = serving(dealt(10, 14), room(20, count=2))
    assert (judged.fits, judged.devices_used, judged.margin_bytes) == ("yes", 2, 6)
    assert serving(dealt(10, 24), room(20, count=2)).fits == "no"
    assert serving(dealt(10, 24), room(20, count=2)).tipped_by == "weights"


def test_more_devices_than_are_named_do_not_fit():
    said = "it needs 3 devices, and {}"
    assert serving(dealt(1, 1, 1), room(20, count=3)).fits == "yes"
    assert serving(dealt(1, 1, 1), room(20, count=2)).reason == said.format("2 are named")
    assert serving(dealt(1, 1, 1), room(20)).reason == said.format("1 is named")
    assert serving(dealt(1, 1, 1), room(20)).fits == "no"


def test_what_is_on_no_device_fits_every_one():
    assert serving([], room(20)).fits == "yes"


def test_what_is_kept_whole():
    modules = [("model.embed", 6), ("model.layers.0.q", 3), ("model.layers.0.experts.7.up", 4)]
    assert largest_kept_whole([*modules, ("model.layers.1.q", 3), ("lm_head", 5)]) == 7
    assert largest_kept_whole([("1.weight", 2), ("1.bias", 1), ("", 2)]) == 3
    assert largest_kept_whole([]) == 0


def test_one_of_several_may_hold_it_all():
    found = said(weights=10, memory=20, count=2, layer=1)
    assert (found.fits, found.devices_used, found.per_device) == ("yes", 1, exactly(10))


def test_what_nothing_splits():
    found = said(weights=30, memory=20, count=2, layer=1, engine="timm")
    assert (found.fits, found.devices_used) == ("no", 1)
    assert "nothing splits" in found.reason
    assert said(weights=30, memory=20, count=2, layer=1, engine="llama.cpp").fits == "yes"


# What was asked for


def test_sizes_names_and_both():
    assert budget(None, None, None) is None
    assert budget(None, "24GiB", None).usable == exactly(24 * GIB)
    assert budget(None, "24GB", None).usable == exactly(24 * 10**9)
    both = budget("4090:2", "20GiB", "1GiB")
    assert (both.usable, both.choice.count) == (exactly(19 * GIB), 2)
    assert both.choice.part.total.bytes.expected == 24564 * MIB
    assert "20.00 GiB" in both.choice.part.name


@all_of(
    ("headroom", "nbytes"),
    [(None, 0), ("0", 0), ("1GiB", GIB), ("10%", 2 * GIB), ("2.5 %", GIB // 2)],
)
def test_headroom(headroom, nbytes):
    assert budget(None, "20GiB", headroom).headroom == nbytes


@all_of(
    ("gpu", "memory", "headroom"),
    [
        (None, None, "1GiB"),
        (None, "much", None),
        (None, "0", None),
        ("4090", "-1GiB", None),
        ("4090", None, "100%"),
        ("4090", None, "some"),
        ("no such thing", None, None),
    ],
)
def test_what_means_nothing(gpu, memory, headroom):
    with pytest.raises(UsageError):
        budget(gpu, memory, headroom)
    with pytest.raises(UsageError):
        weighbridge.load(LLAMA, gpu=gpu, gpu_memory=memory, headroom=headroom)


def test_from_python():
    report = weighbridge.load(LLAMA, gpu_memory=16 * GIB, headroom=GIB)
    assert report.verdict.usable_bytes == 15 * GIB
    assert report.to_dict()["verdict"]["fits"] == report.verdict.fits == "no"
    assert weighbridge.load(LLAMA).verdict is None
    assert weighbridge.load(LLAMA).to_dict()["verdict"] is None


def test_other_stacks_are_warned_of():
    assert "CUDA" in weighbridge.load(LLAMA, gpu="m3 max 128gb").warnings[-1]
    assert weighbridge.load(LLAMA, gpu="mi300x").warnings == ()
    assert weighbridge.load(LLAMA, gpu_memory="24GiB").warnings == ()


def test_an_unknown_device_is_said_before_anything_is_fetched():
    with pytest.raises(UsageError, match="no such thing"):
        weighbridge.load("org/never-asked-for", gpu="no such thing")


# Laws

sizes = st.integers(1, 1 << 40)
counts = st.integers(1, 64)
spans = st.lists(st.integers(0, 1 << 30), min_size=3, max_size=3).map(lambda b: Bytes(*sorted(b)))
ORDER = {"no": 0, "unknown": 1, "yes": 2}


def rank(**settings):
    return ORDER[said(**settings).fits]


@pytest.mark.slow
@given(weights=sizes, context=spans, a=sizes, b=sizes, count=counts, layer=sizes)
def test_more_memory_is_never_worse(weights, context, a, b, count, layer):
    settings = {
        "weights": weights,
        "context": context,
        "count": count,
        "layer": min(layer, weights),
    }
    assert rank(memory=min(a, b), **settings) <= rank(memory=max(a, b), **settings)


@pytest.mark.slow
@given(weights=sizes, context=spans, memory=sizes, a=sizes, b=sizes, count=counts)
def test_more_headroom_is_never_better(weights, context, memory, a, b, count):
    settings = {
        "weights": weights,
        "context": context,
        "memory": memory,
        "count": count,
        "layer": 1,
    }
    assert rank(headroom=max(a, b), **settings) <= rank(headroom=min(a, b), **settings)


@pytest.mark.slow
@given(a=sizes, b=sizes, context=spans, memory=sizes, count=counts)
def test_a_larger_model_never_fits_better(a, b, context, memory, count):
    settings = {"context": context, "memory": memory, "count": count, "layer": 1}
    assert rank(weights=max(a, b), **settings) <= rank(weights=min(a, b), **settings)


@pytest.mark.slow
@given(weights=sizes, context=spans, memory=sizes, a=counts, b=counts, layer=sizes)
def test_more_devices_are_never_worse(weights, context, memory, a, b, layer):
    settings = {
        "weights": weights,
        "context": context,
        "memory": memory,
        "layer": min(layer, weights),
    }
    assert rank(count=min(a, b), **settings) <= rank(count=max(a, b), **settings)


@pytest.mark.slow
@given(weights=sizes, context=spans, count=counts, layer=sizes)
def test_devices_together_hold_at_least_the_whole(weights, context, count, layer):
    each = even(device(weights, context=context), count, min(layer, weights))
    assert each.low <= each.expected <= each.high
    assert count * each.low >= weights + context.low
    assert each.high <= weights + context.high


@pytest.mark.slow
@given(peak=spans, usable=spans)
def test_fitting_and_not_fitting_exclude_each_other(peak, usable):
    answer = fits(peak, usable)
    if answer == "yes":
        assert peak.high <= usable.low
        assert peak.expected <= usable.expected
    if answer == "no":
        assert peak.low > usable.high


@pytest.mark.slow
@given(weights=sizes, context=spans, memory=sizes, headroom=sizes, count=counts)
def test_the_margin_has_the_sign_of_the_answer(weights, context, memory, headroom, count):
    found = said(
        weights=weights, context=context, memory=memory, headroom=headroom, count=count, layer=1
    )
    assert found.fits != "yes" or found.margin_bytes >= 0
    assert found.fits != "no" or found.margin_bytes < 0
    assert found.margin_bytes == found.usable_bytes - found.per_device.expected
    assert "\n" not in found.reason


@all_of(
    ("median", "much"),
    [
        (0.12, "12.0 % more than expected"),
        (-0.003, "0.3 % less than expected"),
        (0.0005, "0.1 % more than expected"),  # a tenth of a percent, rounded
        (0.0004, "what was expected"),
        (0, "what was expected"),
    ],
)
def test_published_runs_beside_what_was_expected(median, much):
    told = {"median": median, "runs": 31}
    reason = cited(said(weights=10, memory=13), told).reason
    assert reason.endswith(f"; runs like this took {much} at the median (31 published)")


def test_of_cards_that_differ_the_worst_off_is_named():
    """First one that lacks bytes, then the one with the smallest share left."""
    cards = [
        SimpleNamespace(fits=fits, margin_bytes=margin, usable_bytes=100)
        for fits, margin in (("yes", 3), ("unknown", -1), ("no", -5), ("no", -9), ("yes", 2))
    ]
    assert [cards.index(one) for one in sorted(cards, key=_worse)] == [3, 2, 1, 4, 0]


def test_nothing_on_a_device_fits():
    found = serving((), room(13))
    assert (found.fits, found.devices_used, found.per_device) == ("yes", 0, NOTHING)
