"""stable-diffusion.cpp: weights as its logs print them, and its compute buffers."""

from functools import cache

import pytest

import weighbridge
from weighbridge.base.errors import ContradictionError
from weighbridge.training.forward.ops.matrix import columns

MIB = 1 << 20
FLUX, SD15 = "flux.1-dev", "sd-1.5"

prepared = cache(weighbridge.prepare)


def asked(name=SD15, **settings):
    engine = {"engine": "stable-diffusion.cpp", **settings}
    return prepared(name).image(remedies=False, **engine)


def phase(report, stage):
    return next(p for p in report.devices[0].phases if p.name == stage)


def buffer(report, stage):
    named = [c.bytes for c in phase(report, stage).components if c.basis == "computed"]
    parts = [c for c in phase(report, stage).components if c.name in ("activations", "workspaces")]
    assert named
    return tuple(sum(getattr(c.bytes, end) for c in parts) for end in ("low", "expected", "high"))


def weights(report, stage):
    return sum(c.bytes.expected for c in phase(report, stage).components if c.name == "weights")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "published"),
    [("Q8_0", 12068.09), ("Q4_0", 6394.53), ("Q4_K", 6395.17), ("Q3_K", 4888.16), ("Q2_K", 3735.73)],
)  # fmt: skip
def test_weights_of_flux_are_as_its_documentation_has_them(form, published):
    found = weights(asked(FLUX, quantization=form, offload="model"), "denoise")
    assert found / MIB == pytest.approx(published, rel=0.002)


@pytest.mark.slow
def test_buffers_that_were_published_are_inside():
    """docs/performance.md: FLUX at 768 x 768, 650 MiB with flash attention, some 600 more without;
    issue 1044: the autoencoder at 512 x 512, 1,664 MiB."""
    size = {"size": "768x768", "prompt_tokens": 256}
    low, _, high = buffer(asked(FLUX, attention="flash", **size), "denoise")
    assert low < 650 * MIB < high
    low, _, high = buffer(asked(FLUX, **size), "denoise")
    assert low < 1250 * MIB < high
    low, expected, high = buffer(asked(), "decode")
    assert low < 1664 * MIB < high and expected == pytest.approx(1664 * MIB, rel=0.15)


def test_a_convolution_stands_beside_its_columns():
    """256 channels to 128 at 512 x 512, 3 x 3: 2304 values of two bytes a pixel."""
    assert columns((1, 128, 512, 512), (128, 256, 3, 3)) == 512 * 512 * 2304 * 2
    assert columns((2, 8, 3, 5, 7), (8, 4, 3, 3, 3)) == 2 * 3 * 5 * 7 * 4 * 27 * 2


def test_scores_of_attention_are_written_in_float32():
    """SD 1.5's first blocks: 8 heads, 4,096 pixels of latents each way."""
    flash, plain = (buffer(asked(attention=how), "denoise")[1] for how in ("flash", "sdpa"))
    scores = 8 * 4096 * 4096 * 4
    assert 0.5 * scores < plain - flash <= scores


def test_offload_leaves_the_network_that_runs():
    unet = 2 * 859_520_964
    assert weights(asked(offload="model"), "denoise") == unet
    assert weights(asked(), "denoise") > unet


def test_a_buffer_has_nothing_cached_beside_it():
    cached = [c for c in phase(asked(), "decode").components if c.name == "fragmentation"]
    assert all(c.bytes.high == 0 for c in cached)


def test_packed_weights_are_multiplied_as_they_are():
    packed, plain = asked(quantization="Q8_0"), asked()
    assert buffer(packed, "denoise") == buffer(plain, "denoise")


@pytest.mark.parametrize(
    "other",
    [
        {"offload": "group-block"},
        {"vae_slicing": True},
        {"vram_mode": "low"},
        {"blocks_to_swap": 3},
    ],
)
def test_settings_of_other_programs_are_refused(other):
    [name] = other
    with pytest.raises(ContradictionError, match=f"--{name.replace('_', '-')}"):
        asked(**other)


@pytest.mark.slow
def test_its_own_line():
    found = weighbridge.infer(
        "sdxl", engine="stable-diffusion.cpp", offload="model", vae_tiling=True, attention="flash"
    )
    line = found.derived["launch"]
    assert line.startswith("sd-cli --diffusion-model sdxl-f16.gguf -W 1024 -H 1024")
    assert {"--diffusion-fa", "--offload-to-cpu", "--vae-tiling"} <= {*line.split()}
    plain = weighbridge.infer("sdxl", engine="stable-diffusion.cpp").derived["launch"]
    assert "--diffusion-fa" not in plain and "--offload-to-cpu" not in plain
