"""Networks of all pipelines as our programs declare them beside diffusers' own classes, on the meta
device."""

import json

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from weighbridge.models.catalogue import pipelines  # noqa: E402
from weighbridge.pictures import components  # noqa: E402

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
EACH = {  # a config once, by the first component that has it
    json.dumps(config, sort_keys=True): f"{name} {part}"
    for name in reversed(pipelines.names())
    for part, config in pipelines.find(name).parts.items()
    if "_class_name" in config and components.known(config)
}
CASES = {name: json.loads(config) for config, name in EACH.items()} | {
    "small": UNET,
    "deep": {**UNET, "transformer_layers_per_block": [1, 2, 3], "use_linear_projection": True},
    "three a block": {**UNET, "layers_per_block": 3},
    "no own attention": {**UNET, "only_cross_attention": [False, True, True]},
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
# Components whose options their program does not follow yet
NOT_FOLLOWED = frozenset(
    (
        *("sana-1.6b transformer", "sana-0.6b transformer"),
        "cogvideox1.5-5b-i2v transformer",
    )
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* is deprecated:FutureWarning")
@pytest.mark.parametrize("case", sorted(CASES.keys() - NOT_FOLLOWED))
def test_names_and_shapes(case):
    """All parameters, and nothing besides that files do not have: a few store buffers."""
    config = CASES[case]
    with torch.device("meta"):
        model = getattr(diffusers, config["_class_name"]).from_config(config)
    declared = {p.name: p.shape for p in components.blueprint(config).params}
    stored = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    assert {
        name: tuple(p.shape) for name, p in model.named_parameters()
    }.items() <= declared.items()
    assert declared.items() <= stored.items()
