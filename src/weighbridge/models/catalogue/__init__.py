"""The built-in catalogue: models that people ask for, as config values with their source.

A catalogue entry is a config like any other: the same code answers it. Names are ours, short and
lower-case; the Hub id beside each says whose config it is.
"""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from weighbridge.base.parsed import Parsed
from weighbridge.base.records import NamedTuple

if TYPE_CHECKING:
    from weighbridge.models.catalogue.pipelines import CataloguePipeline

SCHEMA = "weighbridge.models/1"
TIMM = "timm_wrapper"  # transformers' class for timm's networks
YOLO = "ultralytics"  # detectors that its library names, and no config
TORCHVISION = "torchvision"
# Libraries other than transformers, by the model type of their entries.
LIBRARIES = {TIMM: "timm", YOLO: YOLO, TORCHVISION: TORCHVISION}


class CatalogueEntry(NamedTuple):
    name: str
    repo_id: str
    config: Mapping[str, Any]
    source: str  # where the config values were read

    @property
    def model_type(self) -> str:
        return str(self.config["model_type"])

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "repo_id": self.repo_id,
            "model_type": self.model_type,
            "source": self.source,
            "config": dict(self.config),
        }


@cache
def _entries() -> Parsed[str, str, CatalogueEntry]:
    """Return the entries by name, each line's first value; an entry is parsed when used."""
    with open(os.path.join(os.path.dirname(__file__), "models.jsonl"), encoding="utf-8") as file:
        return Parsed({line.split('"', 4)[3]: line for line in file}, _entry)


def _entry(line: str) -> CatalogueEntry:
    return CatalogueEntry(**json.loads(line))


def names() -> list[str]:
    return list(_entries())


def has(name: str) -> bool:
    return name.lower() in _entries()


def find(name: str) -> CatalogueEntry:
    """Return the entry called `name`, in any case. Raises KeyError."""
    return _entries()[name.lower()]


def search(pattern: str) -> list[CatalogueEntry]:
    """Return the entries whose name, Hub id or model type contains `pattern`, in any case."""
    wanted = pattern.lower()
    return [
        e
        for e in _entries().values()
        if wanted in e.name or wanted in e.repo_id.lower() or wanted in e.model_type
    ]


@cache
def parameters() -> dict[str, int]:
    """Return the parameters of every name, pipelines included, and as NAME/PART those of each
    pipeline's first denoiser; written by tools/docs.py."""
    with open(os.path.join(os.path.dirname(__file__), "parameters.json"), encoding="utf-8") as file:
        counts: dict[str, int] = json.load(file)
        return counts


def to_dict(
    entries: Iterable[CatalogueEntry], makers: "Iterable[CataloguePipeline]" = ()
) -> dict[str, Any]:
    """Return the JSON output of `weighbridge models`: docs/models.md."""
    from weighbridge.models.catalogue import popularity

    listed = [
        {**e.to_dict(), "downloads": known.downloads, "released": known.released}
        for e in entries
        for known in (popularity.of(e.name),)
    ]
    pictured = [
        {"name": one.name, "repo_id": one.repo_id, "names": list(one.names), "source": one.source}
        for one in makers
    ]
    return {"schema": SCHEMA, "models": listed, **({"pipelines": pictured} if pictured else {})}


def of_repository(repo_id: str) -> CatalogueEntry | None:
    """Return the entry whose config is from the Hub repository `repo_id`, in any case; None without
    one."""
    wanted = repo_id.lower()
    return next((e for e in _entries().values() if e.repo_id.lower() == wanted), None)
