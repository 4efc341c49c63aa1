"""Trees that our programs declare, beside the parameters of diffusers' and transformers' own classes."""

import pytest

pytest.importorskip("torch", reason="the oracle is a class of diffusers")
pytest.importorskip("diffusers", reason="the oracle is a class of diffusers")

from tests.cases import each
from tests.torch.cases_controls import CASES as CONTROLS
from tests.torch.cases_pictures import CASES as IMAGES
from tests.torch.cases_videos import CASES as VIDEOS
from tests.torch.picture_law import built, tree
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures import components

pytestmark = pytest.mark.filterwarnings("ignore")  # what diffusers deprecates
UNET = {
    "_class_name": "UNet2DConditionModel",
    "block_out_channels": [32, 64, 96],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 24,
    "in_channels": 9,
    "out_channels": 4,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "latent_channels": 16,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
SMALL = {
    "small": UNET,
    "deep": {**UNET, "transformer_layers_per_block": [1, 2, 3], "use_linear_projection": True},
    "three a block": {**UNET, "layers_per_block": 3},
    "no attention to itself": {**UNET, "only_cross_attention": [False, True, True]},
    "vae": VAE,
}
CASES = {name: case.config for name, case in {**IMAGES, **VIDEOS, **CONTROLS}.items()} | {
    f"{name} {part}": config
    for name in pipelines.names()
    for part, config in pipelines.find(name).parts.items()
    if components.known(config)
}
CASES |= SMALL
STORED = {"patch_embed.pos_embedding"}  # buffers of some classes, which their files hold
# Trees of transformers' classes are those of arch/families
CASES = {name: config for name, config in CASES.items() if "_class_name" in config}


@pytest.mark.parametrize("name", each(2, list(CASES)))
def test_names_and_shapes(name):
    config = CASES[name]
    declared = {p.name: p.shape for p in components.blueprint(config).params}
    assert {n: shape for n, shape in declared.items() if n not in STORED} == tree(config)
    if not STORED.isdisjoint(declared):
        stored = {n: tuple(t.shape) for n, t in built(config).state_dict().items()}
        assert declared.items() <= stored.items()
