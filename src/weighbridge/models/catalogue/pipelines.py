"""Pipelines of diffusers that people ask for by name: a config for each of their components, how
these follow each other, and what their files are called.

A row that is `like` another one has its components and its recipe, but for what it names: a
component that is null is left out, "flux.1-dev/vae" is another pipeline's, and one with a `like` of
its own has that one's config but for the keys that are there.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from weighbridge.base.records import NamedTuple

Config = Mapping[str, Any]
Row = dict[str, Any]


class CataloguePipeline(NamedTuple):
    name: str
    repo_id: str
    parts: Mapping[str, Config]  # by the names of its model_index.json
    source: str
    recipe: Mapping[str, Any] = {}  # how they follow each other: a PipelineSpec's fields
    names: tuple[str, ...] = ()  # everyday names besides, in lower case
    repos: tuple[str, ...] = ()  # other repositories of the same components
    files: Mapping[str, tuple[str, ...]] = {}  # of a denoiser in other programs, without format
    gguf: tuple[str, ...] = ()  # repositories of its denoisers in GGUF
    gguf_files: Mapping[str, str] = {}  # what a denoiser's file is called in the first of them
    gguf_forms: tuple[str, ...] = ()  # formats in which somebody's link names such a file
    whole: tuple[str, ...] = ()  # those of `files` that hold every component
    # Files with their format that are published as a denoiser (Kijai/flux-fp8) and as a checkpoint
    # with every component (Comfy-Org/flux1-dev) under one name
    either: tuple[str, ...] = ()

    def denoiser(self) -> tuple[str, "Config"]:
        """Return (name, config) of the first denoiser."""
        part = self.recipe["denoisers"][0]
        return part, self.parts[part]

    def gguf_file(self, component: str, form: str) -> str:
        """Return the GGUF file of a denoiser in a format; "" if no known link names it."""
        known = form in self.gguf_forms
        return self.gguf_files.get(component, "").format(form=form) if known else ""


@cache
def _pipelines() -> Mapping[str, CataloguePipeline]:
    pipelines: dict[str, CataloguePipeline] = {}
    with open(os.path.join(os.path.dirname(__file__), "pipelines.jsonl"), encoding="utf-8") as file:
        for line in file:
            row = _row(json.loads(line), pipelines)
            pipelines[row["name"]] = CataloguePipeline(**row)
    return pipelines


def _row(row: Row, pipelines: Mapping[str, CataloguePipeline]) -> Row:
    """Return a row merged with the pipelines and parts that it refers to."""
    like = row.pop("like", None)
    parts: dict[str, Config | str | None] = {}
    if like is not None:
        parts |= pipelines[like].parts
        row["recipe"] = {**pipelines[like].recipe, **row.get("recipe", {})}
    parts |= row["parts"]
    row["parts"] = {
        name: _config(part, pipelines) for name, part in parts.items() if part is not None
    }
    for name in ("names", "repos", "gguf", "gguf_forms", "whole", "either"):
        row[name] = tuple(row.get(name, ()))
    row["files"] = {part: tuple(files) for part, files in row.get("files", {}).items()}
    return row


def _config(part: Config | str, pipelines: Mapping[str, CataloguePipeline]) -> Config:
    if isinstance(part, str):
        name, _, component = part.partition("/")
        return pipelines[name].parts[component]
    if "like" not in part:
        return part
    changes = {key: value for key, value in part.items() if key != "like"}
    return {**_config(part["like"], pipelines), **changes}


def names() -> list[str]:
    return list(_pipelines())


def search(pattern: str) -> list[CataloguePipeline]:
    """Return the pipelines whose name, other names or Hub id contain `pattern`, in any case."""
    wanted = pattern.lower()
    return [
        one
        for one in _pipelines().values()
        if any(wanted in spelled.lower() for spelled in (one.name, one.repo_id, *one.names))
    ]


def key(text: str) -> str:
    """Return a key that all spellings of a name share: FLUX.1 [dev], flux1-dev, flux.1_dev."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


@cache
def keys() -> Mapping[str, str]:
    """Return the pipelines' names by the keys of all their names."""
    spelled = {
        key(spelling): name
        for name, pipeline in _pipelines().items()
        for spelling in pipeline.names
    }
    return spelled | {key(name): name for name in _pipelines()}


def find(text: str) -> CataloguePipeline | None:
    """Return the pipeline of a name in any spelling, of its repository without owner, or of a
    denoiser's file; None if unknown."""
    spelled = key(text) if "/" not in text else ""
    name = keys().get(spelled) or _unowned().get(spelled)
    if name is None and text.lower().endswith(ENDS):
        name = getattr(of_file(text), "pipeline", None)
    return None if name is None else _pipelines()[name]


def beginning(text: str) -> list[str]:
    """Return the pipelines whose name begins with `text` as a whole word: qwen, hunyuan."""
    if len(text) < 2 or not re.fullmatch(r"[\w.-]+", text, re.ASCII):
        return []
    word = re.compile(rf"{re.escape(text.lower())}(?![a-z])")
    return [
        name
        for name, pipeline in _pipelines().items()
        if any(map(word.match, (name, *pipeline.names)))
    ]


@cache
def _repositories() -> Mapping[str, str]:
    return {
        repo.lower(): name
        for name, pipeline in _pipelines().items()
        for repo in (pipeline.repo_id, *pipeline.repos)
    }


@cache
def _unowned() -> Mapping[str, str]:
    return {key(repo.rpartition("/")[2]): name for repo, name in _repositories().items()}


def of_repository(repo_id: str) -> CataloguePipeline | None:
    name = _repositories().get(repo_id.lower())
    return None if name is None else _pipelines()[name]


def makes_pictures(reference: object) -> bool:
    """Return whether a reference names a known pipeline or its repository."""
    from weighbridge.models import catalogue

    if not isinstance(reference, str) or catalogue.has(reference):
        return False
    packed = reference.lower().endswith(ENDS) or "gguf" in reference.lower()
    file = of_file(reference) if packed else None
    return (find(reference) or of_repository(reference) or file) is not None


# Files of denoisers

ENDS = (".safetensors", ".gguf", ".sft", ".ckpt", ".pth", ".pt", ".bin")
SHARD = re.compile(r"-\d{5}-of-\d{5}$")
# How a file was packed or by whom: nothing about its shapes or its format
_PACKED = """
comfy comfyui kj diffusers unet transformer dit model gguf scaled bnb pruned emaonly ema only v1
v2 mixed ud hqq
"""
PACKED = frozenset(_PACKED.split())
GGUF = re.compile(r"(?:i?q\d(?:_[0-9a-z]+)*|tq\d_\d)")
FLOATS = {"bf16": "bfloat16", "fp16": "float16", "f16": "float16", "fp32": "float32"}
FP8 = re.compile(r"(?:fp8_?)?(?:e[45]m[23](?:fn)?)?")
FORMATS = ("nf4", "fp4", "int8", "int4", "mxfp8", "nvfp4")
# SVDQuant of nunchaku: svdq-int4_r32-flux.1-dev
SVDQ = re.compile(r"svdq-(int4|fp4)(?:_r\d+)?-")


class DenoiserFile(NamedTuple):
    """A denoiser's file, by its name. `format` is "" if the name states none."""

    pipeline: str
    component: str
    format: str  # as it is asked for: Q4_K_S, fp8, nf4, svdquant; or a dtype, bfloat16
    whole: bool = False  # it also holds the text encoders and the autoencoder
    either: bool = False  # another file of this name is a whole pipeline


@cache
def _files() -> Mapping[str, tuple[str, str]]:
    return {
        key(file): (name, component)
        for name, pipeline in _pipelines().items()
        for component, files in pipeline.files.items()
        for file in files
    }


@cache
def _whole() -> frozenset[str]:
    return frozenset(key(file) for pipeline in _pipelines().values() for file in pipeline.whole)


@cache
def _either() -> frozenset[str]:
    return frozenset(key(file) for pipeline in _pipelines().values() for file in pipeline.either)


def file_name(path: str) -> str:
    return re.split(r"[\\/]", path.strip())[-1]


def of_file(path: str) -> DenoiserFile | None:
    """Return the denoiser and format of a file of another program, by its name:
    flux1-dev-Q4_K_S.gguf, wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors; None if unknown."""
    name = file_name(path.lower())
    for end in ENDS:
        name = name.removesuffix(end)
    name = SHARD.sub("", name)
    packed = SVDQ.match(name)
    words = re.split(r"[-_.: ]+", name[packed.end() :] if packed else name)
    for count in range(len(words), 0, -1):
        stem = "".join(map(key, words[:count]))
        meant = _files().get(stem)
        form = _format(words[count:]) if meant is not None else None
        if meant is not None and form is not None:
            form = "svdquant" if packed else form
            whole = stem in _whole() and _holds_all(form)
            return DenoiserFile(*meant, form, whole, key(name) in _either())
    return None


def _holds_all(form: str) -> bool:
    """Return whether a file in this format may hold the whole pipeline."""
    return form != "svdquant" and GGUF.fullmatch(form.lower()) is None


# A tensor that only one layout of files with every component has, and whose it is. Source:
# diffusers 0.42 loaders/single_file_utils.py (CHECKPOINT_KEY_NAMES, infer_diffusers_model_type)
LAYOUTS: Mapping[str, str] = {
    "edm_mean": "playground-v2.5",
    "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": "sdxl",
    "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias": "sdxl-refiner",
    "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight": "sd-1.5",
    "cond_stage_model.model.token_embedding.weight": "sd-2.1",
}


def of_tensors(tensors: Iterable[str]) -> DenoiserFile | None:
    """Return the pipeline of a checkpoint with every component, by its tensors' names; None if
    unknown."""
    names_there = frozenset(tensors)
    name = next((name for tensor, name in LAYOUTS.items() if tensor in names_there), None)
    return None if name is None else DenoiserFile(name, "unet", "", whole=True)


def _format(words: list[str]) -> str | None:
    """Return the format that the words after a name state; None if they mean something else."""
    form = "_".join(word for word in words if word not in PACKED)
    if GGUF.fullmatch(form):
        return form.upper()
    if form in FLOATS:
        return FLOATS[form]
    if form and FP8.fullmatch(form):
        return "fp8"
    return form if not form or form in FORMATS else None
