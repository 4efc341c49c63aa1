"""ComfyUI's way with a card: what is loaded whole, what in part, and what it sets aside."""

from functools import cache

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import ContradictionError, UsageError
from weighbridge.pictures import comfy

MIB, GIB = 1 << 20, 1 << 30
FLUX, SDXL = "flux.1-dev", "sdxl"
LEGACY = "0.3.64"


prepared = cache(weighbridge.prepare)


def asked(name=SDXL, **settings):
    return prepared(name).image(engine="comfyui", remedies=False, **settings)


def in_ram(report):
    return report.derived.get("in_ram", 0)


def weights(report, stage):
    phase = next(p for p in report.devices[0].phases if p.name == stage)
    return {c.detail: c.bytes.expected for c in phase.components if c.name == "weights"}


def free(report):
    """The card, less the most that a context and libraries take."""
    phase = report.devices[0].phases[0]
    context = sum(c.bytes.high for c in phase.components if c.name == "context")
    return report.verdict.usable.low - context


# ---- edges by hand


def test_a_card_with_room_has_each_model_whole_and_one_at_a_time():
    found = asked(gpu="h100")
    assert found.verdict.fits == "yes" and not in_ram(found)
    assert set(weights(found, "encode")) == {"text_encoder", "text_encoder_2"}
    assert weights(found, "denoise") == {"unet": 2 * 2_567_463_684}
    assert weights(found, "decode") == {"vae": 2 * 83_653_863}


@pytest.mark.slow
def test_before_0_16_an_estimate_is_set_aside_and_the_rest_is_loaded():
    """0.8 GiB, 400 MiB twice, and 128 x 128 latents x 2 bytes x 0.031 MiB of FLUX."""
    found = asked(FLUX, gpu="3060", engine_version=LEGACY, quantization="fp8")
    aside = int(0.8 * GIB) + 800 * MIB + int(128 * 128 * 2 * 0.01 * 3.1 * MIB)
    [on_card] = weights(found, "denoise").values()
    assert on_card == pytest.approx(free(found) - aside, abs=2)
    assert found.verdict.fits == "unknown" and found.verdict.spilled == in_ram(found)
    whole = weights(asked(FLUX, gpu="h100", quantization="fp8"), "denoise")["transformer"]
    assert in_ram(found) == pytest.approx(whole - on_card, abs=2)


@pytest.mark.slow
def test_since_0_16_what_a_step_takes_decides():
    new, old = (
        asked(FLUX, gpu="3060", engine_version=version, quantization="fp8")
        for version in ("0.16.3", "0.15.1")
    )
    assert 0 < in_ram(new) < in_ram(old)
    assert in_ram(asked(FLUX, gpu="3060", quantization="fp8")) == in_ram(new)


@pytest.mark.slow
def test_cards_of_amd_gguf_and_no_smart_memory_are_as_before():
    amd = asked(FLUX, gpu="7900xtx"), asked(FLUX, gpu="7900xtx", engine_version=LEGACY)
    assert in_ram(amd[0]) == in_ram(amd[1]) > 0
    how = {"gpu": "gtx1070", "quantization": "Q8_0+text=fp8"}
    assert in_ram(asked(FLUX, **how)) == in_ram(asked(FLUX, engine_version=LEGACY, **how)) > 0
    plain = asked(FLUX, gpu="3060", engine_version=LEGACY)
    assert in_ram(asked(FLUX, gpu="3060", disable_smart_memory=True)) == in_ram(plain)


@pytest.mark.slow
def test_modes_by_hand():
    none = asked(gpu="4090", vram_mode="no")
    assert sum(weights(none, "denoise").values()) == 0
    assert in_ram(none) == 2 * 2_567_463_684
    every = asked(gpu="4090", vram_mode="high")
    assert set(weights(every, "denoise")) == {"text_encoder", "text_encoder_2", "unet", "vae"}
    low = asked(gpu="4090", vram_mode="low", engine_version=LEGACY)
    assert all(stage["stage"] != "encode" for stage in low.derived["picture_stages"])
    assert any("CPU" in warning for warning in low.warnings)


@pytest.mark.slow
def test_what_is_reserved_stays_free():
    plain = asked(FLUX, gpu="3060", reserve_vram=0)
    more = asked(FLUX, gpu="3060", reserve_vram=1)
    assert in_ram(more) - in_ram(plain) == pytest.approx(GIB, abs=8)
    twice = {"gpu": "3060", "engine_version": LEGACY}  # of a step it is set aside twice
    older = asked(FLUX, reserve_vram=1, **twice), asked(FLUX, reserve_vram=0, **twice)
    assert in_ram(older[0]) - in_ram(older[1]) == pytest.approx(2 * GIB, abs=8)


@pytest.mark.slow
def test_windows_reserves_more():
    linux, windows = (
        asked(FLUX, gpu="4090", engine_version=LEGACY, platform=p) for p in (None, "windows")
    )
    assert comfy.RESERVED_ON_WINDOWS - comfy.RESERVED == 200 * MIB
    assert in_ram(windows) - in_ram(linux) >= 2 * 300 * MIB  # a card of 24 GiB, twice


@pytest.mark.slow
def test_two_predictions_are_one_batch_where_there_is_room():
    wan = "wan2.2-t2v-a14b"
    assert asked(gpu="h100").workload["guidance"] == "batched"
    small = asked(wan, gpu="3060", size="720p", engine_version=LEGACY)
    assert small.workload["guidance"] == "two-pass"
    assert asked(gpu="3060", guidance="two-pass").workload["guidance"] == "two-pass"


@pytest.mark.slow
def test_decoding_that_does_not_fit_is_done_in_tiles():
    found = asked(SDXL, gpu="3060", size="3072x3072", quantization="fp8")
    assert any("tiles" in warning for warning in found.warnings)
    assert weights(found, "decode")
    tiled = asked(SDXL, gpu="3060", size="3072x3072", quantization="fp8", vae_tiling=True)
    assert not any("again in tiles" in warning for warning in tiled.warnings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["hunyuan-video-1.5-480p", "hunyuan-video", "ltx-2", "wan2.1-t2v-14b"]
)
def test_the_second_try_of_every_video_has_tiles_of_256_pixels(name):
    """ComfyUI falls back to 256 pixels a side for latents of three dimensions, of whatever class
    (comfy/sd.py, VAE.decode); HunyuanVideo 1.5 runs on 24 GB by its own page."""
    sizes = {"frames": 33, "gpu_memory": "14GiB"}
    whole = asked(name, size="848x480", **sizes)
    one = asked(name, size="256x256", **sizes)
    if any("again in tiles" in warning for warning in whole.warnings):
        assert decoding(whole) <= 1.3 * decoding(one)  # what is decoded, and its sum beside it
    assert asked("hunyuan-video-1.5-480p", gpu="4090").verdict.fits != "no"


def decoding(report):
    phase = next(p for p in report.devices[0].phases if p.name == "decode")
    return sum(c.bytes.expected for c in phase.components if c.name == "activations")


def test_tiles_of_a_node_decide_its_decoding():
    sizes = [
        asked(gpu="h100", vae_tiling=True, vae_tile=tile, size="2048x2048") for tile in (256, 512)
    ]
    decode = [next(p for p in r.devices[0].phases if p.name == "decode") for r in sizes]
    small, large = (
        next(c.bytes.expected for c in p.components if c.name == "activations") for p in decode
    )
    assert large == pytest.approx(4 * small, rel=0.1)


@all_of(
    ("cls", "config", "expected"),
    [
        ("FluxTransformer2DModel", {}, 3.1),
        ("UNet2DConditionModel", {}, 1.0),
        ("UNet2DConditionModel", {"addition_embed_type": "text_time"}, 0.8),
        ("WanTransformer3DModel", {"num_attention_heads": 40, "attention_head_dim": 128}, 2.304),
        ("SomethingElse", {}, 2.0),
    ],
)
def test_factors_of_classes(cls, config, expected):
    assert comfy.factor(cls, config) == pytest.approx(expected, rel=1e-3)


# ---- laws


@pytest.mark.slow
def test_a_smaller_card_never_leaves_less_in_ram():
    waits = [in_ram(asked(FLUX, gpu_memory=f"{n}GiB")) for n in (8, 12, 16, 24, 40)]
    assert waits == sorted(waits, reverse=True) and waits[-1] == 0


def test_comfyuis_flags_are_no_others():
    for settings in ({"vram_mode": "low"}, {"reserve_vram": 1}, {"vae_tile": 256}):
        with pytest.raises(ContradictionError, match="comfyui"):
            prepared(SDXL).image(remedies=False, **settings)


@pytest.mark.parametrize("name", ["offload", "layerwise_casting", "vae_slicing"])
def test_what_is_of_diffusers_alone_is_refused(name):
    value = "model" if name == "offload" else True
    with pytest.raises(ContradictionError, match=f"--{name.replace('_', '-')}"):
        asked(**{name: value})
    with pytest.raises(UsageError):
        asked(vram_mode="middle")


@pytest.mark.slow
def test_the_ladder_lowers_what_is_needed_and_pastes_comfyuis_line():
    found = weighbridge.infer(FLUX, gpu="3060", engine="comfyui")
    first = next(r for r in found.remedies if r.fits == "yes")
    again = asked(FLUX, gpu="3060", **dict(first.change))
    assert again.peak.expected == first.peak_bytes and not in_ram(again)
    assert first.paste.startswith("python main.py\n")
    assert "UnetLoaderGGUF: flux1-dev-Q4_K_S.gguf, of city96/FLUX.1-dev-gguf" in first.paste


@pytest.mark.slow
def test_weights_are_those_that_logs_of_comfyui_print():
    """Comfy-Org/ComfyUI issue 4561, flux1-dev in fp8: loaded completely 4777.5 MiB of encoders,
    11350.05 of FLUX and 159.87 of the autoencoder."""
    found = asked(FLUX, gpu="h100", quantization="fp8+text_encoder_2=fp8")
    loaded = {stage: sum(weights(found, stage).values()) / MIB for stage in ("encode", "denoise")}
    assert loaded["denoise"] == pytest.approx(11350.05, rel=0.001)
    assert loaded["encode"] == pytest.approx(4777.54, rel=0.03)
    assert sum(weights(found, "decode").values()) / MIB == pytest.approx(159.87, rel=0.003)


# ---- its own modules


def denoised(name, **asked):
    report = weighbridge.infer(name, engine="comfyui", gpu="h100", **asked)
    stage = next(p for p in report.devices[0].phases if p.name == "denoise")
    return next(c for c in stage.components if c.name == "activations").bytes


@pytest.mark.slow
def test_a_step_of_wan_by_hand():
    """What the caller holds, the stream, the modulated input and the feed-forward before and after
    its activation; positions in float32."""
    got = denoised("wan2.1-t2v-14b", size="480p", guidance="two-pass").expected
    tokens, width, inside = 21 * 30 * 52, 5120, 13824
    kept = 2 * tokens * (3 * width + 2 * inside) + 4 * tokens * 256
    assert got == pytest.approx(kept, rel=0.02)


@pytest.mark.slow
def test_before_kernels_turned_queries_a_step_took_more():
    new, old = (
        denoised("wan2.1-t2v-14b", size="480p", guidance="two-pass", engine_version=v)
        for v in ("0.16.0", "0.3.64")
    )
    assert new.expected < old.expected
    assert (
        denoised("flux.1-dev").expected < denoised("flux.1-dev", engine_version="0.3.64").expected
    )


@pytest.mark.slow
def test_modules_that_were_followed_are_surer():
    flux, sdxl = (denoised(name) for name in ("flux.1-dev", "sdxl"))
    assert flux.high / flux.expected < sdxl.high / sdxl.expected


# ---- blocks that are swapped


def test_blocks_are_swapped_by_the_wrapper_whose_nodes_take_each_other():
    form = {"quantization": "Q4_K_S", "blocks_to_swap": 20, "vae_tiling": True}
    launch = asked("wan2.2-t2v-a14b", **form).derived["launch"].splitlines()
    assert [line.split(":")[0] for line in launch[1:5]] == [
        "# WanVideoBlockSwap",
        *["# WanVideoModelLoader"] * 2,
        "# WanVideoDecode",
    ]
    assert "HighNoise/Wan2.2-T2V-A14B-HighNoise-Q4_K_S.gguf" in launch[2]
    assert not any("UnetLoader" in line for line in launch)


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("wan2.1-t2v-1.3b", {"blocks_to_swap": 31}, "has 30 blocks"),
        (FLUX, {"blocks_to_swap": 5}, "swaps blocks of flux.1-dev"),
    ],
)
def test_no_more_blocks_are_swapped_than_there_are(name, settings, match):
    with pytest.raises(UsageError, match=match):
        asked(name, **settings)


def test_diffusers_has_no_switch_for_blocks():
    with pytest.raises(ContradictionError, match="--blocks-to-swap is a setting of comfyui"):
        prepared("wan2.1-t2v-1.3b").image(blocks_to_swap=900, remedies=False)
