"""What else of torch programs call on a GPU: profilers, graphs, transforms, files, kernels."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from weighbridge_lab.trace import guard
from weighbridge_lab.trace.gpu import FakeGPU

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())


def sizes(gpu, op):
    return [s.nbytes for s in gpu.tape.storages if op in s.op]


def test_a_profiler_of_the_device_sees_the_host():
    from torch.profiler import ProfilerActivity, profile

    with FakeGPU("a100-80gb") as gpu:
        layer = nn.Linear(8, 8).cuda()
        run = profile(activities=[ProfilerActivity.CUDA], acc_events=True)
        with pytest.warns(UserWarning, match="host alone"):
            run.start()
        layer(torch.randn(2, 8, device="cuda")).sum().backward()
        run.stop()
        assert "aten::addmm" in {e.key for e in run.key_averages()}
    assert gpu.notes.lines == ["torch.profiler sees the host alone: no kernel runs here"]


@pytest.mark.filterwarnings("ignore:rank 0 of 4", "ignore:the program looks")
def test_synchronised_batch_norm():
    """Half types are summed in float32: 16 channels, 4 ranks of 2 x 16 + 1 numbers."""
    with FakeGPU("a100-80gb", world_size=4) as gpu:
        torch.distributed.init_process_group("nccl")
        layer = nn.SyncBatchNorm(16).cuda().half()
        x = torch.randn(4, 16, 8, 8, device="cuda", dtype=torch.half, requires_grad=True)
        layer(x).sum().backward()
        assert layer.weight.grad.dtype == x.grad.dtype == torch.half
    assert sizes(gpu, "batch_norm_stats") == [64, 64]
    assert sizes(gpu, "batch_norm_elemt") == [4 * 16 * 64 * 2]
    assert sizes(gpu, "batch_norm_backward_reduce") == [64, 64, 32, 32]
    assert (2 * 16 + 1) * 4 * 4 in sizes(gpu, "aten.empty.memory_format")


def test_blocks_of_a_graph_serve_nobody_else():
    """A tensor of 32 MiB that the capture has released is still reserved, and not given again."""
    with FakeGPU("a100-80gb"):
        x = torch.ones(8 << 20, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=torch.cuda.graph_pool_handle()):
            y = (x + 1) * 2
        graph.replay()
        assert torch.cuda.memory_allocated() == 2 * y.numel() * 4
        assert torch.cuda.memory_reserved() == 3 * y.numel() * 4
        z = torch.ones_like(x)
        assert torch.cuda.memory_reserved() == 4 * z.numel() * 4


def test_functions_are_transformed():
    from torch.func import functional_call, grad, vmap

    with FakeGPU("a100-80gb"):
        layer = nn.Linear(8, 4).cuda()
        weights = {name: p.detach() for name, p in layer.named_parameters()}

        def loss(weights, x):
            return functional_call(layer, weights, (x[None],)).square().sum()

        each = vmap(grad(loss), in_dims=(None, 0))(weights, torch.randn(16, 8, device="cuda"))
        assert each["weight"].shape == (16, 4, 8)


@pytest.mark.filterwarnings("ignore:.*nested tensor.*prototype")
def test_jagged_tensors():
    with FakeGPU("a100-80gb"):
        parts = [torch.randn(5, 8), torch.randn(3, 8)]
        nested = torch.nested.nested_tensor(parts, layout=torch.jagged, device="cuda")
        out = nn.Linear(8, 16).cuda()(nested)
        assert out.values().shape == (8, 16) and out.to_padded_tensor(0.0).shape == (2, 5, 16)
        out.values().sum().backward()


def test_flex_attention_is_one_kernel():
    """B 2, H 4, S 256, D 64 in bfloat16: no scores of S x S, forward or backward."""
    with FakeGPU("a100-80gb") as gpu:
        from torch.nn.attention.flex_attention import flex_attention

        shape = (2, 4, 256, 64)
        q, k, v = (
            torch.ones(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            for _ in range(3)
        )
        first = len(gpu.tape.events)
        flex_attention(q, k, v, score_mod=lambda score, *_: score).sum().backward()
    whole, rows = 2 * 4 * 256 * 64 * 2, 2 * 4 * 256 * 4
    made = [gpu.tape.storages[e - 1].nbytes for e in gpu.tape.events[first:] if e > 0]
    assert [n for n in made if n > 512] == [whole, rows, rows, whole, whole, whole]


@pytest.mark.filterwarnings("ignore:tensors are not written")
def test_what_was_saved_is_found_under_its_new_name(tmp_path):
    real = tmp_path / "real.pt"
    torch.save({"x": torch.ones(7)}, real)
    kept = real.read_bytes()
    with FakeGPU("a100-80gb"):
        (tmp_path / "draft").mkdir()
        torch.save({"x": torch.ones(3, device="cuda")}, tmp_path / "draft" / "a.pt")
        torch.save({"x": torch.ones(4, device="cuda")}, tmp_path / "draft" / "b.pt")
        torch.save({"x": torch.ones(5)}, real)
        os.rename(tmp_path / "draft", tmp_path / "done")
        os.rename(tmp_path / "done" / "a.pt", tmp_path / "done" / "best.pt")
        assert sorted(os.listdir(tmp_path / "done")) == ["b.pt", "best.pt"]
        assert torch.load(tmp_path / "done" / "best.pt")["x"].shape == (3,)
        assert torch.load(real)["x"].shape == (5,)
    assert os.listdir(tmp_path / "done") == [] and real.read_bytes() == kept


@pytest.mark.filterwarnings("ignore:tensors are not written", "ignore:.*lr_scheduler")
def test_accelerate_finds_its_states(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    with FakeGPU("a100-80gb"):
        accelerator = accelerate.Accelerator()
        model = nn.Linear(8, 8)
        model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
        accelerator.backward(model(torch.randn(2, 8, device="cuda")).sum())
        optimizer.step()
        accelerator.save_state(tmp_path)
        assert (tmp_path / "model.safetensors").exists()
        accelerator.load_state(tmp_path)
        assert len(optimizer.state) == 2
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    assert not (tmp_path / "model.safetensors").exists()


COMPILER = """
import sys
import torch
import weighbridge
with weighbridge.FakeGPU("a100-80gb"):
    torch.ones(2, 8, device="cuda")
    assert not any(name.startswith(("torch._dynamo", "torch._inductor")) for name in sys.modules)
    assert callable(torch._dynamo.disable)
    assert vars(torch)["_dynamo"] is sys.modules["torch._dynamo"]
with weighbridge.FakeGPU("a100-80gb"):
    torch.ones(2, device="cuda")
assert vars(torch)["_dynamo"] is sys.modules["torch._dynamo"]
"""


def test_the_compiler_is_imported_where_it_is_asked_for():
    done = subprocess.run([sys.executable, "-c", COMPILER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_early_stopping_of_a_trainer_is_said():
    from types import SimpleNamespace

    from weighbridge_lab.trace.patches import patched
    from weighbridge_lab.trace.patches.libraries import stopping

    class Callback:
        def on_evaluate(self, args, state, control, **_):
            control.should_training_stop = state.global_step >= 20

    said = []
    module = SimpleNamespace(EarlyStoppingCallback=Callback)
    with patched(stopping(said.append)(module)):
        for step in (10, 20, 100):
            control = SimpleNamespace(should_training_stop=False)
            state = SimpleNamespace(global_step=step, max_steps=100)
            Callback().on_evaluate(None, state, control, metrics={})
    assert len(said) == 1 and "ended the training at step 20" in said[0]


def test_blocks_of_a_pool_serve_nobody_else():
    with FakeGPU("t4") as gpu:
        pool = torch.cuda.MemPool()
        with torch.cuda.use_mem_pool(pool):
            torch.empty(1 << 20, device="cuda")  # released at once
        reserved = gpu.tape.allocator.reserved
        kept = torch.empty(1 << 20, device="cuda")
        assert gpu.tape.allocator.reserved > reserved, "not where the pool's block was"
        with torch.cuda.use_mem_pool(pool):
            more = torch.empty(1 << 20, device="cuda")
        assert gpu.tape.allocator.reserved == 2 * reserved
        del kept, more


@pytest.mark.filterwarnings("ignore:torch.profiler")
def test_a_profiler_is_not_drowned_in_stacks():
    """A line for each call of a fake tensor's Python would be gigabytes."""
    from torch.profiler import ProfilerActivity, profile

    with FakeGPU("t4") as gpu:
        with profile(activities=[ProfilerActivity.CPU], with_stack=True, record_shapes=True) as run:
            nn.Linear(8, 8).cuda()(torch.randn(2, 8, device="cuda"))
        assert run.key_averages()
        assert len(run.events()) < 1000
        assert "no stacks" in gpu.notes.lines[-1]


def test_the_driver_answers_of_the_card():
    nvml = pytest.importorskip("pynvml")
    with FakeGPU("t4", count=2) as gpu:
        nvml.nvmlInit()
        assert nvml.nvmlDeviceGetCount() == 2
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        before = nvml.nvmlDeviceGetMemoryInfo(handle)
        assert (before.used, before.total) == (0, gpu.card.total_memory)
        kept = torch.empty(64 << 20, device="cuda")
        after = nvml.nvmlDeviceGetMemoryInfo(handle)
        assert after.used == gpu.tape.allocator.reserved + gpu.card.context
        assert after.free + after.used == after.total
        assert torch.cuda.device_memory_used() == after.used
        assert nvml.nvmlDeviceGetName(handle) == "Tesla T4" and torch.cuda.utilization() == 0
        del kept


@pytest.mark.parametrize("shell", [True, False])
def test_nvidia_smi_answers_of_the_card(shell):
    command = ["nvidia-smi", "--query-gpu=name,memory.used,memory.total,ecc.mode.current"]
    form = "--format=csv,noheader,nounits"
    with FakeGPU("t4", count=2) as gpu:
        kept = torch.empty(64 << 20, device="cuda:1")
        args = " ".join([*command, form]) if shell else [*command, form]
        told = subprocess.run(args, shell=shell, capture_output=True, text=True, check=True)
        used = (gpu.tapes[1].allocator.reserved + gpu.card.context) >> 20
        total = gpu.card.total_memory >> 20
        assert told.stdout.splitlines() == [
            f"Tesla T4, 0, {total}, [N/A]",
            f"Tesla T4, {used}, {total}, [N/A]",
        ]
        head, first, _ = subprocess.check_output([*command, "--format=csv"], text=True).splitlines()
        assert head.startswith("name, memory.used") and first.endswith(f"{total} MiB, [N/A]")
        assert subprocess.check_output([sys.executable, "-c", "print(1)"]) == b"1\n"
        del kept


class Noted:
    """What is no tensor itself, and has a `__dict__` of its own."""

    def __init__(self, note=None):
        self.note = note


class Image(Noted, torch.Tensor):
    """A tensor that carries something along, in the way of MONAI's MetaTensor."""

    @staticmethod
    def __new__(cls, x, note=None):
        return torch.as_tensor(x).as_subclass(cls)

    def __init__(self, x, note=None):
        super().__init__(note)

    def new_empty(self, size, **kwargs):
        return type(self)(self.as_subclass(torch.Tensor).new_empty(size, **kwargs))

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(out, Image):
            first = next((a for a in args if isinstance(a, Image)), out)
            out.__dict__ = first.__dict__.copy()
        return out


def test_a_tensor_carries_attributes_along():
    with FakeGPU("t4") as gpu:
        host = Image(torch.arange(64.0).reshape(1, 1, 8, 8), note="seen")
        image = host.cuda()
        assert isinstance(image, Image) and image.note == "seen"
        assert (image.device.type, host.device.type, image.cpu().device.type) == (
            "cuda",
            "cpu",
            "cpu",
        )
        assert (host + 1).flatten().tolist() == [n + 1.0 for n in range(64)]
        assert gpu.tape.allocated.nbytes == 512  # an alias takes nothing more
        net = nn.Conv2d(1, 4, 3, padding=1).cuda()
        made = net(image)
        made.square().mean().backward()
        assert isinstance(made, Image) and made.note == "seen"
        assert net.weight.grad.device.type == made.device.type == "cuda"
        plain = made.as_subclass(torch.Tensor)
        assert not isinstance(plain, Image) and plain.device.type == "cuda"
        made.__dict__ = {"note": "other"}
        assert vars(made) == {"note": "other"} and made.device.type == "cuda"


# Addresses, and ranges of NVTX


def test_each_storage_has_an_address():
    """Views are within their storage, what has no elements is nowhere, and nothing is there."""
    with FakeGPU("h100"):
        a, b = torch.empty(4), torch.empty(4, 4, device="cuda")
        assert len({a.data_ptr(), b.data_ptr(), torch.empty(4).data_ptr()}) == 3
        assert a[3:].data_ptr() == a.data_ptr() + 12
        assert b[2:].data_ptr() == b.data_ptr() + 32
        assert a.detach().data_ptr() == a.data_ptr()
        assert torch.empty(0).data_ptr() == 0
        assert a.data_ptr() > 1 << 57  # no processor has that


def test_an_address_is_of_a_storage_that_lives():
    """A storage that takes the place of another one in C++ has an address of its own."""
    with FakeGPU("h100"):
        seen = {torch.empty(4).data_ptr() for _ in range(8)}
    assert len(seen) == 8


def test_ranges_of_nvtx_are_lost():
    with FakeGPU("h100"):
        with torch.cuda.nvtx.range("step"):
            torch.cuda.nvtx.mark("here")
        assert torch.cuda.nvtx.range_push("a") == torch.cuda.nvtx.range_pop() == 0


def reserved_by_stream():
    found = {}
    for segment in torch.cuda.memory_snapshot():
        found[segment["stream"]] = found.get(segment["stream"], 0) + segment["total_size"]
    return found


def test_a_backward_runs_on_the_stream_of_its_forward():
    """torch's engine does so of a real device: of two products the gradient of one is made aside."""
    with FakeGPU("h100"):
        leaf = torch.ones(1024, 1024, device="cuda", requires_grad=True)
        aside = torch.cuda.Stream()
        with torch.cuda.stream(aside):
            first = leaf * 2  # 4 MiB, in a segment of 20
        second = first * 2
        assert torch.cuda.current_stream().stream_id == 0
        before = reserved_by_stream()
        leaves = torch.autograd.grad(second, leaf, torch.ones_like(second))
        after = reserved_by_stream()
        assert torch.cuda.current_stream().stream_id == 0
        held = torch.cuda.memory_snapshot()
    number = aside.stream_id
    assert leaves[0].shape == (1024, 1024)
    used = {s["stream"]: s["allocated_size"] for s in held}
    assert used[number] == 8 * 2**20  # `first`, and the gradient of `leaf`
    assert before[number] == after[number] == 20 * 2**20


def test_what_another_stream_has_used_goes_at_once():
    """The device keeps up: two tensors, one after the other, are in the same place."""
    with FakeGPU("h100"):
        for _ in range(2):
            torch.ones(1024, 1024, device="cuda").record_stream(torch.cuda.Stream())
        assert torch.cuda.memory_reserved() == 20 * 2**20
