"""torchvision's detectors as their weights make them, on the fake GPU, beside our programs."""

import contextlib
import sys

import pytest

torch = pytest.importorskip("torch", reason="the oracle is a forward of torchvision's models")
detection = pytest.importorskip(
    "torchvision.models.detection", reason="the oracle is a class of torchvision"
)

from tests.torch import networks, oracle  # noqa: E402
from tests.torch.networks import MARKS, no_copies_of_cudnn  # noqa: E402, F401
from weighbridge.pictures import components  # noqa: E402
from weighbridge.pictures.nets.rcnn import BOXES  # noqa: E402

pytestmark = MARKS


def _without_kernels():
    """The fake GPU runs no kernel of torchvision's: a stub of its operators does."""
    import importlib

    from torchvision import _autograd_registrations, _meta_registrations, extension

    if not extension._has_ops():
        for module in (extension, sys.modules["torchvision.ops.roi_align"]):
            module._has_ops = lambda: True
        for module in (_meta_registrations, _autograd_registrations):
            with contextlib.suppress(AttributeError):  # what the stub leaves out
                importlib.reload(module)


_without_kernels()
BOUND = 0.02
CASES = {  # function, whether it is the second, pictures, side
    "fasterrcnn": ("fasterrcnn_resnet50_fpn", 0, 2, 640),
    "fasterrcnn-v2": ("fasterrcnn_resnet50_fpn_v2", 1, 2, 640),
    "maskrcnn": ("maskrcnn_resnet50_fpn", 0, 2, 640),
    "maskrcnn-v2": ("maskrcnn_resnet50_fpn_v2", 1, 1, 640),
    "retinanet": ("retinanet_resnet50_fpn", 0, 2, 640),
    "retinanet-v2": ("retinanet_resnet50_fpn_v2", 1, 2, 640),
}
CLASSES = {"fasterrcnn": "FasterRCNN", "maskrcnn": "MaskRCNN", "retinanet": "RetinaNet"}


def built(name):
    """The class with weights: norms of the first version are frozen, and so is the ResNet's first stage."""
    from torchvision.ops import misc

    function, second, _, _ = CASES[name]
    module = __import__(f"torchvision.models.detection.{_module(function)}", fromlist=["x"])
    before = module._validate_trainable_layers, module.nn.BatchNorm2d
    module._validate_trainable_layers = lambda *args: 3
    resnet = module.resnet50
    frozen = None if second else misc.FrozenBatchNorm2d
    module.resnet50 = lambda **kw: resnet(**{**kw, **({"norm_layer": frozen} if frozen else {})})
    try:
        return getattr(detection, function)(weights=None, weights_backbone=None)
    finally:
        module._validate_trainable_layers, module.resnet50 = before[0], resnet


def _module(function):
    return {"fasterrcnn": "faster_rcnn", "maskrcnn": "mask_rcnn", "retinanet": "retinanet"}[
        function.split("_")[0]
    ]


def raw(name):
    function, second, _, _ = CASES[name]
    return {
        "architectures": [CLASSES[function.split("_")[0]]],
        "second": second,
        "num_labels": 91,
    }


def seen(name):
    _, _, batch, side = CASES[name]
    return networks.seen(components.blueprint(raw(name)), batch, side, config=raw(name))


@pytest.mark.parametrize("name", CASES)
def test_trees(name):
    model, plan = built(name), components.blueprint(raw(name))
    assert {p.name: p.shape for p in plan.params} == {
        n: tuple(p.shape) for n, p in model.named_parameters()
    }
    assert not oracle.buffers_unlike(model, plan)


def run(model, pixels):
    return model(list(pixels))


def real_forward(name):
    return networks.forward(lambda: Listed(built(name)), *CASES[name][2:])


class Listed(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return self.model(list(pixels))


@pytest.mark.parametrize("name", CASES)
def test_peaks(name):
    peak = networks.images.peak(seen(name)).allocated
    assert peak == pytest.approx(real_forward(name), rel=BOUND)


def loss(model, pixels, labels):
    side = pixels.shape[-1]
    boxes = torch.tensor([[0.0, 0.0, 100.0, 100.0]] * BOXES).to("cuda")
    targets = [
        {
            "boxes": boxes,
            "labels": torch.ones(BOXES, dtype=torch.long, device="cuda"),
            "masks": torch.zeros(BOXES, side, side, dtype=torch.uint8, device="cuda"),
        }
        for _ in pixels
    ]
    return sum(model(list(pixels), targets).values())


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_steps(name, mixed):
    real = networks.stepped(lambda: built(name), loss, *CASES[name][2:], mixed=mixed)
    assert networks.step(seen(name), mixed=mixed) == pytest.approx(real, rel=BOUND)
