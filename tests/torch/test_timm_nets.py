"""timm's networks as recorded beside timm's and torchvision's own models, on the meta device."""

import math

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from weighbridge.models.arch.families import timm_nets  # noqa: E402

NAMES = timm.list_models()
EVERY = 11  # of so many networks one is built
RECORDED = [name for name in NAMES if timm_nets.find(name)]
RELEASED = [
    name
    for name in timm.list_pretrained()
    if (found := timm_nets.find(name.partition(".")[0]))
    and found.classes(name.partition(".")[2]) is not None
]


def built(name, classes):
    with torch.device("meta"):
        return timm.create_model(name, num_classes=classes)


def tensors(model):
    kept = set(model.state_dict())
    params = [(name, tuple(p.shape)) for name, p in model.named_parameters()]
    buffers = {
        name: (tuple(b.shape), str(b.dtype).removeprefix("torch."), name in kept)
        for name, b in model.named_buffers()
    }
    return params, buffers


def ours(plan):
    params = [(p.name, p.shape) for p in plan.params]
    return params, {b.name: (b.shape, b.dtype or "float32", b.persistent) for b in plan.buffers}


def test_nearly_every_network_of_the_installed_release_is_recorded():
    lacking = [name for name in NAMES if name not in RECORDED]
    assert len(lacking) <= len(NAMES) / 50, lacking


@pytest.mark.parametrize("name", RECORDED[::EVERY])
@pytest.mark.parametrize("classes", [1000, 0])
def test_names_shapes_and_buffers(name, classes):
    model, plan = built(name, classes), timm_nets.blueprint(name, classes)
    assert ours(plan) == tensors(model)
    assert plan.cls == type(model).__name__


def test_the_classes_that_tags_say():
    said = {name: timm_nets.blueprint(name).parameters for name in RELEASED}
    assert said
    for name, parameters in said.items():
        classes = timm.models.get_pretrained_cfg(name).num_classes
        assert parameters == timm_nets.blueprint(name.partition(".")[0], classes).parameters, name


# torchvision

TORCHVISION = {
    **{name: name for name in RECORDED if name != "inception_v3"},  # there with a second head
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
    "vit_h_14": "vit_huge_patch14_224",
}


def leaf(model):
    """Parameters of the largest module without children."""
    leaves = (m for m in model.modules() if not list(m.children()))
    return max(sum(p.numel() for p in m.parameters()) for m in leaves)


def test_torchvision_counts_the_same():
    models = pytest.importorskip("torchvision.models")
    shared = [name for name in models.list_models(models) if name in TORCHVISION]
    assert shared
    for name in shared:
        with torch.device("meta"):
            theirs = models.get_model(name)
        model = built(TORCHVISION[name], 1000)
        plan = timm_nets.blueprint(TORCHVISION[name], 1000)
        assert sum(p.numel() for p in theirs.parameters()) == plan.parameters, name
        assert leaf(theirs) == leaf(model), name
        kept = sum(math.prod(b.shape) for b in plan.buffers if b.persistent)
        if not name.startswith("swin"):  # whose indices are persistent there
            assert sum(b.numel() for b in theirs.buffers()) == kept, name
