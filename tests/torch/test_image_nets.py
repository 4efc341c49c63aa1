"""Forwards and steps of timm's own networks on the fake GPU beside our programs, with weights and pictures.

Small differences are the allocator's: ours places weights and buffers apart, timm module by module.
"""

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="the oracle is a forward of timm's models")
timm = pytest.importorskip("timm", reason="the oracle is a forward of timm's models")

from tests.torch import networks  # noqa: E402
from tests.torch.networks import MARKS, no_copies_of_cudnn  # noqa: E402, F401
from weighbridge.models.arch.families import timm_nets  # noqa: E402
from weighbridge.pictures import images  # noqa: E402

pytestmark = MARKS
BOUND = 0.01
SIZED = "vit", "deit", "swin", "eva"  # whose positions or windows are made for a size
CASES = [
    *((name, 8, 224) for name in ("resnet18", "resnext50_32x4d", "regnetx_032", "convnext_nano")),
    *((name, 16, 256) for name in ("resnet50", "regnety_032", "convnext_tiny", "efficientnet_b0")),
    *((name, 32, 384) for name in ("mobilenetv2_100", "mobilenetv3_small_100", "efficientnet_b4")),
    *((name, 8, 224) for name in ("vit_small_patch16_224", "deit_tiny_distilled_patch16_224")),
    *((name, 8, 224) for name in ("mobilenetv3_large_100", "swin_tiny_patch4_window7_224")),
    ("swin_base_patch4_window12_384", 4, 384),
    ("vit_small_patch16_224", 16, 384),
    *((name, 8, 224) for name in ("vgg16", "vgg11_bn", "densenet121", "densenet161")),
    *((name, 16, 224) for name in ("convnextv2_nano", "convnextv2_tiny", "tf_efficientnet_b0")),
    *((name, 8, 256) for name in ("efficientnetv2_s", "tf_efficientnetv2_b0", "efficientnetv2_m")),
    *((name, 16, 256) for name in ("mobilenetv4_conv_small", "mobilenetv4_conv_medium")),
    *((name, 8, 224) for name in ("eva02_small_patch14_224", "eva02_base_patch14_224")),
    *(
        (name, 8, 224)
        for name in ("vit_small_patch16_dinov3", "vit_small_plus_patch16_dinov3_qkvb")
    ),
    *(
        (name, 8, 224)
        for name in ("vit_base_patch16_siglip_224", "vit_base_patch16_siglip_gap_224")
    ),
    *((name, 8, 224) for name in ("vit_base_patch32_clip_224", "eva_giant_patch14_224")),
    ("vit_small_patch14_reg4_dinov2", 8, 518),
]


def seen(name, batch, side):
    plan = timm_nets.blueprint(name, 1000)
    shapes = images.resized({param.name: param.shape for param in plan.params}, side, side)
    return networks.seen(plan, batch, side, shapes=shapes, pads_copies=name.startswith("tf_"))


@pytest.mark.parametrize(("name", "batch", "side"), CASES)
def test_peaks(name, batch, side):
    sized = {"img_size": side} if name.startswith(SIZED) else {}
    make = partial(timm.create_model, name, num_classes=1000, **sized)
    peak = images.peak(seen(name, batch, side)).allocated
    assert peak == pytest.approx(networks.forward(make, batch, side), rel=BOUND)


def loss(model, pixels, labels):
    return torch.nn.functional.cross_entropy(model(pixels), labels)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet50", "regnety_032", "convnext_tiny", "efficientnet_b0"),
        *("mobilenetv2_100", "mobilenetv3_large_100", "vit_small_patch16_224"),
        "swin_tiny_patch4_window7_224",
        *("eva02_tiny_patch14_224", "vit_small_patch16_dinov3", "vit_base_patch32_clip_224"),
        *("convnextv2_atto", "mobilenetv4_conv_small", "densenet121", "vgg11_bn"),
    ],
)
def test_steps(name, mixed):
    make = partial(timm.create_model, name, num_classes=1000)
    real = networks.stepped(make, loss, 8, 224, mixed=mixed)
    assert networks.step(seen(name, 8, 224), mixed=mixed) == pytest.approx(real, rel=0.01)
