"""torchao's linears among tensor ranks, in mxfp8 and of experts: what they save, beside ours."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

from torch import distributed, nn  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.tensor import Replicate, Shard  # noqa: E402
from torch.distributed.tensor.parallel import SequenceParallel, parallelize_module  # noqa: E402

from weighbridge.base.dtypes import BFLOAT16  # noqa: E402
from weighbridge.memory.components.counted import CountedHeap  # noqa: E402
from weighbridge.training.forward.machine import Machine  # noqa: E402
from weighbridge.training.forward.modules import Module  # noqa: E402
from weighbridge.training.forward.nets.torchtune import (  # noqa: E402
    feed_forward,
    sequence_cut,
    small,
    whole,
)
from weighbridge.training.forward.ops.float8 import Casts, LinearFloat8  # noqa: E402
from weighbridge.training.forward.ops.pointwise import scale  # noqa: E402
from weighbridge.training.forward.tensors import LeafTensor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of torchao's kernels that do not load
BATCH, LENGTH, WIDTH, INNER, RANKS = 2, 64, 64, 256, 4


class Saved:
    """Bytes of storages that autograd saves, but for those of parameters."""

    def __init__(self, params):
        self.params = {self._local(p).untyped_storage().data_ptr() for p in params}
        self.found = {}

    @staticmethod
    def _local(t):
        while hasattr(t, "_local_tensor"):
            t = t._local_tensor
        return getattr(t, "_data", t)

    def __call__(self, t):
        storage = self._local(t).untyped_storage()
        if storage.data_ptr() not in self.params:
            self.found[storage.data_ptr()] = storage  # and keep it, so that no other has its place
        return t

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self, lambda t: t)

    @property
    def total(self):
        return sum(storage.nbytes() for storage in self.found.values())


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w3 = (nn.Linear(WIDTH, INNER, bias=False) for _ in range(2))
        self.w2 = nn.Linear(INNER, WIDTH, bias=False)

    def forward(self, x):
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))


@pytest.fixture
def mesh():
    from torch.testing._internal.distributed.fake_pg import FakeStore

    distributed.init_process_group("fake", rank=0, world_size=RANKS, store=FakeStore())
    yield init_device_mesh("cpu", (RANKS,))
    distributed.destroy_process_group()


def theirs(mesh):
    """torchtitan's plan of a feed-forward, with a scale a tensor."""
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    from torchao.float8.float8_tensor_parallel import (
        Float8ColwiseParallel,
        Float8RowwiseParallel,
        PrepareFloat8ModuleInput,
    )

    model = nn.Sequential(nn.Identity(), FeedForward()).to(torch.bfloat16)
    convert_to_float8_training(model, config=Float8LinearConfig(emulate=True))
    gathers = PrepareFloat8ModuleInput(
        input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)
    )
    plan = {
        "0": SequenceParallel(),
        "1": gathers,
        "1.w1": Float8ColwiseParallel(),
        "1.w3": Float8ColwiseParallel(),
        "1.w2": Float8RowwiseParallel(output_layouts=Shard(1)),
    }
    parallelize_module(model, mesh, plan)
    saved = Saved(model.parameters())
    x = torch.randn(BATCH, LENGTH // RANKS, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    with saved.hooks():
        out = model(x)
    out.sum().backward()
    assert x.grad.shape == x.shape
    return saved.total


def ours(casts):
    m = Machine(CountedHeap())
    shapes = {"gate_proj": (INNER // RANKS, WIDTH), "up_proj": (INNER // RANKS, WIDTH)}
    shapes["down_proj"] = WIDTH, INNER // RANKS
    params = {f"{n}.weight": m.param(n, shape, BFLOAT16) for n, shape in shapes.items()}
    wraps = {n: LinearFloat8(params[f"{n}.weight"], None, BFLOAT16, casts) for n in shapes}
    p, s = Module(params, wraps), SimpleNamespace(m=m, length=LENGTH, token_ranks=RANKS)
    x = scale(m, m.param("x", (BATCH, LENGTH // RANKS, WIDTH), BFLOAT16))
    before = m.heap.live("activations")
    h = whole(s, x, small(p, "gate_proj"))
    out = sequence_cut(s, feed_forward(m, p, h), small(p, "down_proj"))
    del h
    return m.heap.live("activations") - before - out.nbytes


def test_tensor_ranks_save_what_they_gathered_in_8_bits(mesh):
    seen = theirs(mesh)
    assert ours(Casts(shared=True)) == seen
    # the whole input and the last product's in 8 bits; gate, its silu and up in 16
    assert seen == BATCH * LENGTH * (WIDTH + 7 * INNER // RANKS)


def test_mxfp8_saves_what_it_was_given():
    from torchao.prototype.moe_training.mxfp8_linear import (
        KernelPreference,
        ScaleCalculationMode,
        _to_mxfp8_then_scaled_mm,
    )

    weight = nn.Parameter(torch.randn(INNER, WIDTH, dtype=torch.bfloat16))
    x = torch.randn(LENGTH, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    saved = Saved([weight])
    with saved.hooks():
        out = _to_mxfp8_then_scaled_mm(
            x, weight, KernelPreference.EMULATED, ScaleCalculationMode.RCEIL
        )
    out.backward(torch.ones_like(out))
    m = Machine(CountedHeap())
    given = scale(m, LeafTensor("x", (LENGTH, WIDTH), BFLOAT16, None))
    linear = LinearFloat8(
        m.param("w", (INNER, WIDTH), BFLOAT16), None, BFLOAT16, Casts(blocks=True)
    )
    mine = linear(m, given)
    assert saved.total == 2 * LENGTH * WIDTH
    assert m.heap.live("activations") - mine.nbytes == saved.total


def test_grouped_products_in_mxfp8_save_rows_and_stacks_in_16_bits():
    from torchao.prototype.moe_training.mxfp8_grouped_mm import (
        KernelPreference,
        _to_mxfp8_then_scaled_grouped_mm,
    )

    stack = nn.Parameter(torch.randn(2, INNER, WIDTH, dtype=torch.bfloat16))
    rows = torch.randn(LENGTH, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    ends = torch.tensor([LENGTH // 2, LENGTH], dtype=torch.int32)
    saved = Saved([stack])
    with saved.hooks():
        _to_mxfp8_then_scaled_grouped_mm(
            rows, stack.transpose(-2, -1), offs=ends, kernel_preference=KernelPreference.EMULATED
        )
    assert saved.total == 2 * LENGTH * WIDTH + 4 * 2  # and where groups end
