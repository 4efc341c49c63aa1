"""The loss that a net without a script is trained with takes what a script by hand does, to the
byte."""

import json

import pytest

from tests.torch.test_trace_cli import report, trace  # noqa: F401  a fixture

torch = pytest.importorskip("torch")

from weighbridge_lab.trace.losses import Labels, wants  # noqa: E402

NET = """
import torch
from torch import nn

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5000, 64)
        self.head = nn.Linear(64, 5000, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.relu(self.embed(tokens)))

class Labelled(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(64, 1000)

    def forward(self, x):
        return {"logits": self.body(x), "hidden": x}

class Segments(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 21, 3, padding=1)

    def forward(self, x):
        return self.body(x), self.body(x * 2)

class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.body(x)
"""
SCRIPT = """
import torch
from torch import nn
from torch.nn import functional as F
from net import {name}

model = {name}().cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(3):
    x = {inputs}
    {labels}
    out = model(x)
    loss = {loss}
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
PICTURES = 'torch.randn((8, 3, 96, 96), device="cuda")'
BY_HAND = [
    (
        "Words",
        "16x128:int",
        'torch.randint(0, 100, (16, 128), device="cuda")',
        'y = torch.randint(0, 5000, (16, 128), device="cuda")',
        "F.cross_entropy(out.view(-1, out.size(-1)), y.view(-1))",
        "5,000 classes",
    ),
    (
        "Labelled",
        "512x64",
        'torch.randn((512, 64), device="cuda")',
        'y = torch.randint(0, 1000, (512,), device="cuda")',
        'F.cross_entropy(out["logits"], y)',
        "1,000 classes",
    ),
    (
        "Segments",
        "8x3x96x96",
        PICTURES,
        'y = [torch.randint(0, 21, (8, 96, 96), device="cuda") for _ in range(2)]',
        "torch.stack([F.cross_entropy(a, b) for a, b in zip(out, y)]).sum()",
        "21 classes",
    ),
    (
        "Denoiser",
        "8x3x96x96",
        PICTURES,
        "y = torch.randn((8, 3, 96, 96), device='cuda')",
        "F.mse_loss(out, y)",
        "mean square",
    ),
]


def peak(found):
    return found["devices"][0]["allocated"]["allocated"]


@pytest.mark.parametrize(("name", "shape", "inputs", "labels", "loss", "told"), BY_HAND)
def test_a_net_is_trained_as_by_hand(trace, tmp_path, name, shape, inputs, labels, loss, told):  # noqa: F811
    options = ["--json", "--input", shape, "--train", "adamw"]
    ours = report(trace(NET, target=f"script.py:{name}", options=options))
    (tmp_path / "net.py").write_text(NET)
    script = SCRIPT.format(name=name, inputs=inputs, labels=labels, loss=loss)
    theirs = report(trace(script, options=["--json"]))
    assert peak(ours) == peak(theirs)
    assert told in ours["program"]["loss"]


def test_the_sum_takes_less_and_says_so(trace):  # noqa: F811
    options = ["--input", "16x128:int", "--train", "sgd"]
    target = "script.py:Words"
    whole = report(trace(NET, target=target, options=["--json", *options]))
    summed = report(trace(NET, target=target, options=["--json", "--loss", "sum", *options]))
    logits = 4 * 16 * 128 * 5000
    assert peak(whole) - peak(summed) >= logits
    assert "at least" in summed["program"]["loss"]
    shown = trace(NET, target=target, options=options).stdout
    assert "loss: cross-entropy over 5,000 classes" in shown


def test_classes_that_are_not_there_are_told(trace):  # noqa: F811
    source = "import torch\nclass One(torch.nn.Linear):\n    def __init__(self):\n"
    source += "        super().__init__(8, 1)\n    def forward(self, x):\n"
    source += "        return super().forward(x)[:, 0]\n"
    options = ["--input", "4x8", "--train", "sgd", "--loss", "ce"]
    done = trace(source, target="script.py:One", options=options)
    assert done.returncode == 2 and "has no axis of classes" in done.stderr
    found = report(trace(source, target="script.py:One", options=["--json", *options[:-2]]))
    assert "mean square" in found["program"]["loss"]


@pytest.mark.parametrize(
    ("shape", "given", "kind", "wanted"),
    [
        ((8, 1000), (8, 3, 32, 32), None, Labels((8,), 1, 1000)),
        ((8, 128, 500), (8, 128), None, Labels((8, 128), 2, 500)),
        ((8, 21, 64, 64), (8, 3, 64, 64), None, Labels((8, 64, 64), 1, 21)),
        ((8, 5, 16, 16, 16), (8, 1, 16, 16, 16), None, Labels((8, 16, 16, 16), 1, 5)),
        ((8, 10, 400), (8, 2, 400), None, Labels((8, 400), 1, 10)),  # along time
        ((8, 400, 10), (8, 400, 64), None, Labels((8, 400), 2, 10)),
        ((8, 1), (8, 64), None, Labels((8, 1))),  # a price
        ((8,), (8, 64), None, Labels((8,))),
        ((8, 3, 64, 64), (8, 3, 64, 64), None, Labels((8, 3, 64, 64))),
        ((8, 3, 64, 64), (8, 3, 64, 64), "ce", Labels((8, 64, 64), 1, 3)),
        ((8, 1000), (8, 3, 32, 32), "mse", Labels((8, 1000))),
    ],
)
def test_what_an_output_is_compared_with(shape, given, kind, wanted):
    tokens = len(given) == 2 and given[1] == 128
    first = torch.zeros(given, dtype=torch.int64 if tokens else torch.float32, device="meta")
    assert wants(torch.zeros(shape, device="meta"), [first], kind) == wanted


def test_a_live_module_has_a_loss_too():
    import weighbridge

    module = torch.nn.Linear(64, 1000)
    found = weighbridge.trace(module, "512x64", optimizer="adamw")
    less = weighbridge.trace(module, "512x64", optimizer="adamw", loss="sum")
    assert found.devices[0].allocated.allocated > less.devices[0].allocated.allocated
    assert json.dumps(found.to_dict()["program"]["loss"])


@pytest.mark.parametrize("gpu", ["4060", "3060", "4090"])
@pytest.mark.parametrize("rows", ["64x2048:int", "100x2048:int", "160x2048:int"])
def test_one_run_answers_for_all_cards_as_theirs_do(trace, gpu, rows):  # noqa: F811
    """A trace of a card never says the contrary of what another says of its size."""
    options = ["--json", "--input", rows, "--train", "sgd"]
    target = "script.py:Words"
    alone = report(trace(NET, target=target, options=[*options, "--gpu", gpu]))
    for other in ("a100-80gb", "h100"):
        traced = report(trace(NET, target=target, options=[*options, "--gpu", other]))
        size = {"4060": 8, "3060": 12, "4090": 24}[gpu]
        answers = {one["gb"]: one["fits"] for one in traced["cards"]}
        assert {answers[size], alone["verdict"]["fits"]} != {"yes", "no"}
