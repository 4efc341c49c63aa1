"""Laws of llama.cpp's buffers, over models of every kind, builds, splits and settings."""

from dataclasses import replace
from operator import ge
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, given, settings

import weighbridge
from tests.cases import each
from tests.engines.answers import answer, named
from weighbridge.base.memory import LEVELS
from weighbridge.base.units import align_up
from weighbridge.engines.llama_cpp import compute
from weighbridge.engines.llama_cpp.compute import alone, placement, replayed, reserved, step_of
from weighbridge.engines.llama_cpp.ggml.scheduler import BufferPool
from weighbridge.engines.llama_cpp.holdings import DeviceHoldings
from weighbridge.engines.llama_cpp.infer import hold
from weighbridge.engines.model_classes import of_gguf, row_of
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.workload import Infer

pytestmark = pytest.mark.slow

MODELS = (
    *("llama-3.1-8b", "llama-3.2-1b", "qwen3-0.6b", "gemma-2-9b", "gemma-3-27b", "gpt-oss-20b"),
    *("qwen3-30b-a3b", "deepseek-v2-lite", "phi-4", "mixtral-8x7b", "qwen3-next-80b-a3b"),
    *("falcon-mamba-7b", "lfm2-1.2b", "bge-m3"),
)
BUILDS = ("4905", "5331", "6170", "8480", "9512", "11200")
asked = st.fixed_dictionaries(
    {
        "engine_version": st.sampled_from(BUILDS),
        "gpu": st.sampled_from([None, "rtx-4090", "2xh100", "3xrtx-3090"]),
        "context": st.integers(1, 40_000),
        "n_gpu_layers": st.sampled_from([None, 0, 1, 7, 20]),
        "ubatch_size": st.sampled_from([None, 32, 256, 2048]),
        "n_cpu_moe": st.sampled_from([None, 3, 99]),
        "parallel": st.sampled_from([None, 1, 3]),
        "flash_attn": st.sampled_from([None, "on", "off"]),
        "no_kv_offload": st.booleans(),
        "program": st.sampled_from(["server", "cli"]),
    }
)
LAWS = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def knows(name, w):
    """Tell whether the build has the model's architecture."""
    row = row_of(engine("llama.cpp").knowing, of_gguf(named(name).parts[0]))
    return row is None or not row.lacking((int(w.get("engine_version", BUILDS[-1])),))


def held(name: str, **settings_: object) -> DeviceHoldings:
    w = Infer(engine="llama.cpp", quantization="Q4_K_M", **settings_)
    kind = engine("llama.cpp")
    known, _ = version(kind, w.engine_version)
    return hold(subject(named(name), w, kind, known), w, w.budget(), known[0])


def total(h: DeviceHoldings) -> int:
    return sum(map(h.whole, range(h.launch.gpus + 1)))


@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked)
def test_laws(name, w):
    assume(knows(name, w))
    found = answer(name, engine="llama.cpp", quantization="Q4_K_M", **w)
    assert [d.kind for d in found.devices][-1] == "host"
    for device in found.devices:
        assert [p.name for p in device.phases][:2] == ["load", "prefill"]
        for phase in device.phases:
            for c in phase.components:
                assert 0 <= c.bytes.low <= c.bytes.expected <= c.bytes.high
                assert c.source
                assert c.formula
        for level in LEVELS:
            assert device.peak(level).high >= device.peak(level).expected >= 0


@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked)
def test_devices_hold_the_model_between_them(name, w):
    """No tensor is lost or doubled, but for the output of a tied pair."""
    assume(knows(name, w))
    h = held(name, **w)
    alone = held(name, **w | {"gpu": None, "n_gpu_layers": 0})
    doubled = sum(h.weights) - sum(alone.weights)
    largest = max(t.nbytes for t in h.net.weights.values())
    padding = 128 * (len(h.net.weights) + 1) + 0.002 * sum(alone.weights)
    assert -32 * len(h.net.weights) <= doubled <= (largest if h.net.tied else 0) + padding


@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked)
def test_a_step_of_one_token_takes_no_more_where_one_gpu_computes(name, w):
    """Elsewhere both steps are reserved."""
    assume(knows(name, w))
    h = held(name, **w)
    assume(not h.near_only)
    step = step_of(h.launch, h.near)
    small = replayed(h.placed, replace(step, tokens=step.sequences, outputs=step.sequences))
    large = replayed(h.placed, step)
    if alone(h.placed) and step.tokens >= 32 * step.sequences:
        assert tuple(map(max, large, small)) == large
    assert reserved(h.placed, h.near) == tuple(map(max, large, small))


def test_many_slots_have_more_logits_than_a_step_has_of_all_else():
    """564 slots of a vocabulary of 163,840: a step of four tokens each takes less than one of a
    token each, which is what is reserved."""
    h = held("moonlight-16b-a3b", gpu="h100", parallel=564, context=564 * 4096)
    step = step_of(h.launch, h.near)
    small = replayed(h.placed, replace(step, tokens=step.sequences, outputs=step.sequences))
    large = replayed(h.placed, step)
    assert 564 * 163_840 * 4 < large[0] < small[0] == reserved(h.placed, h.near)[0]


class LivePool(BufferPool):
    """A pool that counts the bytes that are in use at once."""

    made: ClassVar[list["LivePool"]] = []

    def __init__(self, alignment: int) -> None:
        super().__init__(alignment)
        self.live = self.most = 0
        self.made.append(self)

    def take(self, size: int) -> int:
        self.live += align_up(size, self.alignment)
        self.most = max(self.most, self.live)
        return super().take(size)

    def give(self, offset: int, size: int) -> None:
        self.live -= align_up(size, self.alignment)
        super().give(offset, size)


def in_use(h: DeviceHoldings) -> list[int]:
    """Bytes by device that the largest step has in use at once; its buffer has gaps as well."""
    LivePool.made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "BufferPool", LivePool)
        sizes = replayed(h.placed, step_of(h.launch, h.near))
    for pool, size in zip(LivePool.made, sizes, strict=True):
        assert pool.most <= size
    return [pool.most for pool in LivePool.made]


@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked)
def test_more_context_never_takes_less(name, w):
    """Caches never shrink, nor does what a step has in use at once. The buffer around it may: ggml
    puts each tensor into the smallest gap that holds it, a longer mask leaves other gaps, and the
    logits lie behind whatever stayed in between (`test_a_longer_context_in_a_smaller_buffer` has
    what llama.cpp printed)."""
    assume(knows(name, w))
    one, two = held(name, **w), held(name, **w | {"context": w["context"] + 8_192})
    devices = range(one.launch.gpus + 1)
    assert all(two.kv(d) + two.state(d) >= one.kv(d) + one.state(d) for d in devices)
    assert all(map(ge, in_use(two), in_use(one)))  # and `in_use` holds its buffer to these


@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked)
def test_no_layers_put_nothing_but_computing_on_gpus(name, w):
    assume(knows(name, w))
    h = held(name, **w | {"n_gpu_layers": 0})
    for d in range(h.launch.gpus):
        assert (h.weights[d], h.kv(d), h.state(d)) == (0, 0, 0)


@pytest.mark.parametrize("name", MODELS)
@LAWS
@given(asked)
def test_buffers_are_whole_blocks(name, w):
    assume(knows(name, w))
    h = held(name, **w)
    for d, size in enumerate(h.compute):
        assert size % (32 if d == h.launch.gpus else 128) == 0


@pytest.mark.parametrize("name", each(3, MODELS))
@pytest.mark.parametrize(
    "w",
    [
        {},
        {"flash_attn": "off"},
        {"n_gpu_layers": 10},
        {"gpu": "2xh100"},
        {"n_cpu_moe": 99},
        {"override_tensor": (r"blk\.[4-9]\.ffn=CUDA1", "ffn_down=CPU"), "gpu": "2xh100"},
        {"engine_version": "5331"},
    ],
    ids=["full", "scores", "some layers", "two GPUs", "experts", "by name", "b5331"],
)
def test_layers_that_repeat_change_nothing(name, w):
    """The graph of the layers that decide, and that of all of them."""
    if not knows(name, w):
        pytest.skip("the build does not know the architecture")
    h = held(name, context=4_096, parallel=1, program="cli", **w)
    few = step_of(h.launch, h.near)
    parts = [replayed(h.placed, replace(few, whole=whole)) for whole in (False, True)]
    for short, long in zip(*parts, strict=True):
        assert short == pytest.approx(long, rel=0.005)
    assert placement(h.placed).host == h.launch.gpus


# The allocator


@LAWS
@given(st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 30)), max_size=120))
def test_a_pool_never_gives_a_byte_twice(requests):
    """Each request, and how many later ones it outlives."""
    pool, live = BufferPool(128), []
    for i, (size, life) in enumerate(requests):
        for block in [b for b in live if b[2] < i]:
            live.remove(block)
            pool.give(block[0], block[1])
        offset = pool.take(size)
        assert all(offset + size <= at or at + other <= offset for at, other, _ in live)
        live.append((offset, size, i + life))
        assert pool.high >= offset + size
    for offset, size, _ in live:
        pool.give(offset, size)
    assert len(pool.free) == 1
    assert pool.free[0][0] == 0


@pytest.mark.slow
def test_a_tower_is_beside_the_layers_that_are_moved():
    """More context or a wider cache never makes it fit: the program moves layers until it starts."""
    line = "llama-server -hf unsloth/Qwen3.6-27B-GGUF:Q4_K_M -c {} -ctk {}"
    for context in (8192, 32768, 65536):
        for cache in ("f16", "q8_0"):
            found = weighbridge.infer(command=line.format(context, cache), gpu="4080", offline=True)
            assert found.verdict.fits == "yes"
