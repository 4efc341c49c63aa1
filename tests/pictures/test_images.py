"""Networks that see one picture: their forwards by hand, and laws that hold whatever is asked."""

import pytest

import weighbridge
from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.errors import UnsupportedError
from weighbridge.models.arch.families import timm_nets
from weighbridge.pictures import images
from weighbridge.pictures.images import Seen

MIB = 1 << 20
BATCH, SIDE = 8, 224
STEM = BATCH * 64 * 112 * 112 * 4  # ResNet's first convolution


def shapes(name):
    return {param.name: param.shape for param in timm_nets.blueprint(name).params}


def peak(name, side=SIDE, batch=BATCH):
    tree = images.resized(shapes(name), side, side)
    seen = Seen(shapes=tree, buffers=(), dtype=FLOAT32, batch=batch, height=side, width=side)
    return images.peak(seen)


def step(name, **sizes):
    live = peak(name, **sizes).live
    return sum(n for part, n in live.items() if part not in ("weights", "inputs", "workspaces"))


def test_a_batch_norm_writes_a_tensor_and_its_activation_writes_over_it():
    """ResNet-18 is fullest at its first batch norm: input, output, and two numbers a channel."""
    assert step("resnet18") == 2 * STEM + 2 * 64 * 4


def test_a_block_holds_its_input_beside_what_becomes_the_sum():
    """The first block of ResNet-50: what the pooling gave, the third norm's, the shortcut's two."""
    pooled, wide = STEM // 4, STEM
    assert step("resnet50") == pooled + 3 * wide + 2 * 256 * 4


def test_a_transformer_is_fullest_where_its_feed_forward_is():
    """ViT-S/16: both sides of gelu, four times as wide, and the embedding, the block's input, the
    sum and the norm of 197 tokens."""
    token = BATCH * 197 * 384 * 4
    assert step("vit_small_patch16_224") == (2 * 4 + 4) * token


def test_positions_are_of_the_size_that_is_asked():
    table = images.resized(shapes("vit_small_patch16_224"), 384, 384)["pos_embed"]
    assert table == (1, 24 * 24 + 1, 384)
    assert images.usual(shapes("deit_base_distilled_patch16_384")) == (384, 384)
    assert images.usual(shapes("resnet18")) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("resnet50", "resnext50_32x4d", "regnetx_004", "regnety_032", "convnext_tiny"),
        *("convnext_nano", "efficientnet_b0", "mobilenetv2_100", "mobilenetv3_large_100"),
        *("mobilenetv3_small_100", "vit_base_patch32_224", "swin_tiny_patch4_window7_224"),
    ],
)
def test_more_pixels_or_more_pictures_take_more(name):
    least = peak(name).allocated
    assert peak(name, batch=2 * BATCH).allocated > least
    assert peak(name, side=2 * SIDE).allocated > least


def test_a_tensor_that_a_program_does_not_meet_is_no_answer():
    tree = {**shapes("resnet18"), "layer1.0.se.fc1.weight": (4, 64, 1, 1)}
    seen = Seen(shapes=tree, buffers=(), dtype=FLOAT32, batch=1, height=SIDE, width=SIDE)
    with pytest.raises(UnsupportedError, match=r"layer1\.0\.se\.fc1\.weight"):
        images.peak(seen)


def test_a_tree_of_no_kind_has_no_program():
    assert images.program({"fc.weight": (10, 4)}) is None
    seen = Seen(
        shapes={"fc.weight": (10, 4)}, buffers=(), dtype=FLOAT32, batch=1, height=8, width=8
    )
    with pytest.raises(UnsupportedError, match="no program"):
        images.peak(seen)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def asked(name="resnet-18", **settings):
    return weighbridge.infer(name, **settings)


def forward(report):
    return next(p for p in report.devices[0].phases if p.name == "forward")


def test_a_forward_of_a_batch_fits_or_does_not(offline):
    few, many = asked(gpu="3060", batch_size=8), asked(gpu="3060", batch_size=8192)
    assert (few.verdict.fits, many.verdict.fits) == ("yes", "no")
    assert few.derived["not_counted"] == []
    assert few.workload["image_size"] == [224, 224]
    assert (
        forward(asked(batch_size=8, image_size="384")).at("driver").expected
        > forward(few).at("driver").expected
    )


def test_a_chip_that_nobody_measured_is_wider_upwards(offline):
    """By 30 % of all, where cuDNN chose as much more (an RTX 50)."""
    new = asked(gpu="5090")
    (beyond,) = (c for c in forward(new).components if "nobody measured" in c.detail)
    expected = forward(new).at("driver").expected
    assert beyond.bytes == (0, 0, expected * 30 // 100)
    assert any("nobody measured" in line for line in new.warnings)
    known = asked(gpu="3090")
    assert not any("nobody measured" in line for line in known.warnings)
    assert not any("nobody measured" in c.detail for c in forward(known).components)
