"""ultralytics' own networks on the fake GPU beside our program: trees, counts, forwards and steps."""

import pytest

torch = pytest.importorskip("torch", reason="the oracle is a forward of ultralytics' models")
tasks = pytest.importorskip("ultralytics.nn.tasks", reason="the oracle is ultralytics' own class")

from tests.torch import networks  # noqa: E402
from tests.torch.networks import MARKS, no_copies_of_cudnn  # noqa: E402, F401
from weighbridge.machines.kernels import workspaces  # noqa: E402
from weighbridge.pictures import components, images  # noqa: E402
from weighbridge.pictures.nets.yolo import CLASSES, plans  # noqa: E402

pytestmark = MARKS
TASKS = dict(zip(("", "-seg", "-pose", "-obb"), CLASSES, strict=True))
LARGE = "lx"  # letters of which one alone is made here
NAMES = [f"yolo{version}{x}" for version, x in plans() if x not in LARGE]
NAMES += [f"yolo{version}{task}" for version in ("v8n", "11n") for task in TASKS if task]
NAMES += ["yolo12l"]
CASES = {
    **{
        name: (name, "", 8, 640)
        for name in ("yolo11n", "yolov5n", "yolov10n", "yolov9t", "yolo12n")
    },
    **{name: (name, "", 2, 640) for name in ("yolov8m", "yolo11m", "yolov9c", "yolo12l")},
    **{name: (name, "", 2, 640) for name in ("yolov10s", "yolov9m")},
    **{f"yolo11n{task}": (f"yolo11n{task}", "", 8, 640) for task in TASKS if task},
    "yolov8n-seg": ("yolov8n-seg", "", 16, 320),
}


def task(name):
    return name[name.index("-") :] if "-" in name else ""


def built(name):
    return getattr(tasks, TASKS[task(name)])(f"{name}.yaml", verbose=False)


def raw(name):
    classes = 1 if name.startswith("yolov8") and task(name) == "-pose" else 80
    return {"architectures": [TASKS[task(name)]], "architecture": name, "num_classes": classes}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes(name):
    model, plan = built(name), components.blueprint(raw(name))
    assert {p.name: p.shape for p in plan.params} == {
        n: tuple(p.shape) for n, p in model.named_parameters()
    }
    assert {b.name: b.shape for b in plan.buffers} == {
        n: tuple(b.shape) for n, b in model.named_buffers()
    }


def seen(name):
    return networks.seen(components.blueprint(raw(name)), *CASES[name][2:], config=raw(name))


@pytest.mark.parametrize("name", CASES)
def test_forwards_with_norms_folded(name):
    """Making the class runs it once for its steps, whose workspace of cuBLAS stays. Kernels of
    YOLOv9 that are folded away are counted as they are loaded."""
    real = networks.forward(lambda: built(name).eval().fuse(verbose=False), *CASES[name][2:])
    peak = images.peak(seen(name)).allocated
    bound = 0.05 if "v9" in name else 0.02
    assert peak == pytest.approx(real, rel=bound, abs=workspaces.USUAL)


def flat(out):
    """All tensors but the features, which are there for their sizes."""
    if isinstance(out, dict):
        return [t for key, one in out.items() if key != "feats" for t in flat(one)]
    return [out]


def loss(model, pixels, labels):
    """Over all that is predicted: what matches it to pictures' boxes is not the network's."""
    parts = [one.reshape(-1) for one in flat(model(pixels))]
    both = torch.cat(parts)
    del parts
    return both.float().softmax(-1).mean()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_steps(name, mixed):
    real = networks.stepped(lambda: built(name), loss, *CASES[name][2:], mixed=mixed)
    assert networks.step(seen(name), mixed=mixed) == pytest.approx(real, rel=0.02)
