"""What an engine's own share of a card makes of the verdict, and the pieces of a question: by hand."""

from functools import cache
from types import SimpleNamespace

import pytest

import weighbridge
from tests.ask import usual
from tests.charts.made import HOLDS
from tests.engines.answers import of_config
from tests.tiny import config
from weighbridge.answers import bounds
from weighbridge.answers.estimate import exact, infer, limits, served, train
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.records import replace
from weighbridge.engines.interface import EngineAnswer, Serves
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.machines.accelerators.names import DeviceChoice, sized
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
    ("heads", "layers", "asked", "spread"),
    [
        (8, 2, {"gpu": "h100"}, (1, 1)),
        (8, 2, {"gpu": "h100:2"}, (2, 1)),  # each layer over both
        (8, 2, {"gpu": "h100:16"}, (8, 2)),  # over a machine, with a stage on each
        (16, 1, {"gpu": "h100:16"}, (16, 1)),  # one layer has no two stages
        (3, 16, {"gpu": "h100:2"}, (1, 2)),  # two cards do not divide three heads
        pytest.param(3, 16, {"gpu": "h100:16"}, (1, 16), marks=pytest.mark.slow),
        (3, 1, {"gpu": "h100:2"}, (1, 1)),  # neither heads nor layers are divided: one card
        (8, 2, {"gpu": "h100:2", "pipeline_parallel_size": 2}, (1, 2)),
        (8, 2, {}, (1, 1)),
    ],
)
def test_a_server_takes_the_first_spread_over_the_cards_that_it_runs(heads, layers, asked, spread):
    """(cards that share each layer, stages of layers), of a model with so many heads and layers."""
    wide = {"num_attention_heads": heads, "num_key_value_heads": heads, "hidden_size": 16 * heads}
    model = config("llama", num_hidden_layers=layers, **wide)
    said = weighbridge.infer(model, engine="vllm", **asked).workload
    assert (said["tensor_parallel_size"], said["pipeline_parallel_size"]) == spread


def test_what_is_no_server_deals_layers_out_over_the_cards():
    found = weighbridge.infer(config("llama"), engine="transformers", gpu="h100:2")
    assert [one.kind for one in found.devices] == ["gpu", "gpu", "host"]


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "gpu", "more"),
    [
        ("transformers", "2GB", {}),
        ("transformers", "2GB:2", {}),  # whose margins are those of two
        ("vllm", "t4", {"max_num_seqs": 16, "enforce_eager": True}),  # beyond it vLLM may serve
        ("sglang", "t4", {}),
    ],
)
def test_the_largest_numbers_surely_fit_and_one_more_does_not(engine, gpu, more):
    """Of tokens and of requests, by the verdicts on both."""
    model = config("llama", max_position_embeddings=10**8)
    ask = usual("infer", model, engine=engine, gpu=gpu, **more)
    facts = ask(context=256).derived
    for name, (most, usually) in {
        "context": (facts["largest_context"], {}),
        "batch_size": (facts["largest_batch_size"], {"context": 256}),
    }.items():
        assert most > 1
        assert ask(**usually, **{name: most}).verdict.fits == "yes"
        if most < facts["searched_to"][name]:
            assert ask(**usually, **{name: most + 1}).verdict.fits == "unknown"


@pytest.mark.slow
def test_a_card_of_two_ranks_has_room_for_none_of_them_alone():
    """Of tokens and of requests at once, where two ranks are asked for."""
    ask = usual("infer", config("llama"), engine="vllm", gpu="t4")
    facts = ask(tensor_parallel_size=2).derived
    assert (facts["largest_context"], facts["largest_batch_size"]) == (0, 0)
    assert ask(tensor_parallel_size=1).derived["largest_batch_size"] > 0


@pytest.mark.slow
def test_nothing_surely_fits_where_an_engine_may_not_start():
    """vLLM takes 97 % of 24 GiB, and beside it are 0.2 to 1.3 GiB where 0.7 are left: so it is of
    every length and number of requests."""
    ask = usual("infer", config("llama"), engine="vllm", gpu="24GiB", gpu_memory_utilization=0.97)
    found = ask(context=64)
    assert found.verdict.fits == ask(context=2048).verdict.fits == "unknown"
    assert (found.derived["largest_context"], found.derived["largest_batch_size"]) == (0, 0)


def test_what_does_not_load_serves_neither_as_asked_nor_by_default():
    """3.5e9 parameters: 7.2 GB for a card of 7.1 before vLLM 0.9 makes 8 bits of 16, and half of it
    afterwards."""
    wide = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 16}
    model = config("llama", **wide, num_attention_heads=32, num_key_value_heads=8)
    ask = usual("infer", model, engine="vllm", engine_version="0.9.2", quantization="fp8")
    facts = ask(gpu="6.6GiB", context=512).derived
    assert not any(facts[f"serves_{way}"] for way in ("as_asked", "by_default"))
    assert (facts["launch_serves"], facts["kv_cache_tokens"]) == (False, 0)
    assert ask(gpu="9GiB", context=512).derived["serves_by_default"]


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


@pytest.mark.slow
@pytest.mark.parametrize("written", [20, 3000])
def test_a_longer_context_is_a_longer_prompt(written):
    """What is written stays, and the rest is the prompt, which mlx-lm reads in pieces of 512 tokens:
    the last piece says how much room it needs. The question about the largest context with such a
    prompt says yes, and with a prompt of one token more it does not."""
    model = config("wide", max_position_embeddings=10**7)
    settings = {"gpu": "m4-16gb", "prefill_step_size": 512, "max_new_tokens": written}
    ask = usual("infer", model, engine="mlx", **settings)
    most = ask(prompt_len=50).derived["largest_context"]
    assert most > 10**6
    assert ask(prompt_len=most - written).verdict.fits == "yes"
    assert ask(prompt_len=most + 1 - written).verdict.fits == "unknown"


def test_a_prompt_has_a_token_at_least():
    workload = limits._of_length(read("infer", {"prompt_len": 50, "max_new_tokens": 20}), 20)
    assert (workload.context, workload.prompt_len) == (20, 1)


def test_a_bare_size_by_hand():
    """6 billion are (6e9 / 12 / 128^2)^(1/3) = 31 layers, 31 x 128 wide: 2 x 31 x 3,968 x 2 bytes a
    token in 16 bits, where models of today keep a quarter, or a sixteenth."""
    report = weighbridge.infer("6B", context=1000, batch_size=2)
    held = {c.name: c.bytes for c in report.devices[0].phases[-1].components}
    token = 2 * 31 * (31 * 128) * 2
    assert held["kv_cache"] == Bytes(2000 * token // 16, 2000 * token // 4, 2000 * token)
    assert held["activations"] == Bytes(0, 12 * 10**9 // 50, 12 * 10**9 // 10)
    assert report.derived["kv_cache_bytes_per_token"] == token // 4


# Training: what a run has beside tensors, where it is open whether it fits


TRAINED = usual("train", config("wide"), seq_len=2048, batch_size=4)
CUT = 10**5  # bytes of a step in which cards are smaller than the most that the run may take


def of_phases(report):
    """The components of each phase of the card, by name."""
    return {p.name: p.components for p in report.devices[0].phases}


def high_ends(components):
    return sum(one.bytes.high for one in components)


@cache
def uncut():
    """A run without a card: its phases, and the most bytes that it may take."""
    phases = of_phases(TRAINED())
    return phases, max(map(high_ends, phases.values()))


@pytest.mark.parametrize(
    ("less", "fits"),
    [(0, "yes"), (600, "unknown"), (690, "yes"), (790, "yes"), (850, "yes")],
)
def test_a_run_that_is_open_fits_where_it_ends_in_what_is_left(less, fits):
    """torch gives free blocks back before it gives up. On a card that is 60 MB smaller than what the
    run may take it does not have to, and the margin alone leaves it open; on one that is 69 MB
    smaller it does, and comes to its end."""
    _, most = uncut()
    report = TRAINED(gpu_memory=f"{most - less * CUT}B", headroom=0)
    assert report.verdict.fits == fits
    if fits == "unknown":
        held = {name: high_ends(parts) for name, parts in of_phases(report).items()}
        assert held == {name: high_ends(parts) for name, parts in uncut()[0].items()}


@pytest.mark.parametrize(("least", "rooms"), [("unknown", 0), ("yes", 1)])
def test_a_run_that_does_not_surely_fit_by_count_is_not_run_again(monkeypatch, least, rooms):
    first, second = (
        EngineAnswer(devices=(device(weights=exactly(70)), device("host")), settings={})
        for _ in range(2)
    )
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
    ("less", "cut"),
    [
        (0, (0, 0, 0)),  # nothing is beyond the card
        (700, (58_117_892, 1_485_789, 10_396_319)),  # margins first, and then free room: 70 MB
        (790, (58_117_892, 1_485_789, 19_396_319)),
    ],
)
def test_a_run_that_comes_to_its_end_takes_no_more_than_the_card(less, cut):
    """What is expected is that of the whole card: a width that makes a verdict open narrows no
    other (torchtitan pull 1610: 78.1 GiB were reserved, where the least that ends is 67.3)."""
    before, most = uncut()
    size = most - less * CUT
    found = of_phases(TRAINED(gpu_memory=f"{size}B", headroom=0))
    highs = {(c.name, c.detail): c.bytes.high for c in before["backward"]}
    left = {(c.name, c.detail): c.bytes.high for c in found["backward"]}
    parts = (("other", "margin"), ("temporaries", "margin"), ("fragmentation", ""))
    assert tuple(highs[part] - left[part] for part in parts) == cut
    assert {p: n for p, n in left.items() if p not in parts} == {
        p: n for p, n in highs.items() if p not in parts
    }
    for name, components in found.items():
        assert high_ends(components) == min(high_ends(before[name]), size)
        assert [c.bytes.expected for c in components] == [c.bytes.expected for c in before[name]]


def test_a_run_that_needs_more_than_the_card_is_the_one_that_ended():
    """On a card that is 82 MB smaller, 80.6 MB are margins and free room of the backward pass that
    may be less; there and in the step it is told of the run that ended, whose segments are fewer."""
    before, most = uncut()
    found = of_phases(TRAINED(gpu_memory=f"{most - 820 * CUT}B", headroom=0))
    expected = {
        name: sum(c.bytes.expected for c in before[name])
        - sum(c.bytes.expected for c in components)
        for name, components in found.items()
    }
    assert {name for name, less in expected.items() if less > 0} == {"backward", "step"}
    assert all(high_ends(components) <= most - 820 * CUT for components in found.values())


@pytest.mark.parametrize(
    ("asked", "sharing"),
    [
        ({"shard": "fsdp2"}, "fsdp2"),
        ({"shard": "fsdp2", "tensor_parallel_size": 2}, "layers in parts"),
        ({"shard": "fsdp2", "pipeline_parallel_size": 2}, "layers in parts"),
        ({"shard": "fsdp2", "context_parallel_size": 2}, "layers in parts"),
    ],
)
def test_layers_in_parts_are_runs_of_another_kind(asked, sharing):
    question = read("train", {"framework": "torchtitan", "gpu": "h100:4", "seq_len": 64, **asked})
    assert train.run(of_config(config("llama")), question).like.sharing == sharing


@pytest.mark.slow
def test_an_engine_of_a_share_holds_no_tokens_where_loading_is_too_much():
    """50 blocks of 16 tokens were asked for, and the model has 2,048: 0.39 of a request. A card has
    room as long as it has that for the least that loading may take."""
    ask = usual("infer", config("llama"), engine="vllm", num_gpu_blocks_override=50)
    least = ask(gpu_memory="8GB").devices[0].phases[0].at("driver").low
    for nbytes, told in ((least, (800, 0.39)), (least - 1, (0, 0.0))):
        facts = ask(gpu_memory=f"{nbytes}B", headroom=0).derived
        assert (facts["kv_cache_tokens"], facts["max_concurrency"]) == told
        assert (facts["serves_as_asked"], facts["launch_serves"]) == (False, False)


def test_a_bare_size_is_laid_out_over_all_cards():
    """Half of the weights on each of two, by hand: 60 B in 16 bits are 120 GB."""
    two = weighbridge.infer("60B", gpu="h100:2")
    held = [
        next(c for c in d.phases[0].components if c.name == "weights").bytes for d in two.devices
    ]
    assert len(held) == 2
    assert held[0].expected == held[1].expected == 60 * 10**9
    assert held[0].low < held[0].expected < held[0].high
    one = weighbridge.infer("60B", gpu="h100:2", engine="vllm", tensor_parallel_size=1)
    assert one.devices[0].phases[0].components[0].bytes.expected == 120 * 10**9
