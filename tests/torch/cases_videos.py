"""Classes of videos, of the other autoencoders and of encoders, as in cases_pictures.py: at moderate
sizes, few blocks deep."""

import torch

from tests.torch.picture_law import Case, Plainly, Typed
from weighbridge.pictures.values import Sizes

LONG, FLOAT = torch.int64, torch.float32
INFERENCE = {"step": "inference alone", "checkpoints": "inference alone"}


def vae(config, frames, height, width, *, tiled=False, batch=1, **inputs):
    """An autoencoder that decodes latents."""
    config = {"_class_name": config} if isinstance(config, str) else config
    name = config["_class_name"]
    channels = config.get("z_dim") or config.get("latent_channels") or CHANNELS.get(name, 16)
    still = name == "AutoencoderDC"
    z = (batch, channels, height, width) if still else (batch, channels, frames, height, width)
    sizes = {"batch": batch, "frames": frames, "height": height, "width": width}
    return Case(
        config=config,
        inputs={"z": z, **inputs},
        sizes=Sizes(side="decode", tiled=tiled, **sizes),
        skipped=INFERENCE,
        call="decode",
    )


def encoded(config, frames, height, width, *pixels):
    """The same class, which encodes a video of so many frames, height and width."""
    config = {"_class_name": config} if isinstance(config, str) else config
    return Case(
        config=config,
        inputs={"x": (1, 3, *pixels)},
        sizes=Sizes(side="encode", frames=frames, height=height, width=width),
        skipped=INFERENCE,
        call="encode",
    )


def words(config, tokens, *, mask=True, bounds=None):
    """An encoder of texts, which reads a prompt."""
    ids = {"input_ids": Typed((1, tokens), LONG)}
    if mask:
        ids["attention_mask"] = Typed((1, tokens), LONG)
    states = Plainly("t5" not in config["model_type"])  # pipelines ask for those of the others
    return Case(
        config=config,
        inputs={**ids, "output_hidden_states": states},
        sizes=Sizes(text=tokens),
        skipped=INFERENCE,
        bounds=bounds or {},
    )


CHANNELS = {
    **dict.fromkeys(("AutoencoderKLLTXVideo", "AutoencoderKLLTX2Video"), 128),
    "AutoencoderKLHunyuanVideo15": 32,
    "AutoencoderKLMochi": 12,
    "AutoencoderDC": 32,
}
WAN = {
    "_class_name": "WanTransformer3DModel",
    "num_layers": 3,
    "cross_attn_norm": True,
    "added_kv_proj_dim": None,
    "image_dim": None,
}
WAN_IN = {
    "hidden_states": (1, 16, 5, 60, 104),
    "encoder_hidden_states": (1, 512, 4096),
    "timestep": (1,),
}
WAN_SIZES = Sizes(frames=5, height=60, width=104, text=512)
LTX = {"_class_name": "LTXVideoTransformer3DModel", "num_layers": 3}
LTX_GRID = {"num_frames": Plainly(7), "height": Plainly(16), "width": Plainly(24)}
LTX_IN = {
    "hidden_states": (1, 2688, 128),
    "encoder_hidden_states": (1, 128, 4096),
    "encoder_attention_mask": (1, 128),
    "timestep": (1,),
    **LTX_GRID,
}
LTX2 = {"_class_name": "LTX2VideoTransformer3DModel", "num_layers": 2}
LTX2_IN = {
    "hidden_states": (1, 2688, 128),
    "audio_hidden_states": (1, 51, 128),
    "encoder_hidden_states": (1, 256, 3840),
    "audio_encoder_hidden_states": (1, 256, 3840),
    "timestep": (1,),
    "sigma": (1,),
    "encoder_attention_mask": (1, 256),
    "audio_encoder_attention_mask": (1, 256),
    "audio_num_frames": Plainly(51),
    **LTX_GRID,
}
LTX2_SIZES = Sizes(frames=7, height=16, width=24, text=256)
COG = {"_class_name": "CogVideoXTransformer3DModel", "num_layers": 3}
COG_IN = {
    "hidden_states": (1, 7, 16, 60, 90),
    "encoder_hidden_states": (1, 226, 4096),
    "timestep": (1,),
}
COG_SIZES = Sizes(frames=7, height=60, width=90, text=226)
COSMOS = {
    "_class_name": "CosmosTransformer3DModel",
    "num_layers": 3,
    "concat_padding_mask": False,  # which torchvision resizes
}
COSMOS_IN = {
    "hidden_states": (1, 16, 5, 44, 80),
    "encoder_hidden_states": (1, 512, 1024),
    "timestep": (1,),
    "fps": Plainly(24),
}
SANA = {"_class_name": "SanaTransformer2DModel", "num_layers": 3}
PIXART = {
    "_class_name": "PixArtTransformer2DModel",
    "num_layers": 3,
    "caption_channels": 4096,
    "use_additional_conditions": False,
}
PIXART_IN = {
    "hidden_states": (1, 4, 128, 128),
    "encoder_hidden_states": (1, 300, 4096),
    "encoder_attention_mask": (1, 300),
    "timestep": (1,),
    "added_cond_kwargs": {"resolution": Plainly(None), "aspect_ratio": Plainly(None)},
}
SVD = {"_class_name": "UNetSpatioTemporalConditionModel"}
MOTION = {
    "_class_name": "UNetMotionModel",
    "cross_attention_dim": 768,
    "use_motion_mid_block": False,
}
DENOISERS = {
    "wan": Case(config=WAN, inputs=WAN_IN, sizes=WAN_SIZES),
    "wan, a timestep a token": Case(
        config={
            **WAN,
            "in_channels": 48,
            "out_channels": 48,
            "num_attention_heads": 24,
            "ffn_dim": 14336,
        },
        inputs={**WAN_IN, "hidden_states": (1, 48, 5, 44, 80), "timestep": (1, 5 * 22 * 40)},
        sizes=Sizes(frames=5, height=44, width=80, text=512, token_times=True),
    ),
    "wan, a picture": Case(
        config={**WAN, "in_channels": 36, "added_kv_proj_dim": 5120, "image_dim": 1280},
        inputs={
            **WAN_IN,
            "hidden_states": (1, 36, 5, 60, 104),
            "encoder_hidden_states_image": (1, 257, 1280),
        },
        sizes=WAN_SIZES,
    ),
    "vace": Case(
        config={
            **WAN,
            "_class_name": "WanVACETransformer3DModel",
            "vace_layers": [0, 2],
            "vace_in_channels": 96,
        },
        inputs={**WAN_IN, "control_hidden_states": (1, 96, 5, 60, 104)},
        sizes=WAN_SIZES,
    ),
    "skyreels": Case(
        config={
            **WAN,
            "_class_name": "SkyReelsV2Transformer3DModel",
            "num_attention_heads": 40,
            "ffn_dim": 13824,
        },
        inputs=WAN_IN,
        sizes=WAN_SIZES,
    ),
    "ltx": Case(config=LTX, inputs=LTX_IN, sizes=Sizes(tokens=2688, text=128)),
    "ltx, a timestep a token": Case(
        config=LTX,
        inputs={**LTX_IN, "timestep": (1, 2688)},
        sizes=Sizes(tokens=2688, text=128, token_times=True),
    ),
    "ltx-2": Case(config=LTX2, inputs=LTX2_IN, sizes=LTX2_SIZES),
    "ltx-2, split": Case(config={**LTX2, "rope_type": "split"}, inputs=LTX2_IN, sizes=LTX2_SIZES),
    "ltx-2.3": Case(
        config={
            **LTX2,
            "rope_type": "split",
            "gated_attn": True,
            "audio_gated_attn": True,
            "cross_attn_mod": True,
            "audio_cross_attn_mod": True,
            "use_prompt_embeddings": False,
            "perturbed_attn": True,
        },
        inputs={
            **LTX2_IN,
            "encoder_hidden_states": (1, 256, 4096),
            "audio_encoder_hidden_states": (1, 256, 2048),
        },
        sizes=LTX2_SIZES,
    ),
    "cogvideox 5b": Case(
        config={**COG, "num_attention_heads": 48, "use_rotary_positional_embeddings": True},
        inputs={**COG_IN, "image_rotary_emb": [Typed((7 * 30 * 45, 64), FLOAT)] * 2},
        sizes=COG_SIZES,
    ),
    "cogvideox 2b": Case(config=COG, inputs=COG_IN, sizes=COG_SIZES),
    "mochi": Case(
        config={"_class_name": "MochiTransformer3DModel", "num_layers": 3},
        inputs={
            "hidden_states": (1, 12, 5, 60, 106),
            "encoder_hidden_states": (1, 256, 4096),
            "encoder_attention_mask": (1, 256),
            "timestep": (1,),
        },
        sizes=Sizes(frames=5, height=60, width=106, text=256),
    ),
    "cosmos": Case(
        config=COSMOS, inputs=COSMOS_IN, sizes=Sizes(frames=5, height=44, width=80, text=512)
    ),
    "cosmos 2": Case(
        config={**COSMOS, "extra_pos_embed_type": None},
        inputs={**COSMOS_IN, "timestep": (1, 1, 5, 1, 1)},
        sizes=Sizes(frames=5, height=44, width=80, text=512, token_times=True),
    ),
    "sana": Case(
        config=SANA,
        inputs={
            "hidden_states": (1, 32, 32, 32),
            "encoder_hidden_states": (1, 300, 2304),
            "encoder_attention_mask": (1, 300),
            "timestep": (1,),
        },
        sizes=Sizes(height=32, width=32, text=300),
    ),
    "sana two": Case(
        config={**SANA, "qk_norm": "rms_norm_across_heads"},
        inputs={
            "hidden_states": (2, 32, 64, 64),
            "encoder_hidden_states": (2, 300, 2304),
            "encoder_attention_mask": (2, 300),
            "timestep": (2,),
        },
        sizes=Sizes(batch=2, height=64, width=64, text=300),
    ),
    "sana video": Case(
        config={"_class_name": "SanaVideoTransformer3DModel", "num_layers": 3},
        inputs={
            "hidden_states": (1, 16, 7, 60, 104),
            "encoder_hidden_states": (1, 300, 2304),
            "encoder_attention_mask": (1, 300),
            "timestep": (1,),
        },
        sizes=Sizes(frames=7, height=60, width=104, text=300),
    ),
    "pixart": Case(config=PIXART, inputs=PIXART_IN, sizes=Sizes(height=128, width=128, text=300)),
    "pixart two": Case(
        config=PIXART,
        inputs={
            **PIXART_IN,
            "hidden_states": (2, 4, 128, 128),
            "encoder_hidden_states": (2, 300, 4096),
            "encoder_attention_mask": (2, 300),
            "timestep": (2,),
        },
        sizes=Sizes(batch=2, height=128, width=128, text=300),
    ),
    "svd": Case(
        config=SVD,
        inputs={
            "sample": (1, 7, 8, 40, 64),
            "encoder_hidden_states": (1, 1, 1024),
            "added_time_ids": (1, 3),
            "timestep": (1,),
        },
        sizes=Sizes(frames=7, height=40, width=64, text=1),
    ),
    "svd two": Case(
        config=SVD,
        inputs={
            "sample": (2, 7, 8, 40, 64),
            "encoder_hidden_states": (2, 1, 1024),
            "added_time_ids": (2, 3),
            "timestep": (2,),
        },
        sizes=Sizes(batch=2, frames=7, height=40, width=64, text=1),
    ),
    "animatediff": Case(
        config=MOTION,
        inputs={
            "sample": (2, 4, 8, 32, 32),
            "encoder_hidden_states": (16, 77, 768),
            "timestep": (2,),
        },
        sizes=Sizes(batch=2, frames=8, height=32, width=32, text=77),
    ),
    "animatediff, a motion module in the middle": Case(
        config={**MOTION, "use_motion_mid_block": True},
        inputs={
            "sample": (1, 4, 8, 32, 32),
            "encoder_hidden_states": (8, 77, 768),
            "timestep": (1,),
        },
        sizes=Sizes(frames=8, height=32, width=32, text=77),
    ),
}
WAN22 = {
    "_class_name": "AutoencoderKLWan",
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}
LTX095 = {
    "_class_name": "AutoencoderKLLTXVideo",
    "block_out_channels": [128, 256, 512, 1024, 2048],
    "down_block_types": ["LTXVideo095DownBlock3D"] * 4,
    "decoder_block_out_channels": [256, 512, 1024],
    "layers_per_block": [4, 6, 6, 2, 2],
    "decoder_layers_per_block": [5, 5, 5, 5],
    "spatio_temporal_scaling": [True] * 4,
    "decoder_spatio_temporal_scaling": [True] * 3,
    "decoder_inject_noise": [False] * 4,
    "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
    "upsample_residual": [True] * 3,
    "upsample_factor": [2] * 3,
    "timestep_conditioning": True,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
LTX2_VAE = {
    "_class_name": "AutoencoderKLLTX2Video",
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
DC = {
    "_class_name": "AutoencoderDC",
    "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "upsample_block_type": "interpolate",
    "downsample_block_type": "Conv",
}
SVD_VAE = {
    "_class_name": "AutoencoderKLTemporalDecoder",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "layers_per_block": 2,
}
AUTOENCODERS = {
    "wan vae": vae("AutoencoderKLWan", 5, 32, 48),
    "wan vae, a picture": vae("AutoencoderKLWan", 1, 64, 64),
    "wan vae, two frames": vae("AutoencoderKLWan", 2, 32, 32),
    "wan vae encodes": encoded("AutoencoderKLWan", 5, 32, 48, 17, 256, 384),
    "wan vae encodes a picture": encoded("AutoencoderKLWan", 1, 32, 48, 1, 256, 384),
    "wan vae in tiles": vae("AutoencoderKLWan", 5, 60, 80, tiled=True),
    "wan 2.2 vae": vae(WAN22, 5, 16, 24),
    "wan 2.2 vae encodes": encoded(WAN22, 5, 16, 24, 17, 256, 384),
    "wan 2.2 vae in tiles": vae(WAN22, 5, 30, 40, tiled=True),
    "qwen vae": vae("AutoencoderKLQwenImage", 1, 64, 64),
    "qwen vae encodes": encoded("AutoencoderKLQwenImage", 1, 64, 64, 1, 512, 512),
    "qwen vae in tiles": vae("AutoencoderKLQwenImage", 1, 128, 128, tiled=True),
    "cogvideox vae": vae("AutoencoderKLCogVideoX", 5, 24, 32),
    "cogvideox vae, even": vae("AutoencoderKLCogVideoX", 6, 24, 32),
    "cogvideox vae, a picture": vae("AutoencoderKLCogVideoX", 1, 60, 90),
    "cogvideox vae encodes": encoded("AutoencoderKLCogVideoX", 5, 24, 32, 17, 192, 256),
    "cogvideox vae encodes a picture": encoded("AutoencoderKLCogVideoX", 1, 60, 90, 1, 480, 720),
    "cogvideox vae in tiles": vae("AutoencoderKLCogVideoX", 5, 60, 90, tiled=True),
    "hunyuan vae": vae("AutoencoderKLHunyuanVideo", 4, 32, 32),
    "hunyuan vae, a picture": vae("AutoencoderKLHunyuanVideo", 1, 32, 32),
    "hunyuan vae, nine frames": vae("AutoencoderKLHunyuanVideo", 9, 24, 32),
    "hunyuan vae encodes": encoded("AutoencoderKLHunyuanVideo", 4, 32, 32, 13, 256, 256),
    "hunyuan vae in tiles": vae("AutoencoderKLHunyuanVideo", 9, 50, 66, tiled=True),
    "hunyuan 1.5 vae": vae("AutoencoderKLHunyuanVideo15", 4, 16, 16),
    "hunyuan 1.5 vae encodes": encoded("AutoencoderKLHunyuanVideo15", 4, 16, 16, 13, 256, 256),
    "hunyuan 1.5 vae in tiles": vae("AutoencoderKLHunyuanVideo15", 3, 30, 40, tiled=True),
    "ltx vae": vae("AutoencoderKLLTXVideo", 5, 12, 16),
    "ltx vae encodes": encoded("AutoencoderKLLTXVideo", 5, 12, 16, 33, 384, 512),
    "ltx 0.9.5 vae": vae(LTX095, 5, 12, 16, temb=(1,)),
    "ltx 0.9.5 vae encodes": encoded(LTX095, 5, 12, 16, 33, 384, 512),
    "ltx 0.9.5 vae in tiles": vae(LTX095, 5, 22, 30, tiled=True, temb=(1,)),
    "ltx-2 vae": vae(LTX2_VAE, 5, 12, 16),
    "ltx-2 vae encodes": encoded(LTX2_VAE, 5, 12, 16, 33, 384, 512),
    "ltx-2 vae in tiles": vae(LTX2_VAE, 5, 22, 30, tiled=True),
    "mochi vae": vae("AutoencoderKLMochi", 3, 24, 32),
    "mochi vae encodes": encoded("AutoencoderKLMochi", 3, 24, 32, 13, 192, 256),
    "mochi vae in tiles": vae("AutoencoderKLMochi", 3, 50, 66, tiled=True),
    "cosmos vae": vae("AutoencoderKLCosmos", 3, 32, 40),
    "cosmos vae, where attention is most": vae("AutoencoderKLCosmos", 3, 64, 80),
    "cosmos vae encodes": encoded("AutoencoderKLCosmos", 3, 32, 40, 17, 256, 320),
    "dc": vae(DC, 1, 32, 32),
    "dc two, shuffled": vae("AutoencoderDC", 1, 16, 24, batch=2),
    "dc encodes": encoded(DC, 1, 32, 32, 1024, 1024),
    "dc in tiles": vae(DC, 1, 32, 40, tiled=True),
    "svd vae": Case(
        config=SVD_VAE,
        inputs={"z": (7, 4, 24, 40), "num_frames": Plainly(7)},
        sizes=Sizes(side="decode", frames=7, height=24, width=40),
        skipped=INFERENCE,
        call="decode",
    ),
    "svd vae encodes": encoded(SVD_VAE, 1, 64, 96, 512, 768),
}
T5 = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "num_heads": 64,
    "num_layers": 3,
    "relative_attention_num_buckets": 32,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}
CLIP = {
    "architectures": ["CLIPTextModelWithProjection"],
    "model_type": "clip_text_model",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "vocab_size": 49408,
    "projection_dim": 1280,
}
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 4,
    "vocab_size": 128256,
}
ENCODERS = {
    "t5": words(T5, 512),
    "umt5": words({**T5, "architectures": ["UMT5EncoderModel"], "model_type": "umt5"}, 512),
    # A sum of positions that are there already is 1 % of so small a step
    "clip": words(CLIP, 77, mask=False, bounds={"forward": 0.015}),
    "llama": words(LLAMA, 256),
    "qwen3": words(
        {
            **LLAMA,
            "architectures": ["Qwen3Model"],
            "model_type": "qwen3",
            "hidden_size": 2560,
            "intermediate_size": 9728,
            "head_dim": 128,
            "vocab_size": 151936,
        },
        512,
    ),
    # Its scores are capped, so attention is written out: weights of 1 MiB are returned
    "gemma 2": words(
        {
            **LLAMA,
            "architectures": ["Gemma2Model"],
            "model_type": "gemma2",
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "vocab_size": 256000,
        },
        256,
        bounds={"forward": 0.12},
    ),
    "mistral": words(
        {
            **LLAMA,
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "hidden_size": 5120,
            "intermediate_size": 32768,
            "head_dim": 128,
            "vocab_size": 131072,
        },
        512,
    ),
}
CASES: dict[str, Case] = {**DENOISERS, **AUTOENCODERS, **ENCODERS}
