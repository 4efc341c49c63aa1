"""What every picture keeps to: no text over another or outside, names of strangers as text only,
the same bytes every time. The golden pictures are tests/charts/golden: `OVERWRITE=1 pytest` writes
them anew, and they are looked at in a browser before they are committed."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.charts import made
from tests.charts.pictures import flaws, parsed, texts
from weighbridge.base.memory import LEVEL_OF
from weighbridge.faces.charts.figure import (
    BarGroup,
    Bars,
    Figure,
    FigureBar,
    FigureSegment,
    FigureTable,
    Limit,
    Series,
)
from weighbridge.faces.charts.quality import Quality, quality
from weighbridge.faces.charts.reports import bars
from weighbridge.faces.charts.scale import ByteUnit, memory
from weighbridge.faces.charts.sides import sides
from weighbridge.faces.charts.svg import html, svg
from weighbridge.faces.charts.tapes import tapes
from weighbridge_lab.measure.chart import pairs

GOLDEN = Path(__file__).parent / "golden"
LONG = "a-very-long-name-of-a-model-that-somebody-gave-it-" * 4
HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m\u202e]]>"
FORMATS = [  # llama.cpp, tools/quantize/README.md at c392e509: bits per weight of Llama-3.1-8B;
    # examples/perplexity/README.md, the same commit: perplexity of Llama-3-8B, f16 6.23316
    *(("q8_0", 8.50, 6.234284), ("q6_K", 6.56, 6.253382), ("q5_K_M", 5.70, 6.288607)),
    *(("q4_K_M", 4.89, 6.382937), ("q3_K_M", 4.02, 6.885034), ("q2_K", 3.16, 9.751568)),
]


def qualities(**more):
    return [
        Quality(name, bits, value, 6.23316, "llama.cpp", **more) for name, bits, value in FORMATS
    ]


def contexts():
    for i, context in enumerate((1024, 4096, 16384, 65536)):
        peak = made.gib(16 + i * 2, 16.5 + i * 2.5, 17 + i * 3.5)
        judged = made.verdict("yes" if i < 3 else "no", per_device=peak)
        yield made.report(judged=judged, context=context)


FIGURES = {
    "report": lambda: bars(made.report(judged=made.verdict(ram=64), devices=(made.device(), made.host()))),
    "report-zh": lambda: bars(made.report(judged=made.verdict("unknown", (20.9, 21, 21.2))), lang="zh"),
    "alike": lambda: bars(made.report([made.device(i) for i in range(8)], made.verdict(count=8, used=8))),
    "devices-64": lambda: bars(made.report([made.scaled(i, 1 - i / 100) for i in range(64)])),
    "contexts": lambda: sides(list(contexts())),
    "cards": lambda: sides(
        [
            made.report(judged=made.verdict(usable=(23.5 + i / 5,) * 3, card=f"Card {i}"), batch_size=b, gpu=f"{i}")
            for i in range(5)
            for b in (1, 2)
        ]
    ),
    "formats": lambda: sides([made.report(judged=made.verdict(), quantization=q) for q in ("nf4", "Q4_K_M")]),
    "timeline": lambda: tapes(made.timeline(memory=4 * made.GIB)),
    "timelines": lambda: tapes(made.timeline(3000, devices=3), lang="zh"),
    "measured": lambda: pairs([made.record()]),
    "programs": lambda: pairs([made.record(f"llama-{i}-lora") for i in range(20)]),
    "quality": lambda: quality(qualities(), model="Llama-3-8B"),
}  # fmt: skip
KEPT = ("report", "alike", "contexts", "timeline", "measured", "quality")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_no_picture_has_a_flaw(name):
    assert list(flaws(svg(FIGURES[name]()))) == []


def test_the_flaws_test_can_fail():
    bad = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="50"><title>t</title><desc>d</desc>'
        '<text x="10" y="20" font-size="12">one</text><text x="12" y="22" font-size="12">two</text>'
        '<text x="90" y="45" font-size="12">three</text><script/></svg>'
    )
    told = [line.split(":")[0] for line in flaws(bad)]
    assert told == [
        "over each other",
        "outside",
        "not self-contained",
        "not accessible",
        "not for dark pages",
    ]


@pytest.mark.parametrize("name", KEPT)
def test_pictures_are_as_they_were(name):
    path, now = GOLDEN / f"{name}.svg", svg(FIGURES[name]())
    if os.environ.get("OVERWRITE"):
        path.write_text(now)
    assert now == path.read_text()
    assert now == svg(FIGURES[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_names_of_strangers_are_text(name):
    figure = FIGURES[name]()
    table = figure.table._replace(rows=((HOSTILE,) * len(figure.table.head), *figure.table.rows))
    hostile = figure._replace(title=HOSTILE, answer=LONG, notes=(HOSTILE * 5,), table=table)
    picture = svg(hostile)
    assert list(flaws(picture)) == []
    assert "\x1b" not in picture
    assert "\u202e" not in picture
    page = html(hostile)
    assert "<script" not in page
    assert page.count("<table>") == page.count("<svg ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("make", [
    lambda: bars(made.report(name=LONG, judged=made.verdict(card=LONG))),
    lambda: sides([made.report(name=LONG + str(i), judged=made.verdict(card=LONG)) for i in range(30)]),
    lambda: tapes(made.timeline(program=LONG * 3)),
    lambda: pairs([made.record(LONG)]),
    lambda: pairs([made.record(LONG + str(i), predicted=False) for i in range(3)]),
    lambda: quality([q._replace(format=LONG, source=LONG) for q in qualities()], model=LONG),
])  # fmt: skip
def test_long_names_stay_in_their_place(make):
    assert list(flaws(svg(make()))) == []


names = st.text(min_size=0, max_size=60)
values = st.floats(0, 1e13)


@st.composite
def groups(draw):
    count = draw(st.integers(1, 7))
    bars = st.builds(
        lambda label, parts, told: FigureBar(label, tuple(FigureSegment(i, v, told) for i, v in enumerate(parts)), 0, sum(parts), told),
        names, st.lists(values, min_size=1, max_size=count), names,
    )  # fmt: skip
    limits = st.none() | st.builds(
        lambda low, more, label: Limit(low, low + more, label), values, values, names
    )
    one = st.builds(BarGroup, names, st.lists(bars, min_size=1, max_size=5).map(tuple), limits)
    return (
        count,
        draw(st.lists(one, min_size=1, max_size=4)),
        draw(st.lists(names, min_size=count, max_size=count)),
    )


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(groups(), names, names)
def test_any_bars_are_drawn_without_a_flaw(drawn, title, answer):
    count, some, keys = drawn
    most = max(
        [1, *(b.high for g in some for b in g.bars), *(g.limit.high for g in some if g.limit)]
    )
    plot = Bars(
        tuple(some),
        tuple(Series(k, i) for i, k in enumerate(keys[:count])),
        memory("GiB", most, ByteUnit("GiB")),
    )
    figure = Figure(title or "t", answer, (answer,), "d", (plot,), FigureTable(("a",), ((title,),)))
    assert list(flaws(svg(figure))) == []


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.5, 70), st.floats(0.001, 1e5), names), min_size=1, max_size=40)
)
def test_any_dots_are_drawn_without_a_flaw(points):
    some = [Quality(name, size, value, 6.0, "one") for size, value, name in points]
    assert list(flaws(svg(quality(some, model="m")))) == []


def test_forty_components_are_six_parts_and_the_others():
    sizes = {name: 1 + i / 10 for i, name in enumerate(LEVEL_OF)}
    every = [made.component(n, s, detail=str(k)) for k in range(3) for n, s in sizes.items()]
    assert len(every) > 40
    one = made.device(0, (made.Instant("step", tuple(every)),))
    figure = bars(made.report([one]))
    plot = figure.plots[0]
    assert len(plot.series) == 7
    assert plot.series[-1].name == "other"
    assert list(flaws(svg(figure))) == []


def test_one_page_may_hold_several_pictures():
    one, other = svg(bars(made.report())), svg(bars(made.report(name="another")))
    ids = [parsed(p).get("id") for p in (one, other)]
    assert len(set(ids)) == 2
    for picture, name in zip((one, other), ids, strict=True):
        rules = picture.split("<style>")[1].split("</style>")[0]
        assert rules.count("{#") + rules.count("}#") == rules.count(f"#{name} ")


def test_every_number_of_the_picture_is_in_its_description():
    picture = svg(bars(made.report(judged=made.verdict())))
    described = parsed(picture).find("{http://www.w3.org/2000/svg}desc").text
    for word in ("Fits", "prefill", "20.50", "20.00", "21.50", "23.50", "KV cache"):
        assert word in described


def test_words_are_in_the_language_that_was_asked_for():
    told = texts(svg(bars(made.report(judged=made.verdict()), lang="zh")))
    assert "权重" in told
    assert "weights" not in told


def test_the_unit_is_the_one_that_was_asked_for():
    told = " ".join(texts(svg(bars(made.report(), unit="GB"))))
    assert "22.0 GB" in told
    assert "GiB" not in told
