"""Networks that declare themselves: trees, forwards and steps beside transformers' own classes."""

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="the oracle is a forward of transformers' classes")
transformers = pytest.importorskip("transformers", reason="the oracle is a class of transformers")

from tests.cases import each  # noqa: E402
from tests.torch import networks, oracle  # noqa: E402
from tests.torch.networks import MARKS, no_copies_of_cudnn  # noqa: E402, F401
from weighbridge.pictures import components  # noqa: E402

pytestmark = MARKS
BOUND = 0.02
SMALL = {  # of rtdetr_r18vd
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        "layer_type": "basic",
        "depths": [2, 2, 2, 2],
        "hidden_sizes": [64, 128, 256, 512],
        "out_features": ["stage2", "stage3", "stage4"],
    },
    "encoder_in_channels": [128, 256, 512],
    "hidden_expansion": 0.5,
    "decoder_layers": 3,
}
LARGE = {  # facebook/sam2.1-hiera-large
    "vision_config": {
        "backbone_channel_list": [1152, 576, 288, 144],
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 144,
            "num_attention_heads": 2,
            "blocks_per_stage": [2, 6, 36, 4],
            "embed_dim_per_stage": [144, 288, 576, 1152],
            "num_attention_heads_per_stage": [2, 4, 8, 16],
            "window_size_per_stage": [8, 4, 16, 8],
            "global_attention_blocks": [23, 33, 43],
            "window_positional_embedding_background_size": [7, 7],
        },
    }
}
CASES = {  # class, what its config says otherwise, pictures, side
    "detr-resnet-50": ("DetrForObjectDetection", {"num_labels": 91}, 2, 800),
    "detr-resnet-101": (
        "DetrForObjectDetection",
        {"num_labels": 91, "backbone": "resnet101", "use_timm_backbone": True},
        4,
        512,
    ),
    "rtdetr-r50": ("RTDetrForObjectDetection", {"num_labels": 80}, 4, 640),
    "rtdetr-r18": ("RTDetrForObjectDetection", {"num_labels": 80, **SMALL}, 4, 640),
    "rtdetr-v2-r50": ("RTDetrV2ForObjectDetection", {"num_labels": 80}, 2, 512),
    "sam2-hiera-tiny": ("Sam2Model", {}, 2, 1024),
    "sam2-hiera-large": ("Sam2Model", LARGE, 1, 1024),
    "sam-vit-base": ("SamModel", {}, 1, 1024),
    "sam-vit-two-pictures": ("SamModel", {"vision_config": {"num_hidden_layers": 4}}, 2, 1024),
    "depth-anything-small": ("DepthAnythingForDepthEstimation", {}, 4, 518),
    "depth-anything-other-side": ("DepthAnythingForDepthEstimation", {}, 2, 392),
}


def config(name):
    cls, changes, _, _ = CASES[name]
    if cls == "DetrForObjectDetection":
        pytest.importorskip("timm", reason="its backbone is timm's")
    return getattr(transformers, cls).config_class(**changes)


def built(name):
    return getattr(transformers, CASES[name][0])(config(name))


def raw(name):
    """The config as a checkpoint has it, defaults and all."""
    return {**config(name).to_dict(), "architectures": [CASES[name][0]]}


def seen(name):
    _, _, batch, side = CASES[name]
    return networks.seen(components.blueprint(raw(name)), batch, side, config=raw(name))


@pytest.mark.parametrize("name", CASES)
def test_trees(name):
    with torch.device("meta"):
        model = built(name)
    plan = components.blueprint(raw(name))
    assert {p.name: p.shape for p in plan.params} == oracle.tensors(model)
    assert not oracle.buffers_unlike(model, plan)


@pytest.mark.parametrize("name", CASES)
def test_peaks(name):
    real = networks.forward(partial(built, name), *CASES[name][2:])
    peak = networks.images.peak(seen(name))
    assert peak.allocated == pytest.approx(real, rel=BOUND)


LABELLED = "RTDetr"  # classes that see the boxes of pictures while they are trained


def loss(model, pixels, labels):
    """Over boxes and classes of all queries: what matches them is not the network's."""
    if type(model).__name__.startswith(LABELLED):
        return _of_all_layers(model, pixels)
    out = model(pixels)
    for maps in ("predicted_depth", "pred_masks"):
        if maps in out:
            return out[maps].float().softmax(-1).mean()
    both = torch.cat((out.logits, out.pred_boxes), -1)
    del out
    return both.float().softmax(-1).mean()


def _of_all_layers(model, pixels):
    boxes = torch.rand(10, 4, device="cuda")
    labels = [{"class_labels": torch.zeros(10, dtype=torch.long, device="cuda"), "boxes": boxes}]

    def over(logits, labels, device, pred_boxes, config, outputs_class, outputs_coord, **more):
        both = torch.cat((outputs_class, outputs_coord), -1)
        return both.float().softmax(-1).mean(), {}, None

    model._loss_function = over
    return model(pixels, labels=labels * len(pixels)).loss


@pytest.mark.parametrize(("name", "mixed"), each(3, [(n, m) for n in CASES for m in (False, True)]))
def test_steps(name, mixed):
    real = networks.stepped(partial(built, name), loss, *CASES[name][2:], mixed=mixed)
    assert networks.step(seen(name), mixed=mixed) == pytest.approx(real, rel=BOUND)
