"""Stable Diffusion's networks by our rules: the published counts, without torch or diffusers."""

import pytest

import weighbridge
from weighbridge.faces.cli.menu import run
from weighbridge.models.arch import diffusers_nets
from weighbridge.models.catalogue import everyday, pipelines

# Counted of the classes, diffusers 0.42 and transformers 5.23 on the meta device
FACTS = {
    "sd-1.5": {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
    "sd-2.1": {"text_encoder": 340_387_840, "unet": 865_910_724, "vae": 83_653_863},
    "sdxl": {
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "unet": 2_567_463_684,
        "vae": 83_653_863,
    },
}


@pytest.mark.parametrize("name", FACTS)
def test_the_parts_of_a_pipeline(name):
    model = weighbridge.prepare(name).model()
    assert {p.name: p.blueprint.parameters for p in model.parts} == FACTS[name]
    assert model.repo_id == pipelines.find(name).repo_id
    assert model.notes == ()


def test_every_pipeline_is_counted_here():
    assert set(pipelines.names()) == FACTS.keys()
    assert set(pipelines.NAMES.values()) == FACTS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SDXL", "sdxl_base", "stable diffusion xl", "sd-xl"])
def test_everyday_names(name):
    assert pipelines.find(name).name == "sdxl"
    assert weighbridge.load(name).model.parameters == 3_468_837_867


def test_a_name_near_a_pipeline(capsys):
    assert everyday.nearest("sdxxl")[0] == "sdxl"
    assert run(["load", "sdxxl"]) == 2
    assert "did you mean sdxl" in capsys.readouterr().err


@pytest.mark.slow
def test_its_repository_where_the_hub_is_away(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    found = weighbridge.load("stabilityai/stable-diffusion-xl-base-1.0", offline=True)
    assert found.model.parameters == 3_468_837_867
    assert "answered from the built-in catalogue's sdxl" in found.warnings[0]


def config(**changes):
    return {**pipelines.find("sdxl").parts["unet"], **changes}


@pytest.mark.slow
def test_the_largest_module_that_is_never_split():
    """1,206,568,960 numbers in up_blocks.0, as accelerate 1.15 finds it."""
    rows = {row.dtype: row for row in weighbridge.load("sdxl").table}
    assert rows["float32"].largest_layer_bytes == 4 * 1_206_568_960


@pytest.mark.parametrize(
    "changes",
    [
        {"class_embed_type": "timestep"},
        {"only_cross_attention": [False, True, True]},
        {"addition_embed_type": "image"},
        {"mid_block_type": "UNetMidBlock2D"},
        {"down_block_types": ["AttnDownBlock2D"] * 3},
        {"_class_name": "UNet3DConditionModel"},
    ],
)
def test_other_networks_are_not_guessed(changes):
    assert diffusers_nets.of_config(config(**changes)) is None
    assert diffusers_nets.of_config(config()) is not None
