"""Programs of videos and of their autoencoders, without torch: published figures, edges by hand,
and laws. What diffusers itself takes is in tests/torch/test_picture_steps.py."""

import pytest

import weighbridge
from weighbridge.base.dtypes import TORCH
from weighbridge.machines.accelerators.names import find
from weighbridge.memory.components.activations import Heap
from weighbridge.models.catalogue import pipelines
from weighbridge.pictures import components
from weighbridge.pictures.config import class_of, config_of
from weighbridge.pictures.nets import tiles, vae_cog
from weighbridge.pictures.spec import spec
from weighbridge.pictures.values import ProgramRun, Sizes
from weighbridge.training.forward.machine import Machine

GIB = 1 << 30


def peak(config, dtype="bfloat16", gpu="", **sizes):
    """Bytes that a program takes at most, beside weights and what it is given."""
    in_place = sizes.pop("in_place", False)
    run = ProgramRun(
        m=Machine(Heap()), cls=class_of(config), dtype=TORCH[dtype], caches_in_place=in_place
    )
    run.m.chip = find(gpu).part.chip if gpu else run.m.chip
    run.m.grad = False
    result = components.forward(run, config, Sizes(**sizes))
    del result
    return run.m.heap.phase().allocated


def parameters(config):
    return sum(p.numel for p in components.blueprint(config).params)


def small(name, **more):
    return {"_class_name": name, **more}


DENOISERS = {
    "wan": small("WanTransformer3DModel", num_layers=2, num_attention_heads=4, ffn_dim=1024),
    "vace": small(
        "WanVACETransformer3DModel",
        num_layers=2,
        num_attention_heads=4,
        vace_layers=[0],
        vace_in_channels=96,
    ),
    "ltx": small("LTXVideoTransformer3DModel", num_layers=2, num_attention_heads=4),
    "ltx2": small("LTX2VideoTransformer3DModel", num_layers=1, num_attention_heads=4),
    "cogvideox": small(
        "CogVideoXTransformer3DModel", num_layers=2, use_rotary_positional_embeddings=True
    ),
    "mochi": small("MochiTransformer3DModel", num_layers=2, num_attention_heads=4),
    "cosmos": small("CosmosTransformer3DModel", num_layers=2, num_attention_heads=4),
    "sana video": small("SanaVideoTransformer3DModel", num_layers=2),
    "svd": small("UNetSpatioTemporalConditionModel"),
    "animatediff": small("UNetMotionModel", cross_attention_dim=768),
}
AUTOENCODERS = {
    "wan": small("AutoencoderKLWan"),
    "qwen": small("AutoencoderKLQwenImage"),
    "cogvideox": small("AutoencoderKLCogVideoX"),
    "hunyuan": small("AutoencoderKLHunyuanVideo"),
    "hunyuan 1.5": small("AutoencoderKLHunyuanVideo15"),
    "ltx": small("AutoencoderKLLTXVideo"),
    "ltx2": small("AutoencoderKLLTX2Video", spatial_compression_ratio=32),
    "mochi": small("AutoencoderKLMochi"),
    "sana": small("AutoencoderDC"),
    "cosmos": small("AutoencoderKLCosmos"),
    "svd": small("AutoencoderKLTemporalDecoder", block_out_channels=[64, 128], layers_per_block=2),
}
UNTILED = ("cosmos", "svd")
SIZES = {"batch": 1, "frames": 5, "height": 8, "width": 16, "text": 32}


# ---- published figures


@pytest.mark.parametrize(
    ("width", "height", "published"),
    [(512, 512, 1.274), (768, 768, 2.563), (1248, 832, 4.331)],
)
def test_qwens_autoencoder_is_as_published(width, height, published):
    """InvokeAI's measurements on a card, the weights among them (invoke-ai/InvokeAI#9305)."""
    config = AUTOENCODERS["qwen"]
    found = peak(config, "float16", height=height // 8, width=width // 8, side="decode")
    assert found + 2 * parameters(config) == pytest.approx(published * GIB, rel=0.02)


@pytest.mark.slow
def test_cogvideox_decodes_as_published():
    """24.511 GiB less the components' 12.535: CogVideoX-2b, diffusers-torchao README, with diffusers
    0.30. Since 0.31 the caches of two chunks live side by side."""
    video = {"frames": 13, "height": 60, "width": 90, "side": "decode"}
    before = peak(AUTOENCODERS["cogvideox"], "float16", in_place=True, **video)
    assert before == pytest.approx((24.511 - 12.535) * GIB, rel=0.01)
    assert peak(AUTOENCODERS["cogvideox"], "float16", **video) > 1.2 * before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side", "dtype", "sizes", "measured"),
    [
        ("sdxl", "decode", "float32", (1, 1, 128, 128), 4.768),
        ("sdxl", "decode", "float32", (2, 1, 128, 128), 8.002),
        ("sdxl", "decode", "float32", (4, 1, 128, 128), 16.010),
        ("sdxl", "decode", "bfloat16", (4, 1, 128, 128), 8.001),
        ("sdxl", "encode", "float32", (4, 1, 128, 128), 12.045),
        ("sd-1.5", "decode", "float16", (4, 1, 64, 64), 2.001),
        ("z-image", "decode", "bfloat16", (2, 1, 128, 128), 4.001),
        ("wan2.1-t2v-1.3b", "decode", "float32", (1, 21, 60, 104), 8.757),
        ("wan2.1-t2v-1.3b", "decode", "float32", (1, 9, 90, 160), 19.690),
        ("wan2.2-ti2v-5b", "decode", "float32", (1, 21, 44, 80), 20.628),
        ("mochi", "decode", "bfloat16", (1, 4, 60, 106), 16.051),
    ],
)
def test_autoencoders_on_an_h100_are_as_measured(name, side, dtype, sizes, measured):
    """GiB over what the stage began with: torch 2.11, cuDNN 9.19, diffusers 0.42.1, November 2026."""
    pipeline = pipelines.find(name)
    config = pipeline.parts[pipeline.recipe.get("vae", "vae")]
    named = dict(zip(("batch", "frames", "height", "width"), sizes, strict=True))
    found = peak(config, dtype, "h100", side=side, **named)
    assert found == pytest.approx(measured * GIB, rel=0.005)


# Counted of the classes, diffusers 0.42 on the meta device; Mochi's is "10 billion" in its card
@pytest.mark.parametrize(
    ("config", "published"),
    [
        (small("MochiTransformer3DModel"), 10_027_677_744),
        (small("AutoencoderKLWan"), 126_892_531),
        (small("AutoencoderKLHunyuanVideo"), 246_478_803),
    ],
)
def test_parameters_are_as_published(config, published):
    assert parameters(config) == published


# ---- edges by hand


def test_chunks_of_latent_frames():
    """What is left over goes to the first, and a picture is a chunk of one."""
    assert vae_cog.chunks(13, 2) == [3, 2, 2, 2, 2, 2]
    assert vae_cog.chunks(12, 2) == [2] * 6
    assert vae_cog.chunks(1, 2) == [1] and vae_cog.chunks(3, 2) == [3]


def test_a_causal_convolution_keeps_two_frames():
    """Wan's first chunk has one frame; later ones find two in the cache of each convolution."""
    wan = AUTOENCODERS["wan"]
    one, two, three = (
        peak(wan, frames=frames, height=8, width=8, side="decode") for frames in (1, 2, 3)
    )
    assert one < two < three


def test_tiles_begin_after_a_stride():
    """Wan's 256 pixels are 32 latents, and 192 are 24: 90 rows of latents are 32, 32, 32 and 18."""
    config = config_of(AUTOENCODERS["wan"])
    assert tiles.tile("AutoencoderKLWan", config, 8) == tiles.DecodedTile(32, 32, 24, 24)
    assert tiles.parts(90, 32, 24) == [32, 32, 32, 18]
    assert tiles.tile("AutoencoderKL", config, 8) is None


def test_cogvideox_overlaps_by_a_sixth_and_a_fifth():
    config = config_of(AUTOENCODERS["cogvideox"])
    assert tiles.tile("AutoencoderKLCogVideoX", config, 8) == tiles.DecodedTile(30, 45, 25, 36)


def test_hunyuans_frames_are_tiled_from_five_latents_on():
    """Four are decoded whole; of nine, five at a time, so there is little more than the output."""
    hunyuan = AUTOENCODERS["hunyuan"]
    four, five, nine = (
        peak(hunyuan, frames=frames, height=16, width=16, side="decode") for frames in (4, 5, 9)
    )
    pixels = 2 * 3 * 128 * 128  # bytes of a frame
    assert four < five
    assert five < nine < five + 3 * 33 * pixels


def test_a_tile_that_is_large_enough_is_the_whole():
    for name, config in AUTOENCODERS.items():
        sizes = {"frames": 1, "height": 12, "width": 8, "side": "decode"}
        assert peak(config, tiled=True, **sizes) == peak(config, **sizes), name


def test_guidance_and_steps_of_tokens():
    """A timestep of each token modulates each token: 2 x 6 rows of float32 for a token more."""
    wan = DENOISERS["wan"]
    tokens, width = 5 * 4 * 8, 4 * 128
    more = peak(wan, token_times=True, **SIZES) - peak(wan, **SIZES)
    assert 6 * tokens * width * 4 <= more <= 3 * 6 * tokens * width * 4


# ---- laws


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("grown", ["batch", "frames", "height", "width", "text"])
def test_more_never_takes_less(name, grown):
    config = DENOISERS[name]
    assert peak(config, **SIZES) <= peak(config, **{**SIZES, grown: 2 * SIZES[grown]})


@pytest.mark.parametrize("side", ["encode", "decode"])
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_more_pixels_never_take_less(name, side):
    config, sizes = AUTOENCODERS[name], {"frames": 2, "height": 4, "width": 4, "side": side}
    peaks = [
        peak(config, **{**sizes, grown: 2 * sizes[grown]})
        for grown in ("frames", "height", "width")
    ]
    assert peak(config, **sizes) <= min(peaks)
    assert peak(config, batch=2, **sizes) >= peak(config, **sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in AUTOENCODERS if name not in UNTILED])
def test_tiles_take_less_and_never_less_than_the_video_three_times(name):
    config = AUTOENCODERS[name]
    factor = 32 if name in ("ltx", "ltx2", "sana") else 16 if name == "hunyuan 1.5" else 8
    side = 1536 // factor
    sizes = {"frames": 1, "height": side, "width": side, "side": "decode"}
    whole, tiled = peak(config, **sizes), peak(config, tiled=True, **sizes)
    assert 3 * 2 * 3 * 1536 * 1536 <= tiled < whole


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_float32_takes_more(name):
    sizes = {"frames": 1, "height": 4, "width": 4, "side": "decode"}
    assert peak(AUTOENCODERS[name], **sizes) < peak(AUTOENCODERS[name], "float32", **sizes)


def test_both_sides_are_the_larger_of_the_two():
    """But for what the allocator rounds up when it gives out a block again."""
    for config in AUTOENCODERS.values():
        sizes = {"frames": 2, "height": 4, "width": 4}
        sides = [peak(config, side=side, **sizes) for side in ("encode", "decode")]
        assert max(sides) <= peak(config, side="both", **sizes) <= 1.03 * max(sides)


# ---- rows


def stage(name, phase, **settings):
    report = weighbridge.infer(name, gpu="h100", offload="model", **settings)
    peaks = [p.at("allocated").expected for p in report.devices[0].phases if p.name == phase]
    return peaks[-1]  # the autoencoder's, where encoders of texts have gone before it


@pytest.mark.slow
def test_wan_encodes_all_frames_of_its_condition_and_ltx_one_picture():
    wan = [stage("wan2.2-i2v-a14b", "encode", frames=frames) for frames in (5, 81)]
    ltx = [stage("ltx-video", "encode", images=1, frames=frames) for frames in (9, 161)]
    assert wan[0] < wan[1]
    assert ltx[1] - ltx[0] < 161 * 704 * 512 * 3 * 2 * 1.01  # the pixels that are held, at most


@pytest.mark.slow
def test_wan_22s_small_model_has_a_timestep_of_each_token():
    """Twice six rows of 3,072 numbers in float32 for each of 390 tokens in 21 frames."""
    assert spec(pipelines.find("wan2.2-ti2v-5b")).token_times == "always"
    assert spec(pipelines.find("ltx-video")).token_times == "pictures"
    plain, given = stage("ltx-video", "denoise"), stage("ltx-video", "denoise", images=1)
    assert given > plain


def test_cosmos_has_no_tiles():
    config = small("AutoencoderKLCosmos")
    sizes = {"frames": 1, "height": 16, "width": 80, "side": "decode"}
    assert tiles.known("AutoencoderKLCosmos")
    assert peak(config, tiled=True, **sizes) == peak(config, **sizes)
