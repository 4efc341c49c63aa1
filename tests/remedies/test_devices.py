"""Other devices that are offered, by hand, and what a case surely or perhaps holds after a change."""

from types import SimpleNamespace

import pytest

import weighbridge
from tests.cases import all_of
from tests.remedies.made import case, of_kind
from weighbridge.answers.remedies import prices
from weighbridge.answers.remedies.case import Move
from weighbridge.answers.remedies.devices import moves
from weighbridge.base.memory import Bytes, Component, Device, Instant
from weighbridge.base.units import GIB
from weighbridge.faces.view import screen
from weighbridge.faces.view.records import Headline
from weighbridge.machines.accelerators.names import find


def larger(**settings):
    return [m.change["gpu"] for m in of_kind(moves(case(**settings)), "larger device")]


def more(**settings):
    return [dict(m.change) for m in of_kind(moves(case(**settings)), "more devices")]


def counts(**settings):
    return [int(c["gpu"].partition(":")[2]) for c in more(**settings)]


def test_the_next_three_that_have_more_memory_than_is_needed():
    assert larger(gpu="3060", needs=GIB) == [
        "4060-ti-16gb",
        "4090",
        "5090",
    ]
    assert larger(gpu="3060", needs=40 * GIB) == [
        "l40s",
        "a100-80gb",
        "h200",
    ]
    assert larger(gpu="b200", needs=GIB) == []
    assert larger(gpu="3060:2", needs=100 * GIB) == ["h200:2", "b200:2"]


def test_as_much_as_is_needed_is_not_more():
    l40s = find("l40s").part.visible.bytes.low
    assert larger(gpu="3060", needs=l40s - 1)[0] == "l40s"
    assert larger(gpu="3060", needs=l40s)[0] == "a100-80gb"


def test_each_maker_has_its_own_ladder():
    assert larger(gpu="m4-24gb", needs=GIB) == ["m4-32gb", "m4-pro-48gb", "m4-max-64gb"]
    assert larger(gpu="mi210", needs=GIB)[0] == "mi300x"
    assert more(gpu="m4-24gb", needs=30 * GIB) == []


@all_of(
    ("engine", "fits", "has", "tried"),
    [
        ("vllm", "unknown", 8, ["16GiB", "32GiB", "64GiB"]),
        ("vllm", "no", 64, ["128GiB", "256GiB", "512GiB"]),
        ("vllm", "yes", 8, []),
        ("ollama", "yes", 12, ["16GiB", "32GiB", "64GiB"]),
        ("ollama", None, None, []),
    ],
)
def test_more_ram_where_it_is_short_or_takes_what_the_card_does_not(engine, fits, has, tried):
    host = SimpleNamespace(fits=fits, available=has and has * GIB, shared=False)
    asked = list(moves(case("infer", "4090", needs=30 * GIB, engine=engine, host=host)))
    ram = of_kind(asked, "more RAM")
    assert [m.change["ram"] for m in ram] == tried
    assert asked[: len(ram)] == ram or fits == "yes", "before any card, where it is short"


@pytest.mark.slow
def test_ram_is_named_and_offered_where_it_decides():
    """Ollama keeps 8 GiB of prompts, and layers of Q8_0 that a 4090 has no room for."""
    asked = {"engine": "ollama", "quantization": "Q8_0", "context": 4096}
    model = weighbridge.prepare("qwen3-32b")
    report = model.infer(**asked, gpu="4090", ram="8GiB")
    assert (report.verdict.fits, report.verdict.host.fits) == ("no", "unknown")
    (head,) = (b for s in screen(report).sections for b in s if isinstance(b, Headline))
    assert "of host memory, the machine has 8,192 MiB" in head.reason
    first = report.remedies[0]
    assert (first.change, first.fits) == ({"ram": "32GiB"}, "yes")
    again = model.infer(**asked, gpu="4090", **first.change, remedies=False)
    assert (again.verdict.fits, again.peak.expected) == ("yes", first.peak_bytes)


def test_a_larger_card_costs_60_points_a_doubling():
    first, *_ = of_kind(moves(case(gpu="a100-40gb:2", needs=70 * GIB)), "larger device")
    assert first.change == {"gpu": "a100-80gb:2"}
    assert first.points == pytest.approx(60, rel=0.02)
    assert first.cost.words.startswith("2 x A100 SXM4 80GB instead")
    one, *_ = of_kind(moves(case(gpu="a100-40gb", needs=70 * GIB)), "larger device")
    assert one.cost.words.startswith("A100 SXM4 80GB instead")


def test_more_of_the_same_up_to_a_machine_or_four_times_as_many():
    shares = {"shard": "fsdp2", "needs": GIB}
    assert counts(gpu="a100-80gb", **shares) == [2, 4, 8]
    assert counts(gpu="a100-80gb:2", **shares) == [4, 8]
    assert counts(gpu="a100-80gb:3", **shares) == [4, 8]
    assert counts(gpu="a100-80gb:8", **shares) == [16, 32]
    assert counts(gpu="a100-80gb:16", **shares) == [32, 64]


def test_so_many_as_can_hold_it_together():
    """90 GiB on each of two that share: three of 80 GiB could hold that, so four are the next."""
    assert counts(shard="fsdp2", needs=90 * GIB, used=1) == [2, 4, 8]
    assert counts(shard="fsdp2", needs=90 * GIB, used=2) == [4, 8]
    assert counts(shard="fsdp2", needs=90 * GIB, used=0) == [2, 4, 8]
    assert counts(shard="none", needs=90 * GIB, used=8) == [2, 4, 8], "each holds a copy"
    room = case().budget.usable.expected
    assert counts(shard="fsdp2", needs=2 * room) == [2, 4, 8]
    assert counts(shard="fsdp2", needs=2 * room + 1) == [4, 8]


@all_of(
    ("settings", "change"),
    [
        ({"shard": "fsdp2"}, {}),
        ({"shard": "zero3"}, {}),
        ({"shard": "none"}, {"shard": "fsdp2"}),
        ({"shard": "none", "pinned": ("shard",)}, None),
        ({"task": "infer", "engine": "vllm"}, {}),
        ({"task": "infer", "engine": "vllm", "pinned": ("data_parallel_size",)}, None),
        ({"task": "infer"}, {}),
        ({"task": "load"}, {}),
    ],
)
def test_how_they_share_it(settings, change):
    found = more(needs=90 * GIB, **settings)
    assert (found[0] if found else None) == (
        None if change is None else {"gpu": "a100-80gb:2", **change}
    )


def test_no_other_device_runs_what_has_no_kernels():
    assert list(moves(case(gpu="m4-24gb", method="qlora", quantization="nf4"))) == []


# What remains


def held(*phases):
    """A device with components of (name, low, high), by phase."""
    return Device(
        index=0,
        kind="gpu",
        phases=tuple(
            Instant(
                "step",
                tuple(Component(name=n, bytes=Bytes(a, a, b), basis="computed") for n, a, b in p),
            )
            for p in phases
        ),
    )


def move(**more_):
    return Move(kind="any", change={}, cost=prices.CHANGES["eager"], **more_)


def test_the_fullest_phase_after_a_change():
    """Halved weights leave 50 + 30 of large components surely; a context is not one of them."""
    device = held(
        [("weights", 100, 200), ("activations", 30, 40), ("context", 500, 600)],
        [("weights", 100, 200)],
    )
    asked = case(devices=(device,))
    halved = move(touches=frozenset(("weights",)), leaves={"weights": 0.5}, keeps={"weights": 0.6})
    assert asked.least(()) == 130
    assert asked.least((halved,)) == 80
    assert asked.least((halved, halved)) == 55
    assert asked.guessed(()) == 630
    assert asked.guessed((halved,)) == pytest.approx(590)


def test_what_is_fragmented_is_no_guess():
    device = held([("weights", 100, 100), ("fragmentation", 50, 50)])
    asked = case(
        devices=(device, Device(index=0, kind="host", phases=held([("other", 999, 999)]).phases))
    )
    assert asked.guessed(()) == 100
    assert case().least(()) == 0


def test_loading_is_told_of_all_devices_as_one():
    room = case("infer", gpu="a100-80gb").room
    assert case("infer", gpu="a100-80gb:2").room == room
    assert case("load", gpu="a100-80gb:2").room == 2 * room
    assert case("load", gpu="a100-80gb:2").count == 2


def test_more_cards_have_the_name_that_was_typed():
    assert more(gpu="H100", needs=90 * GIB)[0]["gpu"] == "H100:2"
    assert more(gpu="rtx-4090:2", needs=30 * GIB, used=2)[0]["gpu"] == "rtx-4090:4"
    assert more(gpu="2x RTX 4090", needs=30 * GIB, used=2)[0]["gpu"] == "4090:4"
    assert more(gpu="p5.48xlarge", needs=90 * GIB, used=8)[0]["gpu"] == "h100-sxm:16"
