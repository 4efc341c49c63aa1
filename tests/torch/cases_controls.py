"""ControlNets, denoisers that add what these give, and a U-Net with an IP-Adapter."""

from tests.torch.cases_pictures import FLUX, FLUX_IN, INFERENCE, SD15
from tests.torch.picture_law import Case, Plainly
from weighbridge.pictures.values import Sizes

TRAINED = dict.fromkeys(("step", "checkpoints"), "a ControlNet is trained whole")
QWEN = {"num_layers": 2}
QWEN_IN = {
    "hidden_states": (1, 4096, 64),
    "timestep": (1,),
    "encoder_hidden_states": (1, 128, 3584),
}
SD3_IN = {
    "hidden_states": (2, 16, 128, 128),
    "encoder_hidden_states": (2, 333, 4096),
    "pooled_projections": (2, 2048),
    "timestep": (2,),
}
SD_IN = {"sample": (2, 4, 64, 64), "timestep": (2,), "encoder_hidden_states": (2, 77, 768)}
SD = Sizes(batch=2, height=64, width=64, text=77)
# What ControlNetModel gives of a picture of 512 x 512, from the largest latents down
SKIPS = [
    *[(2, 320, 64, 64)] * 3,
    *[(2, 320, 32, 32), *[(2, 640, 32, 32)] * 2],
    *[(2, 640, 16, 16), *[(2, 1280, 16, 16)] * 2],
    *[(2, 1280, 8, 8)] * 3,
]
FLUX_ROW, SD3_ROW, QWEN_ROW = (1, 4096, 3072), (2, 4096, 1152), (1, 4096, 3072)

CASES = {
    "flux control": Case(
        config={"_class_name": "FluxControlNetModel", "num_layers": 3, "num_single_layers": 3},
        inputs={**FLUX_IN, "controlnet_cond": (1, 4096, 64)},
        sizes=Sizes(tokens=4096, text=512),
        skipped=TRAINED,
    ),
    "flux controlled": Case(
        config=FLUX,
        inputs={
            **FLUX_IN,
            "controlnet_block_samples": [FLUX_ROW] * 2,
            "controlnet_single_block_samples": [FLUX_ROW],
        },
        control=([FLUX_ROW] * 2, [FLUX_ROW]),
        sizes=Sizes(tokens=4096, text=512),
        skipped=INFERENCE,
    ),
    "sd3 control": Case(
        config={
            "_class_name": "SD3ControlNetModel",
            "num_layers": 2,
            "extra_conditioning_channels": 1,
        },
        inputs={**SD3_IN, "controlnet_cond": (2, 17, 128, 128)},
        sizes=Sizes(batch=2, height=128, width=128, text=333),
        skipped=TRAINED,
    ),
    "sd3 controlled": Case(
        config={"_class_name": "SD3Transformer2DModel", "num_layers": 3},
        inputs={**SD3_IN, "block_controlnet_hidden_states": [SD3_ROW] * 2},
        control=([SD3_ROW] * 2,),
        sizes=Sizes(batch=2, height=128, width=128, text=333),
        skipped=INFERENCE,
    ),
    "qwen control": Case(
        config={"_class_name": "QwenImageControlNetModel", **QWEN},
        inputs={
            **QWEN_IN,
            "controlnet_cond": (1, 4096, 64),
            "img_shapes": Plainly([[(1, 64, 64)]]),
            "encoder_hidden_states_mask": Plainly(None),
        },
        sizes=Sizes(tokens=4096, text=128),
        skipped=TRAINED,
    ),
    "qwen controlled": Case(
        config={"_class_name": "QwenImageTransformer2DModel", **QWEN},
        inputs={
            **QWEN_IN,
            "img_shapes": Plainly([[(1, 64, 64)]]),
            "controlnet_block_samples": [QWEN_ROW],
        },
        control=([QWEN_ROW],),
        sizes=Sizes(tokens=4096, text=128),
        skipped=INFERENCE,
    ),
    "unet controlled": Case(
        config=SD15,
        inputs={
            **SD_IN,
            "down_block_additional_residuals": SKIPS,
            "mid_block_additional_residual": (2, 1280, 8, 8),
        },
        control=(SKIPS, [(2, 1280, 8, 8)]),
        sizes=SD,
        skipped=INFERENCE,
    ),
    "unet shown a picture": Case(
        config={**SD15, "image_embed_dim": 1024},
        inputs={**SD_IN, "added_cond_kwargs": {"image_embeds": [(2, 1, 1024)]}},
        sizes=SD,
        skipped=INFERENCE,
    ),
}
