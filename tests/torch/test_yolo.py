"""ultralytics' own detectors on the fake GPU beside our program: counts, forwards and steps."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the oracle is a forward of ultralytics' models")
tasks = pytest.importorskip("ultralytics.nn.tasks", reason="the oracle is ultralytics' own class")

from tests.torch.cudnn import left_out  # noqa: E402
from weighbridge.base.dtypes import FLOAT32, TORCH  # noqa: E402
from weighbridge.machines.kernels import workspaces  # noqa: E402
from weighbridge.models.arch.families import timm_nets  # noqa: E402
from weighbridge.pictures import images  # noqa: E402
from weighbridge.training.optimizers import optimizer  # noqa: E402
from weighbridge_lab.trace import guard  # noqa: E402
from weighbridge_lab.trace.card import card  # noqa: E402
from weighbridge_lab.trace.gpu import FakeGPU  # noqa: E402

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore"),
]
CARD = "a100-80gb"
NAMES = [f"yolo{version}{size}" for version in ("v8", "11") for size in "nsmlx"]
CASES = [("yolo11n", 8, 640), ("yolov8m", 4, 640), ("yolo11m", 2, 960), ("yolov8n", 16, 320)]


@pytest.fixture(autouse=True)
def no_copies_of_cudnn(monkeypatch):
    left_out(monkeypatch)


def built(name):
    return tasks.DetectionModel(f"{name}.yaml", verbose=False)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes(name):
    model, plan = built(name), timm_nets.blueprint(name, 80)
    params = [(n, tuple(p.shape)) for n, p in model.named_parameters()]
    assert [(p.name, p.shape) for p in plan.params] == params
    assert {b.name: b.shape for b in plan.buffers} == {
        n: tuple(b.shape) for n, b in model.named_buffers()
    }


def seen(name, batch, side):
    plan = timm_nets.blueprint(name, 80)
    return images.SeenImages(
        shapes={param.name: param.shape for param in plan.params},
        buffers=tuple(TORCH[b.dtype or "float32"].size(math.prod(b.shape)) for b in plan.buffers),
        dtype=FLOAT32,
        batch=batch,
        height=side,
        width=side,
        chip=card(CARD, None)[0].chip,
    )


def real(name, batch, side):
    with FakeGPU(CARD) as gpu:
        with torch.device("cuda"):
            model = built(name).eval().fuse(verbose=False)
        start = len(gpu.tape.levels)
        pixels = torch.zeros(batch, 3, side, side, device="cuda")
        with torch.no_grad():
            out = model(pixels)
    del out
    return max(gpu.tape.levels[start:])


@pytest.mark.parametrize(("name", "batch", "side"), CASES)
def test_forwards_with_norms_folded(name, batch, side):
    """Making the class runs it once for its steps, whose workspace of cuBLAS stays."""
    peak = images.peak(seen(name, batch, side)).allocated
    assert peak == pytest.approx(real(name, batch, side), rel=0.01, abs=workspaces.USUAL)


def stepped(name, batch, side, *, mixed):
    """Two steps of AdamW. The loss is over boxes and classes of all places: what matches them to
    pictures' boxes is not the network's."""
    with FakeGPU(CARD) as gpu:
        with torch.device("cuda"):
            model = built(name).train()
        start = len(gpu.tape.levels)
        adamw = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            adamw.zero_grad()
            pixels = torch.zeros(batch, 3, side, side, device="cuda")
            labels = torch.zeros(batch, device="cuda", dtype=torch.long)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=mixed):
                out = model(pixels)
                both = torch.cat((out["boxes"], out["scores"]), 1)
                del out
                loss = both.float().softmax(-1).mean()
                del both
            loss.backward()
            adamw.step()
            del loss, pixels, labels
    return max(gpu.tape.levels[start:])


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("name", "batch", "side"), CASES)
def test_steps(name, batch, side, mixed):
    ran = images.trained(
        seen(name, batch, side), optimizer("adamw"), TORCH["bfloat16"] if mixed else None
    )
    most = max(peak.allocated for peak in ran.moments.values())
    assert most == pytest.approx(stepped(name, batch, side, mixed=mixed), rel=0.02)
