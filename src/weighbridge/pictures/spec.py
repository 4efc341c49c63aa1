"""Pipelines as data: which components there are, how they follow each other, and what decides sizes.

A row of the catalogue (models/catalogue/pipelines.jsonl) says it. A new pipeline of classes that are
known is one row, and no code.
"""

from collections.abc import Mapping
from typing import Any, Literal

from weighbridge.base.records import NamedTuple
from weighbridge.models.catalogue.pipelines import CataloguePipeline

Guidance = Literal["none", "batched", "two-pass"]


class PipelineSpec(NamedTuple):
    """`size` is (width, height, frames) where nothing is said. `space` and `time` are pixels and
    frames of a latent; `tile` pixels (height, width) that a tiled autoencoder takes at once, and
    `tile_stride` what it moves on by; `frames_tile` latent frames that it takes whatever is asked;
    `text` tokens of a prompt; `guided` whether a prompt costs a second prediction as a rule."""

    name: str
    kind: Literal["image", "video"]
    denoisers: tuple[str, ...]  # components; one runs at a time
    encoders: tuple[str, ...]  # of texts, in the order that they run
    size: tuple[int, int, int]
    latents: int  # channels
    space: int
    text: int
    guidance: Guidance
    image_encoder: str = ""
    chain: tuple[str, ...] = ()  # of model offload; encoders, denoisers and autoencoder where ()
    excluded: tuple[str, ...] = ()  # from offload: always on the card
    guided: bool = True
    time: int = 1
    fps: int = 0
    multiple: int = 0  # pixels that sides are rounded down to; the autoencoder's where 0
    tile: tuple[int, int] | None = None
    tile_stride: float = 0.75
    frames_tile: int = 0
    vae: str = "vae"
    vae_dtype: str = ""
    embedding_width: int = 4096  # of a prompt's tokens, as they are kept to the end
    reference_tokens: bool = False  # pictures that are given are tokens beside the latents
    short: Mapping[str, int] = {}  # encoders with a length of their own
    versions: Mapping[str, Any] = {}  # a rule of a release: {"0.31": {...}}
    source: str = ""

    @property
    def denoiser(self) -> str:
        return self.denoisers[0]

    @property
    def order(self) -> tuple[str, ...]:
        """The chain in which components run."""
        return self.chain or (*self.encoders, *self.denoisers, self.vae)


def spec(pipeline: CataloguePipeline) -> PipelineSpec:
    """Read the row of a pipeline."""
    row = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in pipeline.recipe.items()
    }
    return PipelineSpec(name=pipeline.name, source=pipeline.source, **row)
