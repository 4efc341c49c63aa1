"""Forwards and steps of transformers' own networks that see, on the fake GPU, beside our programs."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the oracle is a forward of transformers' classes")
transformers = pytest.importorskip("transformers", reason="the oracle is a class of transformers")

from tests.torch.cudnn import left_out  # noqa: E402
from weighbridge.base.dtypes import FLOAT32, TORCH  # noqa: E402
from weighbridge.models.arch.builder import blueprint  # noqa: E402
from weighbridge.models.arch.config import Config  # noqa: E402
from weighbridge.pictures import images  # noqa: E402
from weighbridge.training.optimizers import optimizer  # noqa: E402
from weighbridge_lab.trace import guard  # noqa: E402
from weighbridge_lab.trace.card import card  # noqa: E402
from weighbridge_lab.trace.gpu import FakeGPU  # noqa: E402

pytestmark = [
    pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not()),
    pytest.mark.filterwarnings("ignore"),
]
CARD, BOUND = "a100-80gb", 0.01
BASIC = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
DEEPER = {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 256}
CASES = {  # class, what its config says otherwise, pictures, side
    "resnet-50": ("ResNetForImageClassification", {}, 8, 224),
    "resnet-18": ("ResNetForImageClassification", BASIC, 8, 224),
    "convnext": ("ConvNextForImageClassification", {}, 8, 224),
    "convnextv2": ("ConvNextV2ForImageClassification", {"num_labels": 1000}, 8, 224),
    "swin": ("SwinForImageClassification", {"num_labels": 1000}, 8, 224),
    "segformer-b0": ("SegformerForSemanticSegmentation", {"num_labels": 150}, 2, 512),
    "segformer-b1": ("SegformerForSemanticSegmentation", {"num_labels": 19, **DEEPER}, 2, 512),
}


@pytest.fixture(autouse=True)
def no_copies_of_cudnn(monkeypatch):
    left_out(monkeypatch)


def config(name):
    cls, changes, _, _ = CASES[name]
    return getattr(transformers, cls).config_class(**changes)


def built(name):
    with torch.device("cuda"):
        return getattr(transformers, CASES[name][0])(config(name))


def real(name):
    _, _, batch, side = CASES[name]
    with FakeGPU(CARD) as gpu:
        model = built(name).eval()
        pixels = torch.zeros(batch, 3, side, side, device="cuda")
        with torch.no_grad():
            out = model(pixels)
    del out
    return max(gpu.tape.levels)


def seen(name):
    cls, _, batch, side = CASES[name]
    raw = {**config(name).to_dict(), "architectures": [cls]}
    plan = blueprint(Config(raw, where=name))
    return images.SeenImages(
        shapes={param.name: param.shape for param in plan.params},
        buffers=tuple(TORCH[b.dtype or "float32"].size(math.prod(b.shape)) for b in plan.buffers),
        dtype=FLOAT32,
        batch=batch,
        height=side,
        width=side,
        chip=card(CARD, None)[0].chip,
    )


@pytest.mark.parametrize("name", CASES)
def test_peaks(name):
    assert images.peak(seen(name)).allocated == pytest.approx(real(name), rel=BOUND)


def stepped(name, *, mixed):
    """The peak of two steps of AdamW."""
    _, _, batch, side = CASES[name]
    shape = (batch, side, side) if "Segmentation" in CASES[name][0] else (batch,)
    with FakeGPU(CARD) as gpu:
        model = built(name).train()
        adamw = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            adamw.zero_grad()
            pixels = torch.zeros(batch, 3, side, side, device="cuda")
            labels = torch.zeros(shape, device="cuda", dtype=torch.long)
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=mixed):
                loss = model(pixels, labels=labels).loss
            loss.backward()
            adamw.step()
            del loss, pixels, labels
    return max(gpu.tape.levels)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_steps(name, mixed):
    ran = images.trained(seen(name), optimizer("adamw"), TORCH["bfloat16"] if mixed else None)
    most = max(peak.allocated for peak in ran.moments.values())
    assert most == pytest.approx(stepped(name, mixed=mixed), rel=0.02)
