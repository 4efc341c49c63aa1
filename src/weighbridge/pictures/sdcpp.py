"""stable-diffusion.cpp: weights as they are stored, and a compute buffer of each network.

    weights   all on the card, or with --offload-to-cpu those of the network that runs (--offload
              model), and encoders of texts on the CPU (--clip-on-cpu: --drop)
    buffer    float32 whatever the weights are; a convolution beside its columns (im2col) in
              float16, attention beside its scores but for --diffusion-fa (--attention flash)

Its networks are written anew: some fuse products, and copy their parts. One buffer that was
published, of FLUX at 768 x 768 with --diffusion-fa, is 650 MiB, 42 % above what diffusers' forward
takes; the autoencoder's at 512 x 512 are 1,664 MiB.
Source: leejet/stable-diffusion.cpp at 97d29908, src/core/ggml_extend.hpp (ggml_ext_conv_2d,
ggml_ext_attention_ext, alloc_compute_buffer), docs/{performance,backend,flux}.md, issue 1044.
"""

from collections.abc import Iterator, Mapping

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.records import replace
from weighbridge.pictures.card import PipelineCard, StagePeak
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.pictures.stages import PictureRequest

NAME = "stable-diffusion.cpp"
SPREAD = 0.45  # assumed
TILE, FLASH, SCORES = 256, "flash", "scores"  # pixels of --vae-tiling: 32 latents


def recipe(spec: PipelineSpec) -> PipelineSpec:
    """Return the pipeline as stable-diffusion.cpp runs it: its own tiles, and a video decoded
    whole."""
    spec = spec._replace(tile=(TILE, TILE), frames_tile=0, excluded=(), latents_uncast=False)
    return spec._replace(upcast=False, vae_dtype="", beside={})


def asked(request: PictureRequest) -> PictureRequest:
    """Return the request with guidance in two passes, and full score matrices without flash
    attention."""
    guidance = "none" if request.guidance == "none" else "two-pass"
    attention = "efficient" if request.attention == FLASH else SCORES
    return replace(request, guidance=guidance, attention=attention)


class GgmlCard(PipelineCard):
    """A card under stable-diffusion.cpp: one compute buffer at a time, in float32."""

    outputs_stay = unpacks = by_libraries = False

    def computes(self, name: str) -> DType:
        return FLOAT32

    def after(self, name: str) -> StagePeak:
        """Return a network's peak after its forward; its buffer is as large."""
        stage = super().after(name)
        return stage._replace(peak=replace(stage.peak, reserved=stage.peak.allocated))


def script(
    row: PipelineSpec,
    settings: Mapping[str, object],
    forms: Mapping[str, str],
    cards: Mapping[str, int],
) -> str:
    """Return the command that runs the pipeline with stable-diffusion.cpp."""
    return " ".join(_words(row, settings, forms, cards))


def _words(
    row: PipelineSpec,
    settings: Mapping[str, object],
    forms: Mapping[str, str],
    cards: Mapping[str, int],
) -> Iterator[str]:
    yield "sd-cli"
    if row.kind == "video":
        yield f"-M vid_gen --video-frames {settings['frames']}"
    form = forms.get(row.denoiser, "f16")
    yield f"--diffusion-model {row.name}-{form}.gguf -W {settings['width']} -H {settings['height']}"
    if settings["attention"] != SCORES:
        yield "--diffusion-fa"
    if cards:
        kinds = {row.vae: "vae", **dict.fromkeys(row.encoders, "te")}
        named = {kinds.get(name, "diffusion"): number for name, number in cards.items()}
        yield "--backend " + ",".join(f"{kind}=cuda{number}" for kind, number in named.items())
    if settings["offload"] == "model":
        yield "--offload-to-cpu"
    if settings.get("vae_tiling"):
        yield "--vae-tiling"
    yield '-p "..."'
