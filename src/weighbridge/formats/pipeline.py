"""Which models make up a pipeline? Asked of diffusers and of sentence-transformers.

    model_index.json, modules.json:
    {"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"], "guidance": true, ...}
    [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}, ...]

Source: diffusers 0.42 pipelines/pipeline_utils.py (fn from_pretrained), sentence-transformers 5
SentenceTransformer.py (fn _load_sbert_model).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import BadFileError
from weighbridge.formats.index import safe_path
from weighbridge.formats.strict_json import short, strict_json, strict_object


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelinePart:
    """One part; `folder` is "" where its files lie beside the pipeline's own."""

    name: str
    library: str
    cls: str
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """`absent` are parts that the class knows and this pipeline does without (a safety checker)."""

    cls: str
    parts: tuple[PipelinePart, ...]
    absent: tuple[str, ...] = ()
    settings: Mapping[str, Any]


def parse_model_index(data: bytes) -> Pipeline:
    found = strict_object(data)
    parts, absent, settings = [], [], {}
    for name, value in found.items():
        if not isinstance(value, list) or name.startswith("_"):
            settings[name] = value
        elif _is_absent(value):
            absent.append(name)
        elif _is_part(value):
            folder = safe_path(name, "model_index.json")
            parts.append(PipelinePart(name=name, library=value[0], cls=value[1], folder=folder))
        else:
            settings[name] = value
    cls = found.get("_class_name")
    if isinstance(cls, list) and len(cls) == 2:  # a pipeline of its own: [module, class]
        cls = cls[1]
    if not isinstance(cls, str):
        raise BadFileError(f"_class_name: {short(cls)} is no class of pipeline")
    return Pipeline(cls=cls, parts=tuple(parts), absent=tuple(absent), settings=settings)


def _is_absent(value: list[Any]) -> bool:
    return len(value) == 2 and value == [None, None]


def _is_part(value: list[Any]) -> bool:
    """[library, class]; a third element is what modular pipelines say of where it comes from."""
    return len(value) in (2, 3) and all(isinstance(word, str) for word in value[:2])


def parse_modules(data: bytes) -> Pipeline:
    found = strict_json(data)
    if not isinstance(found, list):
        raise BadFileError(f"holds {short(found)}; a list of modules was expected")
    return Pipeline(cls="SentenceTransformer", parts=tuple(_modules(found)), settings={})


def _modules(found: list[Any]) -> Iterator[PipelinePart]:
    for i, module in enumerate(found):
        try:
            name, path, kind = module["name"], module["path"], module["type"]
        except (TypeError, KeyError, IndexError):
            raise BadFileError(f"[{i}]: a module needs a name, a path and a type") from None
        if not all(isinstance(word, str) for word in (name, path, kind)):
            raise BadFileError(f"[{i}]: name, path and type of a module must be text")
        library, _, cls = kind.rpartition(".")
        folder = safe_path(path, f"[{i}]: path") if path else ""
        yield PipelinePart(name=name, library=library, cls=cls, folder=folder)
