"""Gemma 4 without towers: patches and waves go through a projection into the language model.

    image    48 x 48 pixels: LayerNorm, Linear, LayerNorm, a table of positions for each axis,
             LayerNorm, then the same Linear as a sound
    sound    640 samples of the wave through one Linear

Both are optional. Source: transformers 5.23 models/gemma4_unified/
{configuration,modeling}_gemma4_unified.py.
"""

from collections.abc import Iterator

from weighbridge.arch.blueprint import Param, linear, norm
from weighbridge.arch.compose import composite, nested, text_head
from weighbridge.arch.config import Config
from weighbridge.arch.gemma4_vl import TEXT
from weighbridge.arch.model_types import MlxFacts, ModelType, VllmFacts

COLOURS = 3


def embedders(c: Config, at: str) -> Iterator[Param]:
    width = nested(c, TEXT).num("hidden_size")
    if c.has("vision_config"):
        yield from patches(c.sub("vision_config"), f"{at}vision_embedder.")
        given = c.sub("vision_config").num("output_proj_dims")
        yield from linear(f"{at}embed_vision.embedding_projection", width, given)
    if c.has("audio_config"):
        samples = c.sub("audio_config").num("audio_embed_dim")
        yield from linear(f"{at}embed_audio.embedding_projection", width, samples)


def patches(c: Config, at: str) -> Iterator[Param]:
    side = c.num("patch_size") * c.num("pooling_kernel_size")
    inner = c.num("mm_embed_dim")
    yield from norm(f"{at}patch_ln1", COLOURS * side**2, bias=True)
    yield from linear(f"{at}patch_dense", inner, COLOURS * side**2, bias=True)
    yield from norm(f"{at}patch_ln2", inner, bias=True)
    table = (c.num("mm_posemb_size"), 2, inner)
    yield Param(f"{at}pos_embedding", table, "other")
    yield from norm(f"{at}pos_norm", inner, bias=True)


GEMMA4_UNIFIED = composite(
    TEXT,
    own=embedders,
    projectors=("vision_embedder.", "embed_vision.", "embed_audio."),
    cls="Gemma4UnifiedForConditionalGeneration",
    heads={"ForConditionalGeneration": text_head(TEXT)},
)

TYPES = {
    "gemma4_unified": ModelType(
        GEMMA4_UNIFIED,
        language="text_config",
        vllm=VllmFacts(other_kernels=True),
        mlx=MlxFacts(has_class=True, own_caches=True, windows="always"),
    ),
}
