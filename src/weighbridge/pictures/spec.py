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
    image_encoder_dtype: str = ""  # as vae_dtype
    chain: tuple[str, ...] = ()  # of model offload; encoders, denoisers and autoencoder where ()
    excluded: tuple[str, ...] = ()  # from offload: always on the card
    guided: bool = True
    time: int = 1
    frames_nearest: bool = False  # frames are n // time * time + 1, and not those of whole latents
    fps: int = 0
    multiple: int = 0  # of pixels that sides must be; the autoencoder's where 0
    rounds: bool = False  # other sides are rounded down, in place of refused
    area: int = 0  # pixels that any size is scaled to, or that the sides of a list of its have
    tile: tuple[int, int] | None = None
    tile_stride: float = 0.75
    frames_tile: int = 0
    vae: str = "vae"
    vae_dtype: str = ""  # of its published example, where that has one of its own
    upcast: bool = False  # a float16 autoencoder is float32 while it decodes
    latents_uncast: bool = False  # they are decoded in the denoiser's dtype, whatever it has
    embedding_width: int = 4096  # of a prompt's tokens, as they are kept to the end
    reference_tokens: bool = False  # pictures are tokens beside the latents; of 1024 x 1024 at most
    pictures: int = 0  # that it is always given
    encodes: Literal["picture", "video"] = "picture"  # Wan's condition has all frames
    token_times: Literal["", "pictures", "always"] = ""  # when each token has a time of its own
    picture_text: int = 0  # tokens that each picture adds to the prompt
    short: Mapping[str, int] = {}  # encoders with a length of their own
    refiner: str = ""  # the pipeline whose denoiser goes on where this one's ends
    controls: tuple[str, ...] = ()  # ControlNets that were added: components
    shown: bool = False  # a picture, by an IP-Adapter that was added
    unweighed: Mapping[str, Sequence[int]] = {}  # components without a config here: their bounds
    beside: Mapping[str, int] = {}  # numbers of components that are weighed, and not run
    checker: bool = False  # a CLIP of 304 million parameters, where people leave it out
    versions: Mapping[str, Any] = {}  # a rule of a release: {"0.31": {...}}
    source: str = ""
    repo_id: str = ""
    gguf: str = ""  # a repository that has the denoiser in GGUF

    @property
    def denoiser(self) -> str:
        return self.denoisers[0]

    @property
    def sides(self) -> int:
        """Pixels of which sides are multiples."""
        return self.multiple or self.space

    @property
    def order(self) -> tuple[str, ...]:
        """The chain in which components run."""
        return self.chain or (*self.encoders, *self.denoisers, self.vae)


def row_of(model: Model) -> PipelineSpec:
    """Return the row of a named pipeline, else of one whose networks have the same classes: a tune
    of it. Raises UnsupportedError."""
    named = find(model.reference) or of_repository(model.reference)
    if named is None:
        named = _of_classes({p.name: p.config for p in model.parts})
    if named is None and not any(p.library == "diffusers" for p in model.parts):
        raise UnsupportedError(sentence("picture.none", model=model.reference))
    if named is None:
        parts = ", ".join(sorted({p.blueprint.cls for p in model.parts}))
        raise UnsupportedError(sentence("no_pipeline", classes=parts))
    return spec(named)


def _of_classes(configs: Mapping[str, Config]) -> CataloguePipeline | None:
    """Return the pipeline with these networks. Raises UnsupportedError if some that it needs are
    missing."""
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
    """Return the missing networks of a pipeline; None if an existing one has another class, or the
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
    """Return the number of equal values in both configs."""
    return sum(
        theirs[name].get(key) == value
        for name, config in pipeline.parts.items()
        if name in theirs
        for key, value in config.items()
    )


def spec(pipeline: CataloguePipeline) -> PipelineSpec:
    """Return the specification in a pipeline's row."""
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
