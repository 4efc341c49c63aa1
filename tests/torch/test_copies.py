"""What a notebook holds is copied by one memo: tied weights once, and the optimizer of an earlier
cell steps the copies."""

import copy
import threading

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import weighbridge  # noqa: E402
from weighbridge_lab.trace import guard  # noqa: E402
from weighbridge_lab.trace.copies import copies  # noqa: E402
from weighbridge_lab.trace.gpu import FakeGPU  # noqa: E402
from weighbridge_lab.trace.magic import traced  # noqa: E402

pytestmark = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())
MIB = 1 << 20
FIRST = """
import torch
net = torch.nn.Sequential(*[torch.nn.Linear(1024, 1024, bias=False) for _ in range(4)])
"""
OPTIMIZER = "opt = torch.optim.AdamW(net.parameters())\n"
STEPS = """
for _ in range(2):
    net(torch.randn(8, 1024, device="cuda")).sum().backward()
    opt.step()
    opt.zero_grad()
print("peak", torch.cuda.max_memory_allocated())
"""
WEIGHTS = 16 * MIB


def cell(code, names):
    return traced(code, names, "t4")


def names_of(code):
    names = {}
    exec(code, names)
    return names


def peak(capsys):
    return int(capsys.readouterr().out.rpartition("peak ")[2].split()[0])


@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        (FIRST, "net.cuda()\n" + OPTIMIZER + STEPS),
        (FIRST + OPTIMIZER, "net.cuda()\n" + STEPS),
        (FIRST + OPTIMIZER + f"def train():{STEPS.replace(chr(10), chr(10) + '    ')}\n",
         "net.cuda()\ntrain()"),
        (FIRST + OPTIMIZER + "class Run:\n    pass\nrun = Run(); run.net, run.opt = net, opt\n",
         "run.net.cuda()\nopt, net = run.opt, run.net" + STEPS),
        (FIRST + OPTIMIZER + "late = torch.optim.lr_scheduler.StepLR(opt, 1)\n",
         "net.cuda()\nopt, net = late.optimizer, net" + STEPS),
    ],
)  # fmt: skip
def test_where_the_optimizer_was_made_is_of_no_matter(earlier, now, capsys):
    names = names_of(earlier)
    before = dict(names)
    weights = [p.clone() for p in names["net"].parameters()]
    cell(now, names)
    assert peak(capsys) >= 4 * WEIGHTS  # weights, gradients, two states
    assert names == before
    for parameter, was in zip(names["net"].parameters(), weights, strict=True):
        assert parameter.grad is None and torch.equal(parameter, was)
    assert "opt" not in names or not names["opt"].state


def test_the_steps_of_an_optimizer_that_has_trained_go_on(capsys):
    names = names_of(FIRST + OPTIMIZER)
    names["net"](torch.randn(2, 1024)).sum().backward()
    names["opt"].step()
    steps = [state["step"].clone() for state in names["opt"].state.values()]
    cell("net.cuda()\nopt.load_state_dict(opt.state_dict())\n" + STEPS, names)
    assert peak(capsys) >= 4 * WEIGHTS
    after = [state["step"] for state in names["opt"].state.values()]
    assert all(map(torch.equal, steps, after))
    assert names["net"][0].weight.grad is not None


def test_lists_of_the_notebook_stay_as_they_are(capsys):
    names = names_of(FIRST + "losses, both = [], {}\nsame = losses")
    cell("losses.append(1)\nboth[0] = net\nprint('same', same is losses, len(same))", names)
    assert "same True 1" in capsys.readouterr().out
    assert names["losses"] == [] and names["both"] == {}


def test_averages_and_wrappers_share_one_memo():
    net = nn.Linear(64, 64)
    names = {
        "net": net,
        "average": copy.deepcopy(net),
        "both": nn.ModuleList([net, net]),
        "opt": torch.optim.SGD(net.parameters(), lr=1.0),
        "weight": net.weight,
        "lock": threading.Lock(),
        "data": torch.ones(3),
    }
    with FakeGPU("t4"):
        made = copies(names)
        assert made["both"][0] is made["both"][1] is made["net"]
        assert made["opt"].param_groups[0]["params"][0] is made["net"].weight is made["weight"]
        assert made["average"].weight is not made["net"].weight
        assert not {"lock", "data"} & set(made)


def test_what_cannot_be_copied_is_told():
    class Held(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.lock = nn.Linear(2, 2), threading.Lock()

    held = Held()
    with FakeGPU("t4"), pytest.warns(UserWarning, match="held cannot be copied"):
        assert copies({"held": held})["held"] is held


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(1000, 64), nn.Linear(64, 1000, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.ones(64))

    def forward(self, tokens):
        return self.head(self.embed(tokens) * self.mask)


def test_tied_weights_count_once():
    found = weighbridge.trace(Tied(), "4x16:int", optimizer="adamw", gpu="t4")
    roles = found.devices[0].allocated.roles
    assert roles["weight"] == 4 * 64_000
    assert roles["optimizer state"] == pytest.approx(8 * 64_000, rel=0.01)
