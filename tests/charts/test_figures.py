"""Figures say what reports, timelines and records say: nothing is lost, nothing is made up."""

import pytest

from tests.charts import made
from tests.charts.made import GIB
from weighbridge.base.errors import UsageError
from weighbridge.base.words import words_in
from weighbridge.faces.charts import parts
from weighbridge.faces.charts.figure import OTHER, Dot
from weighbridge.faces.charts.fits import fits
from weighbridge.faces.charts.layouts import layouts
from weighbridge.faces.charts.quality import Quality, loss, quality
from weighbridge.faces.charts.reports import bars
from weighbridge.faces.charts.sides import sides
from weighbridge.faces.charts.tapes import COLUMNS, tapes
from weighbridge.faces.view.parts import ROLES
from weighbridge.faces.view.shown import ranges
from weighbridge.memory.report.fit import Accelerator, Fit, Question, Ranking
from weighbridge.memory.report.verdict import Remedy
from weighbridge_lab.measure.chart import pairs


def rows(figure, plot=0):
    return [bar for group in figure.plots[plot].groups for bar in group.bars]


def test_a_bar_is_a_phase_and_its_parts_add_up():
    report = made.report()
    for bar, phase in zip(rows(bars(report)), report.devices[0].phases, strict=True):
        expected = phase.at("driver")
        assert sum(s.value for s in bar.segments) == expected.expected
        assert (bar.low, bar.high) == (expected.low, expected.high)


def test_the_fullest_phase_is_the_strong_one():
    assert [b.label for b in rows(bars(made.report())) if b.strong] == ["prefill"]


def test_devices_alike_are_drawn_once():
    figure = bars(made.report([made.device(i) for i in range(8)]))
    assert [g.label for g in figure.plots[0].groups] == ["per GPU (all 8 alike)"]


def test_devices_that_differ_are_named_the_fullest_first():
    figure = bars(made.report([made.scaled(0, 0.5), made.scaled(1, 1), made.scaled(2, 0.5)]))
    assert [g.label for g in figure.plots[0].groups] == ["GPU 1", "GPU 0, 2"]
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"


def test_of_64_devices_the_fullest_are_drawn_and_all_are_in_the_table():
    figure = bars(made.report([made.scaled(i, 1 - i / 100) for i in range(64)]))
    plot = figure.plots[0]
    assert [b.label for b in rows(figure)] == [f"GPU {i}" for i in range(24)]
    assert plot.more == f"40 further GPUs hold at most {20.5 * 0.76:.1f} GiB"
    assert len(figure.table.rows) == 64 * 3


def test_pages_of_files_are_no_need():
    figure = bars(made.report([made.device(), made.host(size=2, pages=500)]))
    host = rows(figure, 1)
    assert [sum(s.value for s in b.segments) for b in host] == [2 * GIB]
    assert figure.plots[1].axis.high < 3 * GIB


def test_the_limit_is_what_a_process_can_have():
    limit = bars(made.report(judged=made.verdict(usable=(23, 23.5, 25)))).plots[0].groups[0].limit
    assert (limit.low, limit.high) == (23 * GIB, 25 * GIB)
    assert limit.label == "the card has 23.0 to 25.0 GiB for you"
    assert bars(made.report()).plots[0].groups[0].limit is None


def test_the_ram_that_was_named_is_the_limit_of_the_host():
    devices = (made.device(), made.host())
    figure = bars(made.report(devices, made.verdict(ram=64)))
    assert figure.plots[1].groups[0].limit.low == 64 * GIB


def test_a_model_that_is_dealt_out_has_a_share():
    judged = made.verdict("no", per_device=made.gib(33, 34, 36), count=4, used=4)
    figure = bars(made.report(judged=judged, task="load"))
    share, whole = figure.plots[0].groups
    assert share.bars[0].segments[0].value == 34 * GIB
    assert figure.plots[0].series[share.bars[0].segments[0].series].name == "share"
    assert whole.label == "all of it on one GPU"


@pytest.mark.parametrize(
    ("fits", "said"), [("yes", "Fits"), ("no", "Does not fit"), ("unknown", "Cannot say")]
)
def test_the_verdict_is_said_first(fits, said):
    figure = bars(made.report(judged=made.verdict(fits)))
    assert figure.answer.startswith(f"{said} (RTX 4090): needs about 20.5 GiB (20.0 to 21.5)")


def with_peak(expected, name="m", fits="yes", **workload):
    judged = made.verdict(fits, per_device=made.gib(expected - 1, expected, expected + 1))
    return made.report(judged=judged, name=name, **workload)


def test_values_of_a_number_are_a_line():
    found = [
        with_peak(10 + c, context=1 << c, fits="yes" if c < 13 else "no") for c in (14, 10, 12)
    ]
    (curve,) = sides(found).plots[0].curves
    assert [(p.x, p.low / GIB, p.y / GIB, p.high / GIB) for p in curve.points] == [
        (1 << 10, 19, 20, 21),
        (1 << 12, 21, 22, 23),
        (1 << 14, 23, 24, 25),
    ]
    assert sides(found).answer == "m fits up to 4,096 (RTX 4090)"


def test_models_and_numbers_are_a_line_each():
    found = [with_peak(9 + b, name, batch_size=b) for name in ("a", "b") for b in (1, 2, 4)]
    figure = sides(found)
    assert [c.series.name for c in figure.plots[0].curves] == ["a", "b"]
    assert len(figure.plots[0].limits) == 1
    assert len(figure.table.rows) == 6


def test_two_cards_have_two_limits():
    small = [with_peak(9 + b, batch_size=b) for b in (1, 2)]
    large = [
        made.report(
            judged=made.verdict(usable=(79, 79, 79), per_device=made.gib(9 + b), card="H100"),
            batch_size=b,
            gpu="h100",
        )
        for b in (1, 2)
    ]
    labels = [x.label for x in sides([*small, *large]).plots[0].limits]
    assert labels == [
        "RTX 4090: the card has 23.5 GiB for you",
        "H100: the card has 79.0 GiB for you",
    ]


def test_what_is_no_number_is_a_bar_each():
    figure = sides(
        [with_peak(20.5, quantization=q, dtype="bfloat16") for q in ("nf4", "Q4_K_M", None)]
    )
    assert [b.label for b in rows(figure)] == ["nf4", "Q4_K_M", "bfloat16"]
    assert len(figure.plots[0].groups) == 1


def test_one_number_twice_is_no_line():
    figure = sides([with_peak(20.5, context=4096, batch_size=1) for _ in range(2)])
    assert len(rows(figure)) == 2


@pytest.mark.slow
def test_the_peak_of_a_timeline_is_among_what_is_drawn():
    long = made.timeline(5000)
    long["devices"][0]["allocated"][1234] = 9000 * GIB
    (plot,) = tapes(long).plots
    assert (plot.peak.x, plot.peak.y) == (1234, 9000 * GIB)
    assert 1234 in plot.xs
    assert plot.xs[-1] == 4999
    assert len(plot.xs) <= COLUMNS + 1


def test_layers_of_a_timeline_add_up():
    given = made.timeline(40)
    (plot,) = tapes(given).plots
    sums = [sum(values) for values in zip(*plot.layers, strict=True)]
    assert sums == given["devices"][0]["allocated"]
    assert [s.name for s in plot.series] == ["weight", "saved activation"]


def test_phases_of_a_timeline_are_named_and_told():
    figure = tapes(made.timeline(40))
    assert [(b.label, b.low, b.high) for b in figure.plots[0].bands] == [
        ("forward", 0, 20),
        ("backward", 20, 39),
    ]
    assert figure.answer == "Peak 3.4 GiB, in forward"
    assert figure.table.rows == (("", "forward", "3.38", "3.88"), ("", "backward", "3.38", "3.88"))


@pytest.mark.parametrize(("memory", "drawn"), [(4, True), (40, False)])
def test_a_card_that_is_far_larger_is_not_drawn(memory, drawn):
    (plot,) = tapes(made.timeline(memory=memory * GIB)).plots
    assert (plot.limit is not None) is drawn


def test_more_roles_than_styles_are_others():
    given = made.timeline(10)
    given["devices"][0]["roles"] |= {f"role {i}": [GIB * (i + 1)] * 10 for i in range(9)}
    (plot,) = tapes(given).plots
    assert len(plot.series) == 7
    assert plot.series[-1].style == OTHER
    whole = sum(sum(values) for values in given["devices"][0]["roles"].values())
    assert sum(map(sum, plot.layers)) == whole


def test_levels_of_a_measurement_are_stacked():
    figure = pairs([made.record()])
    load, backward = figure.plots[0].groups
    measured, predicted = backward.bars
    assert [s.value / GIB for s in measured.segments] == [33, 1, 1]
    assert predicted.told == "35.7 GiB (+2.0 %)"
    assert load.bars[1].told == "15.5 GiB (-3.1 %)"
    assert figure.answer == "The prediction of the fullest is off by +2.0 %"


def test_a_program_without_a_prediction_has_one_bar():
    figure = pairs([made.record(predicted=False)])
    assert [len(g.bars) for g in figure.plots[0].groups] == [1, 1]
    assert figure.answer == ""


def test_quality_is_what_is_lost_against_the_own_baseline():
    one = Quality("q8_0", 8.5, 6.3, 6.0, "a")
    assert loss(one) == pytest.approx(5)
    assert loss(one._replace(value=5.9)) == 0
    assert loss(one._replace(value=0.02, baseline=0.0)) == 0.02
    figure = quality([one, one._replace(format="x", value=5.9, source="b")], model="m")
    assert [(d.label, round(d.y, 3), d.series) for d in figure.plots[0].dots] == [
        ("x", 2.5, 1),
        ("q8_0", 5, 0),
    ]
    assert [row[0] for row in figure.table.rows] == ["q8_0", "x"]


ROW = {"id": "tp8", "fits": "yes", "peak_bytes": 2**30, "near_bytes": 2**21, "far_bytes": 0}
TRAINS = {"computed_again": 0.25, "bubble": 0.01, **ROW}
SERVES = {"read_in_turn_bytes": 2**31, "cached_tokens": 1500, **ROW}


def ranked(about, *rows):
    return Ranking(of="layouts", about=about, rows=rows, model="m", accelerator="card", count=8)


def test_layouts_are_dots_over_what_is_waited_for():
    """26 % of a step; nothing goes beyond one machine, so there is no plot of it. The other one is
    better in both, so that it alone has its name."""
    other = TRAINS | {"id": "pp8", "computed_again": 0.0, "near_bytes": 0}
    found = layouts(ranked("train", TRAINS, other, TRAINS | {"id": "dp8", "fits": "no"}))
    (plot,) = found.plots
    assert plot.dots == (Dot(1.0, 0, "pp8", 0), Dot(26.0, 2**21, "", 0))
    assert found.table.rows[0] == ("tp8", "1.00", "26", "2.00", "0.00")
    assert len(found.notes) == 1
    far = layouts(ranked("train", TRAINS | {"far_bytes": 7}))
    assert [dot.y for plot in far.plots for dot in plot.dots] == [2**21, 7]


def test_ways_to_place_a_model_are_dots_over_what_is_read_of_host_memory():
    """More cached tokens are better: the one that reads more has its name there alone."""
    less = SERVES | {"id": "-ncmoe 8", "read_from_host_bytes": 2**30, "cards": []}
    more = less | {"id": "-ncmoe 9", "read_from_host_bytes": 2**31, "cached_tokens": 9000}
    found = layouts(ranked("infer", less, more))
    assert [(d.x, d.y, d.label) for p in found.plots for d in p.dots] == [
        *((2**30, 2**31, "-ncmoe 8"), (2**31, 2**31, "")),
        *((2**30, 1500, "-ncmoe 8"), (2**31, 9000, "-ncmoe 9")),
    ]


def test_layouts_of_a_server_have_what_they_cache():
    found = layouts(ranked("infer", SERVES))
    assert [(d.x, d.y) for p in found.plots for d in p.dots] == [(2**31, 1500), (2**31, 2**21)]
    assert "more is better" in found.notes[1]
    all_of_them = layouts(ranked("infer", SERVES), every=True)
    assert "no other" in found.notes[0]
    assert "no other" not in all_of_them.notes[0]
    with pytest.raises(UsageError, match="no layout of m fits"):
        layouts(ranked("infer", SERVES | {"fits": "no"}))


def test_quality_that_nobody_published_is_said():
    with pytest.raises(UsageError, match="no published perplexity of m is known"):
        quality([], model="m")


def test_fit_has_a_bar_for_each_question_and_its_first_change():
    change = Remedy(
        change={"q": 1}, peak_bytes=9 * GIB, fits="yes", cost="", flags="--quantization nf4"
    )
    short = made.report(judged=made.verdict("no", usable=(11, 11, 11)))
    from dataclasses import replace

    found = Fit(
        model=made.facts(),
        accelerator=Accelerator("RTX 3060", "3060", 1, 12 * GIB, 11 * GIB),
        questions=(
            Question(name="load", report=made.report(judged=made.verdict())),
            Question(name="infer", report=replace(short, remedies=(change,))),
            Question(name="qlora", reason="no such class"),
        ),
        workload={},
    )
    figure = fits(found)
    assert [(b.label, b.mark) for b in rows(figure)] == [
        ("load", "yes"),
        ("inference", "no"),
        ("--quantization nf4", "yes"),
    ]
    assert rows(figure)[2].segments[0].value == 9 * GIB
    assert figure.plots[0].groups[0].limit.low == 11 * GIB
    assert figure.answer == "Does not fit: inference"
    assert ("QLoRA", "no such class", "", "", "", "") in figure.table.rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "model", "settings"),
    [
        ("load", "7B", {}),
        ("load", "llama-3.1-70b", {"gpu": "4 x RTX 4090", "unit": None}),
        ("infer", "gemma-3-27b", {"engine": "llama.cpp", "quantization": "Q4_K_M", "n_gpu_layers": 0, "ram": "64GiB"}),
        ("infer", "deepseek-v3", {"engine": "vllm", "tensor_parallel_size": 8, "gpu": "h200:8"}),
        ("infer", "qwen3-30b-a3b", {"engine": "llama.cpp", "quantization": "Q4_K_M", "gpu": "m3 max 64gb"}),
        ("train", "llama-3.1-8b", {"shard": "zero3", "offload": "optimizer", "gpu": "4090:2", "ram": "128GiB"}),
        ("train", "vit-base-patch16-224", {"gpu": "t4"}),
    ],
)  # fmt: skip
def test_real_answers_are_drawn_without_a_flaw(task, model, settings):
    import weighbridge
    from tests.charts.pictures import flaws
    from weighbridge.faces.charts.svg import svg

    settings.pop("unit", None)
    report = getattr(weighbridge, task)(model, **settings)
    for lang in ("en", "zh"):
        assert list(flaws(svg(bars(report, lang=lang)))) == []
    page = report._repr_html_()
    assert "<script" not in page
    assert "<table>" in page
    assert page.count("<svg ") >= 1


def test_activations_are_never_among_the_others():
    bar = parts.Sums({"weights": 10_000, "activations": 1, "logits": 1})
    assert parts.chosen([bar]) == ("weights", "activations")
    many = parts.Sums({name: 100 for name in parts.STYLES if name != "activations"})
    few = parts.Sums({"activations": 1})
    assert "activations" in parts.chosen([many, few], 3)
    assert len(parts.chosen([many, few], 3)) == 3
    assert parts.chosen([parts.Sums({"weights": 1, "activations": 0})]) == ("weights",)


def test_a_part_has_its_style_whatever_stands_beside_it():
    say = words_in("en", "charts")
    alone = {name: parts.series([name], say, {})[0].style for name in parts.STYLES}
    assert alone == parts.STYLES
    assert set(alone) == set(parts.ORDER) - {"other"}
    beside = parts.series([*parts.STYLES], say, {"weights": "frozen_weights"})
    assert [s.style for s in beside] == [*parts.STYLES.values(), OTHER]
    roles = {alone.pop(name) for name in ROLES}
    aside = ("recurrent_state", "cuda_graphs", "master_weights", "communication")
    assert roles == {alone[name] for name in aside}
    shared = [style for style in alone.values() if [*alone.values()].count(style) > 1]
    assert shared == [alone["kv_cache"], alone["gradients"]]  # which never stand together
