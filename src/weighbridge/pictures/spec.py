"""Pipelines as data: which components there are, how they follow each other, what decides sizes.

A row of the catalogue (models/catalogue/pipelines.jsonl) says it. A new pipeline of classes that
are known is one row, and no code.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.models.catalogue.pipelines import (
    CataloguePipeline,
    Config,
    find,
    names,
    of_repository,
)
from weighbridge.models.checkpoint.model import Model
from weighbridge.pictures.config import class_of

Guidance = Literal["none", "batched", "two-pass"]


class PipelineSpec(NamedTuple):
    """One pipeline of the catalogue. `size` is the default (width, height, frames). `space` and
    `time` are pixels and frames per latent; `tile` is (height, width) in pixels that a tiled
    autoencoder takes at once, and `tile_stride` its step; `frames_tile` latent frames that it
    always takes at once; `text` tokens per prompt; `guided`: a prompt usually costs a second
    prediction."""

    name: str
    kind: Literal["image", "video"]
    denoisers: tuple[str, ...]  # components; one runs at a time
    encoders: tuple[str, ...]  # text encoders, in the order in which they run
    size: tuple[int, int, int]
    latents: int  # channels of a latent
    space: int
    text: int
    guidance: Guidance
    image_encoder: str = ""
    image_encoder_dtype: str = ""  # dtype of the image encoder, as vae_dtype
    chain: tuple[str, ...] = ()  # order of model offload; (): encoders, denoisers, autoencoder
    excluded: tuple[str, ...] = ()  # components that are never offloaded
    guided: bool = True
    time: int = 1
    frames_nearest: bool = False  # frames are n // time * time + 1, not those of whole latents
    fps: int = 0
    multiple: int = 0  # sides are multiples of it, in pixels; 0: as the autoencoder's
    rounds: bool = False  # other sides are rounded down, not refused
    area: int = 0  # pixels to which any size is scaled
    tile: tuple[int, int] | None = None
    tile_stride: float = 0.75
    frames_tile: int = 0
    vae: str = "vae"
    vae_dtype: str = ""  # of its published example, if that differs
    upcast: bool = False  # a float16 autoencoder is float32 while it decodes
    latents_uncast: bool = False  # latents are decoded in the denoiser's dtype
    embedding_width: int = 4096  # width of prompt embeddings, kept until decoding
    reference_tokens: bool = False  # pictures are tokens beside the latents; of 1024 x 1024 at most
    pictures: int = 0  # input pictures that it always takes
    encodes: Literal["picture", "video"] = "picture"  # Wan's condition has all frames
    token_times: Literal["", "pictures", "always"] = ""  # when each token has a time of its own
    picture_text: int = 0  # prompt tokens that each input picture adds
    short: Mapping[str, int] = {}  # encoder -> prompt length, if it differs
    refiner: str = ""  # the pipeline whose denoiser continues after this one's
    controls: tuple[str, ...] = ()  # components that are added ControlNets
    shown: bool = False  # an IP-Adapter was added, and is shown a picture
    unweighed: Mapping[str, Sequence[int]] = {}  # components without a config here: their bounds
    beside: Mapping[str, int] = {}  # component -> parameters; loaded but not run
    checker: bool = False  # a CLIP of 304 million parameters, which people may leave out
    versions: Mapping[str, Any] = {}  # changes by release of diffusers: {"0.31": {...}}
    source: str = ""
    repo_id: str = ""
    gguf: str = ""  # repository with the denoiser in GGUF

    @property
    def denoiser(self) -> str:
        return self.denoisers[0]

    @property
    def sides(self) -> int:
        """Return the number of pixels of which sides are multiples."""
        return self.multiple or self.space

    @property
    def order(self) -> tuple[str, ...]:
        """Return the components in the order in which they run."""
        return self.chain or (*self.encoders, *self.denoisers, self.vae)


def row_of(model: Model) -> PipelineSpec:
    """Return the row of a pipeline by its name, else of one whose networks have the same classes: a
    fine-tune of it. Raises UnsupportedError if there is none."""
    named = find(model.reference) or of_repository(model.reference)
    if named is None:
        named = _pipeline_with_classes({p.name: p.config for p in model.parts})
    if named is None and not any(p.library == "diffusers" for p in model.parts):
        raise UnsupportedError(sentence("picture.none", model=model.reference))
    if named is None:
        parts = ", ".join(sorted({p.blueprint.cls for p in model.parts}))
        raise UnsupportedError(sentence("no_pipeline", classes=parts))
    return spec(named)


def _pipeline_with_classes(configs: Mapping[str, Config]) -> CataloguePipeline | None:
    """Return the most similar pipeline with these networks, None if there is none. Raises
    UnsupportedError if some that it needs are missing."""
    known = [one for one in map(find, names()) if one is not None]
    alone = configs.get("")  # of a component's own folder
    likest = max(
        (
            (lacking == (), _shared(one, theirs), one, lacking)
            for one in known
            for theirs in ({one.recipe["denoisers"][0]: alone} if alone else configs,)
            if (lacking := _lacking(one, theirs)) is not None
        ),
        key=lambda case: case[:2],
        default=None,
    )
    if likest is None:
        return None
    _, _, pipeline, lacking = likest
    if lacking:
        there = pipeline.recipe["denoisers"][0] if alone else ", ".join(configs)
        values = {"there": there, "component": ", ".join(lacking), "pipeline": pipeline.name}
        raise UnsupportedError(sentence("picture.part", **values))
    return pipeline


def _lacking(pipeline: CataloguePipeline, configs: Mapping[str, Config]) -> tuple[str, ...] | None:
    """Return the names of missing networks of a pipeline; None if one has another class, or the
    first denoiser is missing."""
    deciding = (*pipeline.recipe["denoisers"], pipeline.recipe.get("vae", "vae"))
    lacking = []
    for name in deciding:
        if name not in configs and name != deciding[0]:
            lacking.append(name)
        elif class_of(configs.get(name, {})) != class_of(pipeline.parts[name]):
            return None
    return tuple(lacking)


def _shared(pipeline: CataloguePipeline, theirs: Mapping[str, Config]) -> int:
    """Return how many config values equal those of the pipeline."""
    return sum(
        theirs[name].get(key) == value
        for name, config in pipeline.parts.items()
        if name in theirs
        for key, value in config.items()
    )


def spec(pipeline: CataloguePipeline) -> PipelineSpec:
    """Return the specification in a pipeline's catalogue row."""
    row: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in pipeline.recipe.items()
    }
    about: dict[str, Any] = {
        "name": pipeline.name,
        "source": pipeline.source,
        "repo_id": pipeline.repo_id,
        "gguf": next(iter(pipeline.gguf), ""),
    }
    return PipelineSpec(**about, **row)
