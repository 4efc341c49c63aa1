"""Networks that see, forwards and steps on the fake GPU, and the same question to our programs.

Convolutions are without the copies that cuDNN makes beside them, on both sides. Ours count them for
every kernel. The fake GPU leaves out kernels of 1 x 1, of which nothing is known, and has those of
both directions of a backward at once. MobileNetV2's published peaks (tests/pictures/test_images.py)
are nearer to ours.
"""

import math

import pytest
import torch

from weighbridge.base.dtypes import FLOAT32, TORCH
from weighbridge.machines.kernels import workspaces
from weighbridge.pictures import images
from weighbridge.training.forward.ops import matrix
from weighbridge.training.optimizers import optimizer
from weighbridge_lab.trace import guard
from weighbridge_lab.trace.card import card
from weighbridge_lab.trace.gpu import FakeGPU

CARD = "a100-80gb"
MARKS = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(autouse=True)
def no_copies_of_cudnn(monkeypatch):
    for module in (matrix, workspaces):
        monkeypatch.setattr(module, "convolution", lambda *sizes, half, **of: [])


def seen(plan, batch, side, **facts):
    """What our programs are asked of a tree; `facts` are other fields."""
    asked = {
        "shapes": {param.name: param.shape for param in plan.params},
        "buffers": tuple(
            TORCH[b.dtype or "float32"].size(math.prod(b.shape)) for b in plan.buffers
        ),
        "dtype": FLOAT32,
        "batch": batch,
        "height": side,
        "width": side,
        "chip": card(CARD, None)[0].chip,
    }
    return images.SeenImages(**asked | facts)


def forward(make, batch, side):
    """The peak of a forward, of what was there when the network was made, and since."""
    with FakeGPU(CARD) as gpu:
        with torch.device("cuda"):
            model = make().eval()
        start = len(gpu.tape.levels)
        pixels = torch.zeros(batch, 3, side, side, device="cuda")
        with torch.no_grad():
            out = model(pixels)
    del out
    return max(gpu.tape.levels[start:])


def stepped(make, loss, batch, side, *, mixed, labelled=None):
    """The peak of two steps of AdamW; `loss` of (model, pixels, labels), of which there is one for
    each picture unless `labelled` is their shape."""
    with FakeGPU(CARD) as gpu:
        with torch.device("cuda"):
            model = make().train()
        start = len(gpu.tape.levels)
        adamw = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            adamw.zero_grad()
            pixels = torch.zeros(batch, 3, side, side, device="cuda")
            labels = torch.zeros(labelled or (batch,), device="cuda", dtype=torch.long)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=mixed):
                end = loss(model, pixels, labels)
            end.backward()
            adamw.step()
            del end, pixels, labels
    return max(gpu.tape.levels[start:])


def step(asked, *, mixed):
    """The peak of our own steps."""
    ran = images.trained(asked, optimizer("adamw"), TORCH["bfloat16"] if mixed else None)
    return max(peak.allocated for peak in ran.moments.values())
