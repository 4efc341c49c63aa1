"""Pipelines of diffusers that people ask for by name: a config for each of their parts."""

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from weighbridge.base.records import NamedTuple

# Everyday name -> name of a pipeline; repositories as huggingface.co has them
NAMES = {
    "sd1.5": "sd-1.5",
    "sd15": "sd-1.5",
    "sd-v1.5": "sd-1.5",
    "sd-v1-5": "sd-1.5",
    "stable-diffusion": "sd-1.5",
    "stable-diffusion-1.5": "sd-1.5",
    "stable-diffusion-v1-5": "sd-1.5",
    "sd2.1": "sd-2.1",
    "sd21": "sd-2.1",
    "stable-diffusion-2.1": "sd-2.1",
    "stable-diffusion-2-1": "sd-2.1",
    "sdxl-1.0": "sdxl",
    "sdxl-base": "sdxl",
    "sd-xl": "sdxl",
    "stable-diffusion-xl": "sdxl",
    "stable-diffusion-xl-base": "sdxl",
    "stable-diffusion-xl-base-1.0": "sdxl",
}


class CataloguePipeline(NamedTuple):
    name: str
    repo_id: str
    parts: Mapping[str, Mapping[str, Any]]  # in the order of its model_index.json
    source: str
    recipe: Mapping[str, Any] = {}  # how they follow each other: a PipelineSpec's fields
    names: tuple[str, ...] = ()  # everyday names besides, in lower case
    repos: tuple[str, ...] = ()  # other repositories of the same components
    files: tuple[str, ...] = ()  # names of the denoiser's files in other programs, without format
    gguf: tuple[str, ...] = ()  # repositories of its denoiser in GGUF


@cache
def _pipelines() -> Mapping[str, CataloguePipeline]:
    with open(os.path.join(os.path.dirname(__file__), "pipelines.jsonl"), encoding="utf-8") as file:
        pipelines = [CataloguePipeline(**json.loads(line)) for line in file]
    return {pipeline.name: pipeline for pipeline in pipelines}


def names() -> list[str]:
    return list(_pipelines())


def find(text: str) -> CataloguePipeline | None:
    """Find the pipeline of that name, in any case and with blanks or underscores."""
    typed = text.strip().lower().replace("_", "-").replace(" ", "-")
    return _pipelines().get(NAMES.get(typed, typed))


def of_repository(repo_id: str) -> CataloguePipeline | None:
    wanted = repo_id.lower()
    return next(
        (pipeline for pipeline in _pipelines().values() if pipeline.repo_id.lower() == wanted), None
    )


INDEX = "model_index.json"  # of a folder that diffusers saved


def makes_pictures(reference: object) -> bool:
    """Tell whether a reference is a pipeline, by its name, its repository or its folder."""
    from weighbridge.models import catalogue

    if not isinstance(reference, str | os.PathLike):
        return False
    text = os.fspath(reference)
    if not isinstance(text, str) or catalogue.has(text):
        return False
    saved = os.path.isfile(os.path.join(os.path.expanduser(text), INDEX))
    return saved or find(text) is not None or of_repository(text) is not None
