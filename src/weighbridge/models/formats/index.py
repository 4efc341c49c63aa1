"""Small JSON files that say what lies where: indexes of shards, and lists of a pipeline's parts.

    *.safetensors.index.json, pytorch_model.bin.index.json
    {"metadata": {"total_size": 16060522496}, "weight_map": {"lm_head.weight": "model-1.bin", ...}}

    model_index.json of diffusers, modules.json of sentence-transformers
    {"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], "guidance": true, ...}
    [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}, ...]

The metadata is a hint at best: published ones hold 0, a float, or nothing (mergekit).

Source: diffusers 0.42 pipelines/pipeline_utils.py (fn from_pretrained), sentence-transformers 5
SentenceTransformer.py (fn _load_sbert_model).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models.formats import Plan, whole
from weighbridge.models.formats.strict_json import short, strict_json, strict_object

MAX_INDEX = 64_000_000  # 90,000 tensors (DeepSeek-V3) make 9 MB


@frozen_record
class Index:
    """The file of each tensor, in order of first mention; sizes are None if the metadata have no
    usable one."""

    weight_map: Mapping[str, str]
    files: tuple[str, ...]
    total_size: int | None
    total_parameters: int | None
    claimed: object = None  # the total size as stated

    def names(self, file: str) -> tuple[str, ...]:
        """Return the names of the tensors in one file."""
        return tuple(name for name, home in self.weight_map.items() if home == file)


def index() -> Plan[Index]:
    return whole(parse_index, MAX_INDEX)


def parse_index(data: bytes) -> Index:
    content = strict_object(data, MAX_INDEX)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict):
        wrong = short(weight_map)
        raise BadFileError(sentence("object_expected", key="weight_map", value=wrong))
    files = tuple(_files_of(weight_map))
    for file in files:
        safe_path(file, "weight_map")
    metadata = content.get("metadata")
    hints = metadata if isinstance(metadata, dict) else {}
    return Index(
        weight_map=weight_map,
        files=files,
        total_size=_usable_size(hints.get("total_size")),
        total_parameters=_usable_size(hints.get("total_parameters")),
        claimed=hints.get("total_size"),
    )


def _files_of(weight_map: Mapping[str, Any]) -> Iterable[str]:
    """Return the files in order of first mention. Raises BadFileError for a value that is no file
    name."""
    if set(map(type, weight_map.values())) <= {str}:
        return dict.fromkeys(weight_map.values())
    for name, file in weight_map.items():
        if not isinstance(file, str):
            raise BadFileError(sentence("index.no_file", name=short(name), file=short(file)))
    return dict.fromkeys(weight_map.values())


def _usable_size(value: Any) -> int | None:
    """Return a size in the metadata; None for 0, negative or fractional numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 63:
        return None
    return int(value) if value == int(value) else None


def safe_path(path: str, where: str) -> str:
    """Return `path` if it stays inside the model's folder on any system; else raise
    BadFileError."""
    parts = path.split("/")
    inside = path and "\0" not in path and "\\" not in path and not re.match("[A-Za-z]:", path)
    if not inside or any(part in ("", ".", "..") for part in parts):
        raise BadFileError(sentence("index.outside", where=where, path=short(path)))
    return path


# ---- Pipelines


@frozen_record
class PipelinePart:
    """A model of a pipeline; `folder` is "" if its files are next to the pipeline's."""

    name: str
    library: str
    cls: str
    folder: str


@frozen_record
class Pipeline:
    """A pipeline's class and models. `absent`: components of the class that this pipeline lacks,
    such as a safety checker."""

    cls: str
    parts: tuple[PipelinePart, ...]
    absent: tuple[str, ...] = ()
    settings: Mapping[str, Any]


def parse_model_index(data: bytes) -> Pipeline:
    content = strict_object(data)
    parts, absent, settings = [], [], {}
    for name, value in content.items():
        if not isinstance(value, list) or name.startswith("_"):
            settings[name] = value
        elif len(value) == 2 and value == [None, None]:
            absent.append(name)
        elif _is_part(value):
            folder = safe_path(name, "model_index.json")
            parts.append(PipelinePart(name=name, library=value[0], cls=value[1], folder=folder))
        else:
            settings[name] = value
    cls = content.get("_class_name")
    if isinstance(cls, list) and len(cls) == 2:  # a pipeline of its own: [module, class]
        cls = cls[1]
    if not isinstance(cls, str):
        raise BadFileError(sentence("index.no_pipeline", name=short(cls)))
    return Pipeline(cls=cls, parts=tuple(parts), absent=tuple(absent), settings=settings)


def _is_part(value: list[Any]) -> bool:
    """Return whether a value is [library, class]; modular pipelines add the origin as third
    element."""
    return len(value) in (2, 3) and all(isinstance(word, str) for word in value[:2])


def parse_modules(data: bytes) -> Pipeline:
    modules = strict_json(data)
    if not isinstance(modules, list):
        raise BadFileError(sentence("index.no_modules", value=short(modules)))
    return Pipeline(cls="SentenceTransformer", parts=tuple(_modules(modules)), settings={})


def _modules(modules: list[Any]) -> Iterator[PipelinePart]:
    for number, module in enumerate(modules):
        try:
            name, path, kind = module["name"], module["path"], module["type"]
        except (TypeError, KeyError, IndexError):
            raise BadFileError(sentence("index.module_names", number=number)) from None
        if not all(isinstance(word, str) for word in (name, path, kind)):
            raise BadFileError(sentence("index.module_text", number=number))
        library, _, cls = kind.rpartition(".")
        folder = safe_path(path, f"[{number}]: path") if path else ""
        yield PipelinePart(name=name, library=library, cls=cls, folder=folder)
