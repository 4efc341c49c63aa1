"""The laws of instants: what binds, what stays, and how roles meet."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from tests.cases import all_of
from weighbridge.base.memory import (
    BOUNDS,
    LEVEL_OF,
    LEVELS,
    ONCE,
    STAYS,
    Bytes,
    Component,
    Device,
    Instant,
    Role,
    around,
    at_once,
    binding,
    compose,
    exactly,
    most,
    peak,
)
from weighbridge.memory.report import _phase

SIZES = st.lists(st.integers(0, 99), min_size=3, max_size=3).map(lambda n: Bytes(*sorted(n)))
PARTS = st.builds(
    Component,
    name=st.sampled_from(sorted(LEVEL_OF)),
    bytes=SIZES,
    basis=st.just("computed"),
    role=st.sampled_from(["", ONCE]),
)
MOMENTS = st.lists(PARTS, max_size=4).map(tuple)
ANSWERS = st.lists(MOMENTS, min_size=1, max_size=3).map(
    lambda moments: tuple(Instant(f"n{i}", parts) for i, parts in enumerate(moments))
)

FEW = settings(max_examples=30)


def sums(instants, bound):
    return [sum(c.bytes[bound] for c in one.components) for one in instants]


def test_bytes_are_exact_where_both_ends_meet():
    assert exactly(3).exact
    assert not Bytes(3, 3, 4).exact
    assert Bytes(1, 2, 9).plus(Bytes(4, 3, 1)) == Bytes(5, 5, 10)
    assert most([Bytes(1, 5, 6), Bytes(2, 3, 9)]) == Bytes(2, 5, 9)


# Which instant binds


def moment(name, *, tensors, free=0):
    parts = [
        Component(name="temporaries", bytes=exactly(tensors), basis="computed"),
        Component(name="fragmentation", bytes=exactly(free), basis="computed"),
    ]
    return Instant(name, tuple(parts))


def fullest(*instants):
    return Device(index=0, kind="gpu", phases=instants).peak_phase


def test_the_instant_in_which_the_driver_shows_most():
    assert fullest(moment("forward", tensors=5), moment("step", tensors=4, free=2)) == "step"


def test_of_instants_that_reserve_alike_the_one_in_which_tensors_take_most():
    """What a step has reserved stays in the allocator's cache all through the next one."""
    forward, step = moment("forward", tensors=4, free=6), moment("step", tensors=9, free=1)
    assert fullest(forward, step) == fullest(step, forward) == "step"


def test_each_bound_has_an_instant_of_its_own():
    sure = Instant("load", (Component(name="weights", bytes=Bytes(5, 5, 5), basis="read"),))
    open_ = Instant("decode", (Component(name="other", bytes=Bytes(1, 4, 9), basis="assumed"),))
    device = Device(index=0, kind="gpu", phases=(sure, open_))
    assert device.peak("driver") == Bytes(5, 5, 9)
    assert (device.binds(sure), device.binds(open_)) == (["low", "expected"], ["high"])


@pytest.mark.slow
@FEW
@given(ANSWERS)
def test_a_peak_is_the_largest_sum_of_one_instant(instants):
    """Law 1, and the ends are in order."""
    most = peak(instants)
    assert most == tuple(max(sums(instants, bound)) for bound in BOUNDS)
    assert most.low <= most.expected <= most.high
    assert all(binding(instants, n).at("driver")[n] == most[n] for n in BOUNDS)
    for lower, higher in pairwise(LEVELS):
        assert all(
            a <= b for a, b in zip(peak(instants, lower), peak(instants, higher), strict=True)
        )


# What stays


def test_what_stays_is_said_of_every_name_once():
    """So that a new component is thought about: what ends with its instant is named here."""
    ends = {"activations", "logits", "gradients", "temporaries", "workspaces", "rounding"}
    assert set(LEVEL_OF) - STAYS == ends | {"fragmentation"}


@FEW
@given(MOMENTS)
def test_an_instant_is_its_residents_and_its_transients(parts):
    one = Instant("step", parts)
    assert sorted(map(id, (*one.residents, *(p for p in one.components if not p.stays)))) == sorted(
        map(id, parts)
    )
    passing = Instant("step", tuple(replace(c, passing=True) for c in parts))
    assert not passing.residents


# Caches of these have no pool: they grow with each token, and are copied as they do
GROWING = {("kv_cache", engine) for engine in ("transformers", "mlx")}
GROWING |= {("recurrent_state", "transformers"), ("buffers", "megatron")}  # a batch's mask
QUESTIONS = {
    "transformers": {"task": "infer"},
    "transformers with a draft": {"task": "infer", "draft_model": "qwen3-0.6b"},
    "vllm": {"task": "infer", "engine": "vllm", "gpu": "h100:2", "tensor_parallel_size": 2},
    "sglang": {"task": "infer", "engine": "sglang", "gpu": "h100"},
    "llama.cpp": {"task": "infer", "engine": "llama.cpp", "gpu": "4090"},
    "ollama": {"task": "infer", "engine": "ollama", "gpu": "3060"},
    "mlx": {"task": "infer", "engine": "mlx", "gpu": "m3-max-36gb"},
    "full": {"task": "train", "gpu": "h100"},
    "qlora": {"task": "train", "method": "qlora", "gpu": "4090"},
    "fsdp2": {"task": "train", "shard": "fsdp2", "gpu": "h100:8"},
    "zero3, offloaded": {"task": "train", "shard": "zero3", "offload": "params", "gpu": "h100:8"},
    "megatron": {"task": "train", "framework": "megatron", "gpu": "h100:8"},
}


MODEL = weighbridge.prepare("qwen3-4b")


def answered(name):
    asked = dict(QUESTIONS[name])
    return getattr(MODEL, asked.pop("task"))(remedies=False, **asked)


def residents(device):
    """The bytes of each resident in each instant that has it, once all is loaded."""
    there = {}
    for one in device.phases:
        sizes = {}
        for c in one.residents if one.name != "load" else ():
            key = c.name, c.detail
            sizes[key] = sizes.get(key, 0) + c.bytes.expected
        for key, nbytes in sizes.items():
            there.setdefault(key, set()).add(nbytes)
    return there


@pytest.mark.slow
@all_of("name", QUESTIONS)
def test_a_resident_is_the_same_at_each_instant(name):
    """Law 3, of every engine and of training."""
    report = answered(name)
    program = report.workload["framework" if report.task == "train" else "engine"]
    for device in report.devices[:1] + report.devices[-1:]:
        for (part, detail), sizes in residents(device).items():
            assert len(sizes) == 1 or (part, program) in GROWING, (part, detail, sizes)


@pytest.mark.slow
@all_of("name", QUESTIONS)
def test_a_process_is_there_at_each_instant(name):
    for device in answered(name).devices:
        for one in device.phases:
            assert [c for c in one.components if c.role == ONCE], (device.kind, one.name)
            assert all(c.role == ONCE for c in one.components if c.name == "context")


MOVED = {  # (settings that keep all on the cards, those that move, which instant, what moves)
    "zero2": ({"shard": "zero2"}, {"offload": "optimizer"}, "step", "states"),
    "zero3": ({"shard": "zero3"}, {"offload": "params"}, "step", "states"),
    "fsdp2": ({"shard": "fsdp2"}, {"offload": "params"}, "step", "states"),
    "layers": ({"engine": "llama.cpp"}, {"n_gpu_layers": 10}, "decode", "weights"),
    "sleep": ({"engine": "vllm"}, {"enable_sleep_mode": True}, "sleep", "weights"),
}
STATES = ("optimizer_states", "master_weights", "weights")


@pytest.mark.slow
@all_of("name", MOVED)
def test_what_is_moved_is_on_the_host(name):
    """Law 5: all that is away from the cards is in host memory at the same instant."""
    settings, moves, when, what = MOVED[name]
    ask, gpu = (MODEL.train, "h100:8") if "shard" in settings else (MODEL.infer, "h100")
    there = ask(remedies=False, gpu=gpu, **settings).devices
    moved = ask(remedies=False, gpu=gpu, **settings, **moves).devices
    names = STATES if what == "states" else ("weights",)

    def on(devices, kind):
        chosen = (d for d in devices if d.kind == kind)
        instants = (p for d in chosen for p in d.phases if p.name == when)
        return sum(c.bytes.expected for p in instants for c in p.residents if c.name in names)

    gone = on(there, "gpu") - on(moved, "gpu")
    if when == "sleep":  # a card has no such instant: nothing is on it then
        gone = there[0].phases[-1].of("weights").expected
    assert 0 < gone <= on(moved, "host") - on(there, "host")


DRAFTS = {
    "transformers": {"draft_model": "qwen3-0.6b"},
    "vllm": {"speculative_method": "draft", "draft_model": "qwen3-0.6b", "gpu": "h100"},
    "sglang": {"speculative_method": "draft", "draft_model": "qwen3-0.6b", "gpu": "h100"},
    "llama.cpp": {"draft_model": "qwen3-0.6b", "gpu": "4090"},
}


@pytest.mark.slow
@all_of("engine", DRAFTS)
def test_a_draft_model_has_a_role(engine):
    card, *_ = MODEL.infer(remedies=False, engine=engine, **DRAFTS[engine]).devices
    drafts = {c.name: c.role for c in card.binding().components if "draft" in c.detail}
    assert "weights" in drafts
    assert set(drafts.values()) == {"draft"}
    assert sum(c.role == ONCE and c.name == "context" for c in card.phases[0].components) == 1


@pytest.mark.slow
def test_what_passes_is_of_loading_and_saving_alone():
    report = MODEL.train(gpu="h100", remedies=False, dtype="float32")
    host = report.devices[-1]
    passing = {one.name: [c for c in one.components if c.passing] for one in host.phases}
    assert passing["load"]
    assert passing["save"]
    assert not passing["step"]
    report = answered("zero3, offloaded")
    assert "weights" in {c.name for p in report.devices[-1].phases for c in p.residents}


# How roles meet


@FEW
@given(ANSWERS, ANSWERS)
def test_roles_at_once_take_what_each_takes_at_most(one, other):
    """Law 6: the sum of each one's fullest instant, for each bound."""
    together = peak(at_once({"a": Role.of(one), "b": Role.of(other)}))
    assert together == peak(one).plus(peak(other))


@FEW
@given(ANSWERS, ANSWERS)
def test_roles_in_turn_take_what_the_larger_takes(one, other):
    roles = {"a": Role.of(one), "b": Role.of(other)}
    turns = [
        (p.name, {name: p.name}) for name, role in roles.items() for p in role.instants.values()
    ]
    most = (max(pair) for pair in zip(peak(one), peak(other), strict=True))
    assert peak(compose(turns, roles)) == tuple(most)


@FEW
@given(ANSWERS, ANSWERS)
def test_a_role_or_a_resident_less_never_needs_more(one, other):
    """Law 2."""
    roles = {"a": Role.of(one), "b": Role.of(other)}
    schedule = [("both", {"a": one[0].name, "b": other[0].name})]
    both, alone = compose(schedule, roles), compose([("one", {"a": one[0].name})], roles)
    assert all(a <= b for a, b in zip(peak(alone), peak(both), strict=True))
    (whole,) = both
    for resident in whole.residents:
        fewer = tuple(c for c in whole.components if c is not resident)
        less = Instant(whole.name, fewer)
        assert all(a <= b for a, b in zip(less.at("driver"), whole.at("driver"), strict=True))


CONTEXT = Component(name="context", bytes=exactly(5), basis="read", role=ONCE)
WEIGHTS = Component(name="weights", bytes=exactly(7), basis="read")


def test_a_process_has_one_context():
    """Law 4: an engine in the trainer's process has none of its own."""
    held = {"rollout": Instant("rollout", (CONTEXT, WEIGHTS))}
    for process, nbytes in (("python", 19), ("", 24)):
        roles = {name: Role(held, process) for name in ("actor", "engine")}
        (met,) = compose([("rollout", dict.fromkeys(roles, "rollout"))], roles)
        assert met.at("driver") == exactly(nbytes)
        owners = [c.role for c in met.components if c.name == "weights"]
        assert owners == ["actor", "engine"]


def test_the_group_of_devices_is_told_where_there_are_several():
    one = Instant("rollout", (WEIGHTS,), devices="serve")
    assert _phase(Device(index=0, kind="gpu", phases=(one,)), one)["devices"] == "serve"
    alone = replace(one, devices="")
    assert "devices" not in _phase(Device(index=0, kind="gpu", phases=(alone,)), alone)


def test_what_instants_have_in_common_stands_once():
    load, step = around((CONTEXT,), {"load": (), "step": (WEIGHTS,)})
    assert (load.components, step.components) == ((CONTEXT,), (CONTEXT, WEIGHTS))


def test_what_an_engine_reserves_is_there_whatever_it_needs():
    one = Instant("decode", (WEIGHTS,))
    device = Device(index=0, kind="gpu", phases=(one,), taken=10)
    assert device.reserving(one).at("driver") == exactly(10)
    assert replace(device, taken=6).reserving(one).at("driver") == exactly(7)
    assert replace(device, taken_at_least=8).reserving(one).at("driver") == exactly(8)
    assert replace(device, taken=None).reserving(one) is one
