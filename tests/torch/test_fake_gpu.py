"""The fake GPU: published figures, what torch says inside, and that nothing is left behind."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch import nn

from weighbridge.base.errors import UsageError
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.card import card
from weighbridge_lab.trace.gpu import FakeGPU

MIB = 1 << 20
pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())


def used():
    torch.cuda.empty_cache()
    return round(torch.cuda.memory_allocated() / 1e6, 2)


def perceptron(kind):
    """The steps of a published measuring script; the figures that it prints."""
    sizes = [784, 8192, 4096, 2048, 1024, 512, 10]
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), *layers[:-1]).to("cuda")
    said = [used()]
    optimizer = kind(model.parameters(), lr=1e-3)
    data = torch.randn(128, 1, 28, 28).to("cuda")
    target = torch.randint(0, 10, (128,)).to("cuda")
    output = model(data)
    nn.CrossEntropyLoss()(output, target).backward()
    optimizer.step()
    said.append(used())
    del optimizer
    for parameter in model.parameters():
        parameter.grad = None
    with torch.no_grad():
        data = torch.randn(128, 1, 28, 28).to("cuda")
        output = model(data)
        said.append(used())
    return said


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        (torch.optim.SGD, [204.03, 425.51, 221.48]),
        (torch.optim.Adam, [204.03, 833.58, 221.48]),  # the article's own 1 : 4 : 1
    ],
)
def test_a_published_measuring_script(kind, published):
    with FakeGPU("t4", torch_version="2.5"):
        assert perceptron(kind) == published


def test_two_workspaces_explain_it():
    """Forward has one in its thread, and the engine one in its own."""
    with FakeGPU("t4", torch_version="2.5") as gpu:
        perceptron(torch.optim.SGD)
    sizes = [s.nbytes for s in gpu.tape.storages if s.op == "cuBLAS workspace"]
    assert sizes == [8_519_680, 8_519_680]


def test_workspaces_come_and_go_since_torch_2_14():
    with FakeGPU("t4", torch_version="2.14"):
        assert perceptron(torch.optim.SGD) == [204.03, 408.47, 204.44]  # 17.04 less


def test_bert_on_load():
    """accelerate's documentation measured 413.68 MB allocated."""
    transformers = pytest.importorskip("transformers")
    with FakeGPU("a100-80gb"):
        model = transformers.BertModel(transformers.BertConfig(vocab_size=28996)).to("cuda")
        assert round(torch.cuda.memory_allocated() / MIB, 2) == 413.68
        del model


def test_what_torch_says_of_the_card():
    with FakeGPU("l4", count=2) as gpu:
        assert torch.cuda.is_available() and torch.cuda.device_count() == 2
        assert torch.accelerator.current_accelerator().type == "cuda"
        assert torch.cuda.get_device_name(1) == "NVIDIA L4"
        assert torch.cuda.get_device_capability() == (8, 9)
        properties = torch.cuda.get_device_properties(0)
        assert properties.multi_processor_count == 58
        assert properties.total_memory == gpu.card.total_memory == 22628 * MIB
        free, total = torch.cuda.mem_get_info()
        assert total - free == 226 * MIB  # the context that was measured on one
        assert torch.cuda.is_bf16_supported()
    with FakeGPU("t4"):
        assert not torch.cuda.is_bf16_supported(including_emulation=False)


def test_devices_have_tapes_of_their_own():
    with FakeGPU("l4", count=2) as gpu:
        here = torch.empty(MIB, device="cuda:1")
        assert torch.cuda.memory_allocated(1) == 4 * MIB
        assert torch.cuda.memory_allocated(0) == 0
        with torch.cuda.device(1):
            assert torch.cuda.memory_allocated() == 4 * MIB
        del here
    assert [len(tape.events) for tape in gpu.tapes] == [0, 2]


def test_counters_are_those_of_the_moment():
    with FakeGPU("a100-80gb"):
        first = torch.empty(MIB, device="cuda")
        second = torch.empty(MIB, device="cuda")
        assert torch.cuda.memory_allocated() == 8 * MIB
        assert torch.cuda.memory_reserved() == 20 * MIB
        del first
        assert torch.cuda.max_memory_allocated() == 8 * MIB
        torch.cuda.reset_peak_memory_stats()
        assert torch.cuda.max_memory_allocated() == 4 * MIB
        stats = torch.cuda.memory_stats()
        assert stats["allocation.all.allocated"] == 2 and stats["allocation.all.freed"] == 1
        del second
        torch.cuda.empty_cache()
        assert torch.cuda.memory_reserved() == 0
        assert "GPU reserved memory" in torch.cuda.memory_summary()


def test_a_program_s_own_snapshot():
    with FakeGPU("a100-80gb"):
        torch.cuda.memory._record_memory_history()
        kept = torch.empty(MIB, device="cuda")
        found = torch.cuda.memory._snapshot()
        assert [s["total_size"] for s in found["segments"]] == [20 * MIB]
        assert [e["action"] for e in found["device_traces"][0]] == ["segment_alloc", "alloc"]
        torch.cuda.memory._record_memory_history(enabled=None)
        del kept


def test_settings_of_the_allocator():
    with FakeGPU("a100-80gb", alloc_conf="expandable_segments:True"):
        kept = torch.empty(5 * MIB, device="cuda", dtype=torch.uint8)
        assert torch.cuda.memory_reserved() == 20 * MIB
        more = torch.empty(30 * MIB, device="cuda", dtype=torch.uint8)
        assert torch.cuda.memory_reserved() == 40 * MIB  # one range grows by pages of 20 MiB
        del kept, more


def test_a_script_may_set_them_before_its_first_tensor(monkeypatch):
    with FakeGPU("a100-80gb"):
        monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "large_segment_size_mb:32")
        kept = torch.empty(5 * MIB, device="cuda", dtype=torch.uint8)
        assert torch.cuda.memory_reserved() == 32 * MIB
        del kept


def test_out_of_memory_reads_as_torch_s_and_can_be_survived():
    with FakeGPU("a100-80gb", gpu_memory="1GiB") as gpu:
        with pytest.raises(torch.cuda.OutOfMemoryError, match=r"Tried to allocate 2\.00 GiB"):
            torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
        assert torch.cuda.memory_allocated() == 0
        small = torch.empty(MIB, dtype=torch.uint8, device="cuda")
        assert torch.cuda.memory_allocated() == MIB
        del small
    assert [r.storage.nbytes for r in gpu.tape.refused] == [2 << 30]


def test_where_it_dies():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(1024, 1 << 20, bias=False)

        def forward(self, x):
            return self.inner(x)

    with FakeGPU("a100-80gb", gpu_memory="6GiB") as gpu:
        model = Wide().cuda()  # 4 GiB
        with pytest.raises(torch.cuda.OutOfMemoryError):
            model(torch.empty(1024, 1024, device="cuda"))
    (refused,) = gpu.tape.refused
    assert (refused.storage.module, refused.storage.phase) == ("inner", "forward")


def test_what_was_alive_at_the_peak():
    with FakeGPU("t4", torch_version="2.5") as gpu:
        perceptron(torch.optim.Adam)
    (found,) = gpu.devices
    weights = 4 * 51_008_010
    assert found.allocated.roles["weight"] == found.allocated.roles["gradient"] == weights
    assert found.allocated.roles["optimizer state"] == 2 * weights
    assert found.allocated.phase == "step"
    assert found.allocated.op == "aten._foreach_sqrt.default"
    assert sum(found.allocated.roles.values()) == found.allocated.allocated
    assert [p.name for p in found.phases] == [
        "load",
        "forward",
        "loss",
        "backward",
        "step",
        "eval",
    ]


def test_streams_events_and_random_states():
    with FakeGPU("a100-80gb"):
        stream, event = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True)
        with torch.cuda.stream(stream):
            assert torch.cuda.current_stream() == stream
            other = torch.empty(MIB, device="cuda")
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
        del other
        again = torch.empty(MIB, device="cuda")  # a block belongs to its stream
        assert torch.cuda.memory_reserved() == 40 * MIB
        del again
        event.record()
        event.synchronize()
        torch.cuda.manual_seed(0)
        torch.cuda.set_rng_state(torch.cuda.get_rng_state())
        generator = torch.Generator("cuda").manual_seed(0)
        assert generator.device.type == "cuda"
        assert isinstance(torch.default_generator, torch.Generator)
        assert torch.randn(3, device="cuda", generator=generator).shape == (3,)


def test_autocast_casts_and_keeps_its_casts():
    with FakeGPU("a100-80gb") as gpu:
        layer = nn.Linear(64, 64, bias=False).cuda()
        x = torch.ones(8, 64, device="cuda")
        with torch.autocast("cuda", torch.bfloat16):
            assert layer(layer(x)).dtype == torch.bfloat16
            held = torch.cuda.memory_allocated()
        assert torch.cuda.memory_allocated() == held - 64 * 64 * 2  # once, until the region ends
    assert sum(s.nbytes == 64 * 64 * 2 for s in gpu.tape.storages) == 1


def test_the_process_is_as_before():
    dtype = torch.get_default_dtype()
    before = (torch.nn.init.normal_, torch.cuda.Stream, nn.Module._apply, torch.Tensor.pin_memory)
    names = set(vars(torch._C))

    def program():
        torch.set_default_dtype(torch.bfloat16)
        torch.set_default_device("cuda")
        torch.set_grad_enabled(False)
        return torch.empty(3) / 1, 1 / 0

    with pytest.raises(ZeroDivisionError), FakeGPU("a100-80gb"):
        program()
    assert not torch.cuda.is_available()
    assert torch.get_default_dtype() is dtype and torch.is_grad_enabled()
    assert torch.empty(3).device.type == "cpu"
    assert before == (
        torch.nn.init.normal_,
        torch.cuda.Stream,
        nn.Module._apply,
        torch.Tensor.pin_memory,
    )
    assert set(vars(torch._C)) == names
    x = torch.ones(3, requires_grad=True)
    (2 * x).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    assert torch._C._len_torch_dispatch_stack() == 0


def test_backward_on_the_cpu_before_and_after_does_not_disturb_it():
    for _ in range(2):
        torch.ones(3, requires_grad=True).sum().backward()
        with FakeGPU("a100-80gb"):
            layer = nn.Linear(4, 4).cuda()
            layer(torch.ones(2, 4, device="cuda")).sum().backward()
            assert layer.weight.grad.device.type == "cuda"


@pytest.mark.parametrize(("name", "found"), [("mi300x", "no CUDA device"), ("24GiB", "no CUDA")])
def test_what_it_cannot_stand_for(name, found):
    with pytest.raises(UsageError, match=found):
        FakeGPU(name)


def test_names_as_the_driver_prints_them():
    said = {name: card(name)[0].name for name in ("a100-80gb", "rtx 3060", "h100", "v100")}
    assert said == {
        "a100-80gb": "NVIDIA A100-SXM4-80GB",
        "rtx 3060": "NVIDIA GeForce RTX 3060",
        "h100": "NVIDIA H100 80GB HBM3",
        "v100": "Tesla V100-SXM2-16GB",
    }


def test_threads_are_recorded_and_left_alone_afterwards():
    """Each has a cuBLAS workspace of its own, as on a GPU."""
    start = vars(threading.Thread)["_bootstrap_inner"]
    kept = []

    def work(_):
        kept.append(torch.empty(MIB, device="cuda"))
        weight = torch.ones(64, 64, device="cuda", requires_grad=True)
        (weight @ weight).sum().backward()

    with FakeGPU("t4", torch_version="2.5") as gpu:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, range(8)))
        assert torch.cuda.memory_allocated() >= 8 * 4 * MIB
        kept.clear()
    sizes = [s.nbytes for s in gpu.tape.storages if s.op == "cuBLAS workspace"]
    assert 2 <= len(sizes) <= 4  # the engine's, and of one to three threads
    assert vars(threading.Thread)["_bootstrap_inner"] is start
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.empty(3).device.type))
    thread.start()
    thread.join()
    assert seen == ["cpu"]


def test_the_context_is_that_of_the_card():
    """L4: 226 MiB were read on one; a fifth less or more, and room in segments."""
    with FakeGPU("l4") as gpu:
        kept = torch.empty(MIB, device="cuda")
        del kept
    (found,) = gpu.devices
    assert found.driver.expected == 20 * MIB + 226 * MIB
    assert 45 * MIB < found.driver.high - found.driver.expected < 80 * MIB


def test_a_copy_is_of_the_same_mode():
    """torch would copy the mode as well, with what it holds in C."""
    with FakeGPU("t4"):
        weight = nn.Linear(64, 64, device="cuda").weight
        before = torch.cuda.memory_allocated()
        copied = copy.deepcopy(weight)
        assert copied.fake_mode is weight.fake_mode
        assert torch.cuda.memory_allocated() - before == 64 * 64 * 4


def test_a_program_that_asks_the_engine_itself_is_followed():
    """Megatron's schedules do; the engine's threads may have started before there was a card."""
    torch.ones(3, requires_grad=True).sum().backward()
    engine = torch.autograd.variable.Variable._execution_engine
    with FakeGPU("h100") as fake:
        layer = nn.Linear(8, 8).cuda()
        loss = layer(torch.ones(2, 8, device="cuda")).sum()
        torch.autograd.variable.Variable._execution_engine.run_backward(
            tensors=(loss,),
            grad_tensors=(torch.ones_like(loss),),
            keep_graph=False,
            create_graph=False,
            inputs=(),
            allow_unreachable=True,
            accumulate_grad=True,
        )
        fake.tape.settle()
        assert layer.weight.grad.device.type == "cuda"
        assert {"forward", "backward"} <= {each.phase for each in fake.tape.storages}
    assert torch.autograd.variable.Variable._execution_engine is engine
