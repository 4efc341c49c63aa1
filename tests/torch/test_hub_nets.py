"""Forwards and steps of transformers' own networks that see, on the fake GPU, beside our programs."""

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="the oracle is a forward of transformers' classes")
transformers = pytest.importorskip("transformers", reason="the oracle is a class of transformers")

from tests.torch import networks  # noqa: E402
from tests.torch.networks import MARKS, no_copies_of_cudnn  # noqa: E402, F401
from weighbridge.models.arch.builder import blueprint  # noqa: E402
from weighbridge.models.arch.config import Config  # noqa: E402
from weighbridge.pictures import images  # noqa: E402

pytestmark = MARKS
BOUND = 0.01
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


def config(name):
    cls, changes, _, _ = CASES[name]
    return getattr(transformers, cls).config_class(**changes)


def built(name):
    return getattr(transformers, CASES[name][0])(config(name))


def seen(name):
    cls, _, batch, side = CASES[name]
    raw = {**config(name).to_dict(), "architectures": [cls]}
    return networks.seen(blueprint(Config(raw, where=name)), batch, side)


@pytest.mark.parametrize("name", CASES)
def test_peaks(name):
    real = networks.forward(partial(built, name), *CASES[name][2:])
    assert images.peak(seen(name)).allocated == pytest.approx(real, rel=BOUND)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_steps(name, mixed):
    cls, _, batch, side = CASES[name]
    shape = (batch, side, side) if "Segmentation" in cls else (batch,)

    def loss(model, pixels, labels):
        return model(pixels, labels=labels).loss

    make = partial(built, name)
    real = networks.stepped(make, loss, batch, side, mixed=mixed, labelled=shape)
    assert networks.step(seen(name), mixed=mixed) == pytest.approx(real, rel=0.02)
