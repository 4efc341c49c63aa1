"""ControlNets, IP-Adapters, refiners and LoRAs beside a pipeline: their sizes, and where they are."""

import pytest

from weighbridge import prepare
from weighbridge.base.dtypes import TORCH
from weighbridge.base.errors import ContradictionError, UnsupportedError
from weighbridge.faces import api
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.pictures import adapting, components
from weighbridge.pictures.companions import joined, loras
from weighbridge.pictures.request import foreign
from weighbridge.pictures.spec import row_of
from weighbridge.workload.picture import Picture

MB, GIB = 10**6, 1 << 30


def pipeline(name, **settings):
    model = prepare(name).model()
    return joined(row_of(model), {p.name: p for p in model.parts}, Picture(**settings))


def size(part):
    return 2 * part.blueprint.parameters


# Files of float16 as they are published: lllyasviel/control_v11p_sd15_canny 723 MB,
# diffusers/controlnet-canny-sdxl-1.0 2,502 MB, stabilityai/stable-diffusion-xl-refiner-1.0's U-Net
# 4,520 MB, h94/IP-Adapter models/image_encoder 2,528 MB (float32: halved), sdxl_models 3,689 MB
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "setting", "component", "published"),
    [
        ("sd-1.5", {"controlnet": 1}, "controlnet", 723),
        ("sdxl", {"controlnet": 1}, "controlnet", 2502),
        ("sdxl", {"refiner": True}, "refiner", 4520),
        ("sd-1.5", {"ip_adapter": True}, "image_encoder", 1264),
        ("sdxl", {"ip_adapter": True}, "image_encoder", 3689),
    ],
)
def test_sizes_are_those_of_published_files(name, setting, component, published):
    _, parts = pipeline(name, **setting)
    assert size(parts[component]) / MB == pytest.approx(published, rel=0.002)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "published"), [("sd-1.5", 44.6), ("sdxl", 702.6)])
def test_what_an_ip_adapter_adds_to_a_unet(name, published):
    """Files of h94/IP-Adapter hold it in float16: ip-adapter_sd15 44.6, ip-adapter_sdxl 702.6 MB."""
    (row, before), (_, after) = pipeline(name), pipeline(name, ip_adapter=True)
    added = size(after[row.denoiser]) - size(before[row.denoiser])
    assert added / MB == pytest.approx(published, rel=0.002)


def test_a_lora_by_hand():
    """A block of one linear of 8 x 4: rank 2 is (2 * 4 + 8 * 2) values in bfloat16 a file."""
    config = {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": [32, 64],
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "layers_per_block": 1,
        "cross_attention_dim": 24,
        "norm_num_groups": 32,
    }
    plan = components.blueprint(config)
    part = ModelPart(name="unet", blueprint=plan, config=config)
    dtype = TORCH["bfloat16"]
    linears = [p for p in plan.params if p.kind == "linear" and ".attentions." in p.name]
    by_hand = sum(2 * 2 * sum(p.shape) for p in linears)
    assert sum(adapting.files(part, 1, 2, dtype)) == by_hand
    assert sum(adapting.files(part, 3, 2, dtype)) == 3 * by_hand
    assert set(adapting.loaded(part, 1, 2, dtype)) == {p.name[: -len(".weight")] for p in linears}


def test_fused_loras_are_in_the_weights():
    assert loras(Picture(lora=2)) == (2, 32)
    assert loras(Picture(lora=2, lora_r=8)) == (2, 8)
    assert loras(Picture(lora=2, fuse_lora=True)) is loras(Picture()) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("wan2.1-t2v-1.3b", {"controlnet": 1}),
        ("flux.1-dev", {"ip_adapter": True}),
        ("sd-1.5", {"refiner": True}),
    ],
)
def test_what_nobody_published_is_refused(name, settings):
    with pytest.raises(UnsupportedError, match="none is known"):
        pipeline(name, **settings)


def test_programs_without_them():
    with pytest.raises(ContradictionError, match="--ip-adapter is a setting of diffusers"):
        foreign(Picture(ip_adapter=True, engine="comfyui"))


def allocated(report):
    return max(p.at("allocated").expected for p in report.devices[0].phases)


def stages(report):
    return [(s["stage"], s["component"]) for s in report.derived["picture_stages"]]


@pytest.mark.slow
def test_stages_in_their_order():
    pictured = api.image("sd-1.5", controlnet=2, ip_adapter=True, size="256x256")
    assert stages(pictured) == [
        ("encode", "text_encoder"),
        ("encode", "image_encoder"),
        ("denoise", "controlnet"),
        ("denoise", "controlnet_2"),
        ("denoise", "unet"),
        ("decode", "vae"),
    ]
    refined = stages(api.image("sdxl", refiner=True, size="256x256"))
    assert refined[-3:] == [("denoise", "unet"), ("denoise", "refiner"), ("decode", "vae")]


@pytest.mark.slow
@pytest.mark.parametrize("offload", ["none", "model", "sequential"])
def test_more_beside_it_never_takes_less(offload):
    asked = {"size": "256x256", "offload": offload}
    bare = allocated(api.image("sd-1.5", **asked))
    for settings in ({"controlnet": 1}, {"ip_adapter": True}, {"lora": 2}):
        more = api.image("sd-1.5", **asked, **settings)
        assert allocated(more) >= bare, settings
        assert more.workload.keys() >= settings.keys()


@pytest.mark.slow
def test_the_lines_that_run_it():
    found = api.image("sdxl", controlnet=1, lora=1, gpu="4090", size="256x256")
    lines = found.derived["launch"]
    assert "AutoPipelineForText2Image.from_pretrained(" in lines
    assert "controlnet=controlnet" in lines
    assert "load_lora_weights" in lines
    compile(lines, "lines", "exec")


@pytest.mark.slow
def test_comfyui_adds_loras_to_the_weights_and_keeps_their_files_in_ram():
    """Two files of rank 16 of SD 1.5's U-Net, by the sides of its linears."""
    asked = {"engine": "comfyui", "size": "256x256", "gpu": "3060"}
    bare, added = (api.image("sd-1.5", **asked, **more) for more in ({}, {"lora": 2, "lora_r": 16}))
    assert bare.peak.expected == added.peak.expected
    unet = next(p for p in prepare("sd-1.5").model().parts if p.name == "unet")
    files = sum(adapting.files(unet, 2, 16, TORCH["bfloat16"]))
    host = [r.devices[1].phases[0].at("driver").expected for r in (bare, added)]
    assert host[1] - host[0] == pytest.approx(files, rel=0.01)
