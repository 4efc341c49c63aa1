"""Classes of videos at moderate sizes, few blocks deep, as in cases_pictures.py."""

import torch

from tests.torch.picture_law import Case, Plainly, Typed
from weighbridge.pictures.values import Sizes

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
CASES = {
    "wan": Case(config=WAN, inputs=WAN_IN, sizes=WAN_SIZES),
    "wan ti2v": Case(
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
    "wan i2v": Case(
        config={**WAN, "in_channels": 36, "added_kv_proj_dim": 5120, "image_dim": 1280},
        inputs={
            **WAN_IN,
            "hidden_states": (1, 36, 5, 60, 104),
            "encoder_hidden_states_image": (1, 257, 1280),
        },
        sizes=WAN_SIZES,
    ),
    "wan vace": Case(
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
}

INFERENCE = {"step": "inference alone", "checkpoints": "inference alone"}
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
    "dim_mult": [1, 2, 4, 4],
    "temperal_downsample": [False, True, True],
}


def vae(config, z, sizes, side="decode", x=None, **more):
    return Case(
        config=config,
        inputs={"z": z} if side == "decode" else {"x": x},
        sizes=Sizes(side=side, **sizes),
        call=side,
        skipped=INFERENCE,
        **more,
    )


Q = {"_class_name": "AutoencoderKLQwenImage"}
CASES |= {
    "vae wan dec": vae(
        {"_class_name": "AutoencoderKLWan"}, (1, 16, 5, 32, 48), dict(frames=5, height=32, width=48)
    ),
    "vae wan dec 1": vae(
        {"_class_name": "AutoencoderKLWan"}, (1, 16, 1, 64, 64), dict(frames=1, height=64, width=64)
    ),
    "vae wan dec 2": vae(
        {"_class_name": "AutoencoderKLWan"}, (1, 16, 2, 32, 32), dict(frames=2, height=32, width=32)
    ),
    "vae wan enc": vae(
        {"_class_name": "AutoencoderKLWan"},
        None,
        dict(frames=5, height=32, width=48),
        "encode",
        (1, 3, 17, 256, 384),
    ),
    "vae wan enc 1": vae(
        {"_class_name": "AutoencoderKLWan"},
        None,
        dict(frames=1, height=32, width=48),
        "encode",
        (1, 3, 1, 256, 384),
    ),
    "vae wan22 dec": vae(WAN22, (1, 48, 5, 16, 24), dict(frames=5, height=16, width=24)),
    "vae wan22 enc": vae(
        WAN22, None, dict(frames=5, height=16, width=24), "encode", (1, 3, 17, 256, 384)
    ),
    "vae qwen dec": vae(Q, (1, 16, 1, 64, 64), dict(frames=1, height=64, width=64)),
    "vae qwen enc": vae(
        Q, None, dict(frames=1, height=64, width=64), "encode", (1, 3, 1, 512, 512)
    ),
}

LTX = {"_class_name": "LTXVideoTransformer3DModel", "num_layers": 3}
BOOL = torch.bool
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
    "num_frames": Plainly(7),
    "height": Plainly(16),
    "width": Plainly(24),
    "audio_num_frames": Plainly(51),
}
CASES |= {
    "ltx": Case(
        config=LTX,
        inputs={
            "hidden_states": (1, 2688, 128),
            "encoder_hidden_states": (1, 128, 4096),
            "timestep": (1,),
            "encoder_attention_mask": (1, 128),
            "num_frames": Plainly(7),
            "height": Plainly(16),
            "width": Plainly(24),
        },
        sizes=Sizes(tokens=2688, text=128),
    ),
    "ltx i2v": Case(
        config=LTX,
        inputs={
            "hidden_states": (1, 2688, 128),
            "encoder_hidden_states": (1, 128, 4096),
            "timestep": (1, 2688),
            "encoder_attention_mask": (1, 128),
            "num_frames": Plainly(7),
            "height": Plainly(16),
            "width": Plainly(24),
        },
        sizes=Sizes(tokens=2688, text=128, token_times=True),
    ),
    "ltx2": Case(config=LTX2, inputs=LTX2_IN, sizes=Sizes(frames=7, height=16, width=24, text=256)),
    "ltx2 split": Case(
        config={**LTX2, "rope_type": "split"},
        inputs=LTX2_IN,
        sizes=Sizes(frames=7, height=16, width=24, text=256),
    ),
    "ltx2 3": Case(
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
        sizes=Sizes(frames=7, height=16, width=24, text=256),
    ),
}

LV = {"_class_name": "AutoencoderKLLTXVideo"}
LV95 = {
    "_class_name": "AutoencoderKLLTXVideo",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
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
    "patch_size": 4,
    "patch_size_t": 1,
    "encoder_causal": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
L2 = {"_class_name": "AutoencoderKLLTX2Video"}
lv = dict(frames=5, height=12, width=16)
ltx95 = vae(LV95, (1, 128, 5, 12, 16), lv)
CASES |= {
    "vae ltx dec": vae(LV, (1, 128, 5, 12, 16), lv),
    "vae ltx enc": vae(LV, None, lv, "encode", (1, 3, 33, 384, 512)),
    "vae ltx95 dec": Case(
        config=LV95,
        inputs={"z": (1, 128, 5, 12, 16), "temb": (1,)},
        sizes=Sizes(side="decode", **lv),
        call="decode",
        skipped=INFERENCE,
    ),
    "vae ltx95 enc": vae(LV95, None, lv, "encode", (1, 3, 33, 384, 512)),
    "vae ltx2v dec": vae(L2, (1, 128, 5, 12, 16), lv),
    "vae ltx2v enc": vae(L2, None, lv, "encode", (1, 3, 33, 384, 512)),
}

CV = {"_class_name": "AutoencoderKLCogVideoX"}
CASES |= {
    "vae cog dec": vae(CV, (1, 16, 5, 24, 32), dict(frames=5, height=24, width=32)),
    "vae cog dec 6": vae(CV, (1, 16, 6, 24, 32), dict(frames=6, height=24, width=32)),
    "vae cog dec 1": vae(CV, (1, 16, 1, 60, 90), dict(frames=1, height=60, width=90)),
    "vae cog enc": vae(
        CV, None, dict(frames=5, height=24, width=32), "encode", (1, 3, 17, 192, 256)
    ),
    "vae cog enc 1": vae(
        CV, None, dict(frames=1, height=60, width=90), "encode", (1, 3, 1, 480, 720)
    ),
}

HV = {"_class_name": "AutoencoderKLHunyuanVideo"}
HV15 = {"_class_name": "AutoencoderKLHunyuanVideo15"}
CASES |= {
    "vae hun dec": vae(HV, (1, 16, 4, 32, 32), dict(frames=4, height=32, width=32)),
    "vae hun dec 1": vae(HV, (1, 16, 1, 32, 32), dict(frames=1, height=32, width=32)),
    "vae hun enc": vae(
        HV, None, dict(frames=4, height=32, width=32), "encode", (1, 3, 13, 256, 256)
    ),
    "vae hun15 dec": vae(HV15, (1, 32, 4, 16, 16), dict(frames=4, height=16, width=16)),
    "vae hun15 enc": vae(
        HV15, None, dict(frames=4, height=16, width=16), "encode", (1, 3, 13, 256, 256)
    ),
}

F32 = torch.float32
CV5 = {
    "_class_name": "CogVideoXTransformer3DModel",
    "num_attention_heads": 48,
    "num_layers": 3,
    "use_rotary_positional_embeddings": True,
}
CV5_IN = {
    "hidden_states": (1, 7, 16, 60, 90),
    "encoder_hidden_states": (1, 226, 4096),
    "timestep": (1,),
}
MO = {"_class_name": "MochiTransformer3DModel", "num_layers": 3}
CO = {"_class_name": "CosmosTransformer3DModel", "num_layers": 3, "concat_padding_mask": False}
CO_IN = {
    "hidden_states": (1, 16, 5, 44, 80),
    "timestep": (1,),
    "encoder_hidden_states": (1, 512, 1024),
    "fps": Plainly(24),
}
CASES |= {
    "cog": Case(
        config=CV5,
        inputs={**CV5_IN, "image_rotary_emb": [Typed((7 * 30 * 45, 64), F32)] * 2},
        sizes=Sizes(frames=7, height=60, width=90, text=226),
    ),
    "cog 2b": Case(
        config={"_class_name": "CogVideoXTransformer3DModel", "num_layers": 3},
        inputs=CV5_IN,
        sizes=Sizes(frames=7, height=60, width=90, text=226),
    ),
    "mochi": Case(
        config=MO,
        inputs={
            "hidden_states": (1, 12, 5, 60, 106),
            "encoder_hidden_states": (1, 256, 4096),
            "timestep": (1,),
            "encoder_attention_mask": (1, 256),
        },
        sizes=Sizes(frames=5, height=60, width=106, text=256),
    ),
    "cosmos": Case(config=CO, inputs=CO_IN, sizes=Sizes(frames=5, height=44, width=80, text=512)),
    "cosmos 2": Case(
        config={**CO, "extra_pos_embed_type": None},
        inputs={**CO_IN, "timestep": (1, 1, 5, 1, 1)},
        sizes=Sizes(frames=5, height=44, width=80, text=512, token_times=True),
    ),
}

SA = {"_class_name": "SanaTransformer2DModel", "num_layers": 3}
SAV = {"_class_name": "SanaVideoTransformer3DModel", "num_layers": 3}
PX = {
    "_class_name": "PixArtTransformer2DModel",
    "num_layers": 3,
    "caption_channels": 4096,
    "use_additional_conditions": False,
}
CASES |= {
    "sana": Case(
        config=SA,
        inputs={
            "hidden_states": (1, 32, 32, 32),
            "encoder_hidden_states": (1, 300, 2304),
            "timestep": (1,),
            "encoder_attention_mask": (1, 300),
        },
        sizes=Sizes(height=32, width=32, text=300),
    ),
    "sana two": Case(
        config={**SA, "qk_norm": "rms_norm_across_heads"},
        inputs={
            "hidden_states": (2, 32, 64, 64),
            "encoder_hidden_states": (2, 300, 2304),
            "timestep": (2,),
            "encoder_attention_mask": (2, 300),
        },
        sizes=Sizes(batch=2, height=64, width=64, text=300),
    ),
    "sana video": Case(
        config=SAV,
        inputs={
            "hidden_states": (1, 16, 7, 60, 104),
            "encoder_hidden_states": (1, 300, 2304),
            "timestep": (1,),
            "encoder_attention_mask": (1, 300),
        },
        sizes=Sizes(frames=7, height=60, width=104, text=300),
    ),
    "pixart": Case(
        config=PX,
        inputs={
            "hidden_states": (1, 4, 128, 128),
            "encoder_hidden_states": (1, 300, 4096),
            "timestep": (1,),
            "encoder_attention_mask": (1, 300),
            "added_cond_kwargs": {"resolution": Plainly(None), "aspect_ratio": Plainly(None)},
        },
        sizes=Sizes(height=128, width=128, text=300),
    ),
    "pixart two": Case(
        config=PX,
        inputs={
            "hidden_states": (2, 4, 128, 128),
            "encoder_hidden_states": (2, 300, 4096),
            "timestep": (2,),
            "encoder_attention_mask": (2, 300),
            "added_cond_kwargs": {"resolution": Plainly(None), "aspect_ratio": Plainly(None)},
        },
        sizes=Sizes(batch=2, height=128, width=128, text=300),
    ),
}

DC = {
    "_class_name": "AutoencoderDC",
    "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "upsample_block_type": "interpolate",
    "downsample_block_type": "Conv",
}
CASES |= {
    "vae dc dec": vae(DC, (1, 32, 32, 32), dict(height=32, width=32)),
    "vae dc dec 2": vae(
        {"_class_name": "AutoencoderDC"}, (2, 32, 16, 24), dict(batch=2, height=16, width=24)
    ),
    "vae dc enc": vae(DC, None, dict(height=32, width=32), "encode", (1, 3, 1024, 1024)),
}

MV = {"_class_name": "AutoencoderKLMochi"}
CASES |= {
    "vae mochi dec": vae(MV, (1, 12, 3, 24, 32), dict(frames=3, height=24, width=32)),
    "vae mochi enc": vae(
        MV, None, dict(frames=3, height=24, width=32), "encode", (1, 3, 13, 192, 256)
    ),
}


def tiles(config, z, **sizes):
    return vae(config, z, {"tiled": True, **sizes})


CASES |= {
    "vae tiles wan": tiles(
        {"_class_name": "AutoencoderKLWan"}, (1, 16, 5, 60, 80), frames=5, height=60, width=80
    ),
    "vae tiles wan22": tiles(WAN22, (1, 48, 5, 30, 40), frames=5, height=30, width=40),
    "vae tiles qwen": tiles(Q, (1, 16, 1, 128, 128), frames=1, height=128, width=128),
    "vae tiles cog": tiles(CV, (1, 16, 5, 60, 90), frames=5, height=60, width=90),
    "vae tiles hun": tiles(HV, (1, 16, 9, 50, 66), frames=9, height=50, width=66),
    "vae frames hun": vae(HV, (1, 16, 9, 24, 32), dict(frames=9, height=24, width=32)),
    "vae tiles hun15": tiles(HV15, (1, 32, 3, 30, 40), frames=3, height=30, width=40),
    "vae tiles ltx": tiles(LV95, (1, 128, 5, 22, 30), frames=5, height=22, width=30),
    "vae tiles ltx2v": tiles(
        {**L2, "spatial_compression_ratio": 32, "temporal_compression_ratio": 8},
        (1, 128, 5, 22, 30),
        frames=5,
        height=22,
        width=30,
    ),
    "vae tiles mochi": tiles(MV, (1, 12, 3, 50, 66), frames=3, height=50, width=66),
    "vae tiles dc": tiles(DC, (1, 32, 32, 40), height=32, width=40),
}
CASES["vae tiles ltx"] = Case(
    config=LV95,
    inputs={"z": (1, 128, 5, 22, 30), "temb": (1,)},
    sizes=Sizes(side="decode", tiled=True, frames=5, height=22, width=30),
    call="decode",
    skipped=INFERENCE,
)

LONG=torch.int64
def words(config, tokens, mask=True, **more):
    ids={"input_ids":Typed((1,tokens),LONG)}
    if mask: ids["attention_mask"]=Typed((1,tokens),LONG)
    return Case(config=config,inputs={**ids,"output_hidden_states":Plainly("t5" not in config["model_type"])},sizes=Sizes(text=tokens),skipped=INFERENCE,**more)
CASES |= {
  "enc t5": words({"architectures":["T5EncoderModel"],"model_type":"t5","d_ff":10240,"d_kv":64,"d_model":4096,"num_heads":64,"num_layers":3,"relative_attention_num_buckets":32,"vocab_size":32128,"feed_forward_proj":"gated-gelu"},512),
  "enc umt5": words({"architectures":["UMT5EncoderModel"],"model_type":"umt5","d_model":4096,"d_kv":64,"d_ff":10240,"num_heads":64,"num_layers":3,"vocab_size":256384,"relative_attention_num_buckets":32},512),
  "enc clip": words({"architectures":["CLIPTextModelWithProjection"],"model_type":"clip_text_model","hidden_size":1280,"intermediate_size":5120,"num_attention_heads":20,"num_hidden_layers":32,"vocab_size":49408,"projection_dim":1280},77,mask=False),
  "enc llama": words({"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":4096,"intermediate_size":14336,"num_attention_heads":32,"num_key_value_heads":8,"num_hidden_layers":4,"vocab_size":128256},256),
  "enc qwen3": words({"architectures":["Qwen3Model"],"model_type":"qwen3","hidden_size":2560,"intermediate_size":9728,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":128,"num_hidden_layers":4,"vocab_size":151936},512),
  "enc gemma2": words({"architectures":["Gemma2Model"],"model_type":"gemma2","hidden_size":2304,"intermediate_size":9216,"num_attention_heads":8,"num_key_value_heads":4,"head_dim":256,"num_hidden_layers":4,"vocab_size":256000},256),
  "enc mistral": words({"architectures":["MistralForCausalLM"],"model_type":"mistral","hidden_size":5120,"intermediate_size":32768,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":128,"num_hidden_layers":4,"vocab_size":131072},512),
}
