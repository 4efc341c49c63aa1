"""ultralytics' own detectors on the fake GPU beside our program: counts, forwards and steps."""

import pytest

torch = pytest.importorskip("torch", reason="the oracle is a forward of ultralytics' models")
tasks = pytest.importorskip("ultralytics.nn.tasks", reason="the oracle is ultralytics' own class")

from tests.torch import networks  # noqa: E402
from tests.torch.networks import MARKS, no_copies_of_cudnn  # noqa: E402, F401
from weighbridge.machines.kernels import workspaces  # noqa: E402
from weighbridge.models.arch.families import timm_nets  # noqa: E402
from weighbridge.pictures import images  # noqa: E402

pytestmark = MARKS
NAMES = [f"yolo{version}{size}" for version in ("v8", "11") for size in "nsmlx"]
CASES = [("yolo11n", 8, 640), ("yolov8m", 4, 640), ("yolo11m", 2, 960), ("yolov8n", 16, 320)]


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
    return networks.seen(timm_nets.blueprint(name, 80), batch, side)


@pytest.mark.parametrize(("name", "batch", "side"), CASES)
def test_forwards_with_norms_folded(name, batch, side):
    """Making the class runs it once for its steps, whose workspace of cuBLAS stays."""
    real = networks.forward(lambda: built(name).eval().fuse(verbose=False), batch, side)
    peak = images.peak(seen(name, batch, side)).allocated
    assert peak == pytest.approx(real, rel=0.01, abs=workspaces.USUAL)


def loss(model, pixels, labels):
    """Over boxes and classes of all places: what matches them to pictures' boxes is not the
    network's."""
    out = model(pixels)
    both = torch.cat((out["boxes"], out["scores"]), 1)
    del out
    return both.float().softmax(-1).mean()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("name", "batch", "side"), CASES)
def test_steps(name, batch, side, mixed):
    real = networks.stepped(lambda: built(name), loss, batch, side, mixed=mixed)
    assert networks.step(seen(name, batch, side), mixed=mixed) == pytest.approx(real, rel=0.02)
