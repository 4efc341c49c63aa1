"""Classes of images at sizes that people run, few blocks deep: what is given to diffusers, and to our
programs. Videos' are in cases_videos.py."""

import torch

from tests.torch.picture_law import TARGETS, Case, Plainly, Typed
from weighbridge.pictures.values import Sizes

LONG, BOOL = torch.int64, torch.bool
FLUX = {"_class_name": "FluxTransformer2DModel", "num_layers": 3, "num_single_layers": 3}
FLUX_IN = {
    "hidden_states": (1, 4096, 64),
    "encoder_hidden_states": (1, 512, 4096),
    "pooled_projections": (1, 768),
    "timestep": (1,),
    "img_ids": (4096, 3),
    "txt_ids": (512, 3),
}
SD15 = {
    "_class_name": "UNet2DConditionModel",
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
}
SDXL = {
    "_class_name": "UNet2DConditionModel",
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "projection_class_embeddings_input_dim": 2816,
    "transformer_layers_per_block": [1, 2, 3],
    "use_linear_projection": True,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 16,
    "layers_per_block": 2,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
INFERENCE = {"step": "inference alone", "checkpoints": "inference alone"}

CASES = {
    "flux": Case(
        config={**FLUX, "guidance_embeds": True},
        inputs={**FLUX_IN, "guidance": (1,)},
        sizes=Sizes(tokens=4096, text=512),
    ),
    "flux two": Case(
        config=FLUX,
        inputs={
            **FLUX_IN,
            "hidden_states": (2, 1024, 64),
            "encoder_hidden_states": (2, 256, 4096),
            "pooled_projections": (2, 768),
            "timestep": (2,),
            "img_ids": (1024, 3),
            "txt_ids": (256, 3),
        },
        sizes=Sizes(batch=2, tokens=1024, text=256),
    ),
    "longcat": Case(
        config={
            "_class_name": "LongCatImageTransformer2DModel",
            "num_layers": 2,
            "num_single_layers": 2,
        },
        inputs={k: v for k, v in FLUX_IN.items() if k != "pooled_projections"}
        | {"encoder_hidden_states": (1, 512, 3584)},
        sizes=Sizes(tokens=4096, text=512),
    ),
    "chroma": Case(
        config={"_class_name": "ChromaTransformer2DModel", "num_layers": 3, "num_single_layers": 3},
        inputs={k: v for k, v in FLUX_IN.items() if k != "pooled_projections"},
        sizes=Sizes(tokens=4096, text=512),
    ),
    "flux.2": Case(
        config={"_class_name": "Flux2Transformer2DModel", "num_layers": 2, "num_single_layers": 3},
        inputs={
            "hidden_states": (1, 4096, 128),
            "encoder_hidden_states": (1, 512, 15360),
            "timestep": (1,),
            "guidance": (1,),
            "img_ids": (4096, 4),
            "txt_ids": (512, 4),
        },
        sizes=Sizes(tokens=4096, text=512),
    ),
    "qwen-image": Case(
        config={"_class_name": "QwenImageTransformer2DModel", "num_layers": 3},
        inputs={
            "hidden_states": (1, 4096, 64),
            "timestep": (1,),
            "encoder_hidden_states": (1, 128, 3584),
            "img_shapes": Plainly([[(1, 64, 64)]]),
        },
        sizes=Sizes(tokens=4096, text=128),
    ),
    "sd3": Case(
        config={"_class_name": "SD3Transformer2DModel", "num_layers": 3, "pos_embed_max_size": 96},
        inputs={
            "hidden_states": (2, 16, 128, 128),
            "encoder_hidden_states": (2, 333, 4096),
            "pooled_projections": (2, 2048),
            "timestep": (2,),
        },
        sizes=Sizes(batch=2, height=128, width=128, text=333),
    ),
    "sd3.5-large": Case(
        config={
            "_class_name": "SD3Transformer2DModel",
            "num_layers": 3,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "qk_norm": "rms_norm",
            "pos_embed_max_size": 192,
        },
        inputs={
            "hidden_states": (2, 16, 128, 128),
            "encoder_hidden_states": (2, 333, 4096),
            "pooled_projections": (2, 2048),
            "timestep": (2,),
        },
        sizes=Sizes(batch=2, height=128, width=128, text=333),
    ),
    "sd3.5-medium": Case(
        config={
            "_class_name": "SD3Transformer2DModel",
            "num_layers": 3,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "qk_norm": "rms_norm",
            "pos_embed_max_size": 384,
            "dual_attention_layers": [0, 1],
        },
        inputs={
            "hidden_states": (2, 16, 128, 128),
            "encoder_hidden_states": (2, 333, 4096),
            "pooled_projections": (2, 2048),
            "timestep": (2,),
        },
        sizes=Sizes(batch=2, height=128, width=128, text=333),
    ),
    "auraflow": Case(
        config={
            "_class_name": "AuraFlowTransformer2DModel",
            "num_mmdit_layers": 2,
            "num_single_dit_layers": 3,
            "pos_embed_max_size": 4096,
        },
        inputs={
            "hidden_states": (1, 4, 128, 128),
            "encoder_hidden_states": (1, 256, 2048),
            "timestep": (1,),
        },
        sizes=Sizes(height=128, width=128, text=256),
    ),
    "z-image": Case(
        config={"_class_name": "ZImageTransformer2DModel", "n_layers": 3},
        inputs={"x": [(16, 1, 128, 128)], "t": (1,), "cap_feats": [(128, 2560)]},
        sizes=Sizes(height=128, width=128, text=128),
    ),
    "lumina2": Case(
        config={"_class_name": "Lumina2Transformer2DModel", "num_layers": 3, "cap_feat_dim": 2304},
        inputs={
            "hidden_states": (1, 16, 128, 128),
            "timestep": (1,),
            "encoder_hidden_states": (1, 256, 2304),
            "encoder_attention_mask": Typed((1, 256), BOOL),
        },
        sizes=Sizes(height=128, width=128, text=256),
    ),
    "hidream": Case(
        skipped=dict.fromkeys(
            ("step", "checkpoints"),
            "a token's experts are values: the fake card takes all for each",
        ),
        config={
            "_class_name": "HiDreamImageTransformer2DModel",
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 128,
            "num_attention_heads": 20,
            "caption_channels": [4096, 4096],
            "text_emb_dim": 2048,
            "num_routed_experts": 4,
            "num_activated_experts": 2,
            "in_channels": 16,
            "llama_layers": [0, 1, 2, 3],
            "axes_dims_rope": [64, 32, 32],
            "max_resolution": [128, 128],
            "patch_size": 2,
        },
        inputs={
            "hidden_states": (1, 16, 128, 128),
            "timesteps": (1,),
            "encoder_hidden_states_t5": (1, 128, 4096),
            "encoder_hidden_states_llama3": (4, 1, 128, 4096),
            "pooled_embeds": (1, 2048),
        },
        sizes=Sizes(height=128, width=128, text=128),
    ),
    "krea2": Case(
        config={"_class_name": "Krea2Transformer2DModel", "num_layers": 3},
        inputs={
            "hidden_states": (1, 4096, 64),
            "timestep": (1,),
            "encoder_hidden_states": (1, 256, 12, 2560),
            "position_ids": (4352, 3),
        },
        sizes=Sizes(tokens=4096, text=256),
    ),
    "ernie": Case(
        config={"_class_name": "ErnieImageTransformer2DModel", "num_layers": 3},
        inputs={
            "hidden_states": (1, 128, 64, 64),
            "timestep": (1,),
            "text_bth": (1, 256, 2560),
            "text_lens": Typed((1,), LONG),
        },
        sizes=Sizes(height=128, width=128, text=256),
    ),
    "ideogram": Case(
        config={"_class_name": "Ideogram4Transformer2DModel", "num_layers": 3},
        inputs={
            "hidden_states": (1, 4352, 128),
            "timestep": (1,),
            "encoder_hidden_states": (1, 4352, 53248),
            "position_ids": Typed((1, 4352, 3), LONG),
            "segment_ids": Typed((1, 4352), LONG),
            "indicator": Typed((1, 4352), LONG),
        },
        sizes=Sizes(tokens=4096, text=256),
        bounds={"step": 0.03},  # a sum of gradients of a block's input, one tensor of it
    ),
    "cogview4": Case(
        config={"_class_name": "CogView4Transformer2DModel", "num_layers": 3},
        inputs={
            "hidden_states": (1, 16, 128, 128),
            "encoder_hidden_states": (1, 256, 4096),
            "timestep": (1,),
            "original_size": (1, 2),
            "target_size": (1, 2),
            "crop_coords": (1, 2),
        },
        sizes=Sizes(height=128, width=128, text=256),
    ),
    "hunyuan-video": Case(
        config={
            "_class_name": "HunyuanVideoTransformer3DModel",
            "num_layers": 2,
            "num_single_layers": 2,
            "guidance_embeds": True,
        },
        inputs={
            "hidden_states": (1, 16, 5, 60, 104),
            "encoder_hidden_states": (1, 256, 4096),
            "encoder_attention_mask": Typed((1, 256), BOOL),
            "pooled_projections": (1, 768),
            "timestep": Typed((1,), LONG),
            "guidance": (1,),
        },
        sizes=Sizes(frames=5, height=60, width=104, text=256),
    ),
    "omnigen": Case(
        config={
            "_class_name": "OmniGenTransformer2DModel",
            "num_layers": 3,
            "rope_scaling": {"long_factor": [1.0] * 48, "short_factor": [1.0] * 48},
        },
        inputs={
            "hidden_states": (2, 4, 128, 128),
            "timestep": (2,),
            "input_ids": Typed((2, 128), LONG),
            "input_img_latents": Plainly([]),
            "input_image_sizes": Plainly({}),
            "attention_mask": Typed((2, 4225, 4225), torch.float32),
            "position_ids": Typed((2, 4225), LONG),
        },
        sizes=Sizes(batch=2, height=128, width=128, text=128),
    ),
    "kandinsky5": Case(
        config={
            "_class_name": "Kandinsky5Transformer3DModel",
            "num_text_blocks": 2,
            "num_visual_blocks": 3,
        },
        inputs={
            "hidden_states": (1, 5, 64, 64, 4),
            "encoder_hidden_states": (1, 256, 3584),
            "timestep": (1,),
            "pooled_projections": (1, 768),
            "visual_rope_pos": Plainly([torch.arange(5), torch.arange(32), torch.arange(32)]),
            "text_rope_pos": Plainly(torch.arange(256)),
        },
        sizes=Sizes(frames=5, height=64, width=64, text=256),
        targets=("to_query", "to_key", "to_value", "out_layer"),
    ),
    "sd-1.5": Case(
        config=SD15,
        inputs={"sample": (2, 4, 64, 64), "timestep": (2,), "encoder_hidden_states": (2, 77, 768)},
        sizes=Sizes(batch=2, height=64, width=64, text=77),
    ),
    "sdxl": Case(
        bounds={"checkpoints": 0.04},
        config=SDXL,
        inputs={
            "sample": (1, 4, 128, 128),
            "timestep": (1,),
            "encoder_hidden_states": (1, 77, 2048),
            "added_cond_kwargs": {"text_embeds": (1, 1280), "time_ids": (1, 6)},
        },
        sizes=Sizes(height=128, width=128, text=77),
    ),
    "sd1.5 locon": Case(
        config=SD15,
        inputs={"sample": (2, 4, 64, 64), "timestep": (2,), "encoder_hidden_states": (2, 77, 768)},
        sizes=Sizes(batch=2, height=64, width=64, text=77),
        targets=(*TARGETS, "proj_in", "proj_out", "conv", "conv1", "conv2", "conv_shortcut"),
        skipped={"forward": "as without adapters"},
    ),
    "controlnet": Case(
        config={**SD15, "_class_name": "ControlNetModel"},
        inputs={
            "sample": (2, 4, 64, 64),
            "timestep": (2,),
            "encoder_hidden_states": (2, 77, 768),
            "controlnet_cond": (2, 3, 512, 512),
        },
        sizes=Sizes(batch=2, height=64, width=64, text=77),
        skipped={"step": "a ControlNet is trained whole"}
        | {"checkpoints": "a ControlNet is trained whole"},
    ),
    "vae decode": Case(
        config=VAE,
        call="decode",
        inputs={"z": (1, 16, 128, 128)},
        sizes=Sizes(height=128, width=128, side="decode"),
        skipped=INFERENCE,
    ),
    "vae encode": Case(
        config={**VAE, "use_quant_conv": True, "latent_channels": 4},
        call="encode",
        inputs={"x": (2, 3, 512, 512)},
        sizes=Sizes(batch=2, height=64, width=64, side="encode"),
        skipped=INFERENCE,
    ),
    "tiny decode": Case(
        config={"_class_name": "AutoencoderTiny"},
        call="decode",
        inputs={"x": (1, 4, 128, 128)},
        sizes=Sizes(height=128, width=128, side="decode"),
        skipped=INFERENCE,
    ),
    "tiny encode": Case(
        config={"_class_name": "AutoencoderTiny", "latent_channels": 16},
        call="encode",
        inputs={"x": (1, 3, 1024, 1024)},
        sizes=Sizes(height=128, width=128, side="encode"),
        skipped=INFERENCE,
    ),
}
