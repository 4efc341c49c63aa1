"""Rows of the table of optimizers against the optimizers themselves, on the fake GPU."""

import functools
import importlib

import pytest

torch = pytest.importorskip("torch")

import weighbridge  # noqa: E402
from tests.cases import each  # noqa: E402
from weighbridge.base.dtypes import TORCH  # noqa: E402
from weighbridge.memory.components.activations import Heap  # noqa: E402
from weighbridge.training.forward.machine import Machine  # noqa: E402
from weighbridge.training.forward.tensors import Computed  # noqa: E402
from weighbridge.training.optimizers import argued, optimizer  # noqa: E402
from weighbridge.training.optimizers.row import Optimization  # noqa: E402

SHAPES = {
    "model.embed.weight": ((1000, 256), "embedding"),
    "model.layers.0.up.weight": ((768, 256), "linear"),
    "model.layers.0.down.weight": ((256, 768), "linear"),
    "model.layers.0.norm.weight": ((256,), "norm"),
    "model.layers.0.bias": ((768,), "bias"),
}


def adafactor(params):
    from transformers.optimization import Adafactor

    return Adafactor(params, scale_parameter=False, relative_step=False, lr=1e-3)


def muon(params):
    """Return Muon for matrices and AdamW for the rest, as people do."""
    matrices = [p for p in params if p.ndim == 2 and p.shape[0] != 1000]
    rest = [p for p in params if p.ndim != 2 or p.shape[0] == 1000]
    return Both(torch.optim.Muon(matrices), torch.optim.AdamW(rest, foreach=True))


class Both:
    def __init__(self, *all_of_them):
        self.all = all_of_them

    def step(self):
        for one in self.all:
            one.step()

    def zero_grad(self):
        for one in self.all:
            one.zero_grad()


def of(module, name, **options):
    def make(params):
        found = pytest.importorskip(module)
        made = getattr(found, name)(params, **options)
        if callable(getattr(made, "train", None)):
            made.train()
        return made

    return make


CASES = {
    "adamw_torch": functools.partial(torch.optim.AdamW, foreach=True),
    "adamw_torch_fused": functools.partial(torch.optim.AdamW, fused=True),
    "adam": functools.partial(torch.optim.Adam, foreach=True),
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, foreach=True),
    "sgd-momentum": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, foreach=True),
    "rmsprop": functools.partial(torch.optim.RMSprop, foreach=True),
    "adagrad": functools.partial(torch.optim.Adagrad, foreach=True),
    "adamax": functools.partial(torch.optim.Adamax, foreach=True),
    "nadam": functools.partial(torch.optim.NAdam, foreach=True),
    "radam": functools.partial(torch.optim.RAdam, foreach=True),
    "adadelta": functools.partial(torch.optim.Adadelta, foreach=True),
    "adafactor": adafactor,
    "muon": muon,
    "schedule_free_adamw": of("schedulefree", "AdamWScheduleFree"),
    "schedule_free_sgd": of("schedulefree", "SGDScheduleFree", lr=0.1),
    "stable_adamw": of("optimi", "StableAdamW", lr=1e-3, triton=False, foreach=True),
}


def real(make, dtype):
    """Allocated before and after each of three steps, and the peak of each."""
    with weighbridge.FakeGPU("a100-80gb", torch_version="2.13"):
        params = [
            torch.nn.Parameter(torch.empty(shape, dtype=dtype, device="cuda"))
            for shape, _ in SHAPES.values()
        ]
        chosen = make(params)
        seen = []
        for _ in range(3):
            for p in params:
                p.grad = torch.empty_like(p)
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            chosen.step()
            seen.append((before, torch.cuda.max_memory_allocated()))
            chosen.zero_grad()
        seen.append((torch.cuda.memory_allocated(), 0))
    return seen


def ours(name, dtype, args=()):
    heap = Heap()
    m = Machine(heap)
    m.workspace = 8519680  # of an A100, where a step multiplies matrices
    plain = TORCH[dtype]
    params = [m.param(n, shape, plain, kind=kind) for n, (shape, kind) in SHAPES.items()]
    kept = Optimization(argued(optimizer(name), args, (2, 13)), params)
    if kept.optimizer.early:
        kept.start(m)
    seen = []
    for _ in range(3):
        for p in params:
            p.grad = m.new(p.shape, p.dtype, "gradients")
        before = heap.allocator.allocated
        heap.phase()
        kept.step(m)
        seen.append((before, heap.phase().allocated))
    seen.append((heap.allocator.allocated, 0))
    return seen


pytestmark = [
    pytest.mark.filterwarnings("ignore:the program looks at values"),
    pytest.mark.filterwarnings("ignore:Parameter `foreach` is deprecated"),
]
SMALL = 64 * 1024  # scalars, norms and lists of pointers: blocks of 512 bytes
# Peaks that other code decides: SVDs, and the order in which lists are let go.
LOOSE = {"nadam": 0.02, "radam": 0.5, "adadelta": 0.02, "muon": 0.05}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", each(2, CASES))
def test_a_row_is_what_the_optimizer_takes(name, dtype):
    seen = real(CASES[name], getattr(torch, dtype))
    mine = ours(name, dtype)
    for (before, peak), (own, most) in zip(seen, mine, strict=True):
        assert own == pytest.approx(before, abs=SMALL)
        assert most == pytest.approx(peak, abs=SMALL, rel=LOOSE.get(name, 0.005))


def test_every_name_of_the_trainer_has_a_row_or_a_reason():
    names = importlib.import_module("transformers.training_args").OptimizerNames
    from weighbridge.base.errors import UsageError
    from weighbridge.training.optimizers import ELSEWHERE

    for name in names:
        if name.value in ELSEWHERE:
            with pytest.raises(UsageError):
                optimizer(name.value)
        else:
            assert optimizer(name.value).name


def test_the_comparison_can_fail():
    seen, mine = real(CASES["adamw_torch"], torch.float32), ours("sgd", "float32")
    assert mine[2][0] != pytest.approx(seen[2][0], abs=SMALL)
    assert isinstance(Computed((1,), TORCH["float32"], None).nbytes, int)


ARGUMENTS = [
    ("adamw_torch", {"foreach": False}),
    ("adamw_torch", {"fused": True}),
    ("adamw_torch", {"amsgrad": True, "foreach": True}),
    ("adam", {"weight_decay": 0.01, "foreach": True}),
    ("adam", {"weight_decay": 0.01, "foreach": False}),
    ("adam", {"fused": True, "amsgrad": True}),
]


@pytest.mark.parametrize(("name", "args"), ARGUMENTS, ids=str)
def test_arguments_change_a_step_as_they_do_in_torch(name, args):
    cls = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    seen = real(functools.partial(cls, **args), torch.float32)
    mine = ours(name, "float32", [f"{k}={v}" for k, v in args.items()])
    for (before, peak), (own, most) in zip(seen, mine, strict=True):
        assert own == pytest.approx(before, abs=SMALL)
        assert most == pytest.approx(peak, abs=SMALL)
