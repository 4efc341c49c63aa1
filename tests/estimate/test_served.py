"""What an engine's own share of a card makes of the verdict, and the pieces of a question: by hand."""

from types import SimpleNamespace

import pytest

import weighbridge
from tests.charts.made import HOLDS
from weighbridge.answers import bounds
from weighbridge.answers.estimate import exact, infer, limits, served, train
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.records import replace
from weighbridge.engines.interface import EngineAnswer, HeldBytes, Serves
from weighbridge.engines.table import engine
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.names import DeviceChoice, sized
from weighbridge.memory.components.device import OPEN
from weighbridge.memory.report.verdict import Condition
from weighbridge.workload import read

INFER = read("infer", {})
COMMAND = INFER.but(engine_defaults=True)


def phase(**components):
    parts = (Component(name=n, bytes=b, basis="computed") for n, b in components.items())
    return Instant("decode", tuple(parts))


def device(kind="gpu", **components):
    return Device(index=0, kind=kind, phases=(phase(**components),))


def room(nbytes, count=1):
    return Budget(choice=DeviceChoice(part=sized(f"{nbytes}B"), count=count), headroom=0)


# 11 to 13 bytes: they fit in 13, may in 12 and 11, and do not in 10
NEED = device(weights=exactly(10), context=Bytes(1, 2, 3))


def answer(surely=None, *, flags="", settings=None, derived=None, changed=(), change=None, **more):
    serves = surely and Serves(
        conditions=(HOLDS[surely],),
        lacks="no room for one request",
        flags=flags,
        changed=changed,
        change=change or {},
        **more,
    )
    return EngineAnswer(
        devices=(NEED,), settings=settings or {}, derived=derived or {}, serves=serves
    )


@pytest.mark.parametrize(
    ("surely", "memory", "fits", "lacks"),
    [
        (None, 13, "yes", False),
        ("yes", 13, "yes", False),
        ("yes", 12, "unknown", False),
        ("unknown", 13, "unknown", True),
        ("unknown", 12, "unknown", False),  # what the card lacks is the reason
        ("no", 13, "no", True),
        ("no", 12, "no", True),
        ("no", 10, "no", False),
    ],
)
def test_a_card_and_an_engines_share_of_it_both_decide(surely, memory, fits, lacks):
    verdict = served.verdict(answer(surely), INFER, "vllm", room(memory))
    assert verdict.fits == fits
    assert (verdict.reason == "no room for one request") == lacks


@pytest.mark.parametrize(
    ("workload", "memory", "derived", "begins"),
    [
        (
            INFER,
            13,
            {},
            "with its defaults vllm would not serve this; the line below does, with --eager: ",
        ),
        (
            INFER,
            12,
            {},
            "with its defaults vllm would not serve this; the line below may, with --eager: ",
        ),
        (
            INFER,
            13,
            {"serves_as_asked": True, "launch": "vllm serve"},
            "with its defaults vllm may not serve this; the line below does, with --eager: ",
        ),
        (COMMAND, 13, {}, ""),
    ],
)
def test_flags_that_a_launch_needs_are_said(workload, memory, derived, begins):
    found = answer("yes", flags="--eager", derived=derived)
    verdict = served.verdict(found, workload, "vllm", room(memory))
    plain = served.verdict(answer(), workload, "vllm", room(memory))
    assert verdict.reason == begins + plain.reason


@pytest.mark.parametrize(("left", "short"), [(29, "kv_cache"), (-1, "weights")])
def test_what_a_share_is_too_small_for(left, short):
    """A cache of 30 bytes, beside weights that leave some, or nothing."""
    cache = Condition("kv_cache", exactly(30), exactly(left))
    found = replace(answer("no"), serves=Serves(conditions=(cache,)))
    assert served.verdict(found, INFER, "vllm", room(100)).tipped_by == short


@pytest.mark.parametrize(
    ("launches", "fits", "serves"),
    [(True, "yes", True), (True, "unknown", True), (True, "no", False), (False, "yes", False)],
)
def test_what_serves_as_asked_is_the_line_that_is_written(launches, fits, serves):
    facts = {"serves_as_asked": False, "launch_serves": launches}
    found = served.as_asked(facts, INFER, SimpleNamespace(fits=fits))
    assert (found["serves_as_asked"], found["serves_by_default"]) == (serves, False)
    assert served.as_asked(facts, COMMAND, None) is facts
    assert served.as_asked({}, INFER, None) == {}
    assert served.as_asked(facts, INFER, None)["serves_as_asked"] == launches


@pytest.mark.parametrize(
    ("room_says", "then", "fits"),
    [("yes", "yes", "yes"), ("yes", "unknown", "unknown"), ("unknown", "yes", "unknown")],
)
def test_flags_that_serve_are_a_remedy(room_says, then, fits):
    changed = (device(weights=exactly(10)), device(weights=exactly(14)), device("host"))
    change = {"max_num_seqs": 1, "max_running_requests": 1, "enforce_eager": True, "other": 1}
    found = answer("no", flags="--eager", changed=changed, change=change, then=then)
    (remedy,) = served.remedies(found, lambda devices: room_says)
    assert (remedy.change, remedy.peak_bytes, remedy.fits) == (change, 14, fits)
    assert remedy.cost == (
        "fewer requests may run at once; no CUDA graphs: tokens are written more slowly"
    )
    assert list(served.remedies(answer("no"), lambda devices: "yes")) == []
    assert list(served.remedies(answer(), lambda devices: "yes")) == []


# How a server is spread over cards


@pytest.mark.parametrize(
    ("asked", "spread"),
    [
        ({"gpu": "h100"}, [(None, None)]),
        ({"gpu": "h100:2"}, [(2, None), (None, 2), (None, None)]),
        ({"gpu": "h100:16"}, [(8, 2), (16, None), (None, 16), (None, None)]),
        ({"gpu": "h100:2", "pipeline_parallel_size": 2}, [(None, 2)]),
        ({"gpu": "h100:2", "engine_defaults": True}, [(None, None)]),
        ({}, [(None, None)]),
    ],
)
def test_the_ways_in_which_a_server_is_spread(asked, spread):
    def ways(name):
        workload = INFER.but(engine=name, **asked)
        found = list(infer._spread(workload, engine(name)))
        return [(one.tensor_parallel_size, one.pipeline_parallel_size) for one in found]

    assert ways("vllm") == spread
    assert ways("transformers") == spread[-1:]  # no server


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("vllm", None, "not vllm: leave it out"),
        ("transformers", "0.1", "--exact (needs|runs transformers)"),
    ],
)
def test_only_installed_classes_of_transformers_run(name, version, says):
    with pytest.raises(UnsupportedError, match=says):
        exact.ready(name, version)


LIKE = bounds.RunForm("serve", "vllm")


def test_a_quick_verdict_is_that_of_the_fullest_device_with_margins():
    """On one card and on two, whose margins differ; on fewer cards than ranks it is no."""
    parts = [[[("weights", exactly(10**9)), ("activations", exactly(10**8))]]]
    for gpus in (1, 2):
        high = bounds.highest(parts, LIKE, several=gpus > 1)
        held = HeldBytes(gpus=gpus, kinds=parts)
        assert limits._enough(limits._spare(held, LIKE, room(high, gpus)))
        assert not limits._enough(limits._spare(held, LIKE, room(high - 1, gpus)))
        assert not limits._enough(
            limits._spare(held._replace(surely="unknown"), LIKE, room(high, gpus))
        )
    assert not limits._enough(limits._spare(HeldBytes(gpus=2, kinds=parts), LIKE, room(high, 1)))
    assert bounds.highest(parts, LIKE, several=True) != bounds.highest(parts, LIKE, several=False)


def test_figures_beside_devices_have_the_margins_of_as_many():
    told = [10**9, 2 * 10**9, 3 * 10**9]
    quantity, level = infer.TOLD["serving_interval"]
    for devices in ((NEED,), (NEED, NEED), (NEED, device("host"))):
        several = len([one for one in devices if one.kind == "gpu"]) > 1
        found = EngineAnswer(devices=devices, settings={}, derived={"serving_interval": told})
        around = bounds.around(Bytes(*told), LIKE, quantity, level, several=several)
        assert infer.widened(found, LIKE).derived["serving_interval"] == list(around)


@pytest.mark.parametrize("most", [1, 2, 7, 100])
@pytest.mark.parametrize("near", [1, 3, 50, 100])
def test_a_search_ends_at_the_last_number_that_holds(most, near):
    for last in range(most + 1):
        assert limits.largest(lambda n, last=last: n <= last, most, near) == last
        wrong = [1, last, last + 1, most]  # a quick way that is wrong is not trusted
        for other in wrong:
            found = limits.largest(
                lambda n, last=last: n <= last, most, near, quick=lambda n, other=other: other - n
            )
            assert found == last


@pytest.mark.parametrize(
    ("asked", "context", "prompt"),
    [
        ({}, 100, None),
        ({"prompt_len": 50, "max_new_tokens": 20}, 100, 80),
        ({"prompt_len": 50}, 100, 100),
        ({"prompt_len": 50, "max_new_tokens": 20}, 20, 1),
    ],
)
def test_a_longer_context_is_a_longer_prompt(asked, context, prompt):
    workload = limits._of_length(read("infer", asked), context)
    assert (workload.context, workload.prompt_len) == (context, prompt)


def test_a_bare_size_by_hand():
    """7 billion are (7e9 / 12 / 128^2)^(1/3) = 33 layers, 33 x 128 wide: 2 x 33 x 4,224 x 2 bytes a
    token in 16 bits, where models of today keep a quarter, or a sixteenth."""
    report = weighbridge.infer("7B", context=1000, batch_size=2)
    held = {c.name: c.bytes for c in report.devices[0].phases[-1].components}
    token = 2 * 33 * (33 * 128) * 2
    assert held["kv_cache"] == Bytes(2000 * token // 16, 2000 * token // 4, 2000 * token)
    assert held["activations"] == Bytes(0, 14 * 10**9 // 50, 14 * 10**9 // 10)
    assert report.derived["kv_cache_bytes_per_token"] == token // 4


# Training: what a run has beside tensors, where it is open whether it fits


def test_bytes_that_may_be_beside_expected_tensors():
    """Weights may be 3 more than expected, a context 6; the free room of segments is torch's to
    give back."""
    one = phase(weights=Bytes(10, 12, 15), fragmentation=Bytes(1, 2, 4), context=Bytes(3, 5, 6))
    assert train._beside_tensors(one) == 3 + 6 + OPEN


@pytest.mark.parametrize(
    ("fits", "beside", "again", "asked"),
    [
        ("yes", 30, "yes", None),
        ("no", 30, "yes", None),
        ("unknown", 30, "yes", 70),  # of 100, the fuller device leaves 70
        ("unknown", 30, "unknown", 70),
        ("unknown", 100, "yes", None),  # nothing is left for tensors
    ],
)
def test_a_run_that_is_open_is_run_again_in_what_is_left(monkeypatch, fits, beside, again, asked):
    first, second = (EngineAnswer(devices=(NEED, device("host")), settings={}) for _ in range(2))
    verdicts, rooms = [fits, again], []

    def answered(plan, budget, most, stages):
        rooms.append(most)
        return second

    monkeypatch.setattr(train, "answer", answered)
    monkeypatch.setattr(train, "_beside_tensors", lambda phase: beside)
    monkeypatch.setattr(train, "_widened", lambda found, *more: found.devices)
    monkeypatch.setattr(
        train.on_devices, "serving", lambda *more: SimpleNamespace(fits=verdicts.pop(0))
    )
    found = train._given_back(first, None, room(100), LIKE, ())
    assert rooms == ([] if asked is None else [asked])
    assert found is first if asked is None or again != "yes" else found == second


@pytest.mark.parametrize(("least", "rooms"), [("unknown", 0), ("yes", 1)])
def test_a_run_that_does_not_surely_fit_by_count_is_not_run_again(monkeypatch, least, rooms):
    first, second = (EngineAnswer(devices=(NEED, device("host")), settings={}) for _ in range(2))
    verdicts, asked = ["unknown", least, "yes"], []

    def answered(plan, budget, most=None, stages=None, *, runs=None, counts=False):
        asked.append(counts)
        return second

    monkeypatch.setattr(train, "answer", answered)
    monkeypatch.setattr(train, "_beside_tensors", lambda phase: 30)
    monkeypatch.setattr(train, "_widened", lambda found, *more: found.devices)
    monkeypatch.setattr(
        train.on_devices, "serving", lambda *more: SimpleNamespace(fits=verdicts.pop(0))
    )
    stages = (SimpleNamespace(counted=True),)
    found = train._given_back(first, None, room(100), LIKE, stages)
    assert asked == [True] + [False] * rooms
    assert (found is first) is (rooms == 0)


@pytest.mark.parametrize(
    ("usable", "highs"),
    [
        (40, (20, 4, 10)),  # nothing is beyond the card
        (30, (20, 4, 6)),  # of the margin alone
        (25, (20, 4, 1)),
        (23, (20, 3, 0)),  # then of free room, down to what is expected
    ],
)
def test_a_run_that_comes_to_its_end_takes_no_more_than_the_card(usable, highs):
    """What is expected is that of the whole card: a width that makes a verdict open narrows no
    other (torchtitan pull 1610: 78.1 GiB were reserved, where the least that ends is 67.3)."""
    wide = phase(weights=exactly(20), fragmentation=Bytes(0, 2, 4))
    margin = Component(name="other", detail="margin", bytes=Bytes(0, 0, 10), basis="assumed")
    wide = replace(wide, components=(*wide.components, margin))
    found = train._within(wide, phase(weights=exactly(1)), usable)
    assert tuple(c.bytes.high for c in found.components) == highs
    assert found.at("driver").expected == 22
    assert found.at("driver").high == min(usable, 34)


def test_a_run_that_needs_more_than_the_card_is_the_one_that_ended():
    wide, ended = (
        phase(weights=exactly(20), fragmentation=Bytes(0, 9, 9)),
        phase(weights=exactly(20)),
    )
    (card, host) = train._ended(
        (device(weights=exactly(20), fragmentation=Bytes(0, 9, 9)), device("host")),
        (device(weights=exactly(20)), device("host")),
        25,
    )
    assert card.phases == (ended,) == (train._within(wide, ended, 25),)
    assert host == device("host")


@pytest.mark.parametrize(
    ("tensor", "pipeline", "context", "sharing"),
    [
        (1, 1, 1, "fsdp2"),
        (2, 1, 1, "layers in parts"),
        (1, 2, 1, "layers in parts"),
        (1, 1, 2, "layers in parts"),
    ],
)
def test_layers_in_parts_are_runs_of_another_kind(tensor, pipeline, context, sharing):
    sharding = SimpleNamespace(tensor=tensor, pipeline=pipeline, context=context, kind="fsdp2")
    assert train._sharing(SimpleNamespace(sharding=sharding)) == sharing


def test_an_engine_of_a_share_holds_no_tokens_where_loading_is_too_much():
    taking = Device(index=0, kind="gpu", phases=NEED.phases, taken=9)
    found = EngineAnswer(devices=(taking,), settings={}, derived={"kv_cache_tokens": 7})
    assert infer._unloaded(found, room(11)) is found
    assert infer._unloaded(found, None) is found
    none = infer._unloaded(found, room(10)).derived
    assert none == {
        "kv_cache_tokens": 0,
        "max_concurrency": 0.0,
        "serves_as_asked": False,
        "launch_serves": False,
    }


def test_a_bare_size_is_laid_out_over_all_cards():
    """Half of the weights on each of two, by hand: 70 B in 16 bits are 140 GB."""
    two = weighbridge.infer("70B", gpu="h100:2")
    held = [
        next(c for c in d.phases[0].components if c.name == "weights").bytes for d in two.devices
    ]
    assert len(held) == 2
    assert held[0].expected == held[1].expected == 70 * 10**9
    assert held[0].low < held[0].expected < held[0].high
    one = weighbridge.infer("70B", gpu="h100:2", engine="vllm", tensor_parallel_size=1)
    assert one.devices[0].phases[0].components[0].bytes.expected == 140 * 10**9
