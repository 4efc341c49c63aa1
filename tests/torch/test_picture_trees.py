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


def numbers(made):
    return sum(one.numel() for one in (*made.parameters(), *made.buffers()))


def test_components_beside_those_that_run_are_counted():
    """LTX-2.3's as scripts/convert_ltx2_to_diffusers.py configures them; defaults are LTX-2's."""
    import torch
    from diffusers import AutoencoderKLLTX2Audio, MotionAdapter
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

    newer = {"per_modality_projections": True, "proj_bias": True}
    for kind, width in (("video", 128), ("audio", 64)):
        newer |= {f"{kind}_connector_num_attention_heads": 32, f"{kind}_gated_attn": True}
        newer |= {f"{kind}_connector_num_layers": 8, f"{kind}_connector_attention_head_dim": width}
    with torch.device("meta"):
        audio = numbers(AutoencoderKLLTX2Audio())
        counted = {
            "ltx-2": (numbers(LTX2TextConnectors()), audio, numbers(LTX2Vocoder())),
            "ltx-2.3": (numbers(LTX2TextConnectors(**newer)), audio, numbers(LTX2VocoderWithBWE())),
            "animatediff": (numbers(MotionAdapter(use_motion_mid_block=False)),),
        }
    for name, values in counted.items():
        assert tuple(pipelines.find(name).recipe["beside"].values()) == values
