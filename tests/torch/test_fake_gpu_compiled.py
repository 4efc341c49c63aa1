"""Compiled code takes no less than we say: beside the saved tensors of torch's own partitioner.

The compiler runs on the CPU, up to the graphs of forward and backward: what forward hands on, less
its inputs, is what a compiled block keeps."""

import warnings
from contextlib import nullcontext

import pytest

from tests.torch.test_trace_cli import report, trace  # noqa: F401  a fixture

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.functional import gelu, scaled_dot_product_attention, silu  # noqa: E402

from weighbridge_lab.trace import fused  # noqa: E402
from weighbridge_lab.trace.gpu import FakeGPU  # noqa: E402

WIDTH, HEADS, LENGTH, BATCH = 128, 4, 128, 8
VIEWS = ("view", "permute", "expand", "slice", "select", "squeeze", "alias", "as_strided", "split")


class Llama(nn.Module):
    """RMSNorm, rotary positions, grouped heads, SwiGLU."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(WIDTH) for _ in range(2))
        self.q, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(WIDTH, WIDTH // 2, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(WIDTH, 3 * WIDTH, bias=False) for _ in range(2))
        self.down = nn.Linear(3 * WIDTH, WIDTH, bias=False)
        self.register_buffer("angles", torch.ones(LENGTH, WIDTH // HEADS))

    def forward(self, x):
        h = self.norms[0](x)
        q, k, v = (p(h).unflatten(-1, (-1, WIDTH // HEADS)) for p in (self.q, self.k, self.v))
        q, k, v = (t.transpose(1, 2) for t in (self.turned(q), self.turned(k), v))
        k, v = (t.repeat_interleave(2, 1) for t in (k, v))
        x = x + self.o(
            scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        )
        h = self.norms[1](x)
        return x + self.down(silu(self.gate(h)) * self.up(h))

    def turned(self, x):
        first, second = x.chunk(2, -1)
        angles = self.angles[None, :, None].to(x.dtype)
        return x * angles.cos() + torch.cat((-second, first), -1) * angles.sin()


class Gpt(nn.Module):
    """LayerNorm, one projection of three, GELU, dropout; `written` attention is two products."""

    def __init__(self, dropout=0.1, *, written=False):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.drop = nn.Dropout(dropout)
        self.written = written

    def forward(self, x):
        q, k, v = self.qkv(self.norms[0](x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if self.written:
            h = torch.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v
        else:
            h = scaled_dot_product_attention(q, k, v)
        x = x + self.drop(self.o(h.transpose(1, 2).flatten(2)))
        return x + self.drop(self.down(self.drop(gelu(self.up(self.norms[1](x))))))


class Vit(nn.Module):
    """Patches, and blocks without dropout."""

    def __init__(self):
        super().__init__()
        self.patches, self.block = nn.Conv2d(3, WIDTH, 8, 8), Gpt(0.0)

    def forward(self, x):
        return self.block(self.patches(x.reshape(BATCH, 3, 64, 128)).flatten(2).transpose(1, 2))


class Loss(nn.Module):
    """Two of a block, and classes."""

    def __init__(self, make):
        super().__init__()
        self.blocks, self.head = nn.Sequential(make(), nn.LayerNorm(WIDTH)), nn.Linear(WIDTH, 1000)

    def forward(self, x):
        out = self.head(self.blocks(x)).flatten(0, 1)
        return nn.functional.cross_entropy(out.float(), torch.zeros_like(out[:, 0]).long())


BLOCKS = {
    "llama": (lambda: nn.Sequential(Llama(), Llama()), (BATCH, LENGTH, WIDTH)),
    "gpt": (lambda: nn.Sequential(Gpt(), Gpt()), (BATCH, LENGTH, WIDTH)),
    "written": (
        lambda: nn.Sequential(Gpt(written=True), Gpt(written=True)),
        (BATCH, LENGTH, WIDTH),
    ),
    "vit": (Vit, (BATCH, 3 * 64 * 128)),
}
FORMS = {
    "fp32": (torch.float32, False),
    "bf16": (torch.bfloat16, False),
    "mixed": (torch.float32, True),
}


def stepped(make, shape, form, device, **how):
    dtype, mixed = FORMS[form]
    net = torch.compile(Loss(make).to(device, dtype), **how)
    with torch.autocast(device, torch.bfloat16) if mixed else nullcontext():
        loss = net(torch.ones(shape, device=device, dtype=dtype))
    loss.backward()


def backend(seen):
    """Return a compiler that notes what is saved, and leaves graphs as they are."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    def partition(joint, inputs, **how):
        graphs = min_cut_rematerialization_partition(joint, inputs, compiler="inductor", **how)
        seen.append(saved(graphs[0].graph, how["num_fwd_outputs"]))
        return graphs

    return aot_autograd(
        fw_compiler=lambda graph, _: graph.forward,
        partition_fn=partition,
        decompositions=select_decomp_table(),
    )


def saved(graph, outputs):
    """Return the bytes that a graph of forward hands on to backward, its inputs left out."""
    parts = {}
    for node in graph.output_node().args[0][outputs:]:
        value = getattr(node, "meta", {}).get("val")
        while node.op == "call_function" and any(v in str(node.target) for v in VIEWS):
            node = node.args[0]
        if isinstance(value, torch.Tensor) and node.op != "placeholder":
            parts[node.name] = max(parts.get(node.name, 0), value.nbytes)
    return sum(parts.values())


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_compiled_block_keeps_no_less(name, form):
    """Nor much more: of attention that is written out we say least, which one kernel may do."""
    make, shape = BLOCKS[name]
    seen = []
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stepped(make, shape, form, "cpu", backend=backend(seen))
        with FakeGPU("h100") as gpu:
            stepped(make, shape, form, "cuda")
    (run,) = fused._passes(gpu.tape.uses)
    eager = (s.nbytes for s in gpu.tape.alive(run.event - 1) if s.role == "saved activation")
    assert 0.4 * sum(seen) < fused._cut(gpu.tape, run) <= sum(seen) < sum(eager)


@pytest.mark.filterwarnings("ignore:torch.compile")
@pytest.mark.parametrize(
    ("how", "ways"),
    [
        ({}, (False, False)),
        ({"mode": "max-autotune-no-cudagraphs"}, (True, False)),
        ({"options": {"max_autotune": True}}, (True, False)),
        ({"mode": "reduce-overhead"}, (False, False)),
    ],
)
def test_settings_of_the_compiler(how, ways, monkeypatch):
    with FakeGPU("h100") as gpu:
        assert gpu.recorder.compiled is None and gpu.compiled() is None
        net = nn.Linear(1024, 1024, bias=False).cuda()
        net.compile(**how)
        assert gpu.recorder.compiled == ways
        net(torch.ones(1024, 1024, device="cuda"))
        least = fused.least(gpu.tape, gpu.recorder.compiled)
    assert least == (4 << 20) * (2 if ways[0] else 3)  # the weight, the input, and what comes of it


@pytest.mark.filterwarnings("ignore:torch.compile")
def test_a_budget_of_the_partitioner_may_compute_products_again(monkeypatch):
    from torch._functorch import config

    monkeypatch.setattr(config, "activation_memory_budget", 0.5)
    with FakeGPU("h100") as gpu:
        torch.compile(nn.Linear(4, 4).cuda())
    assert gpu.recorder.compiled == (False, True)
    with FakeGPU("h100") as gpu, torch.autograd.graph.region_activation_memory_budget(0.5):
        assert gpu.recorder.compiled == (False, True)


TEXT = """
import torch
width, depth = 8192, 12
net = torch.compile(torch.nn.Sequential(*(
    part for _ in range(depth) for part in (torch.nn.Linear(width, width, bias=False), torch.nn.GELU())
)).cuda())
net(torch.randn(ROWS, width, device="cuda", requires_grad=True)).sum().backward()
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("rows", "card", "says"),
    [
        (8192, "a100-80gb", "✓ fits"),
        (65536, "4090", "✗ does not fit"),  # 12 results of 2 GiB, and 3 GiB of weights
        (32768, "4090", "? cannot say"),
    ],
)
def test_a_verdict_has_the_range(trace, rows, card, says):  # noqa: F811
    done = trace(TEXT.replace("ROWS", str(rows)), options=["--gpu", card])
    assert says in done.stdout and "compiled it takes" in done.stdout
    shown = report(trace(TEXT.replace("ROWS", str(rows)), options=["--json", "--gpu", card]))
    size = rows * 8192 * 4
    assert shown["eager"] and shown["compiled"]["high"] > 24 * size
    least = 12 * 8192**2 * 4 + size * 13  # and what each GELU is of, with the input
    assert least < shown["compiled"]["low"] < least * 1.1 + (1 << 30)
