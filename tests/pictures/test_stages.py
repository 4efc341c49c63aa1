"""Pipelines, stage by stage: what is on the card when, and the laws that hold whatever is asked."""

import pytest

import weighbridge
from tests.pictures.rows import with_programs
from weighbridge.base.errors import UsageError
from weighbridge.pictures import stages
from weighbridge.pictures.places import _repeats

GIB = 1 << 30
SD15, FLUX, COG = "sd-1.5", "flux.1-dev", "cogvideox-2b"


def asked(name=SD15, **settings):
    return weighbridge.infer(name, **settings)


def allocated(report, stage):
    phase = next(p for p in report.devices[0].phases if p.name == stage)
    return phase.at("allocated").expected


def peak(report):
    return max(p.at("allocated").expected for p in report.devices[0].phases)


def weights(report, stage):
    phase = next(p for p in report.devices[0].phases if p.name == stage)
    return {c.detail: c.bytes.expected for c in phase.components if c.name == "weights"}


# ---- published figures: diffusers-torchao README, FLUX.1-dev at 1024 x 1024, bfloat16, one picture


@pytest.mark.slow
def test_flux_whole_on_the_card_is_as_published():
    found = peak(asked(FLUX, gpu="h100"))
    assert found == pytest.approx(33.851 * GIB, rel=0.002)


@pytest.mark.slow
def test_flux_decode_without_the_other_components_is_as_published():
    found = asked(FLUX, gpu="h100", offload="model")
    vae = weights(found, "decode")["vae"]
    assert allocated(found, "decode") - vae == pytest.approx(2.41 * GIB, rel=0.02)


@pytest.mark.slow
def test_fused_projections_keep_the_unfused_ones():
    """CogVideoX-5b: 42 x 3 x 3072 ^ 2 x 2 bytes, published as 2.215 GiB."""
    plain, fused = asked("cogvideox-5b"), asked("cogvideox-5b", fuse_qkv=True)
    more = weights(fused, "denoise")["transformer"] - weights(plain, "denoise")["transformer"]
    biases = 42 * 3 * 3072 * 2
    assert more == 42 * 3 * 3072**2 * 2 + biases


# Hugging Face's blog of Stable Diffusion 3 (June 2024): T5's `wo` in float32 under float16, and the
# pass of the negative prompt finds T5 on the card where CLIP-G comes
@pytest.mark.slow
@pytest.mark.parametrize(("offload", "published"), [("none", 18.765), ("model", 12.0645)])
def test_stable_diffusion_3_in_float16_is_as_published(offload, published):
    found = asked("sd3-medium", gpu="a100-80gb", dtype="float16", offload=offload)
    assert peak(found) == pytest.approx(published * GIB, rel=0.002)


# HunyuanVideo in diffusers (December 2024), 768 x 512, 121 frames: a decode whose convolutions ask
# for 6.8 GiB, and 8-bit modules that could not leave the card
@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({"engine_version": "0.42"}, 21.99),
        ({"engine_version": "0.32", "quantization": "transformer=bnb-int8", "tiled": True}, 26.18),
    ],
)
def test_hunyuan_video_is_as_published(settings, published):
    tiled = settings.pop("tiled", False)
    fixed = {"size": "768x512", "frames": 121, "offload": "model", "vae_tiling": tiled}
    found = asked("hunyuan-video", gpu="h100", **fixed, **settings)
    stage = "encode" if tiled else "decode"
    assert allocated(found, stage) == pytest.approx(published * GIB, rel=0.003)


@pytest.mark.parametrize(("version", "stays"), [("0.32", True), ("0.37", False), (None, False)])
def test_8_bit_modules_leave_the_card_since_a_release(version, stays):
    found = asked(offload="model", quantization="unet=bnb-int8", engine_version=version)
    assert ("unet" in weights(found, "decode")) == stays


# diffusers docs/source/en/optimization/speed-memory-optims.md: FLUX.1-dev, its T5 and its transformer
# in NF4, 12.2369 GiB of an RTX 4090. Neither stage takes 7: both are packed on the card at once
BOTH = "transformer=nf4+text_encoder_2=nf4"


@pytest.mark.slow
def test_bitsandbytes_puts_what_it_packs_on_the_card_whatever_is_offloaded():
    found = asked(FLUX, gpu="4090", size="1024x1024", offload="model", quantization=BOTH)
    assert peak(found) == pytest.approx(12.2369 * GIB, rel=0.0005)
    assert allocated(found, "denoise") < 7 * GIB


@pytest.mark.parametrize("form", ["nf4", "bnb-int8"])
@pytest.mark.parametrize("offload", ["model", "group-block"])
def test_loading_takes_all_that_is_packed_and_the_largest_linear_before(form, offload):
    """A feed-forward of the U-Net at its deepest, 1280 x 10240 in 16 bits, is the largest."""
    both = f"unet={form}+text_encoder={form}"
    packed = weights(asked(quantization=both), "decode")
    found = allocated(asked(quantization=both, offload=offload), "load")
    assert found == packed["unet"] + packed["text_encoder"] + 2 * 1280 * 10240


@pytest.mark.parametrize("settings", [{"quantization": "fp8"}, {"quantization": "Q4_K_S"}, {}])
def test_other_formats_are_packed_in_host_memory(settings):
    phases = asked(offload="model", **settings).devices[0].phases
    assert "load" not in {phase.name for phase in phases}


@pytest.mark.slow
def test_layers_that_rest_in_fp8_leave_what_diffusers_skips():
    """H100, torch 2.11, diffusers 0.42.1: 23.378 GiB of the pipeline are left when FLUX's layers
    rest, for the 31.44 before; those of its norms, 3.2 of 11.9 B parameters, do not."""
    found = weights(asked(FLUX, gpu="h100", layerwise_casting=True), "decode")
    assert sum(found.values()) == pytest.approx(23.378 * GIB, rel=0.001)


@pytest.mark.slow
def test_a_stored_table_of_positions_is_on_the_card():
    """384 x 384 x 1536 of SD3.5 medium in bfloat16; the pipeline had 15.195 GiB there (H100)."""
    found = weights(asked("sd3.5-medium", gpu="h100"), "decode")
    assert sum(found.values()) == pytest.approx(15.195 * GIB, rel=0.004)


# ---- edges by hand


@pytest.mark.slow
def test_all_components_are_on_the_card_without_offload():
    found = asked()
    parts = {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863}
    assert weights(found, "decode") == {name: 2 * count for name, count in parts.items()}


def test_model_offload_keeps_one_component_of_the_chain():
    found = asked(offload="model")
    assert [list(weights(found, stage)) for stage in ("encode", "denoise", "decode")] == [
        ["text_encoder"],
        ["unet"],
        ["vae"],
    ]


def test_sequential_offload_keeps_the_largest_leaf():
    found = asked(offload="sequential")
    largest = 2 * 1280 * 2560 * 3 * 3  # up_blocks.*.resnets.0.conv1
    assert weights(found, "denoise") == {"unet": largest}


def test_what_waits_in_host_memory_is_all_that_is_offloaded():
    host = asked(offload="model").devices[1].phases[0]
    waits = sum(c.bytes.expected for c in host.components if c.name == "weights")
    assert waits == 2 * (123_060_480 + 859_520_964 + 83_653_863)


@pytest.mark.slow
def test_a_format_halves_the_linears_alone():
    plain, packed = asked(FLUX), asked(FLUX, quantization="fp8")
    there, then = (weights(found, "denoise") for found in (plain, packed))
    assert there["text_encoder_2"] == then["text_encoder_2"]
    assert 0.5 < then["transformer"] / there["transformer"] < 0.501


@pytest.mark.slow
def test_formats_go_to_the_components_that_are_named():
    found = asked(FLUX, quantization="text=nf4")
    assert (
        weights(found, "denoise")["transformer"] == weights(asked(FLUX), "denoise")["transformer"]
    )
    assert weights(found, "denoise")["text_encoder_2"] < 6 * GIB


@pytest.mark.slow
def test_guidance_in_a_batch_doubles_the_step():
    guided, alone = asked(), asked(guidance="off")
    transient = [
        allocated(found, "denoise") - sum(weights(found, "denoise").values())
        for found in (guided, alone)
    ]
    assert 1.4 < transient[0] / transient[1] < 2.1


@pytest.mark.slow
def test_a_dropped_encoder_is_not_on_the_card():
    assert "text_encoder_2" not in weights(asked(FLUX, drop=["text_encoder_2"]), "denoise")


# ---- laws


@pytest.mark.slow
@pytest.mark.parametrize("name", [SD15, "sdxl", FLUX, COG])
def test_more_pixels_never_take_less(name):
    small, large = ({"size": side} for side in ("256x256", "512x512"))
    assert peak(asked(name, **small)) <= peak(asked(name, **large))


@pytest.mark.slow
def test_more_frames_and_a_larger_batch_never_take_less():
    frames = [peak(asked(COG, size="240x240", frames=n)) for n in (9, 17, 33)]
    batches = [peak(asked(batch_size=n)) for n in (1, 2, 4)]
    assert frames == sorted(frames)
    assert batches == sorted(batches)


SAVING = ({"offload": "model"}, {"offload": "sequential"}, {"offload": "group-block"})
SAVING += ({"vae_tiling": True}, {"vae_slicing": True}, {"layerwise_casting": True})
SAVING += ({"quantization": "nf4"}, {"offload": "group-leaf"})


@pytest.mark.slow
@pytest.mark.parametrize("change", SAVING, ids=str)
@pytest.mark.parametrize("name", [SD15, "sdxl"])
def test_a_saving_mode_never_takes_more_on_the_card(name, change):
    settings = {"size": "1536x1536", "batch_size": 2}
    assert peak(asked(name, **settings, **change)) <= peak(asked(name, **settings))


@pytest.mark.slow
def test_steps_take_nothing():
    assert peak(asked(steps=50)) == peak(asked())


@pytest.mark.slow
def test_a_remedy_keeps_its_promise():
    found = asked(FLUX, gpu="3060")
    assert found.verdict.fits == "no"
    assert found.remedies
    for remedy in found.remedies:
        again = asked(FLUX, gpu="3060", **remedy.change)
        assert again.verdict.fits == remedy.fits
        assert again.peak.expected == remedy.peak_bytes


@pytest.mark.slow
def test_remedies_end_with_one_that_fits_and_one_that_has_room():
    fits = [remedy.fits for remedy in asked(FLUX, gpu="3060").remedies]
    assert fits.index("yes") >= len(fits) - 2


@pytest.mark.slow
def test_a_remedy_leaves_what_was_typed():
    found = asked(FLUX, gpu="3060", offload="none", vae_tiling=True)
    assert not any("offload" in remedy.change for remedy in found.remedies)


# ---- sizes


@pytest.mark.slow
def test_everyday_sizes_are_read():
    found = asked("wan2.1-t2v-1.3b", size="480p", seconds=2, offload="model")
    assert (found.workload["width"], found.workload["height"]) == (832, 480)
    assert found.workload["frames"] % 4 == 1


@pytest.mark.slow
def test_a_side_that_no_latent_has_is_rounded_and_said():
    found = asked(size="1000x1001")
    assert (found.workload["width"], found.workload["height"]) == (1000, 1000)
    assert any("1000 x 1000" in line for line in found.warnings)


def test_frames_of_a_picture_are_refused():
    with pytest.raises(UsageError, match="makes pictures"):
        asked(frames=5)


def test_a_component_that_there_is_not_is_named():
    with pytest.raises(UsageError, match="text_encoder_9"):
        asked(quantization="text_encoder_9=nf4")


@pytest.mark.slow
@pytest.mark.parametrize("name", with_programs())
def test_every_pipeline_answers(name):
    found = asked(name, gpu="h100")
    stages = [phase.name for phase in found.devices[0].phases]
    assert stages[-1] == "decode"
    assert "denoise" in stages
    assert 0 < found.peak.low <= found.peak.expected <= found.peak.high


@pytest.mark.slow
def test_attention_in_math_takes_its_scores():
    """12 x 77 x 77 scores of a prompt, two rows of it."""
    plain, scores = asked(), asked(attention="math")
    assert peak(scores) > peak(plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", [FLUX, "sdxl", "wan2.1-t2v-1.3b", "hunyuan-video-1.5-480p"])
def test_blocks_that_are_passed_over_change_nothing(name, monkeypatch):
    """No answer was another one, of all 73 pipelines at seven settings each."""
    asked_for = {"size": "512x640", "offload": "group-block", "guidance": "off"}
    folded = weighbridge.infer(name, **asked_for).to_dict()
    monkeypatch.setattr(stages, "kinds_of", lambda params: {})
    assert weighbridge.infer(name, **asked_for).to_dict() == folded


def test_a_state_repeats_where_the_last_two_are_those_of_before():
    assert _repeats([1, 2, 2, 2], 1)
    assert _repeats([1, 2, 1, 2], 2)
    assert not _repeats([2, 1, 1], 1)
    assert not _repeats([1, 1], 1)
