"""Stable Diffusion's networks by our rules beside diffusers' own classes, on the meta device."""

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from weighbridge.models.arch import diffusers_nets  # noqa: E402
from weighbridge.models.catalogue import pipelines  # noqa: E402

VAE = {"_class_name": "AutoencoderKL", "block_out_channels": [32, 64], "layers_per_block": 1}
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
CASES = {
    f"{name} {part}": config
    for name in pipelines.names()
    for part, config in pipelines.find(name).parts.items()
    if "_class_name" in config
} | {
    "small": UNET,
    "deep": {**UNET, "transformer_layers_per_block": [1, 2, 3], "use_linear_projection": True},
    "three a block": {**UNET, "layers_per_block": 3},
    "vae": {
        **VAE,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 16,
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_names_and_shapes(case):
    config = CASES[case]
    with torch.device("meta"):
        model = getattr(diffusers, config["_class_name"]).from_config(config)
    plan = diffusers_nets.of_config(config)
    assert {p.name: p.shape for p in plan.params} == {
        name: tuple(p.shape) for name, p in model.named_parameters()
    }
    assert list(model.buffers()) == []
