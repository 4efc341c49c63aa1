"""Triton's kernels on a fake GPU, and Liger's: published peaks of single operators."""

import warnings

import pytest
import torch

from weighbridge_lab.evidence.programs import PROGRAMS
from weighbridge_lab.evidence.records import chosen
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

triton = pytest.importorskip("triton", reason="needs triton", exc_type=ImportError)
tl = pytest.importorskip("triton.language", reason="needs triton")
pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())

MIB = 1 << 20


def add(x, y, count, size: "tl.constexpr"):
    at = tl.program_id(0) * size + tl.arange(0, size)
    tl.store(y + at, tl.load(x + at, mask=at < count) + 1, mask=at < count)


once = triton.jit(add)
tuned = triton.autotune([triton.Config({"size": n}) for n in (64, 128)], key=["count"])(once)
guessed = triton.heuristics({"size": lambda args: 64 if args["count"] < 100 else 128})(once)


def grown(step):
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("kernel", [once, guessed])
def test_a_launch_takes_nothing(kernel):
    with FakeGPU("a100-80gb"):
        x = torch.empty(1000, device="cuda")
        more = {"size": 64} if kernel is once else {}
        assert grown(lambda: kernel[lambda meta: (8,)](x, x, 1000, **more)) == 0


def test_tuning_clears_the_cache_with_256_mib():
    """triton.testing.do_bench; what is found holds for a key, and is forgotten afterwards."""
    with FakeGPU("a100-80gb"):
        x = torch.empty(1000, device="cuda")
        assert grown(lambda: tuned[(8,)](x, x, 1000)) == 256 * MIB
        assert grown(lambda: tuned[(8,)](x, x, 1000)) == 0
        assert grown(lambda: tuned[(8,)](x, x, 999)) == 256 * MIB
    assert tuned.cache == {}


@pytest.mark.parametrize(
    ("card", "target", "shared", "processors"),
    [("a100-80gb", 80, 166912, 108), ("t4", 75, 65536, 40), ("h100-sxm", 90, 232448, 132)],
)
def test_the_driver_answers_as_the_card(card, target, shared, processors):
    """Shared memory of a block: CUDA C++ programming guide, compute capabilities."""
    with FakeGPU(card):
        driver = triton.runtime.driver.active
        assert driver.get_current_target().arch == target
        properties = driver.utils.get_device_properties(driver.get_current_device())
        assert properties["max_shared_mem"] == shared
        assert properties["multiprocessor_count"] == processors
        assert triton.testing.do_bench(lambda: None, quantiles=[0.5, 0.2]) == [0.0, 0.0]


def test_afterwards_it_is_as_before():
    run_before, config = triton.JITFunction.run, dict(vars(triton.runtime.driver))
    with FakeGPU("t4"):
        assert triton.JITFunction.run is not run_before
    assert triton.JITFunction.run is run_before
    assert vars(triton.runtime.driver) == config


# Liger


def loss_of_llama(liger):
    """Peak of a step over what is there before."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=2,
        num_attention_heads=8,
        vocab_size=32000,
    )
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    if liger:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=model)
    ids = torch.zeros(4, 1024, dtype=torch.long, device="cuda")
    return grown(lambda: model(input_ids=ids, labels=ids).loss.backward())


@pytest.fixture
def llama():
    """Liger replaces classes of the module for good."""
    module = pytest.importorskip("transformers.models.llama.modeling_llama")
    before = dict(vars(module))
    yield
    vars(module).update(before)


@pytest.mark.usefixtures("llama")
def test_liger_trains_a_llama_without_its_logits():
    """4,096 tokens of 32,000 logits are 250 MiB in bfloat16, and several times that in float32."""
    pytest.importorskip("liger_kernel", reason="needs liger-kernel")
    with warnings.catch_warnings(), FakeGPU("a100-80gb"):
        warnings.simplefilter("ignore")
        plain, fused = loss_of_llama(False), loss_of_llama(True)
    assert plain - fused > 4 * 250 * MIB


def traced(record, less):
    program = PROGRAMS[record.program].load({**record.setting, **less})
    with warnings.catch_warnings(), FakeGPU(record.accelerator, torch_version=record.version):
        warnings.simplefilter("ignore")
        program("cuda")
        return torch.cuda.max_memory_allocated()


@pytest.mark.slow
def test_published_figures():
    """27 peaks that Liger's authors printed: to 0.04 %, and 20 of them to a block of 512 bytes."""
    pytest.importorskip("liger_kernel", reason="needs liger-kernel")
    off = {}
    for r in chosen(source="liger_kernels"):
        if r.skip is None:
            less = traced(r, r.less) if r.less else 0
            off[r.id] = abs(traced(r, {}) - less - r.measured), r.measured
    assert len(off) == 27
    assert max(apart / measured for apart, measured in off.values()) < 0.0004
    assert sum(apart <= 512 for apart, _ in off.values()) == 20, off
