"""Intervals are earned: margins come from residuals, stand in one place, and hold."""

import json
from math import ceil
from pathlib import Path

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.answers import bounds
from weighbridge.answers.bounds.margin import (
    ASSUMED,
    BASE,
    LEAST,
    PATH,
    Margin,
    kin,
    read,
    written,
)
from weighbridge.answers.bounds.phases import DETAIL, NAMES
from weighbridge.answers.estimate.infer import widened
from weighbridge.answers.verdict import on_devices
from weighbridge.base.memory import LEVELS, Bytes, Component, Device, Instant, exactly
from weighbridge.base.units import GIB, MIB
from weighbridge.engines.interface import EngineAnswer
from weighbridge_lab.evidence import margins
from weighbridge_lab.evidence.records import Prediction, PublishedFigure

RUNS = bounds.RunForm("serve", "transformers", "gptq")


def of(level, **named):
    return bounds.kind(RUNS, "peak", level, several=False)._replace(**named)


def table(**shares):
    """Widths of the kind itself, by level."""
    return bounds.MarginTable({of(level): Margin(*pair, runs=12) for level, pair in shares.items()})


def device(*components):
    return Device(index=0, kind="gpu", phases=(Instant("prefill", components),))


def part(name, low, expected, high):
    return Component(name=name, bytes=Bytes(low, expected, high), basis="computed")


# ---- kin


def test_the_nearest_kin_come_first():
    forms = [(one.engine, one.form, one.layers, one.devices) for one in kin(of("allocated"))]
    assert forms[:4] == [
        ("transformers", "gptq", "dense", "one"),
        ("transformers", "gptq", "*", "one"),
        ("transformers", "gptq", "*", "*"),
        ("transformers", "packed", "*", "*"),
    ]
    assert forms[4] == ("transformers", "*", "*", "*")


def test_a_framework_errs_as_its_peers_that_share_a_model_the_same_way():
    """Before it errs as itself does on one device."""
    like = bounds.RunForm("train", "trl", layers=bounds.EXPERTS, sharing="fsdp1")
    found = [
        (one.engine, one.layers, one.devices)
        for one in kin(bounds.kind(like, "peak", "driver", several=True))
    ]
    assert found[:4] == [
        ("trl", "experts", "fsdp1"),
        ("frameworks", "experts", "fsdp1"),
        ("trl", "*", "fsdp1"),
        ("frameworks", "*", "fsdp1"),
    ]
    assert bounds.kind(like, "peak", "driver", several=False).devices == "one"


def test_a_width_of_kin_is_assumed_and_a_hundredth_more():
    packed = of("allocated", form="packed", layers="*", devices="*")
    known = bounds.MarginTable({packed: Margin(0.1, 0.2, runs=30)})
    found = known.of(of("allocated"))
    assert (found.low, found.high, found.basis) == (0.11, pytest.approx(0.21), "assumed")
    assert known.of(packed).basis == "measured"
    assert known.of(of("driver")) == LEAST  # the level below is in it
    assert known.of(of("component")) == LEAST


def test_an_interval_is_narrowed_by_several_sources_and_enough_runs():
    """The next of n runs is within their worst with a chance of n / (n + 1): 19 of 20. What widens
    needs nobody else."""
    for runs, held, low in (
        (30, "ab", 0.0),
        (18, "abc", 0.0),
        (19, "abc", -0.2),
        (300, "abc", -0.2),
    ):
        lawful = Margin(-0.2, 0.3, runs=runs, sources=tuple(held)).lawful
        assert (lawful.low, lawful.high) == (low, 0.3)


def test_every_width_of_the_package_is_lawful():
    for group, margin in read(Path(PATH).read_text().splitlines()).items():
        assert margin == margin.lawful, group.words
        assert margin.wider.low == pytest.approx(margin.low + ASSUMED)


@all_of(
    ("name", "form"),
    [
        (None, "plain"),
        ("gptq-4bit-g128", "gptq"),
        ("gptq-8bit-g128", "gptq"),
        ("nf4-dq", "nf4"),
        ("Q4_K_M", "gguf"),
        ("IQ2_XS", "gguf"),
    ],
)
def test_forms_of_weights(name, form):
    assert bounds.form(name) == form


# ---- where it stands


def test_a_margin_by_hand():
    """1 GiB allocated of which 256 MiB move: a tenth of it and the base above, a twentieth below."""
    found = bounds.widened(
        [device(part("weights", *[768 * MIB] * 3), part("activations", *[256 * MIB] * 3))],
        RUNS,
        bounds.MarginTable({of("allocated"): Margin(0.05, 0.1, runs=12)}, ("reserved", "driver")),
    )
    size = GIB + BASE
    peak = found[0].peak("allocated")
    assert peak == (GIB - ceil(0.05 * size), GIB, GIB + ceil(0.1 * size))
    weights, activations, margin, *_ = found[0].phases[0].components
    assert weights.bytes == exactly(768 * MIB)
    assert activations.bytes.expected == activations.bytes.high == 256 * MIB
    assert (margin.name, margin.detail, margin.basis) == ("temporaries", DETAIL, "measured")
    assert margin.bytes[:2] == (0, 0)


def test_what_is_exact_stays_so():
    """A margin wider than all that moves ends there."""
    (found,) = bounds.widened(
        [device(part("weights", *[GIB] * 3), part("logits", MIB, MIB, MIB))],
        RUNS,
        table(allocated=(0.5, 0.1)),
    )
    assert found.peak("allocated").low == GIB


def test_levels_nest_and_each_has_its_own_name():
    (found,) = bounds.widened(
        [device(part("activations", *[GIB] * 3), part("context", *[GIB // 4] * 3))],
        RUNS,
        table(allocated=(0.0, 0.1), reserved=(0.0, 0.05), driver=(0.0, 0.02)),
    )
    margins = [c for c in found.phases[0].components if c.detail == DETAIL]
    assert [c.name for c in margins] == [NAMES[level] for level in LEVELS]
    assert [c.level for c in margins] == list(LEVELS)
    added = [found.peak(level).high - found.peak(level).expected for level in LEVELS]
    assert added == sorted(added)
    assert added[2] == sum(c.bytes.high for c in margins)


def test_ends_come_closer_where_runs_of_the_kind_lay_closer():
    """1 GiB of which 256 MiB may be 0 to 512: runs lay within a tenth of what was expected less than
    the rules say. The host's and the weights' ends stay; so does a 64th of what was open."""
    parts = (part("weights", *[768 * MIB] * 3), part("activations", 0, 256 * MIB, 512 * MIB))
    size = GIB + BASE
    (found,) = bounds.widened([device(*parts)], RUNS, table(allocated=(-0.1, -0.1)))
    peak = found.peak("allocated")
    assert peak.low == GIB - 256 * MIB + int(0.1 * size)
    assert peak.high == GIB + 256 * MIB - int(0.1 * size)
    assert found.phases[0].components[0].bytes == exactly(768 * MIB)
    (closed,) = bounds.widened([device(*parts)], RUNS, table(allocated=(-0.9, -0.9)))
    stays = 256 * MIB // 64
    assert closed.peak("allocated") == (GIB - stays, GIB, GIB + stays)


def test_a_level_with_runs_of_its_own_brings_the_ends_below_it_closer():
    """Nobody printed what was reserved: what the driver showed says how much of it was."""
    parts = (part("activations", *[GIB] * 3), part("fragmentation", 0, GIB, GIB))
    (found,) = bounds.widened([device(*parts)], RUNS, table(driver=(-0.2, 0.0)))
    (loose,) = bounds.widened([device(*parts)], RUNS, table(driver=(0.0, 0.0)))
    assert found.peak("driver").low - loose.peak("driver").low == int(0.2 * (2 * GIB + BASE))
    (apart,) = bounds.widened(
        [device(*parts)], RUNS, table(reserved=(0.0, 0.0), driver=(-0.2, 0.0))
    )
    assert apart.peak("driver").low <= GIB


def test_parts_that_logs_print_have_margins_of_their_own():
    like = bounds.RunForm("serve", "vllm")
    rows = {
        bounds.kind(like, name, "component", several=False): Margin(low, high, runs=12)
        for name, low, high in (("activation", 0.0, 0.5), ("cuda_graphs", 0.25, -0.5))
    }
    parts = (part("activations", *[GIB] * 3), part("cuda_graphs", GIB // 2, GIB // 2, GIB))
    (found,) = bounds.widened(
        [device(*parts)], like, bounds.MarginTable(rows, ("reserved", "driver", "allocated"))
    )
    sums = {}
    for c in found.phases[0].components:
        sums[c.name] = tuple(
            a + b for a, b in zip(sums.get(c.name, (0, 0, 0)), c.bytes, strict=True)
        )
    assert sums["activations"] == (GIB, GIB, GIB + GIB // 2)
    assert sums["cuda_graphs"] == (GIB // 2 - GIB // 8, GIB // 2, 3 * GIB // 4)


def test_a_level_takes_last_from_parts_that_have_a_margin_of_their_own():
    """A quarter of 1 GiB less at the driver: the context has an eighth to give, graphs the rest."""
    like = bounds.RunForm("serve", "vllm")
    rows = {
        bounds.kind(like, "cuda_graphs", "component", several=False): Margin(0, 0, runs=12),
        bounds.kind(like, "peak", "driver", several=False): Margin(0.25, 0.0, runs=12),
    }
    known = bounds.MarginTable(rows, ("allocated", "reserved"))
    graphs, other = part("cuda_graphs", *[GIB // 4] * 3), part("communication", *[GIB // 2] * 3)
    (found,) = bounds.widened([device(graphs, other)], like, known)
    lows = {c.name: c.bytes.low for c in found.phases[0].components if not c.detail}
    assert lows == {"cuda_graphs": GIB // 4, "communication": GIB // 4}
    (found,) = bounds.widened([device(graphs, other)], like, known_of(rows, 0.6))
    lows = {c.name: c.bytes.low for c in found.phases[0].components if not c.detail}
    assert lows == {"cuda_graphs": GIB // 4 - GIB // 10 - 1, "communication": 0}


def known_of(rows, low):
    wider = {
        kind: margin._replace(low=low) if kind.quantity == "peak" else margin
        for kind, margin in rows.items()
    }
    return bounds.MarginTable(wider, ("allocated", "reserved"))


@pytest.mark.parametrize("share", [-0.3, -0.01, 0.0, 0.2])
def test_the_high_end_in_numbers_alone_is_that_of_the_widened_device(share):
    found = device(
        part("weights", *[GIB] * 3),
        part("activations", 0, GIB, 2 * GIB),
        part("fragmentation", 0, GIB // 8, GIB // 4),
        part("context", GIB // 8, GIB // 4, GIB // 2),
        part("cuda_graphs", 0, GIB // 8, GIB // 4),
    )
    for like in (RUNS, bounds.RunForm("serve", "vllm")):
        levels = ("component", "allocated", "reserved", "driver")
        rows = {
            bounds.kind(like, name, level, several=False): Margin(share, share, runs=12)
            for level in levels
            for name in ("peak", "activation", "cuda_graphs")
        }
        known = bounds.MarginTable(rows)
        (wide,) = bounds.widened([found], like, known)
        phases = [[(c.name, c.bytes) for c in p.components] for p in found.phases]
        said = bounds.highest([phases], like, several=False, table=known)
        assert said == wide.peak("driver").high


def test_the_host_has_no_margin():
    host = Device(index=0, kind="host", phases=(Instant("load", (part("weights", 1, 1, 1),)),))
    assert bounds.widened([host], RUNS, table(allocated=(0.1, 0.1))) == (host,)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang", "llama.cpp", "ik_llama.cpp"])
def test_no_interval_of_serving_is_nothing(engine):
    form = {"quantization": "Q4_K_M"} if "llama" in engine else {}
    report = weighbridge.infer("qwen3-0.6b", engine=engine, gpu="l4", **form)
    gpu = report.devices[0]
    for level in ("reserved", "driver"):
        peak = gpu.peak(level)
        assert peak.low < peak.expected < peak.high, level
    assert all(0 <= c.bytes.low <= c.bytes.expected <= c.bytes.high for c in every(gpu))


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["trainer", "litgpt", "torchtune"])
def test_no_interval_of_training_is_nothing(framework):
    report = weighbridge.train("qwen2.5-0.5b", framework=framework, seq_len=128, gpu="l4")
    for level in LEVELS:
        peak = report.devices[0].peak(level)
        assert peak.expected < peak.high, level
        assert peak.low < peak.expected, level


def every(gpu):
    return [c for phase in gpu.phases for c in phase.components]


@pytest.mark.slow
def test_a_verdict_cites_runs_of_its_kind_alone():
    found = weighbridge.infer("qwen3-0.6b", gpu="l4").verdict
    assert found.published["runs"] >= margins.NEAR
    assert f"expected at the median ({found.published['runs']} published)" in found.reason
    told = {"level": "driver", "runs": 31, "median": 0.05, "sources": ["a"]}
    said = on_devices.cited(found, told).reason
    assert said.endswith("took 5.0 % more than expected at the median (31 published)")
    assert found.published["sources"]
    nobody = weighbridge.infer("qwen3-0.6b", engine="llama.cpp", quantization="Q4_K_M", gpu="l4")
    assert nobody.verdict.published is None
    assert "runs like this" not in nobody.verdict.reason


# ---- how it is fitted


def figure(measured, expected, resolution=0, level="allocated", source="s"):
    r = PublishedFigure(
        id="x",
        source=source,
        engine="transformers",
        model="m",
        quantity="peak",
        level=level,
        measured=measured,
        citation={},
    )
    return Prediction(r, "peak", exactly(expected), resolution, of(level))


def test_a_quantile_by_hand():
    """The 98 % value of 49 is the 49th; of 99 the 98th."""
    assert margins.quantile([i / 100 for i in range(49)], 0.98) == 0.48
    assert margins.quantile([i / 1000 for i in range(99)], 0.98) == 0.097
    assert margins.quantile([-1.0, -0.5], 0.98) == -0.5  # all lie within


def test_printed_digits_are_no_error_of_ours():
    one = GIB
    found = margins.margin(of("allocated"), [figure(one + MIB, one, resolution=MIB)] * 12)
    assert found.low <= 0
    assert found.high <= 0
    off = margins.margin(of("allocated"), [figure(2 * one, one)] * 12)
    assert off.high == pytest.approx(one / (one + BASE), abs=2e-5)


def test_kin_are_as_wide_as_their_worst_member():
    """One of 131 figures may lie outside; of a source that has one, none."""
    near = [figure(GIB, GIB)] * 130
    far = [figure(GIB + GIB // 2, GIB, source="another")]
    own = margins.margin(of("allocated"), [*near, *far])
    kin_of_them = margins.margin(of("allocated", layers="*"), [*near, *far])
    assert own.high == 0.0
    assert kin_of_them.high == pytest.approx(GIB / 2 / (GIB + BASE), abs=2e-5)


def test_few_figures_have_no_row():
    few = [figure(GIB, GIB)] * (margins.NEAR - 1)
    assert margins.table(few) == {}
    assert of("allocated") in margins.table([*few, figure(GIB, GIB)])


def test_the_file_reads_as_it_was_written():
    lines = Path(PATH).read_text().splitlines(keepends=True)
    assert list(written(read(lines))) == lines
    assert all(json.loads(line)["runs"] >= margins.NEAR for line in lines)


# ---- how it holds


def test_intervals_of_several_devices_have_the_margins_of_several():
    """The evidence is scored with the same."""
    like, told = bounds.RunForm("serve", "vllm", bounds.PLAIN), exactly(10 * GIB)
    derived = {"serving_interval": list(told)}
    for several in (False, True):
        cards = tuple(Device(index=n, kind="gpu", phases=()) for n in range(1 + several))
        found = widened(EngineAnswer(devices=cards, settings={}, derived=derived), like)
        margined = bounds.around(told, like, bounds.PEAK, "driver", several=several)
        other = bounds.around(told, like, bounds.PEAK, "driver", several=not several)
        assert found.derived["serving_interval"] == list(margined) != list(other)


def test_the_document_says_what_was_fitted():
    document = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text()
    assert f"{100 * margins.MOST:.1f} of 100 figures" in document
    assert f"{100 * margins.LEAST:.0f} of 100 are not below" in document
    assert f"fewer than {margins.NEAR} figures" in document
